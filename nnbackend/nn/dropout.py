"""Layers that set parts of their input to 0 at random, in training."""

from __future__ import annotations

from typing import Any

from .. import functional as F
from .module import RandomModule


class Dropout(RandomModule):
    """In training, sets each element to 0 with probability p and scales the others by 1 / (1 - p) (Srivastava 2014)."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0.0 <= p <= 1.0:
            raise ValueError(f"Dropout: expected a probability from 0 to 1, got {p}.")
        self.p = p

    def forward(self, x: Any) -> Any:
        """Any shape; the identity outside training."""
        return F.dropout(x, self.p, **self.next_address()) if self.training and self.p else x


__all__ = ["Dropout"]
