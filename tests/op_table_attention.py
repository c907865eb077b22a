"""Attention and rotary positions: references one query, one column at a time."""

from functools import partial
from typing import Any

import numpy as np
from op_line import line, mask, normal

from nnbackend import functional as F


def np_attention(q: Any, k: Any, v: Any, m: Any = None, causal: bool = False, scale: Any = None) -> Any:
    lead = np.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])
    q, k, v = (np.broadcast_to(x, (*lead, *x.shape[-2:])) for x in (q, k, v))
    m = None if m is None else np.broadcast_to(m, (*lead, q.shape[-2], k.shape[-2]))
    y = np.zeros((*lead, q.shape[-2], v.shape[-1]))
    for at in np.ndindex(y.shape[:-1]):
        s = k[at[:-1]] @ q[at] * (q.shape[-1] ** -0.5 if scale is None else scale)
        seen = np.arange(len(s)) <= at[-1] if causal else np.full(len(s), True)
        if m is not None and m.dtype == bool:
            seen &= m[at]
        elif m is not None:
            s = s + m[at]
        w = np.exp(s[seen])
        if w.size:
            y[at] = w @ v[at[:-1]][seen] / w.sum()
    return y


def attend(*shapes: tuple[int, ...], m: Any = None, causal: bool = False, scale: Any = None) -> None:
    masked = () if m is None else (m,)
    line(
        "scaled_dot_product_attention", *(normal(*s) for s in shapes), *masked,
        op=partial(F.scaled_dot_product_attention, is_causal=causal, scale=scale),
        ref=partial(np_attention, causal=causal, scale=scale),
    )  # fmt: skip


HEADS = ((2, 3, 5, 4), (2, 3, 7, 4), (2, 3, 7, 6))
for causal in (False, True):
    attend(*HEADS, causal=causal)
    attend((5, 4), (7, 4), (7, 6), causal=causal)
    attend((5, 4), (7, 4), (2, 7, 6), causal=causal)
    attend((2, 7, 4), (2, 5, 4), (2, 5, 4), causal=causal, scale=0.3)
attend((2, 1, 5, 4), (3, 7, 4), (1, 7, 6))
for shape in ((5, 7), (2, 1, 5, 7), (3, 1, 7), (7,)):
    attend(*HEADS, m=mask(*shape))
    attend(*HEADS, m=normal(*shape))
for m in (None, normal(0, 1, 5, 7)):
    attend((0, 3, 5, 4), (0, 3, 7, 4), (0, 3, 7, 6), m=m)
attend((2, 0, 4), (2, 7, 4), (2, 7, 6))
attend((2, 5, 4), (2, 0, 4), (2, 0, 6))


def np_grouped(q: Any, k: Any, v: Any, m: Any = None) -> Any:
    k, v = (np.repeat(x, q.shape[-3] // k.shape[-3], axis=-3) for x in (k, v))
    return np_attention(q, k, v, m)


for masks in ((), (mask(6, 5, 7),), (normal(2, 1, 5, 7),)):
    line("scaled_dot_product_attention", normal(2, 6, 5, 4), *(normal(*s) for s in HEADS[1:]), *masks,
         op=partial(F.scaled_dot_product_attention, enable_gqa=True), ref=np_grouped)  # fmt: skip


def np_weights(q: Any, k: Any, m: Any = None) -> Any:
    return np_attention(q, k, np.broadcast_to(np.eye(k.shape[-2]), (*k.shape[:-1], k.shape[-2])), m, scale=0.5)


for masks in ((), (mask(2, 1, 5, 7),), (normal(5, 7),)):
    line("attention_weights", *(normal(*s) for s in HEADS[:2]), *masks,
         op=partial(F.attention_weights, scale=0.5), ref=np_weights)  # fmt: skip


def np_rotary(x: Any, dim: Any = None, base: float = 10000.0, offset: int = 0) -> Any:
    y, half = x.copy(), (dim or x.shape[-1]) // 2
    for at, i in np.ndindex(x.shape[-2], half):
        z = (x[..., at, i] + 1j * x[..., at, i + half]) * np.exp(1j * (at + offset) * base ** (-i / half))
        y[..., at, i], y[..., at, i + half] = z.real, z.imag
    return y


for shape, settings in (
    ((2, 5, 6), {}), ((5, 4), {"offset": 3, "base": 100.0}), ((2, 3, 5, 8), {"dim": 4}), ((0, 5, 4), {}),
):  # fmt: skip
    line("apply_rotary", normal(*shape), ref=np_rotary, **settings)
