"""A frozen sample of PyTorch's module database and of its declared errors; `python -m ci.oracles.freeze` makes it."""

from pathlib import Path

import numpy as np
import pytest
from torch_case import Case, check, thaw, unchanged_by_error

FILES = {path.stem: thaw(path) for path in sorted((Path(__file__).parent / "fixtures" / "modules").iterdir())}
ERRORS = FILES.pop("errors")
CASES = [case for cases in FILES.values() for case in cases]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_layer_agrees_with_pytorch(case: Case) -> None:
    with np.errstate(all="ignore"):  # some inputs are outside the domain, with nan as PyTorch's answer
        check(case)


@pytest.mark.parametrize("case", ERRORS, ids=str)
def test_what_pytorch_refuses_is_refused_here(case: Case) -> None:
    unchanged_by_error(case, construction=case.note == "construction")


def test_the_sample_covers_the_layers() -> None:
    assert len({case.name for case in CASES}) >= 130
