"""Affine and bilinear maps."""

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

    def forward(self, input: Any) -> Any:
        """(..., in_features) -> (..., out_features)."""
        return F.linear(input, self.weight, self.bias)


class Bilinear(Module):
    """x1 @ weight[k] @ x2 + bias[k] for each output k. PyTorch's start: uniform in ±1/sqrt(in1)."""

    def __init__(
        self,
        in1_features: int,
        in2_features: int,
        out_features: int,
        bias: bool = True,
        device: DeviceLike = "cpu",
        dtype: Any = "float32",
    ) -> None:
        if min(in1_features, in2_features, out_features) < 1:
            got = f"{in1_features}, {in2_features} and {out_features}"
            raise ValueError(f"Bilinear: expected at least 1 feature in and out, got {got}.")
        self.in1_features, self.in2_features, self.out_features = in1_features, in2_features, out_features
        bound = 1.0 / math.sqrt(in1_features)
        start = init.uniform(-bound, bound)
        self.weight = Parameter.drawn(start, (out_features, in1_features, in2_features), device, dtype)
        self.bias = Parameter.drawn(start, (out_features,), device, dtype) if bias else None

    def forward(self, input1: Any, input2: Any) -> Any:
        """(..., in1_features), (..., in2_features) -> (..., out_features)."""
        return F.bilinear(input1, input2, self.weight, self.bias)


class Identity(Module):
    """Its input. Takes any arguments, so that it can stand in for other layers."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def forward(self, input: Any) -> Any:
        """As it is."""
        return input


__all__ = ["Bilinear", "Identity", "Linear"]
