"""Running a program operation by operation, on any array library: slow, and what all replays must agree with."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

from ..backend import PRIMITIVES, Array, Backend, is_array
from ..tape import TENSORS, clock
from .graph import Node, Program, called, function
from .number import FUNCTIONS

HOST: dict[str, Callable[..., Any]] = {
    "add": operator.add, "subtract": operator.sub, "multiply": operator.mul, "divide": operator.truediv,
    "floor_divide": operator.floordiv, "remainder": operator.mod, "pow": operator.pow, "negative": operator.neg,
    "positive": operator.pos, "abs": abs, "less": operator.lt, "less_equal": operator.le, "greater": operator.gt,
    "greater_equal": operator.ge, "equal": operator.eq, "not_equal": operator.ne, **FUNCTIONS,
}  # fmt: skip


def run(program: Program, inputs: Sequence[Any]) -> list[Any]:
    """The outputs for these inputs, plain arrays and numbers; cells get their new contents at the end."""
    for g in program.gradients:
        if g.enters:
            bring(g.parameter._gradient, g.home.array)
    values: dict[Node, Any] = {}
    left = program.uses()  # what nobody needs any more is let go of
    for n in program.nodes:
        values[n] = _leaf(n, inputs) if n.value is not None and n.op != "check" else None
        if n.op == "check":
            n.value(*called(n, [values[i] for i in n.inputs])[0])
        elif values[n] is None:
            values[n] = apply(n, [values[i] for i in n.inputs], program.library)
        for i in n.inputs:
            left[i] -= 1
            if not left[i]:
                del values[i]
    copy = program.library.copy
    outputs = [copy(values[n]) if is_array(values[n]) else values[n] for n in program.outputs]
    fresh = [(cell, copy(values[n])) for cell, n in program.updates]
    numbers = [(scalar, values[n]) for scalar, n in program.numbers]
    for cell, value in fresh:
        if cell.array is None:  # a gradient for the first time
            cell.array = value
        else:
            cell.array[...] = value
    for scalar, value in numbers:
        scalar._value = value
    for g in program.gradients:
        g.parameter._gradient = g.home.array if g.leaves else None
    for parameter in program.written:
        parameter.written = clock()
    return outputs


def bring(gradient: Any, home: Array) -> None:
    """Copy a gradient, which somebody may have looked at, to where the program expects it."""
    home[...] = gradient.data if type(gradient) in TENSORS else gradient


def _leaf(n: Node, inputs: Sequence[Any]) -> Any:
    if n.op == "input":
        return inputs[n.value]
    return n.value.array if n.op == "state" else n.value._value if n.op == "scalar" else n.value


def apply(n: Node, inputs: Sequence[Any], library: Backend) -> Any:
    """The value of one operation."""
    xp, op = library.xp, n.op
    args, kw = called(n, inputs)
    if n.host:
        return args[0] if op == "number" else HOST[op](*args)
    if op == "getitem":
        return args[0][args[1]]
    if op == "part":
        return args[0][args[1]]
    if op == "set":
        return put(library.copy(args[0]), args[1], args[2], library)
    if op == "copy":
        return library.copy(args[0])
    op = "product" if op == "matmul" else op
    y = PRIMITIVES[op](*args) if op in PRIMITIVES else function(xp, op)(*args, **kw)
    if n.dtype is not None and getattr(y, "dtype", n.dtype) != n.dtype:  # `x += y` keeps the dtype of x
        y = xp.astype(y, n.dtype)
    return y


def put(base: Array, value: Any, how: tuple[str, tuple[Any, ...], dict[str, Any]], library: Backend) -> Array:
    """`base` itself, with `value` in the part of it that the view `how` shows."""
    op, args, kw = how
    if op == "getitem":
        library.assign(base, args[1], value)
    else:
        getattr(library.xp, op)(base, *args[1:], **kw)[...] = value
    return base
