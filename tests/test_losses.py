"""Losses beyond their lines in the tables: weights of samples, nothing left to average, extremes, what they refuse."""

import copy

import numpy as np
import pytest

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import nn, optim
from nnbackend.errors import LabelError

inf = float("inf")
rng = np.random.default_rng(5)
X, Y, Z = (rng.standard_normal((4, 3)) for _ in range(3))
P, Q = (rng.uniform(0.1, 0.9, (4, 3)) for _ in range(2))
LABELS, SIGNS = np.array([0, 2, 1, 2]), np.array([1, -1, -1, 1])
SEVERAL = np.array([[0, 2, -1], [1, -1, -1], [2, 1, 0], [0, -1, 1]])

INPUTS = {
    "binary_cross_entropy": (P, Q), "binary_cross_entropy_with_logits": (X, Q), "cosine_embedding_loss": (X, Y, SIGNS),
    "cross_entropy": (X, LABELS), "focal_loss": (X, LABELS), "gaussian_nll_loss": (X, Y, P),
    "hinge_embedding_loss": (X[:, 0], SIGNS), "huber_loss": (X, Y), "kl_div": (X, P), "l1_loss": (X, Y),
    "margin_ranking_loss": (X[:, 0], Y[:, 0], SIGNS), "mse_loss": (X, Y), "multi_margin_loss": (X, LABELS),
    "multilabel_margin_loss": (X, SEVERAL), "multilabel_soft_margin_loss": (X, Q), "nll_loss": (X, LABELS),
    "poisson_nll_loss": (X, P), "quantile_loss": (X, Y), "smooth_l1_loss": (X, Y), "soft_margin_loss": (X[:, 0], SIGNS),
    "triplet_margin_loss": (X, Y, Z), "triplet_margin_with_distance_loss": (X, Y, Z),
}  # fmt: skip
SETTINGS = [(name, {}) for name in INPUTS]
SETTINGS += [("cross_entropy", {"weight": np.array([1.0, 2.0, 0.5]), "label_smoothing": 0.2, "ignore_index": 1})]
SETTINGS += [("nll_loss", {"weight": np.array([1.0, 2.0, 0.5])}), ("kl_div", {"reduction": "batchmean"})]


def close(a, b):
    np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-12)


def tensors(arrays, requires_grad=False):
    return [nb.tensor(a, requires_grad=requires_grad and a.dtype.kind == "f") for a in arrays]


def lossy():
    """Every function that is a loss."""
    return {name for name in F.__all__ if "loss" in name or "entropy" in name or name == "kl_div"}


def test_every_loss_is_here():
    assert lossy() == {*INPUTS, "ctc_loss"}


@pytest.mark.parametrize(("name", "settings"), SETTINGS)
def test_weight_two_counts_a_sample_twice_and_zero_leaves_it_out(name, settings):
    loss = getattr(F, name)
    settings = {k: nb.tensor(v) if isinstance(v, np.ndarray) else v for k, v in settings.items()}
    weight, rows = nb.tensor([2.0, 0.0, 1.0, 1.0], dtype="float64"), [0, 0, 2, 3]
    given = tensors(INPUTS[name])
    for reduction in ("mean", "sum"):
        settings = {"reduction": reduction, **settings}
        repeated = loss(*tensors(x[rows] for x in INPUTS[name]), **settings)
        close(loss(*given, sample_weight=weight, **settings), repeated)
    plain = {k: v for k, v in settings.items() if k != "reduction"}
    each = loss(*given, reduction="none", **plain)
    weighed = loss(*given, reduction="none", sample_weight=weight, **plain)
    close(weighed, each * weight.reshape((4, *(1,) * (len(each.shape) - 1))))
    broken = [x.copy() for x in INPUTS[name]]
    if name not in ("binary_cross_entropy", "multilabel_margin_loss"):  # they refuse NaN, and do not see it
        broken[0][1] = np.nan
        close(loss(*tensors(broken), sample_weight=weight, **plain), loss(*given, sample_weight=weight, **plain))


@pytest.mark.parametrize(("name", "settings"), SETTINGS)
def test_the_mean_of_nothing_is_zero(name, settings):
    given = tensors(INPUTS[name], requires_grad=True)
    settings = {k: nb.tensor(v) if isinstance(v, np.ndarray) else v for k, v in settings.items()}
    y = getattr(F, name)(*given, sample_weight=nb.zeros(4, dtype="float64"), **settings)
    y.backward()
    assert float(y) == 0.0
    assert not np.any(given[0].grad.numpy())


@pytest.mark.parametrize("loss", [F.cross_entropy, F.nll_loss])
@pytest.mark.parametrize("settings", [{}, {"weight": nb.ones(3)}])
def test_all_targets_ignored(loss, settings):
    x = nb.ones((4, 3)).requires_grad_()
    y = loss(x, nb.tensor([-100] * 4), **settings)
    y.backward()
    assert float(y) == 0.0
    assert x.grad.tolist() == [[0.0] * 3] * 4


def test_weights_are_laid_from_the_left():
    x, y = nb.ones((2, 3, 4)), nb.zeros((2, 3, 4))
    weight = nb.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 4.0]])
    close(F.mse_loss(x, y, "none", sample_weight=weight), nb.broadcast_to(weight.reshape((2, 3, 1)), (2, 3, 4)))
    for shape in ((3,), (2, 3, 4, 1), (2, 4)):
        with pytest.raises(ValueError, match=r"sample_weight: expected shape \(2,\) or the first axes of \(2, 3, 4\)"):
            F.mse_loss(x, y, sample_weight=nb.ones(shape))


def test_ignored_labels_in_a_recorded_step():
    labels = [nb.tensor(rng.choice([-100, 0, 1, 2], 8)) for _ in range(6)]
    x = nb.tensor(rng.standard_normal((8, 3)))
    fast = nb.compile(lambda x, t: F.cross_entropy(x, t, label_smoothing=0.1))
    for t in labels:
        assert float(fast(x, t)) == float(F.cross_entropy(x, t, label_smoothing=0.1))
    assert fast.recordings == 2
    with pytest.raises(ValueError, match=r"1 of 8 labels outside 0..2 \(first: row 3 = 7\)"):
        F.cross_entropy(x, nb.tensor([-100, 0, 1, 7, 1, 1, 1, 1]))


@pytest.mark.parametrize(
    ("loss", "inputs", "value"),
    [
        (F.cross_entropy, ([[1e4, -1e4]], [[0.0, 1.0]]), 2e4),
        (F.cross_entropy, ([[-inf, 1.0, 1.0]], [[0.0, 0.5, 0.5]]), np.log(2)),
        (F.soft_margin_loss, ([1e4, -1e4], [1.0, 1.0]), 5e3),
        (F.multilabel_soft_margin_loss, ([1e4, -1e4], [1.0, 1.0]), 5e3),
        (lambda z, t: BCE(z, t, pos_weight=nb.tensor(3.0)), ([1e4, -1e4], [0.0, 1.0]), 2e4),
        (F.kl_div, ([-inf, 0.0], [0.0, 1.0]), 0.0),
        (F.focal_loss, ([1e4, -1e4], [1.0, 0.0]), 0.0),
        (lambda z, t: F.focal_loss(z, t, gamma=0.5), ([[1e4, -1e4]], [0]), 0.0),
        (F.gaussian_nll_loss, ([1.0], [1.0], [0.0]), np.log(1e-6) / 2),
        (F.triplet_margin_loss, ([[1.0, 2.0]], [[1.0, 2.0]], [[1.0, 2.0]]), 1.0),
        (F.cosine_embedding_loss, ([[0.0, 0.0]], [[0.0, 0.0]], [1]), 1.0),
    ],
)  # fmt: skip
def test_extremes(loss, inputs, value):
    given = [nb.tensor(x, requires_grad=isinstance(np.ravel(x)[0], float)) for x in inputs]
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        y = loss(*given)
        y.backward()
    np.testing.assert_allclose(float(y), value, rtol=1e-6)
    assert np.all(np.isfinite(given[0].grad.numpy()))


def test_ctc_without_a_path():
    z = nb.tensor(rng.standard_normal((3, 2, 4)), requires_grad=True)
    targets = nb.tensor([[1, 1, 0], [1, 2, 3]])  # 1, 1 needs a blank between; three steps are enough for 1, 2, 3
    lost = F.ctc_loss(z, targets, (2, 3), (2, 3), reduction="none")
    assert np.isfinite(lost.numpy()).tolist() == [False, True]
    y = F.ctc_loss(z, targets, (2, 3), (2, 3), zero_infinity=True)
    y.backward()
    np.testing.assert_allclose(float(y), float(lost[1]) / 3 / 2)
    assert np.sum(z.grad.numpy(), axis=(0, 2)).round(12).tolist() == [0.0, -0.5]  # each step is in one state


X2, T2, BCE = nb.ones((2, 3)), nb.tensor([0, 1]), F.binary_cross_entropy_with_logits
X3, T3, CTC = nb.zeros((5, 2, 4)), nb.tensor([[1, 2], [3, 1]]), "ctc_loss: expected "


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: F.ctc_loss(X3, T3, (5, 6), (2, 2)), CTC + r"2 input_lengths in 0..5, got \[5, 6\]"),
        (lambda: F.ctc_loss(X3, T3, (5, 5), (2, 3)), CTC + r"2 target_lengths in 0..2, got \[2, 3\]"),
        (lambda: F.ctc_loss(X3, T3, (5,), (2, 2)), CTC + r"2 input_lengths in 0..5, got \[5\]"),
        (lambda: F.ctc_loss(X3, T3[0], (5, 5), (2, 2)), CTC + "2 target_lengths|4 targets"),
        (lambda: F.ctc_loss(X3, T3[:1], (5, 5), (2, 2)), CTC + "2 rows of targets, got 1"),
        (lambda: F.ctc_loss(X3, T3 + 2, (5, 5), (2, 2)), r"labels outside 0\.\.3"),
        (lambda: F.ctc_loss(X3, T3, (5, 5), (2, 2), blank=4), CTC + r"a blank in 0\.\.3, got 4"),
        (lambda: F.ctc_loss(X3, nb.ones((2, 2)), (5, 5), (2, 2)), CTC + "log_probs"),
        (lambda: nn.HuberLoss(delta=0.0), "HuberLoss: expected delta > 0, got 0.0"),
        (lambda: nn.SmoothL1Loss(beta=-1.0), "SmoothL1Loss: expected beta >= 0"),
        (lambda: nn.MultiMarginLoss(p=3), "MultiMarginLoss: expected p = 1 or 2, got 3"),
        (lambda: nn.TripletMarginLoss(margin=0.0), "TripletMarginLoss: expected margin > 0"),
        (lambda: nn.QuantileLoss((0.5, 1.0)), "QuantileLoss: expected quantiles between 0 and 1"),
        (lambda: nn.FocalLoss(gamma=-1.0), "FocalLoss: expected gamma >= 0"),
        (lambda: F.cross_entropy(X2, T2, label_smoothing=1.5), "expected label_smoothing from 0 to 1, got 1.5"),
        (lambda: F.cross_entropy(X2, X2, ignore_index=1), "expected class indices for ignore_index=1"),
        (lambda: F.cross_entropy(X2, T2, nb.ones(2)), r"cross_entropy: expected weight of shape \(3,\), got \(2,\)"),
        (lambda: F.nll_loss(X2, T2, nb.ones(2)), r"nll_loss: expected weight of shape \(3,\), got \(2,\)"),
        (lambda: F.mse_loss(X2, X2, sample_weight=nb.ones(3)), r"sample_weight: expected shape \(2,\)"),
        (lambda: F.mse_loss(nb.ones((2, 3)), nb.ones((2, 3)), weight=nb.ones(3)), r"weight of shape \(2, 3\)"),
        (lambda: F.gaussian_nll_loss(nb.ones(2), nb.ones(2), -nb.ones(2)), r"var in \[0, inf\], got -1"),
        (lambda: F.gaussian_nll_loss(nb.ones((4, 3)), nb.ones((4, 3)), nb.ones(3)), r"var of shape \(4, 3\)"),
        (lambda: F.multilabel_margin_loss(nb.ones((2, 3)), nb.tensor([[0, 1, 3], [0, 1, 2]])), r"target in \[-1, 2\]"),
        (lambda: F.cosine_embedding_loss(nb.ones((2, 3)), nb.ones((2, 3)), nb.tensor([1])), r"target of shape \(2,\)"),
        (lambda: F.quantile_loss(nb.ones((4, 2)), nb.ones(4), (0.1, 0.5, 0.9)), r"input of shape \(4, 3\)"),
        (lambda: F.kl_div(nb.ones(2), nb.ones(2), "median"), "expected reduction="),
        (lambda: F.mse_loss(nb.ones(2), nb.ones(2), "batchmean"), "expected reduction="),
    ],
)  # fmt: skip
def test_what_losses_refuse(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_class_weights_belong_to_the_layer():
    loss = nn.BCEWithLogitsLoss(pos_weight=nb.tensor([1.0, 2.0]))
    assert list(loss.state_dict()) == ["pos_weight"]
    assert loss.to("float64").pos_weight.dtype == "float64"
    assert repr(loss) == "BCEWithLogitsLoss(pos_weight=(2,))"
    assert (
        repr(nn.CrossEntropyLoss(ignore_index=3, reduction="sum"))
        == "CrossEntropyLoss(ignore_index=3, reduction='sum')"
    )
    two = nn.TripletMarginWithDistanceLoss(distance_function=F.l1_loss, margin=0.5)
    assert float(two(nb.ones(3), nb.ones(3), nb.zeros(3))) == 0.0


def test_a_target_to_ignore_that_comes_later_is_recorded_anew():
    net = nn.Linear(3, 4).init(0)
    twin, opt = copy.deepcopy(net), optim.SGD(net.parameters(), lr=0.1)
    eager = optim.SGD(twin.parameters(), lr=0.1)

    def step(model, rule, x, y):
        loss = F.cross_entropy(model(x), y)
        rule.zero_grad()
        loss.backward()
        rule.step()
        return loss

    fast = nb.compile(lambda x, y: step(net, opt, x, y))
    x = nb.tensor(np.random.default_rng(0).standard_normal((5, 3)).astype("float32"))
    for last in (3, 3, 3, 3, -100, 3, -100, -100, 3, 3):
        y = nb.tensor([0, 1, 2, 1, last])
        assert float(fast(x, y)) == pytest.approx(float(step(twin, eager, x, y)), abs=1e-6)
    assert fast.why is None
    with pytest.raises(LabelError):
        fast(x, nb.tensor([0, 1, 2, 1, 4]))
    np.testing.assert_allclose(net.weight.numpy(), twin.weight.numpy(), atol=1e-6)
