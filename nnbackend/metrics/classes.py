"""Metrics of decisions: which share of them, and of each class, is right.

All take (output, target, weight): scores (n, c), one score a row (n, 1) or (n,), or class indices (n,); targets are
indices, one-hot rows, or 0 and 1; one weight a row. One score says yes above `threshold`, a probability; with
`logits=True` outputs are logits. `multilabel=True` says that (n, labels) are several answers of yes or no.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..array import all, arange, astype, scatter_add, sqrt, sum, take_along_axis
from ..creation import asarray
from ..errors import ShapeError
from .inputs import check_targets, decisions, number_of_classes, ratio, rows, wanted_of, weighted_mean

AVERAGES = ("auto", "binary", "macro", "micro", "weighted", None)


def accuracy(
    output: Any,
    target: Any,
    weight: Any = None,
    *,
    threshold: float = 0.5,
    logits: bool = False,
    multilabel: bool = False,
) -> Any:
    """The share of rows whose class, or whose every label, is right."""
    found, wanted, weight = decisions("accuracy", output, target, weight, threshold, logits, multilabel)
    right = found == wanted
    return weighted_mean(astype(all(right, axis=1) if right.ndim > 1 else right, weight.dtype), weight)


def top_k_accuracy(output: Any, target: Any, weight: Any = None, *, k: int = 2) -> Any:
    """The share of rows whose class is among the `k` with the highest scores; of equal ones the last count more."""
    name = "top_k_accuracy"
    if not isinstance(k, int) or k < 1:
        raise ValueError(f"{name}: expected k >= 1, got {k!r}.")
    values, labels, weight = rows(name, output, target, weight)
    if values.shape[1] < 2:
        raise ShapeError(f"{name}: expected scores (n, classes), got {asarray(output).shape}. Use accuracy.")
    wanted = wanted_of(name, values, labels)
    check_targets(name, asarray(target), wanted.size, values.shape[1])
    places = wanted.reshape((-1, 1))
    score = take_along_axis(values, places, axis=1)
    columns = arange(values.shape[1], device=values.device)
    behind = (values < score) | ((values == score) & (columns <= places))  # NaN is behind nothing
    ahead = values.shape[1] - sum(astype(behind, "int64"), axis=1)
    return weighted_mean(astype(ahead < k, weight.dtype), weight)


def confusion_matrix(
    output: Any,
    target: Any,
    weight: Any = None,
    *,
    classes: int | None = None,
    threshold: float = 0.5,
    logits: bool = False,
    normalize: str | None = None,
) -> Any:
    """(classes, classes) counts, or sums of weights: row = true class, column = predicted class.

    Shares of the row with normalize="true", of the column with "pred", of all with "all". The labels are read, once.
    """
    name = "confusion_matrix"
    if normalize not in (None, "true", "pred", "all"):
        raise ValueError(f'{name}: expected normalize="true", "pred", "all" or None, got {normalize!r}.')
    found, wanted, weights = decisions(name, output, target, weight, threshold, logits, False)
    n = number_of_classes(name, output, target, found, wanted, classes, look=True)
    counts = scatter_add(weights, wanted * n + found, n * n).reshape((n, n))
    if normalize is None:
        return astype(counts, "int64") if weight is None else counts
    axis = {"true": 1, "pred": 0, "all": None}[normalize]
    return ratio(counts, sum(counts, axis=axis, keepdims=True), 0.0)


class Counts(NamedTuple):
    """Weights of rows, for each class or label: rightly found, found, and there to be found."""

    right: Any
    found: Any
    there: Any
    seen: Any  # is it in any row, whatever its weight?
    several: bool


def counted(
    name: str,
    output: Any,
    target: Any,
    weight: Any,
    threshold: float = 0.5,
    logits: bool = False,
    multilabel: bool = False,
) -> Counts:
    """The counts that all below are made of."""
    found, wanted, weights = decisions(name, output, target, weight, threshold, logits, multilabel)
    if found.ndim > 1:
        lines = weights.reshape((-1, 1))
        found, wanted = astype(found, weights.dtype), astype(wanted, weights.dtype)
        right, f, t = (sum(lines * x, axis=0) for x in (found * wanted, found, wanted))
        return Counts(right, f, t, t == t, True)
    n = number_of_classes(name, output, target, found, wanted)
    f, t = scatter_add(weights, found, n), scatter_add(weights, wanted, n)
    right = scatter_add(weights * astype(found == wanted, weights.dtype), wanted, n)
    if weight is None:
        return Counts(right, f, t, f + t > 0.0, False)
    one = weights * 0.0 + 1.0
    return Counts(right, f, t, scatter_add(one, found, n) + scatter_add(one, wanted, n) > 0.0, False)


def precision(
    output: Any,
    target: Any,
    weight: Any = None,
    *,
    average: str | None = "auto",
    threshold: float = 0.5,
    logits: bool = False,
    multilabel: bool = False,
) -> Any:
    """The share of what was found that is right; 0 where nothing was found. `average` as in `fbeta`."""
    counts = counted("precision", output, target, weight, threshold, logits, multilabel)
    return _averaged("precision", counts, counts.right, counts.found, average)


def recall(
    output: Any,
    target: Any,
    weight: Any = None,
    *,
    average: str | None = "auto",
    threshold: float = 0.5,
    logits: bool = False,
    multilabel: bool = False,
) -> Any:
    """The share of what was there that was found; 0 where nothing was there. `average` as in `fbeta`."""
    counts = counted("recall", output, target, weight, threshold, logits, multilabel)
    return _averaged("recall", counts, counts.right, counts.there, average)


def fbeta(
    output: Any,
    target: Any,
    weight: Any = None,
    *,
    beta: float = 1.0,
    average: str | None = "auto",
    threshold: float = 0.5,
    logits: bool = False,
    multilabel: bool = False,
) -> Any:
    """Harmonic mean of precision and recall, where recall counts `beta` times as much; 0 where both are.

    `average`: "binary" is the score of class 1; "macro" the mean over the classes that are there or were found, or over
    all labels; "weighted" the same, by how often each is there; "micro" the score of all counts together; None gives
    one score a class, 0 for absent ones. "auto" is "binary" for two classes, else "macro".
    """
    if beta < 0:
        raise ValueError(f"fbeta: expected beta >= 0, got {beta}.")
    counts = counted("fbeta", output, target, weight, threshold, logits, multilabel)
    b = beta * beta
    return _averaged("fbeta", counts, (1.0 + b) * counts.right, b * counts.there + counts.found, average)


def f1(
    output: Any,
    target: Any,
    weight: Any = None,
    *,
    average: str | None = "auto",
    threshold: float = 0.5,
    logits: bool = False,
    multilabel: bool = False,
) -> Any:
    """Harmonic mean of precision and recall: 2 right / (found + there). `average` as in `fbeta`."""
    counts = counted("f1", output, target, weight, threshold, logits, multilabel)
    return _averaged("f1", counts, 2.0 * counts.right, counts.there + counts.found, average)


def balanced_accuracy(
    output: Any, target: Any, weight: Any = None, *, threshold: float = 0.5, logits: bool = False
) -> Any:
    """The mean recall of the classes that are there: 1 / classes for guesses."""
    counts = counted("balanced_accuracy", output, target, weight, threshold, logits)
    there = astype(counts.there > 0.0, counts.there.dtype)
    return weighted_mean(ratio(counts.right, counts.there, 0.0), there)


def matthews_corrcoef(
    output: Any, target: Any, weight: Any = None, *, threshold: float = 0.5, logits: bool = False
) -> Any:
    """Correlation of found and true classes, -1 to 1, and 0 if either is one class alone (Gorodkin 2004)."""
    right, found, there, *_ = counted("matthews_corrcoef", output, target, weight, threshold, logits)
    n = sum(there)
    spread = (n * n - sum(found * found)) * (n * n - sum(there * there))
    return ratio(sum(right) * n - sum(found * there), sqrt(spread), 0.0)


def cohen_kappa(output: Any, target: Any, weight: Any = None, *, threshold: float = 0.5, logits: bool = False) -> Any:
    """Agreement beyond chance, up to 1; NaN if all rows are found and truly of one class (Cohen 1960)."""
    right, found, there, *_ = counted("cohen_kappa", output, target, weight, threshold, logits)
    n = sum(there)
    chance = ratio(sum(found * there), n, 0.0)
    return 1.0 - ratio(n - sum(right), n - chance, float("nan"))


def _averaged(name: str, counts: Counts, part: Any, whole: Any, average: str | None) -> Any:
    """The quotient of each class, in one number."""
    if average not in AVERAGES:
        known = ", ".join(repr(a) for a in AVERAGES)
        raise ValueError(f"{name}: expected average to be one of {known}, got {average!r}.")
    two = part.shape[0] == 2 and not counts.several
    if average == "binary" and not two:
        what = f"{part.shape[0]} {'labels' if counts.several else 'classes'}"
        raise ValueError(f'{name}: expected two classes for average="binary", got {what}. Use average="macro".')
    if average == "micro":
        return ratio(sum(part), sum(whole), 0.0)
    each = ratio(part, whole, 0.0)
    if average is None:
        return each
    if average == "binary" or (average == "auto" and two):
        return each[1]
    return weighted_mean(each, counts.there if average == "weighted" else astype(counts.seen, each.dtype))
