"""Recurrent layers, one step at a time. Weights are PyTorch's, drawn from ±1/sqrt(hidden_size)."""

from __future__ import annotations

import math
from typing import Any

from .. import functional as F
from ..array import asarray, expand_dims, zeros
from ..backend import DeviceLike
from ..cells import Parameter
from ..errors import ShapeError
from . import init
from .module import Module


class _Cell(Module):
    gates: int
    states = 1

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: DeviceLike = "cpu", dtype: Any = "float32"
    ) -> None:
        if input_size < 1 or hidden_size < 1:
            name = type(self).__name__
            raise ValueError(f"{name}: expected sizes of at least 1, got {input_size} and {hidden_size}.")
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bool(bias)
        bound, rows = 1.0 / math.sqrt(hidden_size), self.gates * hidden_size
        for name, shape in (("weight_ih", (rows, input_size)), ("weight_hh", (rows, hidden_size))):
            setattr(self, name, Parameter.drawn(init.uniform(-bound, bound), shape, device, dtype))
        for name in ("bias_ih", "bias_hh"):
            setattr(self, name, Parameter.drawn(init.uniform(-bound, bound), (rows,), device, dtype) if bias else None)

    def _weights(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))

    def _step(self, x: Any, *states: Any) -> Any:
        raise NotImplementedError

    def forward(self, input: Any, hx: Any = None) -> Any:
        """(n, input_size) or (input_size,), and states (n, hidden_size) or (hidden_size,), zeros if None."""
        x, name = asarray(input), type(self).__name__
        if x.ndim not in (1, 2) or x.shape[-1] != self.input_size:
            raise ShapeError(f"{name}: expected input (n, {self.input_size}) or ({self.input_size},), got {x.shape}.")
        shape = (*x.shape[:-1], self.hidden_size)
        if hx is None:
            given = [zeros(shape, dtype=x.dtype, device=x.device)] * self.states
        else:
            given = [asarray(h) for h in (hx if self.states > 1 else (hx,))]
        if [h.shape for h in given] != [shape] * self.states:
            raise ShapeError(f"{name}: expected states of shape {shape}, got {', '.join(str(h.shape) for h in given)}.")
        if x.ndim == 2:
            return self._step(x, *given)
        y = self._step(*(expand_dims(v, axis=0) for v in (x, *given)))
        return tuple(part[0, ...] for part in y) if isinstance(y, tuple) else y[0, ...]


class RNNCell(_Cell):
    """Elman's network: the next state is tanh of two affine maps, or with "relu" their positive part."""

    gates = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: DeviceLike = "cpu",
        dtype: Any = "float32",
    ) -> None:
        super().__init__(input_size, hidden_size, bias, device, dtype)
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f'RNNCell: expected nonlinearity="tanh" or "relu", got {nonlinearity!r}.')
        self.nonlinearity = nonlinearity

    def _step(self, x: Any, *states: Any) -> Any:
        step = F.rnn_tanh_cell if self.nonlinearity == "tanh" else F.rnn_relu_cell
        return step(x, *states, *self._weights())


class LSTMCell(_Cell):
    """Long short-term memory: the next state and cell, from both before."""

    gates, states = 4, 2

    def _step(self, x: Any, *states: Any) -> Any:
        return F.lstm_cell(x, states, *self._weights())


class GRUCell(_Cell):
    """Gated recurrent units: the next state."""

    gates = 3

    def _step(self, x: Any, *states: Any) -> Any:
        return F.gru_cell(x, *states, *self._weights())


__all__ = ["GRUCell", "LSTMCell", "RNNCell"]
