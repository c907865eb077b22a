"""Recurrent layers over sequences. Weights have PyTorch's names and are drawn from ±1/sqrt(hidden_size)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from .. import functional as F
from ..array import asarray, concat, expand_dims, permute_dims, squeeze, stack, zeros
from ..backend import DeviceLike
from ..cells import Parameter
from ..errors import ShapeError
from . import init
from .random_module import RandomModule


class _Recurrent(RandomModule):
    """Layers above each other, each in one direction or both; dropout between layers, in training."""

    gates: int
    proj_size = 0

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: DeviceLike = "cpu",
        dtype: Any = "float32",
    ) -> None:
        super().__init__()
        name = type(self).__name__
        sizes = {"input_size": input_size, "hidden_size": hidden_size, "num_layers": num_layers}
        for setting, value in sizes.items():
            if type(value) is not int:
                raise TypeError(f"{name}: expected an integer as {setting}, got {value!r}.")
            if value < 1:
                raise ValueError(f"{name}: expected {setting} of at least 1, got {value}.")
        for setting, value in (("bias", bias), ("batch_first", batch_first), ("bidirectional", bidirectional)):
            if type(value) is not bool:
                raise TypeError(f"{name}: expected {setting}=True or False, got {value!r}.")
        if isinstance(dropout, bool) or not 0.0 <= dropout <= 1.0:
            raise ValueError(f"{name}: expected a probability from 0 to 1, got dropout={dropout!r}.")
        self.input_size, self.hidden_size, self.num_layers, self.bias = input_size, hidden_size, num_layers, bias
        self.batch_first, self.dropout, self.bidirectional = batch_first, dropout, bidirectional
        bound, rows, outputs = 1.0 / math.sqrt(hidden_size), self.gates * hidden_size, self.proj_size or hidden_size
        for layer in range(num_layers):
            inputs = outputs * len(self._directions()) if layer else input_size
            shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, inputs), "weight_hh": (rows, outputs)}
            shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)} if bias else {}
            shapes |= {"weight_hr": (outputs, hidden_size)} if self.proj_size else {}
            for direction in self._directions():
                for key, shape in shapes.items():
                    start = Parameter.drawn(init.uniform(-bound, bound), shape, device, dtype)
                    setattr(self, f"{key}_l{layer}{direction}", start)

    def _directions(self) -> tuple[str, ...]:
        return ("", "_reverse") if self.bidirectional else ("",)

    def _function(self) -> Callable[..., Any]:
        """One direction of one layer over time."""
        raise NotImplementedError

    def forward(self, input: Any, hx: Any = None, *, lengths: Any = None) -> tuple[Any, Any]:
        """(t, n, input_size), with `batch_first` (n, t, input_size), or (t, input_size); states (layers, n, size).

        Gives the outputs, directions side by side, and the states after the last steps. Sequences may have fewer steps
        than t, `lengths` (n,): outputs are then 0 after the end, and states those at each one's end.
        """
        x = asarray(input)
        if x.ndim not in (2, 3) or x.shape[-1] != self.input_size or (x.ndim == 2 and lengths is not None):
            shape = "(n, t, {})" if self.batch_first else "(t, n, {})"
            shape = shape.format(self.input_size) + ("" if lengths is not None else f" or (t, {self.input_size})")
            raise ShapeError(f"{type(self).__name__}: expected input {shape}, got {x.shape}.")
        alone = x.ndim == 2
        if alone:
            x = expand_dims(x, axis=1)
        elif self.batch_first:
            x = permute_dims(x, (1, 0, 2))
        if not x.shape[0]:
            raise ShapeError(f"{type(self).__name__}: expected at least one step, got input {input.shape}.")
        x, last = self._layers(x, self._states(x, hx, alone), lengths)
        states = tuple(stack(parts, axis=0) for parts in zip(*last, strict=True))
        if alone:
            x, states = squeeze(x, axis=1), tuple(squeeze(h, axis=1) for h in states)
        elif self.batch_first:
            x = permute_dims(x, (1, 0, 2))
        return x, states if len(states) > 1 else states[0]

    def _states(self, x: Any, hx: Any, alone: bool) -> list[Any]:
        """The first states, each (layers * directions, n, size)."""
        count, n = self.num_layers * len(self._directions()), x.shape[1]
        shapes = [(count, n, size) for size in self._sizes()]
        if hx is None:
            return [zeros(shape, dtype=x.dtype, device=x.device) for shape in shapes]
        given = [asarray(h) for h in (hx if len(shapes) > 1 else (hx,))]
        want = [(count, size) for size in self._sizes()] if alone else shapes
        if [h.shape for h in given] != want:
            have = ", ".join(str(h.shape) for h in given)
            raise ShapeError(f"{type(self).__name__}: expected states {', '.join(map(str, want))}, got {have}.")
        return [expand_dims(h, axis=1) for h in given] if alone else given

    def _sizes(self) -> tuple[int, ...]:
        """Of each kind of state."""
        return (self.hidden_size,)

    def _layers(self, x: Any, states: list[Any], lengths: Any) -> tuple[Any, list[tuple[Any, ...]]]:
        """The outputs of the last layer, and the last states of all."""
        function = self._function()
        last: list[tuple[Any, ...]] = []
        for layer in range(self.num_layers):
            outputs = []
            for direction in self._directions():
                first = tuple(h[len(last), ...] for h in states)
                keys = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", *(("weight_hr",) if self.proj_size else ()))
                weights = (getattr(self, f"{key}_l{layer}{direction}", None) for key in keys)
                hx = first if len(first) > 1 else first[0]
                y, h = function(x, hx, *weights, reverse=bool(direction), lengths=lengths)
                outputs.append(y)
                last.append(h if isinstance(h, tuple) else (h,))
            x = concat(outputs, axis=-1) if len(outputs) > 1 else outputs[0]
            if self.dropout and self.training and layer + 1 < self.num_layers:
                x = F.dropout(x, self.dropout, **self.next_address())
        return x, last


class RNN(_Recurrent):
    """Elman's network, with tanh or "relu"."""

    gates = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: DeviceLike = "cpu",
        dtype: Any = "float32",
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f'RNN: expected nonlinearity="tanh" or "relu", got {nonlinearity!r}.')
        self.nonlinearity = nonlinearity
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype
        )  # fmt: skip

    def _function(self) -> Callable[..., Any]:
        return F.rnn_tanh if self.nonlinearity == "tanh" else F.rnn_relu


class GRU(_Recurrent):
    """Gated recurrent units (Cho 2014)."""

    gates = 3

    def _function(self) -> Callable[..., Any]:
        return F.gru


class LSTM(_Recurrent):
    """Long short-term memory (Hochreiter and Schmidhuber 1997); states h, of `proj_size` if it is not 0, and c."""

    gates = 4

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: DeviceLike = "cpu",
        dtype: Any = "float32",
    ) -> None:
        if not 0 <= proj_size < hidden_size:
            raise ValueError(f"LSTM: expected proj_size from 0 to below {hidden_size}, got {proj_size}.")
        self.proj_size = proj_size
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype
        )  # fmt: skip

    def _sizes(self) -> tuple[int, ...]:
        return self.proj_size or self.hidden_size, self.hidden_size

    def _function(self) -> Callable[..., Any]:
        return F.lstm


__all__ = ["GRU", "LSTM", "RNN"]
