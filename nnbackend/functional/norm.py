"""Normalisation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..array import finfo, maximum, pad, reshape
from ..errors import ShapeError
from ..linalg import vector_norm
from ..ops import norm
from ..tensor import lift

_layer, _rms, _group = lift(norm.layer_norm), lift(norm.rms_norm), lift(norm.group_norm)
_batch, _instance = lift(norm.batch_norm), lift(norm.instance_norm)


def layer_norm(
    input: Any, normalized_shape: int | Sequence[int], weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Any:
    """Mean 0 and variance 1 over the last axes, which are `normalized_shape`; then weight and bias of that shape."""
    ndim = _tail("layer_norm", input, normalized_shape, weight, bias)
    return _layer(input, weight, bias, ndim=ndim, eps=eps)


def rms_norm(input: Any, normalized_shape: int | Sequence[int], weight: Any = None, eps: float | None = None) -> Any:
    """Mean square 1 over the last axes, which are `normalized_shape`; `eps` is the dtype's own unless given."""
    ndim = _tail("rms_norm", input, normalized_shape, weight)
    return _rms(input, weight, ndim=ndim, eps=float(finfo(input.dtype).eps) if eps is None else eps)


def group_norm(input: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """(n, c, ...): mean 0 and variance 1 of each sample's groups of channels; then weight and bias (c,)."""
    shape = _channels("group_norm", input, weight, bias)
    if num_groups < 1 or shape[1] % num_groups:
        raise ShapeError(f"group_norm: expected a number of groups that divides {shape[1]} channels, got {num_groups}.")
    if shape[0] * shape[1] // num_groups * math.prod(shape[2:]) == 1:
        raise _single("group_norm", "channel", shape)
    return _group(input, weight, bias, groups=num_groups, eps=eps)


def batch_norm(
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: Any = 0.1,
    eps: float = 1e-5,
) -> Any:
    """(n, c, ...): mean 0 and variance 1 of each channel, over the batch in training, else by the running statistics.

    In training the running statistics (c,), if there are any, move towards those of the batch by `momentum`.
    """
    shape = _channels("batch_norm", input, weight, bias, running_mean, running_var)
    if eps < 0.0 or (training and eps == 0.0):
        raise ValueError(f"batch_norm: expected eps > 0, got {eps}.")
    if not training:
        if running_mean is None or running_var is None:
            raise ValueError("batch_norm: expected running_mean and running_var outside training, got None.")
        return _by_given(input, running_mean, running_var, weight, bias, eps)
    n = math.prod(shape) // max(1, shape[1])
    if n == 1:
        raise _single("batch_norm", "channel", shape)
    y, mean, var = _batch(input, weight, bias, eps=eps)
    if n:
        _move(running_mean, mean, momentum)
        _move(running_var, var * (n / (n - 1)), momentum)
    return y


def instance_norm(
    input: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: Any = 0.1,
    eps: float = 1e-5,
) -> Any:
    """(n, c, ...): mean 0 and variance 1 of each channel of each sample, or by the running statistics.

    With `use_input_stats` these, if there are any, move towards the averages of the batch by `momentum`.
    """
    shape = _channels("instance_norm", input, weight, bias, running_mean, running_var)
    if not use_input_stats:
        if running_mean is None or running_var is None:
            raise ValueError("instance_norm: expected running_mean and running_var without use_input_stats, got None.")
        return _by_given(input, running_mean, running_var, weight, bias, eps)
    n = math.prod(shape[2:])
    if n == 1:
        raise _single("instance_norm", "spatial element", shape)
    y, mean, var = _instance(input, weight, bias, eps=eps)
    if math.prod(shape):
        _move(running_mean, mean, momentum)
        _move(running_var, var * (n / (n - 1)), momentum)
    return y


def local_response_norm(input: Any, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Any:
    """(n, c, ...): each element over (k + alpha * the mean square of `size` channels around it) ** beta."""
    if len(input.shape) < 3:
        raise ShapeError(f"local_response_norm: expected input (n, c, ...) of 3 axes or more, got {input.shape}")
    if input.shape[0] == 0:
        return input * 1.0
    around = ((0, 0), (size // 2, (size - 1) // 2), *[(0, 0)] * (len(input.shape) - 2))
    squares, c = pad(input * input, around), input.shape[1]
    total = squares[:, :c, ...]
    for i in range(1, size):
        total = total + squares[:, i : i + c, ...]
    return input / (total * (alpha / size) + k) ** beta


def normalize(input: Any, p: float = 2.0, dim: int | tuple[int, ...] = 1, eps: float = 1e-12) -> Any:
    """`input` over its p-norm along `dim`, or over `eps` where that is more."""
    return input / maximum(vector_norm(input, axis=dim, ord=p, keepdims=True), eps)


def _by_given(x: Any, mean: Any, var: Any, weight: Any, bias: Any, eps: float) -> Any:
    """By statistics that are not those of `x` itself."""
    shape = (-1, *[1] * (len(x.shape) - 2))
    scale = (var + eps) ** -0.5
    scale = scale if weight is None else scale * weight
    y = (x - reshape(mean, shape)) * reshape(scale, shape)
    return y if bias is None else y + reshape(bias, shape)


def _move(running: Any, now: Any, momentum: Any) -> None:
    """Bring a running statistic (c,) nearer to that of this step, (c,) or (n, c)."""
    if running is None:
        return
    now = now.mean(axis=0) if len(now.shape) > 1 else now
    running[...] = running * (1.0 - momentum) + now * momentum


def _tail(name: str, x: Any, normalized_shape: int | Sequence[int], *parameters: Any) -> int:
    """How many axes `normalized_shape` has. ShapeError unless they are the last ones of `x`, and the parameters'."""
    tail = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if not tail or tuple(x.shape[-len(tail) :]) != tail:
        wanted = ", ".join(map(str, ("...", *tail)))
        raise ShapeError(f"{name}: expected input ({wanted}), got {tuple(x.shape)}.")
    for p in parameters:
        if p is not None and tuple(p.shape) != tail:
            raise ShapeError(f"{name}: expected weight and bias of shape {tail}, got {tuple(p.shape)}.")
    return len(tail)


def _channels(name: str, x: Any, *parameters: Any) -> tuple[int, ...]:
    """The shape of `x`. ShapeError unless it is (n, c, ...), and that of each parameter (c,)."""
    shape = tuple(x.shape)
    if len(shape) < 2:
        raise ShapeError(f"{name}: expected input (n, c, ...) of 2 axes or more, got {shape}.")
    for p in parameters:
        if p is not None and tuple(p.shape) != shape[1:2]:
            raise ShapeError(f"{name}: expected input (n, {', '.join(map(str, p.shape))}, ...), got {shape}.")
    return shape


def _single(name: str, what: str, shape: tuple[int, ...]) -> ShapeError:
    got = f"expected more than 1 value per {what} in training, got input of shape {shape}"
    fix = " If it is the last batch of an epoch, use DataLoader(..., drop_last=True)." if shape[0] == 1 else ""
    return ShapeError(f"{name}: {got}.{fix}")


__all__ = [
    "batch_norm", "group_norm", "instance_norm", "layer_norm", "local_response_norm", "normalize", "rms_norm",
]  # fmt: skip
