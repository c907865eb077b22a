"""CUDA: what is written, and when; room beside the pool. On a GPU, or with the stand-in of `tests/standin`."""

import numpy as np
import pytest

import nnbackend as nb
from nnbackend.backend import cuda_status, library_backend
from nnbackend.errors import DTypeError

pytestmark = pytest.mark.skipif(not cuda_status().usable, reason="needs CUDA")


def test_what_is_written_to_page_locked_memory_comes_too_late() -> None:
    """What is read from a GPU lies in such memory, which CuPy copies only when the stream comes to it."""
    backend = library_backend("cupy")
    host = backend.to_host(nb.ones(1 << 20, device="cuda").data)
    assert backend.cupy.cuda.pinned_memory.is_memory_pinned(host.ctypes.data)
    there = nb.tensor(host, device="cuda")
    host[...] = 0
    assert float(there.min()) == 1.0


@pytest.mark.parametrize("said", ["CUBLAS_STATUS_ALLOC_FAILED", "cudaErrorMemoryAllocation: out of memory"])
def test_no_room_beside_the_pool_is_no_room(said: str) -> None:
    """CUDA's libraries have memory of their own; CuPy tells of it in other classes."""
    error = type("CUBLASError", (RuntimeError,), {"__module__": "cupy_backends.cuda.libs.cublas"})(said)
    with pytest.raises(MemoryError, match="out of memory on cuda:0: asked for more"), nb.device("cuda").stream():
        raise error


@pytest.mark.parametrize("dtype", ["int64", "int8"])
def test_of_several_values_the_last_stays_whatever_the_key(dtype: str) -> None:
    rng, many = np.random.default_rng(0), np.arange(300) % 4
    for shape, key in [
        ((200, 3), many), ((200, 3), many[:0]), ((5, 4), (slice(None), many)), ((0, 4), (..., many)),
        ((5, 4), (many, 2)), ((4, 2, 3), (many, None, slice(1))), ((4, 3), [0, 1, 0, 2, 0]), ((4, 4), (many, -many)),
    ]:  # fmt: skip
        x, parts = rng.random(shape), key if isinstance(key, tuple) else (key,)
        parts = tuple(part.astype(dtype) if isinstance(part, np.ndarray) else part for part in parts)
        there = tuple(nb.tensor(part, device="cuda") if isinstance(part, np.ndarray) else part for part in parts)
        y, values = nb.tensor(x, device="cuda"), rng.random(x[parts].shape)
        y[there] = nb.tensor(values, device="cuda")
        x[parts] = values
        np.testing.assert_array_equal(y.numpy(), x)


def test_numbers_on_the_gpu_are_arrays() -> None:
    """Only NumPy's 0-d arrays are numbers, for to read others would be to wait."""
    cupy = pytest.importorskip("cupy")
    x = nb.ones(3, device="cuda")
    with nb.testing.no_synchronization():
        y = x * cupy.asarray(2.0, "float32")
    assert y.tolist() == [2.0] * 3
    with pytest.raises(DTypeError, match="expected float32, got float64"):
        x * cupy.asarray(2.0)
    assert (x * np.float64(2.0)).dtype == np.float32
