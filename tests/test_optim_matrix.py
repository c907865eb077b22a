"""Rules for whole matrices: what Adafactor and Muon do, beside PyTorch's numbers, which test_optim.py compares."""

import copy
from typing import Any

import numpy as np
import pytest
from frozen import PLACES

import nnbackend as nb
from nnbackend import nn, optim
from nnbackend.optim.matrix import _bfloat16, orthogonal

SHAPES = {"Adafactor": [(3, 4), (5,), (), (2, 3, 2)], "Muon": [(3, 4), (5, 2), (4, 4)]}
close = np.testing.assert_allclose
equal = np.testing.assert_array_equal


class Walk:
    """An optimizer that is given random gradients."""

    def __init__(
        self, name: str, place: Any = "cpu", dtype: str = "float64", recorded: bool = False, **kw: Any
    ) -> None:
        self.rng, shapes = np.random.default_rng(0), SHAPES[name]
        start = [nb.tensor(self.rng.standard_normal(s).astype(dtype), device=place) for s in shapes]
        self.params = [nn.Parameter(x) for x in start]
        self.optimizer = getattr(optim, name)(self.params, **kw)
        self.update = nb.compile(self._update) if recorded else self._update

    def _update(self, *grads: Any) -> None:
        for p, g in zip(self.params, grads, strict=True):
            p.grad = g
        self.optimizer.step()

    def step(self) -> None:
        grads = [self.rng.standard_normal(p.shape).astype(str(p.dtype)) for p in self.params]
        self.update(*(nb.tensor(g, device=p.device) for g, p in zip(grads, self.params, strict=True)))

    def weights(self) -> Any:
        return np.concatenate([p.numpy().ravel() for p in self.params])


NAMES = pytest.mark.parametrize("name", SHAPES)


# -- both -----------------------------------------------------------------------------------------------------------


@NAMES
@pytest.mark.parametrize("place", PLACES, ids=str)
def test_dtype_and_device_stay_and_nothing_is_read(name, place):
    results = {}
    for dtype in ("float32", "float64"):
        walk = Walk(name, place, dtype, weight_decay=0.1)
        for _ in range(3):
            with nb.testing.no_synchronization():
                walk.step()
        arrays = [a for s in walk.optimizer.state_dict()["state"].values() for a in s.values() if hasattr(a, "dtype")]
        assert {str(a.dtype) for a in [*walk.params, *arrays]} == {dtype}
        assert {a.device for a in [*walk.params, *arrays]} == {walk.params[0].device}
        results[dtype] = walk.weights()
    close(results["float32"], results["float64"], rtol=0, atol=1e-4)


@NAMES
def test_half_precision_weights_move_by_less_than_they_can_hold(name):
    w = nn.Parameter(nb.ones((2, 2), dtype="float16"))
    optimizer = getattr(optim, name)([w], lr=1e-4, weight_decay=0.0)
    for _ in range(20):
        w.grad = nb.ones((2, 2), dtype="float16")
        optimizer.step()
    assert str(w.dtype) == "float16"
    assert 4e-4 < 1 - float(w[0, 0]) < 2.5e-3


@NAMES
@pytest.mark.parametrize("settings", [{}, {"weight_decay": 0.3, "lr": 0.2}], ids=str)
def test_recorded_steps_equal_eager_ones(name, settings):
    eager, recorded = Walk(name, **settings), Walk(name, recorded=True, **settings)
    for step in range(12):
        for walk in (eager, recorded):
            if step >= 6:
                walk.optimizer.param_groups[0]["lr"] = 0.01 / step
            walk.step()
        close(recorded.weights(), eager.weights(), rtol=1e-12)
    assert recorded.update.recordings <= 3  # before there are gradients, before there is memory, and then


@NAMES
@pytest.mark.parametrize("saved", range(4))
def test_saved_at_any_step_it_goes_on_bit_equal(name, saved):
    settings = {"lr": 0.1, "weight_decay": 0.2}
    walk, other = Walk(name, **settings), Walk(name)
    for _ in range(saved):
        walk.step()
    state = walk.optimizer.state_dict()
    for p, q in zip(walk.params, other.params, strict=True):
        q.assign(p)
    other.optimizer.load_state_dict(state)
    other.rng = copy.deepcopy(walk.rng)
    for _ in range(3):
        walk.step()
        other.step()
        equal(walk.weights(), other.weights())


@NAMES
def test_no_gradient_no_step_and_a_gradient_of_zero_harms_nothing(name):
    a, b = (nn.Parameter(nb.ones((2, 3), dtype="float64")) for _ in range(2))
    optimizer = getattr(optim, name)([a, b], weight_decay=0.0)
    a.grad = nb.zeros((2, 3), dtype="float64")
    with pytest.warns(UserWarning, match="no gradient for"):
        optimizer.step()
    equal(a.numpy(), np.ones((2, 3)))
    equal(b.numpy(), np.ones((2, 3)))
    assert list(optimizer.state_dict()["state"]) == [0]


# -- Adafactor ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_adafactor_solves_a_parabola(place):
    w = nn.Parameter(nb.tensor(np.array([[3.0, -2.0], [1.0, 5.0]]), device=place))
    optimizer = optim.Adafactor([w], lr=0.1)
    for step in range(300):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / 300)
        optimizer.zero_grad()
        ((w - 1) ** 2).sum().backward()
        optimizer.step()
    close(w.numpy(), np.ones((2, 2)), atol=1e-3)


def test_adafactor_solves_rosenbrock():
    w = nn.Parameter(nb.tensor(np.array([-1.2, 1.0])))
    optimizer = optim.Adafactor([w], lr=0.02, eps=(None, 1.0))  # on the way it passes 0, where relative steps are small
    for step in range(3000):
        optimizer.param_groups[0]["lr"] = 0.02 * (1 - step / 3000)
        x, y = w.numpy()
        w.grad = nb.tensor(np.array([-2 * (1 - x) - 400 * x * (y - x * x), 200 * (y - x * x)]))
        optimizer.step()
    close(w.numpy(), [1, 1], atol=0.05)


def test_adafactor_remembers_rows_and_columns_only():
    walk = Walk("Adafactor")
    walk.step()
    state = walk.optimizer.state_dict()["state"]
    shapes = [{k: tuple(v.shape) for k, v in state[i].items() if k != "step"} for i in range(4)]
    assert shapes == [
        {"row_var": (3, 1), "col_var": (1, 4)},
        {"variance": (5,)},
        {"variance": ()},
        {"row_var": (2, 3, 1), "col_var": (2, 1, 2)},
    ]
    assert [state[i]["step"] for i in range(4)] == [1] * 4
    with pytest.raises(ValueError, match=r"parameter 1 .*row_var \(3, 1\)"):
        walk.optimizer.load_state_dict({**walk.optimizer.state_dict(), "state": {1: state[0]}})


def test_adafactors_first_step_is_the_sign_for_a_product_of_rows_and_columns():
    g = np.outer([1.0, -2.0, 3.0], [4.0, 0.5])
    w = nn.Parameter(nb.tensor(np.full((3, 2), 5.0)))
    w.grad = nb.tensor(g)
    optim.Adafactor([w], lr=0.01).step()
    close(w.numpy(), 5.0 - 0.01 * 5.0 * np.sign(g))  # lr relative to the size of the weights


# -- Muon -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_muon_solves_least_squares(place):
    rng = np.random.default_rng(0)
    x, target = rng.standard_normal((32, 4)), rng.standard_normal((4, 3))
    inputs, outputs = (nb.tensor(a, device=place) for a in (x, x @ target))
    w = nn.Parameter(nb.zeros((4, 3), dtype="float64", device=place))
    optimizer = optim.Muon([w], lr=0.2, weight_decay=0.0)
    for step in range(120):
        optimizer.param_groups[0]["lr"] = 0.2 * (1 - step / 120)
        optimizer.zero_grad()
        ((inputs @ w - outputs) ** 2).mean().backward()
        optimizer.step()
    close(w.numpy(), target, atol=0.02)


def test_muon_solves_rosenbrock_of_matrices():
    w = nn.Parameter(nb.tensor(np.array([[-1.2, 0.5], [1.0, 0.5]])))  # two functions, one in each column
    optimizer = optim.Muon([w], lr=0.02, weight_decay=0.0, momentum=0.9)
    for step in range(800):
        optimizer.param_groups[0]["lr"] = 0.02 * (1 - step / 800)
        optimizer.zero_grad()
        ((1 - w[0]) ** 2 + 100 * (w[1] - w[0] ** 2) ** 2).sum().backward()
        optimizer.step()
    close(w.numpy(), np.ones((2, 2)), atol=0.02)


@pytest.mark.parametrize("shape", [(3, 3), (6, 2), (2, 6), (1, 5)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_orthogonal_moves_singular_values_to_about_one(shape, dtype):
    g = np.random.default_rng(1).standard_normal(shape)
    u, _, v = np.linalg.svd(g, full_matrices=False)
    o = orthogonal(g.astype(dtype), (3.4445, -4.775, 2.0315), 1e-7, 5)
    assert o.dtype == dtype
    inside = u.T @ o @ v.T
    assert np.all((np.diag(inside) > 0.6) & (np.diag(inside) < 1.3))
    close(inside, np.diag(np.diag(inside)), atol=0.05)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rounding_is_that_of_bfloat16(dtype):
    bits = np.concatenate([
        np.random.default_rng(0).integers(0, 2**32, 50000, dtype="uint32"),
        np.arange(2**16, dtype="uint32") * 2**16 + 2**15,  # halfway
        np.arange(2**16, dtype="uint32") * 2**16 + 2**15 + 1,
        np.arange(2**16, dtype="uint32") * 2**16 + 2**15 - 1,
    ])  # fmt: skip
    x = bits.view("float32")
    with np.errstate(invalid="ignore"):
        x = x[(abs(x) > 1e-37) & (abs(x) < 1e33)]
    bits = x.view("uint32")
    rounded = ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).astype("uint32").view("float32")
    assert len(x) > 200000
    equal(_bfloat16(x.astype(dtype)), rounded.astype(dtype))


@pytest.mark.parametrize(
    ("how", "shape", "ratio"),
    [
        (None, (8, 2), 2.0),
        ("original", (2, 8), 1.0),
        ("match_rms_adamw", (2, 9), 0.6),
        ("match_rms_adamw", (9, 2), 0.6),
    ],
)
def test_lr_grows_with_the_shape(how, shape, ratio):
    g = np.random.default_rng(0).standard_normal(shape)
    w = nn.Parameter(nb.zeros(shape, dtype="float64"))
    w.grad = nb.tensor(g)
    optim.Muon([w], lr=0.5, adjust_lr_fn=how).step()
    close(w.numpy(), -0.5 * ratio * orthogonal(g, (3.4445, -4.775, 2.0315), 1e-7, 5), atol=0.02)


# -- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("Adafactor", {"eps": (-1e-30, 1e-3)}, r"eps: expected a number >= 0 or None, and .*-1e-30"),
        ("Adafactor", {"eps": (None, -1.0)}, "eps: expected"),
        ("Adafactor", {"eps": 1e-3}, "eps: expected"),
        ("Adafactor", {"d": 0.0}, "d: expected a finite number >= 1, got 0.0"),
        ("Adafactor", {"beta2_decay": 0.8}, "beta2_decay: expected a number <= 0, got 0.8"),
        ("Adafactor", {"lr": -1.0}, "lr: expected"),
        ("Muon", {"ns_steps": 100}, "ns_steps: expected a whole number from 0 to 99, got 100"),
        ("Muon", {"ns_steps": 2.5}, "ns_steps"),
        ("Muon", {"ns_coefficients": (1.0, 2.0)}, "ns_coefficients: expected three numbers"),
        ("Muon", {"adjust_lr_fn": "arbitrary"}, 'adjust_lr_fn: expected none, "original" or .*arbitrary'),
        ("Muon", {"momentum": -0.1}, "momentum: expected"),
    ],
)
def test_bad_settings(name, settings, message):
    with pytest.raises(ValueError, match=message):
        getattr(optim, name)([nn.Parameter(nb.ones((2, 2)))], **settings)
    with pytest.raises(ValueError, match=message):
        getattr(optim, name)(**settings)


def test_muon_is_for_matrices():
    net = nn.Linear(2, 3)
    with pytest.raises(ValueError, match=r"Muon: expected 2-D parameters, got bias of shape \(3,\).* AdamW"):
        optim.Muon(net.parameters())
    optimizer = optim.Muon([net.weight])
    with pytest.raises(ValueError, match=r"number 0 of shape \(2, 3, 4\)"):
        optimizer.add_param_group({"params": nn.Parameter(nb.ones((2, 3, 4)))})
    assert len(optimizer.param_groups) == 1
