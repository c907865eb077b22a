"""cuDNN's overrides against the specification, by a stand-in for the package: values, captures, what is left out."""

import logging
import os
import subprocess
import sys

import fake_cudnn
import numpy as np
import pytest
from cudnn_case import AXES, HEADS, drawn, near, tf32, there_and_back, three
from standin_case import the_standin  # noqa: F401 - a fixture

from nnbackend.backend import cudnn as plans
from nnbackend.backend import kernels
from nnbackend.backend.attention import attention
from nnbackend.backend.capture import Private, UncapturedError, captured
from nnbackend.backend.conv import conv
from nnbackend.backend.cudnn import Cudnn
from nnbackend.backend.cupy_cudnn import Overrides, first_of, preferred
from nnbackend.backend.gemm import PRECISION
from nnbackend.errors import DeviceError


@pytest.fixture(name="own")
def overrides(cp, caplog):
    """By the stand-in for the package. It must not fall back without a word."""
    caplog.set_level(logging.INFO, "nnbackend")
    return Overrides(Cudnn(cp, fake_cudnn))


@pytest.fixture
def stream(cp):
    """A stream that can be captured."""
    with cp.cuda.Stream(non_blocking=True) as stream:
        yield stream
    cp.cuda._capture.active.clear()


# -- values ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("name", AXES)
def test_convolutions(own, cp, caplog, name, dtype):
    for got, want in three(own, cp, name, dtype):
        assert (got.shape, got.dtype) == (want.shape, dtype)
        near(got, want, dtype)
    assert not caplog.records


@pytest.mark.parametrize("name", HEADS)
def test_attention(own, cp, caplog, name):
    for got, want in there_and_back(own, cp, name):
        assert got.shape == want.shape
        near(got, want, "float16")
    assert not caplog.records


@pytest.fixture
def fresh():
    """Kernels that the stand-in for CuPy compiles are not kept for another CuPy in this process."""
    caches = () if os.environ.get("NNBACKEND_TEST_CUPY") == "standin" else (kernels.module, kernels.function)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


def test_attention_of_float32_where_factors_may_be_bfloat16(fresh, own, cp):
    q, k, v = map(cp.asarray, drawn(*HEADS["causal"][:3]))
    assert own.attention(q, k, v, None, 1.0, False, 0.0, 0, 0, 0) is NotImplemented
    token = PRECISION.set("bfloat16")
    try:
        pairs = there_and_back(own, cp, "causal", "float32")
    finally:
        PRECISION.reset(token)
    for got, want in pairs:
        near(got, want, "bfloat16")


def test_heads_are_read_out_of_one_array(own, cp, monkeypatch):
    """Queries, keys and values in one projection: (batch, row, 3, head, column), and nothing is copied."""
    (packed,) = drawn((2, 7, 3, 4, 8), dtype="float16")
    on_device = cp.asarray(packed)
    parts = [on_device[:, :, i].transpose(0, 2, 1, 3) for i in range(3)]
    host = [packed[:, :, i].transpose(0, 2, 1, 3).astype("float64") for i in range(3)]
    given = []
    run = own._cudnn.run
    monkeypatch.setattr(own._cudnn, "run", lambda plan, *arrays: (given.extend(arrays), run(plan, *arrays)))
    y, _ = own.attention(*parts, None, 1.0, True, 0.0, 0, 0, 0)
    near(y, attention(*host, None, 1.0, True, 0.0, 0, 0, 0)[0], "float16")
    assert [x.data.ptr for x in given[:3]] == [x.data.ptr for x in parts]


def test_heads_that_cudnn_cannot_read_are_copied(own, cp):
    def wide(x):
        y = cp.empty((*x.shape[:-1], x.shape[-1] + 1), x.dtype)
        y[..., :-1] = x
        return y[..., :-1]

    def columns(x):
        return cp.asarray(x.get()[..., ::-1].copy())[..., ::-1]

    def rows(x):
        return cp.asarray(x.get()[..., ::-1, :].copy())[..., ::-1, :]

    for lies in (wide, columns, rows, odd_address):
        for got, want in there_and_back(own, cp, "causal", lies=lies):
            near(got, want, "float16")


def odd_address(x):
    """The same array, but it begins two bytes beyond where cuDNN can begin."""
    wide = type(x)((x.size + 1,), x.dtype)
    wide[1:] = x.reshape(-1)
    return wide[1:].reshape(x.shape)


def test_operands_of_a_convolution_that_are_not_packed(own, cp):
    x_shape, w_shape, *how = AXES["plane"]
    x, w = drawn(x_shape, w_shape)
    want = conv(x, w, *how)
    for turned in (cp.asarray(x.swapaxes(2, 3).copy()).swapaxes(2, 3), odd_address(cp.asarray(x))):
        near(own.conv(turned, cp.asarray(w), *how), want)


def test_factors_are_rounded_only_where_they_may_be(own, cp):
    exact, rounded = (np.abs(got.get() - want).max() for got, want in [three(own, cp, "plane")[0], tf32(own, cp)])
    assert exact < 1e-5 < rounded < 5e-2
    assert len(own._cudnn._plans) == 6


# -- what is left to others -----------------------------------------------------------------------------------------


def test_what_is_left_to_others(own, cp):
    q = cp.ones((2, 3, 8), "float16")
    mask = cp.ones((3, 3), "bool")
    rest = (0, 0, 0)
    assert own.attention(q, q, q, mask, 1.0, False, 0.0, *rest) is NotImplemented
    assert own.attention(q, q, q, mask, 1.0, True, 0.0, *rest) is not NotImplemented  # the mask does not count
    assert own.attention(q, q, q, None, 1.0, False, 0.5, *rest) is NotImplemented
    assert own.attention(q, q[0], q[0], None, 1.0, False, 0.0, *rest) is NotImplemented
    assert own.attention(q[..., :4], q[..., :4], q, None, 1.0, False, 0.0, *rest) is NotImplemented
    assert own.attention(q[:0], q[:0], q[:0], None, 1.0, False, 0.0, *rest) is NotImplemented
    logs = cp.zeros((2, 3, 1), "float16")
    assert own.attention_back(q, q, q, None, q, logs, q, 1.0, False, 0.0, *rest, False) is NotImplemented
    host = np.ones((1, 1, 3, 3), "float32")
    x, how = cp.asarray(host), ((1, 1), ((0, 0), (0, 0)), (1, 1), 1)
    for a, b in ((x.astype("float64"), x.astype("float64")), (x, host), (host, host), (x, x.astype("float16"))):
        assert own.conv(a, b, *how) is NotImplemented
        assert own.conv_transpose(a, b, (5, 5), *how) is NotImplemented
        assert own.conv_weight(a, b, (1, 1), *how) is NotImplemented
    assert own.conv(x[:0], x, *how) is NotImplemented
    assert own.conv(cp.ones((1, 1, 2, 2), "float32"), x, *how) is NotImplemented  # the kernel has no place
    with cp.cuda.Device(1):
        assert own.conv(x, x, *how) is NotImplemented


def test_what_cudnn_does_not_do_is_said_once(own, cp, caplog):
    one = cp.ones((1, 8), "float16")
    for _ in range(2):
        y, logs = own.attention(one, one, one, None, 1.0, False, 0.0, 0, 0, 0)
        assert own.attention_back(one, one, one, None, y, logs, y, 1.0, False, 0.0, 0, 0, 0, False) is NotImplemented
    assert [r.getMessage() for r in caplog.records] == ["sdpa_backward without cuDNN: s_q = s_kv = 1 is not supported."]


def test_no_more_plans_than_so_many(own, cp, caplog, monkeypatch):
    monkeypatch.setitem(plans.PLANS, "sdpa", 2)
    ones = [cp.ones((n, 8), "float16") for n in (2, 3, 4, 2)]
    done = [own.attention(x, x, x, None, 1.0, True, 0.0, 0, 0, 0) is not NotImplemented for x in ones]
    assert done == [True, True, False, True]
    assert "there are 2 plans already" in caplog.text


def test_the_first_that_does_it():
    double = first_of(lambda x, y: NotImplemented if x < 0 else x + y, lambda x, y: -x * y)
    assert (double(3, 4), double(-3, 4)) == (7, 12)


# -- plans and captures ---------------------------------------------------------------------------------------------


def test_plans_are_made_once_and_kept_apart_by_device(own, cp, monkeypatch):
    x, w = map(cp.asarray, drawn((1, 1, 3, 3), (1, 1, 2, 2)))
    how = ((1, 1), ((0, 0), (0, 0)), (1, 1), 1)
    made = []
    monkeypatch.setattr(own._cudnn, "_made", lambda *a, make=own._cudnn._made: made.append(a) or make(*a))
    first = own.conv(x, w, *how)
    assert (own.conv(x.copy(), w, *how) == first).all()
    assert len(made) == 1
    own.conv(x, w, (2, 2), *how[1:])
    with cp.cuda.Device(1):
        assert (own.conv(cp.asarray(x.get()), cp.asarray(w.get()), *how).get() == first.get()).all()
    assert len(made) == 3
    assert own._cudnn._handles[0] is not own._cudnn._handles[1]


def test_a_graph_does_what_was_done_before_it_was_captured(own, cp, stream):
    x, w = map(cp.asarray, drawn(AXES["plane"][0], AXES["plane"][1]))
    q = cp.asarray(drawn((2, 6, 8), dtype="float16")[0])
    how, dropout = AXES["plane"][2:], (1.0, True, 0.0, 0, 0, 0)

    def work():
        y, logs = own.attention(q, q, q, None, *dropout)
        return own.conv(x, w, *how), *own.attention_back(q, q, q, None, y, logs, y, *dropout, False)

    memory = Private()
    with pytest.raises(UncapturedError, match="must run once before it is captured"):
        captured(work, memory)
    with memory.used():
        work()
    graph, results = captured(work, memory)
    for _ in range(2):
        x += 1
        q *= 0.5
        eager = work()
        graph.launch()
        for got, want in zip(results, eager, strict=True):
            np.testing.assert_array_equal(got.get(), want.get())


def test_a_workspace_for_each_stream(own, cp, stream):
    run, how = own._cudnn, AXES["plane"][2:]
    x, w = map(cp.asarray, drawn(AXES["plane"][0], AXES["plane"][1]))
    own.conv(x, w, *how)
    with cp.cuda.Stream(non_blocking=True) as other:
        with pytest.raises(UncapturedError, match="a workspace for cuDNN"):
            captured(lambda: own.conv(x, w, *how), Private())
        own.conv(x, w, *how)
    assert {pointer for (_, pointer), spaces in run._workspaces.items() if spaces} == {stream.ptr, other.ptr}
    before = run._workspace(0, stream, 100)
    assert run._workspace(0, stream, 0) == 0
    assert run._workspace(0, stream, 10_000) != before == run._workspaces[0, stream.ptr][0].ptr


def test_errors_of_the_device(own, cp, monkeypatch):
    x, how = cp.ones((1, 1, 3, 3), "float32"), ((1, 1), ((0, 0), (0, 0)), (1, 1), 1)

    def execute(*_, **__):
        raise RuntimeError("CUDNN_STATUS_EXECUTION_FAILED")

    monkeypatch.setattr(fake_cudnn.pygraph, "execute", execute)
    with pytest.raises(DeviceError, match="cuDNN reports: CUDNN_STATUS_EXECUTION_FAILED"):
        own.conv(x, x, *how)


# -- whether it is there --------------------------------------------------------------------------------------------


@pytest.fixture
def installed(monkeypatch):
    """The stand-in as the package, and cuBLASLt."""
    monkeypatch.delenv("NNBACKEND_CUDNN", raising=False)
    monkeypatch.setitem(sys.modules, "cudnn", fake_cudnn)
    monkeypatch.setattr(plans, "library", lambda: None)


def test_it_goes_in_front_of_the_table(cp, installed):
    x, w, *how = AXES["plane"]
    x, w = map(cp.asarray, drawn(x, w))
    table = preferred(cp, {"conv": lambda *_: "theirs", "erf": "erf"})
    assert set(table) == {"conv", "conv_transpose", "conv_weight", "attention", "attention_back", "erf"}
    assert table["erf"] == "erf"
    near(table["conv"](x, w, *how), conv(x.get(), w.get(), *how))
    assert table["conv"](x.astype("float64"), w.astype("float64"), *how) == "theirs"
    assert table["conv_weight"](x, x.astype("float64"), (1, 1), *how) is NotImplemented


def absent(monkeypatch):
    monkeypatch.delitem(sys.modules, "cudnn")
    monkeypatch.setattr(plans, "find_spec", lambda name: None)


def broken(monkeypatch):
    def backend_version():
        raise RuntimeError("Unable to find symbol cudnnGetVersion")

    monkeypatch.setattr(fake_cudnn, "backend_version", backend_version)


REASONS = {
    "NNBACKEND_CUDNN=0": lambda monkeypatch: monkeypatch.setenv("NNBACKEND_CUDNN", "0"),
    "nvidia-cudnn-frontend is not installed": absent,
    "Unable to find symbol cudnnGetVersion": broken,
    "the module cudnn is not that of nvidia-cudnn-frontend": lambda monkeypatch: monkeypatch.delattr(
        fake_cudnn, "pygraph"
    ),
}


@pytest.mark.parametrize("reason", REASONS)
def test_without_it_the_table_is_as_it_was(installed, monkeypatch, caplog, reason):
    REASONS[reason](monkeypatch)
    caplog.set_level(logging.INFO, "nnbackend")
    table = {"conv": "theirs"}
    assert preferred(None, table) is table
    assert [r.getMessage() for r in caplog.records] == [f"cuDNN is not used: {reason}"]


def test_nothing_is_loaded_before_cupy_is():
    code = "import sys, nnbackend; assert not {'cudnn', 'torch', 'cupy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
