"""Pooling: (n, c, ...) or (c, ...) with the last one, two or three axes pooled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

from ..array import arange, broadcast_to, concat, mean, reshape, take_along_axis, where
from ..backend import namespace
from ..errors import ShapeError
from ..ops import pool as _pool
from ..ops import resample
from ..random import fresh_key, uniform_like
from ..recorder import checked
from ..tensor import Tensor, lift
from .arguments import each, raw_of, readable

Size: TypeAlias = int | Sequence[int]
_max, _max_indices = lift(_pool.max_pool), lift(_pool.max_pool_indices, differentiable=False)
_avg, _unpool, _along = lift(_pool.avg_pool), lift(_pool.max_unpool), lift(resample.resample)


def _check_axes(x: Any, axes: int, name: str) -> None:
    shape = tuple(x.shape)
    if len(shape) not in (axes + 1, axes + 2) or 0 in shape[-axes - 1 :]:
        raise ShapeError(f"{name}: expected a non-empty input of {axes + 1} or {axes + 2} axes, got {shape}.")


def _windows(
    shape: tuple[int, ...], axes: int, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil: bool, name: str
) -> list[dict[str, int]]:
    """The windows along each of the last axes. Those that would start in the padding on the right are left out."""
    kernels, strides = _steps(name, kernel_size, stride, axes)
    paddings, dilations = each(name, "padding", padding, axes), each(name, "dilation", dilation, axes)
    found = []
    for axis, k, s, p, d in zip(
        range(len(shape) - axes, len(shape)), kernels, strides, paddings, dilations, strict=True
    ):
        if k < 1 or s < 1 or d < 1:
            raise ValueError(f"{name}: expected kernel_size, stride and dilation of at least 1, got {k}, {s} and {d}.")
        if not 0 <= p <= ((k - 1) * d + 1) // 2:
            raise ValueError(f"{name}: expected a padding from 0 to half of the kernel ({k}), got {p}.")
        n, span = shape[axis], (k - 1) * d + 1
        out = (n + 2 * p - span + (s - 1) * ceil) // s + 1
        if ceil and (out - 1) * s >= n + p:
            out -= 1
        if out < 1:
            raise ShapeError(f"{name}: expected at least {span - 2 * p} elements along axis {axis}, got {shape}.")
        found.append({"axis": axis, "kernel": k, "stride": s, "padding": p, "dilation": d, "out": out})
    return found


def _steps(name: str, kernel_size: Any, stride: Any, axes: int) -> tuple[Any, Any]:
    """Kernel and stride along each axis: windows are side by side unless the stride is given."""
    kernels = each(name, "kernel_size", kernel_size, axes)
    return kernels, kernels if stride is None or stride == () else each(name, "stride", stride, axes)


def _plane(x: Any, axes: int) -> Any:
    """The number of each element in its plane, counted along the last axes."""
    inner = tuple(x.shape[-axes:])
    index = reshape(arange(math.prod(inner), device=raw_of(x)), inner)
    return broadcast_to(index if isinstance(x, Tensor) else index.data, tuple(x.shape))


# -- maximum --------------------------------------------------------------------------------------------------------


def _largest(x: Any, index: Any, window: dict[str, int]) -> tuple[Any, Any]:
    """The largest element of each window along an axis, and its index where `index` is not None."""
    return _max(x, **window), None if index is None else _max_indices(x, index, **window)


def _max_pool(
    x: Any, axes: int, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool, indices: bool
) -> Any:
    name = f"max_pool{axes}d"
    _check_axes(x, axes, name)
    index = _plane(x, axes) if indices else None
    windows = _windows(tuple(x.shape), axes, kernel, stride, padding, dilation, ceil_mode, name)
    for window in reversed(windows):  # the last axis first: the first of equal ones in a box is so in its first line
        x, index = _largest(x, index, window)
    return (x, index) if indices else x


def max_pool1d(
    input: Any, kernel_size: Size, stride: Size | None = None, padding: Size = 0, dilation: Size = 1,
    ceil_mode: bool = False, return_indices: bool = False,
) -> Any:  # fmt: skip
    """The largest element of each window of the last axis; windows start `stride` apart (one kernel by default).

    `padding` (at most half a kernel) lets windows reach out of the input, `ceil_mode` lets the last one. With
    `return_indices` a pair: the elements, and their places in the plane of the last axes.
    """
    return _max_pool(input, 1, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool2d(
    input: Any, kernel_size: Size, stride: Size | None = None, padding: Size = 0, dilation: Size = 1,
    ceil_mode: bool = False, return_indices: bool = False,
) -> Any:  # fmt: skip
    """`max_pool1d` over the last two axes."""
    return _max_pool(input, 2, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool3d(
    input: Any, kernel_size: Size, stride: Size | None = None, padding: Size = 0, dilation: Size = 1,
    ceil_mode: bool = False, return_indices: bool = False,
) -> Any:  # fmt: skip
    """`max_pool1d` over the last three axes."""
    return _max_pool(input, 3, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def _max_unpool(x: Any, indices: Any, axes: int, kernel: Any, stride: Any, padding: Any, size: Any) -> Any:
    name, shape = f"max_unpool{axes}d", tuple(x.shape)
    _check_axes(x, axes, name)
    kernels, strides = _steps(name, kernel, stride, axes)
    paddings = each(name, "padding", padding, axes)
    settings = zip(shape[-axes:], kernels, strides, paddings, strict=True)
    usual = tuple((n - 1) * s - 2 * p + k for n, k, s, p in settings)
    whole = usual if size is None else tuple(size)[-axes:]
    if len(whole) != axes or any(abs(n - w) >= s for n, w, s in zip(whole, usual, strides, strict=True)):
        raise ShapeError(f"{name}: expected output_size less than a stride from {usual}, got {tuple(size)}.")
    if tuple(indices.shape) != shape:
        raise ShapeError(f"{name}: expected indices of shape {shape}, got {tuple(indices.shape)}.")
    n = math.prod(whole)
    checked(_check_places, indices, n, name)
    rows = (math.prod(shape[:-axes]), math.prod(shape[-axes:]))
    return reshape(_unpool(reshape(x, rows), reshape(indices, rows), size=n), (*shape[:-axes], *whole))


def _check_places(indices: Any, n: int, name: str) -> None:
    host = readable(indices)
    if host is not None and host.size and not (host.min() >= 0 and host.max() < n):
        raise ValueError(f"{name}: expected indices from 0 to {n - 1}, got {host.min()} to {host.max()}.")


def max_unpool1d(
    input: Any, indices: Any, kernel_size: Size, stride: Size | None = None, padding: Size = 0,
    output_size: Sequence[int] | None = None,
) -> Any:  # fmt: skip
    """Zeros with `input` at the `indices` of a max pool with these settings; `output_size` where several fit."""
    return _max_unpool(input, indices, 1, kernel_size, stride, padding, output_size)


def max_unpool2d(
    input: Any, indices: Any, kernel_size: Size, stride: Size | None = None, padding: Size = 0,
    output_size: Sequence[int] | None = None,
) -> Any:  # fmt: skip
    """`max_unpool1d` over the last two axes."""
    return _max_unpool(input, indices, 2, kernel_size, stride, padding, output_size)


def max_unpool3d(
    input: Any, indices: Any, kernel_size: Size, stride: Size | None = None, padding: Size = 0,
    output_size: Sequence[int] | None = None,
) -> Any:  # fmt: skip
    """`max_unpool1d` over the last three axes."""
    return _max_unpool(input, indices, 3, kernel_size, stride, padding, output_size)


# -- mean -----------------------------------------------------------------------------------------------------------


def _avg_pool(
    x: Any, axes: int, kernel: Any, stride: Any, padding: Any, ceil_mode: bool, include: bool, divisor: int | None
) -> Any:
    name = f"avg_pool{axes}d"
    _check_axes(x, axes, name)
    if divisor is not None and divisor < 1:
        raise ValueError(f"{name}: expected a divisor of at least 1, got {divisor}.")
    for window in _windows(tuple(x.shape), axes, kernel, stride, padding, 1, ceil_mode, name):
        counts = (1.0,) if divisor else _counts(x.shape[window["axis"]], window, include)
        window.pop("dilation")
        x = _avg(x, counts=counts if len(set(counts)) > 1 else counts[0], **window)
    return x / divisor if divisor else x


def _counts(n: int, window: dict[str, int], include: bool) -> tuple[float, ...]:
    """How many elements each window has, with those in the padding or without."""
    k, p = window["kernel"], window["padding"]
    starts = [i * window["stride"] - p for i in range(window["out"])]
    if include:
        return tuple(float(min(s + k, n + p) - s) for s in starts)
    return tuple(float(min(s + k, n) - max(s, 0)) for s in starts)


def avg_pool1d(
    input: Any, kernel_size: Size, stride: Size | None = None, padding: Size = 0, ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Any:  # fmt: skip
    """The mean of each window of the last axis; zeros in the `padding` count unless `count_include_pad` is false."""
    return _avg_pool(input, 1, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


def avg_pool2d(
    input: Any, kernel_size: Size, stride: Size | None = None, padding: Size = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None,
) -> Any:  # fmt: skip
    """`avg_pool1d` over the last two axes; `divisor_override` is what sums are divided by instead of their counts."""
    return _avg_pool(input, 2, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def avg_pool3d(
    input: Any, kernel_size: Size, stride: Size | None = None, padding: Size = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None,
) -> Any:  # fmt: skip
    """`avg_pool2d` over the last three axes."""
    return _avg_pool(input, 3, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def _lp_pool(x: Any, axes: int, norm_type: float, kernel: Any, stride: Any, ceil_mode: bool) -> Any:
    if math.isinf(norm_type):
        sign = 1.0 if norm_type > 0 else -1.0
        return _max_pool(abs(x) * sign, axes, kernel, stride, 0, 1, ceil_mode, False) * sign
    count = math.prod(each(f"lp_pool{axes}d", "kernel_size", kernel, axes))
    y = _avg_pool(x**norm_type, axes, kernel, stride, 0, ceil_mode, True, None)
    zero = y == 0.0  # where the root has no gradient
    return where(zero, 0.0, (where(zero, 1.0, y) * count) ** (1.0 / norm_type))


def lp_pool1d(
    input: Any, norm_type: float, kernel_size: Size, stride: Size | None = None, ceil_mode: bool = False
) -> Any:
    """(sum of x**p)**(1/p) of each window of the last axis, with p = norm_type."""
    return _lp_pool(input, 1, norm_type, kernel_size, stride, ceil_mode)


def lp_pool2d(
    input: Any, norm_type: float, kernel_size: Size, stride: Size | None = None, ceil_mode: bool = False
) -> Any:
    """`lp_pool1d` over the last two axes."""
    return _lp_pool(input, 2, norm_type, kernel_size, stride, ceil_mode)


def lp_pool3d(
    input: Any, norm_type: float, kernel_size: Size, stride: Size | None = None, ceil_mode: bool = False
) -> Any:
    """`lp_pool1d` over the last three axes."""
    return _lp_pool(input, 3, norm_type, kernel_size, stride, ceil_mode)


# -- to a given size ------------------------------------------------------------------------------------------------


def _outputs(x: Any, axes: int, output_size: Any, name: str) -> list[tuple[int, int, int]]:
    """(axis, length, length afterwards) of each of the last axes."""
    _check_axes(x, axes, name)
    sizes, first = each(name, "output_size", output_size, axes), len(x.shape) - axes
    found = [(first + i, x.shape[first + i], x.shape[first + i] if m is None else m) for i, m in enumerate(sizes)]
    if any(m < 1 for _, _, m in found):
        raise ValueError(f"{name}: expected an output_size of at least 1, got {output_size!r}.")
    return found


def _spans(n: int, out: int) -> list[tuple[int, int]]:
    """Where each of `out` windows over n elements starts and stops: they differ in length, and may overlap."""
    return [(i * n // out, -(-(i + 1) * n // out)) for i in range(out)]


def _adaptive_max_pool(x: Any, axes: int, output_size: Any, indices: bool) -> Any:
    index = _plane(x, axes) if indices else None
    for axis, n, out in reversed(_outputs(x, axes, output_size, f"adaptive_max_pool{axes}d")):
        parts = []
        for start, stop in [(0, n)] if n % out == 0 else _spans(n, out):  # windows of one length tile the axis
            k = n // out if n % out == 0 else stop - start
            window = {"axis": axis, "kernel": k, "stride": k, "padding": 0, "dilation": 1, "out": (stop - start) // k}
            key = (slice(None),) * axis + (slice(start, stop), ...)
            parts.append(_largest(x[key], None if index is None else index[key], window))
        x = concat([part for part, _ in parts], axis=axis)
        index = concat([i for _, i in parts], axis=axis) if indices else None
    return (x, index) if indices else x


def _adaptive_avg_pool(x: Any, axes: int, output_size: Any) -> Any:
    outputs = _outputs(x, axes, output_size, f"adaptive_avg_pool{axes}d")
    if all(out == 1 for _, _, out in outputs):
        return mean(x, axis=tuple(axis for axis, _, _ in outputs), keepdims=True)
    for axis, n, out in outputs:
        if n % out == 0:
            k = n // out
            x = _avg(x, axis=axis, kernel=k, stride=k, padding=0, out=out, counts=float(k))
        else:
            rows = [[(i, 1.0 / (stop - start)) for i in range(start, stop)] for start, stop in _spans(n, out)]
            x = _along(x, axis=axis, taps=resample.aligned(rows))
    return x


def adaptive_max_pool1d(input: Any, output_size: Any, return_indices: bool = False) -> Any:
    """The largest element of each of `output_size` windows that cover the last axis evenly.

    Element i comes from floor(i * n / out) up to ceil((i + 1) * n / out). With `return_indices` a pair: the elements,
    and their places in the plane of the last axes.
    """
    return _adaptive_max_pool(input, 1, output_size, return_indices)


def adaptive_max_pool2d(input: Any, output_size: Any, return_indices: bool = False) -> Any:
    """`adaptive_max_pool1d` over the last two axes; None keeps a length."""
    return _adaptive_max_pool(input, 2, output_size, return_indices)


def adaptive_max_pool3d(input: Any, output_size: Any, return_indices: bool = False) -> Any:
    """`adaptive_max_pool1d` over the last three axes; None keeps a length."""
    return _adaptive_max_pool(input, 3, output_size, return_indices)


def adaptive_avg_pool1d(input: Any, output_size: Any) -> Any:
    """The mean of each of `output_size` windows that cover the last axis evenly, as in `adaptive_max_pool1d`."""
    return _adaptive_avg_pool(input, 1, output_size)


def adaptive_avg_pool2d(input: Any, output_size: Any) -> Any:
    """`adaptive_avg_pool1d` over the last two axes; None keeps a length."""
    return _adaptive_avg_pool(input, 2, output_size)


def adaptive_avg_pool3d(input: Any, output_size: Any) -> Any:
    """`adaptive_avg_pool1d` over the last three axes; None keeps a length."""
    return _adaptive_avg_pool(input, 3, output_size)


# -- at random places -----------------------------------------------------------------------------------------------


def _fractional(
    x: Any, axes: int, kernel: Any, output_size: Any, output_ratio: Any, indices: bool, samples: Any, address: Any
) -> Any:
    name, raw = f"fractional_max_pool{axes}d", raw_of(x)
    _check_axes(x, axes, name)
    kernels, inner = each(name, "kernel_size", kernel, axes), tuple(x.shape[-axes:])
    if (output_size is None) == (output_ratio is None):
        raise ValueError(f"{name}: expected either output_size or output_ratio, got {output_size}, {output_ratio}.")
    if output_size is None:
        output_size = [int(n * r) for n, r in zip(inner, each(name, "output_ratio", output_ratio, axes), strict=True)]
    outs = each(name, "output_size", output_size, axes)
    if any(k < 1 or out < 1 or k + out - 1 > n for n, k, out in zip(inner, kernels, outs, strict=True)):
        raise ShapeError(f"{name}: expected output_size + kernel_size - 1 up to {inner}, got {outs} and {kernels}.")
    xp, lead = namespace(raw), (1,) * (axes + 2 - len(x.shape)) + tuple(x.shape[:-axes])
    if samples is None:
        samples = uniform_like(xp.zeros((*lead, axes), dtype=raw.dtype, device=raw.device), *address)
    samples = raw_of(samples)[(*(slice(n) for n in lead), ...)]  # PyTorch's may be more than there are planes
    places, step = 0, 1
    for a in reversed(range(axes)):  # the number in the plane of each element of each window
        n, k, out = inner[a], kernels[a], outs[a]
        u = samples[..., axes - 1 - a if axes == 2 else a][..., None]  # PyTorch's samples start with the width in 2-D
        alpha = (n - k) / max(1, out - 1)
        i = xp.astype(xp.arange(out, device=raw.device), raw.dtype)
        starts = xp.where(i < out - 1, xp.floor((i + u) * alpha) - xp.floor(u * alpha), float(n - k))
        at = xp.astype(starts, xp.int64)[..., None] + xp.arange(k, device=raw.device)
        shape = [1] * (2 * axes)
        shape[a], shape[axes + a] = out, k
        places = places + xp.reshape(at, (*lead, *shape)) * step
        step *= n
    planes, boxes, k = tuple(x.shape[:-axes]), (*x.shape[:-axes], *outs), math.prod(kernels)
    places = xp.reshape(xp.broadcast_to(places, (*lead, *outs, *kernels)), (*planes, math.prod(outs) * k))
    found = take_along_axis(reshape(x, (*planes, math.prod(inner))), places, axis=-1)
    window = {"axis": len(boxes), "kernel": k, "stride": k, "padding": 0, "dilation": 1, "out": 1}
    index = xp.reshape(places, (*boxes, k)) if indices else None
    y, index = _largest(reshape(found, (*boxes, k)), index, window)
    return (reshape(y, boxes), reshape(index, boxes)) if indices else reshape(y, boxes)


def fractional_max_pool2d(
    input: Any, kernel_size: Size, output_size: Size | None = None, output_ratio: float | Sequence[float] | None = None,
    return_indices: bool = False, _random_samples: Any = None,
    *, key: int | None = None, site: int = 0, step: Any = 0,
) -> Any:  # fmt: skip
    """The largest element of `output_size` windows in the last two axes, at random distances (Graham, 2014).

    `_random_samples` (n, c, 2) in [0, 1) place them, else random numbers at the address (key, site, step).
    """
    address = (fresh_key() if key is None else key, site, step)
    return _fractional(input, 2, kernel_size, output_size, output_ratio, return_indices, _random_samples, address)


def fractional_max_pool3d(
    input: Any, kernel_size: Size, output_size: Size | None = None, output_ratio: float | Sequence[float] | None = None,
    return_indices: bool = False, _random_samples: Any = None,
    *, key: int | None = None, site: int = 0, step: Any = 0,
) -> Any:  # fmt: skip
    """`fractional_max_pool2d` over the last three axes; samples (n, c, 3)."""
    address = (fresh_key() if key is None else key, site, step)
    return _fractional(input, 3, kernel_size, output_size, output_ratio, return_indices, _random_samples, address)


__all__ = [
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d",
    "adaptive_max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d", "fractional_max_pool2d", "fractional_max_pool3d",
    "lp_pool1d", "lp_pool2d", "lp_pool3d", "max_pool1d", "max_pool2d", "max_pool3d", "max_unpool1d", "max_unpool2d",
    "max_unpool3d",
]  # fmt: skip
