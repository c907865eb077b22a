"""Where values live: views share memory, writes happen in place where nobody looks at the old value any more, and
all other buffers are slices of one arena, whose space is used again as soon as a value is dead.

A `root` is the memory that several values share: a cell, an input, a constant, or a buffer of the arena. Liveness is
counted by root. A value may overwrite a root when everybody who reads what was there has done so.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

from ..graph import Node, Program, is_view
from .lower import elementwise
from .schedule import Block, aligned, ends

NEVER = 1 << 60  # after the last step
ALIGNMENT = 64


class Memory:
    """The roots of the values of a scheduled program, and the places of the buffers in the arena."""

    def __init__(self, program: Program, schedule: list[Node | Block]) -> None:
        self.root: dict[Node, Any] = {}
        self.part_of: dict[Node, tuple[Node, int]] = {}  # values computed in their place in a concatenation
        self.scratch: dict[Node, Block] = {}  # values that live within one block only
        self.block: dict[Node, Block] = {}
        self.step: dict[Node, int] = {}
        for k, work in enumerate(schedule):
            for n in work if isinstance(work, Block) else [work]:
                self.step[n] = k
                if isinstance(work, Block):
                    self.block[n] = work
        self.order = list(self.step)
        self.position = {n: i for i, n in enumerate(self.order)}
        self.readers: dict[Node, list[Node]] = defaultdict(list)
        for n in self.order:
            several = n.op == "part"  # of the results of a function, which may be views of what it was given
            for i in (*n.inputs, *(n.inputs[0].inputs if several else ())):
                self.readers[i].append(n)
        self.results = set(program.results())
        self.sharing: dict[Any, list[Node]] = defaultdict(list)  # root: the values there so far
        self.finals: dict[Node, list[Any]] = defaultdict(list)
        for cell, n in program.updates:
            self.finals[n].append(cell)
        self.changing = {id(cell) for cell, _ in program.updates}
        self.chains = {id(n): cell for cell, n in program.updates for n in _chain(n)}
        self._find_scratch()
        self._find_parts()
        for n in self.order:
            self._settle(n)
        self.size, self.offset = self._packed()

    # -- what lives where
    def _find_scratch(self) -> None:
        escaping: set[Node] = set()
        for n in reversed(self.order):
            block = self.block.get(n)
            inside = block is not None and n not in self.results and not ends(n)
            for reader in self.readers[n]:
                if self.block.get(reader) is not block or (is_view(reader) and reader in escaping):
                    inside = False
            if inside and block is not None:
                self.scratch[n] = block
            else:
                escaping.add(n)

    def _find_parts(self) -> None:
        """Whoever computes a piece of a concatenation writes it there."""
        for n in self.order:
            if n.op == "concat" and n.kw.get("axis", 0) in (None, 0):
                offset = 0
                for part in n.inputs:
                    if _computed(part) and part.op != "concat" and part.dtype == n.dtype and part not in self.scratch:
                        self.part_of.setdefault(part, (n, offset))
                    offset += math.prod(part.shape)

    def _settle(self, n: Node) -> None:
        if n.host or n.op == "check" or n in self.scratch:
            return
        self.root[n] = root = self._root(n)
        self.sharing[id(root)].append(n)

    def _root(self, n: Node) -> Any:
        if n.op == "state":
            return n.value
        if is_view(n) and n.inputs[0] in self.root:
            return self.root[n.inputs[0]]
        if n.op == "set":
            base = self.root[n.inputs[0]]
            return base if self._whole(n.inputs[0], base) and self._may_write(n, base) else n
        if not _computed(n):
            return n
        for cell in self.finals[n]:
            if self._may_overwrite(n, cell, cell.array.shape, cell.array.dtype):
                return cell
        if n in self.part_of:
            return self.part_of[n][0]
        if n.op == "concat" and (home := self._laid_out(n)) is not None:
            return home
        for i in self.overwritable(n):
            root: Any = self.root.get(i)
            buffer = isinstance(root, Node) and _computed(root) and self._whole(i, root)
            if buffer and self._may_overwrite(n, root, root.shape, root.dtype):
                return root
        return n

    def overwritable(self, n: Node) -> list[Node]:
        """The operands in whose place an element-wise value can be computed; `where` writes its last one first."""
        if not elementwise(n) or n.op == "sign":  # NumPy's sign takes seven times as long in place
            return []
        operands = n.operands()[2:] if n.op == "where" else n.operands()
        return [i for i in operands if isinstance(i, Node) and not i.host]

    def _laid_out(self, n: Node) -> Flat | None:
        """The stretch of memory in which the parts of a concatenation lie already, in the cells they belong to."""
        cells: list[Any] = [self.root.get(i) for i in n.inputs]
        for cell, i in zip(cells, n.inputs, strict=True):
            kept = i.op == "state" and id(cell) not in self.changing
            if not kept and not any(cell is final for final in self.finals[i]):
                return None
        return flat_of([cell.array for cell in cells])

    def _may_overwrite(self, n: Node, root: Any, shape: tuple[int, ...], dtype: Any) -> bool:
        """Whether `n` can be computed right where the values of `root` are, which nobody needs later."""
        if (n.shape, n.dtype) != (tuple(shape), dtype) or n.op == "part":  # other parts may be views of what is there
            return False
        mine = [i for i in n.inputs if self.root.get(i) is root]
        if mine and not (elementwise(n) and all(i in self.overwritable(n) and self._whole(i, root) for i in mine)):
            return False
        return self._read(n, root) and self._rows_agree(n, root)

    def _may_write(self, n: Node, root: Any) -> bool:
        """Whether a part of `root` can be changed in place to make the new version `n` of it."""
        if isinstance(root, Node):
            return _computed(root) and self._read(n, root)
        return self.chains.get(id(n)) is root and self._read(n, root)

    def _read(self, n: Node, root: Any) -> bool:
        """Whether everybody else has read what is at `root` before `n` is computed."""
        before = self.position[n]
        for value in self.sharing[id(root)]:
            if value in self.results or any(r is not n and self.position[r] > before for r in self.readers[value]):
                return False
        return True

    def _rows_agree(self, n: Node, root: Any) -> bool:
        """Within a block, a write to some rows must not touch what the block reads for other rows."""
        block = self.block.get(n)
        for member in block or ():
            for i in member.inputs:
                if self.root.get(i) is root and not (aligned(member, i) and self._whole(i, root)):
                    return False
        return True

    def _whole(self, n: Node, root: Any) -> bool:
        """Whether a value is all of its root, element by element in the same place."""
        return not is_view(n) and not (n in self.part_of and self.part_of[n][0] is root)

    # -- the arena
    def _packed(self) -> tuple[int, dict[Node, int]]:
        """Offsets of the buffers: the largest first, each at the lowest place that is free while it lives."""
        lives: dict[Node, list[int]] = {}
        for n, root in self.root.items():
            if isinstance(root, Node) and _computed(root):
                end = NEVER if n in self.results else max((self.step[r] for r in self.readers[n]), default=0)
                life = lives.setdefault(root, [self.step[n], 0])
                life[:] = min(life[0], self.step[n]), max(life[1], end, self.step[n])
        placed: list[tuple[int, int, int, int]] = []  # from, to, first and last step
        offset: dict[Node, int] = {}
        for root in sorted(lives, key=lambda r: -_bytes(r)):
            first, last = lives[root]
            start, need = 0, _bytes(root)
            for a, b, f, t in sorted(placed):
                if f <= last and first <= t and start < b and a < start + need:
                    start = b
            placed.append((start, start + need, first, last))
            offset[root] = start
        return max((b for _, b, _, _ in placed), default=0), offset


class Flat:
    """Memory outside of the arena."""

    def __init__(self, array: Any) -> None:
        self.array = array


def flat_of(arrays: list[Any]) -> Flat | None:
    """The slice of one flat array that consists of these arrays, one after the other, if there is such."""
    base = arrays[0].base
    if base is None or base.ndim != 1 or any(a.base is not base for a in arrays):
        return None
    place = start = arrays[0].ctypes.data - base.ctypes.data
    for a in arrays:
        if a.ctypes.data - base.ctypes.data != place:
            return None
        place += a.nbytes
    return Flat(base[start // base.itemsize : place // base.itemsize])


def _bytes(n: Node) -> int:
    need = max(1, math.prod(n.shape)) * n.dtype.itemsize
    return int(-(-need // ALIGNMENT) * ALIGNMENT)


def _computed(n: Any) -> bool:
    """Whether a value is made by the program, in memory of its own."""
    return n.op not in ("input", "state", "scalar", "const", "number") and n.dtype is not None and not is_view(n)


def _chain(n: Node) -> list[Node]:
    """The writes, one after the other, that end in `n`."""
    found = []
    while n.op == "set":
        found.append(n)
        n = n.inputs[0]
    return found
