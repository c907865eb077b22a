"""Optimizers on CUDA: one launch for a flat run of weights, with the bits that its array operations give."""

from typing import Any

import numpy as np
import pytest
from fusion_case import put, same

import nnbackend as nb
from nnbackend import optim
from nnbackend.backend import KERNELS, blend, cuda_status, library_backend, namespace, to_host
from nnbackend.backend.fusion import lazy

pytestmark = pytest.mark.skipif(not cuda_status().usable or not KERNELS, reason="needs CUDA and its kernels")

RULES = {
    "SGD": lambda p: optim.SGD(p, lr=0.1),
    "momentum": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.1, weight_decay=0.01),
    "nesterov": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, maximize=True),
    "Adam": lambda p: optim.Adam(p, amsgrad=True, weight_decay=0.1),
    "AdamW": optim.AdamW,
    "Adamax": optim.Adamax,
    "NAdam": optim.NAdam,
    "RAdam": optim.RAdam,
    "RMSprop": lambda p: optim.RMSprop(p, momentum=0.9, centered=True),
    "Lion": lambda p: optim.Lion(p, weight_decay=0.1),
    "Adagrad": optim.Adagrad,
    "Adadelta": optim.Adadelta,
    "Rprop": optim.Rprop,
    "ASGD": lambda p: optim.ASGD(p, t0=1),
}


def stepped(make: Any, dtype: str) -> list[Any]:
    """The weights after three steps with gradients that are drawn."""
    rng = np.random.default_rng(0)
    params = [nb.nn.Parameter(put(rng.standard_normal(n).astype(dtype))) for n in ((8, 5), (5,), (3, 8))]
    optimizer = make(params)
    for _ in range(3):
        for p in params:
            p.grad = nb.Tensor(put(rng.standard_normal(p.shape).astype(dtype)))
        optimizer.step()
    return [to_host(p.array) for p in params]


@pytest.mark.parametrize(("name", "dtype"), [*((name, "float32") for name in RULES), ("AdamW", "float16")])
def test_a_step_is_one_launch(name: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    launched = []
    with monkeypatch.context() as patched:
        patched.setattr(lazy, "run", lambda *given: (launched.append(given[0]), run(*given)))
        together = stepped(RULES[name], dtype)
    assert len(launched) == 3
    assert launched[1] == launched[2]  # numbers that change from step to step are no part of the kernel
    monkeypatch.setattr(type(library_backend("cupy")), "together", lambda self, fn, *arrays: fn(*arrays))
    for got, want in zip(together, stepped(RULES[name], dtype), strict=True):
        same(got, want)


run = lazy.run


def test_what_lazy_arrays_cannot_do_is_done_by_arrays() -> None:
    """From the beginning: nothing has been changed by then."""
    backend = library_backend("cupy")
    w, g = put(np.arange(6.0, dtype="float32")), put(np.ones(6, "float32"))

    def by_slices(w: Any, g: Any) -> None:
        w += g
        w[1:] += g[1:]

    def by_sums(w: Any, g: Any) -> None:
        w *= 2.0
        w -= namespace(w).sum(g)

    def by_values(w: Any, g: Any) -> None:
        blend(w, 2.0, g, 1.0)
        if w[0] > 0.0:
            w *= 2.0

    for fn in (by_slices, by_sums, by_values):
        assert not lazy.together(fn, w, g)
        backend.together(fn, w, g)
    want = np.arange(6.0, dtype="float32")
    by_slices(want, np.ones(6, "float32"))
    same(to_host(w), ((want * 2 - 6) * 2 + 1) * (2 if (want[0] * 2 - 6) * 2 + 1 > 0 else 1))
    for arrays in ((w, w), (w, g[:3]), (w[::2], g[::2])):
        assert not lazy.together(lambda w, g: blend(w, 1.0, g, 1.0), *arrays)


def test_whatever_changes_is_written_back() -> None:
    w, v, g = (put(np.linspace(-1, 1, 7).astype("float32") * k) for k in (1, 2, 3))
    host_w, host_g = to_host(w), to_host(g)

    def rule(w: Any, v: Any, g: Any) -> None:
        xp = namespace(w)
        v[...] = xp.where((g > 0.0) & (w <= 0.5), xp.abs(g) ** 2.0, 0.25)
        w -= 0.1 / (1.0 + v) + xp.ones_like(g) * -g

    library_backend("cupy").together(rule, w, v, g)
    same(to_host(g), host_g)
    one = np.float32
    np.testing.assert_array_equal(
        to_host(v), np.where((host_g > 0) & (host_w <= 0.5), np.abs(host_g) ** one(2), one(0.25))
    )
    same(to_host(w), host_w - (one(0.1) / (one(1) + to_host(v)) + -host_g))
