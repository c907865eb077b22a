"""Normalisation on CUDA: of rows in one launch, and two for the way back; of channels in two, and two or three.

Means and variances of float16 are float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

from .base import Array
from .cupy_rows import NONE, SUMS, THREADS, WARP, alike, blocks, lanes, run, whole

WIDEST = 32 * THREADS  # numbers of a row: a block has no room for more sums
MOST = 256  # blocks that share the sums for weight and bias
PIECE, PIECES = 4096, 64  # numbers of a channel that a team has at least, and teams of a channel at most


class _Rows(NamedTuple):
    """x (rows, n), weight and bias (n,)."""

    rows: int
    n: int
    lanes: int

    def forward(self, y: Array, mean: Array, var: Array, x: Array, w: Array, b: Array, eps: float) -> None:
        number, packed = blocks(self.rows, self.lanes), whole(self.n, y, x, w, b)
        run("norm.cu", "rows", number, x.dtype, y, mean, var, x, w, b, eps, *self, packed)

    def backward(
        self, dx: Array, dwb: Array, dy: Array, x: Array, w: Array, mean: Array, var: Array, eps: float
    ) -> None:
        number, packed = min(MOST, blocks(self.rows, self.lanes)), whole(self.n, dx, dy, x, w)
        parts = _empty((number, dwb.size), var.dtype)
        run("norm.cu", "rows_back", number, x.dtype, dx, parts, dy, x, w, mean, var, eps, *self, packed)
        _add_up(dwb, parts)


class _Channels(NamedTuple):
    """x (samples, channels, field), weight and bias (channels,), and a mean of `each` channels of a sample.

    With 0 it is that of a channel in all samples. A team of `lanes` threads has a channel of `chunk` samples; where the
    field is 1, a block has 32 of these.
    """

    each: int
    samples: int
    channels: int
    field: int
    chunk: int
    lanes: int

    def forward(self, y: Array, mean: Array, var: Array, x: Array, w: Array, b: Array, eps: float) -> None:
        parts, packed = self._parts(var), whole(self.field, y, x)
        run("norm.cu", "moments", self._blocks(), x.dtype, parts, x, *self[1:], packed)
        run("norm.cu", "channels", self._blocks(), x.dtype, y, mean, var, parts, x, w, b, eps, *self, packed)

    def backward(
        self, dx: Array, dwb: Array, dy: Array, x: Array, w: Array, mean: Array, var: Array, eps: float
    ) -> None:
        parts, packed = self._parts(var), whole(self.field, dx, dy, x)
        given = mean, var, eps, *self, packed
        run("norm.cu", "moments_back", self._blocks(), x.dtype, parts, dy, x, *given)
        run("norm.cu", "channels_back", self._blocks(), x.dtype, dx, dwb, parts, dy, x, w, *given)
        if self.each:
            _add_up(dwb, parts)

    def _parts(self, like: Array) -> Array:
        return _empty((-(-self.samples // self.chunk), 2 * self.channels), like.dtype)

    def _blocks(self) -> int:
        pieces = -(-self.samples // self.chunk)
        return blocks(pieces * self.channels, self.lanes) if self.field > 1 else pieces * -(-self.channels // WARP)


def _layout(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[_Rows | _Channels | None, tuple[int, ...]]:
    """How an array of that shape is normalized, and the shape of weight and bias; see `ops.norm` for these."""
    if not math.prod(shape):
        return None, ()
    match len(shape), axes:
        case 2, (1,):
            rows, n = shape
            return (_Rows(rows, n, lanes(n)) if n <= WIDEST else None), (n,)
        case 4, (2, 3):  # groups
            samples, groups, each, field = shape
            seen = _Channels(each, samples, groups * each, field, 1, lanes(field)) if field > 1 else None
            return seen, (groups, each, 1)
        case 3, (2,):
            samples, channels, field = shape
            return (_Channels(1, samples, channels, field, 1, lanes(field)) if field > 1 else None), (channels, 1)
        case (3, (0, 2)) | (2, (0,)):
            samples, channels, field = (*shape, 1)[:3]
            chunk = min(samples, max(-(-(PIECE if field > 1 else 16) // field), -(-samples // PIECES)))
            small = chunk * field < 1 << 31  # kernels count them in 32 bits
            seen = _Channels(0, samples, channels, field, chunk, lanes(chunk * field)) if small else None
            return seen, (channels, 1)[: len(shape) - 1]
    return None, ()


def _empty(shape: tuple[int, ...], dtype: Any) -> Array:
    return import_module("cupy").empty(shape, dtype)


def _given(x: Any) -> Any:
    return NONE if x is None else import_module("cupy").ascontiguousarray(x)


def _add_up(out: Array, parts: Array) -> None:
    run("norm.cu", "sum_parts", -(-out.size // WARP), out.dtype, out, parts, len(parts), out.size)


def normalized(x: Array, weight: Any, bias: Any, axes: tuple[int, ...], eps: float, centred: bool) -> Any:
    """See `backend.norm`."""
    seen, spread = _layout(x.shape, axes)
    given = [p for p in (weight, bias) if p is not None]
    if seen is None or not alike(x, *given) or any(p.shape != spread for p in given):
        return NotImplemented
    if not centred and not isinstance(seen, _Rows):
        return NotImplemented
    y, kind = _empty(x.shape, x.dtype), SUMS[x.dtype.name]
    shape = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    mean, var = _empty(shape, kind) if centred else None, _empty(shape, kind)
    seen.forward(y, _given(mean), var, _given(x), _given(weight), _given(bias), float(eps))
    return y, mean, var


def normalized_back(
    dy: Array, x: Array, weight: Any, mean: Any, var: Array, axes: tuple[int, ...], eps: float, spread: tuple[int, ...]
) -> Any:
    """See `backend.norm`; gradients of weight and bias are summed up."""
    seen, wanted = _layout(x.shape, axes)
    if seen is None or spread != wanted or not alike(dy, x, weight):
        return NotImplemented
    dx, dwb = _empty(x.shape, x.dtype), _empty((2, *spread), x.dtype)
    seen.backward(dx, dwb, _given(dy), _given(x), _given(weight), _given(mean), _given(var), float(eps))
    return dx, dwb[0], dwb[1]


OVERRIDES: dict[str, Callable[..., Array]] = {"normalized": normalized, "normalized_back": normalized_back}
