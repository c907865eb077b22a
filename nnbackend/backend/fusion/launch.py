"""Running groups: how many threads, in which form, and where partial results go. All of it by shape and dtype only."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np

from ..base import DTYPES, Array
from ..kernels import BLOCK
from ..slots import Slot
from .group import Constant, Group, Input, Reduction
from .ops import NAMES
from .text import ACCUMULATED, WORDS, Kernel, named, sizes, written

MOST = 8  # elements that a thread has at a time
LINE = 128  # bytes of memory that are read together
TURNS = 8  # of a thread before several blocks share the work on one result
REGISTERS = 96  # of a thread for what it reads and stores
BLOCKS = 512  # enough for any GPU
NARROW = 1 << 30  # places that are counted in 32 bits
THREADS = (BLOCK,)
HERE = np.uint64(0)  # the address of a number that is given itself
NONE = {"sum": 0, "prod": 1, "mean": math.nan}  # the reduction of nothing

_launches: dict[Any, Launch] = {}


def run(group: Group, arrays: Sequence[Array], numbers: Sequence[float | Slot], outs: Sequence[Array]) -> None:
    """Do a group's work on CuPy's current stream: one launch, or two for a large reduction.

    `arrays` are laid out as the group says. `outs` are for its outputs, in its shape, and then its reductions, all
    contiguous; one may be an array that is read, if it is laid out alike. ValueError for the maximum of nothing.
    """
    prepared(group, arrays, outs)(arrays, numbers, outs)


def prepared(group: Group, arrays: Iterable[Array], outs: Sequence[Array]) -> Launch:
    """What `run` calls: the launch for arrays of these dtypes, which begin at such places."""
    aligned = tuple([x.data.ptr % 16 == 0 for x in (*arrays, *outs)])
    stored = tuple([NAMES[x.dtype] for x in outs[len(group.outputs) :]]) if group.reductions else ()
    key = group, aligned, stored
    launch = _launches.get(key)
    if launch is None:
        launch = _launches[key] = Launch(*key)
    return launch


def text(group: Group) -> str:
    """The CUDA source of a group whose arrays begin at multiples of 16 bytes."""
    stored = tuple([group.result(r) for r in group.reductions])
    return written(Launch(group, (True,) * (len(group.inputs) + len(group.outputs) + len(stored)), stored).kernel)


@cache
def _cupy() -> Any:
    return import_module("cupy")


@cache
def compiled(kernel: Kernel) -> Any:
    """The kernel, compiled by CuPy with the options of its own."""
    return _cupy().RawModule(code=written(kernel), options=("-std=c++17",)).get_function(named(kernel))


class Launch:
    """A group made ready: the kernel, how many blocks of it, and the arguments that are always the same.

    `count` elements are behind a result, if those of the group are not all.
    """

    def __init__(self, group: Group, aligned: tuple[bool, ...], stored: tuple[str, ...], count: int = 0) -> None:
        lengths, reduced, strides = _collapsed(group)
        parts = [math.prod(n for n, r in zip(lengths, reduced, strict=True) if r is want) for want in (False, True)]
        self.results, elements = parts
        self.count = count or elements
        self.group, self.reductions, self.size = group, group.reductions, math.prod(parts)
        self.partial: list[tuple[tuple[int, ...], np.dtype[Any]]] = []
        self.then: Launch | None = None
        hows = [r.op for r in group.reductions]
        columns = bool(group.reductions) and not reduced[-1]
        together = _together(group, lengths, strides, aligned, columns)
        values = {"results": self.results, "elements": elements if group.reductions else self.size, "count": self.count}
        if group.reductions:
            form = _columns if columns else _rows
            lanes, slots, segments, blocks = form(self.results, elements, together, group)
            values.update(lanes=lanes, slots=slots, segments=segments)
            if segments > 1:
                stored = self._in_two_stages(segments, columns, stored)
                hows = ["sum" if how == "mean" else how for how in hows]
        else:
            blocks = -(-self.size // (BLOCK * together))
        extents = [sum(abs(s) * (n - 1) for s, n in zip(way, lengths, strict=True)) for way in strides]
        wide = max(self.size, self.count, *extents) >= NARROW
        layouts, names = _layouts(strides, together, aligned)
        inputs = tuple([(x.dtype, names[i]) for i, x in enumerate(group.inputs)])
        values.update({f"d{i}": n for i, n in enumerate(lengths)})
        values.update({f"s{i}_{j}": s for i, (way, _) in enumerate(layouts) for j, s in enumerate(way)})
        steps, words = _lifted(group)
        reductions = tuple([Reduction(r.value, how, ()) for r, how in zip(group.reductions, hows, strict=True)])
        patterns = tuple([pattern for _, pattern in layouts])
        beside = aligned[len(inputs) : len(inputs) + len(group.outputs)]
        self.kernel = Kernel(
            tuple(reduced), together, wide, patterns, inputs, group.numbers, steps, group.outputs, beside, reductions,
            stored,
        )  # fmt: skip
        whole = np.int64 if wide else np.int32
        self.constant = (*words, *[whole(values[name]) for name in sizes(self.kernel)])
        self.grid, self._function = (blocks,), None

    def _in_two_stages(self, segments: int, columns: bool, stored: tuple[str, ...]) -> tuple[str, ...]:
        """Partial results of each segment are kept, in the dtypes that are answered, and reduced by a second launch."""
        shape = (segments, self.results) if columns else (self.results, segments)
        kept = tuple([ACCUMULATED.get(dtype, dtype) for dtype in stored])
        self.partial = [(shape, DTYPES[dtype]) for dtype in kept]
        inputs = tuple([Input(dtype, (shape[1], 1)) for dtype in kept])
        axes = (0,) if columns else (1,)
        reductions = tuple([Reduction(i, r.op, axes) for i, r in enumerate(self.reductions)])
        stage = Group(shape, inputs, (), (), (), reductions)
        self.then = Launch(stage, (True,) * (2 * len(kept)), stored, self.count)
        return kept

    def __call__(self, arrays: Sequence[Array], numbers: Sequence[float | Slot], outs: Sequence[Array]) -> None:
        """Run it."""
        if not self.size:
            self._of_nothing(outs)
            return
        kernel = self._function or self._compiled()
        given = _given(self.group.numbers, numbers) if numbers else ()
        if self.then is None:
            kernel(self.grid, THREADS, (*arrays, *outs, *given, *self.constant))
            return
        n = len(self.group.outputs)
        partial = [_cupy().empty(shape, dtype) for shape, dtype in self.partial]
        kernel(self.grid, THREADS, (*arrays, *outs[:n], *partial, *given, *self.constant))
        self.then(partial, (), outs[n:])

    def _compiled(self) -> Any:
        self._function = compiled(self.kernel)
        return self._function

    def _of_nothing(self, outs: Sequence[Array]) -> None:
        for r, out in zip(self.reductions, outs[len(self.group.outputs) :], strict=True):
            if out.size:
                if r.op not in NONE:
                    raise ValueError(f"{r.op}: expected elements, got a shape of {self.group.shape}, which has none.")
                out.fill(NONE[r.op])


def _given(kinds: Sequence[str], numbers: Sequence[float | Slot]) -> list[Any]:
    """Each number as two arguments: itself, and where it is to be read instead."""
    given: list[Any] = []
    for x, kind in zip(numbers, kinds, strict=True):
        number = float if kind == "float" else int
        given += (number(0), np.uint64(x.address)) if isinstance(x, Slot) else (number(x), HERE)
    return given


# -- layout ----------------------------------------------------------------------------------------------------------


def _collapsed(group: Group) -> tuple[list[int], list[bool], list[tuple[int, ...]]]:
    """Lengths of the axes, whether they are reduced, and the strides of the group and of each input along them.

    Axes of length 1 are left out, and those that lie together are made one.
    """
    along = {axis % len(group.shape) for r in group.reductions for axis in r.axes}
    own = [math.prod(group.shape[i + 1 :]) for i in range(len(group.shape))]
    axes: list[tuple[int, bool, tuple[int, ...]]] = []
    for i, n in enumerate(group.shape):
        strides = (own[i], *[x.strides[i] for x in group.inputs])
        if n == 1:
            continue
        if axes:
            m, reduced, outer = axes[-1]
            if reduced == (i in along) and all(a == b * n for a, b in zip(outer, strides, strict=True)):
                axes[-1] = m * n, reduced, strides
                continue
        axes.append((n, i in along, strides))
    axes = axes or [(1, bool(group.reductions), (1,) * (len(group.inputs) + 1))]
    lengths, reduced_axes, steps = zip(*axes, strict=True)
    return list(lengths), list(reduced_axes), list(zip(*steps, strict=True))


def _together(
    group: Group, lengths: list[int], strides: list[tuple[int, ...]], aligned: tuple[bool, ...], columns: bool
) -> int:
    """Elements that a thread has at a time: 16 bytes of the widest dtype, or as many as one block of Philox makes.

    Those that are reduced are as many for all arrays of the same shape and dtype, for this decides the order.
    """
    if group.reductions:
        axes = [n for n in group.shape if n > 1]
        together = min(16 // _size(group), MOST)
        return 1 if axes and axes[-1] % together and (columns or len(axes) > 1) else together
    if not all(aligned[len(group.inputs) : len(group.inputs) + len(group.outputs)]):
        return 1
    moved = [x.dtype for x, way in zip(group.inputs, strides[1:], strict=True) if way[-1]]
    moved += [group.dtype(v) for v in group.outputs]
    together = min(16 // max((DTYPES[dtype].itemsize for dtype in moved), default=4), MOST)
    drawn = [step.dtype for step in group.steps if step.op == "uniform_like"]
    together = max(together, *[4 if dtype == "float64" else 8 for dtype in drawn]) if drawn else together
    if lengths[-1] % together and len(lengths) > 1:
        return 1
    while together > 1 and together * sum(max(DTYPES[dtype].itemsize // 4, 1) for dtype in moved) > REGISTERS:
        together //= 2
    return together


def _size(group: Group) -> int:
    """The bytes of the widest value that is reduced."""
    return max(DTYPES[group.dtype(r.value)].itemsize for r in group.reductions)


def _layouts(
    strides: list[tuple[int, ...]], together: int, aligned: tuple[bool, ...]
) -> tuple[list[tuple[tuple[int, ...], tuple[int | None, ...]]], list[int]]:
    """The strides and patterns that there are, that of the group first, and which of them each input has."""
    found: list[tuple[tuple[int, ...], tuple[int | None, ...]]] = []
    names = []
    for i, way in enumerate(strides):
        beside = way[-1] == 1 and (
            together == 1 or (all(s % together == 0 for s in way[:-1]) and (not i or aligned[i - 1]))
        )
        last = 0 if way[-1] == 0 else 1 if beside else None
        layout = way, (*[0 if s == 0 else None for s in way[:-1]], last)
        if layout not in found:
            found.append(layout)
        names.append(found.index(layout))
    return found, names[1:]


def _lifted(group: Group) -> tuple[tuple[Any, ...], list[Any]]:
    """The steps without the addresses of random numbers, and these as arguments."""
    steps, words = [], []
    for step in group.steps:
        if step.op == "uniform_like":
            for word, x in zip(WORDS, step.operands, strict=False):
                if isinstance(x, Constant):
                    low, high = int(x.value) & (1 << 64) - 1, int(x.value) >> 64
                    words += [np.uint64(low), np.uint64(high)] if word == "key" else [np.uint64(low)]
            step = step._replace(operands=tuple([Constant(0) if isinstance(x, Constant) else x for x in step.operands]))
        steps.append(step)
    return tuple(steps), words


# -- forms of reductions: lanes, slots, segments and blocks ----------------------------------------------------------


def _power(n: int) -> int:
    """The smallest power of two that is not below n."""
    return 1 << max(n - 1, 0).bit_length()


def _rows(results: int, elements: int, together: int, group: Group) -> tuple[int, int, int, int]:
    turns = -(-elements // together)
    lanes = min(BLOCK, _power(turns if results < BLOCKS * TURNS else -(-turns // 4)))
    return _shared(results, turns, lanes, BLOCK // lanes)


def _columns(results: int, elements: int, together: int, group: Group) -> tuple[int, int, int, int]:
    """A line of memory is read by threads side by side."""
    slots = min(max(LINE // (together * _size(group)), 1), _power(results // together))
    lanes = min(BLOCK // slots, _power(elements))
    return _shared(results // together, elements, lanes, BLOCK // lanes)


def _shared(results: int, turns: int, lanes: int, slots: int) -> tuple[int, int, int, int]:
    groups = -(-results // slots)
    turns = -(-turns // lanes)
    segments = min(-(-turns // TURNS), max(1, BLOCKS // groups)) if turns > 2 * TURNS else 1
    return lanes, slots, segments, groups * segments
