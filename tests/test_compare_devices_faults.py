"""nb.compare_devices: planted faults are named exactly."""

import array_api_strict as strict
import numpy as np
import pytest

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import nn, optim
from nnbackend.cells import Scalar
from nnbackend.tensor import lift

DEVICE1 = strict.Device("device1")
RNG = np.random.default_rng(0)


def on_cpu(x):
    return x.device == "cpu"


# -- layers -----------------------------------------------------------------------------------------------------------


class Off(nn.Linear):
    """Its values differ a little."""

    def forward(self, x):
        y = super().forward(x)
        return y if on_cpu(y) else y * (1 + 1e-4)


def _bent(x):
    return x, (lambda dy: dy if isinstance(dy, np.ndarray) else dy * (1 + 1e-4),)


class Bent(nn.Linear):
    """Its gradients differ, its values do not."""

    def forward(self, x):
        return lift(_bent)(super().forward(x))


class Drifting(nn.BatchNorm1d):
    """Its running variance differs."""

    def forward(self, x):
        y = super().forward(x)
        if not on_cpu(x) and self.training:
            with nb.no_grad():
                self.running_var *= 1.001
        return y


class Dimmed(nn.Dropout):
    """Its mask is the same, its scale is not."""

    def forward(self, input):
        y = super().forward(input)
        return y if on_cpu(y) else y * (1 + 1e-4)


class Late(optim.SGD):
    """Its steps differ."""

    def rule(self, group, w, g, t, **memory):
        super().rule(group, w, g if isinstance(w, np.ndarray) else g * 1.1, t, **memory)


class Loud(nn.Module):
    """Makes much of small differences."""

    def forward(self, x):
        return nb.sin(x * 300)


def deep(suspect):
    """A net with one suspect layer and others that amplify its faults, and data."""
    net = nn.Sequential(
        nn.Linear(5, 8), nn.Tanh(), nn.Sequential(suspect), Loud(), nn.Linear(8, 8), Loud(), nn.Linear(8, 1)
    )
    return net, RNG.standard_normal((16, 5)), RNG.standard_normal((16, 1))


@pytest.mark.parametrize(("devices", "dtype"), [(("cpu", DEVICE1), None), ((DEVICE1, "cpu"), "float64")], ids=str)
@pytest.mark.parametrize(
    ("suspect", "way", "what"),
    [
        (Off(8, 8), "forward", "output"),
        (Dimmed(), "forward", "output"),
        (Bent(8, 8), "backward", "gradient of input"),
        (Drifting(8), "forward", "buffer running_var"),
    ],
    ids=lambda x: type(x).__name__ if isinstance(x, nn.Module) else x,
)
def test_the_faulty_layer_alone_is_named(suspect, way, what, devices, dtype):
    net, X, y = deep(suspect)
    r = nb.compare_devices(net, X, y, devices=devices, dtype=dtype)
    assert not r
    assert (r.first.path, r.first.way, r.first.what) == ("2.0", way, what)
    assert r.first.layer.startswith(type(suspect).__name__)
    assert r.first.share[0] > 5e-5
    assert {row.path for row in r.different} == {"2.0"}


def test_a_faulty_update_is_named():
    net, X, y = deep(nn.Linear(8, 8))
    r = nb.compare_devices(net, X, y, devices=("cpu", DEVICE1), optimizer=Late(lr=0.1))
    assert {row.way for row in r.different} == {"update"}
    assert r.first.what == "updated weight"


def test_a_fault_in_the_loss_is_named():
    r = nb.compare_devices(
        nn.Linear(3, 1), RNG.standard_normal((8, 3)), RNG.standard_normal((8, 1)), devices=("cpu", DEVICE1),
        loss=lambda output, target: F.mse_loss(output if on_cpu(output) else output * 1.01, target),
    )  # fmt: skip
    assert {row.path for row in r.different} == {"loss"}


class Mixed(nn.Module):
    """A layer of layers whose own work may differ: before, between and behind its layers, or on the way back."""

    def __init__(self, where):
        self.a, self.b, self.where = nn.Linear(4, 4), nn.Linear(4, 1), where

    def forward(self, x):
        def off(where, x):
            return x if where != self.where or on_cpu(x) else x * 1.001

        y = off("between", F.relu(self.a(off("before", x) * 2.0)))
        return off("behind", self.b(lift(_bent)(y) if self.where == "back" else y))


@pytest.mark.parametrize(
    ("where", "what"),
    [
        ("before", "input of a"),
        ("between", "input of b"),
        ("behind", "output"),
        ("back", "gradient of output of a"),
    ],
)
def test_a_layer_of_layers_answers_for_its_own_work(where, what):
    net = nn.Sequential(nn.Linear(4, 4), Mixed(where))
    r = nb.compare_devices(net, RNG.standard_normal((8, 4)), RNG.standard_normal((8, 1)), devices=("cpu", DEVICE1))
    assert {row.path for row in r.different} == {"1"}
    assert r.first.what.replace("1.", "") == what


def test_the_call_of_a_shared_layer_is_named():
    class Twice(nn.Module):
        def __init__(self):
            self.inner = Second(4, 4)

        def forward(self, x):
            return self.inner(F.tanh(self.inner(x)))

    class Second(nn.Linear):
        def forward(self, x):
            y = super().forward(x)
            return y if on_cpu(y) else nb.where(x > 1.5, y * 1.01, y)  # only inputs that are not squashed

    r = nb.compare_devices(Twice(), 2.0 + RNG.random((8, 4)), RNG.standard_normal((8, 4)), devices=("cpu", DEVICE1))
    assert {(row.path, row.call, row.calls) for row in r.different} == {("inner", 1, 2)}
    assert "inner: Second(4, 4), call 1 of 2, output" in str(r)


def test_calls_that_depend_on_the_device():
    class Forked(nn.Module):
        def __init__(self):
            self.a, self.b = nn.Linear(3, 1), nn.Linear(3, 1)

        def forward(self, x):
            return (self.a if on_cpu(x) else self.b)(x)

    r = nb.compare_devices(
        nn.Sequential(nn.Tanh(), Forked()), RNG.random((4, 3)), RNG.random((4, 1)), devices=("cpu", DEVICE1)
    )
    assert (r.first.path, r.first.difference) == ("1", np.inf)
    assert "missing" in str(r.first)


class Hiding(nn.Module):
    """A fault that is easily missed."""

    def __init__(self, kind):
        self.kind, self.calls = kind, Scalar(0)

    def forward(self, x):
        other = not on_cpu(x)
        if self.kind == "tiny":
            return x * (1 + 1e-9 * other), None
        if self.kind == "another layer in the other width":
            return x * (1 + 1e-2 * other) * (2 if x.dtype == "float64" else 1), None
        if self.kind == "dtype":
            return x, nb.argmax(x, axis=1).astype("int32" if other else "int64")
        self.calls.value += 1
        return x * (1 + 1e-2 * (other and self.calls.value == 1)), None


@pytest.mark.parametrize(
    ("kind", "dtype", "what"),
    [
        ("tiny", "float64", "output"),
        ("another layer in the other width", "float32", "output"),
        ("dtype", "float32", "output 1"),
        ("first call", "float32", "output"),
    ],
)
def test_hidden_faults(kind, dtype, what):
    net, X, y = nn.Sequential(nn.Linear(4, 3), Hiding(kind)), RNG.random((8, 4)), RNG.random((8, 3))
    r = nb.compare_devices(net, X, y, lambda out, y: F.mse_loss(out[0], y), ("cpu", DEVICE1), dtype=dtype)
    assert (r.first.path, r.first.what) == ("1", what)


class Rooted(nn.Module):
    """NaN for some inputs, on one device or on both."""

    def __init__(self, everywhere):
        self.everywhere = everywhere

    def forward(self, x):
        return nb.sqrt(x) if self.everywhere or not on_cpu(x) else nb.sqrt(nb.abs(x))


def test_nan():
    X, y = RNG.standard_normal((8, 4)), RNG.standard_normal((8, 4))
    net = nn.Sequential(nn.Linear(4, 4), Rooted(True), nn.Linear(4, 4))
    r = nb.compare_devices(net, X, y, devices=("cpu", DEVICE1))
    assert r
    assert np.isnan(r.losses).all()
    net = nn.Sequential(nn.Linear(4, 4), Rooted(False), nn.Linear(4, 4))
    r = nb.compare_devices(net, X, y, devices=("cpu", DEVICE1))
    assert (r.first.path, r.first.what, r.first.difference) == ("1", "output", np.inf)


# -- the page ---------------------------------------------------------------------------------------------------------


def test_the_page():
    net, X, y = deep(Off(8, 8))
    page = str(nb.compare_devices(net, X, y, devices=("cpu", DEVICE1))).splitlines()
    assert page[0].split() == ["layer", "forward", "backward", "update"]
    assert [line.partition(":")[0] for line in page[2:10]] == ["0", "1", "2.0", "3", "4", "5", "6", "loss"]
    assert page[4].split()[:5] == ["2.0:", "Off(8,", "8)", "1.0e-04", ">"]
    assert page[4].count("!") == 2
    assert page[11].startswith("loss of the whole step: ")
    assert "on array_api_strict:device1" in page[11]
    assert page[12].startswith("cpu and array_api_strict:device1 differ first in 2.0: Off(8, 8), output: 1.0e-04 of")
    assert [line[:22] for line in page[13:]] == ["  then in 2.0: Off(8, "] * 3
    assert max(map(len, page)) < 160
