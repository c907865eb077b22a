"""PyTorch's declared module errors: ours must raise too, at the same stage, and nothing may have changed."""

from tests.torch_case import unchanged_by_error

from .table import Table, command, first_line
from .torch_modules import mapped
from .torch_side import error_cases


def run(names: list[str]) -> Table:
    """Every declared error of these modules, or of all."""
    table = Table("module")
    for case, ask in mapped(error_cases(names), table):
        try:
            unchanged_by_error(case, ask.construction)
            table.add(case.name, "agree")
        except Exception as error:
            table.add(case.name, "fail", f"{case}: {first_line(error)}")
    return table


if __name__ == "__main__":
    command(__doc__, run)
