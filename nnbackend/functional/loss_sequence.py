"""Losses of sequences."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

from .. import array
from ..backend import is_array, namespace, to_host
from ..errors import DTypeError, ShapeError
from ..ops import loss_sequence
from ..tensor import Tensor, lift
from .loss_checks import check_labels, check_reduction, is_floating
from .loss_reduce import reduced

_ctc = lift(loss_sequence.ctc_loss)


def ctc_loss(
    log_probs: Any,
    targets: Any,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
    *,
    sample_weight: Any = None,
) -> Any:
    """Connectionist temporal classification of log-probabilities (t, n, c) that follow `log_softmax`; also (t, c).

    `targets`: (n, s), padded, or one after the other (sum of the lengths,); lengths are read on the host. "mean" first
    divides each loss by the length of its target. Where no path fits the loss is inf, or 0 with `zero_infinity`; its
    gradient is 0. The gradient is the true one for `log_probs`; PyTorch's differs by that of `log_softmax`.
    """
    if len(log_probs.shape) == 2:
        batch = array.expand_dims(log_probs, axis=1), array.reshape(targets, shape=(1, -1))
        y = ctc_loss(
            *batch, input_lengths, target_lengths, blank, reduction, zero_infinity, sample_weight=sample_weight
        )
        return array.squeeze(y, axis=0) if reduction == "none" else y
    if len(log_probs.shape) != 3 or len(targets.shape) not in (1, 2) or is_floating(targets):
        got = f"{tuple(log_probs.shape)} and {targets.dtype} {tuple(targets.shape)}"
        raise ShapeError(f"ctc_loss: expected log_probs (t, n, classes) and integer targets (n, s) or (s,), got {got}.")
    _, n, classes = log_probs.shape
    check_reduction(tuple(log_probs.shape), reduction, "ctc_loss")
    if not 0 <= blank < classes:
        raise ValueError(f"ctc_loss: expected a blank in 0..{classes - 1}, got {blank}.")
    steps = _lengths(input_lengths, n, log_probs.shape[0], "input_lengths")
    lengths = _lengths(target_lengths, n, targets.shape[-1], "target_lengths")
    labels = _padded(targets, lengths, blank)
    check_labels(labels, classes, "ctc_loss")
    states = _with_blanks(labels, blank)
    xp, device = namespace(log_probs), log_probs.device
    running = xp.asarray([[t < m for m in steps] for t in range(max(1, *steps))], device=device)
    last = xp.asarray([[i in (2 * m - 1, 2 * m) for i in range(states.shape[1])] for m in lengths], device=device)
    other = array.logical_and(array.not_equal(states[:, 2:], states[:, :-2]), array.not_equal(states[:, 2:], blank))
    never = array.not_equal(states[:, :2], states[:, :2])
    emitted = array.take_along_axis(log_probs[: running.shape[0], ...], array.expand_dims(states, axis=0), axis=2)
    each = _ctc(emitted, array.concat([never, other], axis=1), last, running)
    if zero_infinity:
        each = array.where(array.isfinite(each), each, 0.0)
    if reduction == "mean":
        each = array.divide(each, xp.asarray([float(max(m, 1)) for m in lengths], dtype=each.dtype, device=device))
    return reduced(each, reduction, sample_weight)


def _lengths(lengths: Any, n: int, limit: int, what: str) -> list[int]:
    """Numbers on the host, one for each sample."""
    if is_array(lengths) or isinstance(lengths, Tensor):
        lengths = lengths.tolist() if isinstance(lengths, Tensor) else to_host(lengths).tolist()
    try:
        values = [operator.index(m) for m in (lengths if isinstance(lengths, Sequence) else [lengths])]
    except TypeError as error:
        raise DTypeError(f"ctc_loss: expected integers as {what}, got {lengths!r}.") from error
    if len(values) != n or any(not 0 <= m <= limit for m in values):
        raise ShapeError(f"ctc_loss: expected {n} {what} in 0..{limit}, got {values}.")
    return values


def _padded(targets: Any, lengths: list[int], blank: int) -> Any:
    """The targets as (n, longest), with blanks behind."""
    longest, xp = max(lengths), namespace(targets)
    if len(targets.shape) == 2:
        if targets.shape[0] != len(lengths):
            raise ShapeError(f"ctc_loss: expected {len(lengths)} rows of targets, got {targets.shape[0]}.")
        rows = targets[:, :longest]
    else:
        if targets.shape[0] != sum(lengths):
            raise ShapeError(f"ctc_loss: expected {sum(lengths)} targets by their lengths, got {targets.shape[0]}.")
        starts = [sum(lengths[:i]) for i in range(len(lengths))]
        places = [min(start + j, targets.shape[0] - 1) for start in starts for j in range(longest)]
        index = xp.asarray(places, dtype=xp.int64, device=targets.device)
        rows = array.reshape(array.gather(targets, index), shape=(len(lengths), longest))
    real = [j < m for m in lengths for j in range(longest)]
    mask = xp.reshape(xp.asarray(real, dtype=xp.bool, device=targets.device), rows.shape)
    return array.where(mask, rows, blank)


def _with_blanks(labels: Any, blank: int) -> Any:
    """(n, s) -> (n, 2 s + 1): a blank before, between and behind."""
    n, s = labels.shape
    blanks = namespace(labels).full((n, s + 1), blank, dtype=labels.dtype, device=labels.device)
    pairs = array.reshape(array.stack([blanks[:, :s], labels], axis=2), shape=(n, 2 * s))
    return array.concat([pairs, blanks[:, :1]], axis=1)


__all__ = ["ctc_loss"]
