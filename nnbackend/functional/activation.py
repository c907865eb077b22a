"""Activations."""

from __future__ import annotations

from typing import Any

from ..array import tanh
from ..ops import activation
from ..tensor import lift

sigmoid, relu, silu, logsigmoid = (
    lift(f) for f in (activation.sigmoid, activation.relu, activation.silu, activation.logsigmoid)
)
leaky_relu, elu, softplus, gelu = (
    lift(f) for f in (activation.leaky_relu, activation.elu, activation.softplus, activation.gelu)
)
_softmax, _log_softmax = lift(activation.softmax), lift(activation.log_softmax)


def softmax(x: Any, dim: int = -1) -> Any:
    """exp(x) / sum(exp(x)) along `dim`."""
    return _softmax(x, axis=dim)


def log_softmax(x: Any, dim: int = -1) -> Any:
    """log(softmax(x)) along `dim`, without underflow."""
    return _log_softmax(x, axis=dim)


__all__ = [
    "elu", "gelu", "leaky_relu", "log_softmax", "logsigmoid", "relu", "sigmoid", "silu", "softmax", "softplus", "tanh",
]  # fmt: skip
