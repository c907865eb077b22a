"""Affine and bilinear maps, and one-hot labels."""

from __future__ import annotations

import math
from typing import Any

from ..array import einsum, one_hot, reshape
from ..errors import ShapeError
from ..ops import linear as _linear
from ..tensor import lift

linear = lift(_linear.linear)


def bilinear(input1: Any, input2: Any, weight: Any, bias: Any = None) -> Any:
    """x1 @ weight[k] @ x2 + bias[k] for each k: (..., i), (..., j), (o, i, j), (o,) -> (..., o)."""
    (*lead, n), (*other, m), (out, *sizes) = input1.shape, input2.shape, weight.shape
    if [*lead, n, *other, m] != [*lead, sizes[0], *lead, sizes[-1]]:
        want, got = f"(..., {sizes[0]}) and (..., {sizes[-1]})", f"{tuple(input1.shape)} and {tuple(input2.shape)}"
        raise ShapeError(f"bilinear: expected inputs {want} with the same axes before, got {got}.")
    rows = math.prod(lead)
    y = einsum("ni,oij,nj->no", reshape(input1, (rows, n)), weight, reshape(input2, (rows, m)))
    y = reshape(y, (*lead, out))
    return y if bias is None else y + bias


__all__ = ["bilinear", "linear", "one_hot"]
