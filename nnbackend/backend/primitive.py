"""Primitives: array to array, what the standard lacks. The text here is the specification; a backend may do it faster.

Ops never ask which library they run on: a primitive looks at its first array and runs that library's override, or the
standard text below. Tensors are a library too: there each primitive is the op that knows its way back.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

from .base import Array
from .registry import BACKENDS, backend_of, namespace

PRIMITIVES: dict[str, Callable[..., Array]] = {}


def primitive(spec: Callable[..., Array]) -> Callable[..., Array]:
    """Let the backend of the first argument replace `spec` by a faster version of the same name."""
    name = spec.__name__

    @functools.wraps(spec)
    def run(x: Array, *rest: Any) -> Array:
        override = (BACKENDS.get(type(x)) or backend_of(x)).overrides.get(name)
        if override is not None:
            y = override(x, *rest)
            if y is not NotImplemented:
                return y
        return spec(x, *rest)

    PRIMITIVES[name] = run
    return run


def constant(x: Array) -> Array:
    """The same values without their history; plain arrays have none."""
    return x.detach() if hasattr(x, "detach") else x


@primitive
def total(x: Array, axis: int | tuple[int, ...] | None) -> Array:
    """Sum of the elements along `axis`: for the ops of every training step, whose sums are small."""
    return namespace(x).sum(x, axis=axis)


@primitive
def product(a: Array, b: Array) -> Array:
    """The product of two matrices, or of two stacks of them that broadcast."""
    return a @ b


@primitive
def affine(x: Array, w: Array, b: Array | None) -> Array:
    """`x @ w.T + b`: rows (n, i), (o, i), (o,) -> (n, o)."""
    y = product(x, w.T)
    if b is not None:
        y += b
    return y


def product_into(a: Array, b: Array, out: Array) -> Array:
    """`out` with the product in it."""
    return _into("product", product, out, a, b)


def affine_into(x: Array, w: Array, b: Array | None, out: Array) -> Array:
    """`out` with `x @ w.T + b` in it."""
    return _into("affine", affine, out, x, w, b)


def _into(name: str, spec: Callable[..., Array], out: Array, *args: Any) -> Array:
    override = backend_of(out).overrides.get(name)
    if override is None or override(*args, out=out) is NotImplemented:
        out[...] = spec(*args)
    return out


@primitive
def logistic(x: Array) -> Array:
    """1 / (1 + exp(-x)), without overflow for any x."""
    xp = namespace(x)
    y = xp.exp(-xp.maximum(x, -backend_of(x).exp_limit(x.dtype)))
    y += 1.0
    return 1.0 / y


@primitive
def gather(x: Array, index: Array) -> Array:
    """Rows of `x` (n, ...) at integer `index` (...), negative ones counted from the end."""
    xp = namespace(x)
    rows = xp.take(x, xp.reshape(index, (-1,)), axis=0)
    return xp.reshape(rows, (*index.shape, *x.shape[1:]))


@primitive
def scatter_add(dy: Array, index: Array, rows: int) -> Array:
    """The way back of `gather`: (rows, ...) with the rows of `dy` added at `index`, repeats counted each time."""
    xp = namespace(dy)
    tail = dy.shape[len(index.shape) :]
    hot = one_hot(xp.reshape(index, (-1,)), rows, dy.dtype)
    summed = product(xp.matrix_transpose(hot), xp.reshape(dy, (hot.shape[0], math.prod(tail))))
    return xp.reshape(summed, (rows, *tail))


@primitive
def one_hot(index: Array, classes: int, dtype: Any) -> Array:
    """(...) integers, negative ones counted from the end -> (..., classes) zeros and ones."""
    xp = namespace(index)
    columns = xp.arange(classes, device=index.device)
    return xp.astype(xp.expand_dims(_from_zero(index, classes), axis=-1) == columns, dtype)


def _from_zero(index: Array, n: int) -> Array:
    """`index` into n elements without negative numbers, in the library's own integers: narrow ones may not reach n."""
    xp = namespace(index)
    kinds = xp.__array_namespace_info__().default_dtypes(device=index.device)
    index = xp.astype(index, kinds["indexing"], copy=False)
    return xp.where(index < 0, index + n, index)


@primitive
def place(dy: Array, key: Any, shape: tuple[int, ...]) -> Array:
    """The way back of `x[key]`: zeros of `shape` with `dy` added at `key`, repeats counted each time."""
    xp = namespace(dy)
    parts = key if isinstance(key, tuple) else (key,)
    by_index = [isinstance(p, list) or (hasattr(p, "dtype") and xp.isdtype(p.dtype, "integral")) for p in parts]
    if not any(by_index):
        out = xp.zeros(shape, dtype=dy.dtype, device=dy.device)
        if any(p is None for p in parts):
            key = tuple(p for p in parts if p is not None)
            dy = xp.reshape(dy, out[key].shape)
        out[key] = dy
        return out
    if all(by_index) and not isinstance(parts[0], list):
        rows, places = math.prod(shape[: len(parts)]), 0
        for part, n in zip(parts, shape, strict=False):
            places = places * n + _from_zero(part, n)
    else:
        rows = math.prod(shape)
        places = xp.reshape(xp.arange(rows, device=dy.device), shape)[key]
    return xp.reshape(scatter_add(dy, places, rows), shape)


def _polynomial(x: Array, coefficients: tuple[float, ...]) -> Array:
    y = x * coefficients[0] + coefficients[1]
    for c in coefficients[2:]:
        y = y * x + c
    return y


SMALL_P = (
    1.85777706184603153e-1, 3.16112374387056560e0, 1.13864154151050156e2, 3.77485237685302021e2, 3.20937758913846947e3,
)  # fmt: skip
SMALL_Q = (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3)
LARGE_P = (
    2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594e0, 6.61191906371416295e1, 2.98635138197400131e2,
    8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3, 1.23033935479799725e3,
)  # fmt: skip
LARGE_Q = (
    1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2, 1.62138957456669019e3,
    3.29079923573345963e3, 4.36261909014324716e3, 3.43936767414372164e3, 1.23033935480374942e3,
)  # fmt: skip


@primitive
def erf(x: Array) -> Array:
    """The error function, to rounding (W. J. Cody, "Rational Chebyshev approximation for the error function", 1969)."""
    xp = namespace(x)
    a = xp.minimum(xp.abs(x), 6.0)  # beyond 6, erf is 1 in float64
    s = xp.minimum(a, 0.5)
    s = s * s
    small = x * (_polynomial(s, SMALL_P) / _polynomial(s, SMALL_Q))
    large = xp.sign(x) * (1.0 - xp.exp(-a * a) * _polynomial(a, LARGE_P) / _polynomial(a, LARGE_Q))
    return xp.where(a <= 0.46875, small, large)
