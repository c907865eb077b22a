"""NumPy's own ways to erf and to sums over indices: right, however large the array, and the same on every run."""

import math

import numpy as np
import pytest
from test_source import here

import nnbackend as nb
from nnbackend.backend import numpy_backend, numpy_special

LARGE = numpy_special.BLOCK * 2 + 5


def grid(dtype):
    """Dense from -7 to 7, all magnitudes, zeros, subnormals, very large numbers, infinities and NaN."""
    info = np.finfo(dtype)
    sizes = np.logspace(math.log10(float(info.smallest_normal)), 2, 20_000)
    odd = [0.0, info.smallest_subnormal, numpy_special.EDGE, info.max / 2, np.inf]
    x = np.concatenate([np.linspace(-7, 7, 100_001), sizes, -sizes, odd, np.negative(odd), [np.nan]])
    return x.astype(dtype)


@pytest.mark.parametrize(("dtype", "rtol"), [("float32", 3.2e-7), ("float64", 2e-15)])
def test_erf_of_numpy(dtype, rtol):
    x = grid(dtype)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        y = numpy_special.erf(x)
    assert y.dtype == dtype
    np.testing.assert_allclose(y, [math.erf(v) for v in x], rtol=rtol, atol=np.finfo(dtype).smallest_subnormal)
    np.testing.assert_array_equal(np.signbit(y), np.signbit(x))
    assert np.nanmax(np.abs(y)) == 1.0
    np.testing.assert_array_equal(here(nb.to_source(nb.erf, x))["erf_step"](x), y)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_erf_of_large_arrays_is_that_of_their_parts(dtype):
    x = np.random.default_rng(0).standard_normal((LARGE, 2)).astype(dtype)
    want = np.concatenate([numpy_special.erf(part) for part in np.array_split(x, 7)])
    np.testing.assert_array_equal(numpy_special.erf(x), want)
    np.testing.assert_array_equal(numpy_special.erf(x.T), want.T)
    out = np.empty_like(x)
    assert numpy_special.erf(x, out=out) is out
    np.testing.assert_array_equal(out, want)
    assert numpy_special.erf(x, out=out[:, ::-1]) is NotImplemented
    for shape in ((), (0,), (1, 3)):
        assert numpy_special.erf(np.zeros(shape, dtype)).shape == shape


@pytest.mark.parametrize("shape", [(128,), (2, 64), ()])
@pytest.mark.parametrize("rows", [1, 2, 100, 5000])
def test_sums_over_indices_however_often_they_come(rows, shape):
    rng = np.random.default_rng(rows)
    often = np.minimum(rng.zipf(1.3, (8, 100)), rows) - 1  # few rows nearly always
    for index in (rng.integers(-rows, rows, 1000), often, rng.integers(0, rows, 3), np.zeros(0, int)):
        dy = rng.standard_normal((*index.shape, *shape))
        want = np.zeros((rows, *shape))
        np.add.at(want, index, dy)
        y = numpy_backend.scatter_add(dy, index, rows)
        np.testing.assert_allclose(y, want, rtol=0, atol=1e-12)
        assert y.tobytes() == numpy_backend.scatter_add(dy, index, rows).tobytes()
