"""PyTorch's answers in `fixtures/`, and a pretend device; see `ci/make_torch_fixtures.py`."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import array_api_strict
import numpy as np

from nnbackend.io import safetensors

DEVICE1 = array_api_strict.Device("device1")  # a stand-in for a GPU: no views, no silent way to NumPy
PLACES = ["cpu", DEVICE1]


@cache
def load(name: str) -> tuple[dict[str, np.ndarray[Any, Any]], Any]:
    """The arrays of a file, read-only, and its list of cases."""
    arrays, metadata = safetensors.read(Path(__file__).parent / "fixtures" / f"torch_{name}.safetensors")
    for array in arrays.values():
        array.flags.writeable = False
    return arrays, json.loads(metadata["cases"])
