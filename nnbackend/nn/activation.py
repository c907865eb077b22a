"""Activations as layers, and by name. `inplace` has no effect: it is there for PyTorch's programs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import functional as F
from ..backend import DeviceLike
from ..cells import Parameter
from ..errors import ShapeError
from .init import constant
from .module import Module
from .random_module import RandomModule


class _Plain(Module):
    """An activation without settings."""

    function: Callable[[Any], Any]

    def forward(self, input: Any) -> Any:
        """Element by element."""
        return type(self).function(input)


class _Inplace(_Plain):
    """An activation that PyTorch can do in place."""

    def __init__(self, inplace: bool = False) -> None:
        self.inplace = inplace


# -- smooth, or nearly so ---------------------------------------------------------------------------------------------


class Sigmoid(_Plain):
    """1 / (1 + exp(-x))."""

    function = staticmethod(F.sigmoid)


class LogSigmoid(_Plain):
    """log(sigmoid(x))."""

    function = staticmethod(F.logsigmoid)


class Tanh(_Plain):
    """Hyperbolic tangent."""

    function = staticmethod(F.tanh)


class Tanhshrink(_Plain):
    """x - tanh(x)."""

    function = staticmethod(F.tanhshrink)


class Softsign(_Plain):
    """x / (1 + |x|)."""

    function = staticmethod(F.softsign)


class SiLU(_Inplace):
    """x * sigmoid(x)."""

    function = staticmethod(F.silu)


class Mish(_Inplace):
    """x * tanh(softplus(x))."""

    function = staticmethod(F.mish)


class SELU(_Inplace):
    """ELU with the two constants that keep mean 0 and variance 1."""

    function = staticmethod(F.selu)


class ELU(Module):
    """x above 0, alpha * (exp(x) - 1) below."""

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        self.alpha, self.inplace = alpha, inplace

    def forward(self, input: Any) -> Any:
        """Element by element."""
        return F.elu(input, self.alpha)


class CELU(ELU):
    """x above 0, alpha * (exp(x / alpha) - 1) below."""

    def forward(self, input: Any) -> Any:
        """Element by element."""
        return F.celu(input, self.alpha)


class GELU(Module):
    """x * Phi(x); `approximate="tanh"` is the usual approximation."""

    def __init__(self, approximate: str = "none") -> None:
        self.approximate = approximate

    def forward(self, input: Any) -> Any:
        """Element by element."""
        return F.gelu(input, self.approximate)


class Softplus(Module):
    """log(1 + exp(beta * x)) / beta."""

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        self.beta, self.threshold = beta, threshold

    def forward(self, input: Any) -> Any:
        """Element by element."""
        return F.softplus(input, self.beta, self.threshold)


# -- in pieces --------------------------------------------------------------------------------------------------------


class ReLU(_Inplace):
    """max(x, 0)."""

    function = staticmethod(F.relu)


class ReLU6(_Inplace):
    """x kept between 0 and 6."""

    function = staticmethod(F.relu6)


class Hardsigmoid(_Inplace):
    """x / 6 + 1/2 kept between 0 and 1."""

    function = staticmethod(F.hardsigmoid)


class Hardswish(_Inplace):
    """x * hardsigmoid(x)."""

    function = staticmethod(F.hardswish)


class LeakyReLU(Module):
    """x above 0, negative_slope * x below."""

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        self.negative_slope, self.inplace = negative_slope, inplace

    def forward(self, input: Any) -> Any:
        """Element by element."""
        return F.leaky_relu(input, self.negative_slope)


class PReLU(Module):
    """x above 0, weight * x below, with one weight to learn, or one for each of `num_parameters` channels."""

    def __init__(
        self, num_parameters: int = 1, init: float = 0.25, device: DeviceLike = "cpu", dtype: Any = "float32"
    ) -> None:
        self.num_parameters = num_parameters
        self.weight = Parameter.drawn(constant(init), (num_parameters,), device, dtype)

    def forward(self, input: Any) -> Any:
        """(n, num_parameters, ...), or any shape for one parameter."""
        return F.prelu(input, self.weight)


class RReLU(RandomModule):
    """Leaky ReLU, in training with random slopes in [lower, upper), else with their mean (Xu et al. 2015)."""

    def __init__(self, lower: float = 1.0 / 8, upper: float = 1.0 / 3, inplace: bool = False) -> None:
        super().__init__()
        self.lower, self.upper, self.inplace = lower, upper, inplace

    def forward(self, input: Any) -> Any:
        """Element by element."""
        address = self.next_address() if self.training else {}
        return F.rrelu(input, self.lower, self.upper, self.training, **address)


class Hardtanh(Module):
    """x kept between two values. ValueError unless the first is smaller."""

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> None:
        if not min_val < max_val:
            raise ValueError(f"Hardtanh: expected min_val < max_val, got {min_val} and {max_val}.")
        self.min_val, self.max_val, self.inplace = min_val, max_val, inplace

    def forward(self, input: Any) -> Any:
        """Element by element."""
        return F.hardtanh(input, self.min_val, self.max_val)


class Hardshrink(Module):
    """x, but 0 from -lambd to lambd."""

    def __init__(self, lambd: float = 0.5) -> None:
        self.lambd = lambd

    def forward(self, input: Any) -> Any:
        """Element by element."""
        return F.hardshrink(input, self.lambd)


class Softshrink(Hardshrink):
    """x moved towards 0 by lambd, but not past it."""

    def forward(self, input: Any) -> Any:
        """Element by element."""
        return F.softshrink(input, self.lambd)


class Threshold(Module):
    """x above the threshold, `value` elsewhere."""

    def __init__(self, threshold: float, value: float, inplace: bool = False) -> None:
        self.threshold, self.value, self.inplace = threshold, value, inplace

    def forward(self, input: Any) -> Any:
        """Element by element."""
        return F.threshold(input, self.threshold, self.value)


# -- along an axis ----------------------------------------------------------------------------------------------------


class _Along(Module):
    """A function along an axis."""

    function: Callable[[Any, int], Any]

    def __init__(self, dim: int = -1) -> None:
        self.dim = dim

    def forward(self, input: Any) -> Any:
        """The same shape, but for GLU, which halves the axis."""
        return type(self).function(input, self.dim)


class GLU(_Along):
    """One half along `dim` times the sigmoid of the other."""

    function = staticmethod(F.glu)


class Softmax(_Along):
    """exp(x) / sum(exp(x)) along `dim`. Losses want logits: leave it out before `cross_entropy`."""

    function = staticmethod(F.softmax)


class Softmin(_Along):
    """Softmax of -x along `dim`."""

    function = staticmethod(F.softmin)


class LogSoftmax(_Along):
    """log(softmax(x)) along `dim`."""

    function = staticmethod(F.log_softmax)


class Softmax2d(Module):
    """Softmax over the channels of (n, c, h, w) or (c, h, w)."""

    def forward(self, input: Any) -> Any:
        """The same shape."""
        if len(input.shape) not in (3, 4):
            raise ShapeError(f"Softmax2d: expected input (n, c, h, w) or (c, h, w), got {tuple(input.shape)}.")
        return F.softmax(input, -3)


# -- by name ----------------------------------------------------------------------------------------------------------

ACTIVATIONS: dict[str, Callable[[], Module]] = {
    "sigmoid": Sigmoid, "tanh": Tanh, "relu": ReLU, "leaky_relu": LeakyReLU, "elu": ELU, "gelu": GELU, "silu": SiLU,
    "softplus": Softplus, "logsigmoid": LogSigmoid, "softmax": Softmax, "log_softmax": LogSoftmax, "softmin": Softmin,
    "celu": CELU, "hardshrink": Hardshrink, "hardsigmoid": Hardsigmoid, "hardswish": Hardswish, "hardtanh": Hardtanh,
    "mish": Mish, "prelu": PReLU, "relu6": ReLU6, "rrelu": RReLU, "selu": SELU, "softshrink": Softshrink,
    "softsign": Softsign, "tanhshrink": Tanhshrink,
}  # fmt: skip


def activation(spec: str | Callable[[], Module]) -> Module:
    """A fresh layer for a name such as `"relu"`, or for whatever makes one. ValueError for unknown names."""
    if isinstance(spec, str):
        if spec not in ACTIVATIONS:
            raise ValueError(f"activation: expected one of {', '.join(ACTIVATIONS)}, got {spec!r}.")
        return ACTIVATIONS[spec]()
    return spec()


__all__ = [
    "CELU", "ELU", "GELU", "GLU", "SELU", "Hardshrink", "Hardsigmoid", "Hardswish", "Hardtanh", "LeakyReLU",
    "LogSigmoid", "LogSoftmax", "Mish", "PReLU", "RReLU", "ReLU", "ReLU6", "SiLU", "Sigmoid", "Softmax",
    "Softmax2d", "Softmin", "Softplus", "Softshrink", "Softsign", "Tanh", "Tanhshrink", "Threshold", "activation",
]  # fmt: skip
