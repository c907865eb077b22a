"""Layers that move elements to other places."""

from __future__ import annotations

from typing import Any

from .. import functional as F
from .module import Module


class Flatten(Module):
    """(n, a, b, ...) -> (n, a * b * ...): the axes from `start_dim` to `end_dim` become one."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: Any) -> Any:
        """Elements keep their order."""
        return F.flatten(x, self.start_dim, self.end_dim)


__all__ = ["Flatten"]
