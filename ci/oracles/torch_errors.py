"""PyTorch's declared module errors: ours must raise too, at the same stage, and nothing may have changed."""

import argparse
import sys
import warnings

from nnbackend import nn
from tests.torch_case import unchanged_by_error

from .table import Table, first_line
from .torch_modules import why_unmapped
from .torch_side import Foreign, asked, error_cases


def run(names: list[str]) -> Table:
    """Every declared error of these modules, or of all."""
    table = Table("module")
    for ask in error_cases(names):
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
                unchanged_by_error(case, ask.construction)
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
    sys.exit(not run(args.modules).show(args.v))


if __name__ == "__main__":
    main()
