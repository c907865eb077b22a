"""Activations. Kinks follow PyTorch: relu'(0) = 0, leaky_relu'(0) = slope, elu'(0) = 1."""

from __future__ import annotations

import math

from ..backend import Array, logistic, namespace
from ..backend import erf as _erf
from .core import Op, constant


def sigmoid(x: Array) -> Op:
    """1 / (1 + exp(-x)), without overflow for any x."""
    y = logistic(x)
    return y, (lambda dy: dy * ((1.0 - y) * y),)


def relu(x: Array) -> Op:
    """max(x, 0); NaN stays NaN."""
    xp = namespace(x)
    y = xp.maximum(x, 0.0)
    return y, (lambda dy: dy * namespace(dy).astype(y > 0.0, dy.dtype),)


def leaky_relu(x: Array, negative_slope: float = 0.01) -> Op:
    """The positive part, and a little of the negative one: max(x, 0) + negative_slope * min(x, 0)."""

    def slope(x: Array) -> Array:
        up = namespace(x).astype(x > 0.0, x.dtype)
        return up + (1.0 - up) * negative_slope

    return x * slope(constant(x)), (lambda dy: dy * slope(constant(x)), None)


def elu(x: Array, alpha: float = 1.0) -> Op:
    """Identity above 0, alpha * (exp(x) - 1) below."""
    xp = namespace(x)
    low = xp.minimum(x, 0.0)
    y = xp.where(x > 0.0, x, alpha * xp.expm1(low))
    return y, (lambda dy: dy * xp.where(x > 0.0, 1.0, alpha * xp.exp(low)), None)


def softplus(x: Array, beta: float = 1.0, threshold: float = 20.0) -> Op:
    """log(1 + exp(beta * x)) / beta; the identity where beta * x > threshold, as in PyTorch."""
    xp = namespace(x)
    z = x * beta
    soft = (xp.maximum(z, 0.0) + xp.log1p(xp.exp(-xp.abs(z)))) / beta

    def dx(dy: Array) -> Array:
        return dy * xp.where(z > threshold, 1.0, logistic(z))

    return xp.where(z > threshold, x, soft), (dx, None, None)


def logsigmoid(x: Array) -> Op:
    """log(sigmoid(x)) without overflow: -1000 gives -1000."""
    xp = namespace(x)
    return xp.minimum(x, 0.0) - xp.log1p(xp.exp(-xp.abs(x))), (lambda dy: dy * logistic(-x),)


def silu(x: Array) -> Op:
    """SiLU or swish: x * sigmoid(x)."""
    s = logistic(x)
    return x * s, (lambda dy: dy * (s * (1.0 + x * (1.0 - s))),)


def gelu(x: Array, approximate: str = "none") -> Op:
    """GELU: x * Phi(x), with Phi the normal distribution function, or PyTorch's `"tanh"` approximation of it."""
    xp = namespace(x)
    if approximate == "none":
        phi = 0.5 * (1.0 + _erf(x * math.sqrt(0.5)))
        return x * phi, (lambda dy: dy * (phi + x * xp.exp(-0.5 * x * x) * (1.0 / math.sqrt(2.0 * math.pi))), None)
    if approximate != "tanh":
        raise ValueError(f'gelu: expected approximate="none" or "tanh", got {approximate!r}.')
    c, k = math.sqrt(2.0 / math.pi), 0.044715
    phi = xp.tanh(x * (c + c * k * (x * x)))
    phi += 1.0
    phi *= 0.5

    def dx(dy: Array) -> Array:
        slope = 2.0 * c + 6.0 * c * k * (x * x)  # of phi, but for phi * (1 - phi)
        return dy * (phi + x * (slope * phi * (1.0 - phi)))

    return x * phi, (dx, None)


def softmax(x: Array, axis: int = -1) -> Op:
    """exp(x) / sum(exp(x)) along `axis`, shifted by the maximum."""
    xp = namespace(x)
    y = xp.exp(x - constant(xp.max(x, axis=axis, keepdims=True)))
    y = y / xp.sum(y, axis=axis, keepdims=True)

    def dx(dy: Array) -> Array:
        g = dy * y
        return g - y * namespace(g).sum(g, axis=axis, keepdims=True)

    return y, (dx, None)


def log_softmax(x: Array, axis: int = -1) -> Op:
    """log(softmax(x)) without underflow."""
    xp = namespace(x)
    z = x - constant(xp.max(x, axis=axis, keepdims=True))
    e = xp.exp(z)
    s = xp.sum(e, axis=axis, keepdims=True)
    return z - xp.log(s), (lambda dy: dy - e / s * namespace(dy).sum(dy, axis=axis, keepdims=True), None)


def dropout(x: Array, keep: Array, p: float) -> Op:
    """`x` where the mask `keep` holds, scaled by 1 / (1 - p) so that the mean stays; 0 elsewhere."""
    m = namespace(keep).astype(keep, x.dtype) * (1.0 / (1.0 - p) if p < 1.0 else 0.0)
    return x * m, (lambda dy: dy * m, None, None)
