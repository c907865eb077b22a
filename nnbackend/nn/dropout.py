"""Layers that set parts of their input to 0 at random, in training. `inplace` has no effect."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import functional as F
from .random_module import RandomModule


class Dropout(RandomModule):
    """In training, sets each element to 0 with probability p and scales the others by 1 / (1 - p) (Srivastava 2014)."""

    function: Callable[..., Any] = staticmethod(F.dropout)

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        if not 0.0 <= p <= 1.0:
            raise ValueError(f"{type(self).__name__}: expected a probability from 0 to 1, got {p}.")
        self.p, self.inplace = p, inplace

    def forward(self, input: Any) -> Any:
        """The same shape; the identity outside training."""
        return self.function(input, self.p, True, **self.next_address()) if self.training and self.p else input


class Dropout1d(Dropout):
    """Dropout of whole channels: (n, c, l) or (c, l)."""

    function = staticmethod(F.dropout1d)


class Dropout2d(Dropout):
    """Dropout of whole channels: (n, c, h, w), and (n, c, l) as in PyTorch."""

    function = staticmethod(F.dropout2d)


class Dropout3d(Dropout):
    """Dropout of whole channels: (n, c, d, h, w) or (c, d, h, w)."""

    function = staticmethod(F.dropout3d)


class AlphaDropout(Dropout):
    """Dropout for SELU nets: mean 0 and variance 1 stay (Klambauer et al. 2017)."""

    function = staticmethod(F.alpha_dropout)


class FeatureAlphaDropout(Dropout):
    """AlphaDropout of whole channels: (n, c, ...)."""

    function = staticmethod(F.feature_alpha_dropout)


__all__ = ["AlphaDropout", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "FeatureAlphaDropout"]
