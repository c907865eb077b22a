"""Lines of the op table: convolutions and windows."""

import itertools
from typing import Any

import numpy as np
from op_line import line, normal

from nnbackend.ops import conv
from nnbackend.tensor import lift


def each(value: Any, axes: int) -> tuple[int, ...]:
    return (value,) * axes if isinstance(value, int) else value


def links(size: Any, kernel: Any, stride: Any, padding: Any, dilation: Any) -> Any:
    """(place, element of the kernel, where that falls on the input), for all that fall inside."""
    axes = len(kernel)
    stride, dilation = each(stride, axes), each(dilation, axes)
    reach = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    if isinstance(padding, str):
        pairs = [(r // 2, r - r // 2) if padding == "same" else (0, 0) for r in reach]
    else:
        pairs = [(p, p) for p in each(padding, axes)]
    count = [(n + sum(p) - r - 1) // s + 1 for n, p, r, s in zip(size, pairs, reach, stride, strict=True)]
    found = []
    for place in itertools.product(*map(range, count)):
        for at in itertools.product(*map(range, kernel)):
            axes_ = zip(place, at, stride, dilation, pairs, strict=True)
            there = tuple(i * s + j * d - before for i, j, s, d, (before, _) in axes_)
            if all(0 <= t < n for t, n in zip(there, size, strict=True)):
                found.append((place, at, there))
    return count, found


def blocks(channels: int, groups: int) -> list[slice]:
    m = channels // groups
    return [slice(i * m, (i + 1) * m) for i in range(groups)]


def np_conv(
    x: Any, w: Any, b: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Any:
    if x.ndim < w.ndim:
        return np_conv(x[None], w, b, stride, padding, dilation, groups)[0]
    count, found = links(x.shape[2:], w.shape[2:], stride, padding, dilation)
    y = np.zeros((len(x), len(w), *count))
    for o, c in zip(blocks(len(w), groups), blocks(x.shape[1], groups), strict=True):
        for place, at, there in found:
            y[(slice(None), o, *place)] += x[(slice(None), c, *there)] @ w[(o, slice(None), *at)].T
    return y if b is None else y + b.reshape(-1, *(1,) * (w.ndim - 2))


def np_conv_transpose(
    y: Any, w: Any, b: Any = None, stride: Any = 1, padding: Any = 0, output_padding: Any = 0, groups: int = 1,
    dilation: Any = 1,
) -> Any:  # fmt: skip
    if y.ndim < w.ndim:
        return np_conv_transpose(y[None], w, b, stride, padding, output_padding, groups, dilation)[0]
    axes = w.ndim - 2
    settings = zip(
        y.shape[2:], w.shape[2:], *(each(v, axes) for v in (stride, padding, output_padding, dilation)), strict=True
    )
    size = [(m - 1) * s - 2 * p + d * (k - 1) + 1 + more for m, k, s, p, more, d in settings]
    places = set(itertools.product(*map(range, y.shape[2:])))
    x = np.zeros((len(y), w.shape[1] * groups, *size))
    _, found = links([n + 9 for n in size], w.shape[2:], stride, padding, dilation)  # 9: more places than there are
    for o, c in zip(blocks(len(w), groups), blocks(x.shape[1], groups), strict=True):
        for place, at, there in found:
            if place in places and all(t < n for t, n in zip(there, size, strict=True)):
                x[(slice(None), c, *there)] += y[(slice(None), o, *place)] @ w[(o, slice(None), *at)]
    return x if b is None else x + b.reshape(-1, *(1,) * axes)


for name, shapes, settings in (
    ("conv1d", [(2, 3, 5), (4, 3, 2)], {}),
    ("conv1d", [(2, 4, 7), (6, 2, 3), (6,)], {"stride": 2, "padding": 2, "dilation": 2, "groups": 2}),
    ("conv1d", [(3, 5), (4, 3, 5), (4,)], {}),
    ("conv1d", [(2, 3, 5), (4, 3, 4)], {"padding": "same"}),
    ("conv2d", [(2, 3, 5, 4), (4, 3, 3, 2), (4,)], {"padding": 1}),
    ("conv2d", [(2, 2, 4, 5), (3, 2, 2, 3)], {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2)}),
    ("conv2d", [(2, 4, 4, 4), (4, 1, 3, 3), (4,)], {"padding": 1, "groups": 4}),
    ("conv2d", [(2, 4, 5, 4), (2, 2, 1, 1)], {"stride": 3, "groups": 2}),
    ("conv2d", [(2, 4, 4), (3, 2, 2, 4)], {"padding": "same", "dilation": (2, 1)}),
    ("conv2d", [(2, 3, 4, 4), (2, 3, 3, 3)], {"padding": "valid"}),
    ("conv2d", [(2, 1, 13, 12), (3, 1, 2, 2)], {}),
    ("conv2d", [(0, 3, 4, 4), (2, 3, 3, 3), (2,)], {"padding": 1}),
    ("conv3d", [(1, 2, 3, 4, 3), (2, 2, 2, 3, 2), (2,)], {"stride": (1, 2, 1), "padding": (1, 0, 1)}),
    ("conv3d", [(2, 3, 3, 3), (4, 1, 2, 2, 2)], {"groups": 2}),
):  # fmt: skip
    line(name, *(normal(*shape) for shape in shapes), ref=np_conv, **settings)
for name, shapes, settings in (
    ("conv_transpose1d", [(2, 3, 4), (3, 2, 3)], {}),
    ("conv_transpose1d", [(4, 3), (4, 3, 3), (6,)], {"stride": 3, "padding": 1, "output_padding": 2, "groups": 2}),
    ("conv_transpose2d", [(2, 2, 3, 4), (2, 3, 3, 2), (3,)], {"padding": 1}),
    ("conv_transpose2d", [(2, 2, 3, 3), (2, 3, 3, 3), (3,)], {"stride": 2, "padding": 1, "output_padding": (1, 0)}),
    (
        "conv_transpose2d", [(2, 2, 2, 2), (2, 1, 2, 2), (1,)],
        {"output_padding": 1, "dilation": (2, 3), "padding": (0, 1)},
    ),
    ("conv_transpose2d", [(0, 2, 3, 3), (2, 3, 2, 2), (3,)], {"stride": 2}),
    ("conv_transpose3d", [(1, 2, 2, 2, 3), (2, 2, 2, 1, 2), (2,)], {"stride": (2, 1, 1), "padding": (1, 0, 1)}),
):  # fmt: skip
    line(name, *(normal(*shape) for shape in shapes), ref=np_conv_transpose, **settings)


def np_conv_weight(y: Any, x: Any) -> Any:
    """For a kernel of (2, 3) and stride (2, 1)."""
    windows = np.lib.stride_tricks.sliding_window_view(x, (2, 3), (2, 3))[:, :, ::2]
    return np.einsum("noij,ncijkl->ockl", y, windows)


weight_of = lift(conv.conv_weight)
line("conv_weight", normal(2, 3, 2, 2), normal(2, 2, 4, 4), ref=np_conv_weight,
     op=lambda y, x: weight_of(y, x, (2, 3), (2, 1), ((0, 0), (0, 0)), (1, 1), 1))  # fmt: skip


def np_unfold(x: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Any:
    kernel = each(kernel_size, 2)
    count, found = links(x.shape[-2:], kernel, stride, padding, dilation)
    y = np.zeros((*x.shape[:-2], *kernel, *count))
    for place, at, there in found:
        y[(..., *at, *place)] = x[(..., *there)]
    return y.reshape(*x.shape[:-3], -1, count[0] * count[1]) if x.size else np.zeros((0, 6, 6))


def np_fold(y: Any, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Any:
    size, kernel = each(output_size, 2), each(kernel_size, 2)
    count, found = links(size, kernel, stride, padding, dilation)
    y = y.reshape(*y.shape[:-2], y.shape[-2] // (kernel[0] * kernel[1]), *kernel, *count)
    x = np.zeros((*y.shape[:-4], *size))
    for place, at, there in found:
        x[(..., *there)] += y[(..., *at, *place)]
    return x


for shape, settings in (
    ((2, 3, 4, 5), {"kernel_size": 2}),
    ((2, 3, 5), {"kernel_size": (2, 3), "stride": (1, 2), "padding": 1, "dilation": (2, 1)}),
    ((0, 1, 3, 4), {"kernel_size": (2, 3), "stride": (1, 1), "padding": (1, 0), "dilation": (2, 1)}),
    ((1, 2, 3, 3), {"kernel_size": 3}),
):  # fmt: skip
    line("unfold", normal(*shape), ref=np_unfold, **settings)
for shape, settings in (
    ((2, 8, 6), {"output_size": (3, 4), "kernel_size": 2}),
    ((6, 6), {"output_size": (4, 5), "kernel_size": (3, 2), "stride": 2, "padding": (1, 1), "dilation": (1, 2)}),
    ((0, 4, 4), {"output_size": 3, "kernel_size": 2}),
):  # fmt: skip
    line("fold", normal(*shape), ref=np_fold, **settings)
