"""Pooling on CUDA against its specification. On a GPU, or with the stand-in of `tests/standin`."""

import itertools

import numpy as np
import pytest

import nnbackend as nb
from nnbackend import functional as F
from nnbackend.backend import KERNELS, PRIMITIVES, cuda_status, library_backend, to_host

pytestmark = pytest.mark.skipif(not (cuda_status().usable and KERNELS), reason="needs CUDA, and its kernels")
ALONG = [  # n, kernel, stride, padding, dilation, out
    (6, 2, 2, 0, 1, 3), (7, 3, 2, 1, 1, 4), (7, 3, 1, 1, 1, 7), (8, 2, 3, 0, 1, 3), (9, 3, 1, 3, 3, 9),
    (1, 2, 1, 1, 2, 1), (5, 5, 5, 0, 1, 1), (3, 1, 1, 0, 1, 3), (10, 4, 3, 2, 2, 4), (7, 3, 2, 1, 1, 5),
]  # fmt: skip
ROUNDED = {"float32": {"atol": 1e-6}, "float64": {"atol": 1e-15}, "float16": {"atol": 5e-3}}


@pytest.fixture
def table():
    return library_backend("cupy").overrides


def drawn(shape, kind, seed=0):
    """Few different numbers, so that many are equal, with infinities; NaN among them if asked for."""
    rng = np.random.default_rng(seed)
    x = rng.integers(-2, 3, shape).astype("float64")
    x[rng.random(shape) < 0.1] = -np.inf
    if kind == "nan":
        x[rng.random(shape) < 0.2] = np.nan
    return x


def both(name, arrays, settings, table, dtype):
    """The override's result and the specification's."""
    arrays = [a.astype(dtype) if isinstance(a, np.ndarray) else a for a in arrays]
    got = table[name](*(nb.device("cuda").put(a) if isinstance(a, np.ndarray) else a for a in arrays), *settings)
    assert got.dtype == dtype
    return to_host(got), PRIMITIVES[name].__wrapped__(*arrays, *settings)


@pytest.mark.parametrize("dtype", ROUNDED)
@pytest.mark.parametrize("along", ALONG, ids=str)
def test_as_specified(along, dtype, table):
    """All axes; maxima and what gets their gradient to the bit, sums to rounding."""
    n, kernel, stride, padding, dilation, out = along
    rng = np.random.default_rng(1)
    for axis, kind in itertools.product(range(3), ("numbers", "nan")):
        shape = (*(2, 3)[:axis], n, *(2, 3)[axis:])
        x, dy = drawn(shape, kind), rng.integers(-9, 9, (*shape[:axis], out, *shape[axis + 1 :])).astype("float64")
        how = axis, kernel, stride, padding, dilation, out
        y, want = both("pool_max", [x], how, table, dtype)
        np.testing.assert_array_equal(y, want)
        np.testing.assert_array_equal(*both("pool_max_back", [dy, x, y], how, table, dtype))
        if dilation == 1:
            how, x = (axis, kernel, stride, padding, out), rng.standard_normal(shape)
            np.testing.assert_allclose(*both("pool_sum", [x], how, table, dtype), **ROUNDED[dtype])
            np.testing.assert_array_equal(*both("pool_sum_back", [dy, n], how, table, dtype))


def test_whole_numbers_and_views(table):
    """The first are left to the specification, the latter give the same."""
    xp, x = library_backend("cupy").xp, drawn((6, 5, 4), "nan").astype("float32")
    how = (1, 2, 1, 0, 1, 4)
    assert table["pool_max"](xp.zeros((6, 5, 4), dtype=int), *how) is NotImplemented
    there = nb.device("cuda").put(x)
    turned = there.swapaxes(0, 2)
    got = table["pool_max"](turned, *how)
    np.testing.assert_array_equal(to_host(got), PRIMITIVES["pool_max"].__wrapped__(x.swapaxes(0, 2), *how))


def test_one_node_of_a_program_for_an_axis(table):
    """Forward and back, where the array path has a dozen."""

    @nb.compile
    def step(x):
        y, gradient = nb.value_and_grad(lambda x: nb.sum(F.max_pool2d(x, 3, 2, 1)))(x)
        return y, gradient, F.avg_pool2d(x, 2)

    x = nb.tensor(np.random.default_rng(0).standard_normal((2, 2, 7, 7)).astype("float32"), device="cuda")
    results = [step(x) for _ in range(3)]
    pools = [n.op for n in step.program.nodes if n.op.startswith("pool_")]
    assert sorted(pools) == ["pool_max"] * 2 + ["pool_max_back"] * 2 + ["pool_sum"] * 2
    for again in results[1:]:
        for a, b in zip(results[0], again, strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy())
