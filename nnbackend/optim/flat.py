"""Laying parameters out: many small arrays become slices of one flat buffer, so that one call updates them all.

The layout is a cache over the parameters, not their home. A run is a stretch of one buffer whose parameters always
step together; when only some of them have a gradient, it falls into shorter runs, over the same memory.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

from ..backend import Array, backend_of, namespace
from ..cells import Buffer, Cell, Parameter, Scalar


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


History: TypeAlias = dict[Parameter, tuple[int, dict[str, Array]]]


class Run:
    """Parameters side by side in one buffer (or a single one, alone) with what an optimizer remembers of them."""

    def __init__(self, parameters: list[Parameter], steps: int, slots: dict[str, Buffer]) -> None:
        first = parameters[0]
        self.parameters, self.slots, self.steps = parameters, slots, Scalar(steps, "steps")
        self.home: Cell = _home(first)
        self.start = first.offset
        self.stop = self.start + sum(math.prod(p.shape) for p in parameters)
        self.whole = self.home is first or self.stop - self.start == math.prod(self.home.shape)

    def intact(self) -> bool:
        """Whether the parameters are still where they were, in the same dtype."""
        offset = self.start
        for p in self.parameters:
            if _home(p) is not self.home or p.offset != offset:
                return False
            offset += math.prod(p.shape)
        return all((s.device, s.dtype) == (self.home.device, self.home.dtype) for s in self.slots.values())

    def weights(self) -> Array:
        """The parameters as one array, to be written to."""
        data = self.home.data
        return data if self.whole else data[self.start : self.stop]

    def gradient(self, gradients: list[Array]) -> Array:
        """The gradients as one array of the same shape."""
        if self.home is self.parameters[0]:
            return gradients[0]
        return namespace(gradients[0]).concat(gradients, axis=None)

    def remembered(self, p: Parameter) -> dict[str, Array]:
        """What the slots hold of one parameter, in its shape."""
        if self.home is p:
            return {name: slot.array for name, slot in self.slots.items()}
        start = next(o for o, q in zip(self._offsets(), self.parameters, strict=True) if q is p)
        stop = start + math.prod(p.shape)
        return {n: namespace(s.array).reshape(s.array[start:stop], p.shape) for n, s in self.slots.items()}

    def _offsets(self) -> Iterator[int]:
        return itertools.accumulate((math.prod(p.shape) for p in self.parameters), initial=0)


def runs_of(
    parameters: list[Parameter], history: History, names: tuple[str, ...], apart: Callable[[Parameter], Any]
) -> list[Run]:
    """The longest runs that `parameters` form in this order. Another number of steps, or another `apart`, stands apart.

    `history` has the number of steps and the slots of each parameter that has stepped before; slots start at 0.
    """
    runs: list[list[Parameter]] = []
    for p in parameters:
        last = runs[-1][-1] if runs else None
        if (
            last is not None
            and _beside(last, p)
            and _steps(history, p) == _steps(history, last)
            and apart(p) == apart(last)
        ):
            runs[-1].append(p)
        else:
            runs.append([p])
    return [Run(members, _steps(history, members[0]), _slots(members, history, names)) for members in runs]


def _home(p: Parameter) -> Cell:
    return p if p.home is None else p.home


def _beside(p: Parameter, q: Parameter) -> bool:
    return p.home is not None and p.home is q.home and q.offset == p.offset + math.prod(p.shape)


def _steps(history: History, p: Parameter) -> int:
    return history[p][0] if p in history else 0


def _slots(members: list[Parameter], history: History, names: tuple[str, ...]) -> dict[str, Buffer]:
    slots, xp = {}, namespace(members[0].array)
    for name in names:
        old = [history[p][1].get(name) if p in history else None for p in members]
        parts = [xp.zeros_like(p.array) if v is None else _moved(v, p) for p, v in zip(members, old, strict=True)]
        slots[name] = Buffer(xp.concat(parts, axis=None) if members[0].home is not None else parts[0], name)
    return slots


def _moved(old: Array, p: Parameter) -> Array:
    """A remembered array on the device and in the dtype the parameter has now."""
    backend = backend_of(old)
    if backend is backend_of(p.array) and old.dtype == p.array.dtype and old.device == p.array.device:
        return old
    host = backend.to_host(old)
    return p.device.put(host.astype(p.dtype))
