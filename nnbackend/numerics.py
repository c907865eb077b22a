"""Array functions beyond the standard, written in its words: on Tensors the gradients come from their parts."""

from __future__ import annotations

import operator
from typing import Any

from .backend import namespace, scatter_add
from .errors import ShapeError
from .ops import scan
from .ops.core import axis_of


def cummax(x: Any, axis: int | None = None) -> tuple[Any, Any]:
    """Running maxima along `axis` and where they stand; of equal ones the last. NaN is largest."""
    return scan.extremes(x, axis, operator.ge)


def cummin(x: Any, axis: int | None = None) -> tuple[Any, Any]:
    """Running minima along `axis` and where they stand; of equal ones the last. NaN is least."""
    return scan.extremes(x, axis, operator.le)


def lerp(a: Any, b: Any, weight: Any) -> Any:
    """From `a` (weight 0) to `b` (weight 1) in a straight line."""
    return a + weight * (b - a)


def nan_to_num(x: Any, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> Any:
    """`nan` in place of NaN, the largest and smallest finite numbers in place of infinities."""
    xp = namespace(x)
    if not xp.isdtype(x.dtype, "real floating"):
        return x
    limits = xp.finfo(x.dtype)
    x = xp.where(xp.isnan(x), nan, x)
    x = xp.where(x == float("inf"), float(limits.max) if posinf is None else posinf, x)
    return xp.where(x == -float("inf"), float(limits.min) if neginf is None else neginf, x)


def swapaxes(x: Any, axis1: int, axis2: int) -> Any:
    """The axes in another order: these two have changed places."""
    order = list(range(len(x.shape)))
    i, j = axis_of(axis1, len(order)), axis_of(axis2, len(order))
    order[i], order[j] = j, i
    return namespace(x).permute_dims(x, tuple(order))


def chunk(x: Any, chunks: int, axis: int = 0) -> tuple[Any, ...]:
    """At most `chunks` parts along `axis`, all of one length but the last."""
    if chunks < 1:
        raise ValueError(f"chunk: expected at least 1 part, got {chunks}.")
    axis = axis_of(axis, len(x.shape))
    n = x.shape[axis]
    length = max(1, -(-n // chunks))
    before = (slice(None),) * axis
    return tuple(x[(*before, slice(start, min(start + length, n)), ...)] for start in range(0, max(n, 1), length))


def unfold(x: Any, axis: int, size: int, step: int = 1) -> Any:
    """Windows of `size` along `axis`, every `step`: (..., n, ...) -> (..., windows, ..., size)."""
    xp, axis = namespace(x), axis_of(axis, len(x.shape))
    n = x.shape[axis]
    if not 0 < size <= n or step < 1:
        raise ShapeError(f"unfold: expected 1 <= size <= {n} and step >= 1, got size={size}, step={step}")
    windows, before = (n - size) // step + 1, (slice(None),) * axis
    return xp.stack([x[(*before, slice(i, i + (windows - 1) * step + 1, step), ...)] for i in range(size)], axis=-1)


def index_select(x: Any, axis: int, index: Any) -> Any:
    """Slices along `axis` at 1-D `index`."""
    return namespace(x).take(x, index, axis=axis)


def index_add(x: Any, axis: int, index: Any, source: Any, alpha: float = 1) -> Any:
    """`x` with `alpha` times the slices of `source` added at 1-D `index` along `axis`, repeats counted each time."""
    axis = axis_of(axis, len(x.shape))
    rows = x.shape[axis]
    xp = namespace(x)
    added = scatter_add(xp.moveaxis(source, axis, 0), index, rows)
    return x + alpha * xp.moveaxis(added, 0, axis)
