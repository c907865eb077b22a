"""Where values are computed: new contents in their cells, if nobody looks at the old ones any more."""

from __future__ import annotations

import math
from typing import Any

from ...backend import Array, Backend
from ..graph import HOLE, LEAVES, Node, Program, is_view
from ..names import storage
from .groups import Unit, reads

END = 1 << 60  # after all work


class Places:
    """`home` says which array a value is computed into; what is not there goes to memory of its own.

    `dead` lists for each unit the values that nobody needs after it, `stored` those of its nodes that others need.
    """

    def __init__(self, program: Program, units: list[Unit]) -> None:
        self.work = {n: k for k, unit in enumerate(units) for n in unit.nodes}
        self.units = units
        self.last: dict[Node, int] = {}  # when memory is read for the last time, by the value that it was made for
        readers: dict[Node, list[Node]] = {}
        needed = dict.fromkeys(self.work, -1)
        for k, unit in enumerate(units):
            for n in unit.nodes:
                for i in reads(n):
                    self.last[storage(i)] = k
                    needed[i] = k
                    readers.setdefault(i, []).append(n)
        for n in program.outputs:
            self.last[storage(n)] = END
        for n in program.results():
            needed[n] = END
        self.readers, self.results = readers, set(program.results())
        self.dead: list[list[Node]] = [[] for _ in units]
        for n, k in needed.items():
            if 0 <= k < END:
                self.dead[k].append(n)
        self.stored = [
            [n for n in unit.nodes if n in self.results or any(self.work[r] != k for r in readers.get(n, ()))]
            for k, unit in enumerate(units)
        ]
        self.home: dict[Node, Array] = {}
        states = {id(n.value): n for n in program.nodes if n.op == "state"}
        for cell, n in program.updates:
            self._settle(n, cell.array, states.get(id(cell)))

    def _settle(self, n: Node, array: Array, state: Node | None) -> None:
        """Compute `n` in a cell, and the writes to the same array before it."""
        while n not in self.home and self._fits(n, array, state):
            self.home[n] = array
            base = n.inputs[0] if n.op == "set" else n
            if n.op != "set" or base.op != "set" or self.readers[base] != [n] or base in self.results:
                return
            n = base

    def _fits(self, n: Node, array: Array, state: Node | None) -> bool:
        k = self.work.get(n)
        if k is None or (tuple(array.shape), array.dtype) != (n.shape, n.dtype):
            return False
        if state is None:
            return True
        if is_view(n) or n.op == "part":
            return False
        if (last := self.last.get(state, -1)) < k:
            return True
        if last > k:
            return False
        views = [i for m in self.units[k].nodes for i in reads(m) if storage(i) is state]
        if n.op == "set":
            return n.inputs[0] is state and views == [state]
        return self.units[k].fused and n not in self.units[k].ends and set(views) == {state}

    def joined(self, n: Node, library: Backend) -> Array | None:
        """A concatenation of values that are computed into places side by side: those as one array."""
        homes = [self.home[i] for i in n.inputs if i in self.home]
        return library.joined(homes) if len(homes) == len(n.inputs) else None

    def writable(self, base: Node, k: int) -> bool:
        """Whether the memory of a value may be written to by unit `k`: made by the program, needed no more."""
        return storage(base) is base and base.op not in LEAVES and base not in self.home and self.last[base] <= k


def separate(program: Program) -> None:
    """New contents that are an old value of some cell, or an input, are copied before anything is overwritten.

    So are outputs that lie in a cell, before the step or after it.
    """

    def copied(n: Node) -> Node:
        program.nodes.append(n.replaced("copy", (n,), (HOLE,)))
        return program.nodes[-1]

    new = {storage(n) for _, n in program.updates}
    program.outputs = [copied(n) if storage(n) in new or storage(n).op == "state" else n for n in program.outputs]
    for i, (cell, n) in enumerate(program.updates):
        root = storage(n)
        if root.op in ("state", "input") and root.value is not cell:
            program.updates[i] = (cell, copied(n))


def lay_out_gradients(program: Program, library: Backend) -> list[Node]:
    """Gradients that an optimizer takes as one array get homes side by side; those concatenations.

    A home that has memory keeps it: other programs know where it is.
    """
    known, homes = {id(g.home) for g in program.gradients}, dict[Node, Any]()
    for cell, n in program.updates:
        if id(cell) in known:
            homes.setdefault(n, cell)
    found = [n for n in program.nodes if n.op == "concat" and n.kw.get("axis", 0) is None]
    found = [n for n in found if homes.keys() >= {*n.inputs} and len({*n.inputs}) == len(n.inputs)]
    for n in found:
        cells = [homes[i] for i in n.inputs]
        if all(cell.array is None for cell in cells):
            flat, start = library.xp.empty(n.shape, dtype=n.dtype), 0
            for cell, i in zip(cells, n.inputs, strict=True):
                size = math.prod(i.shape)
                cell.array = library.xp.reshape(flat[start : start + size], i.shape)
                start += size
    for cell, n in program.updates:
        if cell.array is None:
            cell.array = library.xp.empty(n.shape, dtype=n.dtype)
    return found
