"""Pooling layers: (n, c, ...) or (c, ...) with as many pooled axes as the name says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from .. import functional as F
from .module import Module
from .random_module import RandomModule

Size: TypeAlias = int | Sequence[int]


class _MaxPool(Module):
    function: Callable[..., Any]

    def __init__(
        self, kernel_size: Size, stride: Size | None = None, padding: Size = 0, dilation: Size = 1,
        return_indices: bool = False, ceil_mode: bool = False,
    ) -> None:  # fmt: skip
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.dilation = padding, dilation
        self.return_indices, self.ceil_mode = return_indices, ceil_mode

    def forward(self, x: Any) -> Any:
        """The maxima, with their places in the plane if `return_indices`."""
        settings = (self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, self.return_indices)
        return type(self).function(x, *settings)


class MaxPool1d(_MaxPool):
    """The largest element of each window of the last axis; the first of equal ones gets the gradient."""

    function = staticmethod(F.max_pool1d)


class MaxPool2d(_MaxPool):
    """The largest element of each window of the last two axes; the first of equal ones gets the gradient."""

    function = staticmethod(F.max_pool2d)


class MaxPool3d(_MaxPool):
    """The largest element of each window of the last three axes; the first of equal ones gets the gradient."""

    function = staticmethod(F.max_pool3d)


class _MaxUnpool(Module):
    function: Callable[..., Any]

    def __init__(self, kernel_size: Size, stride: Size | None = None, padding: Size = 0) -> None:
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding = padding

    def forward(self, x: Any, indices: Any, output_size: Sequence[int] | None = None) -> Any:
        """`x` at the `indices` of a max pool with these settings, 0 elsewhere."""
        return type(self).function(x, indices, self.kernel_size, self.stride, self.padding, output_size)


class MaxUnpool1d(_MaxUnpool):
    """Puts what MaxPool1d has found back in its places."""

    function = staticmethod(F.max_unpool1d)


class MaxUnpool2d(_MaxUnpool):
    """Puts what MaxPool2d has found back in its places."""

    function = staticmethod(F.max_unpool2d)


class MaxUnpool3d(_MaxUnpool):
    """Puts what MaxPool3d has found back in its places."""

    function = staticmethod(F.max_unpool3d)


class AvgPool1d(Module):
    """The mean of each window of the last axis."""

    def __init__(
        self, kernel_size: Size, stride: Size | None = None, padding: Size = 0, ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:  # fmt: skip
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.ceil_mode, self.count_include_pad = padding, ceil_mode, count_include_pad

    def forward(self, x: Any) -> Any:
        """One mean for each window."""
        return F.avg_pool1d(x, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad)


class _AvgPool(Module):
    function: Callable[..., Any]

    def __init__(
        self, kernel_size: Size, stride: Size | None = None, padding: Size = 0, ceil_mode: bool = False,
        count_include_pad: bool = True, divisor_override: int | None = None,
    ) -> None:  # fmt: skip
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.ceil_mode, self.count_include_pad = padding, ceil_mode, count_include_pad
        self.divisor_override = divisor_override

    def forward(self, x: Any) -> Any:
        """One mean for each window."""
        settings = (self.padding, self.ceil_mode, self.count_include_pad, self.divisor_override)
        return type(self).function(x, self.kernel_size, self.stride, *settings)


class AvgPool2d(_AvgPool):
    """The mean of each window of the last two axes."""

    function = staticmethod(F.avg_pool2d)


class AvgPool3d(_AvgPool):
    """The mean of each window of the last three axes."""

    function = staticmethod(F.avg_pool3d)


class _LPPool(Module):
    function: Callable[..., Any]

    def __init__(
        self, norm_type: float, kernel_size: Size, stride: Size | None = None, ceil_mode: bool = False
    ) -> None:
        self.norm_type, self.kernel_size, self.stride, self.ceil_mode = norm_type, kernel_size, stride, ceil_mode

    def forward(self, x: Any) -> Any:
        """One norm for each window."""
        return type(self).function(x, float(self.norm_type), self.kernel_size, self.stride, self.ceil_mode)


class LPPool1d(_LPPool):
    """(sum of x**p)**(1/p) of each window of the last axis, with p = norm_type."""

    function = staticmethod(F.lp_pool1d)


class LPPool2d(_LPPool):
    """(sum of x**p)**(1/p) of each window of the last two axes, with p = norm_type."""

    function = staticmethod(F.lp_pool2d)


class LPPool3d(_LPPool):
    """(sum of x**p)**(1/p) of each window of the last three axes, with p = norm_type."""

    function = staticmethod(F.lp_pool3d)


class _AdaptiveMaxPool(Module):
    function: Callable[..., Any]

    def __init__(self, output_size: Any, return_indices: bool = False) -> None:
        self.output_size, self.return_indices = output_size, return_indices

    def forward(self, x: Any) -> Any:
        """The maxima, with their places in the plane if `return_indices`."""
        return type(self).function(x, self.output_size, self.return_indices)


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """The largest elements of windows that cover the last axis evenly: `output_size` of them."""

    function = staticmethod(F.adaptive_max_pool1d)


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """The largest elements of windows that cover the last two axes evenly; None in `output_size` keeps a length."""

    function = staticmethod(F.adaptive_max_pool2d)


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """The largest elements of windows that cover the last three axes evenly; None in `output_size` keeps a length."""

    function = staticmethod(F.adaptive_max_pool3d)


class _AdaptiveAvgPool(Module):
    function: Callable[..., Any]

    def __init__(self, output_size: Any) -> None:
        self.output_size = output_size

    def forward(self, x: Any) -> Any:
        """The means."""
        return type(self).function(x, self.output_size)


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """The means of windows that cover the last axis evenly: `output_size` of them."""

    function = staticmethod(F.adaptive_avg_pool1d)


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """The means of windows that cover the last two axes evenly; None in `output_size` keeps a length."""

    function = staticmethod(F.adaptive_avg_pool2d)


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    """The means of windows that cover the last three axes evenly; None in `output_size` keeps a length."""

    function = staticmethod(F.adaptive_avg_pool3d)


class _FractionalMaxPool(RandomModule):
    function: Callable[..., Any]

    def __init__(
        self, kernel_size: Size, output_size: Size | None = None, output_ratio: float | Sequence[float] | None = None,
        return_indices: bool = False, _random_samples: Any = None,
    ) -> None:  # fmt: skip
        super().__init__()
        name = type(self).__name__
        if any(k < 1 for k in ((kernel_size,) if isinstance(kernel_size, int) else kernel_size)):
            raise ValueError(f"{name}: expected a kernel_size of at least 1, got {kernel_size}.")
        if (output_size is None) == (output_ratio is None):
            raise ValueError(f"{name}: expected either output_size or output_ratio, got {output_size}, {output_ratio}.")
        ratios = output_ratio if isinstance(output_ratio, Sequence) else (output_ratio,)
        if any(r is not None and not 0 < r < 1 for r in ratios):
            raise ValueError(f"{name}: expected output_ratio between 0 and 1, got {output_ratio}.")
        self.kernel_size, self.output_size, self.output_ratio = kernel_size, output_size, output_ratio
        self.return_indices, self._random_samples = return_indices, None
        if _random_samples is not None:
            self.register_buffer("_random_samples", _random_samples)

    def forward(self, x: Any) -> Any:
        """The maxima, with their places in the plane if `return_indices`."""
        settings = (self.output_size, self.output_ratio, self.return_indices, self._random_samples)
        return type(self).function(x, self.kernel_size, *settings, **self.next_address())


class FractionalMaxPool2d(_FractionalMaxPool):
    """The largest elements of windows at random distances in the last two axes (Graham, 2014)."""

    function = staticmethod(F.fractional_max_pool2d)


class FractionalMaxPool3d(_FractionalMaxPool):
    """The largest elements of windows at random distances in the last three axes (Graham, 2014)."""

    function = staticmethod(F.fractional_max_pool3d)


__all__ = [
    "AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveAvgPool3d", "AdaptiveMaxPool1d", "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d", "AvgPool1d", "AvgPool2d", "AvgPool3d", "FractionalMaxPool2d", "FractionalMaxPool3d",
    "LPPool1d", "LPPool2d", "LPPool3d", "MaxPool1d", "MaxPool2d", "MaxPool3d", "MaxUnpool1d", "MaxUnpool2d",
    "MaxUnpool3d",
]  # fmt: skip
