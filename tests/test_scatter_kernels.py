"""Adding rows at an index on CUDA, against NumPy; and random numbers whose step a graph reads from memory."""

from importlib import import_module
from typing import Any

import numpy as np
import pytest
from op_run import STANDIN

import nnbackend as nb
from nnbackend.backend import KERNELS, PRIMITIVES, cuda_status, to_host
from nnbackend.random import integers_like, uniform_like, words_like

pytestmark = pytest.mark.skipif(not (KERNELS and cuda_status().usable), reason="needs CUDA and kernels")

TOLERANCE = {"float64": 1e-14, "float32": 1e-6, "float16": 1e-3, "int64": 0.0}


def put(x: Any) -> Any:
    return nb.device("cuda").put(x)


def drawn(n: int, rows: int, tail: tuple[int, ...], dtype: str = "float32") -> tuple[Any, Any]:
    """Rows to add, and where: some from the end, some outside, some often."""
    rng = np.random.default_rng(0)
    index = rng.integers(-rows - 1, rows + 1, n)
    index[::3] = rows // 2
    index[:1] = 2**62
    dy = rng.integers(-9, 9, (n, *tail)) if dtype == "int64" else rng.standard_normal((n, *tail))
    return dy.astype(dtype), index


def wanted(dy: Any, index: Any, rows: int) -> Any:
    y = np.zeros((rows, *dy.shape[1:]), dy.dtype if dy.dtype.kind == "i" else "float64")
    inside = (-rows <= index) & (index < rows)
    np.add.at(y, index[inside], dy[inside].astype(y.dtype))
    return y


def check(dy: Any, index: Any, rows: int) -> None:
    got, want = to_host(PRIMITIVES["scatter_add"](put(dy), put(index), rows)), wanted(dy, index, rows)
    assert (got.shape, got.dtype) == (want.shape, dy.dtype)
    np.testing.assert_allclose(got, want, rtol=0, atol=TOLERANCE[dy.dtype.name] * max(1.0, np.max(np.abs(want))))


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_sums_of_rows(dtype: str) -> None:
    """Few rows and many; rows that are narrow, wide and many at one place; one tile of keys and several."""
    for n, rows, tail in (
        *((1, 1, ()), (2, 1, (3,)), (3, 9, (33,)), (31, 31, (2, 3)), (33, 70000, (5,)), (700, 3, (17,))),
        *((129, 2, ()), (2048, 40, (2,)), (2049, 5000, ())),
    ):
        check(*drawn(n, rows, tail, dtype), rows)


def test_indices_of_all_kinds_and_layouts() -> None:
    dy, index = drawn(24, 100, (4,))
    index = index % 100 - 50
    for kind in ("int8", "int16", "int32", "int64"):
        check(dy, index.astype(kind), 100)
    check(dy, (index + 50).astype("uint8"), 100)
    got = PRIMITIVES["scatter_add"](put(dy[:, ::-1].copy())[:, ::-1], put(index.repeat(2))[::2], 100)
    np.testing.assert_allclose(to_host(got), wanted(dy, index, 100), atol=1e-6)
    square = PRIMITIVES["scatter_add"](put(dy.reshape(4, 6, 4)), put(index.reshape(4, 6)), 100)
    np.testing.assert_array_equal(to_host(square), to_host(got))
    for n, tail in ((0, (4,)), (3, (0,))):
        empty = PRIMITIVES["scatter_add"](put(np.zeros((n, *tail), "float32")), put(np.zeros(n, int)), 2)
        np.testing.assert_array_equal(to_host(empty), np.zeros((2, *tail)))


@pytest.mark.parametrize(("n", "tile"), [(1, 2048), (33, 2048), (2050, 2048), (3000, 32), (2048, 4)])
def test_keys_are_sorted_by_row_and_then_by_place(n: int, tile: int, monkeypatch: Any) -> None:
    own = import_module("nnbackend.backend.cupy_scatter")
    monkeypatch.setattr(own, "_TILE", tile)
    index = np.random.default_rng(0).integers(0, 50, n)
    keys = to_host(own._sorted(import_module("cupy"), put(index), 50))
    order = np.argsort(index, kind="stable")
    np.testing.assert_array_equal(keys, index[order].astype("uint64") << 32 | order.astype("uint64"))


@pytest.mark.skipif(not STANDIN, reason="a GPU has an order of its own")
def test_the_order_of_threads_changes_nothing() -> None:
    order = import_module("cupy._raw").order
    for n, rows in ((300, 3), (40, 90)):
        dy, index = map(put, drawn(n, rows, (7,)))
        runs = []
        for how in (order("ascending"), order("descending")):
            with how:
                runs.append(to_host(PRIMITIVES["scatter_add"](dy, index, rows)).tobytes())
        assert runs[0] == runs[1]


def test_sums_and_writes_at_an_index_can_be_captured() -> None:
    capture = import_module("nnbackend.backend.capture")
    dy, index = map(put, drawn(50, 9, (3,)))
    column = put(np.arange(50) % 3)

    def work() -> list[Any]:
        placed = PRIMITIVES["place"](dy[:, 0], (index, column), (9, 3))
        return [PRIMITIVES["scatter_add"](dy, index, rows) for rows in (9, 90)] + [placed]

    with nb.device("cuda").stream():
        want, memory = work(), capture.Private()
        graph, made = capture.captured(work, memory)
        for _ in range(2):
            graph.launch()
            for x, y in zip(made, want, strict=True):
                np.testing.assert_array_equal(to_host(x), to_host(y))


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_random_numbers_with_their_step_in_a_slot(dtype: str) -> None:
    slots = import_module("nnbackend.backend.slots")
    draws = [words_like, uniform_like, lambda x, *at: integers_like(x, 10, *at)]
    draws += [lambda x, *at, p=p: PRIMITIVES["kept"](x, p, *at) for p in (0.3, 1.0)]
    room = slots.Slots(1)
    for step, shape in ((0, (1,)), (5, (3, 7)), (2**40, (8,)), (3, (1003,))):
        room.write([step])
        (slot,) = room
        for draw in draws:
            x, at = np.zeros(shape, dtype), (1 << 100 | 3, 7)
            given, want = to_host(draw(put(x), *at, slot, 2)), to_host(draw(put(x), *at, step, 2))
            np.testing.assert_array_equal(given, want)
            np.testing.assert_array_equal(want, draw(x, *at, step, 2))
