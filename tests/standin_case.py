"""The stand-in for CuPy as a fixture, whatever else is called cupy here."""

import importlib
import sys
from pathlib import Path

import pytest

STANDIN = Path(__file__).parent / "standin"


@pytest.fixture(scope="module", name="cp")
def the_standin():
    """The module; afterwards what was called cupy is back."""
    ours = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in ("cupy", "cupyx")}
    if getattr(ours.get("cupy"), "is_standin", False):
        yield ours["cupy"]
        return
    for name in ours:
        del sys.modules[name]
    streams = importlib.import_module("nnbackend.backend.capture")._streams  # of whoever was called cupy before
    streams.clear()
    sys.path.insert(0, str(STANDIN))
    try:
        cupy = importlib.import_module("cupy")
        importlib.import_module("cupyx.scipy.special")
        yield cupy
    finally:
        streams.clear()
        sys.path.remove(str(STANDIN))
        for name in [name for name in sys.modules if name.partition(".")[0] in ("cupy", "cupyx")]:
            del sys.modules[name]
        sys.modules.update(ours)
