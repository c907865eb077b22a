"""Layers that move elements to other places."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .. import functional as F
from ..array import reshape
from ..errors import ShapeError
from ..ops.core import axis_of
from .module import Module


class Flatten(Module):
    """(n, a, b, ...) -> (n, a * b * ...): the axes from `start_dim` to `end_dim` become one."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: Any) -> Any:
        """Elements keep their order."""
        return F.flatten(x, self.start_dim, self.end_dim)


class Unflatten(Module):
    """Axis `dim` as several, of the lengths `unflattened_size`; one of them may be -1."""

    def __init__(self, dim: int, unflattened_size: Sequence[int]) -> None:
        if not isinstance(dim, int) or not all(isinstance(n, int) for n in unflattened_size):
            raise TypeError(
                f"Unflatten: expected an axis and a tuple of lengths, got {dim!r} and {unflattened_size!r}."
            )
        self.dim, self.unflattened_size = dim, tuple(unflattened_size)

    def forward(self, x: Any) -> Any:
        """Elements keep their order."""
        axis, lengths = axis_of(self.dim, len(x.shape)), self.unflattened_size
        n, known = x.shape[axis], math.prod(m for m in lengths if m != -1)
        whole = tuple(n // max(1, known) if m == -1 else m for m in lengths)
        if lengths.count(-1) > 1 or math.prod(whole) != n:
            raise ShapeError(f"expected lengths that make up {n} (axis {axis} of {tuple(x.shape)}), got {lengths}.")
        return reshape(x, (*x.shape[:axis], *whole, *x.shape[axis + 1 :]))


class PixelShuffle(Module):
    """(..., c * r * r, h, w) -> (..., c, h * r, w * r) with r = upscale_factor (Shi et al., 2016)."""

    def __init__(self, upscale_factor: int) -> None:
        self.upscale_factor = upscale_factor

    def forward(self, x: Any) -> Any:
        """Channels become finer pixels."""
        return F.pixel_shuffle(x, self.upscale_factor)


class PixelUnshuffle(Module):
    """(..., c, h * r, w * r) -> (..., c * r * r, h, w) with r = downscale_factor."""

    def __init__(self, downscale_factor: int) -> None:
        self.downscale_factor = downscale_factor

    def forward(self, x: Any) -> Any:
        """Pixels become channels."""
        return F.pixel_unshuffle(x, self.downscale_factor)


class ChannelShuffle(Module):
    """(n, c, ...): the channels of `groups` groups dealt out like cards (Zhang et al., 2018)."""

    def __init__(self, groups: int) -> None:
        if groups < 1:
            raise ValueError(f"ChannelShuffle: expected at least 1 group, got {groups}.")
        self.groups = groups

    def forward(self, x: Any) -> Any:
        """Channel 0 of each group, then channel 1 of each, and so on."""
        return F.channel_shuffle(x, self.groups)


__all__ = ["ChannelShuffle", "Flatten", "PixelShuffle", "PixelUnshuffle", "Unflatten"]
