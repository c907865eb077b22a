"""Every element-wise optimizer: it solves things, keeps dtypes, goes on from its state, and is seen by programs."""

import copy
from typing import Any

import numpy as np
import pytest
from frozen import PLACES

import nnbackend as nb
from nnbackend import nn, optim
from nnbackend.backend import NUMPY

# name, settings that solve a parabola in 400 steps, settings that solve Rosenbrock's valley in 4,000
LINES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("SGD", {"lr": 0.1}, {"lr": 1e-3, "momentum": 0.9}),
    ("SGD", {"lr": 0.02, "momentum": 0.9, "nesterov": True}, {"lr": 1e-3, "momentum": 0.9, "nesterov": True}),
    ("SGD", {"lr": 0.05, "momentum": 0.8, "dampening": 0.5}, {"lr": 2e-3, "momentum": 0.9, "dampening": 0.3}),
    ("Lion", {"lr": 6.5e-3}, {"lr": 1e-3}),
    ("Adagrad", {"lr": 0.5}, {"lr": 0.5}),
    ("RMSprop", {"lr": 0.01}, {"lr": 2e-3}),
    ("RMSprop", {"lr": 0.01, "centered": True, "momentum": 0.5}, {"lr": 1e-3, "momentum": 0.5}),
    ("Adadelta", {"lr": 5.0}, {"lr": 0.1}),
    ("Rprop", {}, {}),
    ("ASGD", {"lr": 0.1}, {"lr": 2e-3}),
    ("Adam", {"lr": 0.05}, {"lr": 0.02}),
    ("Adam", {"lr": 0.05, "amsgrad": True}, {"lr": 0.05, "amsgrad": True}),
    ("AdamW", {"lr": 0.05, "weight_decay": 0.0}, {"lr": 0.02, "weight_decay": 1e-6}),
    ("Adamax", {"lr": 0.05}, {"lr": 0.05}),
    ("NAdam", {"lr": 0.05}, {"lr": 0.02}),
    ("RAdam", {"lr": 0.05}, {"lr": 1e-3, "betas": (0.9, 0.99)}),
]
IDS = [f"{name}{n}" for n, (name, _, _) in enumerate(LINES)]
lines = pytest.mark.parametrize(("name", "easy", "hard"), LINES, ids=IDS)
equal = np.testing.assert_array_equal


def parabola(p: Any) -> Any:
    return ((p - 0.5) ** 2 * nb.asarray([1.0, 3.0], dtype=p.dtype, device=p.device)).sum()


def rosenbrock(p: Any) -> Any:
    x, y = p[0], p[1]
    return (1.0 - x) ** 2 + 100.0 * (y - x * x) ** 2


def minimised(name: str, settings: dict[str, Any], f: Any, start: Any, steps: int) -> float:
    p = nn.Parameter(nb.tensor(start, dtype="float64"))
    optimizer = getattr(optim, name)([p], **settings)

    @nb.compile
    def step() -> Any:
        loss = f(p)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    for _ in range(steps):
        step()
    assert step.why is None
    return float(f(p))


def test_no_elementwise_optimizer_is_left_out():
    found = {getattr(optim, name) for name in optim.__all__}
    found = {c for c in found if isinstance(c, type) and issubclass(c, optim.Optimizer) and c.elementwise}
    found = {c.__name__ for c in found if c.rule is not optim.Optimizer.rule}
    assert found == {name for name, _, _ in LINES}


@lines
def test_solves_a_parabola_and_climbs_it(name, easy, hard):
    start = [3.0, -2.0]
    assert minimised(name, easy, parabola, start, 400) < 0.05
    before = float(parabola(nb.tensor(start, dtype="float64")))
    assert minimised(name, {**easy, "maximize": True}, parabola, start, 3) > before


@lines
def test_solves_rosenbrocks_valley(name, easy, hard):
    assert minimised(name, hard, rosenbrock, [-1.2, 1.0], 4000) < 0.05


def trained(name: str, settings: dict[str, Any], dtype: str, place: Any, steps: int) -> tuple[list[Any], Any, Any]:
    rng = np.random.default_rng(0)
    params = [nn.Parameter(nb.tensor(rng.standard_normal(s).astype(dtype), device=place)) for s in [(2, 3), (3,), ()]]
    optimizer = getattr(optim, name)([{"params": params[:2]}, {"params": params[2:], "lr": 0.02}], **settings)
    go_on([(params, optimizer)], rng, steps)
    return params, optimizer, rng


def go_on(runs: list[tuple[list[Any], Any]], rng: Any, steps: int) -> None:
    for _ in range(steps):
        for i, arrays in enumerate(zip(*(params for params, _ in runs), strict=True)):
            g, reached = rng.standard_normal(arrays[0].shape), i < 2 or rng.random() < 0.7
            for p in arrays:
                p.grad = nb.tensor(g.astype(str(p.dtype)), device=p.device) if reached else None
        for _, optimizer in runs:
            with nb.testing.no_synchronization():
                optimizer.step()


@pytest.mark.filterwarnings("ignore:.*no gradient for")
@pytest.mark.parametrize("place", PLACES, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@lines
def test_keeps_dtype_and_device(name, easy, hard, dtype, place):
    params, optimizer, _ = trained(name, {**easy, "weight_decay": 0.01} if name != "Rprop" else easy, dtype, place, 3)
    for p, entry in zip(params, optimizer.state_dict()["state"].values(), strict=True):
        arrays = [p, *(value for value in entry.values() if isinstance(value, nb.Tensor))]
        assert {(str(a.dtype), a.device) for a in arrays} == {(dtype, nb.device(place))}


@pytest.mark.filterwarnings("ignore:.*no gradient for")
@lines
def test_goes_on_bit_equal_from_its_state_at_any_step(name, easy, hard):
    for steps in (1, 2, 5):
        params, optimizer, rng = trained(name, easy, "float32", "cpu", steps)
        twins = [nn.Parameter(p.detach()) for p in params]
        other = getattr(optim, name)([{"params": twins[:2]}, {"params": twins[2:]}], **{**easy, "lr": 0.7})
        other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        go_on([(params, optimizer), (twins, other)], rng, 4)
        for p, q in zip(params, twins, strict=True):
            equal(p.numpy(), q.numpy())


@lines
def test_a_recorded_step_equals_an_eager_one(name, easy, hard):
    def run(compiled: bool) -> Any:
        rng = np.random.default_rng(1)
        params = [nn.Parameter(nb.tensor(rng.standard_normal(s))) for s in [(2, 3), (3,)]]
        optimizer = getattr(optim, name)(params, **easy)

        def step(a: Any, b: Any) -> None:
            optimizer.zero_grad()
            ((params[0] * a).sum() + (params[1] * b).sum()).backward()
            optimizer.step()

        step = nb.compile(step, fallback=False) if compiled else step
        for i in range(12):
            optimizer.param_groups[0]["lr"] = easy.get("lr", 0.01) / (i + 1)
            step(nb.tensor(rng.standard_normal((2, 3))), nb.tensor(rng.standard_normal(3)))
        assert not compiled or step.recordings <= 3
        return [p.numpy() for p in params]

    for eager, recorded in zip(run(False), run(True), strict=True):
        np.testing.assert_allclose(recorded, eager, 1e-12)


@pytest.mark.parametrize("threads", [1, 2])
@lines
def test_many_weights_in_blocks_on_all_cores_give_the_same_bits(name, easy, hard, threads, monkeypatch):
    def run(block: int) -> Any:
        monkeypatch.setattr(NUMPY, "block", block)
        rng = np.random.default_rng(2)
        shapes = [(2, 3), (1,), (5, 7), (16,), (), (0, 3), (3, 4), (2,)]
        params = [nn.Parameter(nb.tensor(rng.standard_normal(s).astype("float32"))) for s in shapes]
        optimizer = getattr(optim, name)(params, **easy)
        for _ in range(4):
            for p in params:
                p.grad = nb.tensor(rng.standard_normal(p.shape[::-1]).astype("float32").T)
            optimizer.step()
        assert optimizer._runs[0][1].block == (block if block == 8 else 0)
        return [p.numpy() for p in params]

    before = nb.num_threads()
    nb.set_num_threads(threads)
    try:
        for whole, blocks in zip(run(1 << 16), run(8), strict=True):
            equal(blocks, whole)
    finally:
        nb.set_num_threads(before)
