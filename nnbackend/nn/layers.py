"""Layers: an op and its parameters."""

from __future__ import annotations

import math
from typing import Any

from .. import functional as F
from ..backend import DeviceLike
from ..cells import Parameter
from . import init
from .module import Module, RandomModule


class Linear(Module):
    """x @ weight.T + bias: (..., in_features) -> (..., out_features). PyTorch's start: uniform in ±1/sqrt(in)."""

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, device: DeviceLike = "cpu", dtype: Any = "float32"
    ) -> None:
        if in_features < 1 or out_features < 1:
            raise ValueError(f"Linear: expected at least 1 feature in and out, got {in_features} and {out_features}.")
        self.in_features, self.out_features = in_features, out_features
        bound = 1.0 / math.sqrt(in_features)
        start = init.uniform(-bound, bound)
        self.weight = Parameter.drawn(start, (out_features, in_features), device, dtype)
        self.bias = Parameter.drawn(start, (out_features,), device, dtype) if bias else None

    def forward(self, x: Any) -> Any:
        """(..., in_features) -> (..., out_features)."""
        return F.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        """The settings."""
        return f"{self.in_features}, {self.out_features}" + ("" if self.bias is not None else ", bias=False")


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

    def extra_repr(self) -> str:
        """The settings."""
        return f"p={self.p}"


class Flatten(Module):
    """(n, a, b, ...) -> (n, a * b * ...): the axes from `start_dim` to `end_dim` become one."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: Any) -> Any:
        """Elements keep their order."""
        return F.flatten(x, self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        """The settings."""
        return "" if (self.start_dim, self.end_dim) == (1, -1) else f"{self.start_dim}, {self.end_dim}"


class Identity(Module):
    """Its input."""

    def forward(self, x: Any) -> Any:
        """As it is."""
        return x
