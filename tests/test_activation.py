"""Activations at their kinks and far out, what they refuse, and random ones: dropout of channels, RReLU, Gumbel."""

import math

import numpy as np
import pytest
from frozen import DEVICE1, PLACES

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import nn
from nnbackend.errors import DTypeError, ShapeError
from nnbackend.random import generator, key_of, site_of

close = np.testing.assert_allclose
equal = np.testing.assert_array_equal
nan, inf = math.nan, math.inf
SELU = 1.7580993408473766


def slopes(f, values):
    x = nb.tensor(values, dtype="float64", requires_grad=True)
    y = f(x)
    y.sum().backward()
    return y.tolist(), x.grad.tolist()


# Measured on torch 2.13.
@pytest.mark.parametrize(
    ("name", "at", "values", "gradients"),
    [
        ("relu", [0.0], [0.0], [0.0]), ("leaky_relu", [0.0], [0.0], [0.01]), ("elu", [0.0], [0.0], [1.0]),
        ("selu", [0.0], [0.0], [SELU]), ("celu", [0.0], [0.0], [1.0]), ("relu6", [0.0, 6.0], [0.0, 6.0], [0.0, 0.0]),
        ("hardtanh", [-1.0, 1.0], [-1.0, 1.0], [0.0, 0.0]), ("hardsigmoid", [-3.0, 3.0], [0.0, 1.0], [0.0, 0.0]),
        ("hardswish", [-3.0, 3.0], [0.0, 3.0], [0.0, 1.0]), ("hardshrink", [-0.5, 0.5], [0.0, 0.0], [0.0, 0.0]),
        ("softshrink", [-0.5, 0.5], [0.0, 0.0], [0.0, 0.0]), ("softsign", [0.0], [0.0], [1.0]),
        ("rrelu", [0.0], [0.0], [11 / 48]), ("softplus", [20.1], [20.1], [1.0]),
    ],
)  # fmt: skip
def test_kinks(name, at, values, gradients):
    got = slopes(getattr(F, name), at)
    close(got[0], values, 1e-15)
    close(got[1], gradients, 1e-15)


def test_kinks_with_settings():
    assert slopes(lambda x: F.threshold(x, 1.0, 5.0), [1.0, nan])[1] == [0.0, 1.0]
    assert slopes(lambda x: F.prelu(x, nb.tensor([0.25], dtype="float64")), [0.0]) == ([0.0], [0.25])
    assert slopes(lambda x: F.elu(x, 2.0), [0.0])[1] == [2.0]
    for f in (F.relu, F.relu6, F.hardtanh, F.hardsigmoid, F.hardswish, F.hardshrink, F.softshrink, F.mish, F.selu):
        assert math.isnan(f(nb.tensor([nan]))[0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "name",
    ["sigmoid", "logsigmoid", "silu", "mish", "gelu", "softplus", "softsign", "tanhshrink", "elu", "selu", "celu"],
)
def test_far_out_nothing_overflows(name, dtype):
    x = nb.tensor([-1e4, -200.0, -30.0, 30.0, 200.0, 1e4], dtype=dtype, requires_grad=True)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        y = getattr(F, name)(x)
        y.sum().backward()
    assert np.isfinite(y.numpy()).all()
    assert np.isfinite(x.grad.numpy()).all()
    if name in ("silu", "mish", "gelu", "softplus"):
        close(y.numpy()[3:], x.numpy()[3:], 1e-7)
        close(x.grad.numpy()[3:], 1.0, 1e-6)


def test_a_setting_that_does_nothing_and_settings_that_are_printed():
    x = nb.tensor([-1.0, 2.0])
    for name in ("relu", "relu6", "elu", "selu", "celu", "silu", "mish", "hardswish", "hardsigmoid", "leaky_relu"):
        equal(getattr(F, name)(x, inplace=True).numpy(), getattr(F, name)(x).numpy())
    equal(x.numpy(), [-1.0, 2.0])
    assert repr(nn.Threshold(0.1, 20)) == "Threshold(0.1, 20)"
    assert repr(nn.Hardtanh(-2.0)) == "Hardtanh(min_val=-2.0)"
    assert repr(nn.PReLU(3)) == "PReLU(num_parameters=3)"
    assert list(nn.PReLU(3).state_dict()) == ["weight"]
    equal(nn.PReLU(2, init=0.5).init(3).weight.numpy(), [0.5, 0.5])
    for name in nn.activation.__globals__["ACTIVATIONS"]:
        assert nn.activation(name)(nb.ones((2, 3))).shape == (2, 3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nn.Hardtanh(1.0, 1.0), ValueError, "Hardtanh: expected min_val < max_val"),
        (lambda: F.hardtanh(nb.ones(2), 1.0, 0.0), ValueError, "hardtanh: expected min_val <= max_val"),
        (lambda: F.softshrink(nb.ones(2), -1.0), ValueError, "softshrink: expected lambd >= 0, got -1.0"),
        (lambda: F.celu(nb.ones(2), 0.0), ValueError, "celu: expected alpha other than 0"),
        (lambda: F.rrelu(nb.ones(2), 0.5, 0.2), ValueError, "rrelu: expected lower <= upper"),
        (lambda: F.glu(nb.ones((2, 3))), ShapeError, r"glu: expected an even length along axis -1, got shape \(2, 3\)"),
        (lambda: F.prelu(nb.ones((2, 3)), nb.ones(2)), ShapeError, "one for each of 3 channels, got 2"),
        (lambda: F.prelu(nb.ones((2, 3)), nb.ones((1, 3))), ShapeError, "a weight of one axis"),
        (
            lambda: nn.Softmax2d()(nb.ones((2, 3))),
            ShapeError,
            r"Softmax2d\(\): Softmax2d: expected input \(n, c, h, w\)",
        ),
        (lambda: F.dropout1d(nb.ones(3)), ShapeError, r"dropout1d: expected input of 2 or 3 axes, got \(3,\)"),
        (lambda: F.dropout2d(nb.ones((3, 2))), ShapeError, "dropout2d: expected input of 3 or 4 axes"),
        (lambda: F.dropout3d(nb.ones((3, 2))), ShapeError, "dropout3d: expected input of 4 or 5 axes"),
        (lambda: F.feature_alpha_dropout(nb.ones(3)), ShapeError, r"expected input \(n, c, ...\), got \(3,\)"),
        (lambda: nn.Dropout2d(1.5), ValueError, "Dropout2d: expected a probability from 0 to 1, got 1.5"),
        (lambda: F.rrelu(nb.tensor([1]), training=True), DTypeError, "rrelu: expected a floating dtype, got int64"),
    ],
)
def test_what_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


# -- random ones ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", PLACES, ids=str)
@pytest.mark.parametrize(
    ("name", "shape", "drawn"),
    [
        ("Dropout1d", (3, 4, 5), (3, 4, 1)), ("Dropout1d", (4, 5), (4, 1)), ("Dropout2d", (3, 4, 2, 5), (3, 4, 1, 1)),
        ("Dropout2d", (3, 4, 5), (3, 4, 1)), ("Dropout3d", (3, 4, 2, 5, 2), (3, 4, 1, 1, 1)),
        ("Dropout3d", (4, 2, 5, 2), (4, 1, 1, 1)), ("Dropout3d", (0, 4, 2, 5, 2), (0, 4, 1, 1, 1)),
    ],
)  # fmt: skip
def test_whole_channels_are_dropped_at_an_address(name, shape, drawn, place):
    net = nn.Sequential(getattr(nn, name)(0.3)).init(5)
    x = nb.ones(shape, device=place).requires_grad_()
    for n in range(2):
        with nb.testing.no_synchronization():
            y = net(x)
        keep = generator(key_of(5), site_of("0"), n).random(drawn, np.float32) >= 0.3
        close(y.numpy(), np.broadcast_to(keep / 0.7, shape), 1e-6)
    y.sum().backward()
    equal(x.grad.numpy(), y.numpy())
    assert net.eval()(x) is x


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_alpha_dropout_keeps_mean_and_variance(place):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 50, 8))
    for f, drawn in ((F.alpha_dropout, x.shape), (F.feature_alpha_dropout, (400, 50, 1))):
        y = f(nb.tensor(x, device=place), 0.3, True, key=7, site=2, step=3).numpy()
        kept = generator(7, 2, 3).random(drawn) >= 0.3
        low = y[~np.broadcast_to(kept, x.shape)]
        close(low, low[0], 1e-12)
        assert abs(y.mean()) < 0.03
        assert abs(y.var() - 1.0) < 0.03
        assert f(x, 0.3) is x  # not in training, unless one says so
    assert np.unique(F.alpha_dropout(nb.ones((5, 2)), 1.0, True).numpy()).tolist() == [0.0]


def test_rrelu_draws_its_slopes():
    x = nb.tensor(-np.ones((200, 50)), requires_grad=True)
    layer = nn.RReLU(0.2, 0.6).init(3)
    y = layer(x)
    close(-y.numpy(), 0.2 + 0.4 * generator(key_of(3), site_of(""), 0).random((200, 50)), 1e-12)
    y.sum().backward()
    close(x.grad.numpy(), -y.numpy(), 1e-12)
    assert layer.calls.value == 1
    equal(layer.eval()(x).numpy(), np.full((200, 50), -0.4))


def test_gumbel_softmax():
    logits = nb.tensor(np.log([[0.1, 0.2, 0.7]] * 4000), requires_grad=True)
    soft = F.gumbel_softmax(logits, tau=0.5, key=1, site=2, step=3)
    close(soft.sum(-1).numpy(), 1.0, 1e-12)
    equal(soft.numpy(), F.gumbel_softmax(logits, tau=0.5, key=1, site=2, step=3).numpy())
    hard = F.gumbel_softmax(logits, tau=0.5, hard=True, key=1, site=2, step=3)
    close(np.sort(hard.numpy(), axis=-1), [[0.0, 0.0, 1.0]] * 4000, 0, 1e-12)
    equal(hard.argmax(-1).numpy(), soft.argmax(-1).numpy())
    close(hard.numpy().mean(0), [0.1, 0.2, 0.7], 0, 0.03)
    weights = nb.tensor(np.random.default_rng(0).standard_normal((4000, 3)))
    (soft * weights).sum().backward()
    want, logits.grad = logits.grad.numpy(), None
    (hard * weights).sum().backward()
    close(logits.grad.numpy(), want, 1e-12)
    assert F.gumbel_softmax(logits.T, dim=0, hard=True).sum(0).shape == (4000,)
    with nb.testing.no_synchronization():
        F.gumbel_softmax(nb.ones((3, 4), device=DEVICE1), hard=True)


def test_random_layers_in_a_recorded_step():
    kinds = (nn.Dropout2d(0.3), nn.AlphaDropout(0.2), nn.FeatureAlphaDropout(0.4), nn.RReLU())
    eager, recorded = (nn.Sequential(*kinds).init(4) for kinds in (kinds, [type(k)(*vars_of(k)) for k in kinds]))
    run = nb.compile(lambda x: recorded(x))
    for n in range(4):
        x = nb.tensor(np.random.default_rng(n).standard_normal((3, 4, 5)))
        equal(run(x).numpy(), eager(x).numpy())
    assert run.why is None


def vars_of(layer):
    return (layer.lower, layer.upper) if isinstance(layer, nn.RReLU) else (layer.p,)
