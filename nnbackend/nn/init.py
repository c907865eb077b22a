"""Initial weights, drawn on the host: one seed gives the same weights on every device.

An initialiser is called with NumPy's generator and a shape and returns a float64 array. The functions here with
settings return one: `nn.init.xavier_uniform(gain=1.0)`. Shapes are PyTorch's, (out, in, ...).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from ..backend import HostArray
from ..errors import ShapeError

Shape = tuple[int, ...]
Initialiser = Callable[[Any, Shape], HostArray]


def zeros(generator: Any, shape: Shape) -> HostArray:
    """All 0."""
    return generator.random(shape) * 0.0  # type: ignore[no-any-return]


def ones(generator: Any, shape: Shape) -> HostArray:
    """All 1."""
    return zeros(generator, shape) + 1.0


def constant(value: float) -> Initialiser:
    """All `value`."""
    return partial(_constant, value)


def uniform(low: float = 0.0, high: float = 1.0) -> Initialiser:
    """Evenly spread over [low, high)."""
    return partial(_uniform, low, high)


def normal(mean: float = 0.0, std: float = 1.0) -> Initialiser:
    """The normal distribution."""
    return partial(_normal, mean, std)


def xavier_uniform(gain: float = 1.0) -> Initialiser:
    """Keeps the variance of values and gradients of tanh-like nets (Glorot and Bengio 2010)."""
    return partial(_xavier, gain, False)


def xavier_normal(gain: float = 1.0) -> Initialiser:
    """`xavier_uniform` with the normal distribution."""
    return partial(_xavier, gain, True)


def kaiming_uniform(gain: float = math.sqrt(2.0)) -> Initialiser:
    """Keeps the variance of values through ReLU (He et al. 2015)."""
    return partial(_kaiming, gain, False)


def kaiming_normal(gain: float = math.sqrt(2.0)) -> Initialiser:
    """`kaiming_uniform` with the normal distribution."""
    return partial(_kaiming, gain, True)


def _constant(value: float, generator: Any, shape: Shape) -> HostArray:
    return zeros(generator, shape) + value


def _uniform(low: float, high: float, generator: Any, shape: Shape) -> HostArray:
    return generator.uniform(low, high, shape)  # type: ignore[no-any-return]


def _normal(mean: float, std: float, generator: Any, shape: Shape) -> HostArray:
    return generator.normal(mean, std, shape)  # type: ignore[no-any-return]


def _fans(shape: Shape) -> tuple[int, int]:
    """How many inputs and outputs one output and one input has."""
    if len(shape) < 2:
        raise ShapeError(f"init: expected a weight of at least 2 axes, got shape {shape}")
    field = math.prod(shape[2:])
    return shape[1] * field, shape[0] * field


def _spread(std: float, is_normal: bool, generator: Any, shape: Shape) -> HostArray:
    if is_normal:
        return _normal(0.0, std, generator, shape)
    return _uniform(-math.sqrt(3.0) * std, math.sqrt(3.0) * std, generator, shape)


def _xavier(gain: float, is_normal: bool, generator: Any, shape: Shape) -> HostArray:
    return _spread(gain * math.sqrt(2.0 / sum(_fans(shape))), is_normal, generator, shape)


def _kaiming(gain: float, is_normal: bool, generator: Any, shape: Shape) -> HostArray:
    return _spread(gain / math.sqrt(_fans(shape)[0]), is_normal, generator, shape)
