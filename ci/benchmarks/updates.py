"""Steps of optimizers alone, on given gradients: ours eager and compiled, PyTorch's default and fused ones."""

import statistics
from importlib.util import find_spec

import numpy as np

import nnbackend as nb
from nnbackend import nn, optim

from .measure import markdown, rounds_of
from .nets import import_torch

RULES = {
    "SGD": {"lr": 1e-3, "momentum": 0.9},
    "Lion": {"lr": 1e-4},
    "Adagrad": {},
    "RMSprop": {},
    "Adadelta": {},
    "Rprop": {},
    "ASGD": {},
    "Adam": {},
    "AdamW": {},
    "Adamax": {},
    "NAdam": {},
    "RAdam": {},
    "Adafactor": {},
}
FUSED = ("SGD", "Adagrad", "Adam", "AdamW")


def arrays(weights):
    """Ten square matrices with so many numbers in all, and their gradients."""
    rng, side = np.random.default_rng(0), round((weights / 10) ** 0.5)
    return [[rng.standard_normal((side, side), "float32") for _ in range(10)] for _ in range(2)]


def ours(name, weights, compiled):
    params, gradients = arrays(weights)
    params = [nn.Parameter(p) for p in params]
    for p, g in zip(params, gradients, strict=True):
        p.grad = nb.tensor(g)
    optimizer = getattr(optim, name)(params, **RULES[name])
    return nb.compile(lambda: optimizer.step()) if compiled else optimizer.step


def torchs(name, weights, **settings):
    torch = import_torch()
    params, gradients = arrays(weights)
    params = [torch.nn.Parameter(torch.tensor(p)) for p in params]
    for p, g in zip(params, gradients, strict=True):
        p.grad = torch.tensor(g)
    return getattr(torch.optim, name)(params, **RULES[name], **settings).step


def report(weights, rounds, lead, length):
    """Markdown: a line for each optimizer; ratios are medians over rounds of times by PyTorch's default, if there."""
    rows = [("optimizer", "PyTorch, ms", "ours, eager", "ours, compiled", "PyTorch, fused")]
    theirs = vars(import_torch().optim) if find_spec("torch") else {}
    for name in RULES:
        contenders = {"eager": ours(name, weights, False), "compiled": ours(name, weights, True)}
        if name in theirs:
            contenders["default"] = torchs(name, weights)
        if name in theirs and name in FUSED:
            contenders["fused"] = torchs(name, weights, fused=True)
        for step in contenders.values():
            for _ in range(3):
                step()
        times = rounds_of(contenders, rounds, lead, length)
        base = times.get("default", times["eager"])
        ratios = {who: statistics.median(t / b for t, b in zip(ts, base, strict=True)) for who, ts in times.items()}
        milliseconds = f"{statistics.median(times['default']) * 1e3:.2f}" if "default" in times else ""
        figures = (f"{ratios[who]:.2f}" if who in ratios else "" for who in ("eager", "compiled", "fused"))
        rows.append((name, milliseconds, *figures))
    return markdown(rows)
