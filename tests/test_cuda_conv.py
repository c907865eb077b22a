"""Convolutions on CUDA against their specification in float64. On a GPU, or with the stand-in of `tests/standin`."""

import math

import numpy as np
import pytest

import nnbackend as nb
from nnbackend.backend import KERNELS, PRIMITIVES, cuda_status, cupy_conv, library_backend, places, to_host

pytestmark = pytest.mark.skipif(not (cuda_status().usable and KERNELS), reason="needs CUDA, and its kernels")
TOLERANCE = {"float32": 2e-6, "float64": 1e-14, "float16": 2e-3}  # of the sum of absolute values
CASES = {  # size, channels in and out, kernel, stride, padding, dilation, groups
    "one axis": ((7,), (3, 4), (3,), (2,), ((2, 1),), (2,), 1),
    "odd sizes": ((7, 5), (3, 2), (3, 2), (1, 1), ((1, 1), (0, 1)), (1, 1), 1),
    "stride beyond the kernel": ((9, 8), (2, 3), (2, 2), (3, 4), ((0, 0), (1, 0)), (1, 1), 1),
    "dilation": ((9, 8), (2, 3), (3, 2), (1, 2), ((2, 3), (0, 2)), (3, 4), 1),
    "more padding than elements": ((2, 1), (2, 3), (3, 3), (2, 1), ((4, 5), (3, 6)), (1, 2), 1),
    "one place": ((3, 4), (5, 4), (3, 4), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    "one element": ((5, 4), (3, 6), (1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    "one element, strided": ((5, 4), (3, 6), (1, 1), (2, 3), ((0, 0), (0, 0)), (1, 1), 1),
    "one element, groups": ((5, 4), (4, 6), (1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1), 2),
    "groups": ((6, 5), (4, 6), (3, 3), (2, 1), ((1, 1), (1, 1)), (1, 1), 2),
    "groups of one channel in": ((6, 5), (3, 6), (2, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 3),
    "depthwise": ((7, 6), (4, 4), (3, 2), (2, 1), ((1, 2), (0, 1)), (1, 2), 4),
    "depthwise, one axis": ((11,), (3, 3), (4,), (3,), ((5, 0),), (1,), 3),
    "depthwise, three axes": ((4, 3, 5), (2, 2), (2, 3, 2), (1, 2, 1), ((1, 0), (1, 1), (0, 2)), (2, 1, 1), 2),
    "three axes": ((4, 3, 5), (2, 3), (2, 1, 3), (1, 2, 1), ((1, 0), (0, 0), (0, 2)), (2, 1, 2), 1),
    "large": ((12, 11), (2, 3), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1),
}
cases = pytest.mark.parametrize("case", CASES)


@pytest.fixture
def table():
    return library_backend("cupy").overrides


def drawn(case, n=5):
    """x, w and y, and the settings."""
    size, (c, o), kernel, *how = CASES[case]
    shapes = (n, c, *size), (o, c // how[-1], *kernel), (n, o, *places(size, kernel, *how[:-1]))
    rng = np.random.default_rng(0)
    return *(rng.standard_normal(shape) for shape in shapes), how


def calls(case, n=5):
    """Each function with its arguments."""
    x, w, y, how = drawn(case, n)
    size, kernel = x.shape[2:], w.shape[2:]
    yield "conv", (x, w, *how)
    yield "conv_transpose", (y, w, size, *how)
    yield "conv_weight", (y, x, kernel, *how)
    columns = (n, x.shape[1], math.prod(kernel), math.prod(y.shape[2:]))
    yield "unfold", (x, kernel, *how[:-1])
    yield "fold", (np.random.default_rng(1).standard_normal(columns), size, kernel, *how[:-1])


def there(args, dtype):
    return [nb.device("cuda").put(a.astype(dtype)) if isinstance(a, np.ndarray) else a for a in args]


def here(args, dtype, of=lambda a: a):
    """In float64, what `dtype` can hold."""
    return [of(a.astype(dtype).astype("float64")) if isinstance(a, np.ndarray) else a for a in args]


def check(name, args, dtype, table):
    """Against the specification, by what rounding may do to the sums. Their terms come from it, too."""
    spec = PRIMITIVES[name].__wrapped__
    got = table[name](*there(args, dtype))
    assert got is not NotImplemented
    assert got.dtype == dtype
    host, want = to_host(got), spec(*here(args, dtype))
    assert host.shape == want.shape
    most = TOLERANCE[dtype] * spec(*here(args, dtype, np.abs))
    assert np.all(np.abs(host - want) <= most), (name, np.max(np.abs(host - want) - most))
    return host


@pytest.mark.parametrize("dtype", TOLERANCE)
@cases
def test_as_specified(case, dtype, table):
    for name, args in calls(case):
        check(name, args, dtype, table)


@cases
def test_windows_to_the_bit(case, table):
    for name, args in list(calls(case))[3:]:
        want = PRIMITIVES[name].__wrapped__(*(a.astype("float32") if isinstance(a, np.ndarray) else a for a in args))
        np.testing.assert_array_equal(to_host(table[name](*there(args, "float32"))), want)


@pytest.mark.parametrize("columns", [1, 64])
@pytest.mark.parametrize("samples", [1, 2, 3])
@cases
def test_in_chunks(case, samples, columns, table, monkeypatch):
    """As many samples at a time as have room, each in a matrix of its own, or side by side."""
    x, w, y, _ = drawn(case)
    size = x.shape[1] * math.prod(w.shape[2:]) * math.prod(y.shape[2:]) * 8
    monkeypatch.setattr(cupy_conv, "BYTES", samples * size + size // 2)
    monkeypatch.setattr(cupy_conv, "COLUMNS", columns)
    for name, args in list(calls(case))[:3]:
        check(name, args, "float64", table)


def test_chunks_cover_all_samples_once(monkeypatch):
    for n in range(1, 9):
        how = cupy_conv.Windows((n, 2, 5), (3,), (1,), ((1, 1),), (1,))
        for room in range(1, 9):
            monkeypatch.setattr(cupy_conv, "BYTES", room * 2 * 3 * 5 * 4)
            for side in range(1, 9):
                chunks = list(how.chunks(side, 4))
                assert [i for chunk, _ in chunks for i in range(n)[chunk]] == list(range(n))
                for chunk, wide in chunks:
                    assert (chunk.stop - chunk.start) % wide == 0
                    assert chunk.stop - chunk.start <= room
                    assert wide <= side


@pytest.mark.parametrize("case", [case for case in CASES if "depthwise" in case])
def test_the_order_of_threads_changes_nothing(case, table):
    raw = pytest.importorskip("cupy._raw", reason="needs the stand-in")
    for name, args in list(calls(case, n=37))[:3]:
        want = check(name, args, "float32", table)
        with raw.order("descending"):
            np.testing.assert_array_equal(check(name, args, "float32", table), want)


def test_layouts(table):
    """Arguments that are views: what comes out is the same."""
    for name, args in calls("groups"):
        arrays = there(args, "float32")
        want = to_host(table[name](*arrays))
        for i, x in enumerate(arrays):
            if hasattr(x, "dtype"):
                arrays[i] = x.swapaxes(0, -1).copy().swapaxes(0, -1)
        np.testing.assert_array_equal(to_host(table[name](*arrays)), want)


def test_what_is_left_to_the_specification(table):
    """Whole numbers, arrays of two kinds, nothing to do, four axes, what 32 bits cannot count."""
    zeros = library_backend("cupy").xp.zeros
    x, w, how = zeros((2, 3, 5)), zeros((4, 3, 2)), ((1,), ((0, 0),), (1,), 1)
    for a, b in [(zeros((2, 3, 5), dtype=int), zeros((4, 3, 2), dtype=int)), (x, w.astype("float32")), (x[:0], w)]:
        assert table["conv"](a, b, *how) is NotImplemented
        assert PRIMITIVES["conv"](a, b, *how).shape == (len(a), 4, 4)
    assert table["conv"](x, w, (1,), ((0, 1 << 30),), (1,), 1) is NotImplemented
    many = zeros((1, 1, 2, 2, 2, 2))
    assert table["unfold"](many, (1,) * 4, (1,) * 4, ((0, 0),) * 4, (1,) * 4) is NotImplemented
