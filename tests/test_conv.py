"""Convolutions: what the tables cannot say."""

import numpy as np
import pytest

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import nn
from nnbackend.backend import NUMPY, PRIMITIVES, numpy_conv
from nnbackend.io.source import to_source


def random(*shape, dtype="float64"):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(dtype)


# -- the fast versions ------------------------------------------------------------------------------------------------

# Shapes of x and w, stride, padding, dilation, groups: many places and few, channels or places last, several slabs.
GEOMETRIES = [
    ((5, 1, 17, 16), (3, 1, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
    ((3, 16, 15, 13), (8, 16, 3, 3), (1, 1), ((1, 2), (0, 1)), (1, 1), 1),
    ((2, 300, 33, 9), (2, 300, 5, 5), (1, 1), ((2, 2), (2, 2)), (1, 1), 1),
    ((4, 6, 27, 28), (8, 3, 3, 2), (2, 1), ((0, 1), (3, 1)), (1, 3), 2),
    ((7, 8, 4, 4), (8, 1, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 8),
    ((9, 12, 5, 4), (6, 12, 2, 3), (3, 2), ((1, 0), (2, 2)), (2, 1), 1),
    ((3, 4, 40), (6, 4, 5), (1,), ((6, 0),), (2,), 1),
    ((2, 3, 7, 8, 9), (4, 3, 2, 3, 2), (1, 2, 1), ((1, 1), (0, 0), (1, 0)), (1, 1, 2), 1),
]


@pytest.fixture(params=[1, 2])
def threads(request):
    before = nb.num_threads()
    nb.set_num_threads(request.param)
    yield request.param
    assert nb.num_threads() == request.param
    nb.set_num_threads(before)


@pytest.mark.parametrize(("x", "w", "stride", "padding", "dilation", "groups"), GEOMETRIES)
def test_overrides_agree_with_the_specification(monkeypatch, threads, x, w, stride, padding, dilation, groups):
    monkeypatch.setattr(numpy_conv, "BYTES", 1 << 17)
    x, w, how = random(*x), random(*w), (stride, padding, dilation, groups)

    def results():
        y = PRIMITIVES["conv"](x, w, *how)
        dy = random(*y.shape)
        dx = PRIMITIVES["conv_transpose"](dy, w, x.shape[2:], *how)
        return y, dx, PRIMITIVES["conv_weight"](dy, x, w.shape[2:], *how)

    got = results()
    monkeypatch.setattr(NUMPY, "overrides", {})
    for g, want in zip(got, results(), strict=True):
        np.testing.assert_allclose(g, want, 1e-10, 1e-10)


def test_a_compiled_step_does_the_same():
    net = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.ConvTranspose2d(4, 3, 2, stride=2)).init(0)
    x = nb.tensor(random(3, 2, 6, 5, dtype="float32"))

    def step(x):
        net.zero_grad()
        loss = nb.mean(nb.square(net(x)))
        loss.backward()
        return loss

    compiled = nb.compile(step)
    want = step(x).item(), [p.grad.numpy().copy() for p in net.parameters()]
    for _ in range(4):
        got = compiled(x).item(), [p.grad.numpy().copy() for p in net.parameters()]
    assert got[0] == want[0]
    for g, w in zip(got[1], want[1], strict=True):
        np.testing.assert_array_equal(g, w)


def test_a_script_gives_the_same_to_rounding():
    x = nb.tensor(random(2, 4, 5, 6))
    w, v = nb.tensor(random(6, 2, 2, 3)), nb.tensor(random(6, 2, 2, 2))
    w.requires_grad = v.requires_grad = True

    def step(x):
        y = F.conv_transpose2d(F.conv2d(x, w, stride=(1, 2), padding=1, groups=2), v, dilation=2, groups=3)
        columns = F.unfold(y, 2, stride=2)
        back = F.fold(columns, y.shape[2:], 2, stride=2)
        return nb.sum(back * back).detach()

    names = {}
    exec(compile(to_source(step, (x,)), "script", "exec"), names)
    np.testing.assert_allclose(names["step"](x.numpy()), step(x).numpy(), 1e-10)


# -- layers ----------------------------------------------------------------------------------------------------------


def test_the_size_asked_for():
    layer = nn.ConvTranspose2d(2, 3, 3, stride=2, padding=1)
    x = nb.tensor(random(2, 2, 4, 5, dtype="float32"))
    assert layer(x).shape == (2, 3, 7, 9)
    assert layer(x, output_size=(8, 9)).shape == layer(x, output_size=(2, 3, 8, 9)).shape == (2, 3, 8, 9)
    with pytest.raises(ValueError, match=r"expected output_size from \(7, 9\) to \(8, 10\), got \(9, 9\)"):
        layer(x, output_size=(9, 9))


def test_the_line_of_a_layer():
    assert repr(nn.Conv2d(3, 4, 3, padding=1)) == "Conv2d(3, 4, (3, 3), padding=(1, 1))"
    assert repr(nn.ConvTranspose1d(3, 4, 2, bias=False)) == "ConvTranspose1d(3, 4, (2,), bias=False)"


def test_the_start_is_pytorchs():
    layer = nn.Conv2d(8, 64, 3, groups=2).init(seed=0)
    bound = 1 / 6  # 4 channels of 9 weights
    for p in layer.parameters():
        assert 0.9 * bound < np.abs(p.numpy()).max() <= bound


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Conv2d(3, 4, 3, groups=0), "groups >= 1"),
        (lambda: nn.Conv2d(3, 4, 3, groups=2), "expected channels that groups >= 1 divides, got 3 in and 4 out"),
        (lambda: nn.Conv2d(4, 3, 3, groups=2), "got 4 in and 3 out"),
        (lambda: nn.Conv2d(3, 4, 3, padding="some"), 'padding as numbers, "same" or "valid"'),
        (lambda: nn.Conv2d(3, 4, 3, padding="same", stride=2), 'stride 1 with padding="same"'),
        (lambda: nn.Conv2d(3, 4, 3, padding_mode="mirror"), "padding_mode"),
        (lambda: nn.ConvTranspose2d(3, 4, 3, padding_mode="reflect"), "padding_mode"),
        (lambda: nn.Conv2d(3, 4, (3, 3, 3)), "kernel_size of 1 or more, one number or 2"),
        (lambda: nn.Conv2d(3, 4, 3, stride=0), "stride of 1 or more"),
        (lambda: nn.Unfold(0), "kernel_size of 1 or more"),
        (lambda: F.conv2d(nb.ones((2, 3, 4, 4)), nb.ones((2, 3, 3, 3)), padding=-1), "padding of 0 or more"),
        (lambda: F.conv2d(nb.ones((2, 3, 4, 4)), nb.ones((2, 3, 3, 3)), dilation=-1), "dilation of 1 or more"),
        (lambda: F.conv1d(nb.ones((1, 1, 4)), nb.ones((1, 2))), "weight of 3 axes"),
        (lambda: F.conv1d(nb.ones((2, 2, 4)), nb.ones((2, 2, 2)), groups=3), "groups 3 dividing axis 0"),
        (lambda: F.conv1d(nb.ones((2, 2, 4)), nb.ones((2, 2, 2)), groups=-1), "groups >= 1"),
        (lambda: F.conv2d(nb.ones((2, 4, 5, 5)), nb.ones((2, 3, 3, 3))), r"input \(n, 3, h, w\) or \(3, h, w\), got"),
        (lambda: F.conv2d(nb.ones((2, 3, 2, 2)), nb.ones((2, 3, 3, 3))), r"room for a window of \(3, 3\)"),
        (lambda: F.conv2d(nb.ones((2, 3, 4, 4)), nb.ones((2, 3, 3, 3)), nb.ones((3,))), r"bias \(2,\), got \(3,\)"),
        (lambda: F.conv_transpose1d(nb.ones((2, 3, 4)), nb.ones((3, 2, 2)), output_padding=1), "output_padding below"),
        (lambda: F.conv_transpose1d(nb.ones((2, 3, 1)), nb.ones((3, 2, 1)), padding=1), "at least 1 output"),
        (lambda: F.unfold(nb.ones((4, 4)), 2), r"expected input \(n, c, h, w\)"),
        (lambda: F.fold(nb.ones((2, 8, 5)), (3, 4), 2), r"expected input \(n, c \* 4, 6\)"),
    ],
)  # fmt: skip
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_seed_from_outside_the_step_is_recorded():
    """A plain array met the handles of the recording in a primitive."""
    layer, seed = nn.Conv2d(3, 4, 3, dtype="float64").init(0), nb.tensor(random(2, 4, 3, 3))

    def step(x):
        layer.zero_grad()
        layer(x).backward(seed)
        return layer.weight.grad

    fast, x = nb.compile(step, fallback=False), nb.tensor(random(2, 3, 5, 5))
    for _ in range(3):
        np.testing.assert_allclose(fast(x).numpy(), step(x).numpy(), rtol=1e-12, atol=1e-12)
