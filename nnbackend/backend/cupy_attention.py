"""Attention on CUDA: products, and one kernel between them. What the functions are is said in `backend.attention`.

As many blocks of queries are done at once as there is room for; dropout draws its numbers for each block all the same.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import numpy as np

from . import gemm
from .base import Array
from .cupy_random import address, kept_numbers
from .kernels import BLOCK, launch
from .query_blocks import blocks
from .slots import Slot

FLOATS = ("float32", "float64", "float16")
MOST = 1 << 27  # weights at a time, unless one block has more
WARP, LONG = 32, 1024  # up to so many keys, a row of scores is the work of a warp
ALL, CAUSAL, WHERE, ADDED = map(np.int32, range(4))  # which keys a query looks at


class Scores:
    """How the scores of some queries are made and turned into weights."""

    def __init__(
        self, q: Array, k: Array, mask: Any, scale: float, causal: bool, p: float, at: tuple[Any, ...]
    ) -> None:
        self.lead = np.broadcast_shapes(q.shape[:-2], k.shape[:-2])
        self.heads, self.queries, self.keys = math.prod(self.lead), q.shape[-2], k.shape[-2]
        self.q, self.k, self.mask, self.scale, self.at = q, k, mask, float(scale), at
        self.look = CAUSAL if causal else ALL if mask is None else WHERE if mask.dtype == bool else ADDED
        rows = blocks(self.queries, self.keys)[0].stop
        self.together = rows * max(1, MOST // (self.heads * rows * self.keys))
        self.dropout = rows if p else 0, *kept_numbers(q.dtype, p)

    def pieces(self) -> Iterator[slice]:
        """Queries that are done at once."""
        for first in range(0, self.queries, self.together):
            yield slice(first, min(first + self.together, self.queries))

    def of(self, rows: slice) -> Array:
        """The products of these queries and all keys."""
        return product(self.q[..., rows, :], self.k.mT)

    def run(self, kernel: str, rows: slice, scores: Array, *others: Any) -> None:
        """Start a kernel on the scores of these queries."""
        lanes, n = WARP if self.keys <= LONG else BLOCK, rows.stop - rows.start
        launch(
            "attention.cu", f"{kernel}_{scores.dtype.name}", self.heads * n * lanes, scores, *others,
            np.int32(lanes), self.heads, n, np.int32(self.keys), rows.start, self.queries, self.scale,
            self.look, *self._seen(rows), *self.dropout, *self.at,
        )  # fmt: skip

    def _seen(self, rows: slice) -> tuple[Any, ...]:
        """The mask of these queries, how many heads its second axis has, and strides."""
        if self.look in (ALL, CAUSAL):
            return np.uint64(0), 1, 0, 0, 0, np.int32(0)
        mask = self.mask if self.mask.shape[-2] == 1 else self.mask[..., rows, :]
        n, outer = rows.stop - rows.start, (*self.lead, 1)[0]
        mask = import_module("cupy").broadcast_to(mask, (*self.lead, n, self.keys)).reshape(outer, -1, n, self.keys)
        *strides, per_key = (stride // mask.itemsize for stride in mask.strides)
        return mask, mask.shape[1], *strides, np.int32(per_key)


def attention(
    q: Array, k: Array, v: Array, mask: Any, scale: float, causal: bool,
    p: float, key: int, site: int, step: int | Slot,
) -> Any:  # fmt: skip
    """The means, and logarithms: float32 for float16."""
    mask = None if causal else mask
    if not _takes(q, k, v, mask):
        return NotImplemented
    if q.dtype == np.float16:  # what is not scaled may have no place there
        q, scale = q * scale, 1.0
    scores = Scores(q, k, mask, scale, causal, p, address(key, site, step))
    logs, means = _empty((*scores.lead, scores.queries, 1), np.float32 if q.dtype == np.float16 else q.dtype), []
    for rows in scores.pieces():
        w = scores.of(rows)
        scores.run("weigh", rows, w, logs)
        means.append(product(w, v))
    return _joined(means), logs


def attention_back(
    q: Array, k: Array, v: Array, mask: Any, y: Array, logs: Array, dy: Array, scale: float, causal: bool,
    p: float, key: int, site: int, step: int | Slot, masked: bool,
) -> Any:  # fmt: skip
    """The gradients, before sums over broadcast axes."""
    mask = None if causal else mask
    if not _takes(q, k, v, mask):
        return NotImplemented
    ascontiguousarray, inside, slope = import_module("cupy").ascontiguousarray, scale, scale
    if early := masked or q.dtype == np.float16:  # the gradient of a mask is that of the scores
        q, inside, slope = q * scale, 1.0, 1.0
    scores = Scores(q, k, mask, inside, causal, p, address(key, site, step))
    y, dy = ascontiguousarray(y), ascontiguousarray(dy)
    dqs, dks, dvs, dmasks = [], [], [], []
    for rows in scores.pieces():
        w, d = scores.of(rows), product(dy[..., rows, :], v.mT)
        scores.run("weigh_back", rows, w, d, logs, y, dy, y.shape[-1], float(slope))
        dqs.append(product(d, k))
        dks.append(product(d.mT, q[..., rows, :]))
        dvs.append(product(w.mT, dy[..., rows, :]))
        dmasks.append(d)
    dq = _joined(dqs)
    if early:
        dq *= scale
    parts = dq, functools.reduce(operator.iadd, dks), functools.reduce(operator.iadd, dvs)
    return (*parts, _joined(dmasks)) if masked else parts


def product(a: Array, b: Array) -> Array:
    """The product of stacks of matrices."""
    y = gemm.product(a, b)
    return a @ b if y is NotImplemented else y


def _takes(q: Array, k: Array, v: Array, mask: Any) -> bool:
    """Whether the functions here are for these arrays: floats of one kind, whose heads are those of the scores."""
    arrays = [q, k, v] if mask is None else [q, k, v, mask]
    if not all(isinstance(x, import_module("cupy").ndarray) and x.size for x in arrays):
        return False
    if q.dtype.name not in FLOATS or k.shape[-2] > MOST or {x.dtype for x in arrays} - {np.dtype(bool)} != {q.dtype}:
        return False
    lead = np.broadcast_shapes(q.shape[:-2], k.shape[:-2])
    return bool(np.broadcast_shapes(lead, *(x.shape[:-2] for x in arrays)) == lead)


def _joined(parts: list[Array]) -> Array:
    """Side by side along the queries."""
    if len(parts) == 1:
        return parts[0]
    shape, n = parts[0].shape, sum(x.shape[-2] for x in parts)
    y, first = _empty((*shape[:-2], n, shape[-1]), parts[0].dtype), 0
    for x in parts:
        y[..., first : first + x.shape[-2], :] = x
        first += x.shape[-2]
    return y


def _empty(shape: tuple[int, ...], dtype: Any) -> Array:
    return import_module("cupy").empty(shape, dtype)


OVERRIDES: dict[str, Callable[..., Any]] = {"attention": attention, "attention_back": attention_back}
