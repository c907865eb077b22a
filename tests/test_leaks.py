"""Memory: nothing of a step outlives it."""

import gc
import sys
import weakref

import numpy as np
import pytest

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import nn, optim
from nnbackend.tensor import Tensor


@pytest.fixture
def no_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def a_step():
    net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 1))
    adam = optim.AdamW(net.parameters())
    x, y = nb.tensor(np.ones((5, 3), "float32")), nb.tensor(np.ones((5, 1), "float32"))

    def step():
        loss = F.mse_loss(net(x), y)
        adam.zero_grad()
        loss.backward()
        adam.step()
        return loss

    return step


def test_every_tensor_of_a_step_dies_by_reference_count(no_collector, monkeypatch):
    """Issue 2, line 11."""
    step, born = a_step(), []
    init = Tensor.__init__
    step()
    monkeypatch.setattr(
        Tensor, "__init__", lambda self, *a, **kw: (init(self, *a, **kw), born.append(weakref.ref(self)))[0]
    )
    for _ in range(200):
        step()
    assert len(born) >= 200 * 5
    assert [ref() for ref in born if ref() is not None] == []


def test_a_graph_that_is_never_used_dies_too(no_collector):
    x = nb.tensor([1.0, 2.0], requires_grad=True)
    y = nb.exp(x) * x
    refs = [weakref.ref(y), weakref.ref(y.node[2][0])]
    del y
    assert [ref() for ref in refs] == [None, None]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_hundred_thousand_steps_leave_memory_flat(no_collector):
    """Issue 2, line 11: resident memory, after a warm-up, collector off."""
    step = a_step()
    for _ in range(2_000):
        step()
    before = resident()
    for _ in range(100_000):
        step()
    assert resident() - before < 2_000_000


def resident():
    if sys.platform != "linux":
        pytest.skip("resident memory is read from /proc")
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
