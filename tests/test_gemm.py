"""Matrix products by cuBLASLt: values, views without copies, epilogues, captures. On a GPU, or with the stand-in's."""

import ctypes
import logging
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from op_run import STANDIN

import nnbackend as nb
from nnbackend.backend import KERNELS, cuda_status, library_backend
from nnbackend.backend.capture import Private, UncapturedError, captured
from nnbackend.errors import DeviceError

pytestmark = pytest.mark.skipif(not cuda_status().usable or not KERNELS, reason="needs CUDA")
on_the_standin = pytest.mark.skipif(not STANDIN, reason="needs a library that can be made to refuse")
if cuda_status().usable:
    import cupy

    from nnbackend.backend import cublaslt, gemm

RNG = np.random.default_rng(0)
LONG = 4097  # terms, from which on an algorithm of the stand-in needs a workspace
DTYPES = ("float32", "float64", "float16")


def array(*shape: int, dtype: str = "float32") -> Any:
    return cupy.array(RNG.standard_normal(shape).astype(dtype))


@pytest.fixture
def fresh(monkeypatch: Any) -> Any:
    """No plans, and a count of what is asked of the library and of CuPy's copies."""
    seen = {"plans": 0, "products": 0, "copies": 0}

    def counted(name: str, function: Any) -> Any:
        def call(*args: Any) -> Any:
            seen[name] += 1
            return function(*args)

        return call

    library = gemm.library()
    ask = "cublasLtMatmulAlgoGetHeuristic"
    monkeypatch.setattr(gemm, "_plans", {})
    monkeypatch.setattr(gemm, "_logged", set())
    monkeypatch.setattr(library, "matmul", counted("products", library.matmul))
    monkeypatch.setitem(library.functions, ask, counted("plans", library.functions[ask]))
    monkeypatch.setattr(cupy, "ascontiguousarray", counted("copies", cupy.ascontiguousarray))
    return seen


@pytest.fixture
def planted(fresh: Any) -> Any:
    """Products of so many terms have no algorithm, or none with an epilogue."""
    library = ctypes.CDLL(gemm.library().path)
    places = [ctypes.c_longlong.in_dll(library, f"standin_no_{what}") for what in ("algorithm", "epilogue")]
    places[0].value, places[1].value = 13, 11
    yield
    places[0].value = places[1].value = -1


def check(y: Any, a: Any, b: Any) -> None:
    want = a.get().astype("float64") @ b.get().astype("float64")
    size = np.abs(a.get().astype("float64")) @ np.abs(b.get().astype("float64"))
    assert y.dtype == a.dtype
    assert y.shape == want.shape
    assert np.all(np.abs(y.get() - want) <= np.finfo(a.dtype.name).eps * (size * a.shape[-1] + 1))


# -- values ---------------------------------------------------------------------------------------------------------


@st.composite
def operands(draw: Any) -> tuple[Any, Any]:
    """Two stacks that broadcast, each a view of one kind or another."""
    dtype, stack = draw(st.sampled_from(DTYPES)), draw(st.lists(st.integers(0, 3), max_size=3))
    m, k, n = (draw(st.integers(0, 5)) for _ in range(3))

    def view(rows: int, columns: int) -> Any:
        own = [draw(st.sampled_from((size, 1))) for size in stack][draw(st.integers(0, len(stack))) :]
        order = draw(st.permutations(range(len(own) + 2)))
        shape, steps = [*own, rows, columns], [draw(st.sampled_from((1, 1, 1, 2, -1))) for _ in (*own, 0, 0)]
        before = [draw(st.integers(0, 2)) for _ in shape]
        whole = array(*(shape[i] * abs(steps[i]) + before[i] for i in order), dtype=dtype)
        x = whole.transpose(*np.argsort(order).tolist())
        index = tuple(slice(b, b + n * abs(s)) for b, n, s in zip(before, shape, steps, strict=True))
        x = x[index][tuple(slice(None, None, s) for s in steps)]
        return cupy.broadcast_to(x, (*stack, rows, columns)) if draw(st.booleans()) else x

    return view(m, k), view(k, n)


@given(operands())
def test_products_of_any_views(ab: tuple[Any, Any]) -> None:
    a, b = ab
    y = gemm.product(a, b)
    check(y, a, b)
    assert y.flags.c_contiguous
    np.testing.assert_array_equal(gemm.product(a, b).get(), y.get())
    for out in (cupy.empty_like(y), cupy.empty((*y.shape[:-1], 2 * y.shape[-1]), y.dtype)[..., ::2]):
        assert gemm.product(a, b, out) is out
        np.testing.assert_array_equal(out.get(), y.get())


@pytest.mark.parametrize("dtype", DTYPES)
def test_vectors(dtype: str) -> None:
    a, b, row, column = (array(*shape, dtype=dtype) for shape in ((3, 2, 4), (4, 5), (4,), (4,)))
    for x, y in ((row, column), (row, b), (a, column), (a[0], column[::-1]), (row, cupy.stack([b, b]))):
        check(gemm.product(x, y), x, y)


def test_what_the_library_calls(fresh: Any) -> None:
    """`@` of tensors, `matmul` of the namespace, and a linear layer with its way back."""
    xp = library_backend("cupy").xp
    a, b = array(4, 3), array(3, 5)
    check(xp.matmul(a, b), a, b)
    check(xp.linalg.matmul(a, b), a, b)
    assert fresh == {"plans": 1, "products": 2, "copies": 0}
    layer = nb.nn.Linear(3, 2).to("cuda")
    x = nb.tensor(a.get(), device="cuda", requires_grad=True)
    ((layer(x) @ nb.ones((2, 2), device="cuda")) ** 2).sum().backward()
    assert fresh["products"] == 7
    assert fresh["copies"] == 0
    assert xp.matmul(a.astype("int64"), b.astype("int64")).dtype == np.int64
    assert fresh["products"] == 7


def test_out_must_fit() -> None:
    with pytest.raises(ValueError, match=r"out: expected \(2, 4\) of float32, got \(4, 2\) of float32"):
        gemm.product(array(2, 3), array(3, 4), array(4, 2))


def test_what_does_not_fit_is_left_to_cupy() -> None:
    """It has an error for that."""
    for a, b in (((2, 3), (2, 3)), ((2, 2, 3), (3, 3, 2)), ((), (2, 2))):
        assert gemm.product(array(*a), array(*b)) is NotImplemented
    assert gemm.product(array(2, 3), np.ones((3, 2), "f4")) is NotImplemented
    assert gemm.affine(array(2, 3), array(4, 3), array(3)) is NotImplemented


@pytest.mark.skipif(cuda_status().devices < 2, reason="needs two GPUs")
def test_every_device_has_a_handle_of_its_own(fresh: Any) -> None:
    here, there = (array(2, 2), array(2, 2)), None
    with cupy.cuda.Device(1):
        there = array(2, 2), array(2, 2)
        check(gemm.product(*there), *there)
        assert gemm.product(*here) is NotImplemented
    check(gemm.product(*here), *here)
    assert gemm.product(here[0], there[1]) is NotImplemented
    assert fresh["plans"] == 2


# -- views ----------------------------------------------------------------------------------------------------------


def packed(heads: int) -> Any:
    """Queries and keys of many heads out of one array (batch, time, 3, heads, depth)."""
    x = array(6, 5, 3, heads, 4)
    return x[:, :, 0].swapaxes(1, 2), x[:, :, 1].swapaxes(1, 2).mT


VIEWS = {  # operands; products and copies that they take
    "matrices": (lambda: (array(3, 4), array(4, 5)), 1, 0),
    "transposed": (lambda: (array(4, 3).T, array(5, 4).T), 1, 0),
    "columns": (lambda: (array(3, 9)[:, 2:6], array(4, 9)[:, 1:6]), 1, 0),
    "every second row": (lambda: (array(6, 4)[::2], array(8, 5).T[1:, ::2].T[:4, :4].T[:, :4].T), 1, 0),
    "every second column": (lambda: (array(3, 8)[:, ::2], array(4, 5)), 1, 1),
    "backward": (lambda: (array(3, 4)[::-1], array(4, 5)), 1, 1),
    "repeated rows": (lambda: (cupy.broadcast_to(array(4), (3, 4)), array(4, 5)), 1, 1),
    "one row": (lambda: (array(9, 4)[:, ::2][2:3, :], array(2, 5)), 1, 0),
    "one column": (lambda: (array(3, 4), array(4, 9)[:, 3:4]), 1, 0),
    "stack": (lambda: (array(2, 3, 3, 4), array(2, 3, 4, 5)), 1, 0),
    "one for all": (lambda: (array(2, 3, 3, 4), array(4, 5)), 1, 0),
    "transposed stack": (lambda: (array(7, 4, 3).mT, array(7, 5, 4).mT), 1, 0),
    "every second": (lambda: (array(8, 3, 4)[::2], array(4, 4, 5)), 1, 0),
    "heads of one": (lambda: packed(1), 1, 0),
    "few heads": (lambda: packed(3), 3, 0),
    "many heads": (lambda: packed(7), 1, 2),
    "one for each of few": (lambda: (array(6, 1, 3, 4), array(4, 4, 5)), 4, 0),
    "one for each of many": (lambda: (array(6, 1, 3, 4), array(5, 4, 5)), 1, 2),
}


@pytest.mark.parametrize("name", VIEWS)
def test_copies_only_where_they_are_needed(name: str, fresh: Any) -> None:
    make, products, copies = VIEWS[name]
    a, b = make()
    check(gemm.product(a, b), a, b)
    assert fresh == {"plans": 1, "products": products, "copies": copies}
    check(gemm.product(a, b), a, b)
    assert fresh == {"plans": 1, "products": 2 * products, "copies": 2 * copies}


def test_rows_of_a_stack_become_one_matrix(fresh: Any, monkeypatch: Any) -> None:
    """Where they follow each other, and all meet the same matrix."""
    stacks, name, b = [], "cublasLtMatrixLayoutSetAttribute", array(4, 5)
    functions = gemm.library().functions
    original = functions[name]
    monkeypatch.setitem(functions, name, lambda *given: stacks.append(given) or original(*given))
    together, apart = (array(3, 2, 6, 4), array(3, 6, 9)[..., 1:5]), (array(3, 4, 6).mT, array(6, 6, 4)[::2])
    for a in (*together, *apart):
        check(gemm.product(a, b), a, b)
        assert len(stacks) == (6 if a is apart[0] else 12 if a is apart[1] else 0)


def test_where_an_array_begins_changes_no_bits(fresh: Any) -> None:
    """The stand-in refuses what is aligned worse than its algorithm was told."""
    a, b, memory = array(3, 4), array(4, 5), cupy.zeros(40, "float32")
    want = gemm.product(a, b)
    for start in (*range(8), *range(8)):
        moved, out = memory[start : start + 12].reshape(3, 4), memory[start + 16 : start + 31].reshape(3, 5)
        moved[...] = a
        for y in (gemm.product(moved, b), gemm.product(a, b, out), gemm.product(b.T, moved.T).T):
            np.testing.assert_array_equal(bits(cupy.ascontiguousarray(y)), bits(want))
    assert fresh["plans"] == 3


def test_plans_are_kept_for_a_while(fresh: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(gemm, "PLANS", 3)
    for n in (2, 3, 4, 5, 5, 4, 2):
        check(gemm.product(a := array(n, n), b := array(n, n)), a, b)
        assert len(gemm._plans) <= 3
    assert fresh["plans"] == 5


# -- epilogues ------------------------------------------------------------------------------------------------------


def bits(x: Any) -> Any:
    return x.get().view(f"uint{8 * x.itemsize}")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("terms", [7, 64, pytest.param(11, marks=on_the_standin)])
def test_a_bias_changes_no_bits(terms: int, dtype: str, fresh: Any, planted: Any) -> None:
    """But in 16 bits, where the product is not rounded before it is added."""
    x, w, b = array(33, terms, dtype=dtype), array(20, terms, dtype=dtype), array(20, dtype=dtype)
    apart = gemm.product(x, w.T)
    assert fresh["products"] == 1
    apart += b
    y = gemm.affine(x, w, b)
    assert fresh["products"] == 2
    once = np.asarray(x.get().astype("f8") @ w.get().T.astype("f8") + b.get())
    if dtype == "float16" and terms != 11:
        assert np.all(np.abs(y.get() - once) <= np.abs(once) * 2.0**-11 + 2.0**-14)
    else:
        np.testing.assert_array_equal(bits(y), bits(apart))
    shifted = cupy.empty(21, dtype)[1:]
    shifted[...] = b
    np.testing.assert_array_equal(bits(gemm.affine(x, w, shifted)), bits(y))
    np.testing.assert_array_equal(bits(gemm.affine(x, w, cupy.stack([b, b], 1)[:, 0])), bits(y))
    out = cupy.empty_like(y)
    assert gemm.affine(x, w, b, out) is out
    np.testing.assert_array_equal(bits(out), bits(y))
    np.testing.assert_array_equal(bits(gemm.affine(x, w, None)), bits(gemm.product(x, w.T)))


def test_many_threads_with_a_bias_each(fresh: Any) -> None:
    """They share a plan, and on one stream a workspace."""
    x, w, found = array(5, 6), array(4, 6), {}
    place = nb.device("cuda")
    biases = [array(4) for _ in range(4)]
    want = [(gemm.product(x, w.T) + b).get() for b in biases]

    def work(i: int) -> None:
        with place.stream():
            found[i] = [gemm.affine(x, w, biases[i]) for _ in range(50)]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(4):
        for y in found[i]:
            np.testing.assert_array_equal(y.get(), want[i])


# -- precision, captures, failures ----------------------------------------------------------------------------------


def test_precision_is_that_of_the_stream(fresh: Any) -> None:
    """TF32 keeps ten bits of a factor. In other threads, and outside, nothing changes."""
    fine = 1 + 2.0**-12
    a, b = cupy.full((64, 64), fine, "float32"), cupy.eye(64, dtype="float32")
    place, seen = nb.device("cuda", precision="tf32"), []
    with place.stream():
        y = gemm.product(a, b)
        thread = threading.Thread(target=lambda: seen.append(gemm.product(a, b)))
        thread.start()
        thread.join()
        with nb.device("cuda", precision="ieee").stream():
            seen.append(gemm.product(a, b))
        np.testing.assert_array_equal(gemm.product(a.astype("f8"), b.astype("f8")).get(), fine)
        np.testing.assert_array_equal(gemm.product(a, b).get(), y.get())
    np.testing.assert_array_equal(y.get(), 1.0)
    for exact in (*seen, gemm.product(a, b)):
        np.testing.assert_array_equal(exact.get(), fine)


def test_a_capture_takes_what_has_run_before(fresh: Any) -> None:
    x, w, b, memory = array(6, LONG), array(4, LONG), array(4), Private()

    def work() -> Any:
        y = gemm.affine(x, w, b)
        return gemm.product(y, y.T), gemm.product(y[None], array_of_ones)

    array_of_ones = cupy.ones((3, 4, 2), "float32")
    stream = cupy.cuda.Stream(non_blocking=True)
    stream.wait_event(cupy.cuda.get_current_stream().record())
    with stream:
        with pytest.raises(UncapturedError, match=r"a matrix product of \(6, .*\), \(4,\) must run once"):
            captured(work, memory)
        assert fresh["plans"] == 0
        with memory.used():
            work()
        graph, result = captured(work, memory)
        for scale in (1.0, -2.0):
            x *= scale
            graph.launch()
            for got, want in zip([y.copy() for y in result], work(), strict=True):
                np.testing.assert_array_equal(bits(got), bits(want))


@on_the_standin
def test_one_workspace_for_each_stream_that_needs_one(monkeypatch: Any) -> None:
    a, streams = array(2, LONG), [cupy.cuda.Stream(non_blocking=True) for _ in range(2)]
    monkeypatch.setattr(gemm, "_workspaces", {})
    assert (len(gemm.product(a.T, a[:, :4])), gemm._workspaces) == (LONG, {})
    for stream in (*streams, *streams):
        with stream:
            gemm.product(a, a.T)
    assert [memory.mem.size for memory in gemm._workspaces.values()] == [gemm.WORKSPACE] * 2
    del stream, streams
    assert not gemm._workspaces
    with cupy.cuda.Stream(non_blocking=True), pytest.raises(UncapturedError, match="the stream has no workspace"):
        captured(lambda: gemm.product(a, a.T), Private())


def test_the_reason_is_logged_once(fresh: Any, caplog: Any) -> None:
    a = cupy.ones((2, 2), "int64")
    with caplog.at_level(logging.INFO, "nnbackend"):
        for n in (2, 1):
            assert gemm.product(a[:n], a) is NotImplemented
        assert (
            nb.ones((2, 2), dtype="int64", device="cuda") @ nb.ones((2, 2), dtype="int64", device="cuda")
        ).sum() == 8
    assert [r.getMessage() for r in caplog.records] == ["matrix products are left to CuPy: int64 @ int64"]


@on_the_standin
def test_without_an_algorithm(fresh: Any, planted: Any, caplog: Any) -> None:
    a, b, c = array(2, 13), array(3, 13), array(3)
    with caplog.at_level(logging.INFO, "nnbackend"):
        assert gemm.product(a, b.T) is NotImplemented
        assert gemm.product(a[0], b.T) is NotImplemented
        assert gemm.product(a[:, ::-1], b.T) is NotImplemented
        assert gemm.affine(a, b, c) is NotImplemented
        y = nb.functional.linear(*(nb.tensor(x.get(), device="cuda") for x in (a, b, c)))
    np.testing.assert_allclose(y.numpy(), a.get() @ b.get().T + c.get(), rtol=1e-5, atol=1e-5)
    assert "cublasLtMatmulAlgoGetHeuristic finds no algorithm" in caplog.text


def test_without_the_library(fresh: Any, caplog: Any, monkeypatch: Any) -> None:
    def nowhere(name: str) -> Any:
        raise OSError(f"no {name}")

    monkeypatch.setattr(cublaslt, "_found", lambda: nowhere("finder"))
    monkeypatch.setattr(ctypes, "CDLL", nowhere)
    monkeypatch.setattr(gemm, "library", cublaslt.Library)
    with caplog.at_level(logging.INFO, "nnbackend"):
        for shape in ((2, 2), (3, 3)):
            assert gemm.product(array(*shape), array(*shape)) is NotImplemented
    (record,) = caplog.records
    assert "cuBLASLt cannot be loaded: no finder; no libcublasLt.so.13; no libcublasLt.so.12" in record.getMessage()


def test_what_the_device_reports(fresh: Any, monkeypatch: Any) -> None:
    gemm.product(a := array(2, 2), a)
    monkeypatch.setattr(gemm.library(), "matmul", lambda *_: 15)
    with pytest.raises(DeviceError, match="CUDA reports CUBLAS_STATUS_NOT_SUPPORTED for a matrix product"):
        gemm.product(a, a)
