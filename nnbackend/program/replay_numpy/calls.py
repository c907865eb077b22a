"""How each operation is said in calls of NumPy that write into memory given to them."""

from __future__ import annotations

import math
from collections.abc import Callable
from inspect import isfunction, signature
from typing import Any

import numpy as np

from ...backend import NUMPY, PRIMITIVES
from ...backend.numpy_blas import axpby
from ...backend.threads import dot
from ...random import generator
from ..graph import Node, function
from .lower import elementwise, ufunc

SPREAD = frozenset({"conv", "conv_transpose", "conv_weight"})  # by threads of ours, and products beside them are small
Ref = Callable[[Node], str]

REDUCE = {
    "sum": np.add.reduce, "prod": np.multiply.reduce, "max": np.maximum.reduce, "min": np.minimum.reduce,
    "any": np.logical_or.reduce, "all": np.logical_and.reduce,
}  # fmt: skip
ROW = 64  # elements along the last axis


def write(replay: Any, n: Node, out: str, ref: Ref) -> None:
    """Add the calls that compute `n` into `out`. `ref` names its inputs."""
    special = CALLS.get(n.op)
    if special is not None and special(replay, n, out, ref):
        return
    override = NUMPY.overrides.get(n.op)
    if elementwise(n):
        replay.code.call(ufunc(n.op), *[replay.operand(n, x, ref) for x in n.operands()], out)
    elif isfunction(override) and "out" in signature(override).parameters:
        replay.code.call(into, out, *map(replay.code.name, (override, PRIMITIVES[n.op])), *arguments(replay, n))
    else:  # NumPy cannot write its result into memory of ours
        replay.code.call(np.copyto, out, called(replay, n), "'unsafe'")


def into(out: Any, override: Callable[..., Any], primitive: Callable[..., Any], *args: Any) -> None:
    """A primitive whose faster version can write its result into memory of ours, unless it does not take these."""
    if override(*args, out=out) is NotImplemented:
        np.copyto(out, primitive(*args))


def called(replay: Any, n: Node) -> str:
    """A call of the function itself."""
    if n.op == "getitem":
        texts = iter([replay.ref(i) for i in n.inputs])
        return f"{next(texts)}[{replay.code.template(n.args[1], texts)}]"
    name = replay.code.name(PRIMITIVES.get(n.op) or function(np, n.op))
    return f"{name}({', '.join(arguments(replay, n))})"


def arguments(replay: Any, n: Node) -> list[str]:
    """The arguments of a call, first those without names."""
    code, texts = replay.code, iter([replay.ref(i) for i in n.inputs])
    args = [code.template(a, texts) for a in n.args]
    return args + [f"{name}={code.template(value, texts)}" for name, value in n.kw.items()]


# -- one by one: each says whether it has done the job ---------------------------------------------------------------


def _extremum(replay: Any, n: Node, out: str, ref: Ref) -> bool:
    """A row of the same number is three times as quick as the number; the third argument is to have another sense."""
    args = []
    for x in n.operands():
        row = not isinstance(x, Node) and n.shape and n.shape[-1] >= ROW and n.dtype.kind == "f"
        args.append(replay.code.name(np.full(n.shape[-1], x, n.dtype)) if row else replay.operand(n, x, ref))
    replay.code.call(ufunc(n.op), *args, f"out={out}")
    return True


def _where(replay: Any, n: Node, out: str, ref: Ref) -> bool:
    condition, a, b = (replay.operand(n, x, ref) for x in n.operands())
    replay.code.call(np.copyto, out, b)
    replay.code.call(np.copyto, out, a, f"where={condition}")
    return True


def _axpby(replay: Any, n: Node, out: str, ref: Ref) -> bool:
    *operands, sign = n.operands()
    a, x, b, y = (replay.operand(n, 1.0 if k is None else k, ref) for k in operands)
    replay.code.call(axpby, a if sign > 0 else f"-{a}", x, b, y, out)
    return True


def _astype(replay: Any, n: Node, out: str, ref: Ref) -> bool:
    replay.code.call(np.copyto, out, ref(n.inputs[0]), "'unsafe'")
    return True


def _reduction(replay: Any, n: Node, out: str, ref: Ref) -> bool:
    if set(n.kw) != {"axis", "keepdims"}:
        return False
    replay.code.call(REDUCE[n.op], ref(n.inputs[0]), repr(n.kw["axis"]), "None", out, repr(n.kw["keepdims"]))
    return True


def _product(replay: Any, n: Node, out: str, ref: Ref) -> bool:
    product = np.matmul if n.op != "dot" else dot if replay.spreads else np.dot
    replay.code.call(product, *map(ref, n.inputs), out)
    return True


def _vdot(replay: Any, n: Node, out: str, ref: Ref) -> bool:
    replay.code.call(np.dot, *[_flat(replay, x, ref) for x in n.operands()], out)
    return True


def _flat(replay: Any, x: Node, ref: Ref) -> str:
    place = replay.place.get(x)
    if place is not None and place.flags.c_contiguous:
        return str(replay.code.name(place.reshape(-1)))
    return f"{ref(x)}.ravel()"


def _column_sum(replay: Any, n: Node, out: str, ref: Ref) -> bool:
    x = n.inputs[0]
    replay.code.call(np.dot, replay.code.name(np.ones(x.shape[0], x.dtype)), ref(x), out)
    return True


def _row_dot(replay: Any, n: Node, out: str, ref: Ref) -> bool:
    replay.code.call(np.vecdot, *map(ref, n.operands()), f"{out}[..., 0]")
    return True


def _uniform(replay: Any, n: Node, out: str, ref: Ref) -> bool:
    address = [ref(x) if isinstance(x, Node) else replay.code.name(x) for x in n.operands()]
    replay.code.call(draw, out, *address)
    return True


def draw(out: Any, key: int, site: int, step: int, rank: int = 0) -> None:
    """Fill `out` with the random numbers of an address."""
    generator(key, site, step, rank).random(out=out, dtype=out.dtype)


def _gather(replay: Any, n: Node, out: str, ref: Ref) -> bool:
    replay.code.call(np.take, ref(n.inputs[0]), ref(n.inputs[1]), "0", out)
    return True


def _one_hot(replay: Any, n: Node, out: str, ref: Ref) -> bool:
    """A one in each row."""
    rows, code = math.prod(n.shape[:-1]), replay.code
    ones = code.name(replay.place[n].reshape(rows, n.shape[-1]))
    code.call(np.copyto, out, "0")
    code.lines.append(f"{ones}[{code.name(np.arange(rows))}, {ref(n.inputs[0])}.ravel()] = 1")
    return True


def _take_along_axis(replay: Any, n: Node, out: str, ref: Ref) -> bool:
    """What `np.take_along_axis` does, with the indices of the other axes made ahead."""
    x, index = n.inputs
    axis = n.kw.get("axis", n.args[2] if len(n.args) > 2 else -1)
    if axis is None or len(x.shape) != len(index.shape):
        return False
    ndim, code = len(x.shape), replay.code
    others = [
        code.name(np.arange(k).reshape([-1 if i == j else 1 for j in range(ndim)])) for i, k in enumerate(n.shape)
    ]
    others[axis % ndim] = ref(index)
    if any(x.shape[i] != k for i, k in enumerate(n.shape) if i != axis % ndim):
        return False
    code.call(np.copyto, out, f"{ref(x)}[{', '.join(others)}]")
    return True


def _concat(replay: Any, n: Node, out: str, ref: Ref) -> bool:
    """Copies what has not been computed in its place."""
    if n.kw.get("axis", 0) not in (None, 0):
        return False
    flat, start = replay.place[n].reshape(-1), 0
    for i in n.inputs:
        part = flat[start : start + math.prod(i.shape)].reshape(i.shape)
        if not replay.in_place(i, part):
            replay.code.call(np.copyto, replay.code.name(part), ref(i))
        start += part.size
    return True


def _part(replay: Any, n: Node, out: str, ref: Ref) -> bool:
    replay.code.call(np.copyto, out, f"{ref(n.inputs[0])}[{n.args[1]}]")
    return True


CALLS: dict[str, Callable[[Any, Node, str, Ref], bool]] = {
    "where": _where, "astype": _astype, "dot": _product, "matmul": _product, "vdot": _vdot,
    "column_sum": _column_sum, "uniform": _uniform, "gather": _gather, "one_hot": _one_hot,
    "take_along_axis": _take_along_axis, "concat": _concat, "part": _part, "maximum": _extremum,
    "minimum": _extremum, "axpby": _axpby, "row_dot": _row_dot, **dict.fromkeys(REDUCE, _reduction),
}  # fmt: skip


# -- views -----------------------------------------------------------------------------------------------------------


def view_of(x: Any, op: str, args: tuple[Any, ...], kw: dict[str, Any]) -> Any:
    """The view itself; a number as index gives an array without axes, not one of NumPy's scalars."""
    return x[_key(args[1])] if op == "getitem" else getattr(np, op)(x, *args[1:], **kw)


def view_text(replay: Any, n: Node, x: str, shape: tuple[Any, ...]) -> str:
    """The text of a view of what is found anew each time, in this shape."""
    code = replay.code
    if n.op in ("reshape", "expand_dims", "squeeze"):
        return f"{x}.reshape(({''.join(f'{length}, ' for length in shape)}))"
    if n.op == "broadcast_to":
        return f"{code.name(np.broadcast_to)}({x}, ({''.join(f'{length}, ' for length in shape)}))"
    if n.op == "matrix_transpose":
        return f"{x}.mT"
    if n.op == "getitem":
        return f"{x}[{code.name(_key(n.args[1]))}]"
    return f"{code.name(view_of)}({x}, {n.op!r}, {code.name(n.args)}, {code.name(n.kw)})"


def _key(key: Any) -> Any:
    parts = key if isinstance(key, tuple) else (key,)
    return parts if any(part is ... for part in parts) else (*parts, ...)
