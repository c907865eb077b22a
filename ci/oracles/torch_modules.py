"""PyTorch's module database on our layers: values, gradients and states to 1e-7, and a table of what agrees."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from nnbackend import nn
from tests.torch_case import Case, check

from .table import Table, command, first_line
from .torch_side import Foreign, answered, asked, module_cases

UNMAPPED = {
    "LazyConv1d": "lazy: parameters whose shape the first batch gives",
    "LazyConv2d": "lazy", "LazyConv3d": "lazy",
    "LazyConvTranspose1d": "lazy", "LazyConvTranspose2d": "lazy", "LazyConvTranspose3d": "lazy",
    "LinearCrossEntropyLoss": "PyTorch's fusion of Linear and CrossEntropyLoss, to save memory: two layers here",
}  # fmt: skip


def why_unmapped(case: Case) -> str | None:
    """Why PyTorch's answer is not one for us; None where it is."""
    if case.name in UNMAPPED:
        return UNMAPPED[case.name]
    dropout = case.name.endswith("Dropout") or "Dropout" in case.name
    if dropout and case.training and case.settings.args[:1] != (0.0,):
        return "dropout in training: other random numbers"
    if case.name in ("CrossEntropyLoss", "NLLLoss") and case.outputs and np.isnan(case.outputs[0]).any():
        return "all targets ignored: nan in PyTorch, 0 here on purpose"
    return None


def mapped(asks: Iterable[Any], table: Table) -> Iterator[tuple[Case, Any]]:
    """The cases that have a counterpart here; the others go into the table, with the reason."""
    for ask in asks:
        name = ask.cls.__name__
        try:
            case = asked(ask)
        except Foreign as reason:
            table.add(name, "unmapped", f"unmapped: {reason}")
            continue
        if reason := why_unmapped(case):
            table.add(name, "unmapped", f"unmapped: {reason}")
        elif not hasattr(nn, name):
            table.add(name, "missing")
        else:
            yield case, ask


def run(names: list[str]) -> Table:
    """Every case of these modules, or of all."""
    table = Table("module")
    for case, ask in mapped(module_cases(names), table):
        try:
            answered(case, ask)
        except Exception as error:
            table.add(case.name, "unmapped", f"unmapped: PyTorch raises {first_line(error)[:100]}")
            continue
        if reason := why_unmapped(case):
            table.add(case.name, "unmapped", f"unmapped: {reason}")
            continue
        try:
            check(case)
            table.add(case.name, "agree")
        except Exception as error:
            table.add(case.name, "fail", f"{case}: {first_line(error)}")
    return table


if __name__ == "__main__":
    command(__doc__, run)
