"""The stand-in for CuPy captures graphs, and refuses in a capture what CuPy and CUDA refuse."""

import ctypes
import gc

import numpy as np
import pytest
from standin_case import the_standin  # noqa: F401 - a fixture

DOUBLE = """
extern "C" __global__ void twice(float* out, const float* x, long long n) {
  long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
  if (i < n) out[i] = 2 * x[i];
}
"""


@pytest.fixture
def stream(cp):
    """A stream and a pool that are current; no capture is left behind."""
    stream, pool = cp.cuda.Stream(non_blocking=True), cp.cuda.MemoryPool()
    with stream, cp.cuda.using_allocator(pool.malloc):
        yield stream
        cp.cuda._capture.active.clear()


def graph_of(stream, work):
    stream.begin_capture()
    result = work()
    return stream.end_capture(), result


def test_a_graph_does_it_again_with_new_inputs(cp, stream):
    x, total, index = cp.arange(6, dtype="float32").reshape(2, 3), cp.zeros(3, "float32"), cp.asarray([1, 0])
    kernel = cp.RawModule(code=DOUBLE).get_function("twice")

    def step():
        y = cp.empty_like(x)
        kernel((1,), (32,), (y, x, 6))
        z = cp.exp(y * 0.1) + x.sum(axis=1, keepdims=True)
        total[...] += z.sum(0)
        rows = cp.concatenate([z, x])[index]
        y.data.copy_from_device_async(rows.data, 24)
        y[:, 2:].fill(7)
        cp.negative(z, out=z)
        z += cp.asarray(1.0) + cp.stack([x] * 8).sum(0)
        return cp.where(y > 1, y, total).astype("float64"), cp.argsort(rows, axis=1), z, cp.zeros(3, "int32")

    graph, results = graph_of(stream, step)
    assert total.tolist() == [0, 0, 0]  # nothing has been done
    assert np.isnan(results[0].get()).all()
    assert (results[3].get() < -(10**8)).all()
    results[3].fill(1)
    for factor in (1, 3):
        x *= factor
        total.fill(0)
        wanted = [each.get() for each in step()]
        total.fill(0)
        graph.launch()
        for got, want in zip(results, wanted, strict=True):
            np.testing.assert_array_equal(got.get(), want, strict=True)


def waits(x):
    return {
        "get": lambda: x.get(),
        "item": lambda: x[0].item(),
        "float": lambda: float(x[0]),
        "bool": lambda: bool(x[0] > 0),
        "mask": lambda: x[x > 0],
        "nonzero": lambda: x.nonzero(),
    }


def uploads(cp, x):
    return {
        "list": lambda: cp.array([1.0, 2.0]),
        "many arrays": lambda: cp.stack([x] * 9),
        "NumPy": lambda: cp.asarray(np.ones(3)),
        "set": lambda: x.set(np.ones(3)),
        "index of a list": lambda: x[[0, 1]],
        "take": lambda: x.take([0, 1]),
        "number for an index": lambda: x.__setitem__(cp.arange(2), 1.0),
        "memory": lambda: x.data.copy_from_host_async(ctypes.c_void_p(np.ones(3).ctypes.data), 24),
    }


def synchronizations(cp, stream):
    return {
        "stream": stream.synchronize,
        "query": lambda: stream.done,
        "device": lambda: cp.cuda.Device().synchronize(),
        "runtime": cp.cuda.runtime.deviceSynchronize,
    }


def test_what_waits_or_uploads_ends_a_capture(cp, stream):
    x = cp.arange(3.0)
    for name, work in (waits(x) | uploads(cp, x) | synchronizations(cp, stream)).items():
        stream.begin_capture()
        with pytest.raises(cp.cuda.runtime.CUDARuntimeError, match="cudaErrorStreamCaptureUnsupported"):
            work()
        with pytest.raises(cp.cuda.runtime.CUDARuntimeError, match="cudaErrorStreamCaptureInvalidated"):
            stream.end_capture()
        assert not stream.is_capturing(), name
        assert x.tolist() == [0, 1, 2], name


def test_events(cp, stream):
    error, before, inside = cp.cuda.runtime.CUDARuntimeError, cp.cuda.Event(), cp.cuda.Event()
    before.record(cp.cuda.Stream.null)
    for work, said in (
        (inside.synchronize, "cudaErrorCapturedEvent"),
        (lambda: inside.done, "cudaErrorCapturedEvent"),
        (lambda: stream.wait_event(before), "cudaErrorStreamCaptureIsolation"),
        (lambda: cp.cuda.Stream(non_blocking=True).wait_event(inside), "cudaErrorStreamCaptureIsolation"),
    ):
        stream.begin_capture()
        inside.record()
        with pytest.raises(error, match=said):
            work()
        with pytest.raises(error, match="Invalidated"):
            stream.end_capture()
    stream.begin_capture()
    stream.wait_event(stream.record())
    stream.end_capture()


def test_cublas_is_refused_and_the_capture_goes_on(cp, stream):
    x = cp.ones((3, 3))
    stream.begin_capture()
    for work in (
        lambda: x @ x,
        lambda: cp.matmul(x, x),
        lambda: x.dot(x),
        lambda: cp.tensordot(x, x),
        lambda: cp.einsum("ij,jk", x, x),
        lambda: cp.linalg.solve(x, x),
        lambda: cp.linalg.cholesky(x),
        lambda: cp.asfortranarray(x),
    ):
        with pytest.raises(NotImplementedError, match="calling cuBLAS API during stream capture is currently unsupp"):
            work()
    result = x + 1
    stream.end_capture().launch()
    assert (result.get() == 2).all()


def test_where_captures_may_begin_and_end(cp, stream):
    error = cp.cuda.runtime.CUDARuntimeError
    with pytest.raises(RuntimeError, match="cannot capture on the default"):
        cp.cuda.Stream.null.begin_capture()
    with pytest.raises(error, match="cudaErrorStreamCaptureImplicit"):
        cp.cuda.Stream().begin_capture()
    with pytest.raises(error, match="cudaErrorIllegalState"):
        stream.end_capture()
    graph, _ = graph_of(stream, lambda: None)
    stream.begin_capture()
    assert stream.is_capturing()
    assert cp.cuda.runtime.streamIsCapturing(stream.ptr)
    with pytest.raises(error, match="cudaErrorIllegalState"):
        stream.begin_capture()
    with pytest.raises(error, match="cudaErrorStreamCaptureUnsupported"):
        graph.launch()
    with pytest.raises(error, match="cudaErrorStreamCaptureInvalidated"):
        stream.end_capture()
    with pytest.raises(NotImplementedError, match="created via stream capture"):
        cp.cuda.Graph()


def test_other_streams_go_on(cp, stream):
    x = cp.arange(3.0)
    stream.begin_capture()
    with cp.cuda.Stream(non_blocking=True):
        assert (x + 1).tolist() == [1, 2, 3]
    stream.end_capture()


def test_memory_of_a_capture_is_private(cp, stream):
    x = cp.arange(3.0)
    stream.begin_capture()
    with cp.cuda.using_allocator(cp.get_default_memory_pool().malloc):
        for work in (lambda: x + 1, lambda: cp.empty(3)):
            with pytest.raises(AssertionError, match="default pool"):
                work()
        y = cp.ndarray(3)
    for work in (lambda: y.fill(0), lambda: y.data.memset_async(0, 24)):
        with pytest.raises(AssertionError, match="default pool"):
            work()
    stream.end_capture()


def test_a_graph_writes_where_memory_was_freed(cp, stream):
    """Eager work that gets the memory of a graph loses its numbers to it."""
    x = cp.arange(1000.0)
    graph, result = graph_of(stream, lambda: (x * 2) + 1)
    eager = cp.zeros(1000)
    graph.launch()
    assert eager.tolist() == (2 * np.arange(1000.0)).tolist()
    assert result.tolist() == (2 * np.arange(1000.0) + 1).tolist()
    with cp.cuda.Stream(non_blocking=True):  # memory freed on one stream is not for another
        elsewhere = cp.zeros(1000)
    graph.launch()
    assert not elsewhere.get().any()


def test_page_locked_memory_is_read_at_each_launch(cp, stream):
    import cupyx

    host, x = cupyx.empty_pinned(3), cp.zeros(3)
    host[:] = 1

    def work():
        x.set(host)
        y = cp.zeros(3)
        y.data.copy_from_host_async(host.ctypes.data, 24)
        y.data.memset_async(0, 8)
        return y + 1

    graph, result = graph_of(stream, work)
    for value in (1.0, 5.0):
        host[:] = value
        graph.launch()
        assert x.tolist() == [value] * 3
        assert result.tolist() == [1, value + 1, value + 1]


def test_a_failing_call_leaves_its_inputs(cp, stream):
    x = cp.arange(3.0)
    stream.begin_capture()
    with pytest.raises(TypeError):
        x + np.ones(3)
    with pytest.raises(ValueError, match="broadcast"):
        x + cp.empty(2)
    x += 1
    stream.end_capture().launch()
    assert x.tolist() == [1, 2, 3]


def test_memory_of_a_capture_is_not_given_back_when_there_is_no_more(cp, stream, monkeypatch):
    from nnbackend.backend.capture import Private, UncapturedError, captured

    def work():
        x = cp.zeros(3 << 10, "uint8")
        del x
        return cp.zeros(15 << 10, "uint8")

    runtime = cp.cuda.runtime

    def leave_16_kib():
        gc.collect()  # what other tests have left
        cp.get_default_memory_pool().free_all_blocks()
        monkeypatch.setattr(runtime, "CAPACITY", runtime.CAPACITY - runtime.memGetInfo()[0] + (16 << 10))

    leave_16_kib()
    with pytest.raises(UncapturedError, match="Out of memory"):
        captured(work, Private())
    captured(lambda: cp.zeros(15 << 10, "uint8"), Private())
    eager = cp.get_default_memory_pool().malloc(2 << 10)
    del eager
    captured(lambda: cp.zeros(15 << 10, "uint8"), Private())  # where that was
    pool = cp.cuda.MemoryPool
    leave_16_kib()
    monkeypatch.setattr(cp.cuda, "MemoryPool", lambda allocator: pool())
    with pytest.raises(UncapturedError, match="a captured kernel uses is given back"):
        captured(work, Private())
