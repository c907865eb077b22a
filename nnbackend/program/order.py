"""In which order a program is written down: what stands inside another line, what changes in place and when."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Set

from .expressions import BINARY
from .graph import LEAVES, Node, Program
from .names import Names, of_cell, storage

LONGEST = 7  # values and operators in an expression inside another
END = math.inf  # the place of what is written last


class Order:
    """How the values of a plain program become lines.

    Those in `inlined` stand in the line of their user. `owner` says which values live in the memory of an older one: of
    a state, whose new contents they are, or of what a write may change. New contents in `moved` are computed last of
    all, where they are written; other late ones are kept aside under a name until then. Values in `alone` get a line.
    """

    def __init__(self, program: Program, names: Names, alone: Set[Node] = frozenset()) -> None:
        self.program, self.names, self.alone = program, names, alone
        self.writes = [*program.updates, *program.numbers]
        self.states = {id(n.value): n for n in program.nodes if n.op in ("state", "scalar")}  # by the cell
        self.place = {n: i for i, n in enumerate(program.nodes)}
        self.inlined = self._inside()
        self._settle()

    # -- what stands inside another line
    def _inside(self) -> set[Node]:
        """Values that are used once, short, and without a name of their own."""
        nodes, times = self.program.nodes, dict.fromkeys(self.program.nodes, 0)
        for n in self.program.results():
            times[n] += 2
        fixed = {n.inputs[0] for n in nodes if n.op == "set"} | self.alone
        once: set[Node] = set()
        for n in reversed(nodes):
            cheap = n.op in ("matrix_transpose", "number") or (n.op == "const" and not n.shape) or _slice(n)
            passing = times[n] == 1 and n.op not in ("set", *LEAVES) and self.names.wanted(n) is None
            if n not in fixed and (cheap or passing):
                once.add(n)
            for i in n.inputs:
                times[i] += times[n] if n in once else 1
        inside: set[Node] = set()
        for n in nodes:
            if n in once and (times[n] > 1 or not n.inputs or self._length(n, inside) <= LONGEST):
                inside.add(n)
        return inside

    def _length(self, n: Node, inside: set[Node]) -> int:
        """Of its expression, in values and operators."""
        if n.op == "concat":
            return 1
        return sum(self._length(i, inside) if i in inside else 1 for i in n.inputs) + (n.op in BINARY) + 1

    # -- what is written when
    def _settle(self) -> None:
        """Decide which new contents are written as soon as they are known: nobody reads the old ones any more."""
        self.moved: set[Node] = set()
        later: set[Node] = set()
        while True:
            last = self._last_reads(later)
            late = [n for cell, n in self.writes if n not in later and not self._ready(n, self.states[id(cell)], last)]
            if not late:
                break
            later.update(late)
            self.moved |= {n for cell, n in self.writes if n in late and self._movable(n, self.states[id(cell)])}
        self.owner: dict[Node, Node] = {}
        for cell, n in self.writes:
            if n not in later:
                self.owner.update(dict.fromkeys(_chain(n), self.states[id(cell)]))
        for n in self.program.nodes:
            if n.op == "set" and n not in self.owner and self._reusable(n, last):
                self.owner[n] = n.inputs[0]

    def _last_reads(self, later: set[Node]) -> dict[Node, float]:
        """Where each memory is read for the last time."""
        last: dict[Node, float] = defaultdict(lambda: -1.0)
        for n in self.program.nodes:
            if n.inputs and n not in self.inlined and not of_cell(n):
                at = END if n in self.moved else self.place[n]
                for i in self._read(n):
                    last[storage(i)] = max(last[storage(i)], at)
        for n in [*self.program.outputs, *later]:
            last[storage(n)] = END
        return last

    def _read(self, n: Node) -> Iterator[Node]:
        """The values with names in the line of `n`."""
        for i in n.inputs:
            yield from self._read(i) if i in self.inlined else (i,)

    def _ready(self, n: Node, state: Node, last: dict[Node, float]) -> bool:
        if not n.inputs or n in self.inlined:
            return False
        if n.op != "set":
            return last[state] <= self.place[n]
        links = _chain(n)
        return links[-1].inputs[0] is state and all(last[storage(m.inputs[0])] <= self.place[m] for m in links)

    def _movable(self, n: Node, state: Node) -> bool:
        """Whether it can be computed last: nobody else needs it, and it needs nothing old that others overwrite."""
        if n.op in ("set", "copy", *LEAVES) or sum(n is m for m in self.program.results()) > 1:
            return False
        used = any(n in m.inputs for m in self.program.nodes)
        written = {self.states[id(cell)] for cell, _ in self.writes}
        old = {storage(i) for i in self._read(n)} & written
        return not used and old <= {state}

    def _reusable(self, n: Node, last: dict[Node, float]) -> bool:
        """Whether a write may go to the old value itself: made by the program, needed no more."""
        base = n.inputs[0]
        fresh = storage(base) is base and base.op not in LEAVES and self.owner.get(base, base).op != "state"
        return fresh and base.shape != () and last[base] <= self.place[n]


def _chain(n: Node) -> list[Node]:
    """A write and those to the same array before it, from the last to the first."""
    links = [n]
    while links[-1].op == "set" and links[-1].inputs[0].op == "set":
        links.append(links[-1].inputs[0])
    return links


def _slice(n: Node) -> bool:
    """Whether it is a nameless part of a state."""
    return n.op == "getitem" and len(n.inputs) == 1 and n.inputs[0].op == "state" and not of_cell(n)
