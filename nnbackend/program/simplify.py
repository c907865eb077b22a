"""Passes that make a program shorter and leave its results the same, to the last bit. Each changes it in place."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from ..backend import NUMPY, backend_of
from .graph import HOLE, LEAVES, VIEWS, Node, Program
from .interpret import apply

MAKERS = frozenset({"arange", "eye", "full", "linspace", "ones", "zeros"})  # arrays from nothing
UNFOLDED = LEAVES | {"check", "empty", "part", "words_like", "uniform_like", "integers_like"}


def simplified(program: Program) -> Program:
    """A copy of the program without what is not needed, constant, or the same as something else."""
    program = program.copy()
    before = None
    while before != len(program.nodes):
        before = len(program.nodes)
        for simplify in (dead, folded, eased, shared, dead):
            simplify(program)
    return program


def dead(program: Program) -> None:
    """Drop what no result depends on. Inputs and checks stay."""
    live, kept = set(program.results()), []
    for n in reversed(program.nodes):
        if n in live or n.op in ("input", "check"):
            kept.append(n)
            live.update(n.inputs)
    program.nodes = kept[::-1]


def folded(program: Program) -> None:
    """Compute now what depends on constants that the step itself has made; arrays from outside may change."""
    constant: set[Node] = set()

    def fold(n: Node) -> Node:
        if n.op == "number" or (n.op == "const" and not n.kw):
            constant.add(n)
        elif n.op in MAKERS or (n.inputs and n.op not in UNFOLDED and constant.issuperset(n.inputs)):
            value = apply(n, [i.args[0] if i.host else i.value for i in n.inputs], program.library)
            if n.host:
                n = Node("number", args=(value,), host=True, scope=n.scope)
            elif not isinstance(value, tuple | list):
                known = (1.0,) if n.op == "ones" else ()  # without a look at the device
                n = Node("const", args=known, shape=n.shape, dtype=n.dtype, scope=n.scope, value=value)
            constant.add(n)
        return n

    rewritten(program, fold)


def shared(program: Program) -> None:
    """What is computed twice is computed once."""
    table: dict[Any, Node] = {}

    def first(n: Node) -> Node:
        if n.op in LEAVES or n.op == "check":
            return n
        return table.setdefault((n.op, tuple(map(id, n.inputs)), exact((n.args, n.kw)), n.dtype), n)

    rewritten(program, first)


def eased(program: Program) -> None:
    """Drop operations that give back what they get."""
    rewritten(program, _easier)


def rewritten(program: Program, rule: Callable[[Node], Node]) -> None:
    """Put `rule(n)` in the place of each node: itself, an earlier one, or a new one."""
    new: dict[Node, Node] = {}
    nodes: dict[Node, None] = {}  # an ordered set
    for n in program.nodes:
        n.inputs = tuple([new.get(i, i) for i in n.inputs])
        better = new[n] = rule(n)
        if better.label is None:
            better.label = n.label
        nodes[better] = None
    program.nodes = list(nodes)
    for n in nodes:
        if isinstance(n.label, tuple):
            n.label = n.label[0], new.get(n.label[1], n.label[1])
    program.inputs = [new[n] for n in program.inputs]
    program.rewire(lambda n: new[n])


def exact(x: Any) -> Any:
    """Arguments as a key: 1, 1.0 and True are three things."""
    if isinstance(x, tuple | list):
        return (type(x), *map(exact, x))
    if isinstance(x, dict):
        return tuple((name, exact(value)) for name, value in sorted(x.items()))
    if isinstance(x, slice):
        return slice, x.start, x.stop, x.step
    if isinstance(x, float):
        return float, x.hex()
    if type(x).__name__ == "Device":  # CuPy's has no hash
        return type(x), str(x)
    return (type(x), x) if isinstance(x, Hashable) else id(x)


def _easier(n: Node) -> Node:
    if not n.inputs or n.host:
        return n
    x = n.inputs[0]
    if n.op == "copy":
        return x
    if n.op in ("reshape", "broadcast_to", "astype", "positive") and x.shape == n.shape and x.dtype == n.dtype:
        return x
    if n.op == "matrix_transpose" and x.op == "matrix_transpose":
        return x.inputs[0]
    if n.op == "reshape" and x.op == "reshape":
        return n.replaced("reshape", x.inputs, (HOLE, n.shape))
    if n.op == "concat" and len(n.inputs) == 1:
        return n.replaced("reshape", (x,), (HOLE, n.shape))
    if n.op == "part" and x.op == "unstack":
        axis = x.kw.get("axis", 0) % len(x.inputs[0].shape)
        key = (*(slice(None),) * axis, n.args[1]) if axis else n.args[1]
        return n.replaced("getitem", x.inputs, (HOLE, key))
    if n.op == "multiply":
        return _product(n)
    if n.op == "set":
        return _written(n)
    if n.op in VIEWS and x.op == "set" and x.args[1] is HOLE and len(n.inputs) == 1:  # a look at what was just written
        value = x.inputs[1]
        if exact(x.args[2]) == exact((n.op, n.args, n.kw)) and value.shape == n.shape and value.dtype == n.dtype:
            return value
    return n


def _product(n: Node) -> Node:
    a, b = n.operands()
    for factor, other in ((a, b), (b, a)):  # a number has no dtype, which NumPy takes for float64
        if isinstance(other, Node) and not other.host and other.shape == n.shape and other.dtype == n.dtype:
            if _is_one(factor):
                return other
            if isinstance(factor, Node) and factor.op == "astype" and str(factor.inputs[0].dtype) == "bool":
                mask = factor.inputs[0]  # a product casts by itself
                return n.replaced("multiply", [mask if i is factor else i for i in n.inputs], n.args)
    return n


def _is_one(x: Any) -> bool:
    if isinstance(x, Node):
        single = x.op == "const" and not x.kw and not x.shape
        return single and (x.args == (1.0,) or (backend_of(x.value) is NUMPY and float(x.value) == 1.0))
    return bool(x == 1)


def _written(n: Node) -> Node:
    """A write over the whole of an array leaves nothing of the old one."""
    if n.args[1] is not HOLE or exact(n.args[2][1][1:]) not in (exact((...,)), exact((slice(None),))):
        return n
    value = n.inputs[1]
    return value if (value.shape, value.dtype, value.host) == (n.shape, n.dtype, False) else n
