"""Recurrent layers on NumPy: each step in place, its gates in few calls, and the batch in parts, one a thread.

The ways back first find, for some steps at once, all factors that do not depend on what comes from later steps.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from .base import KERNELS, Array
from .registry import NUMPY
from .threads import num_threads, spread

WORTH_THREADS = 1 << 12  # elements of a state, for each thread


def in_parts(run: Callable[[slice], None], n: int, h: int) -> None:
    """Call `run` with rows of the batch: a part of them in each thread, if that is worth it."""
    parts = max(1, min(num_threads(), n * h // WORTH_THREADS))
    edges = [n * i // parts for i in range(parts + 1)]

    def job(rows: list[slice]) -> None:
        for part in rows:
            run(part)

    rows = [slice(a, b) for a, b in pairwise(edges)]
    if parts > 1:
        spread(job, rows)
    else:
        job(rows)


def rnn(z: Array, h0: Array, w: Array, nonlinearity: str, reverse: bool) -> Array:
    """See `backend.recurrent`."""
    y = np.empty(z.shape, z.dtype)
    wt, way = np.ascontiguousarray(w.T), -1 if reverse else 1

    def run(rows: slice) -> None:
        h = h0[rows]
        for zt, yt in zip(z[::way, rows], y[::way, rows], strict=True):
            np.dot(h, wt, yt)
            np.add(yt, zt, yt)
            if nonlinearity == "tanh":
                np.tanh(yt, yt)
            else:
                np.maximum(yt, 0.0, out=yt)
            h = yt

    in_parts(run, *h0.shape)
    return y


def rnn_back(y: Array, w: Array, dy: Array, nonlinearity: str, reverse: bool) -> tuple[Array, Array]:
    """See `backend.recurrent`."""
    dz, dh0 = np.empty(y.shape, y.dtype), np.zeros(y.shape[1:], y.dtype)
    way = 1 if reverse else -1

    def run(rows: slice) -> None:
        dh, dzs = dh0[rows], dz[::way, rows]
        if nonlinearity == "tanh":
            np.multiply(y[::way, rows], y[::way, rows], dzs)
            np.subtract(1.0, dzs, dzs)
        else:
            np.copyto(dzs, y[::way, rows] > 0.0)
        for dyt, dzt in zip(dy[::way, rows], dzs, strict=True):
            np.add(dh, dyt, dh)
            np.multiply(dzt, dh, dzt)
            np.dot(dzt, w, dh)

    in_parts(run, *dh0.shape)
    return dz, dh0


def gru(z: Array, h0: Array, w: Array, b: Any, reverse: bool) -> tuple[Array, Array]:
    """See `backend.recurrent`."""
    (steps, n, _), h = z.shape, h0.shape[1]
    y, gates = np.empty((steps, n, h), z.dtype), np.empty((4, steps, n, h), z.dtype)
    way, one = -1 if reverse else 1, z.dtype.type(1)
    wt, bias = np.array(w.T, order="C"), None if b is None else b.copy()
    for x in (wt, bias):
        if x is not None:
            np.negative(x[..., : 2 * h], x[..., : 2 * h])  # so that an exponential can follow at once

    def run(rows: slice) -> None:
        state = h0[rows]
        sums, both, t = (np.empty((len(state), k * h), z.dtype) for k in (3, 2, 1))
        ru, m = sums[:, : 2 * h], sums[:, 2 * h :]
        turned = both.reshape(-1, 2, h).swapaxes(0, 1)  # gate by gate
        inputs, outs = z[::way, rows], gates[:, ::way, rows]
        views = [inputs[..., : 2 * h], inputs[..., 2 * h :], y[::way, rows], outs[:2].swapaxes(0, 1), *outs]
        with np.errstate(over="ignore"):  # 1 / inf is right
            for zru, zc, yt, oru, r, u, c, om in zip(*views, strict=True):
                np.dot(state, wt, sums)
                if bias is not None:
                    np.add(sums, bias, sums)
                np.subtract(ru, zru, both)
                np.exp(both, both)
                np.add(both, one, both)
                np.reciprocal(turned, oru)
                np.copyto(om, m)
                np.multiply(r, m, t)
                np.add(t, zc, t)
                np.tanh(t, c)
                np.subtract(state, c, t)
                np.multiply(t, u, t)
                np.add(t, c, yt)
                state = yt

    in_parts(run, n, h)
    return y, gates


def gru_back(gates: Array, y: Array, h0: Array, w: Array, dy: Array, reverse: bool) -> tuple[Array, Array, Array]:
    """See `backend.recurrent`."""
    steps, n, h = y.shape
    dz, dm = np.empty((2, steps, n, 3, h), y.dtype)
    dh0, way = np.zeros((n, h), y.dtype), -1 if reverse else 1
    some = max(1, 16384 // max(1, n * h))  # steps whose factors stay in cache

    def run(rows: slice) -> None:
        dh = dh0[rows]
        t = np.empty(dh.shape, y.dtype)
        states, dys = y[::way, rows], dy[::way, rows]
        outs = [x[::way, rows] for x in (dz, dm)]
        blocks = gates[:, ::way, rows]
        for stop in range(steps, 0, -some):
            start = max(0, stop - some)
            a = blocks[:, start:stop]
            r, u, c, m = a
            q = np.empty((5, *c.shape), y.dtype)  # of r, u, m, c, and of the state before
            qr, qu, qm, qc, qh = q
            np.subtract(1.0, a[:2], q[:2])
            np.multiply(c, c, qc)
            np.subtract(1.0, qc, qc)
            np.multiply(qc, qu, qc)
            np.multiply(q[:2], a[:2], q[:2])
            np.multiply(qc, r, qm)
            np.multiply(qr, m, qr)
            np.multiply(qr, qc, qr)
            np.subtract(states[max(0, start - 1) : stop - 1], c[start == 0 :], qh[start == 0 :])
            if start == 0:
                np.subtract(h0[rows], c[0], qh[0])
            np.multiply(qu, qh, qu)
            np.copyto(qh, u)
            hidden = outs[1][start:stop]
            views = (q.swapaxes(0, 1), q[4], q[:3].swapaxes(0, 1), hidden.swapaxes(1, 2), hidden, dys[start:stop])
            for qt, kept, q3, turned, ht, dyt in zip(*(x[::-1] for x in views), strict=True):
                np.add(dh, dyt, dh)
                np.multiply(qt, dh, qt)
                np.copyto(turned, q3)
                np.dot(ht.reshape(len(dh), 3 * h), w, t)
                np.add(t, kept, dh)
            np.copyto(outs[0][start:stop, :, :2], hidden[:, :, :2])
            np.copyto(outs[0][start:stop, :, 2], qc)

    in_parts(run, n, h)
    return dz.reshape(steps, n, 3 * h), dm.reshape(steps, n, 3 * h), dh0


def lstm(z: Array, h0: Array, c0: Array, w: Array, p: Any, reverse: bool) -> tuple[Array, Array, Array, Array]:
    """See `backend.recurrent`."""
    (steps, n, _), h = z.shape, c0.shape[1]
    c, s, y = (np.empty((steps, n, k), z.dtype) for k in (h, h, h0.shape[1]))
    gates = np.empty((4, *c.shape), z.dtype)
    way, one = -1 if reverse else 1, z.dtype.type(1)
    wt = np.negative(w.T, order="C")  # so that an exponential can follow at once

    def run(rows: slice) -> None:
        state, cell = h0[rows], c0[rows]
        sums, t = (np.empty((len(cell), k * h), z.dtype) for k in (4, 1))
        curve = sums[:, 2 * h : 3 * h]
        turned = sums.reshape(-1, 4, h).swapaxes(0, 1)  # gate by gate
        outs = gates[:, ::way, rows]
        views = [*(x[::way, rows] for x in (z, c, s, y)), outs.swapaxes(0, 1), *outs]
        with np.errstate(over="ignore"):  # 1 / inf is right
            for zt, ct, st, yt, a, i, f, g, o in zip(*views, strict=True):
                np.dot(state, wt, sums)
                np.subtract(sums, zt, sums)
                np.tanh(curve, t)
                np.exp(sums, sums)
                np.add(sums, one, sums)
                np.reciprocal(turned, a)
                np.negative(t, g)
                np.multiply(i, g, t)
                np.multiply(f, cell, ct)
                np.add(ct, t, ct)
                np.tanh(ct, st)
                if p is None:
                    np.multiply(o, st, yt)
                else:
                    np.multiply(o, st, t)
                    np.dot(t, p.T, yt)
                state, cell = yt, ct

    in_parts(run, n, h)
    return y, c, s, gates


def lstm_back(
    gates: Array, s: Array, c: Array, c0: Array, w: Array, p: Any, dy: Array, dc: Any, reverse: bool
) -> tuple[Array, ...]:
    """See `backend.recurrent`."""
    steps, n, h = c.shape
    dz, dh0, dc0 = np.empty((steps, n, 4, h), c.dtype), np.zeros(dy.shape[1:], c.dtype), np.zeros((n, h), c.dtype)
    dhs, way = dy if p is None else np.empty(dy.shape, c.dtype), -1 if reverse else 1
    some = max(1, 16384 // max(1, n * h))  # steps whose factors stay in cache

    def run(rows: slice) -> None:
        dh, last = dh0[rows], dc0[rows]
        dm, hidden = last.copy(), dh if p is None else last.copy()
        cells, curved, dys, dzs, sums = (x[::way, rows] for x in (c, s, dy, dz, dhs))
        more = None if dc is None else dc[::way, rows]
        blocks = gates[:, ::way, rows]
        for stop in range(steps, 0, -some):
            start = max(0, stop - some)
            a, curve = blocks[:, start:stop], curved[start:stop]
            i, f, g, o = a
            q = np.empty((6, *i.shape), c.dtype)  # of the cell before, the four gates, and the cell
            before, qi, qf, qg, qo, qc = q
            np.subtract(1.0, a, q[1:5])
            np.multiply(q[1:5], a, q[1:5])
            np.multiply(qi, g, qi)
            np.multiply(qf[start == 0 :], cells[max(0, start - 1) : stop - 1], qf[start == 0 :])
            if start == 0:
                np.multiply(qf[0], c0[rows], qf[0])
            np.multiply(g, g, qg)
            np.subtract(1.0, qg, qg)
            np.multiply(qg, i, qg)
            np.multiply(qo, curve, qo)
            np.multiply(curve, curve, qc)
            np.subtract(1.0, qc, qc)
            np.multiply(qc, o, qc)
            np.copyto(before, f)
            by_step = q.swapaxes(0, 1)
            views = (by_step[:, :4], by_step[:, 4:], by_step[:, 1:5], before, qc, dzs[start:stop])
            steps_back = zip(range(stop - 1, start - 1, -1), *(x[::-1] for x in views), strict=True)
            for t, q4, q2, gated, kept, dct, dzt in steps_back:
                np.add(dh, dys[t], dh)
                if p is not None:
                    np.copyto(sums[t], dh)
                    np.dot(dh, p, hidden)
                np.multiply(q2, hidden, q2)
                np.add(last, dct, dm)
                if more is not None:
                    np.add(dm, more[t], dm)
                np.multiply(q4, dm, q4)
                last = kept
                np.copyto(dzt.swapaxes(0, 1), gated)
                np.dot(dzt.reshape(len(dh), 4 * h), w, dh)
        np.copyto(dc0[rows], last)

    in_parts(run, n, h)
    back = (dz.reshape(steps, n, 4 * h), dh0, dc0)
    return back if p is None else (*back, dhs)


OVERRIDES: dict[str, Callable[..., Any]] = {
    f.__name__: f for f in (rnn, rnn_back, gru, gru_back, lstm, lstm_back)
}  # fmt: skip
if KERNELS:
    NUMPY.overrides.update(OVERRIDES)
