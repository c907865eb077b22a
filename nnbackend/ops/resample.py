"""Resampling along an axis: each new element is a weighted sum of a few old ones."""

from __future__ import annotations

import functools
from typing import TypeAlias

from ..backend import Array, namespace
from .core import Op

# (where, weight) of the first old element that each new one is made of, of the second, and so on.
Taps: TypeAlias = tuple[tuple[tuple[int, ...], tuple[float, ...]], ...]


def resample(x: Array, *, axis: int, taps: Taps) -> Op:
    """`sum(x[where] * weight for where, weight in taps)` along `axis`. The way back is another such sum."""
    n = x.shape[axis]
    return _weighted(x, axis, taps), (lambda dy: _weighted(dy, axis, transposed(taps, n)),)


def _weighted(x: Array, axis: int, taps: Taps) -> Array:
    xp, y = namespace(x), None
    for where, weight in taps:
        part = xp.take(x, xp.asarray(where, dtype=xp.int64, device=x.device), axis=axis)
        if set(weight) != {1.0}:
            w = xp.asarray(weight, dtype=x.dtype, device=x.device)
            part = part * xp.reshape(w, (len(where), *(1,) * (len(x.shape) - axis - 1)))
        y = part if y is None else y + part
    return y


def aligned(rows: list[list[tuple[int, float]]]) -> Taps:
    """Taps from the (where, weight) pairs of each new element; the last pair of a short one is split, for 0 * inf."""
    count = max(1, *map(len, rows))
    filled = [_filled(row or [(0, 0.0)], count) for row in rows]
    taps = [(tuple(row[k][0] for row in filled), tuple(row[k][1] for row in filled)) for k in range(count)]
    return tuple(tap for tap in taps if any(tap[1])) or (taps[0],)


def _filled(row: list[tuple[int, float]], count: int) -> list[tuple[int, float]]:
    """The pairs as so many of them."""
    *pairs, (where, weight) = row
    n = count - len(pairs)
    return pairs + [(where, weight / n)] * n


@functools.lru_cache(256)
def transposed(taps: Taps, n: int) -> Taps:
    """What each of the n old elements goes into."""
    uses: list[list[tuple[int, float]]] = [[] for _ in range(n)]
    for where, weight in taps:
        for new, (old, w) in enumerate(zip(where, weight, strict=True)):
            if w:
                uses[old].append((new, w))
    return aligned(uses)
