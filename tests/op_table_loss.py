"""Lines of the op table: loss."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from op_line import between, drawing, line, nonzero, normal, positive, probability, spaced, whole
from op_table_activation import logistic, np_softmax

from nnbackend import functional as F

MEANS: dict[str, Callable[[Any], Any]] = {"mean": np.mean, "sum": np.sum, "none": np.positive}


def loss(name: str, ref: Callable[..., Any], *inputs: Any, reductions: Any = MEANS, **settings: Any) -> None:
    """A loss in each of its reductions; `ref` gives it element by element."""
    for r in reductions:
        line(name, *inputs, ref=lambda *a, reduction, **kw: MEANS[reduction](ref(*a, **kw)), reduction=r, **settings)


def weighed(name: str, ref: Callable[..., Any], *inputs: Any, last: str = "sample_weight", **settings: Any) -> None:
    """A loss in each of its reductions, whose last input is a weight of the samples."""

    def op(*args: Any, **kw: Any) -> Any:
        return getattr(F, name)(*args[:-1], **{last: args[-1]}, **kw)

    def reference(*args: Any, reduction: str, **kw: Any) -> Any:
        each, w = ref(*args[:-1], **kw), args[-1]
        w = np.broadcast_to(w.reshape(w.shape + (1,) * (each.ndim - w.ndim)), each.shape)
        return np.sum(w * each) / np.sum(w) if reduction == "mean" else MEANS[reduction](w * each)

    for r in MEANS:
        line(name, *inputs, op=op, ref=reference, reduction=r, **settings)


# -- of numbers -----------------------------------------------------------------------------------------------------


def np_huber(x: Any, t: Any, delta: float = 1.0) -> Any:
    e = np.abs(x - t)
    return np.where(e < delta, e * e / 2, delta * (e - delta / 2))


def np_quantile(x: Any, t: Any, quantiles: Any = 0.5) -> Any:
    e = (t if np.ndim(quantiles) == 0 else t[..., None]) - x
    return np.where(e > 0, e * quantiles, e * (np.asarray(quantiles) - 1))


loss("mse_loss", lambda x, t: (x - t) ** 2, normal(2, 3), normal(2, 3))
loss("mse_loss", lambda x, t, allow_broadcast: (x - t) ** 2, normal(3, 1), normal(2, 3, 5), allow_broadcast=True)
loss("mse_loss", lambda x, t: (x - t) ** 2, normal(), normal(), reductions=["mean"])
loss("mse_loss", lambda x, t: (x - t) ** 2, normal(0, 3), normal(0, 3), reductions=["sum", "none"])
weighed("mse_loss", lambda x, t: (x - t) ** 2, normal(2, 3), normal(2, 3), positive(2))
weighed("mse_loss", lambda x, t: (x - t) ** 2, normal(2, 3, 5), normal(2, 3, 5), positive(1, 3))
weighed("mse_loss", lambda x, t: (x - t) ** 2, normal(2, 3), normal(2, 3), positive(2, 3), last="weight")
loss("l1_loss", lambda x, t: np.abs(x - t), spaced(2, 3), between(2, 3))
loss("l1_loss", lambda x, t, allow_broadcast: np.abs(x - t), spaced(2, 3), between(3), allow_broadcast=True)
weighed("l1_loss", lambda x, t: np.abs(x - t), spaced(2, 3), between(2, 3), positive(2, 3), last="weight")
loss("huber_loss", np_huber, spaced(2, 3), between(2, 3))
loss("huber_loss", np_huber, spaced(2, 3), between(2, 3), delta=0.5)
loss("huber_loss", lambda x, t, allow_broadcast: np_huber(x, t), spaced(2, 3), between(2, 1), allow_broadcast=True)
weighed("huber_loss", np_huber, spaced(2, 3), between(2, 3), positive(2))
line("huber_loss", spaced(2, 3), between(2, 3), positive(2, 3), op=lambda x, t, w: F.huber_loss(x, t, weight=w),
     ref=lambda x, t, w: np.mean(w * np_huber(x, t)))  # fmt: skip
loss("smooth_l1_loss", lambda x, t, beta: np_huber(x, t, beta) / beta, spaced(2, 3), between(2, 3), beta=0.5)
loss("smooth_l1_loss", lambda x, t, beta: np.abs(x - t), spaced(2, 3), between(2, 3), beta=0.0)
loss("quantile_loss", np_quantile, spaced(2, 3), between(2, 3))
loss("quantile_loss", np_quantile, spaced(2, 3), between(2), quantiles=(0.1, 0.5, 0.9))
weighed("quantile_loss", np_quantile, spaced(2, 3), between(2), positive(2), quantiles=(0.1, 0.5, 0.9))

# -- of probabilities -----------------------------------------------------------------------------------------------


def np_bce(p: Any, t: Any) -> Any:
    return -t * np.log(p) - (1 - t) * np.log(1 - p)


def np_poisson(x: Any, t: Any, log_input: bool = True, full: bool = False) -> Any:
    each = np.exp(x) - t * x if log_input else x - t * np.log(x + 1e-8)
    return each + full * np.where(t > 1, t * np.log(t) - t + np.log(2 * np.pi * t) / 2, 0)


def np_gaussian(x: Any, t: Any, var: Any, full: bool = False, eps: float = 1e-6) -> Any:
    var = np.maximum(var[..., None] if np.ndim(var) == 1 else var, eps)
    return (np.log(var) + (x - t) ** 2 / var + full * math.log(2 * math.pi)) / 2


loss("binary_cross_entropy_with_logits", lambda z, t: np_bce(logistic(z), t), nonzero(2, 3), probability(2, 3))
weighed("binary_cross_entropy_with_logits", lambda z, t: np_bce(logistic(z), t), nonzero(2, 3), probability(2, 3),
        positive(2))  # fmt: skip
line("binary_cross_entropy_with_logits", nonzero(2, 3), probability(2, 3), positive(3), positive(3),
     op=lambda z, t, w, v: F.binary_cross_entropy_with_logits(z, t, w, pos_weight=v),
     ref=lambda z, t, w, v: np.mean(w * (-v * t * np.log(logistic(z)) - (1 - t) * np.log(logistic(-z)))))  # fmt: skip
loss("binary_cross_entropy", np_bce, probability(2, 3), probability(2, 3))
line("binary_cross_entropy", probability(2, 3), probability(2, 3), positive(3), ref=lambda p, t, w: np.mean(
    w * np_bce(p, t)))  # fmt: skip
loss("kl_div", lambda x, t: t * (np.log(t) - x), positive(2, 3), probability(2, 3))
loss("kl_div", lambda x, t, log_target: np.exp(t) * (t - x), normal(2, 3), normal(2, 3), log_target=True)
line("kl_div", positive(2, 3), probability(2, 3), ref=lambda x, t, reduction: np.sum(t * (np.log(t) - x)) / 2,
     reduction="batchmean")  # fmt: skip
weighed("kl_div", lambda x, t: t * (np.log(t) - x), positive(2, 3), probability(2, 3), positive(2))
loss("poisson_nll_loss", np_poisson, normal(2, 3), positive(2, 3), full=True)
loss("poisson_nll_loss", np_poisson, positive(2, 3), positive(2, 3), log_input=False)
loss("gaussian_nll_loss", np_gaussian, normal(2, 3), normal(2, 3), positive(2, 3), full=True)
loss("gaussian_nll_loss", np_gaussian, normal(2, 3), normal(2, 3), positive(2))
loss("gaussian_nll_loss", np_gaussian, normal(2, 3), normal(2, 3), 0.7)

# -- of classes -----------------------------------------------------------------------------------------------------


def np_nll(log_p: Any, t: Any) -> Any:
    return -np.take_along_axis(log_p, np.expand_dims(t, 1).astype(int), axis=1).squeeze(1)


def np_cross_entropy(z: Any, t: Any) -> Any:
    log_p = np.log(np_softmax(z, 1))
    return np_nll(log_p, t) if t.ndim < z.ndim else -np.sum(t * log_p, axis=1)


def np_classes(
    log_p: Any, t: Any, w: Any, reduction: str, ignore_index: int = -100, label_smoothing: float = 0.0
) -> Any:
    """Class weights, left-out targets and smoothing, one target after the other."""
    each, number, rest = np.zeros(t.shape), 0.0, label_smoothing / len(w)
    for place in np.ndindex(t.shape):
        label, scores = t[place], log_p[(place[0], slice(None), *place[1:])]
        if label != ignore_index:
            number += w[label]
            each[place] = -(1 - label_smoothing) * w[label] * scores[label] - rest * np.sum(w * scores)
    return each.sum() / number if reduction == "mean" else MEANS[reduction](each)


def np_focal(z: Any, t: Any, alpha: Any = None, gamma: float = 2.0) -> Any:
    if t.dtype.kind == "f":
        p, a = logistic(z), 0.5 if alpha is None else alpha
        far = 1 - p * t - (1 - p) * (1 - t)
        return np_bce(p, t) * far**gamma * (a * t + (1 - a) * (1 - t)) * (2 if alpha is None else 1)
    ce = np_cross_entropy(z, t)
    return ce * (1 - np.exp(-ce)) ** gamma


loss("cross_entropy", np_cross_entropy, normal(7, 3), whole(3, 7))
loss("cross_entropy", np_cross_entropy, normal(7, 3), whole(3, 7, dtype="uint8"), reductions=["mean"])
loss("cross_entropy", np_cross_entropy, normal(2, 3, 5, 4), whole(3, 2, 5, 4))
loss("cross_entropy", np_cross_entropy, normal(7, 3), probability(7, 3))
loss("cross_entropy", np_cross_entropy, normal(2, 3, 5), probability(2, 3, 5))
loss("cross_entropy", np_cross_entropy, normal(0, 3), whole(3, 0), reductions=["sum", "none"])
weighed("cross_entropy", np_cross_entropy, normal(7, 3), whole(3, 7), positive(7))
weighed("cross_entropy", np_cross_entropy, normal(2, 3, 5), probability(2, 3, 5), positive(2, 5))
loss("nll_loss", np_nll, normal(7, 3), whole(3, 7))
loss("nll_loss", np_nll, normal(2, 3, 5), whole(3, 2, 5))
for r, settings in itertools.product(MEANS, ({}, {"ignore_index": 1})):
    line("nll_loss", normal(2, 3, 5), whole(3, 2, 5), positive(3), ref=np_classes, reduction=r, **settings)
    line("cross_entropy", normal(2, 3, 5), whole(3, 2, 5), positive(3), reduction=r, **settings, label_smoothing=0.3,
         ref=lambda z, *a, **kw: np_classes(np.log(np_softmax(z, 1)), *a, **kw))  # fmt: skip
line("cross_entropy", normal(7, 3), probability(7, 3), positive(3), label_smoothing=0.3, ref=lambda z, t, w,
     label_smoothing: np.sum(-w * (0.7 * t + 0.1) * np.log(np_softmax(z, 1))) / 7)  # fmt: skip
line("cross_entropy", normal(3), whole(3), ref=lambda z, t: np.log(np.sum(np.exp(z))) - z[t])
line("nll_loss", normal(3), whole(3), ref=lambda z, t, reduction: -z[t], reduction="none")
loss("focal_loss", np_focal, probability(2, 3), probability(2, 3))
loss("focal_loss", np_focal, probability(2, 3), probability(2, 3), alpha=0.25, gamma=1.5)
loss("focal_loss", np_focal, normal(2, 3, 5), whole(3, 2, 5))
weighed("focal_loss", np_focal, normal(7, 3), whole(3, 7), positive(7), gamma=0.0)
line("focal_loss", normal(7, 3), whole(3, 7), positive(3), ref=lambda z, t, w: np.mean(w[t] * np_focal(z, t)))

# -- of sequences ---------------------------------------------------------------------------------------------------


def np_ctc(log_p: Any, targets: Any, steps: Any, lengths: Any, blank: int = 0) -> Any:
    """Every path there is."""
    each = []
    for i, (t, m) in enumerate(zip(steps, lengths, strict=True)):
        start = sum(lengths[:i])
        want = targets[i, :m] if targets.ndim == 2 else targets[start : start + m]
        total = 0.0
        for path in itertools.product(range(log_p.shape[2]), repeat=t):
            if [k for k, _ in itertools.groupby(path) if k != blank] == list(want):
                total += math.exp(sum(log_p[j, i, k] for j, k in enumerate(path)))
        each.append(-math.log(total))
    return np.array(each)


labels = drawing(lambda rng, shape: 1 + np.arange(math.prod(shape)).reshape(shape) % 2)
for r in ("sum", "none"):
    loss("ctc_loss", np_ctc, normal(4, 2, 3), labels(2, 2), (4, 3), (2, 1), reductions=[r])
    loss("ctc_loss", np_ctc, normal(4, 2, 3), labels(3), [3, 4], [1, 2], reductions=[r], blank=0)
line("ctc_loss", normal(4, 4), labels(2), 4, 2, blank=3, ref=lambda z, t, steps, m, blank: np_ctc(
    z[:, None], t, [steps], [m], blank)[0] / 2)  # fmt: skip
line("ctc_loss", normal(4, 2, 3), labels(2, 2), (4, 1), (2, 2), zero_infinity=True, ref=lambda z, *a, zero_infinity:
     np_ctc(z[:, :1], a[0][:1], (4,), (2,))[0] / 4)  # fmt: skip
