"""Affine maps."""

from __future__ import annotations

import math
from typing import Any

from .. import functional as F
from ..backend import DeviceLike
from ..cells import Parameter
from . import init
from .module import Module


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


class Identity(Module):
    """Its input."""

    def forward(self, x: Any) -> Any:
        """As it is."""
        return x


__all__ = ["Identity", "Linear"]
