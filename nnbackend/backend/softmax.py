"""Softmax along an axis, and the cross-entropy of logits with class indices, each with its way back.

Some keep arrays for their way back besides the result. Nothing else reads them: what they are is the backend's own
choice. Here they are the exponentials, shifted by the maximum, and their sums.
"""

from __future__ import annotations

from .base import Array
from .primitive import constant, one_hot, primitive
from .registry import namespace


@primitive
def softmax(x: Array, axis: int) -> Array:
    """exp(x) / sum(exp(x)) along `axis`, shifted by the maximum."""
    xp = namespace(x)
    y = xp.exp(_below_top(x, axis))
    y /= xp.sum(y, axis=axis, keepdims=True)
    return y


@primitive
def softmax_back(y: Array, dy: Array, axis: int) -> Array:
    """The gradient of x, where `y` is its softmax."""
    return (dy - namespace(dy).sum(dy * y, axis=axis, keepdims=True)) * y


@primitive
def log_softmax(x: Array, axis: int) -> tuple[Array, ...]:
    """log(softmax(x)) without underflow, and what is kept."""
    xp = namespace(x)
    z = _below_top(x, axis)
    e = xp.exp(z)
    s = xp.sum(e, axis=axis, keepdims=True)
    z -= xp.log(s)
    return z, e, s


@primitive
def log_softmax_back(x: Array, dy: Array, axis: int, e: Array, s: Array) -> Array:
    """The gradient of `x`, with what `log_softmax` has kept."""
    return dy - e * (namespace(dy).sum(dy, axis=axis, keepdims=True) / s)


@primitive
def softmax_loss(z: Array, labels: Array) -> tuple[Array, ...]:
    """Minus the log-softmax of logits (n, c, ...) at class indices (n, ...), and what is kept."""
    xp = namespace(z)
    z = _below_top(z, 1)
    e = xp.exp(z)
    s = xp.sum(e, axis=1, keepdims=True)
    return xp.squeeze(xp.log(s), axis=1) + picked(z, labels), e, s


@primitive
def softmax_loss_back(z: Array, labels: Array, dy: Array, scale: float, e: Array, s: Array) -> Array:
    """The gradient of the logits, with what `softmax_loss` has kept. The losses' is dy * scale, dy (n, ...) or ()."""
    dz = e / s - hot(labels, e)
    return dz * ((namespace(dy).expand_dims(dy, axis=1) if dy.shape else dy) * scale)


def picked(log_p: Array, labels: Array) -> Array:
    """Minus the log-probability (n, c, ...) of each class index (n, ...)."""
    xp = namespace(log_p)
    column = namespace(labels).expand_dims(labels, axis=1)
    return -xp.squeeze(xp.take_along_axis(log_p, column, axis=1), axis=1)


def hot(labels: Array, like: Array) -> Array:
    """Class indices (n, ...) as zeros and ones in the layout (n, c, ...) of `like`."""
    return namespace(like).moveaxis(one_hot(labels, like.shape[1], like.dtype), -1, 1)


def _below_top(x: Array, axis: int) -> Array:
    return x - constant(namespace(x).max(x, axis=axis, keepdims=True))
