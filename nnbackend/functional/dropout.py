"""Random zeros, drawn at addresses: the same ones on every device.

All take the address of their random numbers as keywords: `key`, fresh by default, `site=0` and `step=0`. `inplace` has
no effect.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..backend import FLOATING, Array, kept
from ..errors import DTypeError, ShapeError
from ..ops import activation
from ..random import fresh_key, uniform_like
from ..tensor import lift
from .arguments import kind_of, raw_of

_dropout, _alpha_dropout = lift(activation.dropout), lift(activation.alpha_dropout)


def _zeros(input: Any, like: Array, p: float, *at: Any) -> Any:
    return _dropout(input, kept(like, p, *at))


def _lowest(input: Any, like: Array, p: float, *at: Any) -> Any:
    return _alpha_dropout(input, uniform_like(like, *at) >= p, p=p)


def dropout(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False, **address: Any) -> Any:
    """0 with probability p, the rest scaled by 1 / (1 - p)."""
    return _dropped("dropout", _zeros, input, p, training, len(input.shape), address)


def dropout1d(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False, **address: Any) -> Any:
    """`dropout` of whole channels: (n, c, l) or (c, l)."""
    return _dropped("dropout1d", _zeros, input, p, training, _leading("dropout1d", input, {3: 2, 2: 1}), address)


def dropout2d(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False, **address: Any) -> Any:
    """`dropout` of whole channels: (n, c, h, w), and (n, c, l) as in PyTorch."""
    return _dropped("dropout2d", _zeros, input, p, training, _leading("dropout2d", input, {4: 2, 3: 2}), address)


def dropout3d(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False, **address: Any) -> Any:
    """`dropout` of whole channels: (n, c, d, h, w) or (c, d, h, w)."""
    return _dropped("dropout3d", _zeros, input, p, training, _leading("dropout3d", input, {5: 2, 4: 1}), address)


def alpha_dropout(input: Any, p: float = 0.5, training: bool = False, inplace: bool = False, **address: Any) -> Any:
    """The lowest value of SELU with probability p, then scaled and shifted: mean 0 and variance 1 stay."""
    return _dropped("alpha_dropout", _lowest, input, p, training, len(input.shape), address)


def feature_alpha_dropout(
    input: Any, p: float = 0.5, training: bool = False, inplace: bool = False, **address: Any
) -> Any:
    """`alpha_dropout` of whole channels: (n, c, ...)."""
    if len(input.shape) < 2:
        raise ShapeError(f"feature_alpha_dropout: expected input (n, c, ...), got {tuple(input.shape)}.")
    return _dropped("feature_alpha_dropout", _lowest, input, p, training, 2, address)


def uniform(name: str, like: Any, **address: Any) -> Array:
    """Random numbers in [0, 1) at an address, as a plain array of the shape, dtype and device of `like`."""
    return uniform_like(_floating(name, like), *_at(**address))


def _floating(name: str, x: Any) -> Array:
    """Its plain array."""
    if kind_of(x) not in FLOATING:
        raise DTypeError(f"{name}: expected a floating dtype, got {x.dtype}. Cast with .astype('float32').")
    return raw_of(x)


def _at(key: int | None = None, site: int = 0, step: Any = 0) -> tuple[int, int, Any]:
    return fresh_key() if key is None else key, site, step


def _leading(name: str, input: Any, allowed: dict[int, int]) -> int:
    """How many axes there are up to the channels, by the number of axes."""
    shape = tuple(input.shape)
    if len(shape) not in allowed:
        raise ShapeError(f"{name}: expected input of {' or '.join(map(str, sorted(allowed)))} axes, got {shape}.")
    return allowed[len(shape)]


def _dropped(
    name: str, drop: Callable[..., Any], input: Any, p: float, training: bool, leading: int, address: dict[str, Any]
) -> Any:
    """One draw for each element of the leading axes."""
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"{name}: expected a probability from 0 to 1, got {p}.")
    if not training or not p:
        return input
    rest = len(input.shape) - leading
    like = input[(slice(None),) * leading + (slice(0, 1),) * rest] if rest else input
    return drop(input, _floating(name, like), p, *_at(**address))


__all__ = ["alpha_dropout", "dropout", "dropout1d", "dropout2d", "dropout3d", "feature_alpha_dropout"]
