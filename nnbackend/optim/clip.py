"""Keeping gradients small. All of it runs on the device; only `error_if_nonfinite` waits for a value."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, TypeAlias

from ..backend import Array, backend_of, dtype_name, namespace
from ..cells import Parameter, gradients_of
from ..creation import asarray
from ..errors import NonFiniteError
from ..tensor import Tensor
from .flat import wide

Parameters: TypeAlias = Parameter | Iterable[Parameter]

__all__ = [
    "clip_grad_adaptive", "clip_grad_norm", "clip_grad_norm_", "clip_grad_value", "clip_grad_value_",
    "clip_grads_with_norm_", "get_total_norm",
]  # fmt: skip


def clip_grad_norm(
    parameters: Parameters,
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> Any:
    """Scale all gradients so that their common norm is at most `max_norm`; returns the norm before, not waiting for it.

    `error_if_nonfinite` does wait, and raises NonFiniteError before anything is changed.
    """
    if not max_norm > 0:
        raise ValueError(f"clip_grad_norm: expected max_norm > 0, got {max_norm}.")
    members = [parameters] if isinstance(parameters, Parameter) else list(parameters)
    gradients = [g for _, g in _with_gradients(members)]
    if not gradients:
        raise ValueError("clip_grad_norm: expected gradients, got none. Call loss.backward() first.")
    norm = get_total_norm(gradients, norm_type, error_if_nonfinite)
    clip_grads_with_norm_(members, max_norm, norm)
    return norm


def get_total_norm(tensors: Iterable[Any], norm_type: float = 2.0, error_if_nonfinite: bool = False) -> Any:
    """The p-norm of all elements of all tensors, for p = `norm_type` > 0 or infinity; that of float16 in float32."""
    if not (p := float(norm_type)) > 0:
        raise ValueError(f"get_total_norm: expected norm_type > 0, got {norm_type}.")
    parts = [_wide(t.data if isinstance(t, Tensor) else t) for t in tensors]
    if not parts:
        raise ValueError("get_total_norm: expected tensors, got none.")
    norm = _norm(parts, p)
    if error_if_nonfinite and not math.isfinite(float(Tensor(norm))):
        raise NonFiniteError(f"get_total_norm: expected a finite norm, got {float(Tensor(norm))}.")
    return Tensor(norm)


def clip_grads_with_norm_(parameters: Parameters, max_norm: float, total_norm: Any) -> None:
    """Scale all gradients by max_norm / total_norm, if that is below 1."""
    norm = asarray(total_norm).data
    scale = namespace(norm).minimum(max_norm / (norm + 1e-6), 1.0)
    for p, g in _with_gradients(parameters):
        p._grad = _scaled(g, scale)


def clip_grad_value(parameters: Parameters, clip_value: float) -> None:
    """Keep every element of every gradient between -clip_value and clip_value."""
    if not clip_value > 0:
        raise ValueError(f"clip_grad_value: expected clip_value > 0, got {clip_value}.")
    for p, g in _with_gradients(parameters):
        xp = namespace(g)
        p._grad = xp.minimum(xp.maximum(g, -clip_value), clip_value)


def clip_grad_adaptive(parameters: Parameters, clip_factor: float = 0.01, eps: float = 1e-3) -> None:
    """Keep the norm of each unit's gradient at `clip_factor` of that of its weights at most (Brock et al. 2021).

    A unit is a row, the weights of one output; a vector or a number is one unit. Weights count as no shorter than
    `eps`. The paper leaves out the last layer.
    """
    for name, value in (("clip_factor", clip_factor), ("eps", eps)):
        if not value > 0:
            raise ValueError(f"clip_grad_adaptive: expected {name} > 0, got {value}.")
    for p, g in _with_gradients(parameters):
        xp = namespace(g)
        longest = clip_factor * xp.maximum(_unit_norms(p.data), eps)
        p._grad = _scaled(g, longest / xp.maximum(_unit_norms(g), longest))


clip_grad_norm_ = clip_grad_norm  # PyTorch's names
clip_grad_value_ = clip_grad_value


def _norm(parts: list[Array], p: float) -> Array:
    xp = namespace(parts[0])
    if p == math.inf:
        norm = xp.max(xp.abs(parts[0]))
        for x in parts[1:]:
            norm = xp.maximum(norm, xp.max(xp.abs(x)))
        return norm
    sums = [xp.sum(x * x if p == 2 else xp.abs(x) ** p) for x in parts]
    total = sum(sums[1:], start=sums[0])
    return xp.sqrt(total) if p == 2 else total ** (1.0 / p)


def _unit_norms(x: Array) -> Array:
    x = _wide(x)
    xp, axes = namespace(x), tuple(range(1, x.ndim)) if x.ndim > 1 else None
    return xp.sqrt(xp.sum(x * x, axis=axes, keepdims=True))


def _wide(x: Array) -> Array:
    """In the dtype that sums are made in."""
    return x if (name := wide(x)) == dtype_name(x.dtype) else namespace(x).astype(x, backend_of(x).dtype(name))


def _scaled(g: Array, scale: Array) -> Array:
    """The gradient times a scale that float16 may not have."""
    x = _wide(g)
    y = x * (scale if scale.dtype == x.dtype else namespace(scale).astype(scale, x.dtype))
    return y if y.dtype == g.dtype else namespace(y).astype(y, g.dtype)


def _with_gradients(parameters: Parameters) -> list[tuple[Parameter, Array]]:
    members = [parameters] if isinstance(parameters, Parameter) else list(parameters)
    return [(p, g) for p, g in zip(members, gradients_of(members), strict=True) if g is not None]
