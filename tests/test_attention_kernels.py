"""Attention's kernels on CUDA, against what attention is by definition, in float64."""

from importlib import import_module
from typing import Any

import numpy as np
import pytest
from op_run import STANDIN

import nnbackend as nb
from nnbackend.backend import KERNELS, NUMPY, PRIMITIVES, cuda_status, to_host

pytestmark = pytest.mark.skipif(not (KERNELS and cuda_status().usable), reason="needs CUDA and kernels")

KEY, SITE, STEP = 7 << 70 | 5, 11, 3
TOLERANCE = {"float64": 1e-14, "float32": 2e-6, "float16": 3e-3}
HEADS = ((2, 3, 5, 4), (2, 3, 7, 4), (2, 3, 7, 6))
CASES = {  # queries, keys, values, mask, whether it is causal
    "plain": (*HEADS, None, False),
    "causal": (*HEADS, None, True),
    "fewer keys": ((9, 4), (3, 4), (3, 6), None, True),
    "keys that count": (*HEADS, ((2, 1, 1, 7), bool), False),
    "for each query": ((2, 3, 5, 4), (2, 1, 7, 4), (7, 6), ((5, 7), bool), False),
    "added": (*HEADS, ((2, 1, 5, 7), float), False),
    "groups": ((2, 3, 2, 5, 4), (2, 3, 1, 7, 4), (2, 3, 1, 7, 6), ((3, 1, 5, 1), float), False),
    "a warp's most": ((3, 4), (1024, 4), (1024, 2), None, False),
    "a block": ((2, 4, 3), (2, 1300, 3), (2, 1300, 2), ((4, 1300), float), False),
}


@pytest.fixture
def own() -> Any:
    """The module under test."""
    return import_module("nnbackend.backend.cupy_attention")


def drawn(name: str, dtype: str) -> list[Any]:
    """Queries, keys, values, mask and the gradient of the means."""
    rng, (*shapes, mask, _) = np.random.default_rng(0), CASES[name]
    qkv = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
    lead = np.broadcast_shapes(*(shape[:-2] for shape in shapes))
    dy = rng.standard_normal((*lead, shapes[0][-2], shapes[2][-1])).astype(dtype)
    if mask is not None:
        mask = rng.random(mask[0]) < 0.6 if mask[1] is bool else rng.standard_normal(mask[0]).astype(dtype)
    return [*qkv, mask, dy]


def both_ways(arrays: list[Any], causal: bool, p: float, step: Any = STEP) -> list[Any]:
    """Means, logarithms and gradients, where the arrays are."""
    q, k, v, mask, dy = arrays
    how, masked = (1 if causal else 0.4, causal, p, KEY, SITE, step), mask is not None and mask.dtype != bool
    y, logs = PRIMITIVES["attention"](q, k, v, mask, *how)
    return [y, logs, *PRIMITIVES["attention_back"](q, k, v, mask, y, logs, dy, *how, masked)]


def there(arrays: list[Any]) -> list[Any]:
    return [x if x is None else nb.device("cuda").put(x) for x in arrays]


def wanted(arrays: list[Any], causal: bool, p: float, monkeypatch: Any) -> list[Any]:
    """By the definition in float64, but for the random numbers, which are those of the dtype."""
    dtype, uniform = arrays[0].dtype, PRIMITIVES["uniform_like"]

    def kept(s: Any, p: float, *at: int) -> Any:
        return np.where(uniform(s.astype(dtype), *at) >= dtype.type(p), 1.0 / (1.0 - p), 0.0)

    with monkeypatch.context() as patch:
        patch.setattr(NUMPY, "overrides", {n: f for n, f in NUMPY.overrides.items() if "attention" not in n})
        patch.setattr(import_module("nnbackend.backend.attention"), "kept", kept)
        wide = [x if x is None or x.dtype == bool else x.astype("float64") for x in arrays]
        return both_ways(wide, causal, p)


def check(arrays: list[Any], causal: bool, p: float, monkeypatch: Any) -> None:
    got = [to_host(x) for x in both_ways(there(arrays), causal, p)]
    for x, want in zip(got, wanted(arrays, causal, p, monkeypatch), strict=True):
        assert x.shape == want.shape
        worst = np.max(np.abs(x.astype("float64") - want))
        assert worst < TOLERANCE[arrays[0].dtype.name] * max(1.0, np.max(np.abs(want)))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("p", [0.0, 0.3])
def test_values_and_gradients(dtype: str, p: float, monkeypatch: Any) -> None:
    for name, (*_, causal) in CASES.items():
        check(drawn(name, dtype), causal, p, monkeypatch)


def test_several_blocks_of_queries_at_once_and_one_after_the_other(own: Any, monkeypatch: Any) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((2, n, 2)).astype("float32") for n in (300, 4000, 4000)]
    arrays += [None, rng.standard_normal((2, 300, 2)).astype("float32")]
    for most in (own.MOST, 1 << 21):  # blocks of 131 queries: all at once, and two
        monkeypatch.setattr(own, "MOST", most)
        check(arrays, True, 0.3, monkeypatch)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_dropout_drops_what_the_definition_drops(dtype: str) -> None:
    """Values are the unit matrix, so that the means are the weights."""
    q, k = (np.zeros((3, n, 2), dtype) for n in (5, 9))
    y, _ = PRIMITIVES["attention"](*there([q, k, np.eye(9, dtype=dtype)]), None, 1.0, False, 0.3, KEY, SITE, STEP)
    keep = PRIMITIVES["uniform_like"](np.empty((3, 5, 9), dtype), KEY, SITE, STEP, 0) >= np.dtype(dtype).type(0.3)
    np.testing.assert_array_equal(to_host(y) != 0, keep)
    all_dropped, _ = PRIMITIVES["attention"](*there([q, k, k]), None, 1.0, False, 1.0, KEY, SITE, STEP)
    assert not to_host(all_dropped).any()


@pytest.mark.parametrize("floats", [False, True])
def test_a_query_that_sees_nothing_gives_0(floats: bool) -> None:
    *qkv, _, dy = drawn("plain", "float32")
    seen = np.arange(5)[:, None] != 2
    mask = np.where(seen, 0.0, -np.inf).astype("float32") if floats else seen
    for x in (to_host(x) for x in both_ways(there([*qkv, mask, dy]), False, 0.3)):
        assert np.isfinite(x).all()
    y, logs, dq, *_ = (to_host(x) for x in both_ways(there([*qkv, mask, dy]), False, 0.3))
    for x in (y, logs, dq):
        assert not x[..., 2, :].any()


@pytest.mark.skipif(not STANDIN, reason="a GPU has an order of its own")
def test_the_order_of_threads_changes_nothing() -> None:
    order = import_module("cupy._raw").order
    for name in ("groups", "a block"):
        arrays = there(drawn(name, "float32"))
        runs = []
        for how in (order("ascending"), order("descending")):
            with how:
                runs.append([to_host(x).tobytes() for x in both_ways(arrays, CASES[name][-1], 0.3)])
        assert runs[0] == runs[1]


def test_a_captured_graph_takes_its_step_from_a_slot() -> None:
    capture, slots = (import_module(f"nnbackend.backend.{name}") for name in ("capture", "slots"))
    arrays = there(drawn("groups", "float32"))
    with nb.device("cuda").stream():
        both_ways(arrays, False, 0.3)  # products are planned
        room, memory = slots.Slots(2), capture.Private()
        room.write([9, 0])
        step = next(iter(room))
        graph, made = capture.captured(lambda: both_ways(arrays, False, 0.3, step), memory)
        for now in (STEP, 2**40):
            room.write([now, 0])
            graph.launch()
            want = both_ways(arrays, False, 0.3, now)
            for x, y in zip(made, want, strict=True):
                np.testing.assert_array_equal(to_host(x), to_host(y))


def test_what_is_left_to_the_definition(own: Any) -> None:
    q, k, v, mask, dy = drawn("added", "float32")
    given = there([q, k, v, mask, dy])
    how = (0.4, False, 0.0, 0, 0, 0)
    wide, short = (nb.device("cuda").put(x) for x in (mask.astype("float64"), mask[:, :, :0, :0]))
    for change in ({3: wide}, {3: mask}, {1: k}, {0: given[0].astype("int32")}):
        arrays = [change.get(i, x) for i, x in enumerate(given)]
        assert own.attention(*arrays[:4], *how) is NotImplemented
    large = nb.device("cuda").put(np.zeros((4, 1, 1, 5, 7), "float32"))  # more heads than the scores have
    assert own.attention(*given[:3], large, *how) is NotImplemented
    assert own.attention(given[0][:, :, :0], *given[1:3], short, *how) is NotImplemented
