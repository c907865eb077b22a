"""Which nodes of a program become one kernel: element-wise neighbours of one shape, with reductions at their end."""

from __future__ import annotations

from typing import Any, cast

from ...backend.fusion import Constant, Group, Input, Reduction, Step, supported
from ..graph import HOLE, LEAVES, Node, Program, is_view

MOST = 24  # arrays that a kernel reads and writes
LONGEST = 128  # nodes in a kernel, which take time to merge and to compile
REDUCTIONS = frozenset({"sum", "mean", "prod", "max", "min"})
ADDRESSED = frozenset({"uniform_like"})  # only the shape of their first argument matters


class Unit:
    """Nodes that are computed together. `ends` are the reductions among them, all along the same `axes` of `shape`."""

    def __init__(self, n: Node, place: int) -> None:
        self.nodes, self.first, self.last = [n], place, place
        self.fused = elementwise(n) or reduces(n)
        self.ends = {n} if self.fused and reduces(n) else set()
        self.axes = _reduced(n)[1] if self.ends else None
        self.shape = tuple(_reduced(n)[0].shape) if self.ends else tuple(n.shape)

    @property
    def node(self) -> Node:
        """The only one."""
        return self.nodes[0]

    def inputs(self) -> list[Node]:
        """Arrays that it needs from others, each once."""
        inside = set(self.nodes)
        needed = [i for n in self.nodes for i in reads(n) if not i.host and i not in inside]
        return list(dict.fromkeys(needed))

    def numbers(self) -> list[Node]:
        """Numbers from the host, each once."""
        return list(dict.fromkeys(i for n in self.nodes for i in reads(n) if i.host))

    def group(self, outputs: list[Node], strides: list[tuple[int, ...]], kinds: list[type]) -> Group:
        """What the generator makes a kernel of: it stores `outputs`, then the reductions. `kinds` are the numbers'."""
        arrays, numbers = self.inputs(), self.numbers()
        known = {n: i for i, n in enumerate([*arrays, *numbers])}
        steps = []
        for n in self.nodes:
            if n not in self.ends:
                known[n] = len(known)
                steps.append(Step(n.op, tuple(_operand(x, known) for x in _arguments(n)), n.dtype.name))
        ends = [n for n in self.nodes if n in self.ends]
        return Group(
            self.shape,
            tuple(Input(a.dtype.name, s) for a, s in zip(arrays, strides, strict=True)),
            tuple("float" if kind is float else "int" for kind in kinds),
            tuple(steps),
            tuple(known[n] for n in outputs),
            tuple(Reduction(known[_reduced(n)[0]], cast(Any, n.op), self.axes or ()) for n in ends),
        )


def reads(n: Node) -> list[Node]:
    """The inputs of a node, as far as its values depend on them."""
    if reduces(n):
        return [_reduced(n)[0]]
    return list(n.inputs[1:] if n.op in ADDRESSED and elementwise(n) else n.inputs)


def units(program: Program) -> list[Unit]:
    """All that is computed on the device, in an order in which it can be."""
    nodes = [n for n in program.nodes if not n.host and n.op not in LEAVES and n.op != "check"]
    place = {n: i for i, n in enumerate(nodes)}
    merger = _Merger(nodes, place)
    for n in nodes:
        if merger.unit[n].fused:
            for i in reads(n):
                if i in place:
                    merger.merge(merger.unit[i], merger.unit[n])
    return merger.ordered()


class _Merger:
    def __init__(self, nodes: list[Node], place: dict[Node, int]) -> None:
        self.place = place
        self.unit = {n: Unit(n, place[n]) for n in nodes}
        self.users: dict[Node, list[Node]] = {n: [] for n in nodes}
        for n in nodes:
            for i in dict.fromkeys(reads(n)):
                if i in place:
                    self.users[i].append(n)

    def merge(self, a: Unit, b: Unit) -> None:
        """Two neighbours become one, unless a third must come between them."""
        if a is b or not (a.fused and b.fused) or a.shape != b.shape:
            return
        if a.axes is not None and b.axes is not None and a.axes != b.axes:
            return
        if len({n.dtype for n in a.ends | b.ends}) > 1:  # which decides the order in which they are made
            return
        if len(a.nodes) + len(b.nodes) > LONGEST:
            return
        if self._uses_an_end(a, b) or self._uses_an_end(b, a) or self._apart(a, b) or self._apart(b, a):
            return
        if self._arrays(a, b) > MOST:
            return
        for n in b.nodes:
            self.unit[n] = a
        a.nodes = sorted([*a.nodes, *b.nodes], key=self.place.__getitem__)
        a.first, a.last = min(a.first, b.first), max(a.last, b.last)
        a.ends |= b.ends
        a.axes = b.axes if a.axes is None else a.axes

    def _arrays(self, a: Unit, b: Unit) -> int:
        inside = {*a.nodes, *b.nodes}
        stored = sum(any(u not in inside for u in self.users[n]) or not self.users[n] for n in inside)
        return len({*a.inputs(), *b.inputs()} - inside) + stored

    def _uses_an_end(self, a: Unit, b: Unit) -> bool:
        return any(self.unit[u] is b for n in a.ends for u in self.users[n])

    def _apart(self, a: Unit, b: Unit) -> bool:
        """Whether something needs a, and b needs that."""
        seen, stack = {a, b}, [a]
        while stack:
            u = stack.pop()
            for n in u.nodes:
                for user in self.users[n]:
                    v = self.unit[user]
                    if v is b and u is not a:
                        return True
                    if v not in seen and v.first < b.last:
                        seen.add(v)
                        stack.append(v)
        return False

    def ordered(self) -> list[Unit]:
        """Each as early as the program has it, after all that it needs."""
        done: set[Unit] = set()
        order: list[Unit] = []
        for start in sorted(set(self.unit.values()), key=lambda u: u.last):
            stack = [start]
            while stack:
                u = stack[-1]
                needed = [self.unit[i] for n in u.nodes for i in reads(n) if i in self.place]
                missing = [v for v in needed if v is not u and v not in done]
                if missing:
                    stack += missing
                    continue
                stack.pop()
                if u not in done:
                    done.add(u)
                    order.append(u)
        return order


def elementwise(n: Node) -> bool:
    """Whether the generator can do it, element by element."""
    if n.host or n.dtype is None or n.op in LEAVES or is_view(n) or n.kw or 0 in n.shape:
        return False
    kinds = []
    for x in _arguments(n):
        if isinstance(x, Node) and (x.host or x.dtype is not None):
            kinds.append("float" if x.host else x.dtype.name)
        elif isinstance(x, bool | int | float):
            kinds.append("int" if isinstance(x, int) else "float")
        else:
            return False
    return supported(n.op, tuple(kinds), n.dtype.name)


def reduces(n: Node) -> bool:
    """Whether it may be the end of a group."""
    if n.op not in REDUCTIONS or n.dtype is None or n.kw.keys() - {"axis", "keepdims"} or 0 in n.inputs[0].shape:
        return False
    return bool(n.dtype == n.inputs[0].dtype and n.dtype.kind == "f" and _reduced(n)[1])


def _reduced(n: Node) -> tuple[Node, tuple[int, ...]]:
    """What is reduced along which axes. The rows of a stack, seen as one matrix, are the stack's own."""
    x, axis = n.inputs[0], n.kw.get("axis")
    count = len(x.shape)
    axes = tuple(range(count)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    axes = tuple(sorted(a % count for a in axes)) if count else ()
    if x.op == "reshape" and axes == (0,):
        whole = x.inputs[0]
        leading = len(whole.shape) - count + 1
        if leading > 0 and tuple(whole.shape[leading:]) == tuple(x.shape[1:]) and 0 not in whole.shape:
            return whole, tuple(range(leading))
    return x, axes


def _arguments(n: Node) -> list[Any]:
    """What a step works on: nodes and plain numbers."""
    given = iter(n.inputs)
    found = [next(given) if a is HOLE else a for a in n.args]
    if n.op in ADDRESSED:
        return [*found[1:], *[0] * (5 - len(found))]
    return found[:1] if n.op == "astype" else found


def _operand(x: Any, known: dict[Node, int]) -> int | Constant:
    return known[x] if isinstance(x, Node) else Constant(x)
