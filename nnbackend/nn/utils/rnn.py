"""Sequences of different lengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...array import asarray, moveaxis, pad, stack
from ...backend import is_array
from ...errors import ShapeError


def pad_sequence(
    sequences: Sequence[Any], batch_first: bool = False, padding_value: float = 0.0, padding_side: str = "right"
) -> Any:
    """Sequences (t_i, ...) as one array (t, n, ...), or (n, t, ...), of the longest, filled up with `padding_value`.

    `padding_side` is where the values are put: after, "right", or before, "left".
    """
    if padding_side not in ("left", "right"):
        raise ValueError(f'pad_sequence: expected padding_side="left" or "right", got {padding_side!r}.')
    given = [s if is_array(s) else asarray(s) for s in sequences]
    if not given or any(len(s.shape) < 1 or s.shape[1:] != given[0].shape[1:] for s in given):
        shapes = ", ".join(str(s.shape) for s in given) or "none"
        raise ShapeError(f"pad_sequence: expected sequences alike but for their lengths, got shapes {shapes}.")
    steps = max(s.shape[0] for s in given)
    missing = [steps - s.shape[0] for s in given]
    ends = [(0, k) if padding_side == "right" else (k, 0) for k in missing]
    widths = [(end, *((0, 0),) * (len(s.shape) - 1)) for end, s in zip(ends, given, strict=True)]
    rows = stack([pad(s, widths=w, value=padding_value) for s, w in zip(given, widths, strict=True)], axis=0)
    return rows if batch_first else moveaxis(rows, 0, 1)


__all__ = ["pad_sequence"]
