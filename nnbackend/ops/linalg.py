"""Linear algebra on stacks of matrices (..., n, n), without singular values: their gradients are seldom what is meant.

Formulas: M. Giles, "An extended collection of matrix derivative results for forward and reverse mode", 2008.
"""

from __future__ import annotations

import math

from ..backend import Array, namespace, product
from ..errors import ShapeError
from .core import Axis, Op, axes_of, constant, kept, unbroadcast


def solve(a: Array, b: Array) -> Op:
    """X of `a @ x = b`; `b` is (n,) or (..., n, k)."""
    _square(a, "solve")
    x = namespace(a).linalg.solve(a, b)
    column = len(b.shape) == 1

    def transposed(dy: Array) -> Array:
        """The gradient of `b`, before it is summed; a row for each of several `a` is no matrix."""
        xp = namespace(dy)
        if not column:
            return xp.linalg.solve(a.mT, dy)
        return xp.squeeze(xp.linalg.solve(a.mT, xp.expand_dims(dy, axis=-1)), axis=-1)

    def da(dy: Array) -> Array:
        xp, g = namespace(dy), transposed(dy)
        if column:
            return unbroadcast(-xp.expand_dims(g, axis=-1) * xp.expand_dims(x, axis=-2), a.shape)
        return unbroadcast(-product(g, x.mT), a.shape)

    return x, (da, lambda dy: unbroadcast(transposed(dy), b.shape))


def inv(a: Array) -> Op:
    """The inverse. To solve equations, `solve` is quicker and more exact."""
    _square(a, "inv")
    y = namespace(a).linalg.inv(a)
    return y, (lambda dy: -product(product(y.mT, dy), y.mT),)


def det(a: Array) -> Op:
    """The determinant. Gradients are those of invertible matrices."""
    _square(a, "det")
    y = namespace(a).linalg.det(a)
    return y, (lambda dy: _matrices(dy * y) * namespace(dy).linalg.inv(a).mT,)


def slogdet(a: Array) -> Op:
    """Sign and logarithm of the absolute value of the determinant."""
    _square(a, "slogdet")
    sign, log = namespace(a).linalg.slogdet(a)
    return (sign, log), (lambda dy: _matrices(dy[1]) * namespace(dy[1]).linalg.inv(a).mT,)


def cholesky(a: Array, upper: bool = False) -> Op:
    """The triangular factor of a positive definite matrix: `l @ l.mT`, or `u.mT @ u` if `upper`."""
    _square(a, "cholesky")
    factor = namespace(a).linalg.cholesky(a)  # NumPy before 2.0.0 and others read the lower triangle

    def da(dy: Array) -> Array:
        xp = namespace(dy)
        low = dy.mT if upper else dy
        middle = xp.tril(product(factor.mT, low))
        n = a.shape[-1]
        middle = middle - middle * (0.5 * xp.eye(n, dtype=dy.dtype, device=dy.device))
        right = xp.linalg.solve(factor.mT, middle)  # l^-T phi
        whole = xp.linalg.solve(factor.mT, right.mT)  # l^-T phi^T l^-1
        return 0.5 * (whole + whole.mT)

    return (factor.mT if upper else factor), (da,)


def vector_norm(x: Array, axis: Axis = None, ord: float = 2.0, keepdims: bool = False) -> Op:
    """(sum |x|^ord)^(1 / ord); the largest |x| for inf. The gradient at 0 is 0."""
    xp = namespace(x)
    if ord in (math.inf, -math.inf):
        extreme = xp.max if ord > 0 else xp.min
        y = extreme(xp.abs(x), axis=axis, keepdims=True)
    elif ord == 0:
        y = xp.sum(xp.astype(x != 0.0, x.dtype), axis=axis, keepdims=True)
    elif ord == 1:
        y = xp.sum(xp.abs(x), axis=axis, keepdims=True)
    elif ord == 2:
        y = xp.sqrt(xp.sum(x * x, axis=axis, keepdims=True))
    else:
        y = xp.sum(xp.abs(x) ** ord, axis=axis, keepdims=True) ** (1.0 / ord)

    def dx(dy: Array) -> Array:
        xp = namespace(dy)
        dy = xp.reshape(dy, kept(x.shape, axis))
        if ord == 0:
            return 0.0 * (dy * x)
        if ord == 1:
            return dy * xp.sign(x)
        if ord in (math.inf, -math.inf):
            hit = xp.astype(constant(xp.abs(x)) == constant(y), dy.dtype)
            return dy * xp.sign(x) * (hit / xp.sum(hit, axis=axis, keepdims=True))
        some = constant(y) != 0.0
        safe = xp.where(some, y, 1.0)
        if ord == 2:
            return xp.where(some, dy / safe, 0.0) * x
        ratio = xp.abs(x) / safe
        power = ratio ** (ord - 1.0) if ord > 1 else xp.where(ratio > 0.0, ratio, 1.0) ** (ord - 1.0)
        return xp.where(some, dy, 0.0) * (xp.sign(x) * power)

    return (y if keepdims else _dropped(y, axis)), (dx,)


# The rest are compositions: on Tensors the gradient comes from their parts.


def matrix_power(x: Array, n: int) -> Array:
    """`x @ x @ ...`, n times; of the inverse if n is negative."""
    _square(x, "matrix_power")
    xp, power = namespace(x), None
    if n < 0:
        x, n = xp.linalg.inv(x), -n
    while n:
        if n & 1:
            power = x if power is None else product(power, x)
        n >>= 1
        x = product(x, x) if n else x
    if power is None:
        power = x * 0 + xp.eye(x.shape[-1], dtype=x.dtype, device=x.device)
    return power


def diagonal(x: Array, offset: int = 0) -> Array:
    """(..., n, m) -> (..., k): the elements with column - row = `offset`."""
    xp = namespace(x)
    n, m = x.shape[-2:]
    row, column = max(-offset, 0), max(offset, 0)
    k = max(min(n - row, m - column), 0)
    flat = xp.reshape(x, (*x.shape[:-2], n * m))
    start = row * m + column
    return flat[..., start : start + (k - 1) * (m + 1) + 1 : m + 1] if k else flat[..., :0]


def trace(x: Array, offset: int = 0) -> Array:
    """Sum of the diagonal."""
    return namespace(x).sum(diagonal(x, offset), axis=-1)


def diag(x: Array, offset: int = 0) -> Array:
    """(n,) -> a matrix with these values on its diagonal; (n, m) -> its diagonal."""
    if len(x.shape) == 2:
        return diagonal(x, offset)
    if len(x.shape) != 1:
        raise ShapeError(f"diag: expected an array of 1 or 2 axes, got shape {x.shape}. See linalg.diagonal.")
    xp, n = namespace(x), x.shape[0] + abs(offset)
    square = xp.expand_dims(x, axis=-1) * xp.eye(x.shape[0], dtype=x.dtype, device=x.device)
    before, after = max(offset, 0), max(-offset, 0)
    zeros = xp.zeros((x.shape[0], abs(offset)), dtype=x.dtype, device=x.device)
    wide = xp.concat([zeros, square] if before else [square, zeros], axis=1)
    rest = xp.zeros((abs(offset), n), dtype=x.dtype, device=x.device)
    return xp.concat([rest, wide] if after else [wide, rest], axis=0)


def outer(a: Array, b: Array) -> Array:
    """(n,), (m,) -> (n, m): all products."""
    if len(a.shape) != 1 or len(b.shape) != 1:
        raise ShapeError(f"outer: expected two vectors, got shapes {a.shape} and {b.shape}")
    return namespace(a).expand_dims(a, axis=-1) * b


def cross(a: Array, b: Array, axis: int = -1) -> Array:
    """The vector product of vectors of 3 along `axis`."""
    if a.shape[axis] != 3 or b.shape[axis] != 3:
        raise ShapeError(f"cross: expected 3 elements along axis {axis}, got shapes {a.shape} and {b.shape}")
    xp = namespace(a)
    return xp.roll(a, -1, axis=axis) * xp.roll(b, 1, axis=axis) - xp.roll(a, 1, axis=axis) * xp.roll(b, -1, axis=axis)


def _square(a: Array, name: str) -> None:
    if len(a.shape) < 2 or a.shape[-1] != a.shape[-2]:
        raise ShapeError(f"{name}: expected square matrices (..., n, n), got shape {a.shape}")


def _matrices(x: Array) -> Array:
    return namespace(x).reshape(x, (*x.shape, 1, 1))


def _dropped(y: Array, axis: Axis) -> Array:
    return namespace(y).squeeze(y, axis=axes_of(axis, len(y.shape))) if y.shape else y
