"""Layers that add elements at the ends of the last axes."""

from __future__ import annotations

from typing import Any

from .. import functional as F
from ..errors import ShapeError
from .module import Module


class _Pad(Module):
    """`padding`: one width for all ends, or `(left, right, top, bottom, front, back)`, two for each axis."""

    axes: int
    mode: str

    def __init__(self, padding: int | tuple[int, ...]) -> None:
        self.padding = (padding,) * (2 * self.axes) if isinstance(padding, int) else tuple(padding)
        if len(self.padding) != 2 * self.axes:
            raise ValueError(f"{type(self).__name__}: expected {2 * self.axes} widths, got {self.padding}.")

    def forward(self, x: Any) -> Any:
        """(n, c, ...) or (c, ...) with as many axes as the name says."""
        if not self.axes < len(x.shape) <= self.axes + 2:
            raise ShapeError(f"expected input of {self.axes + 1} or {self.axes + 2} axes, got {tuple(x.shape)}.")
        return F.pad(x, self.padding, self.mode)


class _ConstantPad(_Pad):
    def __init__(self, padding: int | tuple[int, ...], value: float) -> None:
        super().__init__(padding)
        self.value = value

    def forward(self, x: Any) -> Any:
        """Any number of axes in front."""
        return F.pad(x, self.padding, "constant", self.value)


class _ZeroPad(_ConstantPad):
    def __init__(self, padding: int | tuple[int, ...]) -> None:
        super().__init__(padding, 0.0)


class ConstantPad1d(_ConstantPad):
    """`value` at both ends of the last axis."""

    axes = 1


class ConstantPad2d(_ConstantPad):
    """`value` at the ends of the last two axes."""

    axes = 2


class ConstantPad3d(_ConstantPad):
    """`value` at the ends of the last three axes."""

    axes = 3


class ZeroPad1d(_ZeroPad):
    """Zeros at both ends of the last axis."""

    axes = 1


class ZeroPad2d(_ZeroPad):
    """Zeros at the ends of the last two axes."""

    axes = 2


class ZeroPad3d(_ZeroPad):
    """Zeros at the ends of the last three axes."""

    axes = 3


class ReflectionPad1d(_Pad):
    """Mirrored elements at both ends of the last axis."""

    axes, mode = 1, "reflect"


class ReflectionPad2d(_Pad):
    """Mirrored elements at the ends of the last two axes."""

    axes, mode = 2, "reflect"


class ReflectionPad3d(_Pad):
    """Mirrored elements at the ends of the last three axes."""

    axes, mode = 3, "reflect"


class ReplicationPad1d(_Pad):
    """The outermost elements again at both ends of the last axis."""

    axes, mode = 1, "replicate"


class ReplicationPad2d(_Pad):
    """The outermost elements again at the ends of the last two axes."""

    axes, mode = 2, "replicate"


class ReplicationPad3d(_Pad):
    """The outermost elements again at the ends of the last three axes."""

    axes, mode = 3, "replicate"


class CircularPad1d(_Pad):
    """The elements of the other end at both ends of the last axis."""

    axes, mode = 1, "circular"


class CircularPad2d(_Pad):
    """The elements of the other end at the ends of the last two axes."""

    axes, mode = 2, "circular"


class CircularPad3d(_Pad):
    """The elements of the other end at the ends of the last three axes."""

    axes, mode = 3, "circular"


__all__ = [
    "CircularPad1d",
    "CircularPad2d",
    "CircularPad3d",
    "ConstantPad1d",
    "ConstantPad2d",
    "ConstantPad3d",
    "ReflectionPad1d",
    "ReflectionPad2d",
    "ReflectionPad3d",
    "ReplicationPad1d",
    "ReplicationPad2d",
    "ReplicationPad3d",
    "ZeroPad1d",
    "ZeroPad2d",
    "ZeroPad3d",
]
