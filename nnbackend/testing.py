"""Checks for your own functions: are the gradients right?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .backend import FLOATING, to_host
from .errors import GraphError
from .tape import gradients
from .tensor import Tensor
from .creation import asarray, tensor


def gradcheck(
    f: Callable[..., Any], *args: Any, order: int = 1, eps: float = 6e-6, rtol: float = 1e-6, atol: float = 1e-7, seed: int = 0
) -> bool:
    """Compare the gradients of `f` with central differences, in float64; AssertionError naming the argument if they differ.

    Directional: for a random direction v and random weights w of the outputs, `<w, J v>` must equal `<J^T w, v>`.
    `order=2` checks the gradient of the gradient as well. Arguments that are not floating are passed on.
    """
    rng = np.random.default_rng(seed)
    inputs = [tensor(a, dtype="float64") if _floating(a) else a for a in args]
    places = [i for i, a in enumerate(inputs) if isinstance(a, Tensor)]
    if not places:
        raise GraphError("gradcheck: expected at least one floating argument.")
    weights: list[Any] = []

    def weighed(*xs: Any) -> Any:
        """The outputs of f as one number."""
        outputs = f(*xs)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        if not weights:
            weights.extend(tensor(rng.standard_normal(y.shape)) for y in outputs)
        return sum((y * w.to(y.device)).sum() for y, w in zip(outputs, weights, strict=True))

    _compare(weighed, inputs, places, rng, order, eps, rtol, atol)
    return True


def _compare(g: Any, inputs: list[Any], places: list[int], rng: Any, order: int, eps: float, rtol: float, atol: float) -> None:
    directions = {i: rng.standard_normal(inputs[i].shape) for i in places}

    def slope(*xs: Any) -> Any:
        """<gradient of g, directions>, which has a gradient itself."""
        leaves = [xs[i] if xs[i].requires_grad else Tensor(xs[i].data, True) for i in places]
        full = list(xs)
        for i, leaf in zip(places, leaves, strict=True):
            full[i] = leaf
        y = g(*full)
        if not y.requires_grad:
            raise GraphError("gradcheck: expected the function to depend on its arguments through Tensor operations.")
        one = Tensor(y.data * 0.0 + 1.0)
        grads = gradients(y, one, leaves, Tensor)
        parts = [(dx * tensor(directions[i]).to(dx.device)).sum() for i, dx in zip(places, grads, strict=True) if dx is not None]
        return sum(parts) if parts else tensor(0.0, dtype="float64")

    for i in places:
        kept = dict(directions)
        directions.update({j: kept[j] * (j == i) for j in places})
        analytic, numeric = float(slope(*inputs)), _difference(g, inputs, i, kept[i], eps)
        directions.update(kept)
        if not abs(analytic - numeric) <= atol + rtol * max(1.0, abs(numeric)):
            raise AssertionError(f"gradcheck: argument {i}: expected {numeric:.10g} by differences, got {analytic:.10g}.")
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
    return isinstance(a, float | list) or (hasattr(a, "dtype") and asarray(a).dtype in FLOATING)
