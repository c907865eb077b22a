"""A program as one captured graph, or unit by unit where that is not possible."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...backend import Array, Backend, Private, Slots, UncapturedError, capture, device_of, log
from ...recorder import Unfit
from ..graph import Program
from .work import Work

MOST = 6  # graphs of a program, of one step or several


class Replay:
    """A program on a GPU. `calls` of it: the first compiles and measures, the second captures, the others launch.

    `ungraphed` says why it is not captured, if it is not.
    """

    def __init__(self, recorded: Program) -> None:
        self.work = Work(recorded)
        self.library, self.program = self.work.library, self.work.program
        self.ungraphed: str | None = None
        self._memory = Private()
        self._graphs: dict[Any, Graph] = {}
        self._warm: set[Any] = set()
        self._slots: Slots | None = None

    def __call__(self, steps: Sequence[tuple[Sequence[Array], Sequence[float]]], reuse: bool = False) -> list[Any]:
        """The outputs of some steps, each with its arrays and numbers, one after the other."""
        device = self._device(steps[0][0])
        steps = [(arrays, [_in_8_bytes(x) for x in numbers]) for arrays, numbers in steps]
        precision = self.library.precision()
        kinds = [(precision, *map(type, numbers)) for _, numbers in steps]  # 1 may become 0.5
        with self.library.stream(device.raw, precision):
            key = (precision, len(steps))
            graph = self._graphs.get(key)
            if graph is not None and graph.kinds != kinds:
                graph = None
            if graph is None and len(steps) > 1 and len(self._graphs) >= MOST:
                return [self([step])[0] for step in steps]
            if graph is None and self.ungraphed is None and self._warm.issuperset(kinds):
                graph = self._captured(key, steps, kinds)
            if graph is not None:
                return graph.launch(steps, reuse)
            outputs = [self._once(arrays, numbers) for arrays, numbers in steps]
            self._warm.update(kinds)
            return outputs

    def _device(self, arrays: Sequence[Array]) -> Any:
        found = {device_of(a) for a in [*arrays, *self._held()] if a is not None}
        if len(found) != 1:
            raise Unfit
        return found.pop()

    def _held(self) -> list[Array]:
        leaf = next((n for n in self.work.leaves if n.op in ("state", "const")), None)
        return [] if leaf is None else [leaf.value.array if leaf.op == "state" else leaf.value]

    def _once(self, arrays: Sequence[Array], numbers: Sequence[float]) -> list[Any]:
        """Unit by unit. What it compiles and lays out serves a capture."""
        if self._slots is None:
            self._slots = Slots(len(self.work.numbers))
        self._slots.write(numbers)
        if self.ungraphed is None:  # a graph will have them in one piece
            arrays = _copied(self.library, arrays)
        with self._memory.used():
            outputs = self.work.run(arrays, list(self._slots))
        return _copied(self.library, outputs)

    def _captured(self, key: Any, steps: Sequence[Any], kinds: Any) -> Graph | None:
        try:
            graph = self._graphs[key] = Graph(self.work, self._memory, steps, kinds)
        except UncapturedError as error:
            self.ungraphed = str(error)
            log("%s runs without a graph: %s", self.program.name, error)
            return None
        return graph


class Graph:
    """Some steps of a program, captured: their inputs, numbers and outputs have fixed places, numbers fixed kinds."""

    def __init__(self, work: Work, memory: Private, steps: Sequence[Any], kinds: Any) -> None:
        library, self.kinds = work.library, kinds
        self.library, self.count, count = library, len(steps), len(work.numbers)
        first = steps[0][0]
        self.rows = [None if a is None else _rows(library, a, len(steps)) for a in first]
        pairs = list(zip(self.rows, first, strict=True))
        self.inputs = [
            [None if r is None else _row(library, r[i, ...], a) for r, a in pairs] for i in range(len(steps))
        ]
        self._fill(steps)
        self.slots = Slots(count * len(steps))
        self.slots.write([x for _, numbers in steps for x in numbers])
        slots = list(self.slots)

        def all_steps() -> list[Array]:
            each = [
                work.run(arrays, slots[i * count : (i + 1) * count], strict=True)
                for i, arrays in enumerate(self.inputs)
            ]
            return each[0] if len(each) == 1 else [_together(library, some) for some in zip(*each, strict=True)]

        self.memory = memory  # which must live as long as the graph
        self.graph, self.outputs = capture(all_steps, memory)

    def launch(self, steps: Sequence[Any], reuse: bool) -> list[Any]:
        """The outputs of these steps; with `reuse` the next launch writes over them."""
        self._fill(steps)
        self.slots.write([x for _, numbers in steps for x in numbers])
        self.graph.launch()
        outputs = self.outputs if reuse else _copied(self.library, self.outputs)
        if self.count == 1:
            return [outputs]
        return [[None if y is None else y[i, ...] for y in outputs] for i in range(self.count)]

    def _fill(self, steps: Sequence[Any]) -> None:
        """Bring the inputs to their places; those that lie side by side in one go."""
        for j, rows in enumerate(self.rows):
            if rows is not None:
                arrays = [given[j] for given, _ in steps]
                whole = self.library.joined(arrays) if self.count > 1 else None
                if whole is not None and whole.size == rows.size:
                    self.library.refill(rows, self.library.xp.reshape(whole, rows.shape))
                else:
                    for places, array in zip(self.inputs, arrays, strict=True):
                        self.library.refill(places[j], array)


def _in_8_bytes(x: float) -> float:
    """A number as a kernel can have it."""
    return x if type(x) is not int or -(1 << 63) <= x < 1 << 63 else float(x)


def _copied(library: Backend, arrays: Sequence[Array]) -> list[Array]:
    """Contiguous arrays that nobody else will write over."""
    return [None if x is None else library.copy(x) for x in arrays]


def _rows(library: Backend, x: Array, count: int) -> Array:
    """A row for each of so many arrays like x, which all begin at multiples of 16 bytes, as arrays of their own do."""
    width = max(1, 16 // x.dtype.itemsize)
    return library.xp.empty((count, -(-x.size // width) * width), dtype=x.dtype)


def _row(library: Backend, row: Array, x: Array) -> Array:
    """The place of an array like x in a row."""
    return library.xp.reshape(row[: x.size], x.shape)


def _together(library: Backend, outputs: Sequence[Array]) -> Array:
    """The outputs of all steps in one array."""
    if outputs[0] is None:
        return None
    block = library.xp.empty((len(outputs), *outputs[0].shape), dtype=outputs[0].dtype)
    for i, y in enumerate(outputs):
        block[i, ...] = y
    return block
