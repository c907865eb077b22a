"""Running sums, products, maxima and logarithms of sums."""

from __future__ import annotations

from collections.abc import Callable

from ..backend import Array, namespace
from .core import Op, axis_of, constant


def cumulative_sum(x: Array, axis: int | None = None, include_initial: bool = False) -> Op:
    """Running sums along `axis`, from 0 on with `include_initial`."""
    xp, axis = namespace(x), _only(x, axis)

    def dx(dy: Array) -> Array:
        return _backwards_sum(_without_initial(dy, axis, include_initial), axis)

    return xp.cumulative_sum(x, axis=axis, include_initial=include_initial), (dx,)


def cumulative_prod(x: Array, axis: int | None = None, include_initial: bool = False) -> Op:
    """Running products along `axis`, from 1 on with `include_initial`. The gradient is right at zeros, too."""
    xp, axis = namespace(x), _only(x, axis)

    def dx(dy: Array) -> Array:
        dy = _without_initial(dy, axis, include_initial)
        n = x.shape[axis]
        if n < 2:
            return dy
        xp = namespace(dy)
        first, rest, last = _part(x, axis, None, 1), _part(x, axis, 1, None), _part(x, axis, -1, None)
        one = constant(first) * 0.0 + 1.0
        before = xp.concat([one, _part(xp.cumulative_prod(x, axis=axis), axis, None, -1)], axis=axis)
        factor = xp.concat([rest, constant(last) * 0.0], axis=axis)
        step = 1
        while step < n:  # sums from j on of dy_i times the product of x from j + 1 to i, by doubling
            shifted = _part(dy, axis, step, None)
            head = _part(dy, axis, None, n - step) + _part(factor, axis, None, n - step) * shifted
            dy = xp.concat([head, _part(dy, axis, n - step, None)], axis=axis)
            product = _part(factor, axis, None, n - step) * _part(factor, axis, step, None)
            factor = xp.concat([product, _part(factor, axis, n - step, None) * 0.0], axis=axis)
            step *= 2
        return before * dy

    return xp.cumulative_prod(x, axis=axis, include_initial=include_initial), (dx,)


# The rest are compositions: on Tensors the gradient comes from their parts.


def logcumsumexp(x: Array, axis: int | None = None) -> Array:
    """Log of the running sums of exp(x), each as exact as if it stood alone."""
    return doubled(namespace(x).logaddexp, x, _only(x, axis))


def extremes(x: Array, axis: int | None, better: Callable[[Array, Array], Array]) -> tuple[Array, Array]:
    """Running extremes along `axis` and where they stand; of equal ones the last, and NaN stays, as in PyTorch."""
    axis, values = _only(x, axis), constant(x)
    xp = namespace(values)
    n = x.shape[axis]
    line = xp.reshape(xp.arange(n, device=x.device), tuple(n if i == axis else 1 for i in range(len(x.shape))))
    places, step = xp.broadcast_to(line, x.shape), 1
    while step < n:
        now, then = _part(values, axis, step, None), _part(values, axis, None, n - step)
        keep = better(now, then) | (now != now)
        best = xp.where(keep, now, then)
        where = xp.where(keep, _part(places, axis, step, None), _part(places, axis, None, n - step))
        values = xp.concat([_part(values, axis, None, step), best], axis=axis)
        places = xp.concat([_part(places, axis, None, step), where], axis=axis)
        step *= 2
    return namespace(x).take_along_axis(x, places, axis=axis), places


def doubled(f: Callable[[Array, Array], Array], x: Array, axis: int) -> Array:
    """Running results of an associative function in log2(n) steps (Hillis and Steele, 1986)."""
    xp, n, step = namespace(x), x.shape[axis], 1
    while step < n:
        joined = f(_part(x, axis, None, n - step), _part(x, axis, step, None))
        x, step = xp.concat([_part(x, axis, None, step), joined], axis=axis), 2 * step
    return x


def _part(x: Array, axis: int, start: int | None, stop: int | None) -> Array:
    return x[(slice(None),) * axis + (slice(start, stop), ...)]


def _backwards_sum(dy: Array, axis: int) -> Array:
    xp = namespace(dy)
    return xp.flip(xp.cumulative_sum(xp.flip(dy, axis=axis), axis=axis), axis=axis)


def _without_initial(dy: Array, axis: int, include_initial: bool) -> Array:
    return _part(dy, axis, 1, None) if include_initial else dy  # what leads depends on nothing


def _only(x: Array, axis: int | None) -> int:
    if axis is None and len(x.shape) != 1:
        raise ValueError(f"axis: expected a number for an array of shape {x.shape}, got None.")
    return axis_of(axis or 0, len(x.shape))
