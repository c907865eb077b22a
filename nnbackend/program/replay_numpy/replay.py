"""Replaying on NumPy: a program as straight-line calls that write into buffers made ahead."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..graph import HOLE, Node, Program, is_view
from ..simplify import simplified
from .blocks import Loop
from .calls import SPREAD, called, view_of, view_text, write
from .code import Code
from .host import HOST, host_text
from .lower import BLAS, lowered
from .memory import Memory, flat_of
from .schedule import Block, scheduled

SCALAR = frozenset({"add", "subtract", "multiply", "divide", "negative"})


class Replay:
    """The text of a program for NumPy: `lines` to run, `outputs` by name, `code.env` with all that they name.

    Inputs are called a0, a1, ...; checks get what was handed in, x0, x1, ... `calls` counts the calls of NumPy a
    replay makes, `nbytes` the memory held for it.
    """

    def __init__(self, recorded: Program, threads: int) -> None:
        self.program = program = lowered(simplified(recorded))
        _separate(program)
        _lay_out_gradients(program)
        self.threads, self.threaded, self.checks = threads, False, 0
        self.spreads = any(n.op in SPREAD for n in program.nodes)
        schedule = scheduled(program)
        self.memory = Memory(program, schedule)
        self.code = Code()
        arena = np.empty(self.memory.size + 64, np.uint8)
        self.arena = arena[-arena.ctypes.data % 64 :]
        self.nbytes = self.memory.size
        self.place: dict[Node, Any] = {}  # arrays that stay where they are
        self.text: dict[Node, str] = {}  # values that are found anew in each replay
        for work in schedule:
            if isinstance(work, Block):
                self._block(work)
            else:
                self._node(work)
        self.outputs = [self._output(n) for n in program.outputs]
        self.lines = list(self.code.lines)
        self.code.lines.clear()
        for cell, n in program.updates:
            if not self.in_place(n, cell.array):
                self.code.call(np.copyto, self.code.name(cell.array), self.ref(n))
        for scalar, n in program.numbers:
            self.code.lines.append(f"{self.code.name(scalar)}._value = {self.ref(n)}")
        self.updates = list(self.code.lines)  # after the outputs have been copied
        self.calls = self.code.calls

    # -- names of values
    def ref(self, n: Node) -> str:
        """The text that stands for a value."""
        if n not in self.text:
            self.text[n] = self.code.name(self.place[n])
        return self.text[n]

    def operand(self, n: Node, x: Any, ref: Callable[[Node], str]) -> str:
        """An argument of a call: a number becomes an array of the right dtype, which is quicker."""
        if isinstance(x, Node) and not x.host:
            here = self.place.get(x)
            if here is not None and here.size == 1 and n.shape != x.shape and ref == self.ref:
                return self.code.name(here.reshape(()))  # NumPy has a shorter way for it
            return ref(x)
        others = [i.dtype for i in n.inputs if not i.host and i.dtype.kind == "f"]
        dtype = n.dtype if n.op == "where" else others[0] if others else None
        if isinstance(x, Node):
            return ref(x) if dtype is None else self.code.number(self.ref(x), dtype)
        return repr(x) if dtype is None and type(x) is int else self.code.literal(x, dtype)

    def _output(self, n: Node) -> tuple[str, Any]:
        """Its text, and its place if that is the program's own."""
        root = self.memory.root.get(n)
        own = n in self.place and isinstance(root, Node) and root in self.memory.offset
        return self.ref(n), self.place[n] if own else None

    def in_place(self, n: Node, array: Any) -> bool:
        """Whether a value is exactly there."""
        here = self.place.get(n)
        return here is not None and _same(here, array)

    # -- places
    def buffer(self, n: Node) -> Any:
        """Where a computed value goes."""
        root = self.memory.root[n]
        if not isinstance(root, Node):  # a cell, or gradients side by side
            return root.array
        start = self.memory.offset[root]
        concatenation, skipped = self.memory.part_of.get(n, (None, 0))
        start += skipped * n.dtype.itemsize if concatenation is root else 0
        return self.arena[start : start + math.prod(n.shape) * n.dtype.itemsize].view(n.dtype).reshape(n.shape)

    # -- nodes
    def _node(self, n: Node) -> None:
        code, op = self.code, n.op
        if op == "input":
            self.text[n] = f"a{n.value}"
        elif op == "state":
            self.place[n] = n.value.array
        elif op == "const":
            self.place[n] = np.asarray(n.value)
        elif op == "check":
            x = n.inputs[0]
            given = f"x{x.value}" if x.op == "input" else self.ref(x)
            first = self.checks if x.op == "input" else len(code.lines)  # nothing has changed yet
            code.lines.insert(first, f"{code.name(n.value)}({', '.join([given, *map(code.name, n.args[1:])])})")
            self.checks += x.op == "input"
        elif n.host:
            self._host(n)
        elif is_view(n):
            self._view(n)
        elif not n.shape and n.op in SCALAR and n.dtype in BLAS and not self.memory.finals.get(n):
            self._scalar(n)
        elif n.dtype is None:  # several results
            self.text[n] = f"t{len(self.text)}"
            code.lines.append(f"{self.text[n]} = {called(self, n)}")
        elif op == "set":
            self._set(n)
        else:
            out = self.place[n] = self.buffer(n)
            write(self, n, code.name(out), self.ref)

    def _host(self, n: Node) -> None:
        if n.op == "number":
            self.text[n] = self.code.name(n.args[0])
            return
        self.text[n] = f"h{len(self.text)}"
        self.code.lines.append(f"{self.text[n]} = {host_text(n, self.code, self.ref)}")

    def _scalar(self, n: Node) -> None:
        """Arithmetic without axes is quicker on NumPy's scalars."""
        parts = [self._single(x) if isinstance(x, Node) else self.code.name(x) for x in n.operands()]
        self.text[n] = f"s{len(self.text)}"
        self.code.lines.append(f"{self.text[n]} = {HOST[n.op].format(*parts)}")

    def _single(self, x: Node) -> str:
        return f"{self.ref(x)}[()]" if x in self.place else self.ref(x)

    def _view(self, n: Node) -> None:
        x = n.inputs[0]
        if x not in self.place:
            self.text[n] = f"i{len(self.text)}"
            self.code.lines.append(f"{self.text[n]} = {view_text(self, n, self.ref(x), n.shape)}")
            return
        seen = view_of(self.place[x], n.op, n.args, n.kw)
        if np.may_share_memory(seen, self.place[x]) or not seen.size:
            self.place[n] = seen
        else:  # a reshape that cannot be a view
            copied = self.place[n] = np.empty(n.shape, n.dtype)
            self.nbytes += copied.nbytes
            source = self.place[x]
            self.code.call(np.copyto, self.code.name(copied.reshape(source.shape)), self.code.name(source))

    def _set(self, n: Node) -> None:
        base, code = n.inputs[0], self.code
        out = self.place[n] = self.buffer(n)
        if not self.in_place(base, out):
            code.call(np.copyto, code.name(out), self.ref(base))
        operands = iter(n.inputs[1:])
        value = next(operands) if n.args[1] is HOLE else n.args[1]
        op, args, kw = n.args[2]
        keys = list(operands)
        if keys or (op == "getitem" and not is_view(Node("getitem", (base,), args))):
            key = code.template(args[1], [self.ref(k) for k in keys])
            code.lines.append(f"{code.name(out)}[{key}] = {self.operand(n, value, self.ref)}")
            return
        target = view_of(out, op, args, kw)
        if not (isinstance(value, Node) and self.in_place(value, target)):
            code.call(np.copyto, code.name(target), self.operand(n, value, self.ref), "'unsafe'")

    # -- blocks
    def _block(self, block: Block) -> None:
        for n in block:
            if n in self.memory.root and not is_view(n):
                self.place[n] = self.buffer(n)
            elif n in self.memory.root:
                self.place[n] = view_of(self.place[n.inputs[0]], n.op, n.args, n.kw)
        Loop(self, block).write()


def _same(a: Any, b: Any) -> bool:
    return (a.__array_interface__["data"], a.shape, a.strides) == (b.__array_interface__["data"], b.shape, b.strides)


def _separate(program: Program) -> None:
    """New contents that are an old value of some cell, or an input, are copied before anything is overwritten."""

    def root(n: Node) -> Node:
        while is_view(n):
            n = n.inputs[0]
        return n

    for i, (cell, n) in enumerate(program.updates):
        if root(n).op in ("state", "input") and root(n).value is not cell:
            copied = n.replaced("astype", (n,), (HOLE,))
            program.nodes.append(copied)
            program.updates[i] = (cell, copied)


def _lay_out_gradients(program: Program) -> None:
    """Gradients that an optimizer takes as one array get homes side by side, so that nothing has to be joined."""
    for cell, n in program.updates:
        if cell.array is None:
            cell.array = np.empty(n.shape, n.dtype)
    known = {id(g.home) for g in program.gradients}
    homes = {n: cell for cell, n in program.updates if id(cell) in known}
    homes |= {n: n.value for n in program.nodes if n.op == "state" and id(n.value) in known}
    for n in program.nodes:
        if n.op == "concat" and n.kw.get("axis") is None and all(i in homes for i in n.inputs):
            cells = [homes[i] for i in n.inputs]
            if len(set(map(id, cells))) == len(cells) and flat_of([c.array for c in cells]) is None:
                flat, start = np.empty(sum(c.array.size for c in cells), n.dtype), 0
                for cell in cells:
                    view = flat[start : start + cell.array.size].reshape(cell.array.shape)
                    cell.array, start = view, start + cell.array.size
