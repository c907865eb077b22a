"""Padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..array import concat, flip, repeat
from ..array import pad as _pad
from ..errors import ShapeError


def pad(input: Any, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Any:
    """New elements at the ends of the last axes: `pad = (left, right, top, bottom, ...)` from the last axis backwards.

    `mode`: `"constant"` (of `value`, 0 by default), `"reflect"` (mirrored, the edge once), `"replicate"` (the edge
    again) or `"circular"` (the other end); all but the first want one or two axes in front. Negative widths cut off.
    """
    ndim, count = len(input.shape), len(pad) // 2
    if mode not in ("constant", *_PARTS):
        raise ValueError(f'pad: expected mode="constant", "reflect", "replicate" or "circular", got {mode!r}.')
    if mode != "constant" and value:
        raise ValueError(f'pad: expected no value with mode="{mode}", got {value}.')
    if len(pad) % 2 or count > ndim:
        raise ShapeError(f"pad: expected a pair of widths for up to {ndim} axes of {tuple(input.shape)}, got {pad}.")
    if mode != "constant" and not count + 1 <= ndim <= count + 2:
        raise ShapeError(f"pad: expected input of {count + 1} or {count + 2} axes for {pad}, got {tuple(input.shape)}.")
    widths = [(0, 0)] * (ndim - count) + [(pad[2 * i], pad[2 * i + 1]) for i in reversed(range(count))]
    if any(w < 0 for w in pad):
        input = _cut(input, widths)
    wider = tuple((max(a, 0), max(b, 0)) for a, b in widths)
    if mode == "constant":
        return _pad(input, widths=wider, value=value or 0.0)
    for axis, (before, after) in enumerate(wider):
        if before or after:
            n = input.shape[axis]
            most = {"reflect": n - 1, "circular": n}.get(mode, n and max(before, after))
            if max(before, after) > most:
                raise ShapeError(f'pad: expected widths up to {most} for length {n} and mode="{mode}", got {pad}.')
            left, right = _PARTS[mode](input, axis, before, after)
            input = concat([left, input, right], axis=axis)
    return input


def _cut(x: Any, widths: list[tuple[int, int]]) -> Any:
    """Without what negative widths cut off."""
    ends = [(max(-a, 0), n - max(-b, 0)) for n, (a, b) in zip(x.shape, widths, strict=True)]
    if any(start > stop for start, stop in ends):
        raise ShapeError(f"pad: expected to cut off at most {tuple(x.shape)}, got {widths}.")
    return x[tuple(slice(start, stop) for start, stop in ends)]


def _part(x: Any, axis: int, start: int, stop: int) -> Any:
    return x[(slice(None),) * axis + (slice(start, stop), ...)]


def _mirrored(x: Any, axis: int, before: int, after: int) -> tuple[Any, Any]:
    n = x.shape[axis]
    return flip(_part(x, axis, 1, before + 1), axis=axis), flip(_part(x, axis, n - 1 - after, n - 1), axis=axis)


def _edges(x: Any, axis: int, before: int, after: int) -> tuple[Any, Any]:
    n = x.shape[axis]
    return repeat(_part(x, axis, 0, 1), before, axis=axis), repeat(_part(x, axis, n - 1, n), after, axis=axis)


def _other_ends(x: Any, axis: int, before: int, after: int) -> tuple[Any, Any]:
    n = x.shape[axis]
    return _part(x, axis, n - before, n), _part(x, axis, 0, after)


# What comes on the left and on the right of an axis.
_PARTS: dict[str, Any] = {"reflect": _mirrored, "replicate": _edges, "circular": _other_ends}

__all__ = ["pad"]
