"""Other numbers of elements along the last axes, and elements at any places."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

from ..array import abs as _abs
from ..array import (
    astype,
    clip,
    expand_dims,
    floor,
    matmul,
    matrix_transpose,
    repeat,
    reshape,
    take_along_axis,
    where,
)
from ..array import round as _round
from ..backend import namespace
from ..errors import ShapeError
from ..ops import resample as _resample
from ..ops.core import constant
from ..ops.resample import Taps, aligned
from ..tensor import lift
from .arguments import each, raw_of
from .pool import adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d

_along = lift(_resample.resample)
_AREA = {1: adaptive_avg_pool1d, 2: adaptive_avg_pool2d, 3: adaptive_avg_pool3d}
_AXES = {"nearest": 0, "nearest-exact": 0, "area": 0, "linear": 1, "bilinear": 2, "bicubic": 2, "trilinear": 3}


def interpolate(
    input: Any, size: int | Sequence[int] | None = None, scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest", align_corners: bool | None = None, recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Any:  # fmt: skip
    """(n, c, ...) with its last one, two or three axes resampled to `size`, or by `scale_factor`.

    `mode`: `"nearest"`, `"nearest-exact"`, `"area"` (means); `"linear"`, `"bilinear"`, `"trilinear"`, `"bicubic"`, for
    which `align_corners` puts the outermost elements over each other, instead of their outer edges. `antialias` widens
    the filter of the 2-D modes when there is less room.
    """
    inner, axes = tuple(input.shape[2:]), len(input.shape) - 2
    if mode not in _AXES:
        raise ValueError(f"interpolate: expected mode to be one of {', '.join(_AXES)}, got {mode!r}.")
    if not 1 <= axes <= 3 or _AXES[mode] not in (0, axes):
        raise ShapeError(f'interpolate: expected an input that suits mode="{mode}", got shape {tuple(input.shape)}.')
    if align_corners is not None and not _AXES[mode]:
        raise ValueError(f'interpolate: expected no align_corners with mode="{mode}", got {align_corners}.')
    if antialias and mode not in ("bilinear", "bicubic"):
        raise ValueError(f'interpolate: expected antialias with mode="bilinear" or "bicubic", got {mode!r}.')
    if (size is None) == (scale_factor is None):
        raise ValueError(f"interpolate: expected either size or scale_factor, got {size} and {scale_factor}.")
    given: Any = size if scale_factor is None else scale_factor
    wanted = each("interpolate", "size" if scale_factor is None else "scale_factor", given, axes)
    if recompute_scale_factor and size is not None:
        raise ValueError("interpolate: expected scale_factor with recompute_scale_factor, got size.")
    outs = wanted if scale_factor is None else tuple(math.floor(n * s) for n, s in zip(inner, wanted, strict=True))
    if any(n < 1 for n in (*inner, *outs)):
        raise ShapeError(f"interpolate: expected at least one element in and out, got {inner} to {outs}.")
    if mode == "area":
        return _AREA[axes](input, outs)
    by_size, corners = scale_factor is None or recompute_scale_factor, bool(align_corners)
    kind = mode if mode.startswith("nearest") else "cubic" if mode == "bicubic" else "linear"
    for axis, n, out, s in zip(range(2, 2 + axes), inner, outs, wanted, strict=True):
        step = (n - 1) / max(1, out - 1) * (out > 1) if corners else n / out if by_size else 1.0 / s
        if antialias:
            taps = _widened(kind, n, out, step)
        elif (kind == "linear" and not corners and out == n) or (mode == "nearest" and axes == 2 and out in (n, 2 * n)):
            taps = _taps(kind, n, out, n / out, corners)  # as in PyTorch, whatever the scale
        else:
            taps = _taps(kind, n, out, step, corners)
        if out % n == 0 and taps == ((tuple(i * n // out for i in range(out)), (1.0,) * out),):
            input = repeat(input, out // n, axis=axis) if out > n else input
        else:
            input = _along(input, axis=axis, taps=taps)
    return input


@functools.lru_cache(256)
def _taps(kind: str, n: int, out: int, step: float, corners: bool) -> Taps:
    """Which old elements, and how much of them, make each new one."""
    rows = []
    for i in range(out):
        at = i * step if corners or kind == "nearest" else (i + 0.5) * step - (0.0 if kind == "nearest-exact" else 0.5)
        at = at if kind == "cubic" else min(max(at, 0.0), n - 1.0)
        first = math.floor(at)
        t = at - first
        if kind == "cubic":
            weights = [(first - 1 + k, w) for k, w in enumerate(_cubic(t))]
        else:
            weights = [(first, 1.0)] if kind.startswith("nearest") else [(first, 1.0 - t), (first + 1, t)]
        rows.append([(min(max(old, 0), n - 1), w) for old, w in weights])
    return aligned(rows)


def _cubic(t: Any) -> tuple[Any, ...]:
    """Weights of the four neighbours at distances 1 + t, t, 1 - t and 2 - t (Keys, 1981, with a = -0.75)."""
    return tuple(
        ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a if far else ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0
        for a in (-0.75,)
        for d, far in ((1.0 + t, True), (t, False), (1.0 - t, False), (2.0 - t, True))
    )


@functools.lru_cache(256)
def _widened(kind: str, n: int, out: int, step: float) -> Taps:
    """`_taps` with a filter as wide as the step between new elements, and a = -0.5, as in Pillow."""
    a, wide = -0.5, max(step, 1.0)
    reach = (2.0 if kind == "cubic" else 1.0) * wide
    rows = []
    for i in range(out):
        centre = (i + 0.5) * step
        first, last = max(0, int(centre - reach + 0.5)), min(n, int(centre + reach + 0.5))
        row = []
        for old in range(first, last):
            d = math.fabs(old + 0.5 - centre) / wide
            if kind == "linear":
                w = max(0.0, 1.0 - d)
            elif d < 1.0:
                w = ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0
            else:
                w = ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a if d < 2.0 else 0.0
            row.append((old, w))
        total = math.fsum(w for _, w in row)
        rows.append([(old, w / total) for old, w in row])
    return aligned(rows)


# -- elements at any places -----------------------------------------------------------------------------------------


def affine_grid(theta: Any, size: Sequence[int], align_corners: bool | None = None) -> Any:
    """The places that maps `theta` (n, 2, 3) or (n, 3, 4) give to a grid of `size` (n, c, ...), for `grid_sample`.

    Coordinates run from -1 to 1: the centres of the outermost elements with `align_corners`, else their outer edges.
    """
    n, inner = size[0], tuple(size[2:])
    k = len(inner)
    if k not in (2, 3) or min(size) < 1 or tuple(theta.shape) != (n, k, k + 1):
        raise ShapeError(
            f"affine_grid: expected theta (n, 2, 3) or (n, 3, 4) for a size of positive (n, c, ...), got "
            f"{tuple(theta.shape)} for {tuple(size)}."
        )
    raw = raw_of(theta)
    xp = namespace(raw)
    lines = []
    for m in inner:
        edge = (1.0 if align_corners else (m - 1) / m) if m > 1 else 0.0
        lines.append(xp.arange(m, dtype=raw.dtype, device=raw.device) * (2.0 * edge / max(1, m - 1)) - edge)
    ones = xp.ones(inner, dtype=raw.dtype, device=raw.device)
    places = xp.stack([*xp.meshgrid(*lines, indexing="ij")[::-1], ones], axis=-1)
    mapped = matmul(xp.reshape(places, (math.prod(inner), k + 1)), matrix_transpose(theta))
    return reshape(mapped, (n, *inner, k))


def grid_sample(
    input: Any, grid: Any, mode: str = "bilinear", padding_mode: str = "zeros", align_corners: bool | None = None
) -> Any:
    """Elements of `input` (n, c, h, w) or (n, c, d, h, w) at the places of `grid` (n, ..., 2) or (n, ..., 3).

    Places are (x, y) or (x, y, z), as in `affine_grid`; between elements `mode` is "bilinear", "nearest" or, in two
    axes, "bicubic"; outside, `padding_mode` gives "zeros", the "border" or a "reflection".
    """
    shape, k, corners = tuple(input.shape), len(input.shape) - 2, bool(align_corners)
    if mode not in ("bilinear", "nearest", "bicubic") or (mode == "bicubic" and k != 2):
        raise ValueError(f'grid_sample: expected mode="bilinear", "nearest" or, in 2-D, "bicubic", got {mode!r}.')
    if padding_mode not in ("zeros", "border", "reflection"):
        raise ValueError(f'grid_sample: expected padding_mode="zeros", "border", "reflection", got {padding_mode!r}.')
    if k not in (2, 3) or len(grid.shape) != k + 2 or grid.shape[0] != shape[0] or grid.shape[-1] != k:
        raise ShapeError(
            f"grid_sample: expected input (n, c, h, w) and grid (n, ..., 2), or (n, c, d, h, w) and (n, ..., 3), got "
            f"{shape} and {tuple(grid.shape)}."
        )
    if 0 in shape[2:]:
        raise ShapeError(f"grid_sample: expected a non-empty input, got {shape}.")
    places = reshape(where(grid != grid, -1.0, grid), (shape[0], math.prod(grid.shape[1:-1]), k))  # NaN counts as -1
    each: list[Any] = [(0, 1.0)]
    for a, n in enumerate(shape[2:]):
        at = (places[..., k - 1 - a] + 1.0) * (0.5 * (n - 1 if corners else n)) - (0.0 if corners else 0.5)
        neighbours = _neighbours(at, n, mode, padding_mode, corners)
        each = [(index * n + i, weight * w) for index, weight in each for i, w in neighbours]
    flat, y = reshape(input, (*shape[:2], math.prod(shape[2:]))), 0.0
    for index, weight in each:
        y = y + take_along_axis(flat, expand_dims(index, axis=1), axis=-1) * expand_dims(weight, axis=1)
    return reshape(y, (*shape[:2], *grid.shape[1:-1]))


def _neighbours(at: Any, n: int, mode: str, padding: str, corners: bool) -> list[tuple[Any, Any]]:
    """The elements of an axis of length n next to each place, and how much of them to take."""
    if mode != "bicubic":
        at = _inside(at, n, padding, corners)
    first = constant(_round(at) if mode == "nearest" else floor(at))
    t = at - first
    if mode == "nearest":
        found = [(first, t * 0.0 + 1.0)]
    elif mode == "bilinear":
        found = [(first, 1.0 - t), (first + 1.0, t)]
    else:
        found = [(_inside(first + (i - 1.0), n, padding, corners), w) for i, w in enumerate(_cubic(t))]
    near = [(clip(i, 0.0, n - 1.0), i, w) for i, w in found]
    return [(astype(j, "int64"), w * astype(i == j, w.dtype)) for j, i, w in near]


def _inside(at: Any, n: int, padding: str, corners: bool) -> Any:
    """Places outside moved to the border, or reflected at it as often as it takes; without a gradient at the border."""
    if padding == "zeros":
        return at
    if padding == "reflection":
        low, span = (0.0, n - 1.0) if corners else (-0.5, float(n))
        if not span:
            return at * 0.0
        far = _abs(at - low)
        times = constant(floor(far / span))
        rest = far - times * span
        at = where(times % 2.0 == 0.0, rest, span - rest) + low
    return where((at > 0.0) & (at < n - 1.0), at, clip(constant(at), 0.0, n - 1.0))


__all__ = ["affine_grid", "grid_sample", "interpolate"]
