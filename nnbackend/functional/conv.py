"""Convolutions and windows. Settings are numbers for all axes, or one for each; inputs may come without the batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from ..array import expand_dims, pad, reshape, squeeze
from ..backend import Ints, Pairs, places
from ..errors import ShapeError
from ..ops import conv as ops
from ..tensor import lift
from .arguments import each

Setting: TypeAlias = int | Sequence[int]

_conv, _conv_transpose, _unfold, _fold = (lift(f) for f in (ops.conv, ops.conv_transpose, ops.unfold, ops.fold))


def conv1d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Setting = 1,
    padding: Setting | str = 0,
    dilation: Setting = 1,
    groups: int = 1,
) -> Any:
    """Cross-correlation of (n, c, l) with kernels (o, c / groups, k), as `conv2d`."""
    return _convolved("conv1d", 1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Setting = 1,
    padding: Setting | str = 0,
    dilation: Setting = 1,
    groups: int = 1,
) -> Any:
    """Cross-correlation of (n, c, h, w) with kernels (o, c / groups, kh, kw), plus a bias (o,): (n, o, ho, wo).

    `padding`: zeros on both sides, or `"valid"` for none, or `"same"` for as many as keep the size at stride 1.
    """
    return _convolved("conv2d", 2, input, weight, bias, stride, padding, dilation, groups)


def conv3d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Setting = 1,
    padding: Setting | str = 0,
    dilation: Setting = 1,
    groups: int = 1,
) -> Any:
    """Cross-correlation of (n, c, d, h, w) with kernels (o, c / groups, kd, kh, kw), as `conv2d`."""
    return _convolved("conv3d", 3, input, weight, bias, stride, padding, dilation, groups)


def conv_transpose1d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Setting = 1,
    padding: Setting = 0,
    output_padding: Setting = 0,
    groups: int = 1,
    dilation: Setting = 1,
) -> Any:
    """Transposed convolution of (n, c, l) with kernels (c, o / groups, k), as `conv_transpose2d`."""
    return _transposed("conv_transpose1d", 1, input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Setting = 1,
    padding: Setting = 0,
    output_padding: Setting = 0,
    groups: int = 1,
    dilation: Setting = 1,
) -> Any:
    """Transposed convolution of (n, c, h, w) with kernels (c, o / groups, kh, kw), plus a bias (o,): (n, o, ho, wo).

    It maps back to the size from which `conv2d` with these settings comes to h and w; where several sizes do, to the
    smallest and `output_padding` more. `output_padding` is less than the stride or the dilation.
    """
    return _transposed("conv_transpose2d", 2, input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose3d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Setting = 1,
    padding: Setting = 0,
    output_padding: Setting = 0,
    groups: int = 1,
    dilation: Setting = 1,
) -> Any:
    """Transposed convolution of (n, c, d, h, w) with kernels (c, o / groups, kd, kh, kw), as `conv_transpose2d`."""
    return _transposed("conv_transpose3d", 3, input, weight, bias, stride, padding, output_padding, groups, dilation)


def unfold(input: Any, kernel_size: Setting, dilation: Setting = 1, padding: Setting = 0, stride: Setting = 1) -> Any:
    """Windows of (n, c, h, w) as columns: (n, c * kh * kw, windows)."""
    how, shape = window("unfold", kernel_size, dilation, padding, stride), tuple(input.shape)
    if len(shape) not in (3, 4):
        raise ShapeError(f"unfold: expected input (n, c, h, w) or (c, h, w), got {shape}.")
    _count("unfold", shape, shape[-2:], **how)

    def columns(x: Any) -> Any:
        y = _unfold(x, **how)
        return reshape(y, (y.shape[0], y.shape[1] * y.shape[2], y.shape[3]))

    return _batched(columns, input, 4)


def fold(
    input: Any,
    output_size: Setting,
    kernel_size: Setting,
    dilation: Setting = 1,
    padding: Setting = 0,
    stride: Setting = 1,
) -> Any:
    """Columns (n, c * kh * kw, windows) laid into (n, c, *output_size), summed where windows overlap."""
    how, shape = window("fold", kernel_size, dilation, padding, stride), tuple(input.shape)
    size, k = each("fold", "output_size", output_size, 2, 1), math.prod(how["kernel"])
    windows = math.prod(_count("fold", size, size, **how))
    if len(shape) not in (2, 3) or shape[-2] % k or shape[-1] != windows:
        raise ShapeError(f"fold: expected input (n, c * {k}, {windows}) or (c * {k}, {windows}), got {shape}.")
    return _batched(lambda x: _fold(reshape(x, (x.shape[0], x.shape[1] // k, k, windows)), size=size, **how), input, 3)


def _convolved(
    name: str,
    axes: int,
    x: Any,
    w: Any,
    b: Any,
    stride: Setting,
    padding: Setting | str,
    dilation: Setting,
    groups: int,
) -> Any:
    kernel, shape = _kernel(name, axes, w, groups), tuple(x.shape)
    _check(name, axes, shape, w.shape[1] * groups, b, w.shape[0])
    stride, dilation = each(name, "stride", stride, axes, 1), each(name, "dilation", dilation, axes, 1)
    if isinstance(padding, str):
        pairs = same_padding(name, padding, kernel, stride, dilation)
    else:
        pairs = tuple((p, p) for p in each(name, "padding", padding, axes, 0))
    _count(name, shape, shape[-axes:], kernel, stride, pairs, dilation)
    how = {"stride": stride, "padding": pairs, "dilation": dilation, "groups": groups}
    return _batched(lambda x: _conv(x, w, b, **how), x, axes + 2)


def _transposed(
    name: str, axes: int, x: Any, w: Any, b: Any, stride: Setting, padding: Setting, more: Setting, groups: int,
    dilation: Setting,
) -> Any:  # fmt: skip
    kernel, shape = _kernel(name, axes, w, groups), tuple(x.shape)
    _check(name, axes, shape, w.shape[0], b, w.shape[1] * groups)
    stride, dilation = each(name, "stride", stride, axes, 1), each(name, "dilation", dilation, axes, 1)
    padding, more = each(name, "padding", padding, axes, 0), each(name, "output_padding", more, axes, 0)
    if any(m >= max(s, d) for m, s, d in zip(more, stride, dilation, strict=True)):
        raise ValueError(f"{name}: expected output_padding below stride {stride} or dilation {dilation}, got {more}.")
    least = transposed_size(shape[-axes:], kernel, stride, padding, dilation)
    beyond = [max(0, m - s + 1) for m, s in zip(more, stride, strict=True)]  # more than fits one more window,
    cut = [min(m, p) for m, p in zip(beyond, padding, strict=True)]  # so less of the padding is cut off,
    zeros = tuple((0, m - c) for m, c in zip(beyond, cut, strict=True))  # and no window reaches the rest
    size = tuple(n + m - after for n, m, (_, after) in zip(least, more, zeros, strict=True))
    if min(size) < 1:
        raise ShapeError(f"{name}: expected input that gives at least 1 output, got {shape}, which gives {size}.")
    pairs = tuple((p, p - c) for p, c in zip(padding, cut, strict=True))
    how = {"size": size, "stride": stride, "padding": pairs, "dilation": dilation, "groups": groups}
    if not any(after for _, after in zeros):
        return _batched(lambda x: _conv_transpose(x, w, b, **how), x, axes + 2)
    y = _batched(lambda x: _conv_transpose(x, w, None, **how), x, axes + 2)
    y = pad(y, widths=((0, 0),) * (len(shape) - axes) + zeros)
    return y if b is None else y + reshape(b, (b.shape[0], *(1,) * axes))


# -- settings and shapes ----------------------------------------------------------------------------------------------


def same_padding(name: str, padding: str, kernel: Ints, stride: Ints, dilation: Ints) -> Pairs:
    """The zeros before and after each axis that `"same"` or `"valid"` means."""
    if padding not in ("same", "valid"):
        raise ValueError(f'{name}: expected padding as numbers, "same" or "valid", got {padding!r}.')
    if padding == "valid":
        return ((0, 0),) * len(kernel)
    if any(s != 1 for s in stride):
        raise ValueError(f'{name}: expected stride 1 with padding="same", got {stride}.')
    more = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    return tuple((m // 2, m - m // 2) for m in more)


def window(name: str, kernel_size: Setting, dilation: Setting, padding: Setting, stride: Setting) -> dict[str, Any]:
    """The settings of windows that slide over images."""
    return {
        "kernel": each(name, "kernel_size", kernel_size, 2, 1),
        "stride": each(name, "stride", stride, 2, 1),
        "padding": tuple((p, p) for p in each(name, "padding", padding, 2, 0)),
        "dilation": each(name, "dilation", dilation, 2, 1),
    }


def transposed_size(places: Ints, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints) -> Ints:
    """The smallest size that has so many places for a kernel."""
    axes = zip(places, kernel, stride, padding, dilation, strict=True)
    return tuple((m - 1) * s - 2 * p + d * (k - 1) + 1 for m, k, s, p, d in axes)


def _kernel(name: str, axes: int, w: Any, groups: int) -> Ints:
    shape = tuple(w.shape)
    if groups < 1:
        raise ValueError(f"{name}: expected groups >= 1, got {groups}.")
    if len(shape) != axes + 2 or min(shape) < 1 or shape[0] % groups:
        raise ShapeError(f"{name}: expected weight of {axes + 2} axes, groups {groups} dividing axis 0, got {shape}.")
    return shape[2:]


def _check(name: str, axes: int, shape: Ints, channels: int, b: Any, outputs: int) -> None:
    if len(shape) not in (axes + 1, axes + 2) or shape[-axes - 1] != channels:
        size = "l" if axes == 1 else ", ".join("dhw"[-axes:])
        want = f"{channels} channels, input (n, {channels}, {size}) or ({channels}, {size})"
        fix = f" Channels come first: nb.moveaxis(x, -1, {-axes - 1})." if shape[-1:] == (channels,) else ""
        raise ShapeError(f"{name}: expected {want}, got {shape}.{fix}")
    if b is not None and tuple(b.shape) != (outputs,):
        raise ShapeError(f"{name}: expected bias ({outputs},), got {tuple(b.shape)}.")


def _count(name: str, shape: Ints, size: Ints, kernel: Ints, stride: Ints, padding: Pairs, dilation: Ints) -> Ints:
    """How many windows there are along each axis."""
    count = places(size, kernel, stride, padding, dilation)
    if min(count) < 1:
        reach = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
        padded = tuple(n + sum(pair) for n, pair in zip(size, padding, strict=True))
        got = f"{shape}, which is {padded} when padded"
        raise ShapeError(f"{name}: expected an input that has room for a window of {reach}, got {got}.")
    return count


def _batched(f: Callable[[Any], Any], x: Any, ndim: int) -> Any:
    """`f` of a batch, or of one sample."""
    return f(x) if len(x.shape) == ndim else squeeze(f(expand_dims(x, axis=0)), axis=0)


__all__ = [
    "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "fold", "unfold",
]  # fmt: skip
