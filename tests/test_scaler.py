"""Loss scaling: PyTorch's scales and skipped steps, and float16 that trains."""

import math
from contextlib import nullcontext

import numpy as np
import pytest
from frozen import PLACES
from test_optim import close, equal, parameters

import nnbackend as nb
from nnbackend import data, nn, optim
from nnbackend import functional as F
from nnbackend.errors import GraphError, IncompatibleCheckpointError, RecordingWarning

SLOPES = [1.0, 2.0, math.inf, 1.0, -1.0, 3.0, math.nan, -math.inf, 1.0, 1.0, 2.0, 1.0, 1.0]
GOOD = [0.5, -0.5, -0.5, -1.0, -0.5, -2.0, -2.0, -2.0, -2.5, -3.0, -4.0, -4.5, -5.0]
# torch.amp.GradScaler("cpu", ...) of PyTorch 2.13: log2 of the scale and the weight after each step
SERIES = [
    ({"init_scale": 4.0, "growth_interval": 2}, [2, 3, 2, 2, 3, 3, 2, 1, 1, 2, 2, 3, 3], GOOD),
    ({}, [16, 16, 15, 15, 15, 15, 14, 13, 13, 13, 13, 13, 13], GOOD),
    (  # as large as float32 can be: overflows by itself, and stops growing
        {"init_scale": 2.0**127, "growth_factor": 4.0, "backoff_factor": 0.25, "growth_interval": 1},
        [127, 125, 123, 125, 127, 125, 123, 121, 123, 125, 127, 127, 127],
        [0.5, 0.5, 0.5, 0.0, 0.5, 0.5, 0.5, 0.5, 0.0, -0.5, -1.5, -2.0, -2.5],
    ),
]


def back(p, scaler, slope):
    p.grad = None
    scaler.scale((p * slope).sum()).backward()


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.parametrize("place", PLACES, ids=str)
@pytest.mark.parametrize(("settings", "scales", "weights"), SERIES)
def test_scales_and_skipped_steps(settings, scales, weights, place):
    p = nn.Parameter(nb.tensor(np.ones(2, "float32"), device=place))
    optimizer, scaler = optim.SGD([p], lr=0.5), optim.GradScaler(**settings)
    for n, (slope, scale, weight) in enumerate(zip(SLOPES, scales, weights, strict=True)):
        before = p.numpy().copy()
        back(p, scaler, slope)
        if n % 2:
            scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        if not np.array_equal(before, p.numpy()):
            equal(p.grad.numpy(), [slope, slope])
        equal(p.numpy(), [weight, weight])
        assert scaler.get_scale() == 2.0**scale


def test_one_optimizer_that_overflows_does_not_stop_another():
    a, b = parameters(1.0, 1.0)
    first, second, scaler = optim.SGD([a], lr=1.0), optim.SGD([b], lr=1.0), optim.GradScaler(8.0)
    for loss in scaler.scale([a * math.inf, b * 0.5]):
        loss.backward()
    scaler.step(first)
    scaler.step(second)
    scaler.update()
    assert (float(a), float(b), scaler.get_scale()) == (1.0, 0.5, 4.0)


def test_clipping_between_unscaling_and_step():
    (p,) = parameters([1.0, 1.0])
    optimizer, scaler = optim.SGD([p], lr=1.0), optim.GradScaler()
    back(p, scaler, nb.tensor([3.0, 4.0], "float64"))
    scaler.unscale_(optimizer)
    assert float(optim.clip_grad_norm([p], 0.5)) == 5.0
    scaler.step(optimizer)
    close(p.numpy(), [0.7, 0.6], 1e-6)


def test_each_step_has_its_place():
    (p,) = parameters([1.0])
    optimizer, scaler = optim.SGD([p], lr=1.0), optim.GradScaler()
    with pytest.raises(GraphError, match="update: expected a step first"):
        scaler.update()
    with pytest.raises(GraphError, match="unscale_: expected gradients, got none"):
        scaler.step(optimizer)
    back(p, scaler, 1.0)
    scaler.unscale_(optimizer)
    with pytest.raises(GraphError, match="unscale_: expected one call for each update"):
        scaler.unscale_(optimizer)
    scaler.step(optimizer)
    for again in (scaler.step, scaler.unscale_):
        with pytest.raises(GraphError, match="expected one call for each update"):
            again(optimizer)
    equal(p.numpy(), [0.0])
    scaler.update(32.0)
    assert scaler.get_scale() == 32.0
    back(p, scaler, 1.0)
    scaler.step(optimizer)
    equal(p.numpy(), [-1.0])


def test_state_goes_on_and_is_pytorchs():
    (p,) = parameters([1.0])
    optimizer, scaler, other = optim.SGD([p], lr=1.0), optim.GradScaler(8.0, 4.0, 0.25, 3), optim.GradScaler()
    for _ in range(2):
        back(p, scaler, 1.0)
        scaler.step(optimizer)
        scaler.update()
    state = scaler.state_dict()
    assert state == {
        "scale": 8.0, "growth_factor": 4.0, "backoff_factor": 0.25, "growth_interval": 3, "_growth_tracker": 2,
    }  # fmt: skip
    for bad, error in (({}, IncompatibleCheckpointError), ({**state, "backoff_factor": 2.0}, ValueError)):
        before = other.state_dict()
        with pytest.raises(error, match=r"GradScaler: expected the state|backoff_factor: expected a number between"):
            other.load_state_dict(bad)
        assert other.state_dict() == before
    other.load_state_dict(state)
    back(p, other, 1.0)
    other.step(optimizer)
    other.update()
    assert other.state_dict() == {**state, "scale": 32.0, "_growth_tracker": 0}


def test_a_scaler_that_is_not_enabled_does_nothing():
    (p,) = parameters([1.0])
    optimizer, scaler = optim.SGD([p], lr=1.0), optim.GradScaler(enabled=False)
    back(p, scaler, math.inf)
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()
    equal(p.numpy(), [-math.inf])
    assert (scaler.get_scale(), scaler.state_dict()) == (1.0, {})
    scaler.load_state_dict({"scale": 2.0})


@pytest.mark.parametrize(("name", "value"), [
    ("init_scale", 0.0), ("init_scale", math.inf), ("growth_factor", 1.0), ("backoff_factor", 1.0),
    ("backoff_factor", 0.0), ("growth_interval", 0), ("growth_interval", 1.5),
])  # fmt: skip
def test_settings_that_cannot_be(name, value):
    with pytest.raises(ValueError, match=f"{name.removeprefix('init_')}: expected .* got {value}"):
        optim.GradScaler(**{name: value})


# -- recorded -------------------------------------------------------------------------------------------------------


def test_backward_is_recorded_and_sees_the_scale_change():
    (p,) = parameters([1.0, 2.0])
    optimizer, scaler = optim.SGD([p], lr=0.1), optim.GradScaler(4.0, growth_interval=1)

    @nb.compile
    def slopes(x):
        optimizer.zero_grad()
        loss = scaler.scale((p * x).mean())
        loss.backward()
        return loss

    for n in range(6):
        w = p.numpy().copy()
        loss = slopes(nb.tensor([2.0, 4.0], "float64"))
        close(float(loss), 4.0 * 2**n * (w @ [1.0, 2.0]), 1e-12)
        scaler.step(optimizer)
        scaler.update()
        close(p.numpy(), w - [0.1, 0.2], 1e-12)
    assert slopes.why is None
    assert slopes.recordings < 6


@pytest.mark.parametrize("upto", ["unscale_", "step", "update"])
def test_what_waits_for_a_value_runs_eagerly_and_rightly(upto):
    (p,) = parameters([1.0, 2.0])
    optimizer, scaler = optim.SGD([p], lr=0.1), optim.GradScaler(4.0, growth_interval=2)
    rest = [lambda: scaler.unscale_(optimizer), lambda: scaler.step(optimizer), scaler.update]
    inside = ["unscale_", "step", "update"].index(upto) + 1

    @nb.compile
    def start(x):
        optimizer.zero_grad()
        scaler.scale((p * x).sum()).backward()
        for part in rest[:inside]:
            part()

    for n in range(6):
        with nullcontext() if n else pytest.warns(RecordingWarning, match="runs eagerly"):
            start(nb.tensor([1.0, 2.0], "float64"))
        for part in rest[inside:]:
            part()
    close(p.numpy(), [0.4, 0.8], 1e-12)
    assert scaler.get_scale() == 32.0


# -- float16 --------------------------------------------------------------------------------------------------------


def test_float16_gradients_are_unscaled_in_float32():
    p = nn.Parameter(np.full(2, 1.0, "float16"))
    optimizer, scaler = optim.SGD([p], lr=2.0**20), optim.GradScaler(2.0**14)
    loss = scaler.scale((p * 2.0**-10).sum() * 2.0**-16)  # a slope of 2^-26 would be 0 in float16
    assert loss.dtype == "float32"
    loss.backward()
    scaler.step(optimizer)
    equal(p.grad.numpy(), np.full(2, 2.0**-26, "float32"))
    equal(p.numpy(), np.full(2, 1 - 2.0**-6, "float16"))


def test_steps_below_the_resolution_of_float16_add_up():
    p = nn.Parameter(np.full(2, 1.0, "float16"))
    optimizer, scaler = optim.Adam([p], lr=1e-4), optim.GradScaler(1024.0)
    for _ in range(100):  # each is a fifth of the distance from 1 to the next number below
        back(p, scaler, 1.0)
        scaler.step(optimizer)
        scaler.update()
    close(p.numpy(), 0.99, 0, 2.0**-11)


def digits(dtype, enabled, loss_scale):
    """Accuracy of a small net whose loss is tiny, on images it has not seen."""
    found = data.digits()
    (X, y), (X_test, y_test) = data.split(found.X / 16, found.y, test=0.25, stratify=found.y, seed=0)
    net = nn.MLP([64, 16, 10], "relu").to(dtype).init(0)
    optimizer, scaler = optim.SGD(net.parameters(), lr=0.3 / loss_scale), optim.GradScaler(enabled=enabled)
    for _ in range(5):
        for x, t in data.DataLoader(X.astype(dtype), y, batch_size=64, seed=0):
            optimizer.zero_grad()
            scaler.scale(F.cross_entropy(net(x), t) * loss_scale).backward()
            scaler.step(optimizer)
            scaler.update()
    return float(np.mean(net(nb.tensor(X_test.astype(dtype))).numpy().argmax(1) == y_test))


@pytest.mark.filterwarnings("ignore:.* encountered in:RuntimeWarning")
def test_float16_trains_like_float32_where_the_gradients_are_tiny():
    wide = digits("float32", False, 1e-6)
    assert wide > 0.8
    assert abs(digits("float16", True, 1e-6) - wide) < 0.02
    assert digits("float16", False, 1e-6) < 0.4
