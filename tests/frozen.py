"""PyTorch's answers in `fixtures/`, and a device whose values must not be read; see `ci/make_torch_fixtures.py`."""

import contextlib
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import array_api_strict
import numpy as np

from nnbackend.backend import Backend
from nnbackend.io import safetensors

DEVICE1 = array_api_strict.Device("device1")  # a stand-in for a GPU: no views, no silent way to NumPy
PLACES = ["cpu", DEVICE1]
STRICT = type(array_api_strict.ones(()))
SYNCS = ("__float__", "__int__", "__bool__", "__index__")


@cache
def load(name: str) -> tuple[dict[str, np.ndarray[Any, Any]], Any]:
    """The arrays of a file, read-only, and its list of cases."""
    arrays, metadata = safetensors.read(Path(__file__).parent / "fixtures" / f"torch_{name}.safetensors")
    for array in arrays.values():
        array.flags.writeable = False
    return arrays, json.loads(metadata["cases"])


@contextlib.contextmanager
def no_sync() -> Iterator[None]:
    """Inside, reading a value of strict `device1` on the host fails."""

    def refused(*args: Any, **kw: Any) -> Any:
        raise AssertionError("a value was read on the host")

    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(Backend, "to_host", refused))
        for name in SYNCS:
            stack.enter_context(mock.patch.object(STRICT, name, refused))
        yield
