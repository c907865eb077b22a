"""What all tests share."""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is loaded: two test processes share two cores

import signal
import sys
from pathlib import Path

import hypothesis
import pytest

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # hundreds of processes load the library: it is compiled once
sys.dont_write_bytecode = False
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a script starts in the background

ROOT = Path(__file__).parent.parent
FIRST = [str(ROOT)]  # on the path, here and in every process that a test starts
if os.environ.get("NNBACKEND_TEST_CUPY") == "standin":
    FIRST.append(str(ROOT / "tests" / "standin"))
sys.path[:0] = FIRST
os.environ["PYTHONPATH"] = os.pathsep.join([*FIRST, *filter(None, [os.environ.get("PYTHONPATH")])])
sys.path.insert(0, str(ROOT / "examples"))  # examples are tested as modules, too
hypothesis.settings.register_profile("ci", max_examples=25, derandomize=True, deadline=None)
hypothesis.settings.register_profile("dev", max_examples=10, deadline=None)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "dev")


@pytest.fixture
def few_names():
    """Classes that one test registers are unknown to the next."""
    from nnbackend.recipe import registered  # some tests look at what an import of the library brings along

    known = dict(registered)
    yield
    registered.clear()
    registered.update(known)
