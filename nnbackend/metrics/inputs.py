"""What metrics take: outputs and targets in any of their usual shapes, as rows with one weight each."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from ..array import argmax, astype, broadcast_to, masked_fill, maximum, minimum, moveaxis, one_hot, stack, sum
from ..backend import FLOATING, INTEGRAL, namespace
from ..creation import asarray, ones
from ..errors import DataError, LabelError, ShapeError
from ..functional.arguments import readable
from ..functional.loss_checks import check_labels
from ..recorder import checked


class Scores(NamedTuple):
    """Scores (n, c) as they came, and 0 or 1 for each: c classes, or c labels; c = 1 for one score a row."""

    values: Any
    truth: Any
    weight: Any


def classes_of(output: Any, threshold: float = 0.5) -> Any:
    """Class indices from scores (n, c), from one score a row (n, 1) or (n,) above `threshold`, or from indices (n,)."""
    output = asarray(output).detach()
    if output.dtype not in FLOATING:
        output = astype(output, "int64")
    if len(output.shape) > 1 and output.shape[1] > 1:
        return argmax(output, axis=1)
    if len(output.shape) > 1:
        output = output.reshape((output.shape[0], *output.shape[2:]))
    return astype(output > threshold, "int64") if output.dtype in FLOATING else output


def decisions(
    name: str, output: Any, target: Any, weight: Any, threshold: float, logits: bool, multilabel: bool
) -> tuple[Any, Any, Any]:
    """Classes found, classes wanted (n,), and weights; with `multilabel` 0 and 1 for each of several labels (n, l)."""
    values, labels, weight = rows(name, output, target, weight)
    cut = _threshold(name, threshold, logits)
    if multilabel and values.shape[1] > 1:
        _check_several(name, values, labels, asarray(target))
        return _yes(values, cut), _yes(labels, 0.5), weight
    return classes_of(values, cut), wanted_of(name, values, labels), weight


def number_of_classes(
    name: str, output: Any, target: Any, found: Any, wanted: Any, classes: int | None = None, look: bool = False
) -> int:
    """As many as scores or one-hot rows have columns; class indices are read, once, and so is all with `look`.

    LabelError for labels outside, where it is known or looking costs no wait.
    """
    output, target = asarray(output), asarray(target)
    indices = output.dtype not in FLOATING and found.size == output.size
    width: int = max((target if indices else output).size // found.size, 2)
    if not indices:
        check_targets(name, target, found.size, classes or width)
    if not (indices or look):
        return width
    low, high = stack([minimum(found.min(), wanted.min()), maximum(found.max(), wanted.max())]).tolist()
    n = classes or (max(width, int(high) + 1) if indices else width)
    if low < 0 or high >= n:
        raise LabelError(f"{name}: expected labels in 0..{n - 1} ({n} classes), got {low if low < 0 else high}.")
    return n


def scores(
    name: str, output: Any, target: Any, weight: Any, multilabel: bool = False, probabilities: bool = False
) -> Scores:
    """Scores and the truth about each. ValueError for `probabilities` that are none, where looking costs no wait."""
    values, labels, weight = rows(name, output, target, weight)
    width = values.shape[1]
    if probabilities:
        checked(_check_probabilities, values, name)
    if multilabel and width > 1:
        _check_several(name, values, labels, asarray(target))
        return Scores(values, astype(_yes(labels, 0.5), weight.dtype), weight)
    wanted = wanted_of(name, values, labels)
    check_targets(name, asarray(target), wanted.size, max(width, 2))
    truth = astype(wanted, weight.dtype).reshape((-1, 1)) if width == 1 else one_hot(wanted, width, weight.dtype)
    return Scores(values, truth, weight)


def rows(name: str, output: Any, target: Any, weight: Any) -> tuple[Any, Any, Any]:
    """Output (n, c), target (n, 1) or (n, c) and weight (n,); each position of (n, c, ...) becomes a row."""
    output, target = asarray(output).detach(), asarray(target).detach()
    shape, positions = output.shape, (*output.shape[:1], *output.shape[2:])
    check_rows(name, shape)
    labels = target.reshape((-1, 1)) if target.shape == positions else _table(target) if target.shape else target
    values = _table(output)
    wide_enough = labels.ndim == 2 and (
        labels.shape[1] in (1, values.shape[1]) or (values.shape[1] == 1 and values.dtype not in FLOATING)
    )
    if not wide_enough or labels.shape[0] != values.shape[0]:
        raise ShapeError(
            f"{name}: expected one target a row, got output {shape} and target {target.shape}. Give class indices "
            f"{positions} or as many columns as the output has."
        )
    return values, labels, weights(name, weight, positions, output)


def weights(name: str, weight: Any, positions: tuple[int, ...], like: Any) -> Any:
    """A weight for each position from one a row, (n,), or from one each; 1 if there are none."""
    if weight is None:
        return ones((math.prod(positions),), dtype=wide(like), device=like.device)
    weight = asarray(weight).detach()
    if weight.shape not in (positions, positions[:1]):
        raise ShapeError(f"{name}: expected one weight a row, {positions[:1]}, got {weight.shape}.")
    checked(_check_weights, weight, name)
    lines = weight.reshape((*weight.shape, *(1,) * (len(positions) - len(weight.shape))))
    return broadcast_to(astype(lines, wide(like)), positions).reshape((-1,))


def wide(x: Any) -> str:
    """float64, so that sums of many rows are exact enough, or float32 on devices that have no more."""
    kinds = namespace(x.data).__array_namespace_info__().dtypes(device=x.data.device, kind="real floating")
    return "float64" if "float64" in kinds else "float32"


def ratio(a: Any, b: Any, empty: float) -> Any:
    """The quotient a / b, and `empty` where b is 0."""
    none = b == 0.0
    return masked_fill(a / masked_fill(b, none, 1.0), none, empty)


def weighted_mean(x: Any, weight: Any) -> Any:
    """The mean of (n,), or of each column of (n, k). NaN if all weights are 0."""
    lines = weight.reshape((-1, *(1,) * (len(x.shape) - 1)))
    return ratio(sum(lines * x, axis=0), sum(weight), math.nan)


def check_rows(name: str, shape: tuple[int, ...]) -> None:
    """An output must have rows. ShapeError, DataError if there are none."""
    if not shape:
        raise ShapeError(f"{name}: expected one output a row, got a single number.")
    if 0 in shape:
        raise DataError(f"{name}: expected at least one row, got an output of shape {shape}.")


def wanted_of(name: str, values: Any, labels: Any) -> Any:
    """The classes (n,) that targets (n, 1) or (n, c) name. LabelError for real numbers as indices of many classes."""
    if labels.dtype in FLOATING and labels.shape[1] == 1:
        if values.shape[1] > 2:
            raise LabelError(
                f"{name}: expected integer classes or {values.shape[1]} columns, got {labels.dtype} targets. "
                "Cast indices with .astype('int64')."
            )
        if values.dtype not in FLOATING:
            labels = astype(labels, "int64")
    return classes_of(labels)


def check_targets(name: str, target: Any, rows: int, classes: int) -> None:
    """LabelError for indices outside 0..classes-1, where their range is known or looking costs no wait."""
    if target.size == rows and target.dtype in INTEGRAL:
        check_labels(target, classes, name)


def _check_several(name: str, values: Any, labels: Any, target: Any) -> None:
    if labels.shape != values.shape:
        raise ShapeError(f"{name}: expected targets {values.shape} for multilabel=True, got {target.shape}.")
    if labels.dtype in INTEGRAL:
        check_labels(target, 2, name)


def _yes(x: Any, threshold: float) -> Any:
    """1 where a score is above the threshold; integers and booleans say it themselves."""
    return astype(x > threshold if x.dtype in FLOATING else x, "int64")


def _threshold(name: str, threshold: float, logits: bool) -> float:
    """The threshold for outputs as they are: of a probability, the logit with `logits`."""
    if not logits:
        return threshold
    if not 0 < threshold < 1:
        raise ValueError(f"{name}: expected a threshold between 0 and 1 with logits=True, got {threshold!r}.")
    return math.log(threshold / (1 - threshold))


def _table(x: Any) -> Any:
    """(n,) -> (n, 1); (n, c, ...) -> (n * ..., c)."""
    if len(x.shape) < 2:
        return x.reshape((-1, 1))
    return moveaxis(x, 1, -1).reshape((-1, x.shape[1]))


def _check_weights(weight: Any, name: str) -> None:
    values = readable(weight)
    if values is not None and values.min() < 0:
        raise ValueError(f"{name}: expected weights of 0 or more, got {values.min():.4g}.")


def _check_probabilities(x: Any, name: str) -> None:
    values = readable(x)
    if values is not None and (values.min() < 0 or values.max() > 1):
        raise ValueError(
            f"{name}: expected probabilities in [0, 1], got {values.min():.4g} to {values.max():.4g}. "
            "Pass logits=True for raw scores."
        )
