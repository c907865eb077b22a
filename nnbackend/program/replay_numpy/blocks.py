"""A block of element-wise work: a loop over a few rows at a time, which stay in the cache, on all cores."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from ...backend.threads import pool
from ..graph import Node, is_view
from .calls import view_text, write
from .schedule import Block, aligned, ends

ALONE = 1 << 23  # elements computed: what takes less than a millisecond or two is not worth waking a thread for
BYTES = 1 << 19  # of the widest array in one turn of the loop: calls this long hardly wait for each other's lock


class Loop:
    """The text of one block. Arrays that last are cut into the rows of each turn ahead; the others are scratch.

    Every thread has its own scratch and takes the next turn that nobody has taken; which one does what changes
    nothing in the results.
    """

    def __init__(self, replay: Any, block: Block) -> None:
        self.replay, self.block, self.code = replay, block, replay.code
        widest = max(math.prod(n.shape[1:]) * n.dtype.itemsize for n in block if n.shape[:1] == (block.rows,))
        threads = replay.threads if sum(math.prod(n.shape) for n in block) >= ALONE else 1
        turns = max(1, -(-block.rows * widest // BYTES))
        turns = min(block.rows, -(-turns // threads) * threads)  # as many for each thread
        self.rows = -(-block.rows // turns)
        self.turns = [(i, min(i + self.rows, block.rows)) for i in range(0, block.rows, self.rows)]
        self.threads = min(threads, len(self.turns))
        replay.threaded = True  # another number of threads would be another plan
        self.cuts: dict[int, tuple[str, list[Any]]] = {}  # by id of the array: its name in the loop, its parts
        self.names: dict[Node, str] = {}  # values within the loop
        self.given: dict[str, None] = {}  # what is found anew in each replay and handed to the loop
        self.slots: list[tuple[tuple[int, ...], Any]] = []  # shapes of a row, and dtypes, of the scratch arrays
        self.partial: dict[Node, Any] = {}  # sums of each turn
        self.last = self._last_uses()

    def write(self) -> None:
        """The function, the line that runs it, and the lines that put the sums together."""
        outside, inside = self.code.lines, list[str]()
        for n in self.block:  # numbers are filled once, before the loop
            for x in n.operands():
                if isinstance(x, Node) and x.host:
                    self.replay.operand(n, x, self.replay.ref)
        self.code.lines = inside
        free: dict[Any, list[str]] = {}
        for k, n in enumerate(self.block):
            if is_view(n) and n.inputs[0] in self.names:
                self._view(n)
            elif ends(n):
                self._sum(n)
            else:
                name = self._out(n, k, free)
                write(self.replay, n, name, partial(self._operand, n))
            for i in dict.fromkeys(map(self._base, n.inputs)):
                name = self.names.get(i, "")
                if name.startswith("t") and self.last[i] == k and name != self.names.get(n):
                    free.setdefault((i.shape[1:], i.dtype), []).append(name)
        self.code.lines = outside
        self._run(inside)
        for n, parts in self.partial.items():
            self.code.call(np.add.reduce, self.code.name(parts), "0", "None", self.code.name(self.replay.place[n]))

    def _last_uses(self) -> dict[Node, int]:
        """When each value is used last, also through views of it."""
        last: dict[Node, int] = {}
        for k, n in reversed(list(enumerate(self.block))):
            until = last.get(n, k) if is_view(n) else k
            for i in n.inputs:
                last[i] = max(last.get(i, 0), until)
        return last

    def _operand(self, n: Node, i: Node) -> str:
        """What a member calls an operand: its rows in this turn, or all of it."""
        if i in self.names:
            return self.names[i]
        lengthwise = len(i.shape) > len(n.shape) and i.shape[0] == self.block.rows  # of a reduction
        sliced = lengthwise or aligned(n, i) or ends(n)
        if i in self.replay.place:
            array = self.replay.place[i]
            return self._cut(array) if sliced else str(self.code.name(array))
        text = str(self.replay.ref(i))
        self.given[text] = None
        return f"{text}[lo:hi]" if sliced else text

    def _cut(self, array: Any) -> str:
        """The name of the rows of an array that lasts."""
        if id(array) not in self.cuts:
            parts = [array[lo:hi] for lo, hi in self.turns]
            self.cuts[id(array)] = (f"c{len(self.cuts)}", parts)
        return self.cuts[id(array)][0]

    def _out(self, n: Node, k: int, free: dict[Any, list[str]]) -> str:
        """Where a member goes: rows of its place, or scratch, that of an operand which ends here if it can be."""
        if n not in self.replay.memory.scratch:
            name = self.names[n] = self._cut(self.replay.place[n])
            return name
        kind = (n.shape[1:], n.dtype)
        for i in self.replay.memory.overwritable(n):
            name = self.names.get(i, "")
            ends_here = name.startswith("t") and self.last[i] == k and (i.shape[1:], i.dtype) == kind
            if ends_here and all(j is i for j in n.inputs if self._base(j) is i):
                self.names[n] = name
                return name
        if not free.get(kind):
            self.slots.append(kind)
            free[kind] = [f"t{len(self.slots) - 1}"]
        self.names[n] = free[kind].pop()
        return self.names[n]

    def _base(self, n: Node) -> Node:
        """What a view within the loop is a view of."""
        while is_view(n) and n.inputs[0] in self.names:
            n = n.inputs[0]
        return n

    def _view(self, n: Node) -> None:
        self.names[n] = f"w{len(self.names)}"
        text = view_text(self.replay, n, self.names[n.inputs[0]], ("hi - lo", *n.shape[1:]))
        self.code.lines.append(f"{self.names[n]} = {text}")

    def _sum(self, n: Node) -> None:
        """The sum over the rows of one turn; all turns are added up in order at the end."""
        parts = self.partial[n] = np.empty((len(self.turns), *n.shape), n.dtype)
        self.replay.nbytes += parts.nbytes
        out = f"c{len(self.cuts)}"
        self.cuts[id(parts)] = (out, [parts[i, ...] for i in range(len(self.turns))])
        refs = [self._operand(n, i) for i in n.inputs]
        if self.threads > 1 and n.op != "sum":  # the BLAS would start threads of its own
            text = refs[0] if n.op == "column_sum" else f"{self.code.name(np.vecdot)}({refs[0]}, {refs[-1]})"
            axis = "0" if n.op == "column_sum" else "None"
            self.code.call(np.add.reduce, text, axis, "None", out)
        elif n.op == "column_sum":
            ones = self.code.name(np.ones(self.rows, n.dtype))
            self.code.call(np.dot, f"{ones}[: hi - lo]", refs[0], out)
        elif n.op == "vdot":
            texts = [refs[0]] * 2 if len(refs) == 1 else refs
            self.code.call(np.dot, *[f"{text}.ravel()" for text in texts], out)
        else:
            self.code.call(np.add.reduce, refs[0], repr(n.kw["axis"]), "None", out, repr(n.kw["keepdims"]))

    def _run(self, inside: list[str]) -> None:
        code = self.code
        scratch = [f"t{i}" for i in range(len(self.slots))]
        parameters = ", ".join(["turns", *(f"s{i}" for i in range(len(scratch))), *self.given])
        names = ", ".join(["lo", "hi", *(name for name, _ in self.cuts.values())])
        lines = [f"{t} = s{i}[: hi - lo]" for i, t in enumerate(scratch)] + inside
        text = f"def loop({parameters}):\n    for {names} in turns:\n" + "".join(f"        {x}\n" for x in lines)
        exec(compile(text, "<a block of a program>", "exec"), code.env)
        loop = code.env.pop("loop")
        columns = [parts for _, parts in self.cuts.values()]
        turns = code.name([(*turn, *parts) for turn, *parts in zip(self.turns, *columns, strict=True)])
        calls = []
        for _ in range(self.threads):
            arrays = [np.empty((self.rows, *shape), dtype) for shape, dtype in self.slots]
            self.replay.nbytes += sum(a.nbytes for a in arrays)
            calls.append([*map(code.name, arrays), *self.given])
        code.sources.append(text)
        if self.threads == 1:
            code.lines.append(f"{code.name(loop)}({', '.join([turns, *calls[0]])})")
            return
        each = ", ".join(f"({', '.join(['turns', *call])},)" for call in calls)
        code.lines.append(f"turns = iter({turns})")
        code.lines.append(f"{code.name(pool.run)}({code.name(loop)}, ({each}))")
