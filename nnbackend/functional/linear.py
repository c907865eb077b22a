"""Affine maps and one-hot labels."""

from __future__ import annotations

from ..array import one_hot
from ..ops import linear as _linear
from ..tensor import lift

linear = lift(_linear.linear)

__all__ = ["linear", "one_hot"]
