"""Losses of elements as one number, with and without weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import array
from ..errors import ShapeError
from ..ops import loss
from ..tensor import lift

_weighted = lift(loss.weighted_loss)


def reduced(each: Any, reduction: str, sample_weight: Any = None, counts: Any = None) -> Any:
    """Losses of elements as one; an element of weight 1 counts as `counts` says in the mean."""
    weight = None if sample_weight is None else aligned(sample_weight, each.shape)
    if reduction == "none" and weight is None:
        return each
    return _weighted(each, weight, counts if reduction == "mean" else None, reduction=reduction)


def aligned(sample_weight: Any, shape: tuple[int, ...]) -> Any:
    """Weights of samples with axes of length 1 behind, as many as a loss of this shape has."""
    have, want = tuple(sample_weight.shape), tuple(shape)
    if len(have) > len(want) or any(m not in (1, n) for m, n in zip(have, want, strict=False)):
        raise ShapeError(f"sample_weight: expected shape {want[:1]} or the first axes of {want}, got {have}.")
    return array.reshape(sample_weight, shape=(*have, *(1,) * (len(want) - len(have))))


def times(weight: Any, sample_weight: Any, shape: tuple[int, ...]) -> Any:
    """The product of two weights, either of which may be None."""
    if weight is None or sample_weight is None:
        return sample_weight if weight is None else weight
    return array.multiply(weight, aligned(sample_weight, shape))


def of_elements(
    op: Callable[..., Any], *inputs: Any, reduction: str, weight: Any = None, sample_weight: Any = None, **settings: Any
) -> Any:
    """A loss of elements, each `weight` times its own: in one op where there are no weights."""
    if weight is None and sample_weight is None:
        return op(*inputs, reduction=reduction, **settings)
    each = op(*inputs, reduction="none", **settings)
    return reduced(each if weight is None else array.multiply(each, weight), reduction, sample_weight)


__all__: list[str] = []
