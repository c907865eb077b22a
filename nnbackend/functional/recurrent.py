"""Recurrent networks, step by step and over sequences. Gates and weights are in PyTorch's order.

Weights are w_ih (gates * h, inputs) and w_hh (gates * h, h), biases (gates * h) or None. From sequences
(t, n, inputs) come the outputs (t, n, h) and the states at the last steps. `lengths` (n,) says how many steps each
sequence has, from 1 to t: outputs are 0 after its end. `reverse` begins at the ends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..array import arange, asarray, expand_dims, take_along_axis, tensor, where
from ..backend import INTEGRAL
from ..errors import DTypeError, LabelError, ShapeError
from ..ops import recurrent
from ..recorder import checked
from ..tensor import Tensor, lift
from .arguments import readable

_rnn, _gru, _lstm = lift(recurrent.rnn), lift(recurrent.gru), lift(recurrent.lstm)


def rnn_tanh_cell(input: Any, hx: Any, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None) -> Any:
    """The next state (n, h), tanh of two affine maps, from inputs (n, inputs) and states (n, h)."""
    return _stepped(_rnn, input, (hx,), w_ih, w_hh, b_ih, b_hh)[0]


def rnn_relu_cell(input: Any, hx: Any, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None) -> Any:
    """The next state (n, h), the positive part of two affine maps, from inputs (n, inputs) and states (n, h)."""
    return _stepped(_rnn, input, (hx,), w_ih, w_hh, b_ih, b_hh, nonlinearity="relu")[0]


def gru_cell(input: Any, hx: Any, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None) -> Any:
    """The next state (n, h) of gated recurrent units."""
    return _stepped(_gru, input, (hx,), w_ih, w_hh, b_ih, b_hh)[0]


def lstm_cell(input: Any, hx: Any, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None) -> tuple[Any, Any]:
    """The next state and cell (n, h) of long short-term memory; `hx` are the two before."""
    h, c = _stepped(_lstm, input, hx, w_ih, w_hh, b_ih, b_hh)
    return h, c


def rnn_tanh(
    input: Any, hx: Any, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None, *,
    reverse: bool = False, lengths: Any = None,
) -> tuple[Any, Any]:  # fmt: skip
    """Outputs and last state of Elman's network with tanh."""
    y, (h,) = _over_time(_rnn, input, (hx,), (w_ih, w_hh, b_ih, b_hh), reverse, lengths)
    return y, h


def rnn_relu(
    input: Any, hx: Any, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None, *,
    reverse: bool = False, lengths: Any = None,
) -> tuple[Any, Any]:  # fmt: skip
    """Outputs and last state of Elman's network with the positive part."""
    y, (h,) = _over_time(_rnn, input, (hx,), (w_ih, w_hh, b_ih, b_hh), reverse, lengths, nonlinearity="relu")
    return y, h


def gru(
    input: Any, hx: Any, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None, *,
    reverse: bool = False, lengths: Any = None,
) -> tuple[Any, Any]:  # fmt: skip
    """Outputs and last state of gated recurrent units (Cho 2014), the reset gate after the product as in PyTorch."""
    y, (h,) = _over_time(_gru, input, (hx,), (w_ih, w_hh, b_ih, b_hh), reverse, lengths)
    return y, h


def lstm(
    input: Any, hx: Any, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None, w_hr: Any = None, *,
    reverse: bool = False, lengths: Any = None,
) -> tuple[Any, tuple[Any, Any]]:  # fmt: skip
    """Outputs, and last state and cell, of long short-term memory (Hochreiter and Schmidhuber 1997).

    `hx` are the first state and cell. With `w_hr` (p, h) states are projected: outputs are (t, n, p) (Sak 2014).
    """
    y, (h, c) = _over_time(_lstm, input, hx, (w_ih, w_hh, b_ih, b_hh, w_hr), reverse, lengths)
    return y, (h, c)


def _stepped(op: Callable[..., Any], input: Any, hx: Any, *weights: Any, **settings: Any) -> tuple[Any, ...]:
    """The states after one step."""
    results = op(expand_dims(input, axis=0), *hx, *weights, **settings)
    return tuple(y[0, ...] for y in (results if isinstance(results, tuple) else (results,)))


def _over_time(
    op: Callable[..., Any], x: Any, hx: Any, weights: tuple[Any, ...], reverse: bool, lengths: Any, **settings: Any
) -> tuple[Any, tuple[Any, ...]]:
    """The outputs, and each state at the last step."""
    if lengths is None:
        results = op(x, *hx, *weights, reverse=reverse, **settings)
        results = results if isinstance(results, tuple) else (results,)
        return results[0], tuple(y[0 if reverse else -1, ...] for y in results)
    ends = _ends(lengths, x)
    steps = expand_dims(arange(x.shape[0], device=ends), axis=(1, 2))
    steps = steps if isinstance(x, Tensor) else steps.data
    inside = steps < ends
    x = where(inside, x, 0.0)
    back = where(inside, ends - 1 - steps, steps)  # turns each sequence around in its place
    x = take_along_axis(x, back, axis=0) if reverse else x
    results = op(x, *hx, *weights, **settings)
    results = results if isinstance(results, tuple) else (results,)
    y = where(inside, results[0], 0.0)
    last = tuple(take_along_axis(r, ends - 1, axis=0)[0, ...] for r in results)
    return take_along_axis(y, back, axis=0) if reverse else y, last


def _ends(lengths: Any, x: Any) -> Any:
    """Lengths as (1, n, 1) where `x` is. ShapeError, DTypeError or LabelError for what are none."""
    steps, n = x.shape[:2]
    device = asarray(x).device
    lengths = asarray(lengths) if hasattr(lengths, "dtype") else tensor(lengths, "int64", device)
    if tuple(lengths.shape) != (n,):
        raise ShapeError(f"lengths: expected one for each of {n} sequences, got shape {tuple(lengths.shape)}.")
    if lengths.dtype not in INTEGRAL:
        raise DTypeError(f"lengths: expected integers, got {lengths.dtype}.")
    checked(_check_lengths, lengths, steps)
    ends = expand_dims(lengths.to(device, "int64"), axis=(0, 2))
    return ends if isinstance(x, Tensor) else ends.data


def _check_lengths(lengths: Any, steps: int) -> None:
    """LabelError for values out of range; those on another device than the CPU are not looked at, unless known."""
    host, bounds = readable(lengths), getattr(lengths, "bounds", None)
    if bounds is None and host is not None and host.size:
        bounds = host.min(), host.max()
    if bounds is not None and not 1 <= bounds[0] <= bounds[1] <= steps:
        raise LabelError(f"lengths: expected 1..{steps}, got {bounds[0]}..{bounds[1]}.")


__all__ = [
    "gru", "gru_cell", "lstm", "lstm_cell", "rnn_relu", "rnn_relu_cell", "rnn_tanh", "rnn_tanh_cell",
]  # fmt: skip
