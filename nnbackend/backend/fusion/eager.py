"""Groups of one op, for eager code: reductions, and functions that CuPy would need several kernels for."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any, Literal, get_args

from ..base import DTYPES, Array
from .group import Group, Input, Reduction, Step
from .launch import Launch

Axes = int | tuple[int, ...] | None
Op = Literal["sum", "mean", "prod", "max", "min"]
REDUCTIONS: tuple[Op, ...] = get_args(Op)
_ready: dict[Any, tuple[Launch, tuple[int, ...], Any]] = {}


@cache
def _empty() -> Any:
    return import_module("cupy").empty


def reduction(op: Op, otherwise: Callable[..., Array]) -> Callable[..., Array]:
    """The namespace's function of that name by a kernel of ours; `otherwise` for dtypes and shapes it does not take."""

    def reduce(x: Array, /, axis: Axes = None, *, dtype: Any = None, keepdims: bool = False) -> Array:
        key = None
        try:
            key = op, x.dtype, x.shape, x.strides, axis, keepdims, x.data.ptr % 16
            ready = _ready.get(key)
        except (AttributeError, TypeError):  # not an array; an axis that is a list
            ready = None
        if ready is None or dtype is not None:
            group = None if key is None or dtype is not None else _reduced(op, x, axis)
            if group is None:
                options = {} if dtype is None else {"dtype": dtype}
                return otherwise(x, axis=axis, keepdims=keepdims, **options)
            ready = _ready[key] = _prepared(x, group, keepdims)
        launch, shape, kind = ready
        out = _empty()(shape, kind)
        launch((x,), (), (out,))
        return out

    reduce.__name__, reduce.__doc__ = op, otherwise.__doc__
    return reduce


def function(op: str) -> Callable[[Array], Array]:
    """An element-wise function of float arrays as the override of a primitive."""

    def apply(x: Array) -> Array:
        key = op, x.dtype, x.shape, x.strides, x.data.ptr % 16
        ready = _ready.get(key)
        if ready is None:
            read = _input(x)
            if read is None or x.dtype.kind != "f" or not x.size:
                return NotImplemented
            group = Group(x.shape, (read,), (), (Step(op, (0,), read.dtype),), (1,))
            ready = _ready[key] = Launch(group, (key[-1] == 0, True), ()), x.shape, x.dtype
        launch, shape, dtype = ready
        out = _empty()(shape, dtype)
        launch((x,), (), (out,))
        return out

    return apply


def _input(x: Array) -> Input | None:
    size = x.dtype.itemsize
    if x.dtype.name not in DTYPES or any(s % size for s in x.strides):
        return None
    return Input(x.dtype.name, tuple([s // size for s in x.strides]))


def _reduced(op: Op, x: Array, axis: Axes) -> Group | None:
    """None for what CuPy is to do, or to refuse."""
    n, read = x.ndim, _input(x)
    axes = tuple(range(n)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    inside = all(type(a) is int and -n <= a < n for a in axes) and len({a % n for a in axes}) == len(axes)
    if read is None or not x.size or not inside or (op == "mean" and x.dtype.kind != "f"):
        return None
    return Group(x.shape, (read,), (), (), (), (Reduction(0, op, tuple([a % n for a in axes])),))


def _prepared(x: Array, group: Group, keepdims: bool) -> tuple[Launch, tuple[int, ...], Any]:
    (reduction,) = group.reductions
    kept = [(i, n) for i, n in enumerate(x.shape) if keepdims or i not in reduction.axes]
    dtype = group.result(reduction)
    shape = tuple([1 if i in reduction.axes else n for i, n in kept])
    return Launch(group, (x.data.ptr % 16 == 0, True), (dtype,)), shape, DTYPES[dtype]
