"""The same elements in other places."""

from __future__ import annotations

import math
from typing import Any

from ..array import permute_dims, reshape
from ..errors import ShapeError


def flatten(x: Any, start_dim: int = 0, end_dim: int = -1) -> Any:
    """The axes from `start_dim` to `end_dim` as one."""
    ndim = max(1, len(x.shape))
    if not (-ndim <= start_dim < ndim and -ndim <= end_dim < ndim and start_dim % ndim <= end_dim % ndim):
        raise ShapeError(
            f"flatten: expected axes from {-ndim} to {ndim - 1} in order, got {start_dim} to {end_dim} of {x.shape}"
        )
    from_, to = start_dim % ndim, end_dim % ndim + 1
    return reshape(x, (*x.shape[:from_], math.prod(x.shape[from_:to]), *x.shape[to:]))


def pixel_shuffle(input: Any, upscale_factor: int) -> Any:
    """(..., c * r * r, h, w) -> (..., c, h * r, w * r): channels become finer pixels (Shi et al., 2016)."""
    *lead, channels, h, w = _image(input, "pixel_shuffle", upscale_factor)
    r, k = upscale_factor, len(lead)
    if channels % (r * r):
        raise ShapeError(f"pixel_shuffle: expected channels that {r * r} divides, got {tuple(input.shape)}.")
    x = reshape(input, (*lead, channels // (r * r), r, r, h, w))
    x = permute_dims(x, (*range(k), k, k + 3, k + 1, k + 4, k + 2))
    return reshape(x, (*lead, channels // (r * r), h * r, w * r))


def pixel_unshuffle(input: Any, downscale_factor: int) -> Any:
    """(..., c, h * r, w * r) -> (..., c * r * r, h, w): the way back of `pixel_shuffle`."""
    *lead, channels, h, w = _image(input, "pixel_unshuffle", downscale_factor)
    r, k = downscale_factor, len(lead)
    if h % r or w % r:
        raise ShapeError(f"pixel_unshuffle: expected height and width that {r} divides, got {tuple(input.shape)}.")
    x = reshape(input, (*lead, channels, h // r, r, w // r, r))
    x = permute_dims(x, (*range(k), k, k + 2, k + 4, k + 1, k + 3))
    return reshape(x, (*lead, channels * r * r, h // r, w // r))


def _image(x: Any, name: str, factor: int) -> tuple[int, ...]:
    if factor < 1:
        raise ValueError(f"{name}: expected a factor of at least 1, got {factor}.")
    if len(x.shape) < 3:
        raise ShapeError(f"{name}: expected input (..., channels, height, width), got {tuple(x.shape)}.")
    return tuple(x.shape)


def channel_shuffle(input: Any, groups: int) -> Any:
    """(n, c, ...): channel i of each of `groups` groups, then channel i + 1 of each (Zhang et al., 2018)."""
    shape = tuple(input.shape)
    if len(shape) < 3 or groups < 1 or shape[1] % groups:
        raise ShapeError(
            f"channel_shuffle: expected input (n, channels, length, ...) with channels in {groups} groups, got {shape}."
        )
    x = reshape(input, (shape[0], groups, shape[1] // groups, *shape[2:]))
    return reshape(permute_dims(x, (0, 2, 1, *range(3, len(shape) + 1))), shape)


__all__ = ["channel_shuffle", "flatten", "pixel_shuffle", "pixel_unshuffle"]
