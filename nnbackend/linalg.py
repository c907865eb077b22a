"""Linear algebra with gradients: `nb.linalg.solve(a, b)`. Stacks of matrices (..., n, n)."""

from __future__ import annotations

import math
from typing import Any

from .backend import namespace
from .ops import linalg as _ops
from .ops.core import Axis, axes_of
from .ops.linalg import cross, diagonal, matrix_power, outer, trace
from .tensor import lift

cholesky, det, inv, slogdet = (lift(f) for f in (_ops.cholesky, _ops.det, _ops.inv, _ops.slogdet))
solve, vector_norm = lift(_ops.solve), lift(_ops.vector_norm)


def matrix_norm(x: Any, *, ord: Any = "fro", axis: tuple[int, int] = (-2, -1), keepdims: bool = False) -> Any:
    """Frobenius norm, or the largest (smallest, if negative) absolute sum of columns (1) or of rows (inf)."""
    xp = namespace(x)
    if ord == "fro":
        return vector_norm(x, axis=axis, keepdims=keepdims)
    if ord not in (1, -1, math.inf, -math.inf):
        raise ValueError(f'matrix_norm: expected ord "fro", 1, -1, inf or -inf, got {ord!r}.')
    rows, columns = axes_of(axis, len(x.shape))
    along, other = (rows, columns) if abs(ord) == 1 else (columns, rows)
    sums = xp.sum(xp.abs(x), axis=along, keepdims=True)
    y = (xp.max if ord > 0 else xp.min)(sums, axis=other, keepdims=True)
    return y if keepdims else xp.squeeze(y, axis=(rows, columns))


def norm(x: Any, ord: Any = None, axis: Axis = None, keepdims: bool = False) -> Any:
    """As `numpy.linalg.norm`: of all elements, of vectors along one `axis`, or of matrices along two."""
    if isinstance(axis, tuple) and len(axis) == 2 and ord is not None:
        return matrix_norm(x, ord=ord, axis=(axis[0], axis[1]), keepdims=keepdims)
    if axis is None and ord is not None and len(x.shape) == 2:
        return matrix_norm(x, ord=ord, axis=(0, 1), keepdims=keepdims)
    return vector_norm(x, axis=axis, ord=2.0 if ord is None else ord, keepdims=keepdims)


__all__ = [
    "cholesky", "cross", "det", "diagonal", "inv", "matrix_norm", "matrix_power", "norm", "outer", "slogdet", "solve",
    "trace", "vector_norm",
]  # fmt: skip
