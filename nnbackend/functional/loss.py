"""Losses. They average, and check what they are given: shapes must be equal, labels within the classes.

Each takes `reduction="mean"`, `"sum"` or `"none"`, and `sample_weight`: (n,), or any shape that fits the unreduced loss
from the left. Weight 2 counts a sample twice, 0 leaves it out, and the mean over nothing is 0.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

from .. import array
from ..backend import namespace
from ..errors import ShapeError
from ..ops import activation, loss
from ..ops.core import constant, size
from ..recorder import checked
from ..tensor import Tensor, lift
from .activation import logsigmoid, relu, sigmoid
from .loss_checks import (
    as_scores,
    check_classes,
    check_pair,
    check_range,
    check_settings,
    check_shape,
    is_floating,
    quantiles_of,
)
from .loss_reduce import of_elements, reduced, times

_mse, _l1, _huber = lift(loss.mse_loss), lift(loss.l1_loss), lift(loss.huber_loss)
_bce, _bce_logits = lift(loss.binary_cross_entropy), lift(loss.binary_cross_entropy_with_logits)
_cross_entropy, _nll, _kl = lift(loss.cross_entropy), lift(loss.nll_loss), lift(loss.kl_div)


# -- of numbers -----------------------------------------------------------------------------------------------------


def mse_loss(
    input: Any,
    target: Any,
    reduction: str = "mean",
    weight: Any = None,
    *,
    allow_broadcast: bool = False,
    sample_weight: Any = None,
) -> Any:
    """Mean squared error; with a `weight` of the input's shape, the weighted mean.

    ShapeError unless the shapes are equal or `allow_broadcast`.
    """
    shape = input.shape
    if shape != target.shape or reduction != "mean" or 0 in shape:
        check_pair(input, target, reduction, "mse_loss", allow_broadcast)
    if weight is None and sample_weight is None:
        return _mse(input, target, reduction=reduction)
    return _of_numbers("mse_loss", _mse, input, target, reduction, weight, sample_weight)


def l1_loss(
    input: Any,
    target: Any,
    reduction: str = "mean",
    weight: Any = None,
    *,
    allow_broadcast: bool = False,
    sample_weight: Any = None,
) -> Any:
    """Mean absolute error; with a `weight` of the input's shape, the weighted mean."""
    check_pair(input, target, reduction, "l1_loss", allow_broadcast)
    return _of_numbers("l1_loss", _l1, input, target, reduction, weight, sample_weight)


def _of_numbers(
    name: str, op: Callable[..., Any], input: Any, target: Any, reduction: str, weight: Any, sample_weight: Any
) -> Any:
    if weight is not None:
        check_shape(weight, tuple(input.shape), "weight", name)
        sample_weight = times(weight, sample_weight, input.shape)
    return of_elements(op, input, target, reduction=reduction, sample_weight=sample_weight)


def huber_loss(
    input: Any,
    target: Any,
    reduction: str = "mean",
    delta: float = 1.0,
    weight: Any = None,
    *,
    allow_broadcast: bool = False,
    sample_weight: Any = None,
) -> Any:
    """Squared error / 2 up to `delta`, a straight line beyond; `weight` multiplies each before the plain mean."""
    check_settings("huber_loss", delta=delta)
    check_pair(input, target, reduction, "huber_loss", allow_broadcast)
    if weight is not None:
        check_shape(weight, tuple(input.shape), "weight", "huber_loss")
    return of_elements(
        _huber, input, target, reduction=reduction, weight=weight, sample_weight=sample_weight, delta=delta
    )


def smooth_l1_loss(
    input: Any,
    target: Any,
    reduction: str = "mean",
    beta: float = 1.0,
    *,
    allow_broadcast: bool = False,
    sample_weight: Any = None,
) -> Any:
    """Squared error / (2 beta) up to `beta`, absolute error - beta / 2 beyond: `huber_loss` / beta."""
    check_settings("smooth_l1_loss", beta=beta)
    check_pair(input, target, reduction, "smooth_l1_loss", allow_broadcast)
    if beta == 0:
        return of_elements(_l1, input, target, reduction=reduction, sample_weight=sample_weight)
    huber = of_elements(_huber, input, target, reduction=reduction, sample_weight=sample_weight, delta=beta)
    return huber / beta


def quantile_loss(
    input: Any, target: Any, quantiles: Any = 0.5, reduction: str = "mean", *, sample_weight: Any = None
) -> Any:
    """Pinball loss max(q * e, (q - 1) * e) of e = target - input, least at the quantile q (Koenker, Bassett 1978).

    With several quantiles, `input` (..., k) has a column for each of the k; `target` is (...).
    """
    check_settings("quantile_loss", quantiles=quantiles)
    q: Any = quantiles
    if not isinstance(quantiles, int | float):
        check_shape(input, (*target.shape, len(q := quantiles_of(quantiles))), "input", "quantile_loss")
        q = namespace(input).asarray(list(q), dtype=input.dtype, device=input.device)
        target = array.expand_dims(target, axis=-1)
    check_pair(input, target, reduction, "quantile_loss", allow_broadcast=q is not quantiles)
    error = array.subtract(target, input)
    return reduced(array.multiply(error, q) + relu(-error), reduction, sample_weight)


# -- of probabilities -----------------------------------------------------------------------------------------------


def binary_cross_entropy_with_logits(
    input: Any,
    target: Any,
    weight: Any = None,
    reduction: str = "mean",
    pos_weight: Any = None,
    *,
    sample_weight: Any = None,
) -> Any:
    """Cross-entropy of sigmoid(input) with targets in [0, 1] (checked on the CPU), finite for any input.

    `weight` multiplies each element, `pos_weight` the part of the positive class: (classes,) or what else broadcasts.
    """
    name = "binary_cross_entropy_with_logits"
    check_pair(input, target, reduction, name)
    checked(check_range, target, name, "target")
    if pos_weight is None:
        return of_elements(_bce_logits, input, target, reduction=reduction, weight=weight, sample_weight=sample_weight)
    positive = array.multiply(pos_weight - 1.0, target) + 1.0
    each = (1.0 - target) * input - array.multiply(positive, logsigmoid(input))
    return reduced(each if weight is None else array.multiply(each, weight), reduction, sample_weight)


def binary_cross_entropy(
    input: Any, target: Any, weight: Any = None, reduction: str = "mean", *, sample_weight: Any = None
) -> Any:
    """Cross-entropy of probabilities with targets in [0, 1]; ValueError for others (checked on the CPU)."""
    name = "binary_cross_entropy"
    check_pair(input, target, reduction, name)
    checked(check_range, input, name, "input", 0.0, 1.0, " For logits use binary_cross_entropy_with_logits.")
    checked(check_range, target, name, "target")
    return of_elements(_bce, input, target, reduction=reduction, weight=weight, sample_weight=sample_weight)


def cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    *,
    sample_weight: Any = None,
) -> Any:
    """Cross-entropy of logits (n, c, ...) with class indices (n, ...) or probabilities (n, c, ...), averaged over n.

    One sample may come alone: (c,) with a class () or probabilities (c,). `weight` (c,) weighs the classes; targets
    `ignore_index` are left out; `label_smoothing` mixes that much of the uniform distribution into the target.
    LabelError for indices outside 0..c-1; on a GPU they are checked when they come from host data.
    """
    made = input.node if isinstance(input, Tensor) else None
    if made is not None and made[1] in (activation.softmax, activation.sigmoid):
        warnings.warn(
            "cross_entropy: expected logits, got probabilities. Leave out the softmax before it.", stacklevel=2
        )
    check_settings("cross_entropy", label_smoothing=label_smoothing)
    if _is_alone(input, target):
        return _alone(cross_entropy, input, target, weight, ignore_index, reduction, label_smoothing, sample_weight)
    ignores = check_classes(input, target, reduction, "cross_entropy", True, ignore_index)
    if ignores is not None and not label_smoothing:
        by_index = _cross_entropy, "cross_entropy"
        return _of_classes(*by_index, input, target, weight, ignore_index, ignores, reduction, sample_weight)
    counts = None
    if ignores is not None:  # indices as probabilities
        target, sample_weight = _left_out(input, target, ignore_index, ignores, sample_weight)
        counts = None if weight is None else _class_weights(weight, target, input, "cross_entropy")
        target = array.moveaxis(array.one_hot(target, input.shape[1], dtype=input.dtype), source=-1, destination=1)
    elif ignore_index >= 0:
        raise ValueError(f"cross_entropy: expected class indices for ignore_index={ignore_index}, got probabilities.")
    if label_smoothing:
        target = target * (1.0 - label_smoothing) + label_smoothing / input.shape[1]
    if weight is not None:
        check_shape(weight, (input.shape[1],), "weight", "cross_entropy")
        column = array.reshape(weight, shape=(input.shape[1], *(1,) * (len(input.shape) - 2)))
        target = array.multiply(target, column)
    if sample_weight is None and counts is None:
        return _cross_entropy(input, target, reduction=reduction)
    return reduced(_cross_entropy(input, target, reduction="none"), reduction, sample_weight, counts)


def nll_loss(
    input: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    *,
    sample_weight: Any = None,
) -> Any:
    """Minus the log-probability (n, c, ...) of the class index (n, ...), or (c,) of (); as `cross_entropy` else."""
    if _is_alone(input, target):
        return _alone(nll_loss, input, target, weight, ignore_index, reduction, sample_weight)
    ignores = check_classes(input, target, reduction, "nll_loss", False, ignore_index)
    return _of_classes(_nll, "nll_loss", input, target, weight, ignore_index, ignores, reduction, sample_weight)


def _is_alone(input: Any, target: Any) -> bool:
    """Whether it is one sample without a batch: (c,) with a class or with probabilities."""
    return len(input.shape) == 1 and (not target.shape or is_floating(target))


def _alone(function: Callable[..., Any], input: Any, target: Any, *settings: Any) -> Any:
    """The loss of one sample, by that of a batch of one."""
    *plain, sample_weight = settings
    batch = array.expand_dims(input, axis=0), array.expand_dims(target, axis=0)
    y = function(*batch, *plain, sample_weight=sample_weight)
    return y if not y.shape else array.squeeze(y, axis=0)


def _of_classes(
    op: Callable[..., Any],
    name: str,
    input: Any,
    target: Any,
    weight: Any,
    ignore_index: int,
    ignores: bool | None,
    reduction: str,
    sample_weight: Any,
) -> Any:
    """The loss of class indices: in one op if each counts the same."""
    if weight is None and sample_weight is None and not ignores:
        return op(input, target, reduction=reduction)
    target, sample_weight = _left_out(input, target, ignore_index, ignores, sample_weight)
    each = op(input, target, reduction="none")
    if weight is None:
        return reduced(each, reduction, sample_weight)
    weights = _class_weights(weight, target, input, name)
    return reduced(array.multiply(each, weights), reduction, sample_weight, weights)


def _left_out(input: Any, target: Any, ignore_index: int, ignores: bool | None, sample_weight: Any) -> tuple[Any, Any]:
    """Indices that can be looked up, and weights of 0 for those that are ignored."""
    if not ignores:
        return target, sample_weight
    keep = array.not_equal(target, ignore_index)
    return array.where(keep, target, 0), times(array.astype(keep, input.dtype), sample_weight, target.shape)


def _class_weights(weight: Any, target: Any, input: Any, name: str) -> Any:
    check_shape(weight, (input.shape[1],), "weight", name)
    return array.gather(weight, target)


def kl_div(
    input: Any, target: Any, reduction: str = "mean", log_target: bool = False, *, sample_weight: Any = None
) -> Any:
    """The Kullback-Leibler divergence target * (log(target) - input) of log-probabilities `input`.

    "batchmean" divides by the samples only, as the definition has it. `log_target`: targets are logarithms, too.
    """
    mean = "mean" if reduction == "batchmean" else reduction
    check_pair(input, target, mean, "kl_div")
    y = of_elements(_kl, input, target, reduction=mean, sample_weight=sample_weight, log_target=log_target)
    return y * (size(input) / input.shape[0]) if reduction == "batchmean" and input.shape else y


def poisson_nll_loss(
    input: Any,
    target: Any,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    reduction: str = "mean",
    *,
    sample_weight: Any = None,
) -> Any:
    """Negative log-likelihood of Poisson counts with mean exp(input), or `input` itself without `log_input`.

    `full` adds Stirling's log(target!) for targets above 1.
    """
    check_pair(input, target, reduction, "poisson_nll_loss")
    target = as_scores(target, input)
    if log_input:
        each = array.subtract(array.exp(input), array.multiply(target, input))
    else:
        each = array.subtract(input, array.multiply(target, array.log(input + eps)))
    if full:
        large = array.greater(target, 1.0)
        t = array.where(large, target, 1.0)
        stirling = array.multiply(t, array.log(t)) - t + 0.5 * array.log(2.0 * math.pi * t)
        each = array.add(each, array.where(large, stirling, 0.0))
    return reduced(each, reduction, sample_weight)


def gaussian_nll_loss(
    input: Any,
    target: Any,
    var: Any,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
    *,
    sample_weight: Any = None,
) -> Any:
    """Negative log-likelihood of normal targets with mean `input` and variance `var`, which is kept above `eps`.

    `var`: a number, of the input's shape, or with one axis 1 or the last axis missing. ValueError below 0 (on the CPU).
    """
    name, shape = "gaussian_nll_loss", tuple(input.shape)
    check_pair(input, target, reduction, name)
    if not eps > 0:
        raise ValueError(f"{name}: expected eps > 0, got {eps!r}.")
    if isinstance(var, int | float):
        var = array.multiply(array.ones_like(input), float(var))
    elif tuple(var.shape) == shape[:-1] and shape:
        var = array.expand_dims(var, axis=-1)
    have = tuple(var.shape)
    if have != shape and (len(have) != len(shape) or [m for m, n in zip(have, shape, strict=True) if m != n] != [1]):
        raise ShapeError(f"{name}: expected var of shape {shape}, with one axis 1 or without the last, got {have}.")
    checked(check_range, var, name, "var", 0.0, math.inf)
    var = var + constant(array.clip(var, eps, None) - var)  # the gradient passes where it is kept above
    error = array.subtract(input, target)
    each = 0.5 * (array.log(var) + array.divide(error * error, var))
    return reduced(each + 0.5 * math.log(2.0 * math.pi) if full else each, reduction, sample_weight)


def focal_loss(
    input: Any,
    target: Any,
    alpha: Any = None,
    gamma: float = 2.0,
    reduction: str = "mean",
    *,
    sample_weight: Any = None,
) -> Any:
    """Cross-entropy of logits, times (1 - p)^gamma of the true class's probability p (Lin et al. 2017).

    Targets of the input's shape in [0, 1] are binary: `alpha` weighs them, 1 - alpha the rest. Class indices (n, ...)
    for an input (n, c, ...): `alpha` (c,) weighs the classes.
    """
    check_settings("focal_loss", gamma=gamma)
    tiny = float(array.finfo(input.dtype).smallest_normal)
    if is_floating(target):
        check_pair(input, target, reduction, "focal_loss")
        checked(check_range, target, "focal_loss", "target")
        each = _bce_logits(input, target, reduction="none")
        p = sigmoid(input)
        rest = array.multiply(1.0 - p, target) + array.multiply(p, 1.0 - target)
        weight = None if alpha is None else alpha * target + (1.0 - alpha) * (1.0 - target)
    else:
        check_classes(input, target, reduction, "focal_loss")
        each = _cross_entropy(input, target, reduction="none")
        rest = -array.expm1(-each)
        weight = None if alpha is None else _class_weights(alpha, target, input, "focal_loss")
    each = array.multiply(each, array.clip(rest, tiny, None) ** gamma)
    return reduced(each if weight is None else array.multiply(each, weight), reduction, sample_weight)


__all__ = [
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "cross_entropy", "focal_loss", "gaussian_nll_loss",
    "huber_loss", "kl_div", "l1_loss", "mse_loss", "nll_loss", "poisson_nll_loss", "quantile_loss", "smooth_l1_loss",
]  # fmt: skip
