"""Schedules: how they compose, their ends, and what they refuse."""

import itertools
import math

import numpy as np
import pytest
from schedule_case import FUNCTIONS, LRS, seen, two_groups

import nnbackend as nb
from nnbackend import nn, optim
from nnbackend.program.number import minimum

# -- composition ----------------------------------------------------------------------------------------------------


def test_effects_multiply_whoever_comes_first():
    functions = [lambda opt: optim.LambdaLR(opt, FUNCTIONS["inverse"]), lambda opt: optim.ExponentialLR(opt, 0.9)]
    for order in (functions, functions[::-1]):
        for chained in (True, False):
            _, optimizer = two_groups()
            schedules = [f(optimizer) for f in order]
            if chained:
                schedules = [optim.ChainedScheduler(schedules)]
            for n in range(1, 9):
                for schedule in schedules:
                    schedule.step()
                wanted = [lr * FUNCTIONS["inverse"](n) * 0.9**n for lr in LRS]
                np.testing.assert_allclose(optim.LRScheduler.get_last_lr(schedules[0]), wanted, 1e-14)


def test_warm_up_of_a_chain_inside_a_sequence():
    _, optimizer = two_groups("Adam")
    warm_up = optim.LinearLR(optimizer, 0.5, total_iters=4)
    chain = optim.ChainedScheduler([optim.OneCycleLR(optimizer, 0.2, total_steps=10), optim.StepLR(optimizer, 2)])
    schedule = optim.SequentialLR(optimizer, [warm_up, chain], [4])
    assert schedule.length == 14
    betas = [optimizer.param_groups[0]["betas"][0]]
    for _ in range(14):
        schedule.step()
        betas.append(optimizer.param_groups[0]["betas"][0])
    assert betas[:5] == [0.95] * 5
    assert min(betas) == 0.85
    with pytest.raises(ValueError, match="at most 14 steps"):
        schedule.step()
    with pytest.raises(ValueError, match="schedule that it is a part of"):
        chain.step()


def test_a_schedule_of_ones_own_is_its_formula():
    class InverseRoot(optim.LRScheduler):
        def value(self, n, base):
            return base * minimum(1.0, (n + 1) ** -0.5)

    _, optimizer = two_groups()
    schedule = InverseRoot(optimizer)
    for n in range(5):
        assert schedule.get_last_lr() == [lr * (n + 1) ** -0.5 for lr in LRS]
        schedule.step()
    with pytest.raises(TypeError, match="expected a value method"):
        optim.LRScheduler(optimizer)


def test_a_group_that_comes_later_has_its_own_base():
    _, optimizer = two_groups()
    schedule = optim.ExponentialLR(optimizer, 0.5)
    schedule.step()
    optimizer.add_param_group({"params": [nn.Parameter(nb.zeros(1, dtype="float64"))], "lr": 0.8})
    assert schedule.state_dict()["base_lrs"] == [*LRS, 0.8]
    schedule.step()
    schedule.step()
    assert schedule.get_last_lr() == [lr / 8 for lr in (*LRS, 0.8)]
    listed = optim.LambdaLR(optimizer, [FUNCTIONS["steady"]] * 3)
    optimizer.add_param_group({"params": [nn.Parameter(nb.zeros(1, dtype="float64"))]})
    before = seen(optimizer)
    with pytest.raises(ValueError, match="lr_lambda for 4 groups, got 3"):
        listed.step()
    assert (seen(optimizer), listed.last_epoch) == (before, 0)


# -- edges ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "factor"), [(1, 2), (1, 3), (3, 2), (7, 5), (10, 2)])
def test_restarts_come_at_the_right_step(first, factor):
    _, optimizer = two_groups()
    schedule = optim.CosineAnnealingWarmRestarts(optimizer, first, factor)
    start, size = 0, first
    while start < 10**9:
        for n in range(max(start, start + size - 3), start + size):
            wanted = 0.1 * (1.0 + math.cos(math.pi * (n - start) / size)) / 2.0
            assert schedule.value(n, 0.1) == pytest.approx(wanted, rel=1e-9, abs=1e-16)
        start, size = start + size, size * factor
        assert schedule.value(start, 0.1) == 0.1


def test_ends_are_exact():
    _, optimizer = two_groups()
    assert optim.LinearLR(optimizer, 0.3, 0.0, 7).value(7, 0.1) == 0.0
    assert optim.PolynomialLR(optimizer, 7).value(9, 0.1) == 0.0
    assert optim.CosineAnnealingLR(optimizer, 7).value(7, 0.1) == 0.0
    assert optim.ConstantLR(optimizer, 0.0, 3).value(3, 0.1) == 0.1  # PyTorch divides by 0
    assert optim.ConstantLR(optimizer, total_iters=0).value(0, 0.1) == 0.1
    assert optim.SWALR(optimizer, 0.05, 0).value(1, 0.1, swa_lr=0.05) == 0.05


@pytest.mark.parametrize("strategy", ["cos", "linear"])
def test_one_cycle_whatever_its_phases(strategy):
    for total, pct, three in itertools.product((1, 2, 10), (0.0, 0.1, 0.5, 1.0), (False, True)):
        if three and pct > 0.5:
            continue
        _, optimizer = two_groups()
        schedule = optim.OneCycleLR(
            optimizer, 0.1, total, pct_start=pct, anneal_strategy=strategy, three_phase=three, final_div_factor=math.pi
        )
        for _ in range(total):
            schedule.step()
            (lr, momentum), _ = seen(optimizer)
            assert 0.1 / 25 / math.pi - 1e-15 <= lr <= 0.1 + 1e-15  # PyTorch: negative, or 0 / 0
            assert 0.85 - 1e-15 <= momentum <= 0.95 + 1e-15
        np.testing.assert_allclose(schedule.get_last_lr(), 0.1 / 25 / math.pi)


def test_plateaus_of_negative_metrics():
    _, optimizer = two_groups()
    schedule = optim.ReduceLROnPlateau(optimizer, factor=0.5, patience=1)
    for _ in range(4):
        schedule.step(nb.tensor(-10.0))  # PyTorch's relative threshold calls -9.9995 better than -10
    np.testing.assert_allclose(schedule.get_last_lr(), [lr / 2 for lr in LRS])
    schedule.step(float("nan"))
    schedule.step(np.float32("nan"))
    assert schedule.state_dict() == {
        "last_epoch": 6, "best": -10.0, "num_bad_epochs": 1, "cooldown_counter": 0, "cuts": 2, "base_lrs": LRS,
    }  # fmt: skip


def test_numbers_stay_plain_and_weights_keep_their_dtype():
    net, optimizer = two_groups(dtype="float32")
    schedule = optim.LambdaLR(optimizer, lambda n: np.exp(-np.float64(n)))
    schedule.step()
    assert {type(lr) for lr in schedule.get_last_lr()} == {float}
    net(nb.zeros((1, 3))).sum().backward()
    optimizer.step()
    assert {str(p.dtype) for p in net.parameters()} == {"float32"}


BAD = {
    "LambdaLR": [{"lr_lambda": [FUNCTIONS["steady"]]}, {"lr_lambda": lambda n: -1.0},
                 {"lr_lambda": lambda n: math.nan}],
    "MultiplicativeLR": [{"lr_lambda": [FUNCTIONS["steady"]] * 3}],
    "StepLR": [{"step_size": 0}, {"step_size": 1.5}, {"step_size": 3, "gamma": -0.1}],
    "MultiStepLR": [{"milestones": [1.5]}, {"milestones": [-1]}, {"milestones": [3], "gamma": math.inf}],
    "ConstantLR": [{"factor": 1.1}, {"factor": -0.1}, {"total_iters": -1}],
    "LinearLR": [{"start_factor": 0.0}, {"start_factor": 1.1}, {"end_factor": 1.1}, {"end_factor": -0.1},
                 {"total_iters": 0}],
    "ExponentialLR": [{"gamma": -0.5}, {"gamma": math.nan}, {"gamma": "0.5"}],
    "PolynomialLR": [{"total_iters": 0}, {"power": -1.0}],
    "CosineAnnealingLR": [{"T_max": 0}, {"T_max": 5, "eta_min": -0.1}],
    "CosineAnnealingWarmRestarts": [{"T_0": 0}, {"T_0": 1.5}, {"T_0": 3, "T_mult": 0}, {"T_0": 3, "T_mult": 1.5},
                                    {"T_0": 3, "eta_min": "0"}],
    "SWALR": [{"swa_lr": -0.1}, {"swa_lr": [0.1]}, {"swa_lr": 0.1, "anneal_epochs": -1},
              {"swa_lr": 0.1, "anneal_epochs": 1.5}, {"swa_lr": 0.1, "anneal_strategy": "exp"}],
    "CyclicLR": [{"base_lr": 0.1, "max_lr": [0.2]}, {"base_lr": 0.1, "max_lr": 0.2, "mode": "square"},
                 {"base_lr": 0.1, "max_lr": 0.2, "step_size_up": 0},
                 {"base_lr": 0.1, "max_lr": 0.2, "step_size_down": 0},
                 {"base_lr": -0.1, "max_lr": 0.2}, {"base_lr": 0.1, "max_lr": 0.2, "max_momentum": 1.0},
                 {"base_lr": 0.1, "max_lr": 0.2, "scale_mode": "epochs"},
                 {"base_lr": 0.1, "max_lr": 0.2, "scale_fn": lambda c: -9.0, "last_epoch": 1000}],
    "OneCycleLR": [{"max_lr": 0.1}, {"max_lr": 0.1, "epochs": 3}, {"max_lr": 0.1, "total_steps": 0},
                   {"max_lr": 0.1, "total_steps": 1.5}, {"max_lr": 0.1, "epochs": 0, "steps_per_epoch": 4},
                   {"max_lr": 0.1, "epochs": 4, "steps_per_epoch": -1}, {"max_lr": [0.1], "total_steps": 9},
                   {"max_lr": 0.1, "total_steps": 9, "pct_start": 1.1},
                   {"max_lr": 0.1, "total_steps": 9, "pct_start": -0.1},
                   {"max_lr": 0.1, "total_steps": 9, "pct_start": 0.6, "three_phase": True},
                   {"max_lr": 0.1, "total_steps": 9, "anneal_strategy": "exp"},
                   {"max_lr": 0.1, "total_steps": 9, "last_epoch": 9}],
    "ReduceLROnPlateau": [{"factor": 1.0}, {"mode": "up"}, {"threshold_mode": "log"}, {"min_lr": [0.1]},
                          {"patience": -1}, {"cooldown": 0.5}, {"eps": -1.0}],
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_settings_are_errors_and_change_nothing(name):
    _, optimizer = two_groups()
    optim.ConstantLR(optimizer)
    before, attached = [g.settings() for g in optimizer.param_groups], list(optimizer.schedules)
    for settings in BAD[name]:
        with pytest.raises(ValueError, match=name):
            getattr(optim, name)(optimizer, **settings)
        assert [g.settings() for g in optimizer.param_groups] == before
        assert optimizer.schedules == attached


def test_a_bad_learning_rate_stops_the_step_before_anything_changes():
    _, optimizer = two_groups()
    schedule = optim.LambdaLR(optimizer, [lambda n: 1.0 - n / 4, lambda n: 2.0 - n])
    schedule.step()
    schedule.step()
    before = seen(optimizer)
    with pytest.raises(ValueError, match=r"LambdaLR: lr: expected a finite number >= 0, got -0\.03"):
        schedule.step()
    assert (seen(optimizer), schedule.last_epoch) == (before, 2)


def test_wrong_optimizers_functions_and_parts():
    _, optimizer = two_groups()
    _, other = two_groups()
    for name in ("LambdaLR", "MultiplicativeLR"):
        with pytest.raises(ValueError, match=r"expected a function, got 0\.5"):
            getattr(optim, name)(optimizer, [FUNCTIONS["steady"], 0.5])
    with pytest.raises(TypeError, match="expected an optimizer, got Linear"):
        optim.StepLR(nn.Linear(1, 1), 3)
    with pytest.raises(ValueError, match="got a template"):
        optim.StepLR(optim.SGD(lr=0.1), 3)
    plain = optim.Adagrad([nn.Parameter(nb.zeros(1))])
    with pytest.raises(ValueError, match="momentum or betas, got Adagrad"):
        optim.OneCycleLR(plain, 0.1, total_steps=9)
    optim.OneCycleLR(plain, 0.1, total_steps=9, cycle_momentum=False).step()
    a, b, foreign = optim.StepLR(optimizer, 3), optim.StepLR(optimizer, 3), optim.StepLR(other, 3)
    plateau, stepped_before = optim.ReduceLROnPlateau(optimizer), optim.StepLR(optimizer, 3)
    short = optim.OneCycleLR(optimizer, 0.1, total_steps=3)
    stepped_before.step()
    attached = list(optimizer.schedules)
    for parts in ([], [a, plateau], [a, foreign], [a, a], [a, stepped_before]):
        with pytest.raises(ValueError, match=r"ChainedScheduler: expected"):
            optim.ChainedScheduler(parts)
        with pytest.raises(ValueError, match=r"SequentialLR: expected"):
            optim.SequentialLR(optimizer, parts, list(range(len(parts) - 1)))
    with pytest.raises(TypeError, match="got SGD"):
        optim.ChainedScheduler([a, optimizer])
    for parts, milestones in (
        ([a, b], []),
        ([a, b], [3, 5]),
        ([a, b, short], [5, 3]),
        ([a, b], [-1]),
        ([short, a], [9]),
    ):
        with pytest.raises(ValueError, match="SequentialLR"):
            optim.SequentialLR(optimizer, parts, milestones)
    assert optimizer.schedules == attached
    optim.ChainedScheduler([a, b])
    with pytest.raises(ValueError, match="one in use"):
        optim.ChainedScheduler([a])
