"""Multi-head attention."""

from __future__ import annotations

import math
from typing import Any

from .. import functional as F
from ..array import broadcast_to, concat, masked_fill, mean, pad, permute_dims, reshape, unstack
from ..backend import DeviceLike, dtype_name
from ..cells import Parameter
from ..errors import DTypeError, ShapeError
from . import init
from .linear import Linear
from .random_module import RandomModule


class MultiheadAttention(RandomModule):
    """Attention in `num_heads` subspaces of width embed_dim / num_heads (Vaswani et al. 2017).

    Parameters by PyTorch's names: `in_proj_weight` (3 * embed_dim, embed_dim) makes queries, keys and values; with
    `kdim` or `vdim` these have weights of their own. `dropout` is for the weights of attention.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: DeviceLike = "cpu",
        dtype: Any = "float32",
    ) -> None:
        super().__init__()
        if embed_dim < 1 or num_heads < 1 or embed_dim % num_heads:
            raise ValueError(
                f"MultiheadAttention: expected embed_dim a multiple of num_heads, got {embed_dim} and {num_heads}."
            )
        if not 0.0 <= dropout <= 1.0:
            raise ValueError(f"MultiheadAttention: expected dropout from 0 to 1, got {dropout}.")
        self.embed_dim, self.num_heads, self.dropout, self.bias = embed_dim, num_heads, dropout, bias
        self.add_bias_kv, self.add_zero_attn, self.batch_first = add_bias_kv, add_zero_attn, batch_first
        self.kdim, self.vdim = embed_dim if kdim is None else kdim, embed_dim if vdim is None else vdim
        at, e = (device, dtype), embed_dim
        if self.kdim == self.vdim == e:
            self.in_proj_weight = Parameter.drawn(init.xavier_uniform(), (3 * e, e), *at)
        else:
            self.q_proj_weight = Parameter.drawn(init.xavier_uniform(), (e, e), *at)
            self.k_proj_weight = Parameter.drawn(init.xavier_uniform(), (e, self.kdim), *at)
            self.v_proj_weight = Parameter.drawn(init.xavier_uniform(), (e, self.vdim), *at)
        self.in_proj_bias = Parameter.drawn(init.zeros, (3 * e,), *at) if bias else None
        self.bias_k = Parameter.drawn(init.xavier_normal(), (1, 1, e), *at) if add_bias_kv else None
        self.bias_v = Parameter.drawn(init.xavier_normal(), (1, 1, e), *at) if add_bias_kv else None
        self.out_proj = Linear(e, e, bias, *at)
        if bias:
            self.out_proj.bias = Parameter.drawn(init.zeros, (e,), *at)

    def forward(
        self,
        query: Any,
        key: Any,
        value: Any,
        key_padding_mask: Any = None,
        need_weights: bool = True,
        attn_mask: Any = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Any, Any]:
        """Query (l, n, embed_dim), key (s, n, kdim) and value (s, n, vdim) -> (output like query, weights or None).

        With `batch_first` they are (n, l, embed_dim) and so on; without a batch, (l, embed_dim). Masks are True where
        one may *not* look, or floats to add: `key_padding_mask` (n, s), `attn_mask` (l, s) or (n * heads, l, s).
        `is_causal` promises that `attn_mask` is the causal one. Weights are (n, l, s), the mean over the heads, or
        (n, heads, l, s) if not `average_attn_weights`; without `need_weights` less is computed and held.
        """
        self._check(query, key, value, is_causal and attn_mask is None)
        alone = len(query.shape) == 2
        q, k, v = self._projected(query, key, value)
        n, heads, l, _ = q.shape
        masks = [self._mask(attn_mask, (n, heads, l, k.shape[-2]), "attn_mask")]
        masks.append(self._mask(key_padding_mask, (n, 1, 1, k.shape[-2]), "key_padding_mask"))
        k, v, extra = self._extended(k, v)
        p = self.dropout if self.training else 0.0
        address = self.next_address() if p else None
        causal = is_causal and masks[1] is None and not need_weights and not extra
        allowed = None if causal else _joined(masks, extra)
        if need_weights:
            weights = F.attention_weights(q, k, allowed, scale=1.0 / math.sqrt(q.shape[-1]))
            weights = F.dropout(weights, p, **address) if address else weights
            y = weights @ v
            weights = mean(weights, axis=1) if average_attn_weights else weights
            weights = weights[0, ...] if alone else weights
        else:
            y, weights = F.scaled_dot_product_attention(q, k, v, allowed, p, causal, address=address), None
        y = permute_dims(y, (0, 2, 1, 3) if self.batch_first else (2, 0, 1, 3))
        return self.out_proj(reshape(y, tuple(query.shape))), weights

    def _check(self, query: Any, key: Any, value: Any, promised: bool) -> None:
        shapes, widths = [tuple(x.shape) for x in (query, key, value)], (self.embed_dim, self.kdim, self.vdim)
        q, k, v = shapes
        batch = int(not self.batch_first)
        fits = len(q) == len(k) == len(v) in (2, 3) and all(s[-1] == w for s, w in zip(shapes, widths, strict=True))
        if not (fits and k[:-1] == v[:-1] and (len(q) == 2 or q[batch] == k[batch])):
            letters = "(n, {}, {})" if self.batch_first else "({}, n, {})"
            expected = " and ".join(letters.format(length, w) for length, w in zip("lss", widths, strict=True))
            raise ShapeError(f"MultiheadAttention: expected query, key and value {expected}, got {q}, {k} and {v}.")
        if promised:
            raise ValueError("MultiheadAttention: expected an attn_mask with is_causal, got none.")

    def _projected(self, query: Any, key: Any, value: Any) -> tuple[Any, Any, Any]:
        """Queries, keys and values as (n, heads, length, width). What is given twice is multiplied once."""
        e = self.embed_dim
        if self.kdim != e or self.vdim != e:
            given = [(query, self.q_proj_weight, 0), (key, self.k_proj_weight, 1), (value, self.v_proj_weight, 2)]
        elif query is key and key is value:
            given = [(query, self.in_proj_weight, 0)]
        elif key is value:
            given = [(query, self.in_proj_weight[:e, :], 0), (key, self.in_proj_weight[e:, :], 1)]
        else:
            given = [(x, self.in_proj_weight[i * e : (i + 1) * e, :], i) for i, x in enumerate((query, key, value))]
        parts: list[Any] = []
        for x, weight, first in given:
            count = weight.shape[0] // e
            bias = self.in_proj_bias
            if bias is not None and count < 3:
                bias = bias[first * e : (first + count) * e]
            lead = tuple(x.shape[:-1])
            if len(lead) == 1:
                lead = (1, *lead) if self.batch_first else (*lead, 1)
            y = reshape(F.linear(x, weight, bias), (*lead, count, self.num_heads, e // self.num_heads))
            parts += unstack(permute_dims(y, (2, 0, 3, 1, 4) if self.batch_first else (2, 1, 3, 0, 4)))
        return parts[0], parts[1], parts[2]

    def _extended(self, k: Any, v: Any) -> tuple[Any, Any, int]:
        """Keys and values with those that everybody may look at, and how many they are."""
        n, heads, _, width = k.shape
        extra = int(self.bias_k is not None) + int(self.add_zero_attn)
        if self.bias_k is not None and self.bias_v is not None:
            rows = [
                broadcast_to(reshape(b, (1, heads, 1, width)), (n, heads, 1, width)) for b in (self.bias_k, self.bias_v)
            ]
            k, v = (concat([x, row], axis=2) for x, row in zip((k, v), rows, strict=True))
        if self.add_zero_attn:
            k, v = (pad(x, widths=((0, 0), (0, 0), (0, 1), (0, 0))) for x in (k, v))
        return k, v, extra

    def _mask(self, mask: Any, shape: tuple[int, ...], name: str) -> Any:
        """With four axes, as it is to be broadcast to the weights."""
        if mask is None:
            return None
        kind = dtype_name(mask.dtype)
        if kind != "bool" and not kind.startswith("float"):
            raise DTypeError(f"MultiheadAttention: expected {name} of booleans or floats, got {kind}.")
        n, heads, l, s = shape
        expected: tuple[tuple[int, ...], ...]
        if name == "key_padding_mask":
            expected = ((n, s), (s,)) if n == 1 else ((n, s),)
        else:
            expected = ((l, s), (n * heads, l, s))
        if tuple(mask.shape) not in expected:
            places = " or ".join(map(str, expected))
            raise ShapeError(f"MultiheadAttention: expected {name} {places}, got {tuple(mask.shape)}.")
        return reshape(mask, (1, 1, l, s) if len(mask.shape) == 2 and name == "attn_mask" else shape)


def _joined(masks: list[Any], extra: int) -> Any:
    """One mask: True where one may look if all are of booleans, else floats to add."""
    floats = [m for m in masks if m is not None and dtype_name(m.dtype) != "bool"]
    hidden = [m for m in masks if m is not None and dtype_name(m.dtype) == "bool"]
    more = {"widths": ((0, 0), (0, 0), (0, 0), (0, extra))}
    if floats:
        mask = floats[0] + floats[1] if len(floats) == 2 else floats[0]
        mask = masked_fill(mask, hidden[0], -math.inf) if hidden else mask
        return pad(mask, **more) if extra else mask
    if hidden:
        mask = ~(hidden[0] | hidden[1]) if len(hidden) == 2 else ~hidden[0]
        return pad(mask, **more, value=True) if extra else mask
    return None


__all__ = ["MultiheadAttention"]
