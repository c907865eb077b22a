"""Dropout's random zeros."""

from __future__ import annotations

from .base import Array
from .primitive import PRIMITIVES, primitive
from .registry import namespace


@primitive
def kept(x: Array, p: float, key: int, site: int, step: int, rank: int = 0) -> Array:
    """What dropout multiplies `x` by: 0 with probability `p`, else 1 / (1 - p), drawn at an address."""
    keep = PRIMITIVES["uniform_like"](x, key, site, step, rank) >= p
    return namespace(x).astype(keep, x.dtype) * (1.0 / (1.0 - p) if p < 1.0 else 0.0)
