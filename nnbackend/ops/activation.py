"""Activations. Kinks follow PyTorch: relu'(0) = 0, leaky_relu'(0) = slope, elu'(0) = 1, hardtanh'(1) = 0."""

from __future__ import annotations

import math

from ..backend import Array, log_softmax_back, logistic, namespace, softmax_back
from ..backend import erf as _erf
from ..backend import log_softmax as _log_softmax
from ..backend import softmax as _softmax
from .core import Op, axis_of, constant, unbroadcast

SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805  # keep mean 0, variance 1 (Klambauer et al. 2017)


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


def prelu(x: Array, slope: Array) -> Op:
    """Above 0 x, below it slope * x; `slope` broadcasts to `x`."""
    xp = namespace(x)
    return xp.where(x > 0.0, x, slope * x), (
        lambda dy: dy * xp.where(x > 0.0, 1.0, slope),
        lambda dy: unbroadcast(dy * xp.minimum(x, 0.0), slope.shape),
    )


def elu(x: Array, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Op:
    """ELU, SELU and CELU: above 0 scale * x, below it scale * alpha * (exp(input_scale * x) - 1)."""
    xp = namespace(x)
    y = xp.tanh(xp.minimum(x, 0.0) * (0.5 * input_scale))
    y /= 1.0 - y  # half of expm1: as exact, and faster
    y *= 2.0 * alpha
    y += xp.maximum(x, 0.0)
    y *= scale

    def dx(dy: Array) -> Array:
        k = alpha * input_scale
        slope = xp.exp(xp.minimum(x, 0.0) * input_scale) * (k * scale)
        slope += namespace(dy).astype(x > 0.0, dy.dtype) * (scale - k * scale)
        return dy * slope

    return y, (dx, None, None, None)


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
    y = x * s
    return y, (lambda dy: dy * (s + y * (1.0 - s)),)


def gelu(x: Array, approximate: str = "none") -> Op:
    """GELU: x * Phi(x), with Phi the normal distribution function, or PyTorch's `"tanh"` approximation of it."""
    xp = namespace(x)
    if approximate == "none":
        phi = _erf(x * math.sqrt(0.5))
        phi += 1.0
        phi *= 0.5

        def dx(dy: Array) -> Array:
            g = xp.exp(x * x * -0.5) * x
            g *= 1.0 / math.sqrt(2.0 * math.pi)
            g += phi
            return g * dy

    elif approximate == "tanh":
        c, k = math.sqrt(2.0 / math.pi), 0.044715
        phi = xp.tanh(x * (c + c * k * (x * x)))
        phi += 1.0
        phi *= 0.5

        def dx(dy: Array) -> Array:
            slope = 2.0 * c + 6.0 * c * k * (x * x)  # of phi, but for phi * (1 - phi)
            return dy * (phi + x * (slope * phi * (1.0 - phi)))

    else:
        raise ValueError(f'gelu: expected approximate="none" or "tanh", got {approximate!r}.')
    return x * phi, (dx, None)


def mish(x: Array) -> Op:
    """Mish: x * tanh(softplus(x)) (Misra 2019)."""
    xp = namespace(x)
    e = xp.exp(xp.minimum(x, 20.0))  # beyond 20 the factor is 1 in float64
    n = e * (e + 2.0)
    t = n / (n + 2.0)
    return x * t, (lambda dy: dy * (t + x * (1.0 - t * t) * logistic(x)),)


def softsign(x: Array) -> Op:
    """Softsign: x / (1 + |x|)."""
    d = namespace(x).abs(x) + 1.0
    return x / d, (lambda dy: dy / (d * d),)


def tanhshrink(x: Array) -> Op:
    """Tanhshrink: x - tanh(x)."""
    t = namespace(x).tanh(x)
    return x - t, (lambda dy: dy * (t * t),)


def hardtanh(x: Array, min_val: float = -1.0, max_val: float = 1.0) -> Op:
    """Keep x between two values. The edges pass no gradient, unlike those of `clip`."""
    xp = namespace(x)

    def dx(dy: Array) -> Array:
        return dy * namespace(dy).astype((x > min_val) & (x < max_val), dy.dtype)

    return xp.minimum(xp.maximum(x, min_val), max_val), (dx, None, None)


def hardsigmoid(x: Array) -> Op:
    """Keep x / 6 + 1/2 between 0 and 1."""
    xp = namespace(x)

    def dx(dy: Array) -> Array:
        return dy * namespace(dy).astype(xp.abs(x) < 3.0, dy.dtype) * (1.0 / 6.0)

    return xp.minimum(xp.maximum(x + 3.0, 0.0), 6.0) / 6.0, (dx,)


def hardswish(x: Array) -> Op:
    """Hard swish: x * hardsigmoid(x) (Howard et al. 2019)."""
    xp = namespace(x)
    gate = xp.minimum(xp.maximum(x + 3.0, 0.0), 6.0) / 6.0

    def dx(dy: Array) -> Array:
        return dy * (gate + x * namespace(dy).astype(xp.abs(x) < 3.0, dy.dtype) * (1.0 / 6.0))

    return x * gate, (dx,)


def hardshrink(x: Array, lambd: float = 0.5) -> Op:
    """x, but 0 from -lambd to lambd."""
    outside = ~((x >= -lambd) & (x <= lambd))  # NaN is
    return namespace(x).where(outside, x, 0.0), (lambda dy: dy * namespace(dy).astype(outside, dy.dtype), None)


def softshrink(x: Array, lambd: float = 0.5) -> Op:
    """Move x towards 0 by lambd, but not past it."""
    xp = namespace(x)
    outside = ~((x >= -lambd) & (x <= lambd))
    return x - xp.minimum(xp.maximum(x, -lambd), lambd), (
        lambda dy: dy * namespace(dy).astype(outside, dy.dtype),
        None,
    )


def threshold(x: Array, threshold: float, value: float) -> Op:
    """Above the threshold x, elsewhere `value`."""
    low = x <= threshold  # NaN is not
    return namespace(x).where(low, value, x), (lambda dy: dy * namespace(dy).astype(~low, dy.dtype), None, None)


def glu(x: Array, axis: int = -1) -> Op:
    """One half of `x` along `axis` times the sigmoid of the other (Dauphin et al. 2017)."""
    axis, n = axis_of(axis, len(x.shape)), x.shape[axis] // 2
    before = (slice(None),) * axis
    a, gate = x[(*before, slice(None, n), ...)], logistic(x[(*before, slice(n, None), ...)])

    def dx(dy: Array) -> Array:
        da = dy * gate
        return namespace(dy).concat([da, da * (1.0 - gate) * a], axis=axis)

    return a * gate, (dx, None)


def softmax(x: Array, axis: int = -1) -> Op:
    """exp(x) / sum(exp(x)) along `axis`, shifted by the maximum."""
    y = _softmax(x, axis)
    return y, (lambda dy: softmax_back(y, dy, axis), None)


def log_softmax(x: Array, axis: int = -1) -> Op:
    """log(softmax(x)) without underflow."""
    y, *kept = _log_softmax(x, axis)
    return y, (lambda dy: log_softmax_back(x, dy, axis, *kept), None)


def dropout(x: Array, m: Array) -> Op:
    """`x` times a constant: 0 for what is dropped, 1 / (1 - p) for the rest, so that the mean stays."""
    return x * m, (lambda dy: dy * m, None)


def alpha_dropout(x: Array, keep: Array, p: float) -> Op:
    """`x` where `keep` holds, the lowest value of SELU elsewhere; then mean 0 and variance 1 are restored."""
    drop = SELU_ALPHA * SELU_SCALE
    scale = 1.0 / math.sqrt((1.0 + p * drop * drop) * (1.0 - p)) if p < 1.0 else 0.0
    m = namespace(keep).astype(keep, x.dtype) * scale
    return x * m + (m * drop - scale * drop * (1.0 - p)), (lambda dy: dy * m, None, None)
