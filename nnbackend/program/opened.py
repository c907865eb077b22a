"""Programs for people: what is one kernel on a GPU, in the array functions that specify it."""

from __future__ import annotations

import inspect
import math
from typing import Any

from ..backend import PRIMITIVES, Backend
from ..recorder import recorder
from .graph import HOLE, Node, Program, called
from .handles import OPEN
from .number import Number
from .trace import Trace


def opened(program: Program) -> None:
    """In place: each open primitive becomes the nodes that its specification records."""
    while any(n.op in OPEN for n in program.nodes):
        _open(program)


def _open(program: Program) -> None:
    new: dict[Node, Node] = {}
    several: dict[Node, list[Node]] = {}
    nodes: list[Node] = []
    for n in program.nodes:
        if n.op in OPEN:
            _all_kept(n, several)
        n.inputs = tuple([new.get(i, i) for i in n.inputs])
        if n.op == "part" and n.inputs[0] in several:
            result = several[n.inputs[0]][n.args[1]]
            made = _summed(result, n.shape)
            nodes += made
            new[n] = made[-1] if made else result
            new[n].label = new[n].label or n.label
        elif n.op in OPEN:
            made, results = _specified(n, program.library)
            nodes += made
            if n.dtype is None:
                several[n] = results
            else:
                new[n] = results[0]
                new[n].label = n.label
        else:
            nodes.append(n)
    for n in nodes:
        if isinstance(n.label, tuple):
            n.label = n.label[0], new.get(n.label[1], n.label[1])
    program.nodes = nodes
    program.rewire(lambda n: new.get(n, n))


def _all_kept(n: Node, several: dict[Node, list[Node]]) -> None:
    """A way back gets at its end what its specification keeps, not what a kernel does."""
    parts = [i for i in n.inputs if i.op == "part" and i.inputs[0] in several and i.args[1] > 0]
    if parts and n.args[-1] is HOLE and list(n.inputs[-len(parts) :]) == parts:
        kept = several[parts[0].inputs[0]][1:]
        n.inputs = (*n.inputs[: -len(parts)], *kept)
        n.args = (*n.args[: -len(parts)], *(HOLE,) * len(kept))


def _summed(x: Node, shape: tuple[int, ...]) -> list[Node]:
    """What sums a value to a shape that broadcasts to its own, as kernels do with gradients of weights, if need be."""
    more = len(x.shape) - len(shape)
    axes = tuple(a for a, m in enumerate(x.shape) if a < more or (shape[a - more] == 1 < m))
    kept = tuple(m for a, m in enumerate(x.shape) if a not in axes)
    if not axes or math.prod(kept) != math.prod(shape):
        return []
    total = Node("sum", (x,), (HOLE,), {"axis": axes, "keepdims": False}, kept, x.dtype, scope=x.scope)
    return [total, Node("reshape", (total,), (HOLE, shape), {}, shape, x.dtype, scope=x.scope)]


def _specified(n: Node, library: Backend) -> tuple[list[Node], list[Node]]:
    """The nodes of a specification, and those of its results."""
    trace, spec = Trace(library), inspect.unwrap(PRIMITIVES[n.op])
    trace.path = n.scope
    given = [Number(trace, 1.0, i) if i.host else trace.kind(trace, _like(i, library), i) for i in n.inputs]
    token = recorder.set(trace)
    try:
        y = spec(*called(n, given)[0])
    finally:
        recorder.reset(token)
    results = [_node(r, trace) for r in (y if isinstance(y, tuple | list) else [y])]
    trace.open = False
    return trace.nodes, results


def _like(n: Node, library: Backend) -> Any:
    """Some array like a value: only shapes and dtypes matter."""
    return library.xp.zeros(n.shape, dtype=n.dtype)


def _node(r: Any, trace: Trace) -> Node:
    """That of a result, which may be an argument, or an array that the specification has made."""
    if type(r) is not trace.kind:
        return trace.emit("const", (), (), {}, r, held=r)
    node: Node = r.node
    return node if node in trace.nodes else trace.emit("copy", (node,), (HOLE,), {}, r)
