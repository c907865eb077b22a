"""Rows of a table."""

from __future__ import annotations

from ..backend import Array, gather, namespace, scatter_add
from .core import Op


def embedding(weight: Array, index: Array, padding_idx: int | None = None, scale_grad_by_freq: bool = False) -> Op:
    """Rows of `weight` (n, ...) at `index` (...). Row `padding_idx` gets no gradient.

    `scale_grad_by_freq` divides the gradient of a row by how often it appears.
    """
    rows = weight.shape[0]

    def dw(dy: Array) -> Array:
        xp = namespace(dy)
        if padding_idx is None and not scale_grad_by_freq:
            return scatter_add(dy, index, rows)
        if padding_idx is None:
            share = xp.ones_like(index, dtype=dy.dtype)
        else:
            share = xp.astype(index != padding_idx, dy.dtype)
        if scale_grad_by_freq:
            share = share / gather(scatter_add(xp.ones_like(share), index, rows), index)
        return scatter_add(dy * xp.reshape(share, (*index.shape, *[1] * (len(weight.shape) - 1))), index, rows)

    return gather(weight, index), (dw, None)
