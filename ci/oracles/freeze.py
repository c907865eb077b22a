"""A sample of PyTorch's module cases and declared errors as small files in tests/fixtures/modules.

    python -m ci.oracles.freeze [folder]

Of every module that is here, three cases with different settings, small ones first; of every error, the case itself.
"""

import sys
import warnings
from pathlib import Path

import torch

from nnbackend import nn
from tests.torch_case import Case, Leaf, flat, freeze

from .torch_modules import why_unmapped
from .torch_side import Foreign, answered, asked, error_cases, module_cases

FOLDER = Path(__file__).parents[2] / "tests" / "fixtures" / "modules"
EACH, LIMIT = 3, 10_000  # cases of a module; bytes of any but the first


def size(case: Case) -> int:
    """Bytes of the arrays of a case."""
    inputs = [x.array if isinstance(x, Leaf) else x for x in flat([case.inputs.args, *case.inputs.kw.values()])]
    answers = [*inputs, *case.outputs, *case.gradients, *case.state.values(), *case.parameters.values()]
    return sum(x.nbytes for x in answers if hasattr(x, "nbytes"))


def sampled(cases: list[Case]) -> list[Case]:
    """Three of the small ones with different settings, if there are; training and evaluation in turns."""
    chosen: dict[str, Case] = {}
    for case in sorted(cases, key=size):
        settings, mode = str(case).partition(" on ")[0], len(chosen) % 2 == 0
        small = len(chosen) < EACH and (not chosen or size(case) < LIMIT)
        if small and settings not in chosen and case.training == mode:
            chosen[settings] = case
    return list(chosen.values())


def main(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    files: dict[str, dict[str, list[Case]]] = {}
    for ask in module_cases([]):
        try:
            case = asked(ask)
            if hasattr(nn, case.name) and not why_unmapped(case) and not why_unmapped(answered(case, ask)):
                home = files.setdefault(ask.cls.__module__.rpartition(".")[2], {})
                home.setdefault(f"{case.then} {case.name}", []).append(case)
        except (Foreign, RuntimeError):
            continue
    for home, modules in files.items():
        cases = [case for listed in modules.values() for case in sampled(listed)]
        freeze(folder / f"{home}.safetensors", cases, torch=torch.__version__)
        print(f"{home}: {len(cases)} cases of {len(modules)} modules")
    wrong = []
    for ask in error_cases([]):
        case = asked(ask)
        settings = list(flat([case.settings.args, *case.settings.kw.values()]))
        if hasattr(nn, case.name) and not why_unmapped(case) and not any(isinstance(x, complex) for x in settings):
            case.note = "construction" if ask.construction else "call"
            wrong.append(case)
    freeze(folder / "errors.safetensors", wrong, torch=torch.__version__)
    print(f"errors: {len(wrong)}; {sum(p.stat().st_size for p in folder.iterdir())} bytes in all")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(Path(sys.argv[1]) if sys.argv[1:] else FOLDER)
