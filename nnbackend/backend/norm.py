"""Normalisation: mean 0 and variance 1 along some axes, then weight and bias, whose shapes broadcast to the input's.

Variances are means of squares of what is left of the mean. A weight that is the same all along the axes only scales
the result: it meets the few numbers there are of 1 / std instead of the elements.
"""

from __future__ import annotations

import math
from typing import Any

from .base import Array
from .primitive import primitive
from .registry import namespace


@primitive
def normalized(
    x: Array, weight: Array | None, bias: Array | None, axes: tuple[int, ...], eps: float, centred: bool
) -> tuple[Array, Any, Array]:
    """The result, the mean and the variance; without `centred` the mean is left alone, and None."""
    n = count(x, axes)
    mean = total_of(x, axes) / n if centred else None
    h = x - mean if centred else x
    var = total_of(h * h, axes) / n
    r = 1.0 / namespace(x).sqrt(var + eps)
    if weight is None:
        y = h * r
    else:
        y = h * r * weight if varies(weight.shape, x, axes) else h * (r * weight)
    return y if bias is None else y + bias, mean, var


@primitive
def normalized_back(
    dy: Array,
    x: Array,
    weight: Array | None,
    mean: Any,
    var: Array,
    axes: tuple[int, ...],
    eps: float,
    spread: tuple[int, ...],
) -> tuple[Array, Array, Array]:
    """The gradients of the input, of the weight and of the bias, the latter before sums over broadcast axes.

    `spread` is the shape of weight and bias.
    """
    n, r = count(x, axes), 1.0 / namespace(x).sqrt(var + eps)
    h = x if mean is None else x - mean
    if varies(spread, x, axes):
        h = h * r
        g = dy if weight is None else dy * weight
        s, t = total_of(g, axes), total_of(g * h, axes)
        dw, db, scale = dy * h, dy, r
    else:
        g, s, t = dy, total_of(dy, axes), total_of(dy * h, axes)
        dw, db, scale = t * r, s, r if weight is None else r * weight
        t = t * (r * r)
    dx = g - h * (t / n)
    return (dx if mean is None else dx - s / n) * scale, dw, db


def count(x: Array, axes: tuple[int, ...]) -> int:
    """How many elements have a mean in common."""
    n: int = math.prod(x.shape[a] for a in axes)
    return max(1, n)


def total_of(x: Array, axes: tuple[int, ...]) -> Array:
    """Sums along the axes, which are kept; along the last one first, which is quick."""
    for axis in reversed(axes):
        x = namespace(x).sum(x, axis=axis, keepdims=True)
    return x


def varies(spread: tuple[int, ...], x: Array, axes: tuple[int, ...]) -> bool:
    """Whether a parameter of this shape is not the same all along the axes."""
    skipped = len(x.shape) - len(spread)
    return any(a >= skipped and spread[a - skipped] > 1 for a in axes)
