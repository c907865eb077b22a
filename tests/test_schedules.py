"""Schedules: PyTorch's numbers, eager and recorded, and how they go on after loading."""

import copy
import itertools
import json
import pickle
import runpy

import numpy as np
import pytest
from frozen import DEVICE1, load
from schedule_case import CASES, FUNCTIONS, LRS, OPTIMIZERS, all_made, last, made, name_of, seen, stepped, two_groups

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import optim
from nnbackend.errors import IncompatibleCheckpointError, RecordingWarning
from nnbackend.program.number import cos, log, maximum, minimum

KINDS = list(itertools.islice(itertools.cycle(OPTIMIZERS), len(CASES)))
IDS = [f"{i}-{name_of(case)}" for i, case in enumerate(CASES)]
FIRST = list({name_of(case): i for i, case in reversed(list(enumerate(CASES)))}.values())  # one of each kind
INSIDE = [i for i in FIRST if name_of(CASES[i]) not in ("MultiplicativeLR", "ReduceLROnPlateau")]
STEPS = 29
X = np.random.default_rng(0).standard_normal((5, 3))
Y = np.random.default_rng(1).standard_normal((5, 2))


def trained(case, kind="SGD", inside=False, compiled=False, place="cpu", steps=STEPS):
    """Learning rates after each step, the weights at the end, and the step."""
    net, optimizer = two_groups(kind, place)
    schedules = all_made(case, optim, optimizer)
    x, y = nb.tensor(X, device=place), nb.tensor(Y, device=place)
    rows = [seen(optimizer)]

    def step(x, y):
        loss = F.mse_loss(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for schedule in schedules if inside else ():
            schedule.step()
        return loss

    if compiled:
        step = nb.compile(step)
    for n in range(last(case, steps)):
        step(x, y)
        if not inside:
            stepped(case, schedules, n)
        rows.append(seen(optimizer))
    return np.asarray(rows), net.weight.numpy(), step


def close(rows, wanted):
    """Equal to 1e-12 of the largest of each setting."""
    assert (abs(rows - wanted).max((0, 1)) <= 1e-12 * abs(wanted).max((0, 1))).all()


def single(spec):
    return spec, None, None


# -- PyTorch's numbers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("i", range(len(CASES)), ids=IDS)
def test_trajectories(i):
    _, optimizer = two_groups(KINDS[i])
    schedules = all_made(CASES[i], optim, optimizer)
    rows = [seen(optimizer)]
    for n in range(last(CASES[i], STEPS)):
        stepped(CASES[i], schedules, n)
        rows.append(seen(optimizer))
        assert schedules[-1].get_last_lr() == [row[0] for row in rows[-1]]
    close(np.asarray(rows), load("schedules")[0][str(i)])


def test_the_fixture_has_these_cases_and_every_schedule():
    assert load("schedules")[1] == json.loads(json.dumps(CASES))
    public = {name for name in optim.__all__ if name.endswith(("LR", "Restarts", "Plateau", "Scheduler"))}
    assert {name_of(case) for case in CASES} == public - {"LRScheduler"} | {"together"}


@pytest.mark.parametrize("i", FIRST, ids=[IDS[i] for i in FIRST])
def test_replays_see_a_schedule_that_steps_outside(i):
    rows, weights, step = trained(CASES[i], KINDS[i], compiled=True)
    close(rows, load("schedules")[0][str(i)])
    np.testing.assert_allclose(weights, trained(CASES[i], KINDS[i])[1], 1e-12)
    assert step.why is None
    assert step.recordings == 3  # as many as without a schedule: also where a learning rate becomes 0


@pytest.mark.parametrize("i", INSIDE, ids=[IDS[i] for i in INSIDE])
def test_a_recorded_step_may_contain_the_step_of_a_schedule(i):
    case = (*CASES[i][:2], None)
    rows, weights, step = trained(case, KINDS[i], inside=True, compiled=True)
    eager, eager_weights, _ = trained(case, KINDS[i], inside=True)
    assert (rows == eager).all()
    np.testing.assert_allclose(weights, eager_weights, 1e-12)
    assert (step.why, step.recordings) == (None, 3)
    if case[2] == CASES[i][2]:
        close(rows, load("schedules")[0][str(i)])


def test_recorded_on_other_devices():
    case = single(("CosineAnnealingWarmRestarts", {"T_0": 2, "T_mult": 2}))
    rows, weights, step = trained(case, inside=True, compiled=True, place=DEVICE1, steps=9)
    eager, eager_weights, _ = trained(case, inside=True, steps=9)
    assert (rows == eager).all()
    np.testing.assert_allclose(weights, eager_weights, 1e-12)
    assert (step.why, step.recordings) == (None, 3)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (("CosineAnnealingLR", {"T_max": 9}), ["math.cos(", "last_epoch += 1"]),
        (("CosineAnnealingWarmRestarts", {"T_0": 2, "T_mult": 3}), ["math.log("]),
        (("LinearLR", {"total_iters": 4}), ["min(last_epoch / 4, 1.0)"]),
        (("OneCycleLR", {"max_lr": 0.1, "total_steps": 30}), ["max(0.0, min("]),
    ],
    ids=lambda x: x[0] if isinstance(x, tuple) else "",
)
def test_programs_and_scripts_show_the_formula(spec, words, tmp_path):
    net, optimizer = two_groups(dtype="float32")
    schedule = made(spec, optim, optimizer)

    def step(x, y):
        loss = F.mse_loss(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        return loss

    x, y = nb.tensor(X, dtype="float32"), nb.tensor(Y, dtype="float32")
    nb.to_source(step, (x, y), tmp_path / "step.py")
    script = runpy.run_path(str(tmp_path / "step.py"))
    compiled = nb.compile(step)
    for _ in range(8):
        loss = script["step"](x.numpy(), y.numpy())
        np.testing.assert_allclose(loss, compiled(x, y).numpy(), 1e-5)
        assert loss.dtype == np.float32
    text = (tmp_path / "step.py").read_text()
    assert all(word in text and word in str(compiled.program) for word in words)


# -- recording ------------------------------------------------------------------------------------------------------


def test_functions_of_recorded_numbers():
    def step(x, n):
        base = (-0.5) ** (n * 1.0)  # a negative base needs its parentheses
        return x * cos(n), x * log(n + 1), x * minimum(n, 3), x * maximum(2.5, n), x * base

    compiled, x = nb.compile(step), nb.tensor([1.0, 2.0], dtype="float64")
    for n in range(7):
        for a, b in zip(compiled(x, n), step(x, n), strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy())
    assert (compiled.why, compiled.recordings) == (None, 2)
    assert (cos(0), log(1.0), minimum(1, 2), maximum(1, 2)) == (1.0, 0.0, 1, 2)


def test_a_function_with_a_branch_runs_eagerly_and_the_warning_names_the_line():
    def branch(n):
        return 0.5 if n > 3 else 1.0

    multiplying = ("MultiplicativeLR", {"lr_lambda": "shrink"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(FUNCTIONS, "branch", branch)
        case = single(("LambdaLR", {"lr_lambda": "branch"}))
        line = branch.__code__.co_firstlineno + 1
        with pytest.warns(RecordingWarning, match=rf"computed in the step \(line {line} of .*test_schedules.py\)"):
            rows, weights, _ = trained(case, inside=True, compiled=True, steps=8)
        eager, eager_weights, _ = trained(case, inside=True, steps=8)
    assert (rows == eager).all()
    assert (weights == eager_weights).all()
    with pytest.warns(RecordingWarning, match="number that is computed in the step"):
        rows, _, _ = trained(single(multiplying), inside=True, compiled=True, steps=8)
    assert (rows == trained(single(multiplying), inside=True, steps=8)[0]).all()


def test_a_changed_setting_is_seen_by_a_recorded_step():
    net, optimizer = two_groups()
    schedule = optim.ExponentialLR(optimizer, 0.9)
    x, y = nb.tensor(X), nb.tensor(Y)

    @nb.compile
    def step(x, y):
        loss = F.mse_loss(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        return loss

    for _ in range(6):
        step(x, y)
    schedule.gamma = 0.5
    step(x, y)
    assert schedule.get_last_lr() == [lr * 0.5**7 for lr in LRS]
    optimizer.param_groups[0]["initial_lr"] = 0.2
    step(x, y)
    assert schedule.get_last_lr() == [lr * 0.5**8 for lr in (0.2, LRS[1])]


def test_a_cut_of_a_plateau_is_seen_by_a_recorded_step_with_another_schedule():
    net, optimizer = two_groups()
    schedule = optim.ExponentialLR(optimizer, 0.9)
    plateau = optim.ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
    x, y = nb.tensor(X), nb.tensor(Y)

    @nb.compile
    def step(x, y):
        loss = F.mse_loss(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        return loss

    for n in range(1, 13):
        step(x, y)
        if n % 4 == 0:
            plateau.step(1.0)
    np.testing.assert_allclose(schedule.get_last_lr(), [lr * 0.9**12 * 0.5**2 for lr in LRS], 1e-14)


def test_the_end_is_an_error_for_replays_too():
    for compiled in (False, True):
        net, optimizer = two_groups("Adam")
        schedule = optim.OneCycleLR(optimizer, 0.1, total_steps=7)
        x, y = nb.tensor(X), nb.tensor(Y)

        def step(x, y, net=net, optimizer=optimizer, schedule=schedule):
            loss = F.mse_loss(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            return loss

        run = nb.compile(step) if compiled else step
        for _ in range(7):
            run(x, y)
        assert schedule.last_epoch == 7
        lrs = schedule.get_last_lr()
        np.testing.assert_allclose(lrs, 0.1 / 25 / 1e4)
        with pytest.raises(ValueError, match="at most 7 steps"):
            run(x, y)
        assert (schedule.last_epoch, schedule.get_last_lr()) == (7, lrs)
        assert optimizer.state_dict()["state"][0]["step"] == 8  # the optimizer's own step came before


# -- going on -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("i", range(len(CASES)), ids=IDS)
def test_goes_on_exactly(i):
    case, kind = CASES[i], KINDS[i]
    _, optimizer = two_groups(kind)
    schedules, saved, rows = all_made(case, optim, optimizer), [], []
    for n in range(last(case, STEPS)):
        saved.append(json.dumps([s.state_dict() for s in schedules]))
        stepped(case, schedules, n)
        rows.append(seen(optimizer))
    for start in (0, 1, 6, 13):
        _, optimizer = two_groups(kind)
        schedules = all_made(case, optim, optimizer)
        for schedule, state in zip(schedules, json.loads(saved[start]), strict=True):
            schedule.load_state_dict(state)
        for n in range(start, last(case, STEPS)):
            stepped(case, schedules, n)
            assert seen(optimizer) == rows[n]


def test_order_of_loading_does_not_matter():
    _, optimizer = two_groups()
    schedule = optim.CosineAnnealingLR(optimizer, 20)
    for _ in range(5):
        schedule.step()
    saved, state, lrs = optimizer.state_dict(), schedule.state_dict(), schedule.get_last_lr()
    for first in (True, False):
        _, optimizer = two_groups()
        if first:
            optimizer.load_state_dict(saved)
        schedule = optim.CosineAnnealingLR(optimizer, 20)
        schedule.load_state_dict(state)
        if not first:
            optimizer.load_state_dict(saved)
        assert (schedule.get_last_lr(), schedule.last_epoch, schedule.base_lrs) == (lrs, 5, LRS)


def test_last_epoch_begins_later():
    _, optimizer = two_groups()
    later = optim.StepLR(optimizer, 3, last_epoch=6)
    assert (later.last_epoch, later.get_last_lr()) == (7, [lr * 0.1**2 for lr in LRS])


def test_states_that_do_not_fit():
    _, optimizer = two_groups("Adam")
    schedule = optim.OneCycleLR(optimizer, 0.1, total_steps=7)
    state = schedule.state_dict()
    before = seen(optimizer)
    for bad in ({}, {**state, "base_lrs": [0.1]}, {**state, "last_epoch": 8}, {**state, "last_epoch": -1}):
        with pytest.raises(IncompatibleCheckpointError, match=r"OneCycleLR.load_state_dict: expected"):
            schedule.load_state_dict(bad)
        assert (schedule.state_dict(), seen(optimizer)) == (state, before)
    schedule.load_state_dict({**state, "last_epoch": 7})
    with pytest.raises(ValueError, match="at most 7 steps"):
        schedule.step()


def test_copies_and_pickles_go_on_by_themselves():
    for twin in (copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))):
        _, optimizer = two_groups("Adam")
        schedules = [
            optim.OneCycleLR(optimizer, 0.1, total_steps=9),
            optim.SWALR(optimizer, 0.01),
            optim.CyclicLR(optimizer, 0.1, 0.2, mode="triangular2"),
        ]
        schedules[0].step()
        other, others = twin((optimizer, schedules))
        before = seen(optimizer)
        for schedule in others:
            schedule.step()
        assert seen(optimizer) == before
        for schedule in schedules:
            schedule.step()
        assert seen(optimizer) == seen(other) != before
