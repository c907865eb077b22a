"""Checks for your own functions: whether their gradients are right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .backend import FLOATING, is_array, to_host
from .creation import asarray, tensor
from .errors import GraphError
from .grad_mode import enable_grad
from .tape import gradients, seed_of
from .tensor import Tensor


@enable_grad()
def gradcheck(
    f: Callable[..., Any],
    *args: Any,
    order: int = 1,
    eps: float = 6e-6,
    rtol: float = 1e-6,
    atol: float = 1e-7,
    seed: int = 0,
) -> bool:
    """Compare the gradients of `f` with central differences, in float64; AssertionError names the argument at fault.

    Directional: for a random direction v and random weights w of the outputs, `<w, J v>` must equal `<J^T w, v>`.
    `order=2` checks the gradient of the gradient as well. Arguments that are not floating are passed on. GraphError if
    the result has no history.
    """
    rng = np.random.default_rng(seed)
    places = [i for i, a in enumerate(args) if _floating(a)]
    inputs = [asarray(a) if is_array(a) else a for a in args]
    for i in places:
        inputs[i] = tensor(args[i], dtype="float64")
    if not places:
        raise GraphError("gradcheck: expected at least one floating argument.")
    weights: list[Any] = []

    def weighed(*xs: Any) -> Any:
        """The outputs of f as one number."""
        outputs = f(*xs)
        outputs = [asarray(y) for y in (outputs if isinstance(outputs, tuple) else (outputs,)) if _floating(y)]
        if not weights:
            if not any(y.requires_grad for y in outputs):
                raise GraphError("gradcheck: expected a result with history, got none. Use Tensor operations only.")
            weights.extend(tensor(rng.standard_normal(y.shape)) for y in outputs)
        return sum((y * w.to(y.device)).sum() for y, w in zip(outputs, weights, strict=True))

    _compare(weighed, inputs, places, rng, order, eps, rtol, atol)
    return True


def _compare(
    g: Any, inputs: list[Any], places: list[int], rng: Any, order: int, eps: float, rtol: float, atol: float
) -> None:
    directions = {i: rng.standard_normal(inputs[i].shape) for i in places}

    def slope(*xs: Any) -> Any:
        """<gradient of g, directions>, which has a gradient itself."""
        leaves = [xs[i] if xs[i].requires_grad else Tensor(xs[i].data, True) for i in places]
        full = list(xs)
        for i, leaf in zip(places, leaves, strict=True):
            full[i] = leaf
        y = g(*full)
        grads = gradients(y, Tensor(seed_of(y)), leaves, Tensor) if y.requires_grad else [None] * len(places)
        slopes = ((dx, directions[i]) for i, dx in zip(places, grads, strict=True) if dx is not None)
        parts = [(dx * tensor(v).to(dx.device)).sum() for dx, v in slopes]
        return sum(parts) if parts else tensor(0.0, dtype="float64")

    for i in places:
        kept = dict(directions)
        directions.update({j: kept[j] * (j == i) for j in places})
        analytic, numeric = float(slope(*inputs)), _difference(g, inputs, i, kept[i], eps)
        directions.update(kept)
        if not abs(analytic - numeric) <= atol + rtol * max(1.0, abs(numeric)):
            raise AssertionError(
                f"gradcheck: argument {i}: expected a slope of {numeric:.10g} by differences, got {analytic:.10g}."
            )
    if order > 1:
        _compare(slope, inputs, places, rng, order - 1, eps, rtol * 10, atol * 10)


def _difference(g: Any, inputs: list[Any], i: int, v: Any, eps: float) -> float:
    x = to_host(inputs[i].data)
    h = eps * max(1.0, float(np.max(np.abs(x))) if x.size else 1.0)

    def at(step: float) -> float:
        moved = list(inputs)
        moved[i] = tensor(x + step * v).to(inputs[i].device)
        return float(g(*moved))

    return (at(h) - at(-h)) / (2.0 * h)


def _floating(a: Any) -> bool:
    return isinstance(a, float) or ((isinstance(a, list) or hasattr(a, "dtype")) and asarray(a).dtype in FLOATING)
