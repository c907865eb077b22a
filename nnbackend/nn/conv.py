"""Convolutions, and windows as columns."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from .. import functional as F
from ..backend import DeviceLike
from ..cells import Parameter
from ..errors import ShapeError
from ..functional.arguments import each
from ..functional.conv import Setting, same_padding, transposed_size, window
from . import init
from .module import Module


class _Conv(Module):
    """What all convolutions share. PyTorch's start: uniform in ±1/sqrt(n), n the weights of one row `weight[i]`."""

    function: Callable[..., Any]
    axes: int
    transposed = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Setting,
        stride: Setting = 1,
        padding: Setting | str = 0,
        dilation: Setting = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: DeviceLike = "cpu",
        dtype: Any = "float32",
    ) -> None:
        name, axes = type(self).__name__, self.axes
        if groups < 1 or min(in_channels, out_channels) < 1 or in_channels % groups or out_channels % groups:
            channels = f"{in_channels} in and {out_channels} out"
            raise ValueError(f"{name}: expected channels that groups >= 1 divides, got {channels}, groups {groups}.")
        modes = ("zeros",) if self.transposed else ("zeros", "reflect", "replicate", "circular")
        if padding_mode not in modes:
            raise ValueError(f"{name}: expected padding_mode to be one of {modes}, got {padding_mode!r}.")
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = each(name, "kernel_size", kernel_size, axes, 1)
        self.stride, self.dilation = each(name, "stride", stride, axes, 1), each(name, "dilation", dilation, axes, 1)
        if isinstance(padding, str):
            same_padding(name, padding, self.kernel_size, self.stride, self.dilation)
        self.padding: Any = padding if isinstance(padding, str) else each(name, "padding", padding, axes, 0)
        self.padding_mode = padding_mode
        first, second = (in_channels, out_channels) if self.transposed else (out_channels, in_channels)
        bound = 1.0 / math.sqrt(second // groups * math.prod(self.kernel_size))
        start = init.uniform(-bound, bound)
        self.weight = Parameter.drawn(start, (first, second // groups, *self.kernel_size), device, dtype)
        self.bias = Parameter.drawn(start, (out_channels,), device, dtype) if bias else None

    def forward(self, x: Any) -> Any:
        """(n, in_channels, *size) -> (n, out_channels, *places); also without n."""
        padding: Any = self.padding
        if self.padding_mode != "zeros":
            pairs = [(p, p) for p in padding] if isinstance(padding, tuple) else self._pairs()
            x = F.pad(x, [p for pair in reversed(pairs) for p in pair], mode=self.padding_mode)
            padding = 0
        return type(self).function(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)

    def _pairs(self) -> Any:
        return same_padding(type(self).__name__, str(self.padding), self.kernel_size, self.stride, self.dilation)


class Conv1d(_Conv):
    """Cross-correlation of (n, in_channels, l) with kernels, plus a bias: (n, out_channels, places)."""

    function, axes = staticmethod(F.conv1d), 1


class Conv2d(_Conv):
    """Cross-correlation of (n, in_channels, h, w) with kernels, plus a bias: (n, out_channels, ho, wo).

    `padding` is zeros, or what `padding_mode` says: `"reflect"`, `"replicate"` or `"circular"`.
    """

    function, axes = staticmethod(F.conv2d), 2


class Conv3d(_Conv):
    """Cross-correlation of (n, in_channels, d, h, w) with kernels, plus a bias: (n, out_channels, do, ho, wo)."""

    function, axes = staticmethod(F.conv3d), 3


class _ConvTranspose(_Conv):
    transposed = True
    padding: tuple[int, ...]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Setting,
        stride: Setting = 1,
        padding: Setting = 0,
        output_padding: Setting = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Setting = 1,
        padding_mode: str = "zeros",
        device: DeviceLike = "cpu",
        dtype: Any = "float32",
    ) -> None:
        self.output_padding = each(type(self).__name__, "output_padding", output_padding, self.axes, 0)
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, device, dtype
        )

    def forward(self, x: Any, output_size: Sequence[int] | None = None) -> Any:
        """(n, in_channels, *places) -> (n, out_channels, *size); `output_size` says which of the possible sizes."""
        more = self.output_padding if output_size is None else self._more(tuple(x.shape), tuple(output_size))
        return type(self).function(
            x, self.weight, self.bias, self.stride, self.padding, more, self.groups, self.dilation
        )

    def _more(self, shape: tuple[int, ...], wanted: tuple[int, ...]) -> tuple[int, ...]:
        """The output padding for a size."""
        axes = self.axes
        least = transposed_size(shape[-axes:], self.kernel_size, self.stride, self.padding, self.dilation)
        size = wanted[-axes:] if len(wanted) == len(shape) else wanted
        most = tuple(n + s - 1 for n, s in zip(least, self.stride, strict=True))
        if len(size) != axes or any(not a <= n <= b for a, n, b in zip(least, size, most, strict=True)):
            raise ShapeError(f"{type(self).__name__}: expected output_size from {least} to {most}, got {wanted}.")
        return tuple(n - a for n, a in zip(size, least, strict=True))


class ConvTranspose1d(_ConvTranspose):
    """Transposed convolution: (n, in_channels, places) -> (n, out_channels, l)."""

    function, axes = staticmethod(F.conv_transpose1d), 1


class ConvTranspose2d(_ConvTranspose):
    """Transposed convolution: (n, in_channels, h, w) -> (n, out_channels, ho, wo), where `Conv2d` would come from.

    Where several sizes are possible it is the smallest and `output_padding` more, or `output_size` of the call.
    """

    function, axes = staticmethod(F.conv_transpose2d), 2


class ConvTranspose3d(_ConvTranspose):
    """Transposed convolution: (n, in_channels, d, h, w) -> (n, out_channels, do, ho, wo)."""

    function, axes = staticmethod(F.conv_transpose3d), 3


class Unfold(Module):
    """Windows of (n, c, h, w) as columns: (n, c * kh * kw, windows)."""

    def __init__(self, kernel_size: Setting, dilation: Setting = 1, padding: Setting = 0, stride: Setting = 1) -> None:
        window("Unfold", kernel_size, dilation, padding, stride)
        self.kernel_size, self.dilation, self.padding, self.stride = kernel_size, dilation, padding, stride

    def forward(self, x: Any) -> Any:
        """Also without n."""
        return F.unfold(x, self.kernel_size, self.dilation, self.padding, self.stride)


class Fold(Module):
    """Columns (n, c * kh * kw, windows) laid into (n, c, *output_size), summed where windows overlap."""

    def __init__(
        self,
        output_size: Setting,
        kernel_size: Setting,
        dilation: Setting = 1,
        padding: Setting = 0,
        stride: Setting = 1,
    ) -> None:
        window("Fold", kernel_size, dilation, padding, stride)
        self.output_size, self.kernel_size = output_size, kernel_size
        self.dilation, self.padding, self.stride = dilation, padding, stride

    def forward(self, x: Any) -> Any:
        """Also without n."""
        return F.fold(x, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride)


__all__ = [
    "Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d", "Fold", "Unfold",
]  # fmt: skip
