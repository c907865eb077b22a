"""Attention on NumPy: head by head, in place, and the heads spread over threads."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .base import KERNELS, Array
from .query_blocks import blocks
from .registry import NUMPY
from .threads import spread


def attention(
    q: Array, k: Array, v: Array, mask: Any, scale: float, causal: bool,
    p: float, key: int, site: int, step: int,
) -> Any:  # fmt: skip
    """Means of the values, which lie in memory as (..., l, heads, d), and logarithms of the sums of exponentials."""
    if q.dtype not in (np.float32, np.float64):
        return NotImplemented
    given, lead, (q, k, v, mask) = _heads(q, k, v, mask)
    batch = q.shape[:-2]
    y = np.zeros((*batch[:-1], q.shape[-2], batch[-1], v.shape[-1]), q.dtype).swapaxes(-3, -2)
    logs = np.zeros((*batch, q.shape[-2], 1), q.dtype)

    def head(at: Any, s: Any, t: Any) -> None:
        qs, keys, values, y_, logs_ = q[at] * scale, k[at], v[at], y[at], logs[at]
        for i, rows in enumerate(blocks(len(qs), len(keys))):
            seen = min(rows.stop, len(keys)) if causal else len(keys)
            w = _scores(qs[rows], keys[:seen], mask[at], causal, rows, s)
            if not w.size:
                continue
            top = np.max(w, axis=-1, keepdims=True)
            top[top == -math.inf] = 0.0
            w -= top
            np.exp(w, out=w)
            total = w @ np.ones((seen, 1), w.dtype)
            total[total == 0.0] = 1.0
            if p:
                w *= _kept(w, len(keys), at, lead, p, key, site, step, i)
            np.matmul(w, values[:seen], out=y_[rows])
            y_[rows] /= total
            logs_[rows] = np.log(total) + top

    _each(batch, head, q, k)
    return (y, logs) if given else (y[0], logs[0])


def attention_back(
    q: Array, k: Array, v: Array, mask: Any, y: Array, logs: Array, dy: Array, scale: float, causal: bool,
    p: float, key: int, site: int, step: int, masked: bool,
) -> Any:  # fmt: skip
    """The gradients of queries, keys and values, and with `masked` of the mask; all leading axes are there."""
    if q.dtype not in (np.float32, np.float64):
        return NotImplemented
    _, lead, (q, k, v, mask) = _heads(q, k, v, mask)
    batch = q.shape[:-2]
    y, logs, dy = (x.reshape(*batch, *x.shape[-2:]) for x in (y, logs, dy))
    shapes = [(*batch[:-1], x.shape[-2], batch[-1], x.shape[-1]) for x in (q, k, v)]
    dq, dk, dv = (np.zeros(shape, q.dtype).swapaxes(-3, -2) for shape in shapes)
    dmask = np.zeros((*batch, q.shape[-2], k.shape[-2]) if masked else (0,), q.dtype)

    def head(at: Any, s: Any, t: Any) -> None:
        qs, keys, values, dys = q[at] * scale, k[at], v[at], dy[at]
        dq_, dk_, dv_ = dq[at], dk[at], dv[at]
        slope = np.vecdot(dys, y[at])[:, None]
        for i, rows in enumerate(blocks(len(qs), len(keys))):
            seen = min(rows.stop, len(keys)) if causal else len(keys)
            w = _scores(qs[rows], keys[:seen], mask[at], causal, rows, s)
            w -= logs[at][rows]
            np.exp(w, out=w)
            dw = np.dot(dys[rows], values[:seen].T, out=t[: w.size].reshape(w.shape))
            if p:
                kept = _kept(w, len(keys), at, lead, p, key, site, step, i)
                dw *= kept
                dv_[:seen] += (w * kept).T @ dys[rows]
            else:
                dv_[:seen] += w.T @ dys[rows]
            dw -= slope[rows]
            dw *= w
            np.matmul(dw, keys[:seen], out=dq_[rows])
            dk_[:seen] += dw.T @ qs[rows]
            if masked:
                dmask[at][rows] = dw
        dq_ *= scale

    _each(batch, head, q, k)
    return (dq, dk, dv, dmask) if masked else (dq, dk, dv)


def _heads(q: Array, k: Array, v: Array, mask: Any) -> tuple[Any, Any, list[Any]]:
    """The leading axes of the result, those of the weights, and the arrays with all of the first, at least one."""
    given = [q, k, v]
    if mask is not None:
        given.append(np.broadcast_to(mask, (*mask.shape[:-2], q.shape[-2], k.shape[-2])))
    lead = np.broadcast_shapes(*(x.shape[:-2] for x in (*given[:2], *given[3:])))
    batch = np.broadcast_shapes(lead, v.shape[:-2])
    heads = batch or (1,)
    none = np.full(heads, None)
    return batch, lead, [*(np.broadcast_to(x, (*heads, *x.shape[-2:])) for x in given), none][:4]


def _each(batch: Any, head: Callable[..., None], q: Array, k: Array) -> None:
    """Call `head` for each place in the leading axes, with room for two blocks of weights."""
    room = max((b.stop - b.start) * k.shape[-2] for b in blocks(q.shape[-2], k.shape[-2]))

    def job(places: Any) -> None:
        s, t = np.empty((2, room), q.dtype)
        for at in places:
            head(at, s, t)

    places = list(np.ndindex(batch))
    if room * len(places) < 1 << 16:  # not worth the threads
        job(places)
    else:
        spread(job, places)


def _scores(q: Array, k: Array, mask: Any, causal: bool, rows: slice, room: Array) -> Array:
    """Those of the queries in `rows`, which are scaled already, with the keys that they see."""
    s = np.dot(q, k.T, out=room[: len(q) * len(k)].reshape(len(q), len(k)))
    if causal:
        late = s[:, rows.start :]
        np.copyto(late, -math.inf, where=np.tri(*late.shape) == 0.0)
    elif mask is not None and mask.dtype == bool:
        np.copyto(s, -math.inf, where=~mask[rows])
    elif mask is not None:
        s += mask[rows]
    return s


def _kept(w: Array, keys: int, at: Any, lead: Any, p: float, key: int, site: int, step: int, rank: int) -> Array:
    """What dropout multiplies the weights of one head by: its part of the numbers drawn for the block in all heads."""
    at = tuple(i % n for i, n in zip(at[len(at) - len(lead) :], lead, strict=True))
    n, together = len(w) * keys, 4 if w.dtype == np.float64 else 8
    counter, first = divmod(int(np.ravel_multi_index(at, lead)) * n if lead else 0, together)
    bits = np.random.Philox(key=key, counter=np.array([counter, site, step, rank], np.uint64))
    u = np.random.Generator(bits).random(first + n, w.dtype)[first:].reshape(len(w), keys)
    return (u[:, : w.shape[1]] >= p) * w.dtype.type(1.0 / (1.0 - p) if p < 1.0 else 0.0)


if KERNELS:
    NUMPY.overrides.update(attention=attention, attention_back=attention_back)
