"""Rows of a table, and sums of bags of them."""

from __future__ import annotations

import math
from typing import Any

from ..array import (
    astype,
    broadcast_to,
    concat,
    expand_dims,
    gather,
    maximum,
    reshape,
    scatter_add,
    sum,
    take_along_axis,
    where,
)  # fmt: skip
from ..backend import INTEGRAL, namespace, to_host
from ..cells import Cell
from ..errors import DataError, DTypeError, ShapeError
from ..ops import embedding as _ops
from ..ops import linalg
from ..ops.core import constant
from ..recorder import checked
from ..tensor import lift, plain
from .arguments import kind_of, raw_of, readable

_embedding, _norm = lift(_ops.embedding), lift(linalg.vector_norm)


def embedding(
    input: Any,
    weight: Any,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Any:
    """Rows of `weight` (n, d) at the integers `input` (...) -> (..., d); `sparse` has no effect.

    Row `padding_idx` gets no gradient. Rows that are asked for and longer than `max_norm` are shortened to it, in a
    parameter for good. `scale_grad_by_freq` divides the gradient of a row by how often it appears. DataError for rows
    that are not there; on a GPU they are checked when they come from host data.
    """
    weight, padding_idx = _table("embedding", input, weight, padding_idx, max_norm, norm_type)
    return _embedding(weight, input, padding_idx=padding_idx, scale_grad_by_freq=scale_grad_by_freq)


def embedding_bag(
    input: Any,
    weight: Any,
    offsets: Any = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Any = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Any:
    """Sum, mean or max of bags of rows of `weight` (n, d) -> (bags, d); an empty bag gives 0.

    Bags are the rows of `input` (bags, length), or the parts of `input` (count,) that begin at `offsets` (bags,), after
    which comes the end of the last one with `include_last_offset`. Entries equal to `padding_idx` do not count.
    `per_sample_weights`, like `input`, multiply the rows; mode "sum" only. The rest is as in `embedding`.
    """
    if mode not in ("sum", "mean", "max"):
        raise ValueError(f'embedding_bag: expected mode="sum", "mean" or "max", got {mode!r}.')
    if per_sample_weights is not None and mode != "sum":
        raise ValueError(f'embedding_bag: expected mode="sum" with per_sample_weights, got {mode!r}.')
    if per_sample_weights is not None and tuple(per_sample_weights.shape) != tuple(input.shape):
        raise ShapeError(
            f"embedding_bag: expected per_sample_weights of shape {tuple(input.shape)}, got {per_sample_weights.shape}."
        )
    bag, bags = _bags(input, offsets, include_last_offset)
    weight, padding_idx = _table("embedding_bag", input, weight, padding_idx, max_norm, norm_type)
    index = reshape(input, (-1,))
    rows = _embedding(weight, index, padding_idx=padding_idx, scale_grad_by_freq=scale_grad_by_freq)
    counts = _ones(index, rows.dtype) if padding_idx is None else astype(index != padding_idx, rows.dtype)

    def summed(values: Any) -> Any:
        if offsets is None:
            return sum(reshape(values, (*input.shape, *values.shape[1:])), axis=1)
        return scatter_add(values, bag, bags)

    if mode == "max":
        some = expand_dims(summed(counts) > 0.0, axis=-1)
        return where(some, _largest(rows, counts, bag, bags), 0.0) if index.shape[0] else summed(rows)
    share = counts if per_sample_weights is None else counts * reshape(per_sample_weights, (-1,))
    y = summed(rows * expand_dims(share, axis=-1))
    return y if mode == "sum" else y / expand_dims(maximum(summed(counts), 1.0), axis=-1)


def _largest(rows: Any, counts: Any, bag: Any, bags: int) -> Any:
    """(n, d) -> (bags, d): the first largest of each bag among those that count.

    Where it stands is found up to every place of a bag, over stretches that double.
    """
    value = where(expand_dims(counts > 0.0, axis=-1), constant(rows), -math.inf)
    place = broadcast_to(expand_dims(_numbers(bag), axis=-1), rows.shape)
    k = 1
    while k < rows.shape[0]:
        earlier = expand_dims(bag[k:, ...] == bag[:-k, ...], axis=-1) & (value[:-k, ...] >= value[k:, ...])
        value = concat([value[:k, ...], where(earlier, value[:-k, ...], value[k:, ...])])
        place = concat([place[:k, ...], where(earlier, place[:-k, ...], place[k:, ...])])
        k *= 2
    return take_along_axis(rows, gather(place, _ends(bag, bags)), axis=0)


def _table(
    name: str, input: Any, weight: Any, padding_idx: int | None, max_norm: float | None, norm_type: float
) -> tuple[Any, int | None]:
    """The table to look up and the row of padding, when all has been checked and what is long has been shortened."""
    if (kind := kind_of(input)) not in INTEGRAL:
        raise DTypeError(f"{name}: expected integers, got {kind}. Cast with .astype('int64').")
    if len(weight.shape) != 2:
        raise ShapeError(f"{name}: expected a table (rows, columns), got shape {tuple(weight.shape)}.")
    rows = weight.shape[0]
    if padding_idx is not None and not -rows <= padding_idx < rows:
        raise ValueError(f"{name}: expected padding_idx in {-rows}..{rows - 1}, got {padding_idx}.")
    checked(_check_rows, input, rows, name)
    if max_norm is not None:
        weight = _shortened(weight, reshape(input, (-1,)), max_norm, norm_type)
    return weight, None if padding_idx is None else padding_idx % rows


def _shortened(weight: Any, index: Any, max_norm: float, norm_type: float) -> Any:
    """The table with the rows at `index` no longer than `max_norm`: a parameter changes, others get a gradient of 1."""
    old = constant(weight)
    norm = _norm(old, axis=1, ord=norm_type, keepdims=True)
    asked = scatter_add(_ones(index, old.dtype), index, old.shape[0]) > 0.0
    new = where(expand_dims(asked, axis=-1) & (norm > max_norm), old * (max_norm / (norm + 1e-7)), old)
    if not isinstance(weight, Cell):
        return weight + (new - old)
    weight.assign(new)
    return weight


def _bags(input: Any, offsets: Any, include_last_offset: bool) -> tuple[Any, int]:
    """The number of the bag of each entry, and how many bags there are."""
    shape = tuple(input.shape)
    if len(shape) == 2:
        if offsets is not None:
            raise ShapeError("embedding_bag: expected no offsets for an input (bags, length). Leave them out.")
        return _in_rows(input), shape[0]
    if len(shape) != 1 or offsets is None or len(offsets.shape) != 1:
        got = "none" if offsets is None else tuple(offsets.shape)
        raise ShapeError(
            f"embedding_bag: expected input (bags, length), or (count,) with offsets (bags,); got {shape} and {got}."
        )
    checked(_check_offsets, offsets, shape[0], include_last_offset)
    starts = offsets[: offsets.shape[0] - 1, ...] if include_last_offset else offsets
    return _in_parts(starts, shape[0]), starts.shape[0]


@plain
def _numbers(x: Any) -> Any:
    """0, 1, ... for the elements of `x` (n,)."""
    return namespace(x).arange(x.shape[0], device=x.device)


@plain
def _in_rows(x: Any) -> Any:
    """(n, k) -> (n * k,): in which row each element is."""
    xp, (n, k) = namespace(x), x.shape
    numbers = xp.reshape(xp.arange(n, device=x.device), (n, 1))
    return xp.reshape(xp.broadcast_to(numbers, (n, k)), (n * k,))


@plain
def _in_parts(starts: Any, n: int) -> Any:
    """In which of the parts that begin at `starts` each of n elements is."""
    xp = namespace(starts)
    return xp.searchsorted(starts, xp.arange(n, dtype=starts.dtype, device=starts.device), side="right") - 1


@plain
def _ends(bag: Any, bags: int) -> Any:
    """Where the last entry of each bag is; anywhere for empty ones."""
    xp = namespace(bag)
    return xp.maximum(xp.searchsorted(bag, xp.arange(bags, dtype=bag.dtype, device=bag.device), side="right") - 1, 0)


def _ones(index: Any, dtype: Any) -> Any:
    """A 1 for each index."""
    return astype(index == index, dtype)


def _check_rows(input: Any, rows: int, name: str) -> None:
    values, bounds = readable(input), getattr(input, "bounds", None)
    if bounds is None and values is not None and values.size:
        bounds = int(values.min()), int(values.max())
    if bounds is None or (bounds[0] >= 0 and bounds[1] < rows):
        return
    values = to_host(raw_of(input))
    bad = ((values < 0) | (values >= rows)).reshape(-1)
    found, row = f"a batch of data with numbers from {bounds[0]} to {bounds[1]}", None
    if bad.any():
        place = int(bad.argmax())
        row = place // (values.size // len(values)) if values.ndim else 0
        found = (
            f"{int(bad.sum())} of {values.size} outside 0..{rows - 1} (first: row {row} = {values.reshape(-1)[place]})"
        )
    raise DataError(f"{name}: expected numbers of {rows} rows, got {found}.", row=row)


def _check_offsets(offsets: Any, count: int, include_last_offset: bool) -> None:
    values = readable(offsets)
    if values is None:
        return
    ordered = not values.size or (values[0] == 0 and (values[1:] >= values[:-1]).all() and values[-1] <= count)
    if not ordered or (include_last_offset and not (values.size and values[-1] == count)):
        last = f"to {count}" if include_last_offset else f"and at most {count}"
        raise DataError(f"embedding_bag: expected offsets from 0 on, never falling, {last}; got {values.tolist()}.")


__all__ = ["embedding", "embedding_bag"]
