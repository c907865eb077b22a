"""Schedules as plain data, for PyTorch and for us, and what they do to an optimizer."""

import math
from typing import Any

from nnbackend import nn, optim

FUNCTIONS = {  # for lr_lambda and scale_fn
    "inverse": lambda n: 1.0 / (1.0 + 0.1 * n),
    "decay": lambda n: 0.95**n,
    "shrink": lambda n: 0.97 - 0.001 * (n % 7),
    "steady": lambda n: 0.95,
    "root": lambda x: x**-0.5,
    "slow": lambda x: 0.99**x,
}
WARM_UP = ("LinearLR", {"start_factor": 0.1, "total_iters": 5})
CONSTANT = ("ConstantLR", {"factor": 0.5, "total_iters": 4})
EXPONENTIAL = ("ExponentialLR", {"gamma": 0.9})

SINGLE: list[Any] = [
    ("LambdaLR", {"lr_lambda": "inverse"}),
    ("LambdaLR", {"lr_lambda": ["decay", "inverse"]}),
    ("MultiplicativeLR", {"lr_lambda": "shrink"}),
    ("MultiplicativeLR", {"lr_lambda": ["steady", "shrink"]}),
    ("StepLR", {"step_size": 7}),
    ("StepLR", {"step_size": 3, "gamma": 0.5}),
    ("StepLR", {"step_size": 1, "gamma": 1.01}),
    ("MultiStepLR", {"milestones": [4, 11, 20]}),
    ("MultiStepLR", {"milestones": [0, 5, 5, 9], "gamma": 0.7}),
    ("ConstantLR", {}),
    ("ConstantLR", {"factor": 0.2, "total_iters": 12}),
    ("LinearLR", {}),
    ("LinearLR", {"start_factor": 0.01, "total_iters": 20}),
    ("LinearLR", {"start_factor": 1.0, "end_factor": 0.1, "total_iters": 13}),
    ("ExponentialLR", {"gamma": 0.9}),
    ("ExponentialLR", {"gamma": 1.02}),
    ("PolynomialLR", {}),
    ("PolynomialLR", {"total_iters": 25, "power": 2.0}),
    ("PolynomialLR", {"total_iters": 40, "power": 0.5}),
    ("CosineAnnealingLR", {"T_max": 10}),
    ("CosineAnnealingLR", {"T_max": 29, "eta_min": 0.01}),
    ("CosineAnnealingLR", {"T_max": 7, "eta_min": 0.002}),
    ("CosineAnnealingWarmRestarts", {"T_0": 10}),
    ("CosineAnnealingWarmRestarts", {"T_0": 3, "T_mult": 2, "eta_min": 0.003}),
    ("CosineAnnealingWarmRestarts", {"T_0": 1, "T_mult": 3}),
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 5}),
    ("CyclicLR", {"base_lr": [0.01, 0.001], "max_lr": [0.1, 0.02], "step_size_up": 4, "step_size_down": 7}),
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 4, "mode": "triangular2"}),
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 6, "mode": "exp_range", "gamma": 0.97}),
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 5, "scale_fn": "root"}),
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 5, "scale_fn": "slow", "scale_mode": "iterations"}),
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 5, "cycle_momentum": False}),
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 5, "base_momentum": 0.5, "max_momentum": 0.99}),
    ("OneCycleLR", {"max_lr": 0.1, "total_steps": 30}),
    ("OneCycleLR", {"max_lr": [0.1, 0.02], "epochs": 5, "steps_per_epoch": 6, "pct_start": 0.4}),
    ("OneCycleLR", {"max_lr": 0.1, "total_steps": 30, "anneal_strategy": "linear"}),
    ("OneCycleLR", {"max_lr": 0.1, "total_steps": 30, "three_phase": True}),
    ("OneCycleLR", {"max_lr": 0.1, "total_steps": 31, "three_phase": True, "anneal_strategy": "linear"}),
    ("OneCycleLR", {"max_lr": 0.1, "total_steps": 30, "cycle_momentum": False, "div_factor": 10.0}),
    ("OneCycleLR", {"max_lr": 0.1, "total_steps": 30, "pct_start": 0.0, "final_div_factor": 100.0}),
    ("OneCycleLR", {"max_lr": 0.1, "total_steps": 30, "pct_start": 1.0, "base_momentum": 0.7, "max_momentum": 0.9}),
    ("SWALR", {"swa_lr": 0.05}),
    ("SWALR", {"swa_lr": [0.05, 0.2], "anneal_epochs": 4, "anneal_strategy": "linear"}),
    ("SWALR", {"swa_lr": 0.05, "anneal_epochs": 1}),
    ("ReduceLROnPlateau", {"patience": 2}),
    ("ReduceLROnPlateau", {"factor": 0.5, "patience": 1, "cooldown": 3, "min_lr": [0.02, 0.001]}),
    ("ReduceLROnPlateau", {"mode": "max", "factor": 0.3, "patience": 0, "threshold": 0.1, "threshold_mode": "abs"}),
    ("ReduceLROnPlateau", {"mode": "max", "patience": 3, "threshold": 0.05, "eps": 1e-4}),
    ("ReduceLROnPlateau", {"patience": 1, "threshold": 0.02, "threshold_mode": "abs", "factor": 0.1}),
]  # fmt: skip
COMPOSED: list[Any] = [
    *[
        ("ChainedScheduler", {"schedulers": parts})
        for parts in (
            [CONSTANT, EXPONENTIAL],
            [WARM_UP, ("StepLR", {"step_size": 6, "gamma": 0.5}), EXPONENTIAL],
            [("MultiStepLR", {"milestones": [5, 20]}), ("PolynomialLR", {"total_iters": 250})],
            [("MultiplicativeLR", {"lr_lambda": "shrink"}), WARM_UP],
            [("CosineAnnealingLR", {"T_max": 230}), EXPONENTIAL],
            [CONSTANT, ("CosineAnnealingLR", {"T_max": 230})],
        )
    ],
    *[
        ("SequentialLR", {"schedulers": parts, "milestones": milestones})
        for parts, milestones in (
            ([WARM_UP, ("CosineAnnealingLR", {"T_max": 24})], [5]),
            ([WARM_UP, EXPONENTIAL], [5]),
            ([WARM_UP, ("StepLR", {"step_size": 4})], [7]),
            ([WARM_UP, ("PolynomialLR", {"total_iters": 20})], [5]),
            ([WARM_UP, ("LambdaLR", {"lr_lambda": "decay"})], [5]),
            ([WARM_UP, ("CosineAnnealingWarmRestarts", {"T_0": 4, "T_mult": 2})], [5]),
            ([CONSTANT, EXPONENTIAL, ("MultiStepLR", {"milestones": [3, 6]})], [4, 12]),
            ([WARM_UP, ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 6})], [5]),
            ([CONSTANT, ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 6}), EXPONENTIAL], [4, 17]),
            ([WARM_UP, EXPONENTIAL], [0]),
            ([EXPONENTIAL], []),
        )
    ],
]
TOGETHER: list[Any] = [  # two schedules that step one after the other; with a number, the second takes over there
    (WARM_UP, EXPONENTIAL, None),
    (EXPONENTIAL, CONSTANT, None),
    (("StepLR", {"step_size": 5, "gamma": 0.7}), ("MultiStepLR", {"milestones": [8, 15], "gamma": 0.5}), None),
    (("StepLR", {"step_size": 3}), CONSTANT, 4),
    (EXPONENTIAL, ("SWALR", {"swa_lr": 0.02, "anneal_epochs": 6}), 10),
    (("CosineAnnealingLR", {"T_max": 30}), ("SWALR", {"swa_lr": 0.02, "anneal_strategy": "linear"}), 12),
    (WARM_UP, ("ReduceLROnPlateau", {"patience": 2, "factor": 0.5}), None),
]
CASES: list[Any] = [
    *[(spec, None, None) for spec in [*SINGLE, *COMPOSED]],
    *TOGETHER,
]
OPTIMIZERS: dict[str, Any] = {"SGD": {"momentum": 0.6}, "Adam": {"betas": (0.8, 0.99)}}
LRS = [0.1, 0.03]  # of two groups


def name_of(case: Any) -> str:
    """Of the first schedule, or "together"."""
    return case[0][0] if case[1] is None else "together"


def two_groups(kind: str = "SGD", place: Any = "cpu", dtype: str = "float64") -> Any:
    """A layer and an optimizer with a group for each of its parameters."""
    net = nn.Linear(3, 2, dtype=dtype)
    net.init(0)
    net.to(place)
    groups = [{"params": [p], "lr": lr} for p, lr in zip(net.parameters(), LRS, strict=True)]
    return net, getattr(optim, kind)(groups, **OPTIMIZERS[kind])


def made(spec: Any, room: Any, optimizer: Any) -> Any:
    """A schedule by PyTorch's names, of the `room` that has them."""
    name, settings = spec[0], dict(spec[1])
    for key in settings.keys() & {"lr_lambda", "scale_fn"}:
        functions = settings[key]
        settings[key] = [FUNCTIONS[f] for f in functions] if isinstance(functions, list) else FUNCTIONS[functions]
    if "schedulers" in settings:
        settings["schedulers"] = [made(part, room, optimizer) for part in settings["schedulers"]]
    return getattr(room, name)(**settings) if name == "ChainedScheduler" else getattr(room, name)(optimizer, **settings)


def metric(n: int) -> float:
    """Better and better, with plateaus."""
    return round(math.exp(-(n % 60) / 6), 2) + 0.03 * (n % 3)


def all_made(case: Any, room: Any, optimizer: Any) -> list[Any]:
    """The schedules of a case."""
    return [made(spec, room, optimizer) for spec in case[:2] if spec is not None]


def stepped(case: Any, schedules: list[Any], n: int) -> None:
    """Step n = 0, 1, ... of those whose turn it is."""
    for i, schedule in enumerate(schedules):
        if case[2] is None or i == (n >= case[2]):
            schedule.step(metric(n)) if "Plateau" in type(schedule).__name__ else schedule.step()


def seen(optimizer: Any) -> list[list[float]]:
    """Learning rate and momentum, or the first of the betas, of each group."""
    return [[float(g["lr"]), float(g["betas"][0] if "betas" in g else g["momentum"])] for g in optimizer.param_groups]


def last(case: Any, steps: int) -> int:
    """How far a trajectory is compared: what PyTorch does at the very end of a cycle is not followed."""
    settings = case[0][1]
    whole = settings.get("total_steps") or settings.get("epochs", 1) * settings.get("steps_per_epoch", 10**9)
    return min(steps, whole - 1)
