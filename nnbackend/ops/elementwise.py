"""Element-wise functions of the standard. Kinks as in PyTorch: abs'(0) = 0, ties share, edges of clip pass."""

from __future__ import annotations

import math

from ..backend import Array, backend_of, namespace
from ..backend import erf as _erf
from .core import NUMBERS, Op, shape_of, unbroadcast

# -- arithmetic ---------------------------------------------------------------------------------------------------


def add(a: Array, b: Array) -> Op:
    """Sum, element by element."""
    return a + b, (lambda dy: unbroadcast(dy, shape_of(a)), lambda dy: unbroadcast(dy, shape_of(b)))


def subtract(a: Array, b: Array) -> Op:
    """Difference, element by element."""
    return a - b, (lambda dy: unbroadcast(dy, shape_of(a)), lambda dy: unbroadcast(-dy, shape_of(b)))


def multiply(a: Array, b: Array) -> Op:
    """Product, element by element."""
    return a * b, (lambda dy: unbroadcast(dy * b, shape_of(a)), lambda dy: unbroadcast(dy * a, shape_of(b)))


def divide(a: Array, b: Array) -> Op:
    """Quotient, element by element."""
    y = a / b
    return y, (lambda dy: unbroadcast(dy / b, shape_of(a)), lambda dy: unbroadcast(-dy * y / b, shape_of(b)))


def pow(a: Array, b: Array) -> Op:
    """At a = 0 the gradient for b is 0, and b = 0 gives a gradient of 0 for a."""
    y = a**b

    def da(dy: Array) -> Array:
        if type(b) in NUMBERS:
            return dy * (b * a if b == 2 else b * a ** (b - 1)) if b != 0 else dy * 0.0
        xp = namespace(b)
        return unbroadcast(dy * xp.where(b == 0, 0.0, b * a ** xp.where(b == 0, 1.0, b - 1)), shape_of(a))

    def db(dy: Array) -> Array:
        xp = namespace(b)
        if type(a) in NUMBERS:
            return dy * y * (math.log(a) if a > 0 else 0.0 if a == 0 else math.nan)
        return unbroadcast(dy * y * xp.log(xp.where(a == 0, 1.0, a)), shape_of(b))

    return y, (da, db)


def remainder(a: Array, b: Array) -> Op:
    """Remainder of a / b, with the sign of b."""
    return a % b, (lambda dy: unbroadcast(dy, shape_of(a)), lambda dy: unbroadcast(-dy * (a // b), shape_of(b)))


def negative(x: Array) -> Op:
    """Change of sign."""
    return -x, (lambda dy: -dy,)


def positive(x: Array) -> Op:
    """A copy."""
    return namespace(x).positive(x), (lambda dy: dy,)


def abs(x: Array) -> Op:
    """Absolute values."""
    xp = namespace(x)
    return xp.abs(x), (lambda dy: dy * namespace(x).sign(x),)


def square(x: Array) -> Op:
    """Squares."""
    return x * x, (lambda dy: dy * (2.0 * x),)


def reciprocal(x: Array) -> Op:
    """One over each element."""
    y = 1.0 / x
    return y, (lambda dy: -dy * y * y,)


def sqrt(x: Array) -> Op:
    """Square roots."""
    y = namespace(x).sqrt(x)
    return y, (lambda dy: dy * 0.5 / y,)


def hypot(a: Array, b: Array) -> Op:
    """Length of the hypotenuse: square root of a * a + b * b."""
    y = _of(a, b).hypot(a, b)
    return y, (lambda dy: unbroadcast(dy * a / y, shape_of(a)), lambda dy: unbroadcast(dy * b / y, shape_of(b)))


def copysign(a: Array, b: Array) -> Op:
    """Magnitude of `a`, sign of `b`."""
    xp = _of(a, b)
    return xp.copysign(a, b), (
        lambda dy: unbroadcast(dy * xp.sign(a) * xp.copysign(xp.ones_like(a), b), shape_of(a)),
        None,
    )


# -- choosing -----------------------------------------------------------------------------------------------------


def maximum(a: Array, b: Array) -> Op:
    """Ties pass half to each."""
    y = _of(a, b).maximum(a, b)
    return y, (lambda dy: _chosen(dy, a, b, a > b), lambda dy: _chosen(dy, b, a, b > a))


def minimum(a: Array, b: Array) -> Op:
    """Ties pass half to each."""
    y = _of(a, b).minimum(a, b)
    return y, (lambda dy: _chosen(dy, a, b, a < b), lambda dy: _chosen(dy, b, a, b < a))


def _chosen(dy: Array, mine: Array, other: Array, wins: Array) -> Array:
    xp = namespace(dy)
    share = xp.astype(wins, dy.dtype) + 0.5 * xp.astype(mine == other, dy.dtype)
    return unbroadcast(dy * share, shape_of(mine))


def _of(a: Array, b: Array) -> Array:
    return namespace(b if type(a) in NUMBERS else a)


def clip(x: Array, min: Array | None = None, max: Array | None = None) -> Op:
    """The edges themselves pass the gradient; bounds that are arrays get what was cut off at them."""
    xp = namespace(x)
    y = x if min is None else xp.maximum(x, min)
    y = y if max is None else xp.minimum(y, max)

    def dx(dy: Array) -> Array:
        inside = None if min is None else x >= min
        below = None if max is None else x <= max
        if inside is None or below is None:
            inside = below if inside is None else inside
        else:
            inside = inside & below
        return dy if inside is None else unbroadcast(dy * xp.astype(inside, dy.dtype), x.shape)

    def dmin(dy: Array) -> Array:
        low = x < min
        if max is not None:
            low = low & (min < max)
        return unbroadcast(dy * xp.astype(low, dy.dtype), shape_of(min))

    def dmax(dy: Array) -> Array:
        lifted = x if min is None else xp.maximum(x, min)
        return unbroadcast(dy * xp.astype(lifted > max, dy.dtype), shape_of(max))

    return xp.positive(x) if y is x else y, (dx, dmin, dmax)


# -- exponentials -------------------------------------------------------------------------------------------------


def exp(x: Array) -> Op:
    """Exponential."""
    y = namespace(x).exp(x)
    return y, (lambda dy: dy * y,)


def expm1(x: Array) -> Op:
    """Exponential minus 1, accurate near 0."""
    y = namespace(x).expm1(x)
    return y, (lambda dy: dy * (y + 1.0),)


def log(x: Array) -> Op:
    """Natural logarithm."""
    return namespace(x).log(x), (lambda dy: dy / x,)


def log1p(x: Array) -> Op:
    """Logarithm of 1 + x, accurate near 0."""
    return namespace(x).log1p(x), (lambda dy: dy / (x + 1.0),)


def log2(x: Array) -> Op:
    """Logarithm to base 2."""
    return namespace(x).log2(x), (lambda dy: dy / (x * math.log(2.0)),)


def log10(x: Array) -> Op:
    """Logarithm to base 10."""
    return namespace(x).log10(x), (lambda dy: dy / (x * math.log(10.0)),)


def logaddexp(a: Array, b: Array) -> Op:
    """Logarithm of exp(a) + exp(b), without overflow."""
    y = _of(a, b).logaddexp(a, b)
    return y, (
        lambda dy: unbroadcast(dy * namespace(y).exp(a - y), shape_of(a)),
        lambda dy: unbroadcast(dy * namespace(y).exp(b - y), shape_of(b)),
    )


def erf(x: Array) -> Op:
    """Error function."""
    return _erf(x), (lambda dy: dy * (2.0 / math.sqrt(math.pi)) * namespace(x).exp(-x * x),)


# -- trigonometry -------------------------------------------------------------------------------------------------


def sin(x: Array) -> Op:
    """Sine."""
    xp = namespace(x)
    return xp.sin(x), (lambda dy: dy * xp.cos(x),)


def cos(x: Array) -> Op:
    """Cosine."""
    xp = namespace(x)
    return xp.cos(x), (lambda dy: -dy * xp.sin(x),)


def tan(x: Array) -> Op:
    """Tangent."""
    y = namespace(x).tan(x)
    return y, (lambda dy: dy * (1.0 + y * y),)


def asin(x: Array) -> Op:
    """Inverse sine."""
    xp = namespace(x)
    return xp.asin(x), (lambda dy: dy / xp.sqrt(1.0 - x * x),)


def acos(x: Array) -> Op:
    """Inverse cosine."""
    xp = namespace(x)
    return xp.acos(x), (lambda dy: -dy / xp.sqrt(1.0 - x * x),)


def atan(x: Array) -> Op:
    """Inverse tangent."""
    return namespace(x).atan(x), (lambda dy: dy / (1.0 + x * x),)


def atan2(a: Array, b: Array) -> Op:
    """Angle of the point (b, a); at the origin the gradient is 0."""
    xp = _of(a, b)

    def over_square(dy: Array) -> Array:
        r = a * a + b * b
        return dy / xp.where(r == 0.0, 1.0, r)

    return xp.atan2(a, b), (
        lambda dy: unbroadcast(over_square(dy) * b, shape_of(a)),
        lambda dy: unbroadcast(over_square(dy) * -a, shape_of(b)),
    )


def sinh(x: Array) -> Op:
    """Hyperbolic sine."""
    xp = namespace(x)
    return xp.sinh(x), (lambda dy: dy * xp.cosh(x),)


def cosh(x: Array) -> Op:
    """Hyperbolic cosine."""
    xp = namespace(x)
    return xp.cosh(x), (lambda dy: dy * xp.sinh(x),)


def tanh(x: Array) -> Op:
    """Hyperbolic tangent."""
    y = namespace(x).tanh(x)
    return y, (lambda dy: dy * (1.0 - y * y),)


def asinh(x: Array) -> Op:
    """Inverse hyperbolic sine."""
    xp = namespace(x)
    return xp.asinh(x), (lambda dy: dy / xp.sqrt(x * x + 1.0),)


def acosh(x: Array) -> Op:
    """Inverse hyperbolic cosine."""
    xp = namespace(x)
    return xp.acosh(x), (lambda dy: dy / xp.sqrt(x * x - 1.0),)


def atanh(x: Array) -> Op:
    """Inverse hyperbolic tangent."""
    return namespace(x).atanh(x), (lambda dy: dy / (1.0 - x * x),)


# -- dtypes -------------------------------------------------------------------------------------------------------


def astype(x: Array, dtype: object) -> Op:
    """A copy in another dtype; the gradient comes back in the old one."""
    return namespace(x).astype(x, dtype), (lambda dy: namespace(dy).astype(dy, x.dtype), None)


def copy(x: Array) -> Op:
    """The same values in memory of their own."""
    return backend_of(x).copy(x), (lambda dy: dy,)


# -- steps: flat everywhere, so their gradient is 0 ---------------------------------------------------------------


def _flat(dy: Array) -> Array:
    return dy * 0.0


def floor(x: Array) -> Op:
    """Largest whole number not above."""
    return namespace(x).floor(x), (_flat,)


def ceil(x: Array) -> Op:
    """Smallest whole number not below."""
    return namespace(x).ceil(x), (_flat,)


def round(x: Array) -> Op:
    """Nearest whole number, halves to even."""
    return namespace(x).round(x), (_flat,)


def trunc(x: Array) -> Op:
    """Whole number next towards 0."""
    return namespace(x).trunc(x), (_flat,)


def sign(x: Array) -> Op:
    """One with the sign of each element, 0 for 0."""
    return namespace(x).sign(x), (_flat,)
