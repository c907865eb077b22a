"""The work of a program on the device, once: each unit's kernels, in order, into memory that is let go of in time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from ...backend import Array, Slot, affine_into, fusion, product_into
from ..graph import LEAVES, Node, Program, called, is_view
from ..interpret import apply, put
from ..simplify import simplified
from .groups import Unit, units
from .places import Places, lay_out_gradients, separate

# They read a step that changes from a slot.
SLOTTED = frozenset({"uniform_like", "words_like", "integers_like", "attention", "attention_back"})

Values: TypeAlias = dict[Node, Any]


class Work:
    """All that a program does on the device. `numbers` are those of the host's that it needs, in the order of slots."""

    def __init__(self, recorded: Program) -> None:
        self.program = program = simplified(recorded)
        self.library = program.library
        separate(program)
        side_by_side = lay_out_gradients(program, self.library)
        self.units = units(program)
        self.places = places = Places(program, self.units)
        self.joined = {n: flat for n in side_by_side if (flat := places.joined(n, self.library)) is not None}
        used = dict.fromkeys(i for unit in self.units for i in unit.numbers())
        self.numbers = [n for n in used if n.op != "number"]
        self.leaves = [n for n in program.nodes if n.op in LEAVES and not n.host]
        self.tasks = [self._task(k, unit) for k, unit in enumerate(self.units)]

    @property
    def kernels(self) -> int:
        """How many kernels, or calls like that, it takes."""
        nodes = [unit.node for unit in self.units]
        return sum(not (n in self.joined or n.op == "part" or is_view(n)) for n in nodes)

    def run(self, arrays: Sequence[Array], slots: Sequence[Slot], strict: bool = False) -> list[Any]:
        """The outputs. Cells have got their new contents. ValueError if `strict` and a number does not fit a slot."""
        values: Values = {n: n.value.array if n.op == "state" else n.value for n in self.leaves if n.op != "input"}
        values |= {n: arrays[n.value] for n in self.leaves if n.op == "input"}
        values |= dict(zip(self.numbers, slots, strict=True))
        values[_STRICT] = strict
        for task, dead in zip(self.tasks, self.places.dead, strict=True):
            task(values)
            for n in dead:
                values.pop(n, None)
        for cell, n in self.program.updates:
            if values[n] is not cell.array:
                cell.array[...] = values[n]
        return [None if n.host else values[n] for n in self.program.outputs]

    # -- one unit
    def _task(self, k: int, unit: Unit) -> Callable[[Values], None]:
        if unit.fused:
            return self._fused(k, unit)
        n = unit.node
        if n in self.joined:
            flat = self.joined[n]
            return lambda values: values.update({n: flat})
        if n.op == "set":
            return self._set(k, n)
        into = INTO.get(n.op)
        if into is not None and n in self.places.home:
            home = self.places.home[n]
            return lambda values: values.update({n: into(*_given(n, values)[0], home)})
        return self._plain(n)

    def _fused(self, k: int, unit: Unit) -> Callable[[Values], None]:
        library, home = self.library, self.places.home
        stored = [n for n in self.places.stored[k] if n not in unit.ends]
        made = [*stored, *(n for n in unit.nodes if n in unit.ends)]
        arrays, numbers = unit.inputs(), unit.numbers()
        prepared: dict[Any, Any] = {}

        def task(values: Values) -> None:
            given = [values[n] for n in arrays]
            slots = [_number(n, values) for n in numbers]
            kinds = [type(s.value if isinstance(s, Slot) else s) for s in slots]
            key = (*kinds, *[x.strides for x in given])
            if key not in prepared:
                prepared[key] = unit.group(stored, [_strides(x, unit.shape) for x in given], kinds)
            outs = [home[n] if n in home else library.xp.empty(n.shape, dtype=n.dtype) for n in made]
            fusion.run(prepared[key], given, slots, outs)
            values.update(zip(made, outs, strict=True))

        return task

    def _set(self, k: int, n: Node) -> Callable[[Values], None]:
        library, home = self.library, self.places.home.get(n)
        reused = home is None and self.places.writable(n.inputs[0], k)

        def task(values: Values) -> None:
            base, value, how = _given(n, values)[0]
            if home is not None:
                if base is not home:
                    home[...] = base
                base = home
            elif not reused:
                base = library.copy(base)
            values[n] = put(base, value, how, library)

        return task

    def _plain(self, n: Node) -> Callable[[Values], None]:
        library, home = self.library, self.places.home.get(n)

        def task(values: Values) -> None:
            y = apply(n, _inputs(n, values), library)
            if home is not None:
                home[...] = y
                y = home
            values[n] = y

        return task


_STRICT: Any = object()
INTO: dict[str, Callable[..., Array]] = {"matmul": product_into, "affine": affine_into}


def _given(n: Node, values: Values) -> Any:
    return called(n, _inputs(n, values))


def _inputs(n: Node, values: Values) -> list[Any]:
    return [_number(i, values, n) if i.host else values[i] for i in n.inputs]


def _number(i: Node, values: Values, asked: Node | None = None) -> Any:
    """A number for a kernel that can read slots, or for one that cannot."""
    slot = i.args[0] if i.op == "number" else values[i]
    if not isinstance(slot, Slot) or asked is None or asked.op in SLOTTED:
        return slot
    if values[_STRICT]:
        raise ValueError(f"{asked.op} with a number that changes from step to step")
    return slot.value


def _strides(x: Array, shape: tuple[int, ...]) -> tuple[int, ...]:
    """In elements, for each axis of a shape that x broadcasts to."""
    own = [0 if n == 1 else s // x.dtype.itemsize for n, s in zip(x.shape, x.strides, strict=True)]
    return (*(0,) * (len(shape) - len(own)), *own)
