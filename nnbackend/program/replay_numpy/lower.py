"""A program in the calls that NumPy does fastest: primitives as ufuncs, and what always comes together as one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np

from ...backend.numpy_backend import LOGISTIC
from ...backend.numpy_blas import LONG
from ..graph import HOLE, Node, Program
from ..simplify import dead, shared

MANY = 16  # times as many elements, so that a division for each costs more than a reciprocal and a product
BLAS = frozenset(map(np.dtype, ("float32", "float64")))


def lowered(program: Program) -> Program:
    """In place: fewer and cheaper calls. Sums may be taken in another order, which changes the last bits."""
    uses = program.uses()
    nodes: list[Node] = []
    new: dict[Node, Node] = {}
    for n in program.nodes:
        n.inputs = tuple([new.get(i, i) for i in n.inputs])
        rule = None if n.host else RULES.get(n.op)
        parts = [n] if rule is None else list(rule(n, uses))
        parts[-1].label = n.label
        for part in parts:
            part.scope = n.scope
            uses.setdefault(part, uses[n] if part is parts[-1] else 1)
        nodes += parts
        new[n] = parts[-1]
    program.nodes = nodes
    program.rewire(lambda n: new[n])
    shared(program)
    dead(program)
    return program


Rule = Callable[[Node, dict[Node, int]], Iterator[Node]]


def _logistic(n: Node, uses: dict[Node, int]) -> Iterator[Node]:
    """The steps of `numpy_backend.logistic`, each on the result of the one before."""
    x = n.inputs[0]
    if n.dtype not in LOGISTIC or not n.shape:
        yield n
        return
    lowest, one = LOGISTIC[n.dtype]
    for op, args in (("maximum", (HOLE, lowest)), ("negative", (HOLE,)), ("exp", (HOLE,)), ("add", (HOLE, one))):
        x = n.replaced(op, (x,), args)
        yield x
    yield n.replaced("reciprocal", (x,), (HOLE,))


def _multiply(n: Node, uses: dict[Node, int]) -> Iterator[Node]:
    """A change of sign comes last, where it may meet fewer elements, or another one."""
    operands = n.operands()
    positive = [_positive(x, uses) for x in operands]
    if operands == positive:
        yield n
        return
    inputs = [x for x in positive if isinstance(x, Node)]
    product = n.replaced(n.op, inputs, n.args)
    yield product
    if sum(x is not p for x, p in zip(operands, positive, strict=True)) == 1:
        yield n.replaced("negative", (product,), (HOLE,))


def _divide(n: Node, uses: dict[Node, int]) -> Iterator[Node]:
    """Many elements divided by few numbers are multiplied by their reciprocals."""
    a, b = n.operands()
    arrays = isinstance(a, Node) and isinstance(b, Node) and n.dtype in BLAS and a.dtype == b.dtype and not b.host
    if arrays and math.prod(n.shape) >= MANY * max(1, math.prod(b.shape)):
        once = Node("reciprocal", (b,), (HOLE,), {}, b.shape, b.dtype)
        yield once
        n = n.replaced("multiply", (a, once), (HOLE, HOLE))
    yield from _multiply(n, uses)


def _add(n: Node, uses: dict[Node, int]) -> Iterator[Node]:
    """Adding a negative is subtracting; many multiples of two arrays are added in one call."""
    a, b = n.operands()
    positive = _positive(b, uses)
    if positive is not b:
        yield n.replaced("subtract", [x for x in (a, positive) if isinstance(x, Node)], n.args)
    elif n.dtype in BLAS and math.prod(n.shape) >= LONG:
        yield _axpby(n, _multiple(a, n, uses), _multiple(b, n, uses)) or n
    else:
        yield n


def _subtract(n: Node, uses: dict[Node, int]) -> Iterator[Node]:
    """Many multiples of an array are taken from another in one call."""
    a, b = n.operands()
    if n.dtype in BLAS and math.prod(n.shape) >= LONG:
        yield _axpby(n, _multiple(a, n, uses), _multiple(b, n, uses)) or n
    else:
        yield n


def _axpby(n: Node, first: Multiple | None, second: Multiple | None) -> Node | None:
    """`n` as b y + a x, or b y - a x, unless that is b y + x with nothing to multiply."""
    if first is None or second is None or first[0] is second[0] is None:
        return None
    (b, y), (a, x) = first, second
    sign = 1.0 if n.op == "add" else -1.0
    args = tuple(HOLE if isinstance(k, Node) else k for k in (a, x, b, y))
    return n.replaced("axpby", [k for k in (a, x, b, y) if isinstance(k, Node)], (*args, sign))


Multiple: TypeAlias = tuple[Any, Node]  # a factor, or None, and what it multiplies


def _multiple(x: Any, n: Node, uses: dict[Node, int]) -> Multiple | None:
    """An operand of `n` as a multiple of an array like `n`."""
    if not isinstance(x, Node) or x.host or (x.shape, x.dtype) != (n.shape, n.dtype):
        return None
    if x.op == "multiply" and uses.get(x) == 1:
        for factor, array in (x.operands(), x.operands()[::-1]):
            number = not isinstance(factor, Node) or factor.host
            if number and isinstance(array, Node) and (array.shape, array.dtype) == (n.shape, n.dtype):
                return factor, array
    return None, x


def _positive(x: Any, uses: dict[Node, int]) -> Any:
    """What has been negated for this use only."""
    return x.inputs[0] if isinstance(x, Node) and x.op == "negative" and not x.host and uses.get(x) == 1 else x


def _mean(n: Node, uses: dict[Node, int]) -> Iterator[Node]:
    """The sum over the count."""
    x = n.inputs[0]
    if n.dtype not in BLAS or "dtype" in n.kw:
        yield n
        return
    *_, total = parts = list(_sum(n.replaced("sum", (x,), (HOLE,), **n.kw), uses))
    yield from parts
    yield n.replaced("divide", (total,), (HOLE, float(math.prod(x.shape) // max(1, math.prod(n.shape)))))


def _sum(n: Node, uses: dict[Node, int]) -> Iterator[Node]:
    """Sums of products, and of columns, are products of vectors and matrices."""
    x, axis = n.inputs[0], n.kw["axis"]
    if n.dtype in BLAS and (positive := _positive(x, uses)) is not x:
        *_, total = parts = list(_sum(n.replaced("sum", (positive,), (HOLE,), **n.kw), uses))
        yield from parts
        yield n.replaced("negative", (total,), (HOLE,))
        return
    if n.dtype in BLAS and x.dtype == n.dtype and "dtype" not in n.kw:
        if x.op == "multiply" and uses[x] == 1 and not n.shape and _alike(x) and x.shape:
            a, b = x.operands()
            yield n.replaced("vdot", (a, b), (HOLE, HOLE))
            return
        if axis in (0, (0,)) and len(x.shape) == 2 and not n.kw["keepdims"] and x.shape[0]:
            yield n.replaced("column_sum", (x,), (HOLE,))
            return
        if len(x.shape) > 1 and axis in (-1, (-1,), len(x.shape) - 1, (len(x.shape) - 1,)) and x.shape[-1]:
            yield from _row_dot(n, x, uses)
            return
    yield n


def _row_dot(n: Node, x: Node, uses: dict[Node, int]) -> Iterator[Node]:
    """The sum of each row is its product with another, or with ones: shape (..., 1)."""
    if x.op == "multiply" and uses.get(x) == 1 and _alike(x):
        a, b = x.operands()
    else:
        ones = np.ones(x.shape[-1], x.dtype)
        a, b = x, Node("const", (), (), {}, ones.shape, ones.dtype, value=ones)
        yield b
    dot = Node("row_dot", (a, b), (HOLE, HOLE), {}, (*x.shape[:-1], 1), n.dtype)
    yield dot
    if dot.shape != n.shape:
        yield n.replaced("reshape", (dot,), (HOLE, n.shape))


def _alike(product: Node) -> bool:
    return all(isinstance(x, Node) and (x.shape, x.dtype) == (product.shape, product.dtype) for x in product.operands())


def _matmul(n: Node, uses: dict[Node, int]) -> Iterator[Node]:
    """For matrices `dot` does the same with less ado."""
    a, b = n.inputs
    flat = len(a.shape) == len(b.shape) == 2 and n.dtype in BLAS and a.dtype == b.dtype == n.dtype
    yield n.replaced("dot", n.inputs, n.args) if flat else n


def _uniform_like(n: Node, uses: dict[Node, int]) -> Iterator[Node]:
    """Only the shape and the dtype of its first argument matter."""
    if n.dtype not in BLAS:
        yield n
        return
    yield n.replaced("uniform", n.inputs[1:], n.args[1:])


RULES: dict[str, Rule] = {
    "add": _add,
    "divide": _divide,
    "logistic": _logistic,
    "mean": _mean,
    "multiply": _multiply,
    "subtract": _subtract,
    "sum": _sum,
    "matmul": _matmul,
    "uniform_like": _uniform_like,
}


def elementwise(n: Node) -> bool:
    """Whether a node is computed element by element: any block of it from the same block of its inputs."""
    return not n.host and (n.op in ("astype", "where", "axpby") or ufunc(n.op) is not None)


def ufunc(op: str) -> Any:
    """NumPy's element-wise function of that name, if it is one."""
    fn = getattr(np, op, None)
    return fn if isinstance(fn, np.ufunc) and fn.signature is None and fn.nout == 1 else None
