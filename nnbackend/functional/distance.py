"""Distances and similarities."""

from __future__ import annotations

from typing import Any

from ..array import maximum, sum, take
from ..backend import namespace
from ..errors import ShapeError
from ..ops import linalg
from ..ops.core import constant
from ..tensor import lift, plain

_norm = lift(linalg.vector_norm)


def cosine_similarity(x1: Any, x2: Any, dim: int = 1, eps: float = 1e-8) -> Any:
    """Cosine of the angle between vectors along `dim`; norms below `eps` count as `eps`. The shapes broadcast."""

    def unit(x: Any) -> Any:
        norm = _norm(x, axis=dim, keepdims=True)
        short = constant(norm)
        return x / (norm + (maximum(short, eps) - short))  # in PyTorch's gradient, too, a short norm is not constant

    return sum(unit(x1) * unit(x2), axis=dim)


def pairwise_distance(x1: Any, x2: Any, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Any:
    """Norm of order `p` of x1 - x2 + eps along the last axis. The shapes broadcast."""
    return _norm(x1 - x2 + eps, axis=-1, ord=p, keepdims=keepdim)


def pdist(input: Any, p: float = 2.0) -> Any:
    """(n, m) -> (n * (n - 1) / 2,): distances of order `p` of each two rows, the first with all others first."""
    if len(input.shape) != 2:
        raise ShapeError(f"pdist: expected input (n, m), got {tuple(input.shape)}.")
    if not p >= 0:
        raise ValueError(f"pdist: expected p >= 0, got {p}.")
    return _norm(take(input, _pairs(input, 0), axis=0) - take(input, _pairs(input, 1), axis=0), axis=-1, ord=p)


@plain
def _pairs(x: Any, which: int) -> Any:
    """The first or the second number of each pair i < j of rows."""
    xp, n = namespace(x), x.shape[0]
    i = xp.arange(n, device=x.device)
    starts, place = i * (2 * n - 1 - i) // 2, xp.arange(n * (n - 1) // 2, device=x.device)
    first = xp.searchsorted(starts, place, side="right") - 1
    return place - xp.take(starts, first) + first + 1 if which else first


__all__ = ["cosine_similarity", "pairwise_distance", "pdist"]
