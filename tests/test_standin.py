"""The stand-in for CuPy is as strict as CuPy, and knows the same names."""

import importlib
import importlib.util
import json
import os
import threading

import numpy as np
import pytest
from standin_case import STANDIN, the_standin  # noqa: F401 - a fixture

MAKER = STANDIN.parent.parent / "ci" / "make_cupy_signatures.py"


# These two come first: the fixture below changes what is called cupy.


def test_turns_up_where_the_environment_says_so():
    found = importlib.util.find_spec("cupy")
    is_standin = found is not None and str(STANDIN) in str(found.origin)
    assert is_standin == (os.environ.get("NNBACKEND_TEST_CUPY") == "standin")


def test_frozen_names_are_those_of_cupy():
    real = importlib.util.find_spec("cupy")
    if real is None or str(STANDIN) in str(real.origin):
        pytest.skip("needs the wheel of CuPy")
    if not importlib.import_module("cupy").__version__.startswith("14.2."):
        pytest.skip("frozen from CuPy 14.2")
    spec = importlib.util.spec_from_file_location("make_cupy_signatures", MAKER)
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    frozen = json.loads(maker.FILE.read_text())
    for place, names in maker.signatures().items():
        assert names == frozen[place], place


@pytest.fixture
def waits(cp):
    waits = cp._core.syncdetect.waits
    before = waits.copy()
    return lambda: dict(waits - before)


REFUSED = {
    "host array on the right": (lambda cp, x: x + np.ones(3), TypeError, "Unsupported type <class 'numpy.ndarray'>"),
    "host array on the left": (lambda cp, x: np.ones(3) * x, TypeError, "Unsupported type <class 'numpy.ndarray'>"),
    "host array in place": (lambda cp, x: x.__iadd__(np.ones(3)), TypeError, "Unsupported type"),
    "host array compared": (lambda cp, x: x == np.ones(3), TypeError, "Unsupported type"),
    "host array in a function": (lambda cp, x: cp.sum(np.ones(3)), TypeError, "cupy.ndarray|Unsupported"),
    "host array in where": (lambda cp, x: cp.where(x > 0, np.ones(3), x), TypeError, "Unsupported type"),
    "host array assigned": (lambda cp, x: x.__setitem__(slice(None), np.ones(3)), ValueError, "non-scalar numpy"),
    "list": (lambda cp, x: x * [1.0, 2.0, 3.0], TypeError, "returned NotImplemented|Unsupported"),
    "to NumPy": (lambda cp, x: np.asarray(x), TypeError, "Implicit conversion"),
    "NumPy's ufunc that CuPy lacks": (lambda cp, x: np.spacing(x), TypeError, "returned NotImplemented"),
    "index of a list": (lambda cp, x: [1, 2, 3][x[0]], TypeError, "indices must be integers"),
    "range": (lambda cp, x: range(cp.asarray(3)), TypeError, "integer"),
    "slice": (lambda cp, x: x[cp.asarray(1) :], TypeError, "slice indices"),
    "float index": (lambda cp, x: x[x], IndexError, "integer or boolean"),
    "number in a list": (lambda cp, x: cp.concatenate([x, 1.0]), TypeError, "Only cupy arrays"),
    "device argument": (lambda cp, x: cp.zeros(3, device=0), TypeError, "device"),
    "stable argument": (lambda cp, x: cp.sort(x, stable=True), TypeError, "stable"),
    "where argument": (lambda cp, x: cp.sum(x, where=x > 0), TypeError, "where"),
    "kind": (lambda cp, x: cp.sort(x, kind="mergesort"), ValueError, "kind"),
    "casting": (lambda cp, x: x.astype("int32", casting="safe"), TypeError, "casting is not supported"),
    "bool minus bool": (lambda cp, x: (x > 0) - (x > 1), TypeError, "subtract"),
    "float bits": (lambda cp, x: x & x, TypeError, "Wrong type"),
    "float into int": (lambda cp, x: cp.arange(3).__iadd__(x), TypeError, "same_kind"),
    "big int": (lambda cp, x: cp.zeros(3, "int8") + 300, OverflowError, "300"),
    "truth of many": (lambda cp, x: bool(x), ValueError, "ambiguous"),
    "hash": (lambda cp, x: hash(x), TypeError, "unhashable"),
    "hash of a device": (lambda cp, x: hash(x.device), TypeError, "unhashable"),
    "objects": (lambda cp, x: cp.array(["a"]), ValueError, "Unsupported dtype"),
    "copy needed": (lambda cp, x: cp.array(x, dtype="float32", copy=False), ValueError, "Unable to avoid copy"),
    "third device": (lambda cp, x: cp.cuda.Device(2).use(), RuntimeError, "cudaErrorInvalidDevice"),
    "host by DLPack": (lambda cp, x: cp.from_dlpack(np.ones(3)), BufferError, "CPU"),
    "DLPack to the host": (lambda cp, x: np.from_dlpack(x), (BufferError, RuntimeError), "nsupported device"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(cp, name):
    work, error, message = REFUSED[name]
    with pytest.raises(error, match=message):
        work(cp, cp.arange(3.0))


def test_lacks_what_cupy_lacks(cp):
    for missing in ("vecdot", "spacing", "float128"):
        assert not hasattr(cp, missing)
    assert not hasattr(cp.ndarray, "__index__")
    assert not hasattr(cp.ndarray, "to_device")
    assert cp.ndarray.__module__ == "cupy"
    assert not issubclass(cp.ndarray, np.ndarray)


def test_reductions_and_indices_give_arrays_of_no_dimension(cp):
    x = cp.asarray([[0.0, 1, 2], [3, 4, 5]])
    for y in (x.sum(), x.max(), cp.mean(x), x[1, 2], x[1][2], x.argmax(), x[0] @ x[1], cp.all(x), cp.count_nonzero(x)):
        assert isinstance(y, cp.ndarray)
        assert y.shape == ()
    assert x[1, 2].base is x
    x[1, 2][...] = -1
    assert x.tolist() == [[0, 1, 2], [3, 4, -1]]


def test_indices_out_of_range_wrap(cp):
    x = cp.arange(3.0)
    index = cp.asarray([1, 3, -4])
    assert x[index].tolist() == x.take(index).tolist() == cp.take_along_axis(x, index, 0).tolist() == [1, 0, 2]
    x[cp.asarray([4])] = 9
    assert x.tolist() == [0, 9, 2]
    with pytest.raises(IndexError):
        x[3]


def test_not_the_last_of_several_values_wins(cp):
    x = cp.zeros(3)
    x[cp.asarray([1, 1])] = cp.asarray([5.0, 6.0])
    assert x.tolist() == [0, 5, 0]


def test_small_numbers_of_single_precision_are_zero(cp):
    x = cp.asarray(np.array([1e-38, -1e-40], np.float32))
    assert (x * 1).tolist() == [0, 0]
    assert (x > 0).tolist() == [False, False]
    assert (cp.asarray([2e-38], "float32") / 2).tolist() == [0]
    assert (cp.asarray([1e-40]) * 1).tolist() == [1e-40]


WAITS = {
    "float": lambda cp, x: float(x[0]),
    "int": lambda cp, x: int(x[0]),
    "bool": lambda cp, x: bool(x[0]),
    "item": lambda cp, x: x[0].item(),
    "tolist": lambda cp, x: x.tolist(),
    "get": lambda cp, x: x.get(blocking=False),
    "print": lambda cp, x: str(x),
    "mask": lambda cp, x: x[x > 1],
    "mask assigned": lambda cp, x: x.__setitem__(x > 1, 0),
    "nonzero": lambda cp, x: cp.nonzero(x),
    "where": lambda cp, x: cp.where(x),
    "unique": lambda cp, x: cp.unique(x),
    "argwhere": lambda cp, x: cp.argwhere(x),
    "repeat": lambda cp, x: cp.repeat(x, cp.asarray([1, 2, 3])),
    "device": lambda cp, x: x.device.synchronize(),
}
WAITS_NOT = {
    "sum": lambda cp, x: x.sum(),
    "where": lambda cp, x: cp.where(x > 0, x, 0.0),
    "take": lambda cp, x: x[cp.argsort(x)],
    "upload": lambda cp, x: cp.asarray(np.ones(3)),
    "index 0-d": lambda cp, x: x[x.argmax()],
    "repeat": lambda cp, x: cp.repeat(x, 2),
}


@pytest.mark.parametrize("name", WAITS)
def test_waits(cp, waits, name):
    import cupyx

    x = cp.arange(3.0)
    WAITS[name](cp, x)
    assert sum(waits().values()) == 1
    with pytest.warns(UserWarning, match="allow_synchronize"), cupyx.allow_synchronize(False):  # noqa: SIM117
        with pytest.raises(cupyx.DeviceSynchronized):
            WAITS[name](cp, x)


@pytest.mark.parametrize("name", WAITS_NOT)
def test_does_not_wait(cp, waits, name):
    WAITS_NOT[name](cp, cp.arange(3.0))
    assert not waits()


def test_promotes_as_numpy_2(cp):
    x = cp.zeros(3, "float32")
    assert (x + 1.0).dtype == cp.where(x > 0, 1.0, x).dtype == (x * 2).dtype == np.float32
    assert (x + np.float64(1)).dtype == (x + cp.asarray(1.0)).dtype == np.float64
    assert (cp.zeros(3, "int32") + 1.0).dtype == np.float64
    assert (cp.zeros(3, "int32") + 1).dtype == np.int32
    assert (cp.zeros(3, "int32") / 2).dtype == np.float64
    assert cp.zeros(3, bool).sum().dtype == np.int64


def test_special_functions_of_a_number(cp):
    from cupyx.scipy import special

    assert special.erf(cp.asarray(0.0)).shape == ()
    assert special.erf(cp.zeros(2, "float32")).dtype == np.float32


def test_two_devices(cp):
    x = cp.arange(4.0).reshape(2, 2).T
    with cp.cuda.Device(1):
        y = cp.ones((2, 2))
        assert y.device == cp.cuda.Device(1) != x.device
        here = cp.asarray(x)
        assert here.device.id == 1
        assert here.tolist() == x.tolist() == [[0, 2], [1, 3]]
        for work in (lambda: x + 1, lambda: x + y, lambda: x.sum(), lambda: x @ x, lambda: x.ravel()):
            with pytest.raises(ValueError, match=r"array resides \(0\) is different from the current device \(1\)"):
                work()
        assert x[0].T.reshape(2).device.id == 0  # views need no kernel
        seen = []
        thread = threading.Thread(target=lambda: seen.append(cp.cuda.Device().id))  # the current one is a thread's own
        thread.start()
        thread.join()
        stream = cp.cuda.Stream(non_blocking=True)
    assert seen == [0]
    assert cp.cuda.Device().id == 0
    with pytest.raises(RuntimeError, match="does not match with the current device"):
        stream.__enter__()


def test_memory_is_counted_and_limited(cp):
    pool = cp.cuda.MemoryPool()
    with cp.cuda.using_allocator(pool.malloc):
        x = cp.zeros(1000)
        view = x[10:]
        assert (pool.used_bytes(), pool.total_bytes(), pool.free_bytes()) == (8192, 8192, 0)
        del x
        assert pool.used_bytes() == 8192
        del view
        assert (pool.used_bytes(), pool.free_bytes()) == (0, 8192)
        assert cp.cuda.runtime.memGetInfo()[0] < cp.cuda.runtime.CAPACITY
        pool.free_all_blocks()
        assert pool.total_bytes() == 0
        pool.set_limit(size=10_000)
        y = cp.ones(512)
        said = r"Out of memory allocating 8,192 bytes \(allocated so far: 4,096 bytes, limit set to: 10,000 bytes\)\."
        with pytest.raises(cp.cuda.memory.OutOfMemoryError, match=said):
            cp.concatenate([y, y])
        with pytest.raises(MemoryError, match="Out of memory allocating"):
            cp.empty(1 << 40)


def test_layout(cp):
    x = cp.ones((2, 3))
    assert x.T.flags.f_contiguous
    assert not x.T.flags.c_contiguous
    assert (x.T + 1).flags.c_contiguous  # ufuncs make C order, where NumPy keeps the order of the input
    assert x.T.copy().flags.c_contiguous
    assert x.T.astype("float32").flags.f_contiguous
    assert x.astype("float64", copy=False) is x
    assert x[1:].base is x
    assert x[1:].data.ptr == x.data.ptr + 24
    assert x[:, 1].strides == (24,)
    assert cp.may_share_memory(x, x.T.ravel("F"))
    assert not cp.may_share_memory(x, x.T.ravel())
    assert cp.broadcast_to(x[0], (4, 3)).base is x
    assert cp.empty(3, "int64").all()  # what was never written is no zero


def test_kernels(cp):
    code = """
    template <class T> __device__ T twice(T v) { return v + v; }
    #define ADD(T, name) extern "C" __global__ void name(T* out, const T* x, T by, long long n) { \\
        long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x; if (i < n) out[i] = twice(x[i]) + by; }
    ADD(float, add_float)
    ADD(double, add_double)
    """
    module = cp.RawModule(code=code, options=("-std=c++17",))
    x = cp.arange(300.0)[::-1].copy()
    out = cp.empty_like(x)
    module.get_function("add_double")((2,), (256,), (out, x, 0.5, 300))
    assert out.tolist() == (2 * x + 0.5).tolist()
    for arguments in ((out, x, 0.5), (out, x, np.float32(0.5), 300), (out, x.get(), 0.5, 300)):
        with pytest.raises((TypeError, ValueError)):
            module.get_function("add_double")((2,), (256,), arguments)
    with pytest.raises(RuntimeError, match="CUDA_ERROR_NOT_FOUND"):
        module.get_function("add_half")
    with pytest.raises(RuntimeError, match="invalid argument"):
        module.get_function("add_double")((1,), (2048,), (out, x, 0.5, 300))
