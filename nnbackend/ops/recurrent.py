"""Recurrent layers, one direction of one layer over whole sequences (t, n, ...), in PyTorch's order of gates.

Weights are w_ih (gates * h, inputs) and w_hh (gates * h, h), biases (gates * h) or None; `reverse` goes from the last
step to the first.
"""

from __future__ import annotations

import math
from typing import Any

from ..backend import Array, namespace, product, total
from ..backend import gru as _gru
from ..backend import gru_back as _gru_back
from ..backend import lstm as _lstm
from ..backend import lstm_back as _lstm_back
from ..backend import rnn as _rnn
from ..backend import rnn_back as _rnn_back
from .core import Op, joint


def rnn(
    x: Array, h0: Array, w_ih: Array, w_hh: Array, b_ih: Any = None, b_hh: Any = None, *,
    nonlinearity: str = "tanh", reverse: bool = False,
) -> Op:  # fmt: skip
    """Elman's network: h = tanh(x @ w_ih.T + b_ih + h @ w_hh.T + b_hh), or "relu" of that. The states (t, n, h)."""
    y = _rnn(_projected(x, w_ih, b_ih, b_hh), h0, w_hh, nonlinearity, reverse)

    def back(dy: Array, needs: tuple[bool, ...]) -> tuple[Array | None, ...]:
        dz, dh = _rnn_back(y, w_hh, dy, nonlinearity, reverse)
        dx, *parameters = _affine(x, w_ih, _before(y, h0, reverse), dz, dz, (needs[0], *needs[2:]))
        return (dx, dh if needs[1] else None, *parameters)

    return y, joint(back)


def gru(
    x: Array, h0: Array, w_ih: Array, w_hh: Array, b_ih: Any = None, b_hh: Any = None, *, reverse: bool = False
) -> Op:
    """Gated recurrent units (Cho 2014), the reset gate after the product as in PyTorch. The states (t, n, h)."""
    y, gates = _gru(_projected(x, w_ih, b_ih), h0, w_hh, b_hh, reverse)

    def back(dy: Array, needs: tuple[bool, ...]) -> tuple[Array | None, ...]:
        dz, dm, dh = _gru_back(gates, y, h0, w_hh, dy, reverse)
        dx, *parameters = _affine(x, w_ih, _before(y, h0, reverse), dz, dm, (needs[0], *needs[2:]))
        return (dx, dh if needs[1] else None, *parameters)

    return y, joint(back)


def lstm(
    x: Array, h0: Array, c0: Array, w_ih: Array, w_hh: Array, b_ih: Any = None, b_hh: Any = None, w_hr: Any = None, *,
    reverse: bool = False,
) -> Op:  # fmt: skip
    """Long short-term memory (Hochreiter and Schmidhuber 1997): states (t, n, h) and cells (t, n, h).

    With w_hr (p, h) the states are projected: (t, n, p) (Sak 2014).
    """
    y, c, curved, gates = _lstm(_projected(x, w_ih, b_ih, b_hh), h0, c0, w_hh, w_hr, reverse)

    def back(dyc: tuple[Any, Any], needs: tuple[bool, ...]) -> tuple[Array | None, ...]:
        dy, dc = dyc
        if dy is None:
            dy = namespace(dc).zeros_like(y)
        dz, dh, dc0, *states = _lstm_back(gates, curved, c, c0, w_hh, w_hr, dy, dc, reverse)
        dx, *parameters = _affine(x, w_ih, _before(y, h0, reverse), dz, dz, (needs[0], *needs[3:7]))
        given = [dx, dh if needs[1] else None, dc0 if needs[2] else None, *parameters]
        if states and needs[7]:
            given.append(product(_rows(states[0]).T, _rows(gates[3, ...] * curved)))
        return (*given, *(None,) * (len(needs) - len(given)))

    return (y, c), joint(back)


def _rows(x: Array) -> Array:
    """All steps of all sequences, one a row."""
    return namespace(x).reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))


def _projected(x: Array, w: Array, *biases: Any) -> Array:
    """The inputs' part of the gates, with these biases: (t, n, gates * h)."""
    z = product(_rows(x), w.T)
    given = [b for b in biases if b is not None]
    if given:
        z += sum(given[1:], given[0])
    return namespace(z).reshape(z, (*x.shape[:-1], w.shape[0]))


def _before(y: Array, h0: Array, reverse: bool) -> Array:
    """The state before each step."""
    first, xp = namespace(h0).expand_dims(h0, axis=0), namespace(y)
    return xp.concat([y[1:, ...], first] if reverse else [first, y[:-1, ...]], axis=0)


def _affine(
    x: Array, w_ih: Array, before: Array, dz: Array, dm: Array, needs: tuple[bool, ...]
) -> tuple[Array | None, ...]:
    """The gradients of inputs, weights and biases from those of what inputs (`dz`) and states (`dm`) add."""
    rows = _rows(dz)
    dx = namespace(dz).reshape(product(rows, w_ih), x.shape) if needs[0] else None
    dw_ih = product(rows.T, _rows(x)) if needs[1] else None
    dw_hh = product(_rows(dm).T, _rows(before)) if needs[2] else None
    biases = [total(_rows(d), 0) if need else None for d, need in zip((dz, dm), needs[3:5], strict=False)]
    return (dx, dw_ih, dw_hh, *biases)
