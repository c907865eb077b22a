"""What an op is: a value and the way back.

    def exp(x):
        y = namespace(x).exp(x)
        return y, (lambda dy: dy * y,)

An op is a plain function on arrays of any library. It returns its value and a tuple of pullbacks, one per positional
argument: the gradient of the value in, the gradient of the argument out, `None` where there is none. Arguments that
share backward work are served by one `joint` function instead. A value may be a tuple of arrays.

Rules. An op never writes to its inputs; `y += b` is for what it has just made, under one name only. It makes nothing
from nothing (`zeros`, `asarray`) unless it must, and then with `device=`. A pullback may return `dy` or a view of it.
The same text runs on Tensors when a gradient is differentiated again, so whatever a pullback calls must have a
gradient of its own, and everything it needs is in the arguments.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

from ..backend import Array, namespace, total
from ..backend import constant as constant  # ops find it here
from ..errors import ShapeError

Pullback: TypeAlias = Callable[[Array], Array] | None


class joint:
    """One function for all arguments: `fn(dy, needs) -> tuple`; `needs[i]` says if argument i wants its gradient."""

    __slots__ = ("fn",)

    def __init__(self, fn: Callable[[Any, tuple[bool, ...]], tuple[Array | None, ...]]) -> None:
        self.fn = fn


Op: TypeAlias = tuple[Array, tuple[Pullback, ...] | joint]
Axis: TypeAlias = int | tuple[int, ...] | None
NUMBERS: set[type] = {int, float, bool}  # by class: NumPy's 0-d arrays are instances of `float`, too


def unbroadcast(dy: Array, shape: tuple[int, ...]) -> Array:
    """Sum `dy` back to the `shape` that was broadcast to it."""
    if dy.shape == shape:
        return dy
    xp = namespace(dy)
    extra = len(dy.shape) - len(shape)
    axes = tuple(range(extra)) + tuple(i + extra for i, n in enumerate(shape) if n == 1 and dy.shape[i + extra] != 1)
    dx = total(dy, axes) if axes else dy
    return dx if dx.shape == shape else xp.reshape(dx, shape)


def shape_of(x: Any) -> tuple[int, ...]:
    """The shape of an array, () for a Python number."""
    shape: tuple[int, ...] = getattr(x, "shape", ())
    return shape


def size(x: Array) -> int:
    """How many elements."""
    return math.prod(x.shape)


def axes_of(axis: Axis, ndim: int) -> tuple[int, ...]:
    """The axes meant, as non-negative numbers."""
    if axis is None:
        return tuple(range(ndim))
    return tuple(a % ndim for a in ((axis,) if isinstance(axis, int) else axis))


def axis_of(axis: int, ndim: int) -> int:
    """The axis meant, as a non-negative number. ShapeError if there is none such."""
    if not -ndim <= axis < ndim:
        raise ShapeError(f"axis: expected a number in {-ndim}..{ndim - 1}, got {axis}.")
    return axis % ndim


def kept(shape: tuple[int, ...], axis: Axis) -> tuple[int, ...]:
    """`shape` with the reduced axes kept as 1."""
    axes = axes_of(axis, len(shape))
    return tuple(1 if i in axes else n for i, n in enumerate(shape))
