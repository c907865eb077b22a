"""Normalisation as one op each. The input is seen so that the mean and the parameters lie along axes of their own."""

from __future__ import annotations

import math

from ..backend import Array, namespace, normalized, normalized_back
from .core import Op, constant, joint, unbroadcast

Shape = tuple[int, ...]


def layer_norm(
    x: Array, weight: Array | None = None, bias: Array | None = None, ndim: int = 1, eps: float = 1e-5
) -> Op:
    """Mean 0 and variance 1 over the last `ndim` axes, then weight and bias (Ba et al. 2016)."""
    y, _, _, back = _seen(x, weight, bias, *_by_row(x, ndim), (1,), eps)
    return y, back


def rms_norm(x: Array, weight: Array | None = None, ndim: int = 1, eps: float = 1e-5) -> Op:
    """Mean square 1 over the last `ndim` axes, then weight (Zhang and Sennrich 2019)."""
    y, _, _, back = _seen(x, weight, None, *_by_row(x, ndim), (1,), eps, False)
    return y, back


def _by_row(x: Array, ndim: int) -> tuple[Shape, Shape]:
    first = len(x.shape) - ndim
    rows, columns = math.prod(x.shape[:first]), math.prod(x.shape[first:])
    return (rows, columns), (columns,)


def group_norm(
    x: Array, weight: Array | None = None, bias: Array | None = None, groups: int = 1, eps: float = 1e-5
) -> Op:
    """(n, c, ...): mean 0 and variance 1 of each sample's groups of channels (Wu and He 2018)."""
    n, c, *field = x.shape
    each = c // groups
    y, _, _, back = _seen(x, weight, bias, (n, groups, each, math.prod(field)), (groups, each, 1), (2, 3), eps)
    return y, back


def batch_norm(x: Array, weight: Array | None = None, bias: Array | None = None, eps: float = 1e-5) -> Op:
    """(n, c, ...): mean 0 and variance 1 of each channel (Ioffe and Szegedy 2015); also what they were, (c,)."""
    n, c, *field = x.shape
    if math.prod(field) == 1:
        y, mean, var, back = _seen(x, weight, bias, (n, c), (c,), (0,), eps)
    else:
        y, mean, var, back = _seen(x, weight, bias, (n, c, math.prod(field)), (c, 1), (0, 2), eps)
    return _with_statistics(y, mean, var, back, (c,))


def instance_norm(x: Array, weight: Array | None = None, bias: Array | None = None, eps: float = 1e-5) -> Op:
    """(n, c, ...): mean 0 and variance 1 of each channel of each sample; also what they were, (n, c)."""
    n, c, *field = x.shape
    y, mean, var, back = _seen(x, weight, bias, (n, c, math.prod(field)), (c, 1), (2,), eps)
    return _with_statistics(y, mean, var, back, (n, c))


def _with_statistics(y: Array, mean: Array, var: Array, back: joint, shape: Shape) -> Op:
    """They are for keeping, not for gradients; as values they have the dtype of the result, though CUDA knows more."""
    xp = namespace(y)
    kept = [s if s.dtype == y.dtype else xp.astype(s, y.dtype) for s in (constant(mean), constant(var))]
    values = y, *[xp.reshape(s, shape) for s in kept]
    return values, joint(lambda dy, needs: back.fn(dy[0], needs))


def _seen(
    x: Array,
    weight: Array | None,
    bias: Array | None,
    view: Shape,
    spread: Shape,
    axes: Shape,
    eps: float,
    centred: bool = True,
) -> tuple[Array, Array, Array, joint]:
    """`x`, seen as `view`, normalized along `axes`, with weight and bias seen as `spread`. Also mean and variance."""
    xp, shape = namespace(x), x.shape
    x = xp.reshape(x, view)
    w, b = (None if p is None else xp.reshape(p, spread) for p in (weight, bias))
    y, mean, var = normalized(x, w, b, axes, eps, centred)

    def back(dy: Array, needs: tuple[bool, ...]) -> tuple[Array | None, ...]:
        xp = namespace(dy)
        dx, dw, db = normalized_back(xp.reshape(dy, view), x, w, mean, var, axes, eps, spread)
        parts = [dx if shape == view else xp.reshape(dx, shape)]
        for p, dp in ((weight, dw), (bias, db)):
            parts.append(None if p is None else xp.reshape(unbroadcast(dp, spread), p.shape))
        return tuple(part if needed else None for part, needed in zip(parts, needs, strict=False))

    return xp.reshape(y, shape), mean, var, joint(back)
