"""Attention in blocks of queries: no more than half a million of the weights of a head exist at a time.

All is said of queries (..., l, e), keys (..., s, e), values (..., s, d) and a mask (..., l, s), whose leading axes
broadcast: scores are q @ k.T * scale, plus the mask, or without those where a mask of booleans is False; weights are
their softmax over the keys. Instead of the weights, the logarithm of each query's sum of exponentials is kept (Rabe and
Staats, "Self-attention does not need O(n²) memory", 2021). A query that may look at no key gets 0.

In dropout, (key, site, step) is the address of the random numbers, and the rank is that of the block.
"""

from __future__ import annotations

import math
from typing import Any

from .base import Array
from .dropout import kept
from .primitive import primitive, product
from .query_blocks import blocks
from .registry import namespace


@primitive
def attention(
    q: Array, k: Array, v: Array, mask: Any, scale: float, causal: bool,
    p: float, key: int, site: int, step: int,
) -> tuple[Array, Array]:  # fmt: skip
    """The weighted means of the values (..., l, d), and the logarithms (..., l, 1)."""
    xp, means, logarithms = namespace(q), [], []
    for i, rows in enumerate(blocks(q.shape[-2], k.shape[-2])):
        s = scores(q, k, mask, scale, causal, rows)
        w, total, top = softened(s)
        means.append(product(w * kept(_fixed(s), p, key, site, step, i) if p else w, v) / total)
        logarithms.append(xp.log(total) + top)
    return _joined(xp, means), _joined(xp, logarithms)


@primitive
def attention_back(
    q: Array, k: Array, v: Array, mask: Any, y: Array, logs: Array, dy: Array, scale: float, causal: bool,
    p: float, key: int, site: int, step: int, masked: bool,
) -> tuple[Array, ...]:  # fmt: skip
    """The gradients of queries, keys and values, and with `masked` of the mask, before sums over broadcast axes."""
    xp, dqs, dmasks = namespace(q), [], []
    dk = dv = 0.0
    slope = xp.sum(dy * y, axis=-1, keepdims=True)
    for i, rows in enumerate(blocks(q.shape[-2], k.shape[-2])):
        s = scores(q, k, mask, scale, causal, rows)
        w, dw = xp.exp(s - logs[..., rows, :]), product(dy[..., rows, :], v.mT)
        if p:
            drop = kept(_fixed(s), p, key, site, step, i)
            dv, dw = dv + product((w * drop).mT, dy[..., rows, :]), dw * drop
        else:
            dv = dv + product(w.mT, dy[..., rows, :])
        ds = w * (dw - slope[..., rows, :])
        dqs.append(product(ds, k) * scale)
        dk = dk + product(ds.mT, q[..., rows, :] * scale)
        if masked:
            dmasks.append(ds)
    dq = _joined(xp, dqs)
    return (dq, dk, dv, _joined(xp, dmasks)) if masked else (dq, dk, dv)


def scores(q: Array, k: Array, mask: Any, scale: float, causal: bool, rows: slice) -> Array:
    """Those of the queries in `rows`; -inf where they may not look."""
    xp = namespace(q)
    s = product(q[..., rows, :] * scale, k.mT)
    if causal:
        at = xp.arange(rows.start, rows.stop, device=q.device)
        mask = xp.expand_dims(at, axis=1) >= xp.arange(k.shape[-2], device=q.device)
    elif mask is not None and mask.shape[-2] != 1:
        mask = mask[..., rows, :]
    if mask is None:
        return s
    return xp.where(mask, s, -math.inf) if xp.isdtype(mask.dtype, "bool") else s + mask


def softened(s: Array) -> tuple[Array, Array, Array]:
    """exp(s - top), its sum over the keys, 1 where there are none to look at, and the largest score, `top`."""
    xp = namespace(s)
    top = _fixed(xp.max(s, axis=-1, keepdims=True) if s.shape[-1] else xp.sum(s, axis=-1, keepdims=True))
    top = xp.where(top == -math.inf, 0.0, top)
    w = xp.exp(s - top)
    total = xp.sum(w, axis=-1, keepdims=True)
    return w, xp.where(total == 0.0, 1.0, total), top


def _joined(xp: Any, parts: list[Array]) -> Array:
    return xp.concat(parts, axis=-2) if len(parts) > 1 else parts[0]


def _fixed(x: Array) -> Array:
    """The same values without their history, where there is one."""
    return x.detach() if hasattr(x, "detach") else x
