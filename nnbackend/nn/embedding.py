"""Tables of vectors."""

from __future__ import annotations

from functools import partial
from typing import Any

from .. import functional as F
from ..backend import DeviceLike, HostArray
from ..cells import Parameter
from ..creation import asarray
from ..errors import ShapeError
from .module import Module


class Embedding(Module):
    """Integers (...) -> rows of a table (..., embedding_dim). PyTorch's start: normal, row `padding_idx` 0.

    Row `padding_idx` gets no gradient. Rows that are asked for and longer than `max_norm`, in the norm of order
    `norm_type`, are shortened to it for good. `scale_grad_by_freq` divides the gradient of a row by how often it
    appears. `sparse` has no effect.
    """

    whole_inputs = True

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        _weight: Any = None,
        _freeze: bool = False,
        device: DeviceLike = "cpu",
        dtype: Any = "float32",
    ) -> None:
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.max_norm, self.norm_type, self.scale_grad_by_freq = max_norm, norm_type, scale_grad_by_freq
        self.sparse = sparse
        if num_embeddings < 0 or embedding_dim < 0:
            name = type(self).__name__
            raise ValueError(f"{name}: expected sizes of at least 0, got {num_embeddings} and {embedding_dim}.")
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            rows = f"{-num_embeddings}..{num_embeddings - 1}"
            raise ValueError(f"{type(self).__name__}: expected padding_idx in {rows}, got {padding_idx}.")
        self.padding_idx = None if padding_idx is None else padding_idx % num_embeddings
        shape = (num_embeddings, embedding_dim)
        if _weight is None:
            self.weight = Parameter.drawn(partial(_normal, self.padding_idx), shape, device, dtype)
        elif tuple(_weight.shape) != shape:
            raise ShapeError(f"{type(self).__name__}: expected a table of shape {shape}, got {_weight.shape}.")
        else:
            self.weight = Parameter(_weight, requires_grad=not _freeze)

    @classmethod
    def from_pretrained(cls, embeddings: Any, freeze: bool = True, *settings: Any, **named: Any) -> Any:
        """A layer with a copy of these (rows, columns), not trained if `freeze`; the other settings are the class's."""
        table = asarray(embeddings)
        if len(table.shape) != 2:
            raise ShapeError(f"{cls.__name__}: expected embeddings (rows, columns), got shape {table.shape}.")
        return cls(*table.shape, *settings, **{"_weight": table, "_freeze": freeze, **named})

    def forward(self, input: Any) -> Any:
        """Integers (...) -> (..., embedding_dim)."""
        return F.embedding(
            input, self.weight, self.padding_idx, self.max_norm, self.norm_type, self.scale_grad_by_freq, self.sparse
        )


class EmbeddingBag(Embedding):
    """Sums, means or maxima of bags of rows of a table. The settings are those of Embedding."""

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        _weight: Any = None,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
        _freeze: bool = False,
        device: DeviceLike = "cpu",
        dtype: Any = "float32",
    ) -> None:
        if mode not in ("sum", "mean", "max"):
            raise ValueError(f'EmbeddingBag: expected mode="sum", "mean" or "max", got {mode!r}.')
        shared = (padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse, _weight, _freeze, device, dtype)
        super().__init__(num_embeddings, embedding_dim, *shared)
        self.mode, self.include_last_offset = mode, include_last_offset

    def forward(self, input: Any, offsets: Any = None, per_sample_weights: Any = None) -> Any:
        """(bags, length), or (count,) with `offsets` (bags,) -> (bags, embedding_dim)."""
        return F.embedding_bag(
            input,
            self.weight,
            offsets,
            self.max_norm,
            self.norm_type,
            self.scale_grad_by_freq,
            self.mode,
            self.sparse,
            per_sample_weights,
            self.include_last_offset,
            self.padding_idx,
        )


def _normal(padding_idx: int | None, generator: Any, shape: tuple[int, ...]) -> HostArray:
    """The normal distribution, with a row of 0."""
    host: HostArray = generator.normal(0.0, 1.0, shape)
    if padding_idx is not None:
        host[padding_idx] = 0.0
    return host


__all__ = ["Embedding", "EmbeddingBag"]
