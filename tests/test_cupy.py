"""CuPy without a driver: what its arrays answer when no kernel may run. `.ci/run` installs the wheel for it."""

import pytest

from nnbackend.backend.cupy_backend import CupyBackend

cupy = pytest.importorskip("cupy")


def test_views_share_memory_and_neighbours_do_not():
    """Else a program would not see a write through a view."""
    memory = cupy.cuda.MemoryPointer(cupy.cuda.UnownedMemory(4096, 64, None, 0), 0)
    x = cupy.ndarray((16,), "float32", memory)
    backend = CupyBackend()
    assert backend.shares(x, x[4:].reshape(3, 4))
    assert not backend.shares(x[:4], x[8:])
