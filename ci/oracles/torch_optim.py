"""PyTorch's optimizer database, and what it leaves out, on ours: weights over 25 steps to 1e-10, and states exchanged.

Four cases of each configuration: our steps one by one, the same recorded (of LBFGS, which looks at the loss, only the
closure), our steps from the state that PyTorch has after ten, and PyTorch's from ours.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch.testing._internal.common_optimizers import optim_db

import nnbackend as nb
from nnbackend import optim
from tests.optim_case import SHAPES, Plan, Player, close, problems

from .table import Table, command, first_line

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)

UNMAPPED = {"SparseAdam": "sparse gradients"}
NAMES = [o.optim_cls.__name__ for o in optim_db]
COUNTS = {"step", "eta", "mu", "mu_product"}  # numbers of a state that are tensors in PyTorch
MEANINGLESS = {"foreach", "fused", "capturable", "differentiable"}  # here
MORE = [
    Plan("SGD", {"lr": 0.1, "momentum": 0.5, "nesterov": True}),
    Plan("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.9, "weight_decay": 0.3, "maximize": True}),
    Plan("SGD", {"lr": 0.1}, changes=[[6, "momentum", 0.9], [18, "momentum", 0.0]]),
    Plan("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.5}, absent=[[1, 0], [1, 1], [3, 2], [9, 0]]),
    Plan("Adadelta", {"lr": 0.5, "rho": 0.5, "eps": 1e-3}),
    Plan("Adafactor", {"lr": 0.1, "d": 1.2, "eps": (1e-4, 0.5), "beta2_decay": -0.3, "maximize": True}),
    Plan("Adafactor", {"lr": 0.5, "eps": (None, 1e-3), "weight_decay": 0.0}),
    Plan("Adagrad", {"lr": 0.5, "lr_decay": 0.1, "eps": 1e-3, "initial_accumulator_value": 2.0, "maximize": True}),
    Plan("Adam", {"lr": 0.05, "betas": (0.5, 0.9), "eps": 1e-3}),
    Plan("Adam", {"lr": 0.05, "betas": (0.0, 0.99), "weight_decay": 0.2}),
    Plan("Adam", {"lr": 0.05, "betas": (0.9, 0.5), "amsgrad": True, "maximize": True, "weight_decay": 0.1}),
    Plan("Adam", {"lr": 0.05, "amsgrad": True, "weight_decay": 0.4, "decoupled_weight_decay": True}),
    Plan("Adamax", {"lr": 0.1, "betas": (0.5, 0.6), "eps": 1e-2}),
    Plan("AdamW", {"lr": 0.05, "betas": (0.5, 0.9), "eps": 1e-3, "weight_decay": 0.0}),
    Plan("AdamW", {"lr": 0.05, "betas": (0.8, 0.8), "weight_decay": 0.4}, changes=[[4, "betas", (0.7, 0.9)]]),
    Plan("AdamW", {"lr": 0.05, "betas": (0.8, 0.8), "amsgrad": True, "maximize": True}),
    Plan("ASGD", {"lr": 0.1, "t0": 5, "lambd": 0.05, "alpha": 0.6}),
    Plan("ASGD", {"lr": 0.1, "t0": 0, "weight_decay": 0.1}, changes=[[n, "lr", 0.1 * 0.8**n] for n in range(2, 26)]),
    Plan("LBFGS", {"lr": 0.5, "max_iter": 4, "history_size": 3}),
    Plan("LBFGS", {"lr": 0.7, "max_iter": 3, "max_eval": 4, "history_size": 2, "line_search_fn": "strong_wolfe"}),
    Plan("LBFGS", {"max_iter": 3, "tolerance_grad": 1e-2, "tolerance_change": 1e-3}),
    Plan("Muon", {"lr": 0.1, "nesterov": False, "adjust_lr_fn": "match_rms_adamw", "eps": 1e-3}),
    Plan("Muon", {"lr": 0.1, "momentum": 0.0, "adjust_lr_fn": "original", "weight_decay": 0.0}),
    Plan("NAdam", {"lr": 0.05, "weight_decay": 0.2, "decoupled_weight_decay": True, "maximize": True}),
    Plan("NAdam", {"lr": 0.05, "betas": (0.5, 0.6), "eps": 1e-3, "momentum_decay": 0.5}, absent=[[1, 1], [4, 2]]),
    Plan("RAdam", {"lr": 0.05, "weight_decay": 0.2, "decoupled_weight_decay": True, "maximize": True}),
    Plan("RAdam", {"lr": 0.05, "betas": (0.5, 0.6), "eps": 1e-3}),
    Plan("RAdam", {"lr": 0.05, "betas": (0.5, 0.9)}, absent=[[1, 1], [4, 2], [5, 2]]),
    Plan("RMSprop", {"lr": 0.05, "alpha": 0.5, "eps": 1e-3, "momentum": 0.9}),
    Plan("RMSprop", {"lr": 0.05, "alpha": 0.9, "centered": True, "momentum": 0.5, "maximize": True}),
    Plan("Rprop", {"lr": 0.1, "etas": (0.3, 1.9), "step_sizes": (1e-3, 0.15), "maximize": True}),
]


def database() -> Iterator[Plan]:
    """PyTorch's own configurations."""
    for info in optim_db:
        for case in info.optim_inputs_func(device="cpu"):
            settings = {k: v for k, v in case.kwargs.items() if k not in MEANINGLESS}
            settings = {k: v.numpy() if isinstance(v, torch.Tensor) else v for k, v in settings.items()}
            yield Plan(info.optim_cls.__name__, settings)


def happenings(name: str) -> Iterator[Plan]:
    """Groups, a schedule, gradients that are missing, parameters that are frozen."""
    if name in ("LBFGS", *UNMAPPED):
        return
    last = len(SHAPES[Plan(name).problem]) - 1
    decay = {} if name == "Rprop" else {"weight_decay": 0.3}
    yield Plan(name, {"lr": 0.03}, groups=[[1, {"lr": 0.1, **decay}], [1, {}], [last - 1, {"lr": 0.0, **decay}]])
    yield Plan(name, {"lr": 0.1, **decay}, changes=[[n, "lr", 0.1 / n] for n in range(2, 26)])
    yield Plan(name, {"lr": 0.1}, absent=[[1, 0], *([2, i] for i in range(last)), [5, 1], [10, 1], [11, last]])
    yield Plan(name, {"lr": 0.1}, frozen=[1])


def answered(plan: Plan, arrays: dict[str, Any]) -> list[Any]:
    """PyTorch's weights after the steps that are `CHECKED`."""
    return list(Player(torch, plan, arrays).checked())


def along(plan: Plan, arrays: dict[str, Any], weights: list[Any], recorded: bool) -> float:
    """Ours beside PyTorch from the start."""
    player = Player(nb, plan, arrays, recorded=recorded)
    return max(close(now, then) for now, then in zip(player.checked(), weights, strict=True))


def exchanged(plan: Plan, arrays: dict[str, Any], giver: Any, taker: Any) -> float:
    """One library takes ten steps; from there, both go on for five, the other with the state of the one."""
    one = Player(giver, plan, arrays)
    for _ in range(10):
        one.step()
    here = {f"{plan.problem}.start.{i}": p.detach().numpy().copy() for i, p in enumerate(one.params)}
    other = Player(taker, plan, arrays | here)
    other.fresh()
    other.n, state, known = one.n, translated(one.optimizer.state_dict()), other.optimizer.state_dict()
    state["param_groups"] = [a | b for a, b in zip(known["param_groups"], state["param_groups"], strict=True)]
    other.optimizer.load_state_dict(state)
    worst = 0.0
    for _ in range(5):
        one.step()
        other.step()
        worst = max(worst, close(one.weights(), other.weights()))
    return worst


def translated(x: Any) -> Any:
    """A state with the tensors of the other library."""
    if isinstance(x, dict):
        return {
            k: torch.tensor(float(v)) if k in COUNTS and not hasattr(v, "shape") else translated(v)
            for k, v in x.items()
        }
    if isinstance(x, list | tuple):
        return type(x)(map(translated, x))
    if isinstance(x, torch.Tensor):
        return nb.tensor(x.detach().numpy().copy())
    return torch.tensor(x.detach().numpy().copy()) if isinstance(x, nb.Tensor) else x


def run(names: list[str]) -> Table:
    """Every configuration of these optimizers, or of all."""
    table, arrays = Table("optimizer"), problems()
    largest = dict.fromkeys(("eager", "recorded", "from PyTorch's state", "PyTorch from our state"), 0.0)
    for plan in (*database(), *MORE, *(plan for name in NAMES for plan in happenings(name))):
        if names and plan.name not in names:
            continue
        if plan.name in UNMAPPED:
            table.add(plan.name, "unmapped", f"unmapped: {UNMAPPED[plan.name]}")
            continue
        if not hasattr(optim, plan.name):
            table.add(plan.name, "missing")
            continue
        weights = answered(plan, arrays)
        ways = {
            "eager": partial(along, plan, arrays, weights, recorded=False),
            "recorded": partial(along, plan, arrays, weights, recorded=True),
            "from PyTorch's state": partial(exchanged, plan, arrays, torch, nb),
            "PyTorch from our state": partial(exchanged, plan, arrays, nb, torch),
        }
        for way, compared in ways.items():
            try:
                largest[way] = max(largest[way], compared())
                table.add(plan.name, "agree")
            except Exception as error:
                table.add(plan.name, "fail", f"{plan}, {way}: {first_line(error)}")
    table.footnote = "largest difference: " + ", ".join(f"{way} {worst:.1e}" for way, worst in largest.items())
    return table


if __name__ == "__main__":
    command(__doc__, run)
