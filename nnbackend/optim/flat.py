"""Laying parameters out: many small arrays become slices of one flat buffer, so that one call updates them all.

The layout is a cache over the parameters, not their home. A run is a stretch of one buffer whose parameters always
step together; when only some of them have a gradient, it falls into shorter runs, over the same memory.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from ..backend import Array, backend_of, dtype_name, namespace
from ..cells import Buffer, Cell, Parameter, Scalar

NARROW = ("float16", "bfloat16")  # weights of these are updated in float32
RESIDUAL = "residual"  # the slot for what rounding to them takes away
Start: TypeAlias = (
    float | tuple[int, ...]
)  # of a slot: a number to fill the parameter's shape, or a shape to fill with 0


def lay_out(parameters: Iterable[Parameter]) -> None:
    """Move parameters that have no flat home into one, a buffer for each device and dtype."""
    homeless: dict[Any, list[Parameter]] = {}
    for p in parameters:
        if p.home is None and backend_of(p.array).views:
            homeless.setdefault((str(p.device), p.dtype), []).append(p)
    for members in homeless.values():
        xp = namespace(members[0].array)
        home = Buffer(xp.concat([p.array for p in members], axis=None), "parameters")
        offset = 0
        for p in members:
            n = math.prod(p.shape)
            p.rehome(xp.reshape(home.array[offset : offset + n], p.shape), home, offset)
            offset += n


class Memory:
    """What an optimizer knows of one parameter: how often it has stepped, arrays and numbers by name."""

    __slots__ = ("numbers", "slots", "steps")

    def __init__(self, steps: int, slots: dict[str, Array], numbers: dict[str, float]) -> None:
        self.steps, self.slots, self.numbers = steps, slots, numbers


History: TypeAlias = dict[Parameter, Memory]


class Run:
    """Parameters side by side in one buffer (or a single one, alone) with what an optimizer remembers of them.

    A run is `alone` if it is one parameter in its own shape.
    """

    def __init__(
        self, parameters: list[Parameter], alone: bool, steps: int, slots: dict[str, Buffer], numbers: dict[str, Scalar]
    ) -> None:
        first = parameters[0]
        self.parameters, self.alone = parameters, alone
        self.slots, self.numbers, self.steps = slots, numbers, Scalar(steps, "steps")
        self.home: Cell = first if alone else _home(first)
        self.start = first.offset
        self.stop = self.start + sum(math.prod(p.shape) for p in parameters)
        block = backend_of(first.array).block
        self.block = block if not alone and self.stop - self.start >= 2 * block else 0
        self.whole = alone or self.stop - self.start == math.prod(self.home.shape)

    def intact(self) -> bool:
        """Whether the parameters are still where they were, in the same dtype."""
        offset = self.start
        for p in () if self.alone else self.parameters:
            if _home(p) is not self.home or p.offset != offset:
                return False
            offset += math.prod(p.shape)
        here = (self.home.device, wide(self.home.array))
        return all((s.device, dtype_name(s.dtype)) == here for s in self.slots.values())

    def weights(self) -> Array:
        """The parameters as one array, to be written to."""
        data = self.home.data
        return data if self.whole else data[self.start : self.stop]

    def gradient(self, gradients: list[Array]) -> Array:
        """The gradients as one array of the same shape."""
        if self.alone:
            return gradients[0]
        return namespace(gradients[0]).concat(gradients, axis=None)

    def blocks(self, gradients: list[Array]) -> list[tuple[slice, list[Array]]]:
        """Stretches of at most `block` weights, each with its gradients: big ones are cut, small ones lie together."""
        parts: list[tuple[slice, list[Array]]] = []
        lo = hi = 0
        for g in gradients:
            n = math.prod(g.shape)
            if parts and hi + n - lo <= self.block:
                parts[-1] = slice(lo, hi + n), [*parts[-1][1], g]
            else:
                lo, flat = hi, namespace(g).reshape(g, (-1,))
                for i in range(0, n, self.block):
                    piece = flat[i : i + self.block]
                    lo = hi + i
                    parts.append((slice(lo, min(lo + self.block, hi + n)), [piece]))
            hi += n
        return parts

    def remembered(self) -> dict[Parameter, Memory]:
        """What is remembered of each parameter, in its shape."""
        steps, numbers = self.steps.value, {name: cell.value for name, cell in self.numbers.items()}
        if self.alone:
            slots = {name: slot.array for name, slot in self.slots.items()}
            return {p: Memory(steps, slots, numbers) for p in self.parameters}
        found = {}
        for p, (start, stop) in zip(self.parameters, itertools.pairwise(self._offsets()), strict=True):
            slots = {n: namespace(s.array).reshape(s.array[start:stop], p.shape) for n, s in self.slots.items()}
            found[p] = Memory(steps, slots, numbers)
        return found

    def _offsets(self) -> Iterator[int]:
        return itertools.accumulate((math.prod(p.shape) for p in self.parameters), initial=0)


def runs_of(
    parameters: list[Parameter],
    history: History,
    elementwise: bool,
    slots: Callable[[Parameter], Mapping[str, Start]],
    numbers: Mapping[str, float],
    apart: Callable[[Parameter], Any],
) -> list[Run]:
    """The longest runs that `parameters` form in this order; one for each if the rule is not `elementwise`.

    `history` has what is known of each parameter that has stepped before; `slots` and `numbers` say what to remember
    and how it starts. Slots that were of use before are kept. Another history, or another `apart`, stands apart.
    """
    runs: list[list[Parameter]] = []
    for p in parameters:
        last = runs[-1][-1] if runs else None
        if (
            elementwise
            and last is not None
            and _beside(last, p)
            and _steps(history, p) == _steps(history, last)
            and slots(p) == slots(last)
            and apart(p) == apart(last)
        ):
            runs[-1].append(p)
        else:
            runs.append([p])
    made = []
    for members in runs:
        first, alone = members[0], not elementwise or members[0].home is None
        steps, known = _steps(history, first)
        cells = {name: Scalar(known.get(name, start), name) for name, start in numbers.items()}
        made.append(Run(members, alone, steps, _slots(members, alone, history, slots(first)), cells))
    return made


def wide(x: Array) -> str:
    """The dtype in which a weight of this dtype is updated."""
    name: str = dtype_name(x.dtype)
    return "float32" if name in NARROW else name


def _home(p: Parameter) -> Cell:
    return p if p.home is None else p.home


def _beside(p: Parameter, q: Parameter) -> bool:
    return p.home is not None and p.home is q.home and q.offset == p.offset + math.prod(p.shape)


def _steps(history: History, p: Parameter) -> tuple[int, dict[str, float]]:
    return (history[p].steps, history[p].numbers) if p in history else (0, {})


def _slots(members: list[Parameter], alone: bool, history: History, starts: Mapping[str, Start]) -> dict[str, Buffer]:
    slots, xp = {}, namespace(members[0].array)
    older = {name: 0.0 for p in members if p in history for name in history[p].slots if name != RESIDUAL}
    for name, start in {**older, **starts}.items():
        parts = []
        for p in members:
            old = history[p].slots.get(name) if p in history else None
            parts.append(_started(start, p) if old is None else _moved(old, p))
        slots[name] = Buffer(parts[0] if alone else xp.concat(parts, axis=None), name)
    return slots


def _started(start: Start, p: Parameter) -> Array:
    shape, value = (start, 0.0) if isinstance(start, tuple) else (p.shape, start)
    backend = backend_of(p.array)
    return backend.xp.full(shape, value, dtype=backend.dtype(wide(p.array)), device=p.array.device)


def _moved(old: Array, p: Parameter) -> Array:
    """A remembered array on the device and in the dtype the parameter has now."""
    backend, dtype = backend_of(old), wide(p.array)
    if backend is backend_of(p.array) and dtype_name(old.dtype) == dtype and old.device == p.array.device:
        return old
    host = backend.to_host(old)
    return p.device.put(host.astype(dtype))
