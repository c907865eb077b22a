"""`nb.compile`: what may go in and come out, where it falls back to eager, and what a replay costs."""

import contextlib
import copy
import pickle
from typing import NamedTuple

import array_api_strict
import numpy as np
import pytest
from compiled_twins import training

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import nn, optim
from nnbackend.errors import LabelError, RecordingError, RecordingWarning, ShapeError
from nnbackend.training_mode import evaluating

A = np.arange(6.0).reshape(2, 3)


class Pair(NamedTuple):
    first: object
    second: object


def same(got, want):
    """The same nest of the same kinds of values."""
    assert type(got) is type(want)
    if isinstance(want, dict):
        assert list(got) == list(want)
        got, want = list(got.values()), list(want.values())
    if isinstance(want, tuple | list):
        assert len(got) == len(want)
        for g, w in zip(got, want, strict=True):
            same(g, w)
    elif isinstance(want, nb.Tensor | np.ndarray):
        got, want = (x.data if isinstance(x, nb.Tensor) else x for x in (got, want))
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)
    else:
        assert got == want or got is want


def replayed(step, *calls, recordings=2, **settings):
    """Call by call eagerly and compiled, each three times over."""
    fast = nb.compile(step, **settings)
    for _ in range(3):
        for args, kw in calls:
            same(fast(*args, **kw), step(*args, **kw))
    assert fast.why is None
    assert fast.recordings == recordings
    return fast


def call(*args, **kw):
    return args, kw


T = nb.tensor(A)
OUTSIDE = nb.tensor(A * 3)
PARAMETER = nn.Parameter(nb.tensor(A))


# -- arguments and results ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "step",
    [
        lambda x: x * 2, lambda x: (x, x * 2), lambda x: [x + 1, x], lambda x: {"a": x + 1, "b": (x, None)},
        lambda x: Pair(x * 2, [x]), lambda x: None, lambda x: 3, lambda x: "text", lambda x: (x * 2, 3.0, True),
        lambda x: ((y := x + 1), y), lambda x: x[0], lambda x: nb.sum(nb.asarray(x)), lambda x: x.mT,
        lambda x: nb.asarray(x)[None, :, ::2] * 1, lambda x: PARAMETER * x, lambda x: OUTSIDE + x,
        lambda x: nb.ones((2, 2)), lambda x: (nb.asarray(x) > 2, x > 1), lambda x: {},
    ],
)  # fmt: skip
@pytest.mark.parametrize("x", [T, A], ids=["Tensor", "array"])
@pytest.mark.parametrize("reuse_outputs", [False, True])
def test_results_of_any_form(step, x, reuse_outputs):
    def detached(x):
        with nb.no_grad():
            return step(x)

    replayed(detached, call(x), reuse_outputs=reuse_outputs)


def scaled(x, y=None, *, factor=2.0, how="add", parts=(), flag=False, table=None):
    y = x if y is None else y
    z = x + y if how == "add" else x - y
    for part in parts:
        z = z + part
    z = z * factor
    if table:
        z = z + table["w"][0] * table["k"]
    return -z if flag else z


@pytest.mark.parametrize(
    ("calls", "recordings"),
    [
        ([call(T)], 2), ([call(T, T)], 2), ([call(T, y=T)], 2), ([call(x=T, y=T)], 2),
        ([call(T, how="add"), call(T, how="subtract")], 4), ([call(T, flag=True), call(T, flag=False)], 4),
        ([call(T, factor=1.0), call(T, factor=7.5)], 2), ([call(T, factor=1), call(T, factor=2)], 2),
        ([call(T, factor=1), call(T, factor=1.0)], 4), ([call(T, parts=[T, T]), call(T, parts=(T, T))], 4),
        ([call(T, parts=[T, 3.0]), call(T, parts=[T, 4.0])], 2), ([call(T, table={"w": [T, "no"], "k": 3})], 2),
        ([call(T, table={"w": (A, None), "k": 2.0})], 2), ([call(A)], 2), ([call(A, A[::-1])], 2),
        ([call(T, None), call(T, T)], 4), ([call(nb.tensor(A[:1])), call(T)], 4),
        ([call(nb.tensor(A, dtype="float32")), call(T)], 4), ([call(T.astype("int64"), factor=2)], 2),
        ([call(A), call(T)], 4),
    ],
)  # fmt: skip
def test_arguments_of_any_form(calls, recordings):
    replayed(scaled, *calls, recordings=recordings)


def test_a_number_the_step_asks_about_is_pinned():
    def step(x, n):
        return x * 2 if n > 2 else x[: int(n) + 1]

    replayed(step, call(T, 0), call(T, 1), call(T, 5), call(T, 1), recordings=6)


def test_outputs_are_copies_unless_asked_otherwise():
    for reuse in (False, True):
        step = nb.compile(lambda x: x * 2 + 1, reuse_outputs=reuse)
        results = [step(nb.tensor(A + i)) for i in range(6)]
        if reuse:
            assert results[-1].data is results[-2].data
        else:
            for i, y in enumerate(results):
                np.testing.assert_array_equal(y.data, (A + i) * 2 + 1)


@pytest.mark.parametrize("reuse", [False, True])
def test_a_result_may_be_the_next_argument(reuse):
    def step(x):
        y = nb.asarray(x)
        for _ in range(3):
            y = nb.flip(y) * 0.5 + nb.roll(y, 1)
        return y + x

    fast = nb.compile(step, reuse_outputs=reuse)
    mine = theirs = T
    for _ in range(8):
        mine, theirs = fast(mine), step(theirs)
        same(mine, theirs)
    assert fast.recordings == 2


@pytest.mark.parametrize("reuse", [False, True])
def test_an_input_that_comes_back_is_not_aliased_to_state(reuse):
    step = nb.compile(lambda x, y: (x, y[0], x + y), reuse_outputs=reuse)
    for i in range(5):
        x = nb.tensor(A + i)
        got = step(x, x)
        same([got[0], got[2]], [x, x + x])


def test_closure_tensors_are_looked_at_anew():
    held = nb.tensor(A)
    step = nb.compile(lambda x: x * held)
    for _ in range(3):
        step(T)
    held.data[0, 0] = 50.0
    same(step(T), T * held)
    held.data = A * 7
    for _ in range(3):
        same(step(T), T * held)
    assert step.why is None


@pytest.mark.parametrize("mode", [nb.no_grad, nb.enable_grad, evaluating, contextlib.nullcontext])
def test_the_modes_of_gradients_and_training_count(mode):
    net = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 1)).to("float64").init(0)
    twin = copy.deepcopy(net)
    step = nb.compile(lambda x: (net(x).detach(), net.training))
    for _ in range(4):
        for context in (mode, contextlib.nullcontext):
            with context():
                got, flag = step(T)
                np.testing.assert_allclose(got.data, twin(T).data, rtol=1e-12)
                assert flag is twin.training
    assert step.why is None


def test_compiled_in_compiled_and_in_grad():
    inner = nb.compile(lambda x: nb.sum(x * x * x))
    outer = nb.compile(lambda x: inner(x) * 2)
    for _ in range(4):
        inner(T)
        same(outer(T), nb.sum(T * T * T) * 2)
        np.testing.assert_array_equal(nb.grad(inner)(A), 3 * A * A)
        same(nb.compile(nb.grad(inner))(A), 3 * A * A)
    slope = nb.compile(nb.grad(lambda x: nb.sum(nb.grad(lambda z: nb.sum(z * z * z))(x))))
    for _ in range(4):
        np.testing.assert_allclose(slope(A), 6 * A)
    assert inner.why is outer.why is slope.why is None


# -- errors and falling back ----------------------------------------------------------------------------------------


def classifier():
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).to("float64").init(0)
    opt = optim.Adam(net.parameters(), lr=0.1)

    return net, opt, training(net, opt)


def test_bad_labels_in_a_replay_change_nothing():
    good, bad = nb.tensor(np.array([0, 2])), nb.tensor(np.array([0, 3]))
    net, opt, step = classifier()
    fast = nb.compile(step)
    for _ in range(4):
        fast(T, good)
    before = {k: v.numpy().copy() for k, v in net.state_dict().items()}
    with pytest.raises(LabelError) as eager:
        F.cross_entropy(net(T), bad)
    for y in (bad, nb.asarray(np.array([0, 3]))):
        with pytest.raises(LabelError) as replay:
            fast(T, y)
        assert str(eager.value).partition(": ")[2] in str(replay.value)
    for k, v in net.state_dict().items():
        np.testing.assert_array_equal(v.numpy(), before[k])
    assert opt.state_dict()["state"][0]["step"] == 4
    fast(T, good)
    assert fast.why is None


def test_errors_of_a_step_come_out_and_the_next_call_works():
    net, _, step = classifier()
    fast = nb.compile(step)
    y = nb.tensor(np.array([0, 2]))
    with pytest.raises(ShapeError):
        fast(nb.tensor(A[:, :2]), y)
    for _ in range(4):
        fast(T, y)
    with pytest.raises(ShapeError):
        fast(nb.tensor(A[:, :2]), y)
    fast(T, y)
    assert fast.why is None

    @nb.compile
    def fails(x):
        net(x)
        raise KeyError("mine")

    for _ in range(3):
        with pytest.raises(KeyError, match="mine"):
            fails(T)


def branches(s, x, y):
    loss = s(x, y)
    return loss if loss.data > 1e9 else loss * 2


def counts(s, x, y, count=[0]):  # noqa: B006
    count[0] += 1
    return s(x, y) * count[0]


def draws(s, x, y, generators={}):  # noqa: B006
    r = generators.setdefault(s, np.random.default_rng(0))
    return s(x + nb.tensor(r.standard_normal((2, 3))), y)


def reads(s, x, y):
    return s(x, y).item()


@pytest.mark.parametrize("make", [branches, counts, draws, reads])
def test_what_cannot_be_replayed_runs_eagerly_and_says_why_once(make):
    y = nb.tensor(np.array([0, 2]))
    ends = []
    for how in (lambda f: f, nb.compile):
        net, _, s = classifier()
        extra = {"count": [0]} if make is counts else {}
        step = how(lambda x, y, s=s, extra=extra: make(s, x, y, **extra))
        if how is nb.compile:
            with pytest.warns(RecordingWarning) as seen:
                results = [float(step(T, y)) for _ in range(8)]
            assert len(seen) == 1
            assert "runs eagerly" in str(seen[0].message)
            assert make in (counts, draws) or f"{__file__}" in str(seen[0].message)
        else:
            results = [float(step(T, y)) for _ in range(8)]
        ends.append([results, *(p.numpy() for p in net.parameters())])
    assert step.why
    for got, want in zip(*ends, strict=True):
        np.testing.assert_array_equal(got, want)


def test_without_fallback_it_is_an_error():
    step = nb.compile(lambda x: float(nb.sum(x)), fallback=False)
    with pytest.raises(RecordingError, match="line"):
        step(T)


# -- other libraries and people's objects ---------------------------------------------------------------------------


def test_other_array_libraries_run_compiled_steps_too():
    device = nb.device(array_api_strict.Device("device1"))
    ends = []
    for how in (lambda f: f, nb.compile):
        net, opt, step = classifier()
        net.to(device)
        step = how(step)
        x, y = T.to(device), nb.tensor(np.array([0, 2])).to(device)
        losses = [step(x, y).numpy() for _ in range(6)]
        opt.param_groups[0]["lr"] = 0.01
        losses += [step(x, y).numpy() for _ in range(3)]
        ends.append([*losses, *(v.numpy() for p in net.parameters() for v in (p, p.grad))])
    assert step.why is None
    assert step.recordings == 3
    for got, want in zip(*ends, strict=True):
        np.testing.assert_array_equal(got, want)


class Learner:
    def __init__(self):
        self.net, self.opt, self._step = classifier()
        self.fast = nb.compile(self.step)

    def step(self, x, y):
        """Learn a little."""
        return self._step(x, y)


def test_methods_names_and_copies():
    learner, y = Learner(), nb.tensor(np.array([0, 2]))
    assert (learner.fast.__name__, learner.fast.__doc__) == ("step", "Learn a little.")
    for _ in range(4):
        learner.fast(T, y)
    assert "recordings" in repr(learner.fast)
    for twin in (copy.deepcopy(learner.net), pickle.loads(pickle.dumps(learner.net))):
        np.testing.assert_array_equal(twin(T).data, learner.net(T).data)
    before = learner.net[0].weight.numpy().copy()
    net, opt = copy.deepcopy((learner.net, learner.opt))
    learner.fast(T, y)
    np.testing.assert_array_equal(net[0].weight.numpy(), before)
    F.cross_entropy(net(T), y).backward()
    opt.zero_grad()
    F.cross_entropy(net(T), y).backward()
    opt.step()
    np.testing.assert_allclose(net[0].weight.numpy(), learner.net[0].weight.numpy(), rtol=1e-12)


def test_two_compiled_functions_share_nothing():
    first, second = nb.compile(scaled), nb.compile(scaled)
    for _ in range(3):
        same(first(T), second(T))
    assert nb.compile(first) is first
    assert first.program is not second.program


def test_a_copy_of_a_compiled_step_records_anew():
    step = nb.compile(scaled, reuse_outputs=True)
    for _ in range(3):
        step(T)
    for twin in (copy.copy(step), copy.deepcopy(step), pickle.loads(pickle.dumps(nb.compile(scaled)))):
        assert (twin.recordings, twin.program) == (0, None)
        same(twin(T), step(T))


def test_arguments_that_are_new_each_time_run_eagerly_in_the_end():
    step = nb.compile(lambda x, config: x * 2.0)
    x = nb.tensor([1.0, 2.0])
    with pytest.warns(RecordingWarning, match="identity each time") as seen:
        results = [step(x, {"new": object()}).tolist() for _ in range(70)]
    assert results == [[2.0, 4.0]] * 70
    assert len(seen) == 1
    assert seen[0].filename == __file__


def test_two_shapes_in_turn_are_recorded_and_guarded_once_each():
    step = nb.compile(lambda x: x * 2.0)
    for n in [3, 3, 3, 2, 2, 2, 3, 2, 3, 2]:
        np.testing.assert_array_equal(step(nb.ones(n)).numpy(), [2.0] * n)
    entries = {v._entry for variants in step._variants.values() for v in variants}
    step(nb.ones(3))
    assert {v._entry for variants in step._variants.values() for v in variants} == entries
    assert step.recordings == 4
