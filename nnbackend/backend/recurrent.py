"""Recurrent layers over whole sequences: the loop over time as one primitive, with its way back.

Sequences are (t, n, ...). `z` is what the inputs add to the gates, `h0` (n, h) the first state, `w` the weight of the
state; `reverse` goes from the last step to the first. Gates lie side by side, in PyTorch's order. The ways back take
`dy`, the gradient of the states (t, n, h), and give that of `z` and that of the first state.
"""

from __future__ import annotations

from typing import Any

from .base import Array
from .primitive import affine, logistic, primitive, product
from .registry import namespace


@primitive
def rnn(z: Array, h0: Array, w: Array, nonlinearity: str, reverse: bool) -> Array:
    """The states (t, n, h): h = tanh(z + h @ w.T), or the positive part of that."""
    xp, h, states = namespace(z), h0, []
    for t in _order(z, reverse):
        h = z[t, ...] + product(h, w.T)
        h = xp.tanh(h) if nonlinearity == "tanh" else xp.maximum(h, 0.0)
        states.append(h)
    return _stacked(states, reverse)


@primitive
def rnn_back(y: Array, w: Array, dy: Array, nonlinearity: str, reverse: bool) -> tuple[Array, Array]:
    """From the states `y`."""
    xp, dzs = namespace(y), []
    dh = xp.zeros_like(y[0, ...])
    slope = 1.0 - y * y if nonlinearity == "tanh" else xp.astype(y > 0.0, y.dtype)
    for t in _order(y, not reverse):
        dz = (dh + dy[t, ...]) * slope[t, ...]
        dh = product(dz, w)
        dzs.append(dz)
    return _stacked(dzs, not reverse), dh


@primitive
def gru(z: Array, h0: Array, w: Array, b: Any, reverse: bool) -> tuple[Array, Array]:
    """The states (t, n, h); and reset, update, candidate and what the state adds to that, `m`, (4, t, n, h).

    The candidate is tanh(z + r * m), the new state c + u * (h - c).
    """
    xp, h, states, kept = namespace(z), h0, [], []
    for t in _order(z, reverse):
        zr, zu, zc = _parts(z[t, ...], 3)
        mr, mu, m = _parts(affine(h, w, b), 3)
        r, u = logistic(zr + mr), logistic(zu + mu)
        c = xp.tanh(zc + r * m)
        h = c + u * (h - c)
        states.append(h)
        kept.append(xp.stack([r, u, c, m], axis=0))
    return _stacked(states, reverse), _stacked(kept, reverse, axis=1)


@primitive
def gru_back(gates: Array, y: Array, h0: Array, w: Array, dy: Array, reverse: bool) -> tuple[Array, Array, Array]:
    """From what `gru` has given; also the gradient of `h @ w.T + b`, second of the three."""
    xp, dzs, dms = namespace(y), [], []
    dh = xp.zeros_like(h0)
    for t in _order(y, not reverse):
        r, u, c, m = (gates[k, t, ...] for k in range(4))
        dh = dh + dy[t, ...]
        dc = dh * (1.0 - u) * (1.0 - c * c)
        dr = dc * m * (r * (1.0 - r))
        du = dh * (_before(y, h0, t, reverse) - c) * (u * (1.0 - u))
        dms.append(xp.concat([dr, du, dc * r], axis=-1))
        dzs.append(xp.concat([dr, du, dc], axis=-1))
        dh = dh * u + product(dms[-1], w)
    return _stacked(dzs, not reverse), _stacked(dms, not reverse), dh


@primitive
def lstm(z: Array, h0: Array, c0: Array, w: Array, p: Any, reverse: bool) -> tuple[Array, Array, Array, Array]:
    """The states (t, n, h), projected by `p` if it is not None; cells c, tanh(c) and gates (4, t, n, h)."""
    xp, h, c = namespace(z), h0, c0
    kept: tuple[list[Array], ...] = ([], [], [], [])
    for t in _order(z, reverse):
        i, f, g, o = _parts(z[t, ...] + product(h, w.T), 4)
        i, f, g, o = logistic(i), logistic(f), xp.tanh(g), logistic(o)
        c = f * c + i * g
        s = xp.tanh(c)
        h = o * s if p is None else product(o * s, p.T)
        for parts, x in zip(kept, (h, c, s, xp.stack([i, f, g, o], axis=0)), strict=True):
            parts.append(x)
    y, c, s = (_stacked(parts, reverse) for parts in kept[:3])
    return y, c, s, _stacked(kept[3], reverse, axis=1)


@primitive
def lstm_back(
    gates: Array, s: Array, c: Array, c0: Array, w: Array, p: Any, dy: Array, dc: Any, reverse: bool
) -> tuple[Array, ...]:
    """From what `lstm` has given, and the gradient of the cells or None; also those of `c0` and, with `p`, of states.

    The last, (t, n, h), is all that comes to a state: from outside and from the next step.
    """
    xp, dzs, dhs = namespace(gates), [], []
    dh, dm = xp.zeros_like(dy[0, ...]), xp.zeros_like(c0)
    for t in _order(c, not reverse):
        i, f, g, o = (gates[k, t, ...] for k in range(4))
        dh = dh + dy[t, ...]
        dhs.append(dh)
        dh = dh if p is None else product(dh, p)
        dm = dm + dh * (o * (1.0 - s[t, ...] * s[t, ...]))
        dm = dm if dc is None else dm + dc[t, ...]
        di, df = dm * g * (i * (1.0 - i)), dm * _before(c, c0, t, reverse) * (f * (1.0 - f))
        dzs.append(xp.concat([di, df, dm * i * (1.0 - g * g), dh * s[t, ...] * (o * (1.0 - o))], axis=-1))
        dm, dh = dm * f, product(dzs[-1], w)
    back = (_stacked(dzs, not reverse), dh, dm)
    return back if p is None else (*back, _stacked(dhs, not reverse))


def _order(x: Array, reverse: bool) -> range:
    """The steps, as they are taken."""
    return range(x.shape[0])[:: -1 if reverse else 1]


def _stacked(parts: list[Array], reverse: bool, axis: int = 0) -> Array:
    """One array of what was found step by step."""
    return namespace(parts[0]).stack(parts[::-1] if reverse else parts, axis=axis)


def _before(x: Array, first: Array, t: int, reverse: bool) -> Array:
    """What was there before step `t`."""
    t += 1 if reverse else -1
    return x[t, ...] if 0 <= t < x.shape[0] else first


def _parts(x: Array, n: int) -> list[Array]:
    """Columns in n blocks."""
    h = x.shape[-1] // n
    return [x[..., i * h : (i + 1) * h] for i in range(n)]
