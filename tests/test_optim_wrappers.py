"""Clipping by other norms and by units, and SAM."""

import copy
import math
import pickle

import numpy as np
import pytest
from compiled_twins import BATCHES, LABELS, compared, setting, with_step
from frozen import PLACES
from test_optim import close, equal, give, parameters

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import nn, optim
from nnbackend.errors import GraphError, NonFiniteError

SHAPES = (3, 4), (5,), (), (2, 3, 2, 2)
rng = np.random.default_rng(5)
GRADS = [rng.standard_normal(shape) for shape in SHAPES]
WEIGHTS = [rng.standard_normal(shape) for shape in SHAPES]


def clipped(clip, *settings, place="cpu", weights=WEIGHTS, grads=GRADS):
    params = parameters(*weights, 1.0, place=place)
    give(params, [*grads, None])
    with nb.testing.no_synchronization():
        norm = clip(params, *settings)
    assert params[-1].grad is None
    return norm, [p.grad.numpy() for p in params[:-1]]


# -- clipping -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", PLACES, ids=str)
@pytest.mark.parametrize("p", [1, 2, 3.0, 0.5, 1.5, math.inf, "inf"])
def test_norms(p, place):
    want = float(np.linalg.norm(np.concatenate([g.ravel() for g in GRADS]), float(p)))
    for max_norm in (want / 3, want * 3):
        norm, grads = clipped(optim.clip_grad_norm_, max_norm, p, place=place)
        close(float(norm), want, 1e-13)
        for got, g in zip(grads, GRADS, strict=True):
            close(got, g * min(1.0, max_norm / (want + 1e-6)), 1e-13)
    close(float(optim.get_total_norm(map(nb.tensor, GRADS), p)), want, 1e-13)


def test_the_two_halves_of_clipping():
    _, whole = clipped(optim.clip_grad_norm, 1.0, 3)
    _, halves = clipped(
        lambda params, top: optim.clip_grads_with_norm_(params, top, optim.get_total_norm(GRADS, 3)), 1.0
    )
    for a, b in zip(whole, halves, strict=True):
        close(a, b, 1e-13)


def by_unit(w, g, clip_factor=0.01, eps=1e-3):
    """Brock et al. 2021, equation 3, row by row."""
    if w.ndim > 1:
        return np.stack(
            [by_unit(a.ravel(), b.ravel(), clip_factor, eps).reshape(a.shape) for a, b in zip(w, g, strict=True)]
        )
    longest, norm = max(np.linalg.norm(w), eps), np.linalg.norm(g)
    return g * (clip_factor * longest / norm if norm / longest > clip_factor else 1.0)


@pytest.mark.parametrize("place", PLACES, ids=str)
@pytest.mark.parametrize("settings", [(), (0.5,), (2.0, 0.1)])
def test_adaptive_clipping(settings, place):
    weights = [
        w * np.array([0.0, 1.0, 100.0])[: len(w)].reshape(-1, *[1] * (w.ndim - 1)) if w.ndim > 1 else w for w in WEIGHTS
    ]
    grads = [*GRADS[:3], np.stack([GRADS[3][0], np.zeros((3, 2, 2))])]
    _, got = clipped(optim.clip_grad_adaptive, *settings, place=place, weights=weights, grads=grads)
    for w, g, seen in zip(weights, grads, got, strict=True):
        close(seen, by_unit(w, g, *settings), 1e-13)


def test_clipping_float16_sums_in_float32():
    p = nn.Parameter(np.full(4, 2.0, "float16"))
    p.grad = np.full(4, 300.0, "float16")  # squares are beyond float16
    assert float(optim.clip_grad_norm([p], 6.0)) == 600.0
    equal(p.grad.numpy(), np.full(4, 3.0, "float16"))
    optim.clip_grad_adaptive([p], 0.5)
    equal(p.grad.numpy(), np.full(4, 1.0, "float16"))
    assert p.grad.dtype == "float16"


def test_what_clipping_refuses():
    params = parameters([3.0, math.nan])
    give(params, [[1.0, math.nan]])
    for bad in (0, -1.0, math.nan):
        with pytest.raises(ValueError, match="norm_type > 0"):
            optim.clip_grad_norm(params, 1.0, bad)
        with pytest.raises(ValueError, match="clip_factor > 0"):
            optim.clip_grad_adaptive(params, bad)
        with pytest.raises(ValueError, match="eps > 0"):
            optim.clip_grad_adaptive(params, 0.1, bad)
    with pytest.raises(ValueError, match="expected tensors, got none"):
        optim.get_total_norm([])
    with pytest.raises(NonFiniteError, match="finite norm, got nan"):
        optim.clip_grad_norm(params, 1.0, math.inf, True)
    equal(params[0].grad.numpy(), [1.0, math.nan])


def recorded(clip):
    def make():
        s = setting()

        def step(x, y):
            s.opt.zero_grad()
            loss = F.cross_entropy(s.net(x), y)
            loss.backward()
            clip(list(s.net.parameters()))
            s.opt.step()
            return loss

        return with_step(s, step)

    return make


@pytest.mark.parametrize("clip", [
    lambda params: optim.clip_grad_norm(params, 0.1, 1.5),
    lambda params: optim.clip_grad_norm(params, 0.1, math.inf),
    lambda params: optim.clip_grad_adaptive(params, 0.05),
])  # fmt: skip
def test_recorded_clipping(clip):
    compared(recorded(clip), turns=8)


# -- SAM ------------------------------------------------------------------------------------------------------------


def sam_setting(adaptive=False, base=optim.SGD, **kw):
    s = setting(layers=[nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)], optimizer=base, **kw)
    s.opt = optim.SAM(s.opt, rho=0.3, adaptive=adaptive)

    def closure(x, y):
        s.opt.zero_grad()
        loss = F.cross_entropy(s.net(x), y)
        loss.backward()
        return loss

    s.closure = closure
    return with_step(s, lambda x, y: s.opt.step(lambda: closure(x, y)))


@pytest.mark.parametrize("place", PLACES, ids=str)
@pytest.mark.parametrize("adaptive", [False, True])
def test_sam_is_the_papers_algorithm(adaptive, place):
    """Loss (w1 - 1)^4 + (w1 w2)^2 with a vector for w1, and SGD with momentum as the base."""
    w, v = [np.array([0.5, -0.3, 2.0]), np.array(1.5)], [0.0, 0.0]
    params = parameters(*w, place=place)
    sam = optim.SAM(optim.SGD(params, lr=0.01, momentum=0.9), rho=0.1, adaptive=adaptive)

    def closure():
        sam.zero_grad()
        loss = ((params[0] - 1.0) ** 4 + (params[0] * params[1]) ** 2).sum()
        loss.backward()
        return loss

    def gradient(a, b):
        return [4 * (a - 1) ** 3 + 2 * a * b**2, np.sum(2 * a**2 * b)]

    for _ in range(20):
        with nb.testing.no_synchronization():
            loss = sam.step(closure)
        close(float(loss), np.sum((w[0] - 1) ** 4 + (w[0] * w[1]) ** 2), 1e-12)
        sizes = [np.abs(x) if adaptive else np.ones_like(x) for x in w]
        slopes = [size * g for size, g in zip(sizes, gradient(*w), strict=True)]
        norm = math.sqrt(sum(np.sum(s**2) for s in slopes))
        up = [x + 0.1 * size * s / norm for x, size, s in zip(w, sizes, slopes, strict=True)]
        v = [0.9 * m + g for m, g in zip(v, gradient(*up), strict=True)]
        w = [x - 0.01 * m for x, m in zip(w, v, strict=True)]
        for p, x in zip(params, w, strict=True):
            close(p.numpy(), x, 1e-12, 1e-12)


def radius(s, turn):
    s.opt.settings["rho"] = 0.1 * (turn + 1)
    s.opt.param_groups[0]["lr"] = 0.2 / (turn + 1)


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("base", [optim.SGD, optim.AdamW])
def test_recorded_sam(base, adaptive):
    compared(lambda: sam_setting(adaptive, base), radius, turns=10)


def test_sam_is_its_base_but_for_the_step():
    s = sam_setting(base=optim.Adam)
    assert s.opt.param_groups is s.opt.base.param_groups
    late = nn.Parameter(np.ones(2))
    s.opt.add_param_group({"params": late, "lr": 0.5})
    assert [g["lr"] for g in s.opt.base.param_groups] == [0.05, 0.5]
    late.requires_grad_(False)
    x, y = nb.tensor(BATCHES[0]), nb.tensor(LABELS[0])
    twins = [s, copy.deepcopy(s.opt), pickle.loads(pickle.dumps(s.opt))]
    for twin in twins[1:]:
        assert twin.param_groups is twin.base.param_groups
    for _ in range(3):
        s.step(x, y)
    again = sam_setting(base=optim.Adam)
    again.opt.add_param_group({"params": nn.Parameter(np.ones(2), requires_grad=False)})
    again.net.load_state_dict(s.net.state_dict())
    again.opt.load_state_dict(s.opt.state_dict())
    assert again.opt.param_groups[1]["lr"] == 0.5
    for t in (s, again):
        t.step(x, y)
    for p, q in zip(s.net.parameters(), again.net.parameters(), strict=True):
        equal(p.numpy(), q.numpy())
    equal(late.numpy(), [1.0, 1.0])
    template = optim.SAM(optim.SGD(lr=0.5), 0.2, adaptive=True)
    bound = template.bind([late])
    assert (bound.param_groups[0]["lr"], bound.settings["rho"], bound.settings["adaptive"]) == (0.5, 0.2, True)
    assert repr(bound).startswith("SAM(SGD(lr=0.5")
    assert repr(bound).endswith("rho=0.2, adaptive=True)")


def test_weights_come_back_exactly_if_the_second_call_fails():
    s = sam_setting(lr=0.0)
    start = [p.numpy().copy() for p in s.net.parameters()]
    calls = []

    def closure():
        calls.append([p.numpy().copy() for p in s.net.parameters()])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return s.closure(nb.tensor(BATCHES[0]), nb.tensor(LABELS[0]))

    with pytest.raises(KeyboardInterrupt):
        s.opt.step(closure)
    assert not np.array_equal(calls[1][0], start[0])
    moved = np.concatenate([(a - b).ravel() for a, b in zip(calls[1], start, strict=True)])
    close(np.linalg.norm(moved), 0.3, 1e-10)
    for p, w in zip(s.net.parameters(), start, strict=True):
        equal(p.numpy(), w)


def test_what_sam_refuses():
    params = parameters([1.0, 2.0])
    sam = optim.SAM(optim.SGD(params, lr=0.1))
    with pytest.raises(ValueError, match=r"expected a closure, got none. Use sam.step\(closure\)"):
        sam.step()
    with pytest.raises(GraphError, match="expected gradients, got none"):
        sam.step(sam.zero_grad)
    with pytest.raises(TypeError, match="expected an optimizer, got list"):
        optim.SAM(params)
    with pytest.raises(ValueError, match="rho: expected a finite number >= 0, got -1"):
        optim.SAM(optim.SGD(params), rho=-1)
    equal(params[0].numpy(), [1.0, 2.0])
