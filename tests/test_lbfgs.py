"""L-BFGS: PyTorch's numbers, its line search, and all that can go wrong around them."""

import copy
import math
import pickle
from typing import Any

import numpy as np
import pytest
from frozen import DEVICE1, PLACES

import nnbackend as nb
from nnbackend import nn, optim
from nnbackend.errors import DTypeError, GraphError, IncompatibleCheckpointError, RecordingWarning
from nnbackend.optim.lbfgs import Point, cubic_minimum, strong_wolfe

WOLFE = {"line_search_fn": "strong_wolfe"}
ways = pytest.mark.parametrize("settings", [{}, WOLFE], ids=["plain", "strong_wolfe"])
close = np.testing.assert_allclose
equal = np.testing.assert_array_equal


class Rosenbrock:
    """(1 - x)^2 + 100 (y - x^2)^2 from (-1.2, 1); `calls` counts."""

    def __init__(self, place: Any = "cpu", dtype: str = "float64", **settings: Any) -> None:
        self.w = nn.Parameter(nb.tensor(np.array([-1.2, 1.0], dtype), device=place))
        self.optimizer, self.calls = optim.LBFGS([self.w], **settings), 0

    def closure(self) -> Any:
        self.calls += 1
        self.optimizer.zero_grad()
        loss = (1 - self.w[0]) ** 2 + 100 * (self.w[1] - self.w[0] ** 2) ** 2
        loss.backward()
        return loss

    def step(self) -> float:
        return float(self.optimizer.step(self.closure))


class Regression:
    """A small net that learns a sine, with a little weight decay, so that there is one minimum to find."""

    def __init__(self, place: Any = "cpu", dtype: str = "float64", compiled: bool = False, **settings: Any) -> None:
        rng = np.random.default_rng(0)
        x = rng.standard_normal((20, 3)).astype(dtype)
        self.x, self.y = (nb.tensor(a, device=place) for a in (x, np.sin(x.sum(axis=1, keepdims=True))))
        self.net = nn.MLP([3, 5, 1], "tanh").init(0).to(dtype).to(place)
        self.optimizer = optim.LBFGS(self.net.parameters(), **settings)
        self.closure = nb.compile(self._closure) if compiled else self._closure

    def _closure(self) -> Any:
        self.optimizer.zero_grad()
        loss = ((self.net(self.x) - self.y) ** 2).mean() + 0.01 * sum((p * p).sum() for p in self.net.parameters())
        loss.backward()
        return loss

    def step(self) -> float:
        return float(self.optimizer.step(self.closure))

    def weights(self) -> Any:
        return np.concatenate([p.numpy().ravel() for p in self.net.parameters()])


# -- PyTorch's numbers ----------------------------------------------------------------------------------------------

PYTORCHS = [  # settings; weights, calls and iterations after one step from (-1.2, 1), by PyTorch 2.13 in float64
    ({}, [-0.3929095248880504, 0.14696808489351595], 20, 20),
    ({"lr": 0.01}, [-1.1709481163797197, 1.0200737439802854], 20, 20),
    ({"lr": 0.001}, [-1.1968945987637307, 1.0022665885892468], 20, 20),
    ({"tolerance_grad": 1e-6}, [-0.3929095248880504, 0.14696808489351595], 20, 20),
    (WOLFE, [0.38062264334648777, 0.12491013187293636], 25, 19),
    ({"lr": 0.5, "max_iter": 7, "max_eval": 5, "history_size": 2, **WOLFE},
     [-1.0100090315076558, 1.0687387798872126], 5, 4),
]  # fmt: skip


@pytest.mark.parametrize("place", PLACES, ids=str)
@pytest.mark.parametrize(("settings", "weights", "calls", "iterations"), PYTORCHS)
def test_rosenbrock_as_pytorch(settings, weights, calls, iterations, place):
    problem = Rosenbrock(place, **settings)
    assert problem.step() == pytest.approx(24.2)  # the loss before
    close(problem.w.numpy(), weights, rtol=1e-10)
    assert problem.calls == calls
    state = problem.optimizer.state_dict()["state"][0]
    assert (state["func_evals"], state["n_iter"]) == (calls, iterations)


@ways
def test_a_parabola_and_rosenbrock_are_solved(settings):
    w = nn.Parameter(nb.tensor(np.array([3.0, -2.0, 5.0])))
    optimizer = optim.LBFGS([w], **settings)

    def parabola() -> Any:
        optimizer.zero_grad()
        loss = (nb.tensor(np.array([1.0, 10.0, 100.0])) * (w - 1) ** 2).sum()
        loss.backward()
        return loss

    for _ in range(3):
        optimizer.step(parabola)
    close(w.numpy(), np.ones(3), rtol=1e-6)
    problem = Rosenbrock(**settings)
    for _ in range(6):
        problem.step()
    close(problem.w.numpy(), [1, 1], rtol=1e-4)


@ways
@pytest.mark.parametrize("place", PLACES, ids=str)
def test_float32_and_the_device_stay(place, settings):
    problem = Regression(place, "float32", **settings)
    for _ in range(2):
        problem.step()
    state = problem.optimizer.state_dict()["state"][0]
    arrays = [a for v in state.values() for a in (v if isinstance(v, list) else [v]) if hasattr(a, "dtype")]
    assert len(arrays) > 6
    assert {str(a.dtype) for a in [*arrays, *problem.net.parameters()]} == {"float32"}
    assert {a.device for a in arrays} == {problem.x.device}


def test_the_memory_moves_along_to_another_dtype_and_device():
    plain, moved = (Regression(lr=0.3, max_iter=4) for _ in range(2))
    for problem in (plain, moved):
        problem.step()
    moved.net.to(DEVICE1)
    moved.x, moved.y = (nb.tensor(a.numpy(), device=DEVICE1) for a in (moved.x, moved.y))
    for problem in (plain, moved):
        problem.step()
    close(moved.weights(), plain.weights(), rtol=1e-10)
    moved.net.to("float32")
    moved.x, moved.y = moved.x.astype("float32"), moved.y.astype("float32")
    for problem in (plain, moved):
        problem.step()
    close(moved.weights(), plain.weights(), rtol=1e-2, atol=1e-3)
    assert str(moved.optimizer.state_dict()["state"][0]["d"].dtype) == "float32"


# -- the line search ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [1e-3, 0.1, 1.0, 30.0])
@pytest.mark.parametrize(
    "f",
    [
        lambda t: ((t - 2) ** 2, 2 * (t - 2)),
        lambda t: (t**4 - 3 * t**3 - t, 4 * t**3 - 9 * t**2 - 1),
        lambda t: (math.cos(t) - 0.1 * t - 1, -math.sin(t) - 0.1),
        lambda t: (t - math.log(t + 0.01), 1 - 1 / (t + 0.01)),
        lambda t: (-t, -1.0) if t < 3 else (math.inf, math.nan),
    ],
)
def test_strong_wolfe_conditions(f, first):
    start, tried = Point(0.0, *_parts(f(0.0))), []

    def at(t: float) -> Point:
        tried.append(t)
        return Point(t, *_parts(f(t)))

    found = strong_wolfe(at, start, first, 25, 1.0)
    assert found.loss <= start.loss + 1e-4 * found.t * start.slope
    assert len(tried) <= 26
    if f(3.1)[0] < math.inf:
        assert abs(found.slope) <= 0.9 * abs(start.slope)
    else:
        assert 2.9 < found.t < 3  # as far as it goes


def _parts(answer: tuple[float, float]) -> tuple[float, None, float]:
    return answer[0], None, answer[1]


def test_cubic_minimum():
    def cubic(t: float) -> Point:
        return Point(t, t**3 - 3 * t + 1, None, 3 * t**2 - 3)

    assert cubic_minimum(cubic(0.0), cubic(3.0), 0.0, 3.0) == pytest.approx(1)
    assert cubic_minimum(cubic(3.0), cubic(-0.5), -0.5, 3.0) == pytest.approx(1)
    assert cubic_minimum(cubic(0.0), cubic(3.0), 1.5, 3.0) == 1.5
    assert cubic_minimum(Point(0, 0, None, 1), Point(2, 2, None, 1), 0, 2) == 1  # no minimum: halfway
    assert cubic_minimum(Point(0, 0, None, 1), Point(2, 2, None, 2), 0, 2) == 1
    assert cubic_minimum(Point(0, 0, None, -1), Point(2, math.inf, None, math.nan), 0, 2) == 1
    assert cubic_minimum(Point(2, 0, None, -1), Point(2, 0, None, -1), 2, 4) == 3


# -- closures -------------------------------------------------------------------------------------------------------


@ways
def test_a_compiled_closure_equals_an_eager_one(settings):
    eager, compiled = Regression(**settings), Regression(compiled=True, **settings)
    for _ in range(2):
        assert compiled.step() == pytest.approx(eager.step(), rel=1e-9)
        close(compiled.weights(), eager.weights(), rtol=1e-7)
    assert compiled.closure.recordings <= 3


def test_a_recorded_step_goes_on_eagerly():
    eager, fallen = Regression(), Regression()
    step = nb.compile(fallen.step)
    with pytest.warns(RecordingWarning, match="runs eagerly"):
        step()
    eager.step()
    step()
    eager.step()
    equal(fallen.weights(), eager.weights())


def test_parameters_without_a_gradient_stay():
    problem = Rosenbrock(**WOLFE)
    frozen, unreached = nn.Parameter(nb.ones(2, dtype="float64"), requires_grad=False), nn.Parameter(nb.ones((1, 3)))
    unreached.move(dtype="float64")
    problem.optimizer = optim.LBFGS([frozen, problem.w, unreached], **WOLFE)
    problem.step()
    close(problem.w.numpy(), PYTORCHS[4][1], rtol=1e-10)
    equal(frozen.numpy(), np.ones(2))
    equal(unreached.numpy(), np.ones((1, 3)))
    assert frozen.written == 0
    assert problem.optimizer.state_dict()["state"][0]["d"].shape == (7,)


@ways
@pytest.mark.parametrize("fails", [1, 2, 9])
def test_after_an_error_in_the_closure_all_is_as_before(settings, fails):
    problem, twin = Rosenbrock(**settings), Rosenbrock(**settings)
    for p in (problem, twin):
        p.step()
    before, stop = problem.w.numpy().copy(), problem.calls + fails

    def failing() -> Any:
        if problem.calls + 1 == stop:
            raise KeyboardInterrupt
        return problem.closure()

    with pytest.raises(KeyboardInterrupt):
        problem.optimizer.step(failing)
    equal(problem.w.numpy(), before)
    problem.step()
    twin.step()
    equal(problem.w.numpy(), twin.w.numpy())


def test_a_loss_that_is_no_number_is_as_bad_as_infinity():
    w = nn.Parameter(nb.tensor(np.array([4.0])))
    optimizer = optim.LBFGS([w], lr=100.0, **WOLFE)

    def closure() -> Any:
        optimizer.zero_grad()
        loss = (w - nb.log(w)).sum()  # none below 0
        loss.backward()
        return loss

    with np.errstate(all="ignore"):
        for _ in range(3):
            optimizer.step(closure)
    close(w.numpy(), [1.0], rtol=1e-5)


@ways
def test_a_gradient_that_is_no_number_is_seen(settings):
    problem = Rosenbrock(**settings)
    problem.w.assign(nb.tensor(np.array([math.nan, 1.0])))
    problem.step()
    assert np.isnan(problem.w.numpy()).all()


def test_at_a_minimum_it_stays():
    problem = Rosenbrock()
    problem.w.assign(nb.ones(2, dtype="float64"))
    assert problem.step() == 0.0
    assert problem.calls == 1
    assert problem.optimizer.state_dict()["state"] == {0: {"func_evals": 1, "n_iter": 0}}
    equal(problem.w.numpy(), [1, 1])
    other = Rosenbrock()
    other.optimizer.load_state_dict(problem.optimizer.state_dict())
    other.step()
    close(other.w.numpy(), PYTORCHS[0][1], rtol=1e-10)


# -- saving ---------------------------------------------------------------------------------------------------------


@ways
@pytest.mark.parametrize("saved", range(5))
def test_saved_at_any_step_it_goes_on_bit_equal(settings, saved):
    problem, other = (Regression(max_iter=3, history_size=4, **kw) for kw in (settings, {"lr": 0.1}))
    for _ in range(saved):
        problem.step()
    state = problem.optimizer.state_dict()
    other.net.load_state_dict(problem.net.state_dict())
    other.optimizer.load_state_dict(state)
    kept = copy.deepcopy(state)
    for _ in range(2):
        assert problem.step() == other.step()
        equal(problem.weights(), other.weights())
    if saved:
        equal(state["state"][0]["d"].numpy(), kept["state"][0]["d"].numpy())  # neither side writes to it
        assert state["param_groups"][0]["history_size"] == 4
        assert len(problem.optimizer.state_dict()["state"][0]["old_dirs"]) == 4


def test_copies_go_on_too():
    problem = Regression(max_iter=3)
    problem.step()
    for twin in (copy.deepcopy(problem), pickle.loads(pickle.dumps(problem))):
        twin.step()
        fresh = copy.deepcopy(problem)
        fresh.step()
        equal(twin.weights(), fresh.weights())


def test_a_state_that_does_not_fit_changes_nothing():
    problem = Rosenbrock()
    problem.step()
    state = problem.optimizer.state_dict()
    bad = [
        ({**state, "state": {1: state["state"][0]}}, "for parameter 0, got"),
        ({**state, "state": {0: {"step": 3, "exp_avg": nb.ones(2)}}}, "func_evals, n_iter"),
        ({**state, "state": {0: {**state["state"][0], "d": nb.ones(3)}}}, r"shape \(2,\), got \(3,\)"),
        ({**state, "param_groups": []}, "groups of"),
    ]
    for wrong, message in bad:
        with pytest.raises(IncompatibleCheckpointError, match=message):
            problem.optimizer.load_state_dict(wrong)
    twin = Rosenbrock()
    twin.step()
    problem.step()
    twin.step()
    equal(problem.w.numpy(), twin.w.numpy())


# -- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": -1.0}, "lr: expected"),
        ({"max_iter": 0}, "max_iter: expected a whole number >= 1"),
        ({"max_iter": 2.5}, "max_iter"),
        ({"max_eval": 0}, "max_eval"),
        ({"history_size": 0}, "history_size"),
        ({"tolerance_grad": -1e-3}, "tolerance_grad: expected a finite number >= 0"),
        ({"tolerance_change": math.nan}, "tolerance_change"),
        ({"line_search_fn": "weak_wolfe"}, 'line_search_fn: expected none or "strong_wolfe", got .weak_wolfe'),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        optim.LBFGS(**settings)


def test_bad_parameters_and_closures():
    a, b = (nn.Parameter(nb.ones(2, dtype=d)) for d in ("float64", "float32"))
    with pytest.raises(ValueError, match="expected one parameter group, got another"):
        optim.LBFGS([{"params": [a]}, {"params": [b], "lr": 0.1}])
    optimizer = optim.LBFGS([a])
    with pytest.raises(TypeError, match=r"expected a closure .* Use step\(closure\)"):
        optimizer.step()
    with pytest.raises(TypeError, match="return the loss, got None"):
        optimizer.step(lambda: None)
    with pytest.raises(GraphError, match=r"got none. Call loss.backward\(\)"):
        optimizer.step(lambda: nb.ones(()))
    for params in ([a, b], [nn.Parameter(nb.ones(2, dtype="float16"))]):
        with pytest.raises(DTypeError, match="float32 or float64 throughout"):
            optim.LBFGS(params).step(lambda: None)
    with pytest.raises(ValueError, match="expected parameters, got none"):
        optim.LBFGS().step(lambda: None)


def test_a_template_binds_without_sharing_memory():
    template, problem = optim.LBFGS(max_iter=3), Rosenbrock()
    problem.optimizer = template.bind([problem.w])
    problem.step()
    assert template.bind([problem.w]).state_dict()["state"] == {}
