"""checkpoint in recorded steps, and the memory it saves there and elsewhere."""

import contextlib
import copy
import gc
import tracemalloc
import weakref

import numpy as np
import pytest
from frozen import PLACES
from recompute_case import X, same, sequential, values

import nnbackend as nb
from nnbackend import nn, optim
from nnbackend.errors import RecordingWarning


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_compiled_steps(place):
    """Recorded and replayed: losses, weights, statistics and counts of a training are the same."""

    def trained(wrap, compiled):
        net = sequential(
            nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(0.3), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 1)
        ).to(place)
        opt = optim.SGD(net.parameters(), lr=0.01, momentum=0.9)

        def step(x):
            opt.zero_grad()
            h = wrap(net[:4])(x)
            loss = (wrap(lambda h: net[4:](h))(h) ** 2).mean()
            loss.backward()
            opt.step()
            return loss.detach()

        run = nb.compile(step, fallback=False) if compiled else step
        found = []
        for i in range(4):
            found += values(run(nb.tensor(X + i, device=place)))
        return [*found, *values(*net.state_dict().values()), net[3].calls.value]

    less, plain = trained(nb.checkpoint, compiled=True), trained(lambda f: f, compiled=True)
    same(less, plain)
    if place == "cpu":
        eager = trained(nb.checkpoint, compiled=False)
        same(eager, trained(lambda f: f, compiled=False))
        for a, b in zip(less, eager, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)


def test_a_compiled_gradient():
    net = sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 1))

    def slope(wrap):
        f = nb.compile(lambda x: nb.grad(lambda x: wrap(net)(x).sum())(x).detach(), fallback=False)
        return values(*[f(nb.tensor(X + i)) for i in range(4)])

    want = [nb.grad(lambda x: net(x).sum())(nb.tensor(X + i)).numpy() for i in range(4)]
    same(slope(lambda f: f), want)
    same(slope(nb.checkpoint), want)


def test_a_graph_that_outlives_a_recorded_step():
    net = sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Dropout(0.5))
    twin = copy.deepcopy(net)
    f, kept = nb.compile(lambda x: nb.checkpoint(net)(x).sum()), []
    for _ in range(3):
        with pytest.warns(RecordingWarning, match="result with history") if not kept else contextlib.nullcontext():
            kept.append(f(nb.tensor(X)))
    for y in kept:
        y.backward()
    for _ in range(3):
        twin(nb.tensor(X)).sum().backward()
    same(values(*(p.grad for p in net.parameters())), values(*(p.grad for p in twin.parameters())))
    same(values(*net.buffers()), values(*twin.buffers()))


# -- memory ---------------------------------------------------------------------------------------------------------

rng = np.random.default_rng(0)
N, LAYERS = 64, [nn.Parameter(nb.tensor(rng.standard_normal((16, 16)) / 4)) for _ in range(64)]
BIG = rng.standard_normal((500, 16))  # 64 kB


def chain(wrap):
    """A step through 64 layers of tanh(x @ W) in 8 segments."""

    def segment(i):
        def run(h):
            for w in LAYERS[i : i + 8]:
                h = nb.tanh(h @ w)
            return h

        return wrap(run)

    segments = [segment(i) for i in range(0, N, 8)]

    def step(x):
        for w in LAYERS:
            w.grad = None
        for s in segments:
            x = s(x)
        loss = (x * x).mean()
        loss.backward()
        return loss.detach()

    return step


def peak(step, x):
    step(x)
    gc.collect()
    tracemalloc.start()
    try:
        step(x)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_grows_with_the_root_of_the_depth():
    x = nb.tensor(BIG)
    much, gradients = peak(chain(lambda f: f), x), values(*(w.grad for w in LAYERS))
    little = peak(chain(nb.checkpoint), x)
    same(values(*(w.grad for w in LAYERS)), gradients)
    assert much > 64 * BIG.nbytes
    assert little < 0.45 * much


def test_memory_of_a_replay():
    x, sizes, results = nb.tensor(BIG), [], []
    for wrap in (lambda f: f, nb.checkpoint):
        fast = nb.compile(chain(wrap), fallback=False)
        for _ in range(3):
            fast(x)
        sizes.append(fast._latest.replay.nbytes)
        results.append(values(*(w.grad.clone() for w in LAYERS)))
    same(*results)
    assert sizes[0] > 60 * BIG.nbytes
    assert sizes[1] < 20 * BIG.nbytes


def test_nothing_is_kept():
    """Neither what was computed on the way nor, after the backward pass, the arguments."""
    inside = []

    def f(x):
        h = nb.exp(x)
        inside.append(weakref.ref(h))
        return h * h

    x = nb.tensor(X, requires_grad=True) * 1.0
    ref = weakref.ref(x)
    gc.disable()
    try:
        y = nb.checkpoint(f)(x)
        del x
        assert inside[0]() is None
        assert ref() is not None
        y.sum().backward()
        assert ref() is None
        assert inside[1]() is None
    finally:
        gc.enable()
