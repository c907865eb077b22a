"""Functions that move elements about. Their way back moves the gradient the other way."""

from __future__ import annotations

import itertools
import math

from ..backend import Array, namespace, scatter_add
from ..errors import ShapeError
from .core import Axis, Op, axis_of, joint, unbroadcast

Shape = tuple[int, ...]


def reshape(x: Array, shape: Shape) -> Op:
    """The same elements in another shape."""
    old = x.shape
    return namespace(x).reshape(x, shape), (lambda dy: namespace(dy).reshape(dy, old), None)


def permute_dims(x: Array, axes: Shape) -> Op:
    """The axes in another order."""
    back = tuple(sorted(range(len(axes)), key=lambda i: axes[i] % len(axes)))
    return namespace(x).permute_dims(x, axes), (lambda dy: namespace(dy).permute_dims(dy, back), None)


def matrix_transpose(x: Array) -> Op:
    """The last two axes exchanged."""
    return x.mT, (lambda dy: dy.mT,)


def moveaxis(x: Array, source: int | Shape, destination: int | Shape) -> Op:
    """Axes moved to other places."""
    return namespace(x).moveaxis(x, source, destination), (
        lambda dy: namespace(dy).moveaxis(dy, destination, source),
        None,
        None,
    )


def broadcast_to(x: Array, shape: Shape) -> Op:
    """Repeated, without a copy, to a larger shape."""
    old = x.shape
    return namespace(x).broadcast_to(x, shape), (lambda dy: unbroadcast(dy, old), None)


def expand_dims(x: Array, axis: Axis = 0) -> Op:
    """With new axes of length 1."""
    old = x.shape
    return namespace(x).expand_dims(x, axis=axis), (lambda dy: namespace(dy).reshape(dy, old), None)


def squeeze(x: Array, axis: Axis) -> Op:
    """Without axes of length 1."""
    old = x.shape
    return namespace(x).squeeze(x, axis=axis), (lambda dy: namespace(dy).reshape(dy, old), None)


def flip(x: Array, axis: Axis = None) -> Op:
    """Back to front along `axis`, along all by default."""
    return namespace(x).flip(x, axis=axis), (lambda dy: namespace(dy).flip(dy, axis=axis),)


def roll(x: Array, shift: int | Shape, axis: Axis = None) -> Op:
    """Shifted along `axis`; what falls off comes in at the other end."""
    back = -shift if isinstance(shift, int) else tuple(-s for s in shift)
    return namespace(x).roll(x, shift, axis=axis), (lambda dy: namespace(dy).roll(dy, back, axis=axis), None)


def repeat(x: Array, repeats: int | Array, axis: int | None = None) -> Op:
    """Every element `repeats` times in a row, a number for all or one for each."""
    old = x.shape

    def dx(dy: Array) -> Array:
        xp = namespace(dy)
        shape = (math.prod(old),) if axis is None else old
        a = 0 if axis is None else axis_of(axis, len(old))
        if not isinstance(repeats, int):
            origin = xp.repeat(xp.arange(shape[a], device=dy.device), repeats)
            return xp.reshape(xp.moveaxis(scatter_add(xp.moveaxis(dy, a, 0), origin, shape[a]), 0, a), old)
        summed = xp.sum(xp.reshape(dy, (*shape[: a + 1], repeats, *shape[a + 1 :])), axis=a + 1)
        return xp.reshape(summed, old)

    return namespace(x).repeat(x, repeats, axis=axis), (dx, None)


def tile(x: Array, repetitions: Shape) -> Op:
    """`x` laid out like tiles."""
    old = x.shape
    n = max(len(old), len(repetitions))
    times = (1,) * (n - len(repetitions)) + tuple(repetitions)
    padded = (1,) * (n - len(old)) + old

    def dx(dy: Array) -> Array:
        xp = namespace(dy)
        pairs = tuple(itertools.chain.from_iterable(zip(times, padded, strict=True)))
        return xp.reshape(xp.sum(xp.reshape(dy, pairs), axis=tuple(range(0, 2 * n, 2))), old)

    return namespace(x).tile(x, tuple(repetitions)), (dx, None)


def pad(x: Array, widths: tuple[tuple[int, int], ...], value: float = 0.0) -> Op:
    """`widths[i] = (before, after)` new elements of `value` along axis i."""
    if len(widths) != len(x.shape) or any(w < 0 for pair in widths for w in pair):
        raise ShapeError(f"pad: expected {len(x.shape)} pairs of widths >= 0 for shape {x.shape}, got {widths}.")
    inner = tuple(slice(before, before + n) for (before, _), n in zip(widths, x.shape, strict=True))
    y = x
    for axis, (before, after) in enumerate(widths):
        y = _extend(y, axis, before, after, value)
    return namespace(x).positive(x) if y is x else y, (lambda dy: dy[inner], None)


def _extend(x: Array, axis: int, before: int, after: int, value: float) -> Array:
    xp = namespace(x)

    def edge(n: int) -> list[Array]:
        shape = (*x.shape[:axis], n, *x.shape[axis + 1 :])
        return [xp.full(shape, value, dtype=x.dtype, device=x.device)] if n else []

    parts = [*edge(before), x, *edge(after)]
    return xp.concat(parts, axis=axis) if len(parts) > 1 else x


def concat(*arrays: Array, axis: int | None = 0) -> Op:
    """Arrays one after the other along `axis`; None flattens them first."""
    y = namespace(arrays[0]).concat(list(arrays), axis=axis)
    shapes = [a.shape for a in arrays]
    if axis is None:
        ends = [0, *itertools.accumulate(math.prod(s) for s in shapes)]

        def part(dy: Array, i: int) -> Array:
            return namespace(dy).reshape(dy[ends[i] : ends[i + 1]], shapes[i])
    else:
        a = axis_of(axis, len(shapes[0]))
        ends = [0, *itertools.accumulate(s[a] for s in shapes)]

        def part(dy: Array, i: int) -> Array:
            return dy[(slice(None),) * a + (slice(ends[i], ends[i + 1]), ...)]

    return y, joint(lambda dy, needs: tuple(part(dy, i) if need else None for i, need in enumerate(needs)))


def stack(*arrays: Array, axis: int = 0) -> Op:
    """Arrays side by side along a new `axis`."""
    y = namespace(arrays[0]).stack(list(arrays), axis=axis)
    where = (slice(None),) * axis_of(axis, len(y.shape))
    return y, joint(lambda dy, needs: tuple(dy[(*where, i, ...)] if need else None for i, need in enumerate(needs)))


def unstack(x: Array, axis: int = 0) -> Op:
    """A tuple of the slices along `axis`."""
    axis = axis_of(axis, len(x.shape))
    parts = tuple(namespace(x).unstack(x, axis=axis))
    return parts, (lambda dys: namespace(x).stack(_filled(dys, parts), axis=axis),)


def split(x: Array, sections: int | tuple[int, ...], axis: int = 0) -> Op:
    """A tuple of parts along `axis`: pieces of length `sections` (the last may be shorter), or of these lengths."""
    axis = axis_of(axis, len(x.shape))
    n = x.shape[axis]
    if isinstance(sections, int):
        sections = tuple(min(sections, n - start) for start in range(0, n, sections))
    if sum(sections) != n:
        raise ShapeError(f"split: expected lengths that add up to {n} (axis {axis} of {x.shape}), got {sections}.")
    ends = [0, *itertools.accumulate(sections)]
    parts = tuple(x[(slice(None),) * axis + (slice(a, b), ...)] for a, b in itertools.pairwise(ends))
    return parts, (lambda dys: namespace(x).concat(_filled(dys, parts), axis=axis), None)


def _filled(dys: tuple[Array | None, ...], parts: tuple[Array, ...]) -> list[Array]:
    """Gradients of all parts, zeros for those that nothing used."""
    return [namespace(p).zeros_like(p) if dy is None else dy for dy, p in zip(dys, parts, strict=True)]
