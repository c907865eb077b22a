"""CuPy without a driver: what its arrays answer when no kernel may run. `.ci/run` installs the wheel for it."""

import contextlib

import pytest

from nnbackend.backend.cupy_backend import CupyBackend
from nnbackend.testing import synchronizations

cupy = pytest.importorskip("cupy")
if hasattr(cupy, "is_standin"):
    pytest.skip("about the real one", allow_module_level=True)


def test_views_share_memory_and_neighbours_do_not():
    """Else a program would not see a write through a view."""
    memory = cupy.cuda.MemoryPointer(cupy.cuda.UnownedMemory(4096, 64, None, 0), 0)
    x = cupy.ndarray((16,), "float32", memory)
    backend = CupyBackend()
    assert backend.shares(x, x[4:].reshape(3, 4))
    assert not backend.shares(x[:4], x[8:])


def test_what_makes_the_host_wait_is_found():
    """Also what CuPy itself reads inside: it says so to `cupy._core.syncdetect`."""
    with synchronizations() as found:
        for wait in (cupy.cuda.Device(0).synchronize, cupy.cuda.Stream.null.synchronize):
            with contextlib.suppress(RuntimeError):  # there is no driver
                wait()
    assert len(found) == 2
    assert all("test_cupy.py" in line for line in found)
