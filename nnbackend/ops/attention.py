"""Attention as one op: queries look at keys and get a mean of values."""

from __future__ import annotations

from ..backend import Array, attention, attention_back, namespace, product, scores, softened
from .core import Op, joint, shape_of, unbroadcast


def scaled_dot_product_attention(
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None,
    key: int,
    site: int,
    step: int,
    *,
    scale: float,
    causal: bool,
    p: float,
) -> Op:
    """softmax(q @ k.T * scale + mask) @ v, in blocks, with dropout `p` of the weights drawn at (key, site, step)."""
    y, logs = attention(q, k, v, mask, scale, causal, p, key, site, step)

    def back(dy: Array, needs: tuple[bool, ...]) -> tuple[Array | None, ...]:
        parts = attention_back(q, k, v, mask, y, logs, dy, scale, causal, p, key, site, step, needs[3])
        given = ((q, k, v, mask) if needs[3] else (q, k, v), needs)
        dxs = [unbroadcast(dx, x.shape) if need else None for dx, x, need in zip(parts, *given, strict=False)]
        return (*dxs, *(None,) * (len(needs) - len(dxs)))

    return y, joint(back)


def attention_weights(q: Array, k: Array, mask: Array | None = None, *, scale: float) -> Op:
    """softmax(q @ k.T * scale + mask) itself; 0 for a query that may look at no key."""
    w, total, _ = softened(scores(q, k, mask, scale, False, slice(0, q.shape[-2])))
    w = w / total

    def back(dw: Array, needs: tuple[bool, ...]) -> tuple[Array | None, ...]:
        ds = dw * w
        ds = ds - w * namespace(dw).sum(ds, axis=-1, keepdims=True)
        return (
            unbroadcast(product(ds, k) * scale, q.shape) if needs[0] else None,
            unbroadcast(product(ds.mT, q * scale), k.shape) if needs[1] else None,
            *(unbroadcast(ds, shape_of(mask)) if need else None for need in needs[2:]),
        )

    return w, joint(back)


def rotary(x: Array, dim: int, base: float, offset: int) -> Op:
    """Columns i and i + dim / 2 of (..., l, d) turned by the angle (offset + position) / base ** (2i / dim)."""
    xp, half = namespace(x), dim // 2
    place = {"dtype": x.dtype if xp.finfo(x.dtype).bits > 16 else xp.float32, "device": x.device}
    at = xp.arange(offset, offset + x.shape[-2], **place)  # float16 counts to 2048 only
    angles = xp.expand_dims(at, axis=1) * base ** (xp.arange(half, **place) * (-1.0 / half))
    c, s = xp.astype(xp.cos(angles), x.dtype), xp.astype(xp.sin(angles), x.dtype)

    def turned(x: Array, s: Array) -> Array:
        a, b = x[..., :half], x[..., half:dim]
        return namespace(x).concat([a * c - b * s, b * c + a * s, x[..., dim:]], axis=-1)

    return turned(x, s), (lambda dy: turned(dy, -s),)
