"""Losses. They average, and check what they are given: shapes must be equal, labels within the classes."""

from __future__ import annotations

import warnings
from typing import Any

from ..backend import CPU, FLOATING, INTEGRAL, SYNC, backend_of, device_of, to_host
from ..errors import DataError, LabelError, ShapeError
from ..ops import activation, loss
from ..recorder import checked
from ..tensor import Tensor, lift

_mse, _l1, _huber = lift(loss.mse_loss), lift(loss.l1_loss), lift(loss.huber_loss)
_bce, _bce_logits = lift(loss.binary_cross_entropy), lift(loss.binary_cross_entropy_with_logits)
_cross_entropy, _nll = lift(loss.cross_entropy), lift(loss.nll_loss)


def mse_loss(input: Any, target: Any, reduction: str = "mean", allow_broadcast: bool = False) -> Any:
    """Mean squared error. ShapeError unless the shapes are equal or `allow_broadcast`."""
    shape = input.shape
    if shape != target.shape or reduction != "mean" or 0 in shape:
        _check(input, target, reduction, "mse_loss", allow_broadcast)
    return _mse(input, target, reduction=reduction)


def l1_loss(input: Any, target: Any, reduction: str = "mean", allow_broadcast: bool = False) -> Any:
    """Mean absolute error."""
    _check(input, target, reduction, "l1_loss", allow_broadcast)
    return _l1(input, target, reduction=reduction)


def huber_loss(
    input: Any, target: Any, reduction: str = "mean", delta: float = 1.0, allow_broadcast: bool = False
) -> Any:
    """Squared error / 2 up to `delta`, a straight line beyond."""
    if not delta > 0:
        raise ValueError(f"huber_loss: expected delta > 0, got {delta}.")
    _check(input, target, reduction, "huber_loss", allow_broadcast)
    return _huber(input, target, delta=delta, reduction=reduction)


def binary_cross_entropy_with_logits(input: Any, target: Any, reduction: str = "mean") -> Any:
    """Cross-entropy of sigmoid(input) with targets in [0, 1] (checked on the CPU), finite for any input."""
    _check(input, target, reduction, "binary_cross_entropy_with_logits")
    checked(_check_range, target, "binary_cross_entropy_with_logits", "target")
    return _bce_logits(input, target, reduction=reduction)


def binary_cross_entropy(input: Any, target: Any, reduction: str = "mean") -> Any:
    """Cross-entropy of probabilities with targets in [0, 1]; ValueError for others (checked on the CPU)."""
    _check(input, target, reduction, "binary_cross_entropy")
    checked(_check_range, input, "binary_cross_entropy", "input", " For logits use binary_cross_entropy_with_logits.")
    checked(_check_range, target, "binary_cross_entropy", "target")
    return _bce(input, target, reduction=reduction)


def cross_entropy(input: Any, target: Any, reduction: str = "mean") -> Any:
    """Cross-entropy of logits (n, c, ...) with class indices (n, ...) or probabilities (n, c, ...), averaged over n.

    LabelError for indices outside 0..c-1; on a GPU they are checked when they come from host data.
    """
    if (
        isinstance(input, Tensor)
        and input.node is not None
        and input.node[1] in (activation.softmax, activation.sigmoid)
    ):
        warnings.warn(
            "cross_entropy: expected logits, got probabilities. Leave out the softmax before it.", stacklevel=2
        )
    _check_classes(input, target, reduction, "cross_entropy", probabilities=True)
    return _cross_entropy(input, target, reduction=reduction)


def nll_loss(input: Any, target: Any, reduction: str = "mean") -> Any:
    """Minus the log-probability (n, c, ...) of the class index (n, ...)."""
    _check_classes(input, target, reduction, "nll_loss", probabilities=False)
    return _nll(input, target, reduction=reduction)


def _check(input: Any, target: Any, reduction: str, name: str, allow_broadcast: bool = False) -> None:
    have, want = tuple(input.shape), tuple(target.shape)
    if len(have) > 1 and have[:1] + have[2:] == want and backend_of(target).canonical(target.dtype) in INTEGRAL:
        raise LabelError(
            f"{name}: expected targets of shape {have}, got class indices {want}. Use one_hot(target, {have[1]})."
        )
    if have != want and not allow_broadcast:
        one_more = have == (*want, 1) or want == (*have, 1)
        fix = f"Reshape one: target.reshape({have})." if one_more else "Pass allow_broadcast=True if that is meant."
        raise ShapeError(f"{name}: expected input and target of one shape, got {have} and {want}. {fix}")
    _check_reduction(have if 0 in have else want, reduction, name)


def _check_reduction(shape: tuple[int, ...], reduction: str, name: str) -> None:
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f'{name}: expected reduction="mean", "sum" or "none", got {reduction!r}.')
    if reduction == "mean" and 0 in shape:
        raise DataError(f"{name}: expected at least one sample, got an empty batch of shape {shape}.")


def _check_classes(input: Any, target: Any, reduction: str, name: str, probabilities: bool) -> None:
    shape, classes = tuple(input.shape), input.shape[1] if len(input.shape) > 1 else 0
    if len(shape) < 2:
        raise ShapeError(f"{name}: expected input (n, classes), got {shape}")
    _check_reduction(shape, reduction, name)
    raw = target.data if isinstance(target, Tensor) else target
    kind = backend_of(raw).canonical(raw.dtype)
    if kind in FLOATING:
        if not probabilities or tuple(target.shape) != shape:
            raise LabelError(
                f"{name}: expected integer classes of shape {(shape[0], *shape[2:])}"
                + (f" or probabilities of shape {shape}" if probabilities else "")
                + f", got {kind} of shape {tuple(target.shape)}. Cast indices with .astype('int64')."
            )
        return
    if tuple(target.shape) == shape and shape[1] > 1:
        raise LabelError(
            f"{name}: expected class indices, got integers of shape {shape}: one-hot? Use target.argmax(1)."
        )
    if kind not in INTEGRAL or tuple(target.shape) != (shape[0], *shape[2:]):
        raise ShapeError(
            f"{name}: expected classes of shape {(shape[0], *shape[2:])}, got {kind} {tuple(target.shape)}"
        )
    checked(_check_labels, target, classes, name)


def _check_labels(target: Any, classes: int, name: str) -> None:
    raw = target.data if isinstance(target, Tensor) else target
    bounds = getattr(target, "bounds", None)
    if bounds is None and (device_of(raw) == CPU or SYNC):
        host = to_host(raw)
        bounds = (int(host.min()), int(host.max())) if host.size else (0, 0)
    if bounds is not None and not (bounds[0] >= 0 and bounds[1] < classes):
        raise _label_error(to_host(raw), bounds, classes, name)


def _label_error(labels: Any, bounds: tuple[int, int], classes: int, name: str) -> LabelError:
    bad = ((labels < 0) | (labels >= classes)).reshape(-1)
    if bad.any():
        first = int(bad.argmax())
        row, value = first // (bad.size // len(labels)), int(labels.reshape(-1)[first])
        found = f"{int(bad.sum())} of {bad.size} labels outside 0..{classes - 1} (first: row {row} = {value})"
    else:
        found = f"a batch of data with labels from {bounds[0]} to {bounds[1]}"
    hint = " The labels look 1-based: subtract 1." if bounds == (1, classes) else ""
    return LabelError(f"{name}: expected labels of {classes} classes, got {found}.{hint}")


def _check_range(x: Any, name: str, what: str, hint: str = "") -> None:
    values = _readable(x)
    if values is not None and values.size and not (values.min() >= 0 and values.max() <= 1):
        raise ValueError(f"{name}: expected {what} in [0, 1], got {values.min():.4g} to {values.max():.4g}.{hint}")


def _readable(x: Any) -> Any:
    """The values where looking at them costs no wait for a device, else None."""
    raw = x.data if isinstance(x, Tensor) else x
    return to_host(raw) if device_of(raw) == CPU or SYNC else None


__all__ = [
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "cross_entropy", "huber_loss", "l1_loss", "mse_loss",
    "nll_loss",
]  # fmt: skip
