"""What losses refuse: shapes that do not fit, labels outside the classes, settings out of range."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..array import astype, iinfo
from ..backend import FLOATING, INTEGRAL, HostArray, to_host
from ..errors import DataError, LabelError, ShapeError
from ..recorder import Unfit, checked
from .arguments import kind_of, raw_of, readable

REDUCTIONS = ("mean", "sum", "none")
RANGES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "beta": (lambda x: x >= 0, "beta >= 0"),
    "delta": (lambda x: x > 0, "delta > 0"),
    "gamma": (lambda x: x >= 0, "gamma >= 0"),
    "label_smoothing": (lambda x: 0 <= x <= 1, "label_smoothing from 0 to 1"),
    "margin": (lambda x: x > 0, "margin > 0"),
    "p": (lambda x: x in (1, 2), "p = 1 or 2"),
    "quantiles": (lambda x: all(0 < q < 1 for q in quantiles_of(x)), "quantiles between 0 and 1"),
    "reduction": (lambda x: x in REDUCTIONS, 'reduction="mean", "sum" or "none"'),
}


def check_settings(name: str, **settings: Any) -> None:
    """ValueError for a setting out of its range; complex numbers are in none."""
    for key, value in settings.items():
        holds, expected = RANGES[key]
        if isinstance(value, complex) or not holds(value):
            raise ValueError(f"{name}: expected {expected}, got {value!r}.")


def quantiles_of(quantiles: Any) -> tuple[float, ...]:
    """One number, or several."""
    return (quantiles,) if isinstance(quantiles, int | float) else tuple(quantiles)


# -- shapes ---------------------------------------------------------------------------------------------------------


def check_pair(
    input: Any, target: Any, reduction: str, name: str, allow_broadcast: bool = False, what: str = "input and target"
) -> None:
    """ShapeError unless the two shapes are equal; LabelError for class indices where scores are expected."""
    have, want = tuple(input.shape), tuple(target.shape)
    if len(have) > 1 and have[:1] + have[2:] == want and kind_of(target) in INTEGRAL:
        raise LabelError(
            f"{name}: expected targets of shape {have}, got class indices {want}. Use one_hot(target, {have[1]})."
        )
    if have != want and not allow_broadcast:
        one_more = have == (*want, 1) or want == (*have, 1)
        fix = f"Reshape one: target.reshape({have})." if one_more else ""
        if name in ("mse_loss", "l1_loss", "huber_loss", "smooth_l1_loss"):
            fix = fix or "Pass allow_broadcast=True if that is meant."
        raise ShapeError(f"{name}: expected {what} of one shape, got {have} and {want}. {fix}".rstrip())
    check_reduction(have if 0 in have else want, reduction, name)


def check_reduction(shape: tuple[int, ...], reduction: str, name: str) -> None:
    """DataError for the mean of an empty batch."""
    check_settings(name, reduction=reduction)
    if reduction == "mean" and 0 in shape:
        raise DataError(f"{name}: expected at least one sample, got an empty batch of shape {shape}.")


def check_shape(array: Any, shape: tuple[int, ...], what: str, name: str) -> None:
    """ShapeError for an array of another shape."""
    if tuple(array.shape) != shape:
        raise ShapeError(f"{name}: expected {what} of shape {shape}, got {tuple(array.shape)}.")


# -- classes --------------------------------------------------------------------------------------------------------


def is_floating(x: Any) -> bool:
    """Whether an array holds real numbers, such as probabilities of classes."""
    return kind_of(x) in FLOATING


def as_scores(target: Any, input: Any) -> Any:
    """Counts and signs, which may be integers, in the input's dtype."""
    return target if is_floating(target) else astype(target, input.dtype)


def check_classes(
    input: Any, target: Any, reduction: str, name: str, probabilities: bool = False, ignore_index: int | None = None
) -> bool | None:
    """Class indices (n, ...), or `probabilities` (n, c, ...), for an input (n, c, ...).

    Returns None for probabilities, else whether an index may be `ignore_index`.
    """
    shape = tuple(input.shape)
    if len(shape) < 2:
        raise ShapeError(
            f"{name}: expected input (n, classes), got {shape} with targets {tuple(target.shape)}. "
            f"For one sample, give input (classes,) and one class."
        )
    check_reduction(shape, reduction, name)
    kind = kind_of(target)
    if kind in FLOATING:
        if not probabilities or tuple(target.shape) != shape:
            raise LabelError(
                f"{name}: expected integer classes of shape {(shape[0], *shape[2:])}"
                + (f" or probabilities of shape {shape}" if probabilities else "")
                + f", got {kind} of shape {tuple(target.shape)}. Cast indices with .astype('int64')."
            )
        return None
    if tuple(target.shape) == shape and shape[1] > 1:
        raise LabelError(
            f"{name}: expected class indices, got integers of shape {shape}: one-hot? Use target.argmax(1)."
        )
    if kind not in INTEGRAL or tuple(target.shape) != (shape[0], *shape[2:]):
        raise ShapeError(
            f"{name}: expected classes of shape {(shape[0], *shape[2:])}, got {kind} {tuple(target.shape)}"
        )
    return check_labels(target, shape[1], name, ignore_index)


def check_labels(target: Any, classes: int, name: str, ignore_index: int | None = None) -> bool:
    """LabelError for indices outside 0..classes-1 other than `ignore_index`. Returns whether there may be such.

    Labels from the host know their range; what others may be does not depend on their values, for steps are recorded.
    """
    may, bounds = ignore_index is not None, getattr(target, "bounds", None)
    if ignore_index is not None:
        low, high = bounds or ((limits := iinfo(target.dtype)).min, limits.max)
        may = low <= ignore_index <= high
    checked(_inside, target, classes, name, ignore_index, may)
    return may


def _inside(target: Any, classes: int, name: str, ignore_index: int | None, may: bool) -> None:
    bounds = getattr(target, "bounds", None)
    if bounds is None or may:
        labels = readable(target)
        bounds = _bounds(labels[labels != ignore_index] if may and labels is not None else labels)
    if bounds is not None and not (bounds[0] >= 0 and bounds[1] < classes):
        _refuse(to_host(raw_of(target)), bounds, classes, name, ignore_index, may)


def _bounds(labels: Any) -> tuple[int, int] | None:
    """The lowest and the highest, if they can be seen."""
    if labels is None:
        return None
    return (int(labels.min()), int(labels.max())) if labels.size else (0, 0)


def _refuse(
    labels: HostArray, bounds: tuple[int, int], classes: int, name: str, ignore_index: int | None, may: bool
) -> None:
    ignored = (labels == ignore_index).reshape(-1)
    if not may and ignored.any():
        raise Unfit
    bad = ((labels < 0) | (labels >= classes)).reshape(-1) & ~(ignored & may)
    if bad.any():
        first = int(bad.argmax())
        row, value = first // (bad.size // len(labels)), int(labels.reshape(-1)[first])
        found = f"{int(bad.sum())} of {bad.size} labels outside 0..{classes - 1} (first: row {row} = {value})"
    else:
        found = f"a batch of data with labels from {bounds[0]} to {bounds[1]}"
    hint = " The labels look 1-based: subtract 1." if bounds == (1, classes) else ""
    error = LabelError(f"{name}: expected labels of {classes} classes, got {found}.{hint}")
    error.classes, error.ignore_index = classes, ignore_index
    raise error


# -- values ---------------------------------------------------------------------------------------------------------


def check_range(x: Any, name: str, what: str, low: float = 0.0, high: float = 1.0, hint: str = "") -> None:
    """ValueError for values outside [low, high], for `checked`."""
    values = readable(x)
    if values is not None and values.size and not (values.min() >= low and values.max() <= high):
        raise ValueError(
            f"{name}: expected {what} in [{low:g}, {high:g}], got {values.min():.4g} to {values.max():.4g}.{hint}"
        )


__all__: list[str] = []
