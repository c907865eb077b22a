"""A training step and its compiled twin: whatever happens between two calls, they agree after each."""

from types import SimpleNamespace

import numpy as np

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import nn, optim

rng = np.random.default_rng(3)
BATCHES = [rng.standard_normal((8, 3)) for _ in range(4)]
LABELS = [rng.integers(0, 2, 8) for _ in range(4)]


def training(net, opt):
    """A usual step of a classifier."""

    def step(x, y):
        opt.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        opt.step()
        return loss

    return step


def setting(optimizer=optim.Adam, lr=0.05, layers=None, **kw):
    """A net in float64, with its optimizer, and a step that trains it."""
    layers = layers or [nn.Linear(3, 5), nn.Tanh(), nn.Dropout(0.4), nn.Linear(5, 2)]
    net = nn.Sequential(*layers).to("float64").init(0)
    opt = optimizer(net.parameters(), lr=lr, **kw)
    s = SimpleNamespace(net=net, opt=opt, seen=[])

    s.step = training(net, opt)
    return s


def state(s):
    """All that a step can have changed."""
    found = dict(s.net.state_dict())
    found |= {f"d {name}": p.grad for name, p in s.net.named_parameters()}
    for i, entry in s.opt.state_dict()["state"].items():
        found |= {f"{i} {name}": value for name, value in entry.items()}
    return found


def agree(a, b, loose=False):
    if a is None or b is None:
        assert a is b
        return
    a, b = (np.asarray(x.numpy() if isinstance(x, nb.Tensor) else x) for x in (a, b))
    assert (a.shape, a.dtype) == (b.shape, b.dtype)
    loose = loose or a.dtype == np.float32
    np.testing.assert_allclose(a, b, rtol=1e-5 if loose else 1e-10, atol=1e-6 if loose else 1e-12)


def compared(make, change=lambda s, turn: None, turns=14, recordings=9, loose=False):
    """Eager and compiled, call by call, with `change(s, turn)` before each."""
    eager, fast = make(), make()
    compiled = nb.compile(fast.step)
    for turn in range(turns):
        change(eager, turn)
        change(fast, turn)
        x, y = BATCHES[turn % 4], LABELS[turn % 4]
        x = x.astype(np.asarray(next(eager.net.parameters()).numpy()).dtype)
        results = [f(nb.tensor(x), nb.tensor(y)) for f in (eager.step, compiled)]
        agree(*results, loose)
        want, got = state(eager), state(fast)
        assert want.keys() == got.keys()
        for name in want:
            agree(got[name], want[name], loose)
    assert compiled.why is None
    assert compiled.recordings <= recordings
    assert compiled.recordings < turns
    return compiled


def with_step(s, step):
    s.step = step
    return s


def trained(s, x, y):
    s.opt.zero_grad()
    loss = F.cross_entropy(s.net(x), y)
    loss.backward()
    s.opt.step()
    return loss
