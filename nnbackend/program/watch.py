"""A step that is looked at operation by operation: where a value that is not finite was born."""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..backend import FLOATING, NUMPY, backend_of, is_array, to_host
from ..recorder import Between
from ..tape import TENSORS, part_of
from ..tensor import Tensor
from .trace import ours


@dataclass(frozen=True)
class Range:
    """What an array holds: its lowest and highest finite value, and how many zeros, NaN and infinities."""

    name: str
    size: int
    low: float
    high: float
    zeros: int
    nans: int
    infinities: int

    @classmethod
    def of(cls, name: str, x: Any) -> Range:
        """That of an array or a number."""
        host = to_host(x) if is_array(x) else NUMPY.xp.asarray(x)
        xp = NUMPY.xp
        finite = host[xp.isfinite(host)]
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (math.nan, math.nan)
        nans = int(xp.isnan(host).sum())
        return cls(name, host.size, low, high, int((host == 0).sum()), nans, host.size - finite.size - nans)

    @property
    def largest(self) -> float:
        """The largest finite absolute value; 0 if there is none."""
        return max(abs(self.low), abs(self.high)) if self.low == self.low else 0.0

    def __str__(self) -> str:
        counts = (self.zeros, "zero" if self.zeros == 1 else "zeros"), (self.nans, "NaN"), (self.infinities, "infinite")
        notes = ", ".join(f"{n} {what}" for n, what in counts if n and self.size > 1)
        if self.size == 1:
            value = self.low if self.low == self.low else math.nan if self.nans else math.inf
            return f"{self.name} {value:.4g}"
        span = f" from {self.low:.4g} to {self.high:.4g}" if self.low == self.low else ""
        return f"{self.name}{span}{f' ({notes})' if notes else ''}"


@dataclass(frozen=True)
class Place:
    """Where an operation stands: its layer (a module, or an optimizer), and the user's line."""

    owner: Any
    line: str
    batch: int | None  # which of the batches the result comes from

    @property
    def layer(self) -> str:
        """The layer's path and line, as in all messages."""
        if self.owner is None or not hasattr(self.owner, "path"):
            return type(self.owner).__name__ if self.owner is not None else ""
        path, line = self.owner.path, self.owner._line()
        return f"{path} = {line}" if path else str(line)


NOWHERE = Place(None, "", None)


@dataclass
class Birth:
    """A value that is not finite: what made it, of which inputs, and which of those were not finite before.

    `way` is "forward", "backward" or "update"; "data" for a part of a batch, "state" for a parameter or a buffer, by
    whose name `op` then is called.
    """

    op: str
    way: str
    place: Place
    inputs: tuple[Range, ...]
    output: Range
    dtype: str
    rows: tuple[int, ...] = ()  # of all batches of the step, one after the other
    causes: list[Birth] = field(default_factory=list)
    spilled: bool = False  # backward: finite inputs, but not the result of the forward

    @property
    def layer(self) -> str:
        """Path and line of its layer; empty outside of all."""
        return self.place.layer

    @property
    def given(self) -> bool:
        """Whether its infinities were given, as by a mask that fills in -inf."""
        if self.output.nans or self.way != "forward":
            return False
        return all(c.given for c in self.causes) if self.causes else any(r.infinities for r in self.inputs)

    @property
    def origin(self) -> Birth:
        """The first on the way here."""
        here = self
        while True:
            nans = [c for c in here.causes if c.output.nans] if here.output.nans else []
            others = [c for c in here.causes if not c.given or here.given]
            if not (nans or others):
                return here
            here = (nans or others)[0]


class Watch(Between):
    """Around an eager step on some batches, each a dict of Tensors by name.

    `of(x)` says afterwards how a Tensor, or its gradient, came to be not finite.
    """

    def __init__(self, batches: Sequence[Mapping[str, Any]]) -> None:
        super().__init__()
        self._data = {id(t.data): (t.data, name, i) for i, batch in enumerate(batches) for name, t in batch.items()}
        self._sizes = [max((len(t) for t in batch.values()), default=0) for batch in batches]
        self._asked: list[tuple[tuple[Any, ...], list[Any]]] = []  # operands of ops that have no result yet
        self._places: dict[int, Place] = {}  # by id of results
        self._bad: dict[int, tuple[Any, Birth]] = {}  # by id: results, kept so that no other gets the id
        self._slopes: dict[int, tuple[Any, Birth]] = {}  # by id: Tensors whose gradients are not finite
        self._owners: list[Any] = [None]
        self._now: Any = None
        self._caller: Any = None

    def __enter__(self) -> None:
        self._caller = sys._getframe(1)
        super().__enter__()

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self._caller = self._now = None

    def of(self, x: Any) -> Birth | None:
        """How the values of a Tensor, or else its gradient, came to be not finite; None where nothing was seen."""
        raw = x.array if x.is_cell else x.data
        found = self._bad.get(id(raw)) or self._slopes.get(id(x))
        return found and found[1]

    # -- what ops, layers and the tape tell
    def operands(self, args: tuple[Any, ...], raw: list[Any]) -> Any:
        """The next result may be of these."""
        if any(a.__class__ in TENSORS for a in args):  # else it is not told
            self._asked.append((args, raw))
        return self.behind.operands(args, raw)

    def result(self, op: Callable[..., Any], y: Any) -> None:
        """The value of an op."""
        args, raw = self._asked.pop()
        batch = next((i for i in map(self._batch, raw) if i is not None), None)
        place = self._places[id(y)] = Place(self._owners[-1], self._line(), batch)
        for part in y if isinstance(y, tuple) else (y,):
            self._places[id(part)] = place
            if not sound(part):
                way = "update" if hasattr(place.owner, "param_groups") else "forward"
                self._bad[id(part)] = part, self._birth(op, way, place, args, raw, part)
        self.behind.result(op, y)

    def going_back(self, t: Any) -> None:
        """The way back through what made `t`."""
        self._now = t
        self.behind.going_back(t)

    def gradient(self, p: Any, dx: Any) -> None:
        """A gradient, or one for each of several results."""
        parts = dx.values() if isinstance(dx, dict) else (dx,)
        bad = next((part for part in parts if not sound(part)), None)
        if bad is not None and id(p) not in self._slopes:
            t = self._now
            _, op, args, *_ = t.node
            place = self._places.get(id(t.data), NOWHERE)
            raw = [a.data if a.__class__ in TENSORS else a for a in args]
            if p.is_cell:
                place = Place(place.owner, place.line, None)
            birth = self._birth(op, "backward", place, args, raw, bad)
            if (above := self._slopes.get(id(t))) is not None:
                birth.causes = [above[1]]
            birth.spilled = not birth.causes and op is not part_of and id(t.data) in self._bad
            self._slopes[id(p)] = p, birth
        self.behind.gradient(p, dx)

    @contextlib.contextmanager
    def scope(self, owner: Any) -> Iterator[None]:
        """A layer at work, or an optimizer."""
        self._owners.append(owner)
        try:
            with self.behind.scope(owner):
                yield
        finally:
            self._owners.pop()

    # -- in words
    def _birth(self, op: Any, way: str, place: Place, args: Any, raw: Any, y: Any) -> Birth:
        arrays = [(a, x) for a, x in zip(args, raw, strict=True) if is_array(x) or type(x) in (int, float)]
        names = [a.name if getattr(a, "is_cell", False) and a.name else "" for a, _ in arrays]
        plain = names.count("")
        numbers = iter(range(1, plain + 1))
        names = [name or ("input" if plain == 1 else f"input {next(numbers)}") for name in names]
        causes = [self._cause(a, x) for a, x in arrays if is_array(x) and not sound(x)]
        return Birth(
            op.__name__,
            way,
            place,
            tuple(Range.of(name, x) for name, (_, x) in zip(names, arrays, strict=True)),
            Range.of("output", y),
            str(backend_of(y).canonical(y.dtype)),
            self._bad_rows(y, place.batch),
            [cause for cause in causes if cause is not None],
        )

    def _cause(self, a: Any, x: Any) -> Birth | None:
        """How an input came to be not finite; None if it was given, and is neither data nor state."""
        if id(x) in self._bad:
            return self._bad[id(x)][1]
        _, name, batch = self._data.get(id(x), (None, getattr(a, "name", ""), None))
        if batch is None and not getattr(a, "is_cell", False):
            return None
        way, dtype = "state" if batch is None else "data", str(backend_of(x).canonical(x.dtype))
        return Birth(name, way, NOWHERE, (), Range.of("values", x), dtype, self._bad_rows(x, batch))

    def _batch(self, x: Any) -> int | None:
        """Which of the batches an array is of, or comes from."""
        if id(x) in self._data:
            return self._data[id(x)][2]
        return self._places.get(id(x), NOWHERE).batch

    def _bad_rows(self, x: Any, batch: int | None) -> tuple[int, ...]:
        """The rows that are not finite, if it has one for each of a batch."""
        if batch is None or not x.shape or x.shape[0] != self._sizes[batch]:
            return ()
        finite = NUMPY.xp.isfinite(to_host(x)).reshape(x.shape[0], -1).all(axis=1)
        return tuple((sum(self._sizes[:batch]) + (~finite).nonzero()[0]).tolist())

    def _line(self) -> str:
        """The user's innermost line on the way to here, as "model.py:41"; empty if there is none."""
        frame: Any = sys._getframe(1)
        while frame is not None and frame is not self._caller:
            if not ours(frame):
                return f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"
            frame = frame.f_back
        return ""


def sound(x: Any) -> bool:
    """Whether all values are finite; whole numbers always are."""
    if not is_array(x):
        return True
    raw = x.data if isinstance(x, Tensor) else x
    backend = backend_of(raw)
    if backend.canonical(raw.dtype) not in FLOATING:
        return True
    return bool(to_host(backend.xp.all(backend.xp.isfinite(raw))))
