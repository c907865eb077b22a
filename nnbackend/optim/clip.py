"""Keeping gradients small."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from ..backend import Array, namespace
from ..cells import Parameter, gradients_of
from ..errors import NonFiniteError
from ..tensor import Tensor

__all__ = ["clip_grad_norm", "clip_grad_value"]


def clip_grad_norm(parameters: Iterable[Parameter], max_norm: float, error_if_nonfinite: bool = False) -> Any:
    """Scale all gradients so that their common norm is at most `max_norm`; returns the norm before, not waiting for it.

    `error_if_nonfinite` does wait, and raises NonFiniteError before anything is changed.
    """
    if not max_norm > 0:
        raise ValueError(f"clip_grad_norm: expected max_norm > 0, got {max_norm}.")
    members = _with_gradients(parameters)
    if not members:
        raise ValueError("clip_grad_norm: expected gradients, got none. Call loss.backward() first.")
    xp, squares = namespace(members[0][1]), [namespace(g).sum(g * g) for _, g in members]
    norm = xp.sqrt(sum(squares[1:], start=squares[0]))
    if error_if_nonfinite and not math.isfinite(float(Tensor(norm))):
        raise NonFiniteError(f"clip_grad_norm: expected a finite norm, got {float(Tensor(norm))}.")
    scale = xp.minimum(max_norm / (norm + 1e-6), 1.0)
    for p, g in members:
        p._grad = g * (scale if scale.dtype == g.dtype else namespace(scale).astype(scale, g.dtype))
    return Tensor(norm)


def clip_grad_value(parameters: Iterable[Parameter], clip_value: float) -> None:
    """Keep every element of every gradient between -clip_value and clip_value."""
    if not clip_value > 0:
        raise ValueError(f"clip_grad_value: expected clip_value > 0, got {clip_value}.")
    for p, g in _with_gradients(parameters):
        p._grad = namespace(g).clip(g, -clip_value, clip_value)


def _with_gradients(parameters: Iterable[Parameter]) -> list[tuple[Parameter, Array]]:
    members = list(parameters)
    return [(p, g) for p, g in zip(members, gradients_of(members), strict=True) if g is not None]
