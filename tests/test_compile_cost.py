"""What a replay costs: no Python of the library's, no memory."""

import gc
import sys
import tracemalloc
import weakref

import numpy as np
from compiled_twins import training
from test_compile import T, classifier

import nnbackend as nb
from nnbackend import nn, optim


def test_a_replay_enters_no_op_layer_or_optimizer():
    _, _, step = classifier()
    fast, y = nb.compile(step), nb.tensor(np.array([0, 2]))
    for _ in range(5):
        fast(T, y)
    entered = set()

    def watch(frame, event, _):
        if event == "call" and "/nnbackend/" in frame.f_code.co_filename:
            entered.add((frame.f_code.co_filename.rpartition("nnbackend/")[2], frame.f_code.co_name))

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        fast(T, y)
    finally:
        sys.setprofile(before)
    allowed = {("tensor.py", "__init__")}
    inside = {(f, name) for f, name in entered if f.startswith(("ops/", "tensor", "nn/", "optim/", "tape", "cells"))}
    assert inside <= allowed | {(f, name) for f, name in entered if "_check" in name}


def test_replays_keep_no_memory():
    net = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 5)).init(0)
    opt = optim.Adam(net.parameters())

    step = training(net, opt)
    x, y = nb.tensor(np.ones((128, 20), "float32")), nb.tensor(np.arange(128) % 5)
    fast = nb.compile(step, reuse_outputs=True)
    for _ in range(20):
        fast(x, y)
    gc.collect()
    gc.disable()
    try:
        tracemalloc.start()
        for _ in range(100):  # NumPy keeps some small blocks of its own
            fast(x, y)
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(2000):
            fast(x, y)
        now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()
    assert now - before < 2000 * 8  # not even a number for each replay (24 bytes); pytest-xdist's own thread keeps some
    assert peak - before < 16_000 + 4 * 8192, "a replay makes more than the buffer in which NumPy casts"


def test_results_die_when_nobody_holds_them():
    _, _, step = classifier()
    fast, y = nb.compile(step), nb.tensor(np.array([0, 2]))
    gc.collect()
    gc.disable()
    try:
        alive = [weakref.ref(fast(T, y)) for _ in range(50)]
        assert not any(r() is not None for r in alive[3:])
    finally:
        gc.enable()
