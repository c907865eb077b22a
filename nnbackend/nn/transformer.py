"""Transformers ("Attention is all you need", Vaswani et al. 2017): layers, stacks, and the two put together."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any, TypeAlias

from .. import functional as F
from ..array import full, triu
from ..backend import DeviceLike
from ..errors import ShapeError
from ..random import fresh_key, generator
from . import init
from .attention import MultiheadAttention
from .container import ModuleList
from .dropout import Dropout
from .linear import Linear
from .module import Module
from .norm import LayerNorm

Activation: TypeAlias = str | Callable[[Any], Any]
NAMED: dict[str, Callable[[Any], Any]] = {"relu": F.relu, "gelu": F.gelu}


class _Layer(Module):
    """What the layers of encoder and decoder have in common: self-attention, and a network for each position."""

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: DeviceLike = "cpu",
        dtype: Any = "float32",
    ) -> None:
        if isinstance(activation, str) and activation not in NAMED:
            raise ValueError(f"{type(self).__name__}: expected one of {', '.join(NAMED)}, got {activation!r}.")
        self.activation, self.norm_first = activation, norm_first
        self.self_attn = MultiheadAttention(
            d_model, nhead, dropout, bias, batch_first=batch_first, device=device, dtype=dtype
        )
        self._extend(d_model, nhead, dropout, bias, batch_first, device, dtype)
        self.linear1 = Linear(d_model, dim_feedforward, bias, device, dtype)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias, device, dtype)
        for i in range(1, self._parts + 1):
            setattr(self, f"norm{i}", LayerNorm(d_model, layer_norm_eps, bias=bias, device=device, dtype=dtype))
        for i in range(1, self._parts + 1):
            setattr(self, f"dropout{i}", Dropout(dropout))

    _parts = 2

    def _extend(
        self, d_model: int, nhead: int, dropout: float, bias: bool, batch_first: bool, device: Any, dtype: Any
    ) -> None:
        """The decoder's second attention."""

    def _residual(self, x: Any, part: int, fn: Callable[[Any], Any]) -> Any:
        """The sum x + fn(x) with the layer normalisation and the dropout of that part."""
        norm, dropout = getattr(self, f"norm{part}"), getattr(self, f"dropout{part}")
        return x + dropout(fn(norm(x))) if self.norm_first else norm(x + dropout(fn(x)))

    def _feed_forward(self, x: Any) -> Any:
        f = NAMED[self.activation] if isinstance(self.activation, str) else self.activation
        return self.linear2(self.dropout(f(self.linear1(x))))


class TransformerEncoderLayer(_Layer):
    """Self-attention, then linear-activation-linear, each with dropout, a residual path and layer normalisation.

    `norm_first` normalises what goes into each part, otherwise the sum after it. Layout and masks: `forward`.
    """

    def forward(self, src: Any, src_mask: Any = None, src_key_padding_mask: Any = None, is_causal: bool = False) -> Any:
        """(l, n, d_model), or (n, l, d_model) with `batch_first`, or (l, d_model); masks as in MultiheadAttention."""
        x = self._residual(src, 1, lambda x: self.self_attn(
            x, x, x, src_key_padding_mask, need_weights=False, attn_mask=src_mask, is_causal=is_causal
        )[0])  # fmt: skip
        return self._residual(x, 2, self._feed_forward)


class TransformerDecoderLayer(_Layer):
    """Self-attention, attention to the encoder's output `memory`, and linear-activation-linear."""

    _parts = 3

    def _extend(
        self, d_model: int, nhead: int, dropout: float, bias: bool, batch_first: bool, device: Any, dtype: Any
    ) -> None:
        self.multihead_attn = MultiheadAttention(
            d_model, nhead, dropout, bias, batch_first=batch_first, device=device, dtype=dtype
        )

    def forward(
        self,
        tgt: Any,
        memory: Any,
        tgt_mask: Any = None,
        memory_mask: Any = None,
        tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Any:
        """(l, n, d_model) and memory (s, n, d_model), or as in `TransformerEncoderLayer`."""
        x = self._residual(tgt, 1, lambda x: self.self_attn(
            x, x, x, tgt_key_padding_mask, need_weights=False, attn_mask=tgt_mask, is_causal=tgt_is_causal
        )[0])  # fmt: skip
        x = self._residual(x, 2, lambda x: self.multihead_attn(
            x, memory, memory, memory_key_padding_mask, need_weights=False, attn_mask=memory_mask,
            is_causal=memory_is_causal,
        )[0])  # fmt: skip
        return self._residual(x, 3, self._feed_forward)


class TransformerEncoder(Module):
    """`num_layers` copies of a layer, one after the other, and `norm` at the end. The other settings change nothing."""

    def __init__(
        self,
        encoder_layer: Module,
        num_layers: int,
        norm: Module | None = None,
        enable_nested_tensor: bool = True,
        mask_check: bool = True,
    ) -> None:
        self.layers = ModuleList(copy.deepcopy(encoder_layer) for _ in range(num_layers))
        self.num_layers, self.norm = num_layers, norm

    def forward(
        self, src: Any, mask: Any = None, src_key_padding_mask: Any = None, is_causal: bool | None = None
    ) -> Any:
        """As one layer."""
        for layer in self.layers:
            src = layer(src, mask, src_key_padding_mask, bool(is_causal))
        return src if self.norm is None else self.norm(src)


class TransformerDecoder(Module):
    """`num_layers` copies of a layer, one after the other, and `norm` at the end."""

    def __init__(self, decoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        self.layers = ModuleList(copy.deepcopy(decoder_layer) for _ in range(num_layers))
        self.num_layers, self.norm = num_layers, norm

    def forward(
        self,
        tgt: Any,
        memory: Any,
        tgt_mask: Any = None,
        memory_mask: Any = None,
        tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Any:
        """As one layer."""
        masks = (tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask)
        for layer in self.layers:
            tgt = layer(tgt, memory, *masks, bool(tgt_is_causal), memory_is_causal)
        return tgt if self.norm is None else self.norm(tgt)


class Transformer(Module):
    """Encoder and decoder: `transformer(src, tgt)`. Matrices start Xavier-uniform. Custom ones replace either."""

    def __init__(
        self,
        d_model: int = 512,
        nhead: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = "relu",
        custom_encoder: Module | None = None,
        custom_decoder: Module | None = None,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: DeviceLike = "cpu",
        dtype: Any = "float32",
    ) -> None:
        self.d_model, self.nhead, self.batch_first = d_model, nhead, batch_first
        settings = (d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first, bias)

        def norm() -> LayerNorm:
            return LayerNorm(d_model, layer_norm_eps, bias=bias, device=device, dtype=dtype)

        if custom_encoder is None:
            layer: Module = TransformerEncoderLayer(*settings, device, dtype)
            custom_encoder = TransformerEncoder(layer, num_encoder_layers, norm())
        if custom_decoder is None:
            layer = TransformerDecoderLayer(*settings, device, dtype)
            custom_decoder = TransformerDecoder(layer, num_decoder_layers, norm())
        self.encoder, self.decoder = custom_encoder, custom_decoder
        for p in self.parameters():
            if len(p.shape) > 1:
                p.initialiser = init.xavier_uniform()
                p.draw(generator(fresh_key()))

    def forward(
        self,
        src: Any,
        tgt: Any,
        src_mask: Any = None,
        tgt_mask: Any = None,
        memory_mask: Any = None,
        src_key_padding_mask: Any = None,
        tgt_key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None,
        src_is_causal: bool | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Any:
        """(s, n, d_model) and (l, n, d_model) -> (l, n, d_model), or as in `TransformerEncoderLayer`."""
        batch = 0 if self.batch_first else 1
        shapes = tuple(src.shape), tuple(tgt.shape)
        if any(s[-1] != self.d_model for s in shapes) or (len(src.shape) == 3 and shapes[0][batch] != shapes[1][batch]):
            raise ShapeError(
                f"Transformer: expected src and tgt of one batch and of width {self.d_model}, got {shapes[0]} and "
                f"{shapes[1]}."
            )
        memory = self.encoder(src, src_mask, src_key_padding_mask, src_is_causal)
        masks = (tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask)
        return self.decoder(tgt, memory, *masks, tgt_is_causal, memory_is_causal)

    @staticmethod
    def generate_square_subsequent_mask(sz: int, device: DeviceLike = "cpu", dtype: Any = "float32") -> Any:
        """(sz, sz) floats to add: -inf where a position would see a later one, 0 elsewhere."""
        return triu(full((sz, sz), -math.inf, device=device, dtype=dtype), k=1)


__all__ = [
    "Transformer",
    "TransformerDecoder",
    "TransformerDecoderLayer",
    "TransformerEncoder",
    "TransformerEncoderLayer",
]
