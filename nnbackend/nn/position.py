"""Where a token stands: sines to add, and rotations."""

from __future__ import annotations

from typing import Any

from .. import functional as F
from ..errors import ShapeError
from .module import Module


class SinusoidalPositions(Module):
    """Adds `F.sinusoidal_positions` to (..., l, dim), as in "Attention is all you need" (2017), section 3.5."""

    def __init__(self, dim: int, base: float = 10000.0) -> None:
        if dim < 1:
            raise ValueError(f"SinusoidalPositions: expected dim >= 1, got {dim}.")
        self.dim, self.base = dim, base

    def forward(self, x: Any, offset: int = 0) -> Any:
        """(..., l, dim), the same shape; the first token stands at `offset`."""
        if len(x.shape) < 2 or x.shape[-1] != self.dim:
            raise ShapeError(f"SinusoidalPositions: expected (..., l, {self.dim}), got {tuple(x.shape)}.")
        return x + F.sinusoidal_positions(x.shape[-2], self.dim, self.base, offset, like=x)


class RotaryEmbedding(Module):
    """Turns pairs of columns of queries or keys by angles that grow with the position (RoPE; Su et al. 2021).

    `F.apply_rotary` says how. Products of queries and keys then depend on the distance of their positions only.
    """

    def __init__(self, dim: int, base: float = 10000.0) -> None:
        if dim < 2 or dim % 2:
            raise ValueError(f"RotaryEmbedding: expected an even dim, got {dim}.")
        self.dim, self.base = dim, base

    def forward(self, x: Any, offset: int = 0) -> Any:
        """(..., l, d) with d >= dim, the same shape; the first token stands at `offset`."""
        return F.apply_rotary(x, self.dim, self.base, offset)


__all__ = ["RotaryEmbedding", "SinusoidalPositions"]
