"""Convolutions. Settings and shapes are those of `backend.conv`, where each of the functions here is defined."""

from __future__ import annotations

from collections.abc import Callable

from ..backend import Array, Ints, Pairs, namespace, total
from ..backend import conv as _conv
from ..backend import conv_transpose as _conv_transpose
from ..backend import conv_weight as _conv_weight
from ..backend import fold as _fold
from ..backend import unfold as _unfold
from .core import Op


def conv(x: Array, w: Array, b: Array | None, stride: Ints, padding: Pairs, dilation: Ints, groups: int) -> Op:
    """Cross-correlation, plus a bias (o,): (n, c, *size) -> (n, o, *places)."""
    how = stride, padding, dilation, groups
    return _plus(_conv(x, w, *how), b), (
        lambda dy: _conv_transpose(dy, w, x.shape[2:], *how),
        lambda dy: _conv_weight(dy, x, w.shape[2:], *how),
        _bias_of(x),
        *(None,) * 4,
    )


def conv_transpose(
    y: Array, w: Array, b: Array | None, size: Ints, stride: Ints, padding: Pairs, dilation: Ints, groups: int
) -> Op:
    """The way back of `conv` as a function of its own, plus a bias (c,): (n, o, *places) -> (n, c, *size)."""
    how = stride, padding, dilation, groups
    return _plus(_conv_transpose(y, w, size, *how), b), (
        lambda dx: _conv(dx, w, *how),
        lambda dx: _conv_weight(y, dx, w.shape[2:], *how),
        _bias_of(y),
        *(None,) * 5,
    )


def conv_weight(y: Array, x: Array, kernel: Ints, stride: Ints, padding: Pairs, dilation: Ints, groups: int) -> Op:
    """The gradient of the kernels: (o, c / groups, *kernel)."""
    how = stride, padding, dilation, groups
    return _conv_weight(y, x, kernel, *how), (
        lambda dw: _conv(x, dw, *how),
        lambda dw: _conv_transpose(y, dw, x.shape[2:], *how),
        *(None,) * 5,
    )


def unfold(x: Array, kernel: Ints, stride: Ints, padding: Pairs, dilation: Ints) -> Op:
    """The windows as columns: (n, c, *size) -> (n, c, kernel elements, places)."""
    how = kernel, stride, padding, dilation
    return _unfold(x, *how), (lambda dy: _fold(dy, x.shape[2:], *how), *(None,) * 4)


def fold(columns: Array, size: Ints, kernel: Ints, stride: Ints, padding: Pairs, dilation: Ints) -> Op:
    """Columns summed where they overlap: (n, c, kernel elements, places) -> (n, c, *size)."""
    how = kernel, stride, padding, dilation
    return _fold(columns, size, *how), (lambda dx: _unfold(dx, *how), *(None,) * 5)


def _plus(y: Array, b: Array | None) -> Array:
    if b is not None:
        y += namespace(b).reshape(b, (-1, *(1,) * (len(y.shape) - 2)))
    return y


def _bias_of(x: Array) -> Callable[[Array], Array]:
    axes = (0, *range(2, len(x.shape)))
    return lambda dy: total(dy, axes)
