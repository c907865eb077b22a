"""A program as people would write it down: simplified, without bookkeeping, one update for each parameter."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from .graph import HOLE, Node, Program
from .names import of_cell, storage
from .opened import opened
from .simplify import dead, simplified

ELEMENTWISE = frozenset({
    "add", "subtract", "multiply", "divide", "negative", "abs", "sign", "sqrt", "square", "maximum", "minimum",
})  # fmt: skip
MOST_PARAMETERS, LONGEST_RULE = 8, 4  # an update of a flat buffer is split up to here


class Piece(NamedTuple):
    """The part of a flat cell that belongs to one parameter."""

    array: Any


def plain(program: Program) -> Program:
    """A copy to be printed. What leaves it, results and new contents, is never a view of a state."""
    twin = program.copy()
    twin.nodes = [n for n in twin.nodes if n.op != "check"]
    opened(twin)
    _forget_gradients(twin)
    for n in twin.nodes:
        _flatten(n)
    twin = simplified(twin)
    _stop_counting(twin)
    for flat in [n for n in twin.nodes if n.op == "state" and len(n.shape) == 1]:
        _split(twin, flat)
    _detach(twin)
    _begin(twin)
    return twin


def _begin(program: Program) -> None:
    """Have a leaf for each cell that gets new contents, also for those that are not read."""
    leaves = {id(n.value) for n in program.nodes if n.op in ("state", "scalar")}
    for op, pairs in (("state", program.updates), ("scalar", program.numbers)):
        for cell, n in pairs:
            if id(cell) not in leaves:
                program.nodes.insert(
                    0, Node(op, (), (), {}, n.shape, n.dtype, n.host, n.scope, cell, cell.name or None)
                )


def _flatten(n: Node) -> None:
    """A write over the whole of an array in another shape is another shape of what is written."""
    if n.op == "set" and n.args[1] is HOLE and n.args[2][0] == "reshape" and len(n.inputs) == 2:
        value = n.inputs[1]
        if value.dtype == n.dtype and value.shape == n.args[2][1][1]:
            n.op, n.inputs, n.args = "reshape", (value,), (HOLE, n.shape)


def _forget_gradients(program: Program) -> None:
    """Do without the gradients left in `.grad`, unless the program begins with those."""
    homes = {id(g.home) for g in program.gradients if g.home is not None}
    others = [(cell, n) for cell, n in program.updates if id(cell) not in homes]
    asked = [*program.outputs, *(n for _, n in others), *(n for _, n in program.numbers)]
    read: set[int] = set()
    while True:
        more = [n for cell, n in program.updates if id(cell) in homes & read]
        seen = {id(n.value) for n in reached([*asked, *more]) if n.op == "state"}
        if seen == read:
            break
        read = seen
    program.updates = [(cell, n) for cell, n in program.updates if id(cell) not in homes or id(cell) in read]


def _stop_counting(program: Program) -> None:
    """Do without numbers that serve for nothing but their own next value."""
    for scalar, _ in list(program.numbers):
        others = [(s, n) for s, n in program.numbers if s is not scalar]
        asked = [*program.outputs, *(n for _, n in program.updates), *(n for _, n in others)]
        if not any(n.op == "scalar" and n.value is scalar for n in reached(asked)):
            program.numbers = others
    dead(program)


def reached(results: Iterable[Node]) -> set[Node]:
    """All that the results depend on."""
    seen, stack = set(), list(results)
    while stack:
        n = stack.pop()
        if n not in seen:
            seen.add(n)
            stack += n.inputs
    return seen


def _detach(program: Program) -> None:
    """Copy results and new contents that are views of a state, or the same as others."""
    program.updates = [(cell, n) for cell, n in program.updates if n.op != "state" or n.value is not cell]
    changed = {n for _, n in program.updates}
    taken: set[Node] = set()

    def outputs(n: Node) -> Node:
        return _copied(program, n) if storage(n).op == "state" or storage(n) in changed else n

    def contents(n: Node) -> Node:
        aliased = storage(n).op in ("state", "scalar") or n in taken
        taken.add(n)
        return _copied(program, n) if aliased else n

    results = [outputs(n) for n in program.outputs]
    program.updates = [(cell, contents(n)) for cell, n in program.updates]
    program.numbers = [(scalar, contents(n)) for scalar, n in program.numbers]
    program.outputs = results


def _copied(program: Program, n: Node) -> Node:
    copy = Node("copy", (n,), (HOLE,), {}, n.shape, n.dtype, n.host, n.scope)
    program.nodes.insert(program.nodes.index(n) + 1, copy)
    return copy


# -- flat updates, one by one ---------------------------------------------------------------------------------------


def _split(program: Program, flat: Node) -> None:
    """One variable for each parameter that a flat buffer holds, if its update can be split without getting long."""
    if flat not in program.nodes:  # it was split with another
        return
    new = next((n for cell, n in program.updates if cell is flat.value), None)
    views = [n for n in program.nodes if of_cell(n) and n is not flat and storage(n) is flat]
    parts = {bounds: n for n in views if (bounds := _bounds(n)) is not None}
    users = _users(program)
    rule = [flat] if new is None else _rule(new, users)
    if not rule or not parts or len(parts) < len(views) or not all(_known(n, flat, users, rule, parts) for n in rule):
        return
    if new is None or _splits(program, rule, flat, parts):
        _replace(program, rule, flat, [(*bounds, parts[bounds]) for bounds in sorted(parts)])


def _splits(program: Program, rule: list[Node], flat: Node, parts: dict[tuple[int, int], Node]) -> bool:
    """Whether the update is a short rule, and the gradients in it are those of the parts."""
    joined = [n for n in rule if n.op == "concat"]
    return (
        flat in rule
        and len(parts) <= MOST_PARAMETERS
        and sum(bool(n.inputs) for n in rule) - len(joined) <= LONGEST_RULE
        and _covers(sorted(parts), flat.shape[0])
        and all([g.shape for g in n.inputs] == [parts[bounds].shape for bounds in sorted(parts)] for n in joined)
        and _kept_in(program, rule)
    )


def _users(program: Program) -> dict[Node, list[Node]]:
    users: dict[Node, list[Node]] = {n: [] for n in program.nodes}
    for n in program.nodes:
        for i in n.inputs:
            users[i].append(n)
    return users


def _rule(new: Node, users: dict[Node, list[Node]]) -> list[Node] | None:
    """All that is as long as the new contents and leads to it, in order; None if it is not element by element."""
    found, stack = set(), [new]
    while stack:
        n = stack.pop()
        if n in found or n.host or not n.shape:
            continue
        if n.shape != new.shape or not (
            n.op in ELEMENTWISE or n.op == "state" or (n.op == "concat" and n.kw.get("axis", 0) is None)
        ):
            return None
        found.add(n)
        stack += n.inputs if n.op in ELEMENTWISE else ()
    return [n for n in users if n in found]


def _bounds(n: Node) -> tuple[int, int] | None:
    """Which elements of a flat buffer a parameter has."""
    view = n.inputs[0] if n.op == "reshape" else n
    key = view.args[1] if view.op == "getitem" and len(view.inputs) == 1 else None
    return (key.start, key.stop) if isinstance(key, slice) and key.step is None else None


def _covers(ends: list[tuple[int, int]], size: int) -> bool:
    """Whether the parts make up the whole."""
    return [0, *(stop for _, stop in ends)] == [*(start for start, _ in ends), size]


def _known(n: Node, flat: Node, users: dict[Node, list[Node]], rule: list[Node], parts: dict[Any, Node]) -> bool:
    """Whether nobody but the rule uses this value; a flat state also serves the parameters in it."""
    views = {v for part in parts.values() for v in (part, part.inputs[0])} if n is flat else set()
    return all(user in rule or user in views for user in users[n])


def _kept_in(program: Program, rule: list[Node]) -> bool:
    """Whether all that leaves the rule are new contents of the cells it begins with, one for each."""
    cells = [id(cell) for cell, n in program.updates if n in rule]
    kept = [n for _, n in program.updates if n in rule]
    states = {id(n.value) for n in rule if n.op == "state"}
    return len(set(kept)) == len(kept) and states.issuperset(cells) and not any(n in rule for n in program.outputs)


def _replace(program: Program, rule: list[Node], flat: Node, parts: list[tuple[int, int, Node]]) -> None:
    """Put a copy of the rule for each parameter in its place."""
    contents = {n: cell for cell, n in program.updates if n in rule}
    updates, made = [], []
    instead: dict[Node, Node] = {}
    for i, (start, stop, part) in enumerate(parts):
        own: dict[Node, Node] = {}
        for n in rule:
            if n.op == "concat":
                own[n] = n.inputs[i]
                continue
            own[n] = Node(n.op, [own.get(m, m) for m in n.inputs], n.args, n.kw, part.shape, n.dtype, scope=n.scope)
            if n.op == "state":
                own[n].value = Piece(program.library.xp.reshape(n.value.array[start:stop], part.shape))
                own[n].label = part.label if n is flat else (f"{n.label}_", own.get(flat, part))
            if n is not flat:
                made.append(own[n])
        instead[part] = own[flat]
        states = {id(n.value): own[n] for n in rule if n.op == "state"}
        updates += [(states[id(cell)].value, own[n]) for n, cell in contents.items()]
    last = program.nodes.index(rule[-1]) + 1
    nodes = [*program.nodes[:last], *made, *program.nodes[last:]]
    program.nodes = [instead.get(n, n) for n in nodes if n not in rule]
    for n in program.nodes:
        n.inputs = tuple([instead.get(m, m) for m in n.inputs])
        if isinstance(n.label, tuple):
            n.label = (n.label[0], instead.get(n.label[1], n.label[1]))
    program.rewire(lambda n: instead.get(n, n))
    program.updates = [(cell, n) for cell, n in program.updates if n not in rule] + updates
    dead(program)
