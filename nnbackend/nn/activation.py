"""Activations as layers, and by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import functional as F
from .module import Module


class _Plain(Module):
    """An activation without settings."""

    function: Callable[[Any], Any]

    def forward(self, x: Any) -> Any:
        """Element by element."""
        return type(self).function(x)


class Sigmoid(_Plain):
    """1 / (1 + exp(-x))."""

    function = staticmethod(F.sigmoid)


class Tanh(_Plain):
    """Hyperbolic tangent."""

    function = staticmethod(F.tanh)


class ReLU(_Plain):
    """max(x, 0)."""

    function = staticmethod(F.relu)


class SiLU(_Plain):
    """x * sigmoid(x)."""

    function = staticmethod(F.silu)


class LogSigmoid(_Plain):
    """log(sigmoid(x))."""

    function = staticmethod(F.logsigmoid)


class LeakyReLU(Module):
    """x above 0, negative_slope * x below."""

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = negative_slope

    def forward(self, x: Any) -> Any:
        """Element by element."""
        return F.leaky_relu(x, self.negative_slope)


class ELU(Module):
    """x above 0, alpha * (exp(x) - 1) below."""

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = alpha

    def forward(self, x: Any) -> Any:
        """Element by element."""
        return F.elu(x, self.alpha)


class GELU(Module):
    """x * Phi(x); `approximate="tanh"` is the usual approximation."""

    def __init__(self, approximate: str = "none") -> None:
        self.approximate = approximate

    def forward(self, x: Any) -> Any:
        """Element by element."""
        return F.gelu(x, self.approximate)


class Softplus(Module):
    """log(1 + exp(beta * x)) / beta."""

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        self.beta, self.threshold = beta, threshold

    def forward(self, x: Any) -> Any:
        """Element by element."""
        return F.softplus(x, self.beta, self.threshold)


class Softmax(Module):
    """exp(x) / sum(exp(x)) along `dim`. Losses want logits: leave it out before `cross_entropy`."""

    def __init__(self, dim: int = -1) -> None:
        self.dim = dim

    def forward(self, x: Any) -> Any:
        """The same shape."""
        return F.softmax(x, self.dim)


class LogSoftmax(Softmax):
    """log(softmax(x)) along `dim`."""

    def forward(self, x: Any) -> Any:
        """The same shape."""
        return F.log_softmax(x, self.dim)


ACTIVATIONS: dict[str, Callable[[], Module]] = {
    "sigmoid": Sigmoid, "tanh": Tanh, "relu": ReLU, "leaky_relu": LeakyReLU, "elu": ELU, "gelu": GELU, "silu": SiLU,
    "softplus": Softplus, "logsigmoid": LogSigmoid, "softmax": Softmax, "log_softmax": LogSoftmax,
}  # fmt: skip


def activation(spec: str | Callable[[], Module]) -> Module:
    """A fresh layer for a name such as `"relu"`, or for whatever makes one. ValueError for unknown names."""
    if isinstance(spec, str):
        if spec not in ACTIVATIONS:
            raise ValueError(f"activation: expected one of {', '.join(ACTIVATIONS)}, got {spec!r}.")
        return ACTIVATIONS[spec]()
    return spec()


__all__ = [
    "ELU",
    "GELU",
    "LeakyReLU",
    "LogSigmoid",
    "LogSoftmax",
    "ReLU",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
    "activation",
]
