"""Every differentiable op, one line per case; `test_ops.py` puts each through the op contract on every backend.

    line("hypot", positive(2, 3), positive(2, 3))

says: `nb.hypot` (or `F.hypot`) of two such draws equals `np.hypot` of them. `ref=` gives another reference, `op=`
another way to call it, `both=` one text for the two; further keywords are settings that go to op and reference alike.
Draws keep off kinks and poles, because gradients are checked by differences. `view=True`: the result may share memory
with an input. `strict=False`: beyond the array-API standard. `equal=False`: not for inputs of equal elements.
`dtype=`: the result's, if it is not that of the inputs.
"""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
from op_line import (
    TABLE,
    Draw,
    above_one,
    between,
    binary,
    inside,
    line,
    mask,
    nonzero,
    normal,
    positive,
    spaced,
    unary,
    whole,
)  # fmt: skip
from op_table_activation import erf

import nnbackend as nb
from nnbackend.backend import place
from nnbackend.ops import index as picking
from nnbackend.tensor import lift

__all__ = ["TABLE"]

# -- element by element ---------------------------------------------------------------------------------------------

binary("add", normal, normal)
binary("subtract", normal, normal)
binary("multiply", normal, normal)
binary("divide", normal, nonzero)
binary("pow", positive, normal)
binary("remainder", spaced, lambda *s: Draw(s, lambda rng, s: np.full(s, 0.71)))
binary("hypot", nonzero, nonzero)
binary("copysign", nonzero, nonzero)
binary("maximum", spaced, between)
binary("minimum", spaced, between)
binary("logaddexp", normal, normal)
binary("atan2", nonzero, nonzero)
for draw, exponent in ((positive, 2), (positive, 3.5), (positive, -1), (positive, 1), (positive, 0), (nonzero, 3)):
    line("pow", draw(2, 3), exponent)
line("pow", 2.0, normal(2, 3))

unary("negative", normal)
unary("positive", normal)
unary("abs", nonzero)
unary("square", normal)
unary("reciprocal", nonzero)
unary("sqrt", positive)
unary("exp", normal)
unary("expm1", normal)
unary("log", positive)
unary("log1p", inside)
unary("log2", positive)
unary("log10", positive)
unary("erf", normal, ref=erf)
unary("sin", normal)
unary("cos", normal)
unary("tan", inside)
unary("asin", inside)
unary("acos", inside)
unary("atan", normal)
unary("sinh", normal)
unary("cosh", normal)
unary("tanh", normal)
unary("asinh", normal)
unary("acosh", above_one)
unary("atanh", inside)
for step in ("floor", "ceil", "round", "trunc", "sign"):
    unary(step, spaced)
unary("copy", normal, op=lambda x: nb.astype(x, x.dtype), ref=np.copy)
unary("astype", normal, op=lambda x: nb.astype(x, "float64"), ref=np.copy, dtype="float64")
for low, high in ((-0.5, 0.5), (None, 0.5), (-0.5, None), (None, None), (0.5, -0.5)):
    line("clip", spaced(2, 3, 5), low, high, ref=lambda x, a, b: np.clip(x, a, b) if a or b else x)
line("clip", spaced(2, 3, 5), between(3, 1), above_one(2, 1, 5))
line("clip", spaced(2, 3, 5), None, between(5), ref=lambda x, a, b: np.minimum(x, b))
line("clip", spaced(2, 3, 5), between(2, 3, 5), 0.5)
line("clip", spaced(5), between(2, 3, 5), None, ref=lambda x, a, b: np.maximum(x, a))

# -- reductions -----------------------------------------------------------------------------------------------------

AXES: tuple[dict[str, Any], ...] = (
    {}, {"axis": 0}, {"axis": -1, "keepdims": True}, {"axis": (0, 2)}, {"axis": (-1, 1), "keepdims": True},
    {"axis": None, "keepdims": True}, {"axis": ()},
)  # fmt: skip


def logsumexp(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    return np.log(np.sum(np.exp(x), axis=axis, keepdims=keepdims))


REDUCTIONS = (("sum", normal, None), ("mean", normal, None), ("max", spaced, None), ("min", spaced, None),
              ("prod", nonzero, None), ("logsumexp", normal, logsumexp))  # fmt: skip
for name, draw, ref in REDUCTIONS:
    for settings in AXES:
        line(name, draw(2, 3, 5), ref=ref, **settings)
    line(name, draw(), ref=ref)
    line(name, draw(3, 1), ref=ref, axis=1)
    line(name, draw(0, 3), ref=ref, axis=1)
for settings in (*AXES[:-1], {"correction": 1.0}, {"axis": 1, "correction": 0.5}):  # alone, an element has no spread
    line("var", normal(2, 3, 5), **settings)
    line("std", normal(2, 3, 5), **settings)
for name in ("sum", "prod"):
    line(name, normal(0, 3))
    line(name, normal(0, 3), axis=0)
    line(name, nonzero(2, 3), op=partial(getattr(nb, name), dtype="float64"), dtype="float64")
line("cumulative_sum", normal(5))
for settings in ({"axis": 1}, {"axis": -1, "include_initial": True}):
    line("cumulative_sum", normal(2, 3, 5), **settings)
line("cumulative_sum", normal(2, 0), axis=1)

# -- shapes ---------------------------------------------------------------------------------------------------------

for old, new in (((2, 3, 5), (6, 5)), ((2, 3), (-1,)), ((2, 3, 5), (2, -1, 5, 1)), ((), (1, 1)), ((0, 3), (3, 0))):
    line("reshape", normal(*old), shape=new, view=True)
line("reshape", normal(2, 3), op=lambda x: nb.reshape(x, (3, 2), copy=True), ref=lambda x: x.reshape(3, 2))
for axes in ((2, 0, 1), (-2, -1, 0)):
    line("permute_dims", normal(2, 3, 5), axes=axes, view=True)
line("permute_dims", normal(), axes=(), view=True)
line("matrix_transpose", normal(2, 3, 5), view=True)
line("moveaxis", normal(2, 3, 5), source=0, destination=-1, view=True)
line("moveaxis", normal(2, 3, 5), source=(0, 1), destination=(2, 0), view=True)
for old, new in (((3, 1), (2, 3, 5)), ((), (2, 1)), ((3, 1), (3, 0))):
    line("broadcast_to", normal(*old), shape=new, view=True)
for shape, axis in (((2, 3), 1), ((2, 3), -1), ((), 0)):
    line("expand_dims", normal(*shape), axis=axis, view=True)
for axis in (1, (1, -1)):
    line("squeeze", normal(2, 1, 3, 1), axis=axis, view=True)
for axis in (None, 1, (0, -1)):
    line("flip", normal(2, 3, 5), axis=axis, view=True)
for shift, axis in ((2, None), (-1, 1), ((1, 2), (0, -1)), (1, (0, 2)), ((1, 1), (1, 1))):
    line("roll", normal(2, 3, 5), shift=shift, axis=axis)
for repeats, axis in ((2, None), (3, 1), (2, -1), (0, 0)):
    line("repeat", normal(2, 3, 5), repeats=repeats, axis=axis)
for shape, counts, axis in (((2, 3), whole(4, 6), None), ((2, 3, 5), whole(3, 3), 1), ((2, 3, 5), whole(3, 1), -1)):
    line("repeat", normal(*shape), counts, axis=axis)
for repetitions in ((2,), (3, 1, 2), (2, 1, 1, 3), (0, 1, 1)):
    line("tile", normal(2, 3, 5), repetitions, op=lambda x, r: nb.tile(x, repetitions=r))
for widths in (((1, 2), (0, 1)), ((0, 0), (0, 3)), ((0, 0), (0, 0))):
    line("pad", normal(2, 3), op=nb.pad, ref=lambda x, widths: np.pad(x, widths), widths=widths)
line("pad", normal(3), op=nb.pad, ref=lambda x, widths, value: np.pad(x, widths, constant_values=value),
     widths=((2, 0),), value=1.5)  # fmt: skip


def listed(f: Callable[..., Any]) -> Callable[..., Any]:
    """A function of a list of arrays as one of several arrays."""
    return lambda *arrays, **kw: f(list(arrays), **kw)


concat, stack = {"op": listed(nb.concat), "ref": listed(np.concat)}, {"op": listed(nb.stack), "ref": listed(np.stack)}
line("concat", normal(2, 3, 5), normal(4, 3, 5), axis=0, **concat)
line("concat", normal(2, 3, 5), normal(2, 1, 5), normal(2, 0, 5), axis=-2, **concat)
line("concat", normal(2, 3), normal(5), axis=None, **concat)
line("concat", normal(2, 3), axis=0, **concat)
line("stack", normal(2, 3), normal(2, 3), axis=0, **stack)
line("stack", normal(2, 3), normal(2, 3), normal(2, 3), axis=-1, **stack)
line("stack", normal(), normal(), axis=0, **stack)


def parts(f: Callable[..., Any], used: slice, **settings: Any) -> Callable[..., Any]:
    """Some of the results of a function that has several."""

    def chosen(x: Any) -> Any:
        some = f(x, **settings)[used]
        return some[0] if len(some) == 1 else some[0] * some[1] + some[-1]

    return chosen


def np_split(x: Any, sections: Any, axis: int = 0) -> Any:
    at = range(sections, x.shape[axis], sections) if isinstance(sections, int) else np.cumsum(sections)[:-1]
    return np.split(x, at, axis=axis)


for name, ref, shape, used, settings in (
    ("split", np_split, (2, 6, 5), slice(None), {"sections": 2, "axis": 1}),
    ("split", np_split, (2, 5), slice(2, 3), {"sections": 2, "axis": -1}),
    ("split", np_split, (2, 5), slice(1, 2), {"sections": (1, 4, 0), "axis": 1}),
    ("split", np_split, (4, 3), slice(0, 1), {"sections": (4,)}),
    ("unstack", np.unstack, (3, 2, 5), slice(None), {}),
    ("unstack", np.unstack, (2, 3, 5), slice(1, 2), {"axis": -1}),
):
    op = parts(getattr(nb, name), used, **settings)
    line(name, normal(*shape), op=op, ref=parts(ref, used, **settings), view=True)

# -- picking and sorting --------------------------------------------------------------------------------------------

for key in (
    (slice(1, None), ...), (..., slice(None, None, -2)), (slice(3, 0, -1), 1, ...), (0, ...), (-1, 2, 0), (..., None),
    (None, 1, slice(None), None, -1), (slice(2, 2), ...), (...,),
):  # fmt: skip
    line("getitem", normal(4, 3, 5), both=lambda x, key: x[key], key=key, view=True)
line("getitem", normal(4, 3, 5), both=lambda x: x[1:3], view=True, strict=False)
line("getitem", normal(5), whole(5, 2, 4, negative=True), both=lambda x, i: x[i])
line("getitem", normal(5), whole(5, 7, dtype="uint8"), both=lambda x, i: x[i])
line("getitem", normal(40, 30), whole(40, 50, dtype="int8"), whole(30, 50, negative=True), both=lambda x, i, j: x[i, j])
line("getitem", normal(4, 3, 5), whole(4, 7, negative=True), both=lambda x, i: x[i], strict=False)
line("getitem", normal(4, 3, 5), whole(4, 7, 1), whole(3, 2), both=lambda x, i, j: x[i, j], strict=False)
line("getitem", normal(4, 3, 5), whole(5, 7), both=lambda x, i: x[..., i], strict=False)
line("getitem", normal(4, 3, 5), whole(3, 7, negative=True), both=lambda x, i: x[1:, i, ::2], strict=False)
line("getitem", normal(4, 3, 5), whole(4, 3), whole(5, 3), both=lambda x, i, j: x[i, :, j], strict=False)
line("getitem", normal(4, 3), both=lambda x: x[[0, 2, 0]], strict=False)
line("getitem", normal(4, 3), mask(4, 3), both=lambda x, m: x[m])
line("getitem", normal(4, 3), mask(4), both=lambda x, m: x[m], strict=False)
line("getitem", normal(4, 3), mask(4), whole(3, 2), both=lambda x, m, i: x[m, i], strict=False)
line("place", normal(2, 3), op=lambda dy: place(dy, (slice(1, 4, 2), ...), (4, 3)),
     ref=lambda dy: np.insert(dy, [0, 1], 0, axis=0))  # fmt: skip


def assigned(x: Any, value: Any, *key: Any, k: Any = None) -> Any:
    y = nb.positive(x)
    y[key[0] if key else k] = value
    return y


for key, shape in (((slice(1, 3), ...), (2, 3)), ((0, ...), ()), ((..., slice(None, None, -1)), (4, 1)), ((-1, 1), ())):
    line("setitem", normal(4, 3), normal(*shape), both=assigned, k=key)
line("setitem", normal(4, 3), 2.5, both=assigned, k=(..., 1))
line("setitem", normal(4, 3), normal(1, 1, 3), both=assigned, k=(slice(0, 2), ...), strict=False)
line("setitem", normal(4, 3), normal(), mask(4, 3), both=assigned)
line("setitem", normal(4, 3), normal(2, 3), mask(4), both=assigned, strict=False)
line("setitem", normal(4, 3), normal(2, 3), Draw((2,), lambda rng, s: np.array([2, 0])), both=assigned, strict=False)

for index in (whole(4, 7), whole(4, 2, 3, negative=True), whole(4), whole(4, 0), whole(4, 9, dtype="uint8")):
    line("gather", normal(4, 3), index, ref=lambda x, i: x[i])
line("gather", normal(400, 2), whole(100, 9, dtype="int8"), ref=lambda x, i: x[i])
line("gather", normal(4), whole(4, 7), ref=lambda x, i: x[i])
line("gather", normal(4, 3, 2), whole(4, 7, dtype="int32"), ref=lambda x, i: x[i])


def np_scatter_add(dy: Any, index: Any, rows: int) -> Any:
    out = np.zeros((rows, *dy.shape[index.ndim :]))
    np.add.at(out, index, dy)
    return out


for shape, index in (((7, 3), whole(4, 7)), ((2, 3), whole(4, 2, 3, negative=True)), ((0, 3), whole(4, 0))):
    line("scatter_add", normal(*shape), index, 4, ref=np_scatter_add)
line("one_hot", whole(4, 2, 3), ref=lambda i, classes: np.eye(classes)[i], classes=4, dtype="float32")
for index, axis in (
    (whole(3, 4, negative=True), 1), (whole(5, 7), -1), (whole(2, 0), 0), (whole(2, 3, dtype="int8"), 0),
):  # fmt: skip
    line("take", normal(2, 3, 5), index, axis=axis)
line("take", normal(5), whole(5, 7, dtype="uint8"))
for x, index, axis in (
    (normal(2, 3, 5), whole(3, 2, 4, 5, negative=True), 1), (normal(2, 3), whole(3, 2, 7), -1),
    (normal(5), whole(5, 7), 0), (normal(2, 3, 5), whole(3, 1, 4, 5), 1), (normal(1, 3, 5), whole(5, 2, 3, 4), 2),
    (normal(9, 40), whole(40, 9, 2, dtype="uint8"), 1), (normal(2, 3), whole(3, 2, 0), 1),
    (normal(0, 3), whole(3, 0, 2), 1),
):  # fmt: skip
    line("take_along_axis", x, index, axis=axis)
line("where", mask(2, 3), normal(2, 3), normal(2, 3))
line("where", mask(3, 1), normal(2, 3, 5), normal(5))
line("where", mask(2, 3, 5), normal(3, 1), 0.5)
line("where", mask(2, 3), 0.5, normal())
line("where", mask(0, 3), normal(0, 3), normal(1))
line("masked_fill", normal(2, 3, 5), mask(3, 1), -2.0, ref=lambda x, m, v: np.where(m, v, x))
line("masked_fill", normal(3, 1), mask(2, 3, 5), normal(), ref=lambda x, m, v: np.where(m, v, x))
for settings in ({}, {"axis": 0}):
    line("sort", spaced(2, 3, 5), **settings)
line("sort", spaced(2, 3, 5), axis=1, descending=True, ref=lambda x, axis, descending: -np.sort(-x, axis=axis))
line("sort", spaced(0, 3), axis=0)
for settings in ({}, {"axis": 0}, {"descending": True}, {"axis": 1, "descending": True}):
    line("argsort", spaced(2, 3, 5), op=lift(picking.argsort, differentiable=False), dtype="int64", **settings,
         ref=lambda x, axis=-1, descending=False: np.argsort(-x if descending else x, axis=axis))  # fmt: skip

# -- products -------------------------------------------------------------------------------------------------------

for a, b in (
    ((2, 3), (3, 5)), ((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 5)), ((7, 2, 3), (7, 3, 5)), ((7, 2, 3), (3, 5)),
    ((2, 3), (7, 3, 5)), ((7, 1, 2, 3), (4, 3, 5)), ((1, 2, 3), (7, 3, 5)), ((3,), (7, 3, 5)), ((7, 2, 3), (3,)),
    ((2, 0), (0, 3)), ((0, 2, 3), (3, 5)), ((0, 3), (3,)),
):  # fmt: skip
    line("matmul", normal(*a), normal(*b))
for shape in ((7, 3), (3,), (2, 7, 3), (0, 3), (0, 7, 3), (2, 0, 3)):
    line("linear", normal(*shape), normal(5, 3), ref=lambda x, w: x @ w.T)
    line("linear", normal(*shape), normal(5, 3), normal(5), ref=lambda x, w, b: x @ w.T + b)
line("linear", normal(2, 0), normal(5, 0), normal(5), ref=lambda x, w, b: x @ w.T + b)
line("linear", normal(7, 3), normal(5, 3), None, ref=lambda x, w, b: x @ w.T)
for a, b, axis in (((3,), (3,), -1), ((2, 3, 5), (3, 5), -1), ((2, 3, 5), (2, 3, 1), -2), ((0, 3), (3,), -1)):
    line("vecdot", normal(*a), normal(*b), axis=axis, ref=lambda a, b, axis: np.sum(a * b, axis=axis))
for a, b, axes in (
    ((2, 3, 5), (3, 5, 4), 2), ((2, 3), (3, 5), 1), ((2, 3), (4,), 0), ((2, 3, 5), (5, 4, 2), ((0, -1), (2, 0))),
    ((2, 3), (4, 3), ((1,), (1,))), ((2, 0), (0, 3), 1),
):  # fmt: skip
    line("tensordot", normal(*a), normal(*b), axes=axes)
for subscripts, *shapes in (
    ("ij,jk->ik", (2, 3), (3, 5)), ("bij,bjk->bik", (7, 2, 3), (7, 3, 5)), ("ij,jk", (2, 3), (3, 5)),
    ("i,j->ij", (2,), (3,)), ("ii->i", (3, 3)), ("ii", (3, 3)), ("iji->j", (3, 2, 3)), ("iii->i", (3, 3, 3)),
    ("ii,i->i", (3, 3), (3,)), ("ij->ji", (2, 3)), ("ba", (2, 3)), ("ijk->k", (2, 3, 5)), ("ij->", (2, 3)),
    ("i,i->", (3,), (3,)), ("i,i->i", (3,), (3,)), ("ij,jk,kl->il", (2, 3), (3, 5), (5, 4)), (",ij->ij", (), (2, 3)),
    ("a,ab,abc->c", (2,), (2, 3), (2, 3, 5)), ("ij,kj,lj->ikl", (2, 3), (4, 3), (5, 3)), ("ij,kl->jl", (2, 3), (4, 5)),
    ("bhqd,bhkd->bhqk", (2, 3, 4, 5), (2, 3, 7, 5)), ("ij,j->i", (0, 3), (3,)),
):  # fmt: skip
    both = {"op": partial(nb.einsum, subscripts), "ref": partial(np.einsum, subscripts)}
    line("einsum", *(normal(*shape) for shape in shapes), **both, view=len(shapes) == 1)

# -- the other rooms --------------------------------------------------------------------------------------------------

for room in (
    "conv",
    "rearrange",
    "pool",
    "resample",
    "norm",
    "embedding",
    "recurrent",
    "attention",
    "distance",
    "loss",
    "loss_margin",
    "linalg",
    "numerics",
):
    import_module(f"op_table_{room}")
