"""Normalisation: running statistics, as they are and recorded, wrong inputs, and large means."""

from typing import Any

import numpy as np
import pytest

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import nn, optim
from nnbackend.backend import NUMPY
from nnbackend.errors import ShapeError
from nnbackend.tensor import Tensor

KEYS = ["running_mean", "running_var", "num_batches_tracked"]


def batches(n: int, *shape: int) -> list[Any]:
    rng = np.random.default_rng(0)
    return [rng.normal(2.0, 3.0, shape).astype("float32") for _ in range(n)]


# -- running statistics ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("momentum", [0.1, 0.4, None])
def test_running_statistics_move_by_momentum_or_are_averages(momentum: float | None) -> None:
    layer = nn.BatchNorm1d(3, momentum=momentum, dtype="float64")
    mean, var = np.zeros(3), np.ones(3)
    for i, x in enumerate(batches(4, 5, 3, 2)):
        layer(nb.tensor(x, dtype="float64"))
        share = 1.0 / (i + 1) if momentum is None else momentum
        columns = np.moveaxis(x.astype("float64"), 1, 0).reshape(3, -1)
        mean += share * (columns.mean(1) - mean)
        var += share * (columns.var(1, ddof=1) - var)
    np.testing.assert_allclose(layer.running_mean.numpy(), mean)
    np.testing.assert_allclose(layer.running_var.numpy(), var)
    assert int(layer.num_batches_tracked) == 4
    assert str(layer.num_batches_tracked.dtype) == "int64"
    before = layer.eval().state_dict()
    x = nb.tensor(batches(1, 5, 3, 2)[0], dtype="float64")
    want = (x.numpy() - mean[:, None]) / np.sqrt(var[:, None] + 1e-5)
    np.testing.assert_allclose(layer(x).numpy(), want)
    assert all((layer.state_dict()[k] == v).all() for k, v in before.items())


def test_instance_statistics_are_averages_over_the_batch() -> None:
    layer = nn.InstanceNorm1d(3, momentum=0.3, track_running_stats=True)
    (x,) = batches(1, 4, 3, 5)
    layer(nb.tensor(x))
    np.testing.assert_allclose(layer.running_mean.numpy(), 0.3 * x.mean(2).mean(0), rtol=1e-5)
    np.testing.assert_allclose(layer.running_var.numpy(), 0.7 + 0.3 * x.var(2, ddof=1).mean(0), rtol=1e-5)
    assert int(layer.num_batches_tracked) == 0  # as in PyTorch
    assert layer.eval()(nb.tensor(x[0])).shape == (3, 5)


def test_functional_changes_the_statistics_given() -> None:
    (x,) = batches(1, 6, 2)
    mean, var = nb.zeros(2), nb.ones(2)
    F.batch_norm(nb.tensor(x), mean, var, training=True, momentum=1.0)
    np.testing.assert_allclose(mean.numpy(), x.mean(0), rtol=1e-5)
    np.testing.assert_allclose(var.numpy(), x.var(0, ddof=1), rtol=1e-5)


def test_state_dict_is_pytorchs() -> None:
    assert list(nn.BatchNorm2d(3).state_dict()) == ["weight", "bias", *KEYS]
    assert list(nn.BatchNorm2d(3, affine=False).state_dict()) == KEYS
    assert list(nn.BatchNorm2d(3, bias=False, track_running_stats=False).state_dict()) == ["weight"]
    assert list(nn.InstanceNorm2d(3).state_dict()) == []
    assert list(nn.LayerNorm((3, 2), bias=False).state_dict()) == ["weight"]
    assert list(nn.RMSNorm(3).state_dict()) == ["weight"]


def test_init_starts_over() -> None:
    net = nn.Sequential(nn.BatchNorm1d(2))
    start = {k: v.numpy() for k, v in net.state_dict().items()}
    net(nb.tensor(batches(1, 5, 2)[0]))
    net.init(0, only_fresh=True)
    assert int(net[0].num_batches_tracked) == 1
    net.init(0)
    for key, value in net.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), start[key])


# -- recorded -------------------------------------------------------------------------------------------------------


def trained(compiled: bool, momentum: float | None) -> tuple[list[float], dict[str, Any]]:
    """Three batches in training, one in evaluation, two more in training."""
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, momentum=momentum), nn.ReLU(), nn.Linear(4, 1)).init(0)
    sgd = optim.SGD(net.parameters(), lr=0.05)

    def step(x: Tensor) -> Tensor:
        sgd.zero_grad()
        loss = nb.mean(net(x) ** 2)
        loss.backward()
        sgd.step()
        return loss

    def look(x: Tensor) -> Tensor:
        return nb.mean(net(x)).detach()

    if compiled:
        step, look = nb.compile(step), nb.compile(look)
    xs = [nb.tensor(x) for x in batches(6, 8, 3)]
    values = [float(step(x)) for x in xs[:3]]
    net.eval()
    values += [float(look(x)) for x in xs[:3]]
    net.train()
    values += [float(step(x)) for x in xs[3:]]
    return values, {k: v.numpy() for k, v in net.state_dict().items()}


@pytest.mark.parametrize("momentum", [0.1, None])
def test_a_recorded_step_tracks_like_an_eager_one(momentum: float | None) -> None:
    (values, state), (recorded, replayed) = trained(False, momentum), trained(True, momentum)
    np.testing.assert_allclose(recorded, values, rtol=1e-4)
    assert replayed["1.num_batches_tracked"] == 6
    for key, value in state.items():
        np.testing.assert_allclose(replayed[key], value, rtol=1e-4, atol=1e-5)


# -- values ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mean", [0.0, 1e3, 1e6])
def test_right_at_large_means(mean: float) -> None:
    """As right as float32 holds the mean: the error is a few of its units in the last place."""
    x = (np.random.default_rng(0).standard_normal((64, 4, 64)) + mean).astype("float32")
    slack = 1e-5 + 6.0 * np.spacing(np.float32(mean))
    for y, axes in (
        (F.layer_norm(nb.tensor(x), 64), (2,)),
        (F.batch_norm(nb.tensor(x), None, None, training=True), (0, 2)),
        (F.group_norm(nb.tensor(x), 2), None),
        (F.instance_norm(nb.tensor(x)), (2,)),
    ):
        wide = x.astype("float64") if axes else x.astype("float64").reshape(64, 2, 2, 64)
        along = axes or (2, 3)
        want = (wide - wide.mean(along, keepdims=True)) / np.sqrt(wide.var(along, keepdims=True) + 1e-5)
        np.testing.assert_allclose(y.numpy(), want.reshape(x.shape), atol=slack)


def test_constant_rows_stay_finite() -> None:
    x = nb.full((3, 8), 7.0).requires_grad_()
    F.layer_norm(x, 8).sum().backward()
    assert np.isfinite(x.grad.numpy()).all()


def test_normalize_at_zero() -> None:
    x = nb.tensor([[0.0, 0.0], [3.0, 4.0]], dtype="float64", requires_grad=True)
    y = F.normalize(x)
    np.testing.assert_allclose(y.numpy(), [[0.0, 0.0], [0.6, 0.8]])
    y.sum().backward()
    np.testing.assert_allclose(x.grad.numpy()[1], [0.2 * 0.8 * 0.2, -0.2 * 0.6 * 0.2], atol=1e-12)


def over_all_but_samples(x: Any, w: Any, b: Any) -> Any:
    tail = x.shape[1:]
    return F.layer_norm(x, tail, *(nb.broadcast_to(p[:, None, None], tail) for p in (w, b)))


LARGE = {
    "layer_norm": over_all_but_samples,
    "rms_norm": lambda x, w, b: F.rms_norm(x, x.shape[3:], eps=1e-3) * w[:, None, None],
    "group_norm": lambda x, w, b: F.group_norm(x, 3, w, b),
    "batch_norm": lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True),
    "bias": lambda x, w, b: F.batch_norm(x, None, None, None, b, training=True) * w[:, None, None],
    "instance_norm": lambda x, w, b: F.instance_norm(x, None, None, w, b),
}


@pytest.mark.parametrize("name", LARGE)
@pytest.mark.parametrize("threads", [1, 3])
def test_numpys_own_version_changes_speed_only(name: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """On enough elements to be cut into blocks."""
    rng = np.random.default_rng(0)
    x, w, b, dy = (rng.standard_normal(s) for s in ((6, 12, 12, 90), (12,), (12,), (6, 12, 12, 90)))

    def run() -> list[Any]:
        args = [nb.tensor(a, dtype="float64", requires_grad=True) for a in (x, w, b)]
        y = LARGE[name](*args)
        y.backward(nb.tensor(dy, dtype="float64"))
        return [y.numpy(), *(0.0 if a.grad is None else a.grad.numpy() for a in args)]

    before = nb.num_threads()
    nb.set_num_threads(threads)
    try:
        got = run()
    finally:
        nb.set_num_threads(before)
    for key in ("normalized", "normalized_back"):
        monkeypatch.delitem(NUMPY.overrides, key, raising=False)
    for a, want in zip(got, run(), strict=True):
        np.testing.assert_allclose(a, want, rtol=1e-9, atol=1e-10)


# -- what is refused ------------------------------------------------------------------------------------------------

REFUSED = {
    "one value": (lambda: nn.BatchNorm1d(3), (1, 3), "more than 1 value per channel"),
    "one spatial element": (lambda: nn.InstanceNorm2d(3), (2, 3, 1, 1), "more than 1 value per spatial element"),
    "one value a group": (lambda: nn.GroupNorm(2, 2), (1, 2), "more than 1 value per channel"),
    "axes": (lambda: nn.BatchNorm2d(3), (4, 3, 2), "expected input of 4 axes"),
    "batch channels": (lambda: nn.BatchNorm2d(3), (4, 2, 2, 2), r"expected input \(n, 3, \.\.\.\)"),
    "instance axes": (lambda: nn.InstanceNorm1d(3), (4,), "expected input of 2 axes or 3 axes"),
    "instance channels": (lambda: nn.InstanceNorm1d(3, affine=True), (4, 2, 5), r"expected input \(n, 3"),
    "groups": (lambda: nn.GroupNorm(3, 6), (2, 5, 2), r"expected input \(n, 6"),
    "shape": (lambda: nn.LayerNorm((3, 4)), (2, 4, 3), r"expected input \(\.\.\., 3, 4\)"),
    "rms shape": (lambda: nn.RMSNorm(3), (2, 4), r"expected input \(\.\.\., 3\)"),
    "response": (lambda: nn.LocalResponseNorm(2), (2, 4), "3 axes or more"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_inputs_change_nothing(name: str) -> None:
    build, shape, message = REFUSED[name]
    layer = build()
    before = {k: v.numpy() for k, v in layer.state_dict().items()}
    with pytest.raises(ShapeError, match=message):
        layer(nb.ones(shape))
    for key, value in layer.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[key])


def test_refused_settings() -> None:
    with pytest.raises(ValueError, match="groups that divide 6 channels, got 4"):
        nn.GroupNorm(4, 6)
    with pytest.raises(ShapeError, match="divides 6 channels"):
        F.group_norm(nb.ones((2, 6)), 4)
    with pytest.raises(ValueError, match="running_mean and running_var"):
        F.batch_norm(nb.ones((2, 6)), None, None)
    with pytest.raises(ValueError, match="running_mean and running_var"):
        F.instance_norm(nb.ones((2, 6, 2)), use_input_stats=False)
    with pytest.raises(ValueError, match="expected eps > 0"):
        F.batch_norm(nb.ones((2, 6)), None, None, training=True, eps=0.0)
    with pytest.raises(ShapeError, match="weight and bias of shape"):
        F.layer_norm(nb.ones((2, 6)), 6, nb.ones(5))
    with pytest.raises(ShapeError, match="2 axes or more"):
        F.group_norm(nb.ones(6), 2)
