"""Generated reductions: close to float64; the same bits in eager code and in a group, in any order of threads."""

import itertools
from typing import Any

import numpy as np
import pytest
from fusion_case import grouped, put, results, same
from op_run import STANDIN

from nnbackend.backend import KERNELS, cuda_status, namespace, to_host
from nnbackend.backend.fusion import Constant, Reduction, Step, run

pytestmark = pytest.mark.skipif(not cuda_status().usable, reason="needs CUDA")

F32 = "float32"
SHAPES = [(1000,), (40_000,), (3000, 16), (1500, 10), (7, 6, 5), (70, 300), (1, 4, 1), (33, 1, 64)]


def axis_sets(ndim: int) -> list[tuple[int, ...]]:
    return [axes for n in range(1, ndim + 1) for axes in itertools.combinations(range(ndim), n)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sums_over_all_sets_of_axes(shape: tuple[int, ...]) -> None:
    host = np.random.default_rng(0).standard_normal(shape).astype(F32)
    x, xp = put(host), namespace(put(host))
    for axes in axis_sets(len(shape)):
        (got,) = results(shape, [x], (), (), [Reduction(0, "sum", axes)])
        exact, size = host.astype("float64").sum(axis=axes), np.abs(host.astype("float64")).sum(axis=axes)
        assert np.all(np.abs(got - exact) <= 1e-6 * size)
        if KERNELS:
            same(to_host(xp.sum(x, axis=axes)), got)


def test_means_are_sums_divided_at_the_end() -> None:
    for n in (10, 60_000):  # one launch, and two
        x = put(np.random.default_rng(4).standard_normal(n).astype(F32))
        (total,) = results((n,), [x], (), (), [Reduction(0, "sum", (0,))])
        (mean,) = results((n,), [x], (), (), [Reduction(0, "mean", (0,))])
        same(mean, np.asarray(total / np.float32(n)))
        if KERNELS:
            same(to_host(namespace(x).mean(x)), mean)
    wide = put(np.full(1000, 1000.0, "float16"))  # whose sum is no number in half precision
    same(results((1000,), [wide], (), (), [Reduction(0, "mean", (0,))])[0], np.array(1000.0, "float16"))


@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1)], ids=str)
def test_every_dtype_and_kind(axes: tuple[int, ...]) -> None:
    """Halves add up in float32, whole numbers in 64 bits; a NaN is the largest and the smallest."""
    rng = np.random.default_rng(1)
    hosts = [rng.standard_normal((6, 12)).astype(dtype) for dtype in ("float32", "float64", "float16")]
    hosts += [rng.integers(0, 3, (6, 12)).astype(dtype) for dtype in ("int32", "uint8", "bool")]
    hosts[0][2, 3] = np.nan
    kinds = ("sum", "prod", "max", "min")
    reductions = [Reduction(i, kind, axes) for i in range(6) for kind in kinds]
    got = results((6, 12), list(map(put, hosts)), (), (), reductions)
    for (host, kind), one in zip(itertools.product(hosts, kinds), got, strict=True):
        wide = host.astype(F32) if host.dtype == "float16" else host
        want = getattr(wide, kind)(axis=axes).astype(one.dtype)
        if kind in ("sum", "prod") and host.dtype.kind == "f":
            np.testing.assert_allclose(one, want, rtol=2e-3 if host.dtype == "float16" else 1e-5, atol=1e-6)
        else:
            same(one, want)


def test_at_the_end_of_a_group() -> None:
    """A masked gradient is stored, and its columns added up: the same bits as step by step, in both thread orders."""
    rng = np.random.default_rng(2)
    for rows, columns in ((129, 24), (2000, 8)):
        dy, y = (put(rng.standard_normal((rows, columns)).astype(F32)) for _ in range(2))
        steps = [Step("greater", (1, 2), "bool"), Step("astype", (3,), F32), Step("multiply", (0, 4), F32)]
        end = [Reduction(5, "sum", (0,)), Reduction(5, "max", (0,))]
        masked, sums, most = results((rows, columns), [dy, y], steps, (5,), end, numbers=[0.0])
        xp = namespace(dy)
        want = dy * xp.astype(y > 0.0, dy.dtype)
        same(masked, to_host(want))
        if KERNELS:
            same(sums, to_host(xp.sum(want, axis=0)))
            same(most, to_host(xp.max(want, axis=0)))
        if STANDIN:
            from cupy._raw import order

            with order("descending"):
                again = results((rows, columns), [dy, y], steps, (5,), end, numbers=[0.0])
            for one, other in zip(again, (masked, sums, most), strict=True):
                same(one, other)


@pytest.mark.skipif(not KERNELS, reason="eager reductions are CuPy's own")
@pytest.mark.parametrize(
    ("shape", "axes"), [((4, 3, 2), (0, 1, 2)), ((4, 3, 2), (0, 2)), ((40, 3, 16), (0, 1)), ((6, 8), (1,))], ids=str
)
def test_the_order_hangs_on_shape_and_dtype_only(shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    """Not on what else a group reads, draws or stores, nor on where that begins."""
    rng = np.random.default_rng(5)
    x, one = (put(rng.standard_normal(s).astype(F32)) for s in (shape, (shape[-2], 1)))
    mask, xp = put(rng.integers(0, 2, shape).astype(bool)), namespace(x)
    drawn = Step("uniform_like", (Constant(7), Constant(3), Constant(0), Constant(0)), F32)
    for steps, arrays in (
        ([Step("add", (0, 1), F32)], [x, one]),
        ([Step("multiply", (0, 1), F32)], [x, mask]),
        ([drawn, Step("multiply", (0, 1), F32)], [x]),
    ):
        last = len(arrays) + len(steps) - 1
        stored, total = results(shape, arrays, steps, (last,), [Reduction(last, "sum", axes)])
        same(to_host(xp.sum(put(stored), axis=axes)), total)
        group = grouped(shape, arrays, steps, (last,), [Reduction(last, "sum", axes)])
        room = put(np.zeros(x.size + 1, F32))[1:].reshape(shape)  # begins at 4 bytes
        out = put(np.zeros(total.shape, F32))
        run(group, arrays, (), [room, out])
        same(to_host(room), stored)
        same(to_host(out), total)


def test_views_and_what_is_left_to_cupy() -> None:
    host = np.random.default_rng(3).standard_normal((9, 16)).astype(F32)
    x, xp = put(host), namespace(put(host))
    for view in (lambda a: a[1:, 3:11], lambda a: a[:, ::2], lambda a: a.T, lambda a: a[::-1]):
        for axis in (0, None):
            want = view(host).astype("float64").sum(axis=axis)
            np.testing.assert_allclose(to_host(xp.sum(view(x), axis=axis)), want, rtol=1e-5, atol=1e-5)
    assert xp.max(x, axis=1, keepdims=True).shape == (9, 1)
    assert xp.sum(x, axis=None, keepdims=True).shape == (1, 1)
    assert xp.sum(x, axis=()).shape == (9, 16)
    assert xp.sum(x, dtype=np.float64).dtype == np.float64
    assert xp.sum(put(np.ones(3, "int8"))).dtype == np.int64
    assert float(to_host(xp.sum(put(np.ones((0, 3), F32))))) == 0.0
    with pytest.raises(ValueError, match="max"):
        xp.max(put(np.ones((0, 3), F32)))
    with pytest.raises(np.exceptions.AxisError):
        xp.sum(x, axis=2)


def test_the_reduction_of_nothing() -> None:
    def of(op: Any) -> Any:
        return results((0, 3), [put(np.ones((0, 3), F32))], (), (), [Reduction(0, op, (0,))])[0]

    same(of("sum"), np.zeros(3, F32))
    same(of("prod"), np.ones(3, F32))
    with pytest.raises(ValueError, match="which has none"):
        of("max")
