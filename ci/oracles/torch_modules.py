"""PyTorch's module database on our layers: values, gradients and states to 1e-7, and a table of what agrees."""

import argparse
import sys
import warnings

import numpy as np

from nnbackend import nn
from tests.torch_case import Case, check

from .table import Table, first_line
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


def run(names: list[str]) -> Table:
    """Every case of these modules, or of all."""
    table = Table("module")
    for ask in module_cases(names):
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
            try:
                answered(case, ask)
            except Exception as error:
                table.add(name, "unmapped", f"unmapped: PyTorch raises {first_line(error)[:100]}")
                continue
            if reason := why_unmapped(case):
                table.add(name, "unmapped", f"unmapped: {reason}")
                continue
            try:
                check(case)
                table.add(name, "agree")
            except Exception as error:
                table.add(name, "fail", f"{case}: {first_line(error)}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*")
    parser.add_argument("-v", action="store_true", help="every failing case")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    sys.exit(not run(args.modules).show(args.v))


if __name__ == "__main__":
    main()
