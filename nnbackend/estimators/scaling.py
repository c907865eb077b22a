"""Columns brought to a common scale, on their own device; learnt from parts, with weights of rows."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from ..backend import device_of, namespace, to_host

REACH = 3.0  # spreads may differ from their median by this factor


class Scaling:
    """`(x - shift) / scale` for each column, (1, columns); statistics are float64 on the host.

    The median standard deviation becomes 1. Where that of a column differs by no more than a factor of `reach` it keeps
    its relation, as columns of one unit should; those farther away are brought there, with `reach=1` all to 1. A mean
    within `offset` times `scale` of 0 stays, as that may be a zero that means something; others become 0. Constant
    columns become 0.
    """

    def __init__(self, reach: float = REACH, offset: float = 0.0) -> None:
        self.reach, self.offset = reach, offset
        self.count: float = 0.0
        self.mean: Any = 0.0
        self.squares: Any = 0.0  # summed around the mean
        self.scale: Any = 1.0
        self.shift: Any = 0.0

    def learn(self, x: Any, weight: Any = None) -> Self:
        """Take more rows (n, columns, ...) into account (Chan, Golub and LeVeque, 1979)."""
        xp = namespace(x)
        wide = xp.astype(x, xp.float64)
        axes = (0, *range(2, x.ndim))
        w = _placed(np.ones(1) if weight is None else weight, x)
        w = xp.broadcast_to(xp.reshape(w, (-1,) + (1,) * (x.ndim - 1)), wide.shape)
        count = xp.sum(w, axis=axes, keepdims=True)
        mean = xp.sum(w * wide, axis=axes, keepdims=True) / count
        squares = xp.sum(w * (wide - mean) ** 2, axis=axes, keepdims=True)
        self._merge(*(to_host(part) for part in (count, mean, squares)))
        return self

    def _merge(self, count: Any, mean: Any, squares: Any) -> None:
        total = self.count + count
        apart = mean - self.mean
        self.squares = self.squares + squares + apart**2 * (self.count * count / total)
        self.mean = self.mean + apart * (count / total)
        self.count = total
        spread, eps = np.sqrt(self.squares / total), np.finfo(np.float64).eps
        varies = spread > total * eps * np.abs(self.mean) + np.sqrt(total * eps) * spread  # beyond rounding
        middle = np.median(spread[varies]) if varies.any() else 1.0
        near = np.clip(spread / middle, 1 / self.reach, self.reach)
        self.scale = np.where(varies, spread / near, 1.0)
        keeps = varies & (np.abs(self.mean) <= self.offset * self.scale)
        self.shift = np.where(keeps, 0.0, self.mean)

    def apply(self, x: Any) -> Any:
        """The same dtype and device."""
        xp = namespace(x)
        return xp.astype((xp.astype(x, xp.float64) - _placed(self.shift, x)) / _placed(self.scale, x), x.dtype)

    def undo(self, x: Any) -> Any:
        """Back from `apply`."""
        xp = namespace(x)
        return xp.astype(xp.astype(x, xp.float64) * _placed(self.scale, x) + _placed(self.shift, x), x.dtype)


def _placed(host: Any, x: Any) -> Any:
    """Statistics where the data is."""
    return device_of(x).put(host)
