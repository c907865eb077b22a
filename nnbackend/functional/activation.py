"""Activations. `inplace` has no effect: it is there for PyTorch's programs."""

from __future__ import annotations

import math
from typing import Any

from ..array import argmax, astype, log, log1p, maximum, moveaxis, one_hot, reshape, tanh
from ..errors import ShapeError
from ..ops import activation
from ..ops.core import constant
from ..tensor import lift
from .dropout import uniform

sigmoid, logsigmoid = lift(activation.sigmoid), lift(activation.logsigmoid)
softsign, tanhshrink = lift(activation.softsign), lift(activation.tanhshrink)
_relu, _silu, _mish = lift(activation.relu), lift(activation.silu), lift(activation.mish)
_leaky_relu, _prelu, _elu = lift(activation.leaky_relu), lift(activation.prelu), lift(activation.elu)
_gelu, _softplus, _glu = lift(activation.gelu), lift(activation.softplus), lift(activation.glu)
_hardtanh, _threshold = lift(activation.hardtanh), lift(activation.threshold)
_hardsigmoid, _hardswish = lift(activation.hardsigmoid), lift(activation.hardswish)
_hardshrink, _softshrink = lift(activation.hardshrink), lift(activation.softshrink)
_softmax, _log_softmax = lift(activation.softmax), lift(activation.log_softmax)

# -- smooth, or nearly so ---------------------------------------------------------------------------------------------


def silu(input: Any, inplace: bool = False) -> Any:
    """SiLU or swish: x * sigmoid(x)."""
    return _silu(input)


def mish(input: Any, inplace: bool = False) -> Any:
    """Mish: x * tanh(softplus(x))."""
    return _mish(input)


def gelu(input: Any, approximate: str = "none") -> Any:
    """GELU: x * Phi(x), with Phi the normal distribution function, or its `"tanh"` approximation."""
    return _gelu(input, approximate=approximate)


def softplus(input: Any, beta: float = 1.0, threshold: float = 20.0) -> Any:
    """log(1 + exp(beta * x)) / beta; the identity where beta * x > threshold."""
    return _softplus(input, beta=beta, threshold=threshold)


def elu(input: Any, alpha: float = 1.0, inplace: bool = False) -> Any:
    """Above 0 x, below it alpha * (exp(x) - 1)."""
    return _elu(input, alpha=alpha)


def selu(input: Any, inplace: bool = False) -> Any:
    """ELU with the two constants that keep mean 0 and variance 1 (Klambauer et al. 2017)."""
    return _elu(input, alpha=activation.SELU_ALPHA, scale=activation.SELU_SCALE)


def celu(input: Any, alpha: float = 1.0, inplace: bool = False) -> Any:
    """Above 0 x, below it alpha * (exp(x / alpha) - 1) (Barron 2017). ValueError for alpha = 0."""
    if not alpha:
        raise ValueError(f"celu: expected alpha other than 0, got {alpha}.")
    return _elu(input, alpha=alpha, input_scale=1.0 / alpha)


# -- in pieces --------------------------------------------------------------------------------------------------------


def relu(input: Any, inplace: bool = False) -> Any:
    """max(x, 0)."""
    return _relu(input)


def relu6(input: Any, inplace: bool = False) -> Any:
    """Keep x between 0 and 6."""
    return _hardtanh(input, min_val=0.0, max_val=6.0)


def leaky_relu(input: Any, negative_slope: float = 0.01, inplace: bool = False) -> Any:
    """Above 0 x, below it negative_slope * x."""
    return _leaky_relu(input, negative_slope=negative_slope)


def prelu(input: Any, weight: Any) -> Any:
    """Above 0 x, below it weight * x: one weight for all, or one for each channel (n, c, ...)."""
    shape, count = tuple(input.shape), math.prod(weight.shape)
    if len(weight.shape) > 1:
        raise ShapeError(f"prelu: expected a weight of one axis, got {tuple(weight.shape)}.")
    channels = shape[1] if len(shape) > 1 else 1
    if count not in (1, channels):
        raise ShapeError(f"prelu: expected 1 weight or one for each of {channels} channels, got {count}.")
    spread = (count, *[1] * (len(shape) - 2)) if count > 1 else ()
    return _prelu(input, reshape(weight, spread))


def rrelu(
    input: Any,
    lower: float = 1.0 / 8,
    upper: float = 1.0 / 3,
    training: bool = False,
    inplace: bool = False,
    **address: Any,
) -> Any:
    """Leaky ReLU with random slopes in [lower, upper), drawn at an address as in `dropout`; their mean if not training.

    ValueError unless lower <= upper.
    """
    if not lower <= upper:
        raise ValueError(f"rrelu: expected lower <= upper, got {lower} and {upper}.")
    if not training:
        return _leaky_relu(input, negative_slope=(lower + upper) / 2.0)
    return _prelu(input, uniform("rrelu", input, **address) * (upper - lower) + lower)


def hardtanh(input: Any, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Any:
    """Keep x between two values, which pass no gradient. ValueError if the first is larger."""
    if min_val > max_val:
        raise ValueError(f"hardtanh: expected min_val <= max_val, got {min_val} and {max_val}.")
    return _hardtanh(input, min_val=min_val, max_val=max_val)


def hardsigmoid(input: Any, inplace: bool = False) -> Any:
    """Keep x / 6 + 1/2 between 0 and 1."""
    return _hardsigmoid(input)


def hardswish(input: Any, inplace: bool = False) -> Any:
    """Hard swish: x * hardsigmoid(x)."""
    return _hardswish(input)


def hardshrink(input: Any, lambd: float = 0.5) -> Any:
    """x, but 0 from -lambd to lambd."""
    return _hardshrink(input, lambd=lambd)


def softshrink(input: Any, lambd: float = 0.5) -> Any:
    """Move x towards 0 by lambd, but not past it. ValueError for lambd < 0."""
    if not lambd >= 0:
        raise ValueError(f"softshrink: expected lambd >= 0, got {lambd}.")
    return _softshrink(input, lambd=lambd)


def threshold(input: Any, threshold: float, value: float, inplace: bool = False) -> Any:
    """Above the threshold x, elsewhere `value`."""
    return _threshold(input, threshold=threshold, value=value)


# -- along an axis ----------------------------------------------------------------------------------------------------


def glu(input: Any, dim: int = -1) -> Any:
    """One half along `dim` times the sigmoid of the other. ShapeError for an odd length."""
    if not len(input.shape) or input.shape[dim] % 2:
        raise ShapeError(f"glu: expected an even length along axis {dim}, got shape {tuple(input.shape)}.")
    return _glu(input, axis=dim)


def softmax(input: Any, dim: int = -1, dtype: Any = None) -> Any:
    """exp(x) / sum(exp(x)) along `dim`; cast to `dtype` before."""
    return _softmax(input if dtype is None else astype(input, dtype), axis=dim)


def softmin(input: Any, dim: int = -1, dtype: Any = None) -> Any:
    """`softmax` of -x."""
    return softmax(-input, dim, dtype)


def log_softmax(input: Any, dim: int = -1, dtype: Any = None) -> Any:
    """log(softmax(x)) along `dim`, without underflow; cast to `dtype` before."""
    return _log_softmax(input if dtype is None else astype(input, dtype), axis=dim)


def gumbel_softmax(
    logits: Any, tau: float = 1.0, hard: bool = False, eps: float = 1e-10, dim: int = -1, **address: Any
) -> Any:
    """A random choice along `dim` that has a gradient (Jang et al. 2017); at an address as in `dropout`.

    Softmax of (logits + Gumbel noise) / tau. `hard` gives one-hot vectors with the gradient of the soft ones. The
    exponential numbers that the noise is the logarithm of are kept above `eps`.
    """
    noise = -log(maximum(-log1p(-uniform("gumbel_softmax", logits, **address)), eps))
    soft = softmax((logits + noise) / tau, dim)
    if not hard:
        return soft
    chosen = one_hot(argmax(constant(soft), axis=dim), soft.shape[dim], soft.dtype)
    return soft + (moveaxis(chosen, -1, dim) - constant(soft))


__all__ = [
    "celu", "elu", "gelu", "glu", "gumbel_softmax", "hardshrink", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu",
    "log_softmax", "logsigmoid", "mish", "prelu", "relu", "relu6", "rrelu", "selu", "sigmoid", "silu", "softmax",
    "softmin", "softplus", "softshrink", "softsign", "tanh", "tanhshrink", "threshold",
]  # fmt: skip
