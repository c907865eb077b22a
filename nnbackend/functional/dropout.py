"""Random zeros, drawn at addresses: the same ones on every device."""

from __future__ import annotations

from typing import Any

from ..backend import FLOATING, backend_of
from ..errors import DTypeError
from ..ops import activation
from ..random import fresh_key, uniform_like
from ..tensor import Tensor, lift

_dropout = lift(activation.dropout)


def dropout(
    x: Any, p: float = 0.5, training: bool = True, *, key: int | None = None, site: int = 0, step: Any = 0
) -> Any:
    """0 with probability p, the rest scaled by 1 / (1 - p). (key, site, step) is the address of the random numbers."""
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"dropout: expected a probability from 0 to 1, got {p}.")
    if not training or not p:
        return x
    data = x.data if isinstance(x, Tensor) else x
    if backend_of(data).canonical(data.dtype) not in FLOATING:
        raise DTypeError(f"dropout: expected a floating dtype, got {x.dtype}. Cast with .astype('float32').")
    keep = uniform_like(data, fresh_key() if key is None else key, site, step) >= p
    return _dropout(x, keep, p=p)


__all__ = ["dropout"]
