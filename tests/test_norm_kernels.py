"""The kernels of normalisation on CUDA, against their specification in float64."""

from contextlib import nullcontext
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from guarded import guarded
from op_run import STANDIN

import nnbackend as nb
from nnbackend import functional as F
from nnbackend.backend import KERNELS, PRIMITIVES, cuda_status, library_backend, to_host
from nnbackend.ops.core import unbroadcast

pytestmark = pytest.mark.skipif(not (KERNELS and cuda_status().usable), reason="needs CUDA and kernels")

EPS = 1e-5
TOLERANCE = {"float32": 1e-6, "float64": 2e-15, "float16": 1e-3}
ROWS, GROUPS, SAMPLES, BATCH, PLAIN = (1,), (2, 3), (2,), (0, 2), (0,)
CASES = [  # shape, axes, and the shape of weight and bias
    ((1, 48), ROWS, (48,)), ((5, 1), ROWS, (1,)), ((9, 31), ROWS, (31,)), ((8, 32), ROWS, (32,)),
    ((3, 33), ROWS, (33,)), ((2, 1000), ROWS, (1000,)), ((3, 1031), ROWS, (1031,)), ((2, 8192), ROWS, (8192,)),
    ((2100, 8), ROWS, (8,)), ((3, 2, 3, 20), GROUPS, (2, 3, 1)), ((2, 1, 5, 33), GROUPS, (1, 5, 1)),
    ((1, 2, 1, 1300), GROUPS, (2, 1, 1)), ((3, 40, 2, 2), GROUPS, (40, 2, 1)), ((4, 3, 49), SAMPLES, (3, 1)),
    ((2, 2, 1056), SAMPLES, (2, 1)), ((6, 5, 64), BATCH, (5, 1)), ((130, 3, 64), BATCH, (3, 1)),
    ((300, 2, 49), BATCH, (2, 1)), ((1, 1, 2), BATCH, (1, 1)), ((2, 3, 4097), BATCH, (3, 1)),
    ((70, 33), PLAIN, (33,)), ((2, 1), PLAIN, (1,)), ((1500, 31), PLAIN, (31,)),
]  # fmt: skip


def drawn(case: Any, dtype: str) -> list[Any]:
    """dy, x, weight and bias."""
    rng, (shape, _, spread) = np.random.default_rng(0), case
    arrays = [rng.standard_normal(s) for s in (shape, shape, spread, spread)]
    arrays[1] += 0.5
    return [a.astype(dtype) for a in arrays]


def both_ways(arrays: list[Any], case: Any, centred: bool = True) -> list[Any]:
    """The result, mean, variance and gradients; on CUDA by kernels."""
    (dy, x, w, b), (_, axes, spread) = arrays, case
    y, mean, var = normalized(x, w, b, axes, EPS, centred)
    dx, dw, db = normalized_back(dy, x, w, mean, var, axes, EPS, spread)
    parts = [unbroadcast(dw, spread), unbroadcast(db, spread)]
    return [y, *([mean] if centred else []), var, dx, *parts]


def run(name: str, x: Any, *rest: Any) -> Any:
    """The kernels, where `x` is on CUDA, else the specification."""
    if isinstance(x, np.ndarray):
        return PRIMITIVES[name].__wrapped__(x, *rest)
    got = library_backend("cupy").overrides[name](x, *rest)
    assert got is not NotImplemented
    return got


def normalized(*arguments: Any) -> Any:
    return run("normalized", *arguments)


def normalized_back(*arguments: Any) -> Any:
    return run("normalized_back", *arguments)


def there(arrays: list[Any]) -> list[Any]:
    return [None if a is None else nb.device("cuda").put(a) for a in arrays]


def check(arrays: list[Any], case: Any, dtype: str, centred: bool = True, tolerance: float = 0.0) -> None:
    with guarded():
        got = both_ways(there(arrays), case, centred)
    wide = [None if a is None else a.astype("float64") for a in arrays]
    for x, want in zip(got, both_ways(wide, case, centred), strict=True):
        assert x.shape == want.shape
        worst = np.max(np.abs(to_host(x).astype("float64") - want))
        assert worst <= (tolerance or TOLERANCE[dtype]) * max(1.0, np.max(np.abs(want))), (case, worst)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_as_specified(dtype: str) -> None:
    for case in CASES if dtype == "float32" else CASES[2:-1:2]:
        check(drawn(case, dtype), case, dtype)
        dy, x, *_ = drawn(case, dtype)
        check([dy, x, None, None], case, dtype)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_without_a_mean(dtype: str) -> None:
    for case in CASES[1:9:2]:
        dy, x, w, _ = drawn(case, dtype)
        check([dy, x, w, None], case, dtype, centred=False)


@pytest.mark.parametrize("case", [CASES[5], CASES[6], CASES[9], CASES[15], CASES[20]], ids=str)
def test_far_from_0(case: Any) -> None:
    """Mean 1e4, variance 1: numbers come in steps of 1e-3 there, and squares would have no digit left."""
    dy, x, w, b = drawn(case, "float32")
    check([dy, x + np.float32(1e4), w, b], case, "float32", tolerance=2e-3)


def test_what_is_not_finite_stays_in_its_row() -> None:
    for bad in (np.nan, np.inf):
        arrays = drawn(((5, 40), ROWS, (40,)), "float32")
        arrays[1][2, 3] = bad
        y, _, _, dx, *_ = map(to_host, both_ways(there(arrays), ((5, 40), ROWS, (40,))))
        for a in (y, dx):
            assert np.isfinite(np.delete(a, 2, axis=0)).all()
            assert np.isnan(a[2]).all() or (bad == np.inf and np.isnan(a[2, 3]))


@pytest.mark.parametrize("case", [CASES[2], CASES[4], CASES[5], CASES[9], CASES[15], CASES[20]], ids=str)
def test_where_arrays_begin_and_in_which_order_threads_run_changes_no_bit(case: Any) -> None:
    orders = [import_module("cupy._raw").order(name) for name in ("ascending", "descending")] if STANDIN else []
    arrays, runs = there(drawn(case, "float32")), []
    for off, order in ((0, nullcontext()), (1, nullcontext()), *((0, order) for order in orders)):
        with order, guarded(off):
            runs.append([to_host(a).tobytes() for a in both_ways(arrays, case)])
    assert all(run == runs[0] for run in runs)


def test_arrays_that_are_not_contiguous() -> None:
    case = CASES[4]
    arrays = drawn(case, "float32")
    turned = [a.T.copy() for a in arrays]
    got = both_ways([a.T for a in there(turned)], case)
    for a, b in zip(got, both_ways(there(arrays), case), strict=True):
        np.testing.assert_array_equal(to_host(a), to_host(b))


def test_what_kernels_do_not_take() -> None:
    table, (x, w) = library_backend("cupy").overrides, there([np.ones((2, 3), "float32"), np.ones(3)])
    assert table["normalized"](x, w, None, (1,), EPS, True) is NotImplemented  # two dtypes
    assert table["normalized"](x[:0], None, None, (1,), EPS, True) is NotImplemented
    assert table["normalized"](x, None, None, (0,), EPS, False) is NotImplemented
    assert table["normalized"](x, None, None, (0, 1), EPS, True) is NotImplemented
    assert table["normalized"](x, np.ones(3, "float32"), None, (1,), EPS, True) is NotImplemented
    wide = nb.device("cuda").put(np.ones((1, 8193), "float32"))
    assert table["normalized"](wide, None, None, (1,), EPS, True) is NotImplemented


def test_statistics_of_half_precision_are_handed_out_in_it() -> None:
    x = nb.tensor(np.random.default_rng(0).standard_normal((8, 3, 5)).astype("float16"), device="cuda")
    running = [nb.tensor(np.full(3, v, "float16"), device="cuda") for v in (0.0, 1.0)]
    y = F.batch_norm(x, *running, training=True)
    assert y.dtype == running[0].dtype == x.dtype
    assert running[0].numpy().any()
