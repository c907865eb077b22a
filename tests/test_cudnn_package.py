"""The package `cudnn` itself, where it is installed: its names, and on a GPU what it computes."""

import importlib.util
import inspect
import itertools
import logging
import re

import fake_cudnn
import pytest
from cudnn_case import AXES, HEADS, drawn, near, tf32, there_and_back, three

import nnbackend as nb
from nnbackend.backend import cuda_status
from nnbackend.backend.capture import Private, captured
from nnbackend.backend.cudnn import Cudnn, frontend
from nnbackend.backend.cupy_cudnn import Overrides
from nnbackend.backend.gemm import PRECISION

pytestmark = pytest.mark.skipif(importlib.util.find_spec("cudnn") is None, reason="needs nvidia-cudnn-frontend")


def test_the_stand_in_has_the_names_of_the_package():
    """Those of the operations are in the docstrings of the library's binding."""
    import cudnn

    for name in ("data_type", "heur_mode", "numerical_note"):
        assert {x.name for x in getattr(fake_cudnn, name)} <= set(dir(getattr(cudnn, name)))
    for name, function in inspect.getmembers(fake_cudnn.pygraph, inspect.isfunction):
        ours = set(inspect.signature(function).parameters)
        if not name.startswith("_") and name not in ("conv_fprop", "conv_dgrad", "conv_wgrad", "sdpa", "sdpa_backward"):
            assert ours <= set(inspect.signature(getattr(cudnn.pygraph, name)).parameters), name
        elif not name.startswith("_"):
            text = getattr(cudnn._pybind_module.backend_graph, name).__doc__
            assert any(ours <= set(re.findall(r"(\w+)[:,]", line)) for line in text.splitlines()), name
            assert hasattr(cudnn.pygraph, name)
    for name in ("create_handle", "set_stream"):
        theirs, ours = (inspect.signature(getattr(module, name)).parameters for module in (cudnn, fake_cudnn))
        assert list(theirs) == list(ours)


@pytest.mark.skipif(not cuda_status().usable, reason="needs CUDA")
def test_on_a_gpu(caplog):
    """Values, the same bits again, and in a graph; nothing is left to others."""
    import cupy

    if getattr(cupy, "is_standin", False):
        pytest.skip("needs a GPU")
    try:
        own = Overrides(Cudnn(cupy, frontend()))
    except (ImportError, OSError, RuntimeError) as error:
        pytest.skip(str(error))
    caplog.set_level(logging.INFO, "nnbackend")

    def check(run, dtype):
        for (got, want), (again, _) in zip(run(), run(), strict=True):
            near(got, want, dtype)
            assert (got == again).all()

    with nb.device("cuda").stream():
        for name, dtype in itertools.product(AXES, ("float32", "float16")):
            check(lambda name=name, dtype=dtype: three(own, cupy, name, dtype), dtype)
        check(lambda: [tf32(own, cupy)], "tf32")
        for name in HEADS:
            check(lambda name=name: there_and_back(own, cupy, name), "float16")
        token = PRECISION.set("bfloat16")
        try:
            check(lambda: there_and_back(own, cupy, "causal", "float32"), "bfloat16")
        finally:
            PRECISION.reset(token)
        x, w, q = map(cupy.asarray, (*drawn(*AXES["plane"][:2]), *drawn((2, 70, 16), dtype="float16")))

        def work():
            y, logs = own.attention(q, q, q, None, 0.3, True, 0.0)
            grads = own.attention_back(q, q, q, None, y, logs, y, 0.3, True, 0.0)
            return own.conv(x, w, *AXES["plane"][2:]), y, logs, *grads

        eager = work()
        graph, results = captured(work, Private())
        graph.launch()
        assert all((got == want).all() for got, want in zip(results, eager, strict=True))
    assert not caplog.records
