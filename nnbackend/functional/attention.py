"""Attention."""

from __future__ import annotations

import math
from typing import Any

from ..array import arange, astype, cos, expand_dims, reshape, sin, where
from ..backend import FLOATING, dtype_name
from ..errors import DTypeError, ShapeError
from ..ops import attention
from ..random import fresh_key
from ..tensor import lift
from .arguments import kind_of

_attention = lift(attention.scaled_dot_product_attention)
attention_weights, _rotary = lift(attention.attention_weights), lift(attention.rotary)


def scaled_dot_product_attention(
    query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0, is_causal: bool = False,
    scale: float | None = None, enable_gqa: bool = False, *, address: dict[str, Any] | None = None,
) -> Any:  # fmt: skip
    """softmax(query @ key.T * scale + attn_mask) @ value: (..., l, e), (..., s, e), (..., s, d) -> (..., l, d).

    Leading axes broadcast. `attn_mask`, broadcast to (..., l, s), is True where a query may look, or floats to add; a
    query that may look nowhere gets 0 and gives no gradient. `is_causal`: query i sees the keys up to i. `scale` is
    1 / sqrt(e) unless given. With `enable_gqa`, axis -3 of `query` is a multiple of that of the others, whose heads
    serve so many queries each (Ainslie et al. 2023). Weights are dropped with probability `dropout_p`, always, by the
    random numbers at `address` (key, site, step).

    Memory grows with l and with s, not with their product: weights exist in blocks, and once more in the way back.
    """
    if not 0.0 <= dropout_p <= 1.0:
        raise ValueError(f"scaled_dot_product_attention: expected dropout_p from 0 to 1, got {dropout_p}.")
    if is_causal and attn_mask is not None:
        raise ValueError("scaled_dot_product_attention: expected attn_mask or is_causal, got both.")
    _check(query, key, value, enable_gqa)
    shape = (*query.shape[:-2], query.shape[-2], value.shape[-1])
    if enable_gqa and query.shape[-3] != key.shape[-3]:
        heads, groups = key.shape[-3], query.shape[-3] // key.shape[-3]
        query = reshape(query, (*query.shape[:-3], heads, groups, *query.shape[-2:]))
        key, value = expand_dims(key, axis=-3), expand_dims(value, axis=-3)
        if attn_mask is not None and len(attn_mask.shape) > 2:
            split = (1, 1) if attn_mask.shape[-3] == 1 else (heads, groups)
            attn_mask = reshape(attn_mask, (*attn_mask.shape[:-3], *split, *attn_mask.shape[-2:]))
    if attn_mask is not None:
        attn_mask = _checked_mask(attn_mask, query, key)
    at = _address(dropout_p, **(address or {}))
    scale = 1.0 / math.sqrt(max(1, query.shape[-1])) if scale is None else scale
    y = _attention(query, key, value, attn_mask, *at, scale=scale, causal=is_causal, p=dropout_p)
    return reshape(y, shape) if enable_gqa and len(y.shape) != len(shape) else y


def _address(p: float, key: int | None = None, site: int = 0, step: Any = 0) -> tuple[Any, Any, Any]:
    """Where the random numbers are drawn, if there are any."""
    return fresh_key() if p and key is None else key or 0, site, step


def _check(query: Any, key: Any, value: Any, grouped: bool) -> None:
    q, k, v = (tuple(x.shape) for x in (query, key, value))
    if kind_of(query) not in FLOATING:
        raise DTypeError(f"scaled_dot_product_attention: expected a floating dtype, got {query.dtype}.")
    least = 3 if grouped else 2
    fits = min(map(len, (q, k, v))) >= least and q[-1] == k[-1] and k[-2] == v[-2]
    if fits and grouped:
        fits = k[-3] == v[-3] > 0 and q[-3] % k[-3] == 0
    if not fits:
        heads = "heads, " * grouped
        hint = " The heads of query must be a multiple of those of key and value." * grouped
        raise ShapeError(
            f"scaled_dot_product_attention: expected query (..., {heads}l, e), key (..., {heads}s, e) and value "
            f"(..., {heads}s, d), got {q}, {k} and {v}.{hint}"
        )


def _checked_mask(mask: Any, query: Any, key: Any) -> Any:
    kind = kind_of(mask)
    if kind not in FLOATING and str(kind) != "bool":
        raise DTypeError(f"scaled_dot_product_attention: expected a mask of booleans or floats, got {kind}.")
    shape = (1,) * (2 - len(mask.shape)) + tuple(mask.shape)
    l, s = query.shape[-2], key.shape[-2]
    if shape[-2] not in (1, l) or shape[-1] not in (1, s):
        raise ShapeError(f"scaled_dot_product_attention: expected attn_mask (..., {l}, {s}), got {tuple(mask.shape)}.")
    return mask if len(mask.shape) > 1 else reshape(mask, shape)


def apply_rotary(x: Any, dim: int | None = None, base: float = 10000.0, offset: int = 0) -> Any:
    """Rotary positions (RoPE; Su et al. 2021) for queries or keys (..., l, d), the first of which stands at `offset`.

    The first `dim` columns (all unless given) turn, column i with column i + dim / 2, by position / base ** (2i / dim):
    the "rotate half" convention of GPT-NeoX and Llama, not the pairs of neighbours of the paper.
    """
    d = x.shape[-1] if len(x.shape) > 1 else 0
    dim = d if dim is None else dim
    if not 2 <= dim <= d or dim % 2:
        raise ShapeError(f"apply_rotary: expected x (..., l, d) and an even dim of 2..d, got {tuple(x.shape)}, {dim}.")
    return _rotary(x, dim=dim, base=base, offset=offset)


def sinusoidal_positions(length: int, dim: int, base: float = 10000.0, offset: int = 0, *, like: Any = None) -> Any:
    """(length, dim): in column 2i sin(position / base ** (2i / dim)), in 2i + 1 its cosine (Vaswani et al. 2017).

    In the dtype and on the device of `like`; positions begin with `offset`.
    """
    dtype = "float32" if like is None else dtype_name(like.dtype)
    place = {"dtype": "float32" if dtype == "float16" else dtype, "device": like}  # float16 counts to 2048 only
    i = arange(dim, **place)
    odd = i % 2.0
    angles = expand_dims(arange(offset, offset + length, **place), axis=1) * base ** ((odd - i) / dim)
    return astype(where(odd > 0.0, cos(angles), sin(angles)), dtype)


__all__ = ["apply_rotary", "attention_weights", "scaled_dot_product_attention", "sinusoidal_positions"]
