"""Lines of the op table: interpolation and sampling, point by point."""

import itertools

import numpy as np
from op_line import Draw, line, normal


def cubic(d, a=-0.75):
    d = abs(d)
    return ((a + 2) * d - (a + 3)) * d * d + 1 if d < 1 else a * (((d - 5) * d + 8) * d - 4) if d < 2 else 0.0


def hat(d):
    return max(0.0, 1.0 - abs(d))


def matrix(mode, n, out, corners, scale=None, antialias=False):
    """(out, n): how much of each old element is in each new one."""
    m = np.zeros((out, n))
    step = ((n - 1) / (out - 1) if out > 1 else 0.0) if corners else 1 / scale if scale else n / out
    for i in range(out):
        at = i * step if corners else (i + 0.5) * step - 0.5
        if mode == "nearest":
            m[i, int(i * step)] = 1.0
        elif mode == "nearest-exact":
            m[i, int((i + 0.5) * step)] = 1.0
        elif mode == "area":
            a, b = i * n // out, -(-(i + 1) * n // out)
            m[i, a:b] = 1 / (b - a)
        elif antialias:
            wide = max(step, 1.0)
            kernel = (lambda d: cubic(d, -0.5)) if mode == "bicubic" else hat
            m[i] = [kernel((j - at) / wide) for j in range(n)]
            m[i] /= m[i].sum()
        else:
            kernel, reach = (cubic, 2) if mode == "bicubic" else (hat, 1)
            at = at if mode == "bicubic" else min(max(at, 0.0), n - 1.0)
            for j in range(int(np.floor(at)) - reach + 1, int(np.floor(at)) + reach + 1):
                m[i, min(max(j, 0), n - 1)] += kernel(j - at)
    return m


def np_interpolate(x, size=None, scale_factor=None, mode="nearest", align_corners=False, antialias=False):
    for axis, n in enumerate(x.shape[2:], start=2):
        out = size[axis - 2] if size else int(n * scale_factor)
        m = matrix(mode, n, out, align_corners, scale_factor, antialias)
        x = np.moveaxis(np.tensordot(m, x, axes=(1, axis)), 0, axis)
    return x


SIZES = {1: ((4,), (7,)), 2: ((3, 8), (6, 2)), 3: ((2, 5, 3), (4, 1, 6))}
SHAPES = {1: (2, 2, 5), 2: (1, 2, 4, 5), 3: (1, 1, 3, 4, 2)}
MODES = (
    ("nearest", (1, 2, 3)), ("nearest-exact", (1, 2)), ("area", (1, 2, 3)), ("linear", (1,)), ("bilinear", (2,)),
    ("bicubic", (2,)), ("trilinear", (3,)),
)  # fmt: skip
for mode, ranks in MODES:
    for axes in ranks:
        for size in SIZES[axes]:
            line("interpolate", normal(*SHAPES[axes]), ref=np_interpolate, size=size, mode=mode)
        for scale in (2, 1.7, 0.6):
            line("interpolate", normal(*SHAPES[axes]), ref=np_interpolate, scale_factor=scale, mode=mode)
        if mode in ("linear", "bilinear", "bicubic", "trilinear"):
            line("interpolate", normal(*SHAPES[axes]), ref=np_interpolate, size=SIZES[axes][0], mode=mode,
                 align_corners=True)  # fmt: skip
        if mode in ("bilinear", "bicubic"):
            for size in SIZES[axes]:
                line("interpolate", normal(*SHAPES[axes]), ref=np_interpolate, size=size, mode=mode, antialias=True)
line("interpolate", normal(0, 2, 3, 4), ref=np_interpolate, size=(2, 5), mode="bilinear")


def outermost(n, corners):
    return 0.0 if n == 1 else 1.0 if corners else (n - 1) / n


def np_affine_grid(theta, size, align_corners=False):
    inner = size[2:]
    y = np.zeros((size[0], *inner, len(inner)))
    for at in np.ndindex(inner):
        ends = [outermost(n, align_corners) for n in inner]
        place = [-e + 2 * e * i / max(1, n - 1) for i, n, e in zip(at, inner, ends, strict=True)]
        y[(slice(None), *at)] = theta @ np.array([*place[::-1], 1.0])
    return y


for corners in (False, True):
    line("affine_grid", normal(2, 2, 3), ref=np_affine_grid, size=(2, 1, 3, 4), align_corners=corners)
    line("affine_grid", normal(1, 3, 4), ref=np_affine_grid, size=(1, 2, 2, 1, 3), align_corners=corners)


def moved(at, n, padding, corners):
    """A place outside, put where the padding mode says."""
    low, high = (0.0, n - 1.0) if corners else (-0.5, n - 0.5)
    while padding == "reflection" and not low <= at <= high:
        at = 2 * low - at if at < low else 2 * high - at
    return at if padding == "zeros" else min(max(at, 0.0), n - 1.0)


def np_grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False):
    inner, y = x.shape[2:], np.zeros((*x.shape[:2], *grid.shape[1:-1]))
    for at in np.ndindex(grid.shape[:-1]):
        near = []
        for n, g in zip(inner, grid[at][::-1], strict=True):
            c = (g + 1) / 2 * (n - 1) if align_corners else ((g + 1) * n - 1) / 2
            c = c if mode == "bicubic" else moved(c, n, padding_mode, align_corners)
            if mode == "nearest":
                taps = [(int(np.round(c)), 1.0)]
            else:
                kernel, first = cubic if mode == "bicubic" else hat, int(np.floor(c))
                taps = [(j, kernel(j - c)) for j in range(first - 1, first + 3)]
            if mode == "bicubic":
                taps = [(int(moved(j, n, padding_mode, align_corners)), w) for j, w in taps]
            near.append([(j, w) for j, w in taps if 0 <= j < n])
        for taps in itertools.product(*near):
            place, weights = zip(*taps, strict=True)
            y[(at[0], slice(None), *at[1:])] += x[(at[0], slice(None), *place)] * np.prod(weights)
    return y


def places(*shape):
    """Inside and a little outside, never where one element takes over from another."""
    return Draw(shape, lambda rng, s: (rng.integers(-12, 12, s) * 2 + 1) / 20 + rng.uniform(0.01, 0.03, s))


for mode, padding, corners in itertools.product(
    ("bilinear", "nearest", "bicubic"), ("zeros", "border", "reflection"), (False, True)
):
    settings = {"mode": mode, "padding_mode": padding, "align_corners": corners}
    line("grid_sample", normal(2, 2, 4, 5), places(2, 2, 3, 2), ref=np_grid_sample, **settings)
    if mode != "bicubic":
        line("grid_sample", normal(1, 2, 3, 2, 4), places(1, 2, 1, 3, 3), ref=np_grid_sample, **settings)
