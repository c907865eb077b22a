"""PyTorch's declared optimizer errors: ours must raise, too, when it is made, and take the same without the fault."""

from collections.abc import Iterator
from typing import Any

import torch
from torch.testing._internal.common_optimizers import ErrorOptimizerInput, optim_db

import nnbackend as nb
from nnbackend import nn, optim

from .table import Table, command, first_line
from .torch_optim import MEANINGLESS, UNMAPPED


class Foreign(Exception):
    """An argument that has no counterpart here."""


def translated(x: Any, known: dict[int, nn.Parameter]) -> Any:
    """PyTorch's parameters as ours, the same again where it is the same again; other values as they are."""
    if isinstance(x, dict):
        return {k: translated(v, known) for k, v in x.items()}
    if isinstance(x, list | tuple):
        return type(x)(translated(v, known) for v in x)
    if not isinstance(x, torch.Tensor):
        return x
    if x.is_complex() or x.layout is not torch.strided:
        raise Foreign("complex or sparse parameters")
    return known.setdefault(id(x), nn.Parameter(nb.tensor(x.detach().numpy().copy())))


def settings_of(kwargs: dict[str, Any]) -> dict[str, Any]:
    """The settings with our tensors. Foreign if the fault is one of PyTorch's own making."""
    if meaningless := MEANINGLESS & kwargs.keys():
        raise Foreign(f"{', '.join(meaningless)}: means nothing here")
    if any(isinstance(beta, torch.Tensor) for beta in kwargs.get("betas", ())):
        raise Foreign("a tensor beside a number: taken as the number it holds")
    return {k: nb.tensor(v.numpy()) if isinstance(v, torch.Tensor) else v for k, v in kwargs.items()}


def declared(names: list[str]) -> Iterator[tuple[str, ErrorOptimizerInput]]:
    """Every error that PyTorch declares for these optimizers, or for all."""
    for info in optim_db:
        if not names or info.optim_cls.__name__ in names:
            for error in info.optim_error_inputs_func(device="cpu", dtype=torch.float64):
                yield info.optim_cls.__name__, error


def refused(name: str, params: Any, settings: dict[str, Any]) -> None:
    """AssertionError if the optimizer is made nevertheless."""
    cls, fine = getattr(optim, name), nn.Parameter(nb.ones((2, 3), dtype="float64"))
    cls([fine])
    try:
        cls([fine] if params is None else params, **settings)
    except (ValueError, TypeError):
        return
    raise AssertionError("does not raise")


def run(names: list[str]) -> Table:
    """Every declared error of these optimizers, or of all."""
    table = Table("optimizer")
    for name, error in declared(names):
        given = error.optimizer_error_input
        try:
            if name in UNMAPPED:
                raise Foreign(UNMAPPED[name])
            params, settings = translated(given.params, {}), settings_of(given.kwargs)
        except Foreign as reason:
            table.add(name, "unmapped", f"unmapped: {reason}")
            continue
        if not hasattr(optim, name):
            table.add(name, "missing")
            continue
        try:
            refused(name, params, settings)
            table.add(name, "agree")
        except Exception as caught:
            table.add(name, "fail", f"{given.desc}, {settings}: {first_line(caught)}")
    return table


if __name__ == "__main__":
    command(__doc__, run)
