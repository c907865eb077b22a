"""Schedules against PyTorch's: learning rate and momentum of two groups over 29 and 200 steps.

    python -m ci.oracles.torch_schedules [name ...] [-v]
    python -m ci.oracles.torch_schedules --freeze     # 29 steps of each case, to tests/fixtures

Differences are relative to the largest of a trajectory: PyTorch's recursions round as they go.
"""

import json
import sys
import types
import warnings
from itertools import cycle
from pathlib import Path

import numpy as np
import torch

from nnbackend import optim
from nnbackend.io import safetensors
from tests.schedule_case import CASES, LRS, OPTIMIZERS, all_made, last, name_of, seen, stepped, two_groups

from .table import Table, command, first_line

FIXTURE = Path(__file__).parents[2] / "tests" / "fixtures" / "torch_schedules.safetensors"
TORCH = types.SimpleNamespace(**vars(torch.optim.lr_scheduler), SWALR=torch.optim.swa_utils.SWALR)
STEPS, TOLERANCE = (29, 200), 1e-12


def theirs(case, kind, steps):
    """(steps + 1, groups, 2), by PyTorch."""
    groups = [{"params": [torch.nn.Parameter(torch.zeros(2))], "lr": lr} for lr in LRS]
    return trajectory(case, TORCH, getattr(torch.optim, kind)(groups, **OPTIMIZERS[kind]), steps)


def ours(case, kind, steps):
    """The same by us."""
    return trajectory(case, optim, two_groups(kind)[1], steps)


def trajectory(case, room, optimizer, steps):
    """What the optimizer's groups have at the start and after each step."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that no optimizer steps here
        schedules = all_made(case, room, optimizer)
        rows = [seen(optimizer)]
        for n in range(last(case, steps)):
            stepped(case, schedules, n)
            rows.append(seen(optimizer))
    return np.asarray(rows)


def run(names: list[str]) -> Table:
    """Every case with SGD and with Adam."""
    table, worst = Table("schedule"), 0.0
    for case in [case for case in CASES if not names or name_of(case) in names]:
        for kind in OPTIMIZERS:
            for steps in STEPS:
                try:
                    a, b = ours(case, kind, steps), theirs(case, kind, steps)
                    difference = float((abs(a - b).max((0, 1)) / abs(b).max((0, 1))).max())
                    assert difference <= TOLERANCE, f"differs by {difference:.1e} over {steps} steps"
                    worst = max(worst, difference)
                    table.add(name_of(case), "agree")
                except Exception as error:
                    table.add(name_of(case), "fail", f"{case} with {kind}: {first_line(error)}")
    missing = {n for n in vars(torch.optim.lr_scheduler)["__all__"] if not hasattr(optim, n)}
    for name in sorted(missing):
        table.add(name, "missing")
    table.footnote = f"largest difference: {worst:.1e} of the largest of a trajectory"
    return table


def freeze() -> None:
    """PyTorch's answers for the tests, which never import it; the optimizers take turns."""
    arrays = {str(i): theirs(case, kind, STEPS[0]) for i, (case, kind) in enumerate(zip(CASES, cycle(OPTIMIZERS)))}
    safetensors.write(FIXTURE, arrays, {"cases": json.dumps(CASES), "torch": torch.__version__})
    print(f"{FIXTURE}: {FIXTURE.stat().st_size} bytes")


if __name__ == "__main__":
    freeze() if "--freeze" in sys.argv else command(__doc__, run)
