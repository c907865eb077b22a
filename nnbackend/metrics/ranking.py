"""Metrics of the order that scores put rows in. Equal scores are one step: they stand in no order."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations
from typing import Any

from ..array import (
    any,
    argsort,
    astype,
    broadcast_to,
    cumulative_sum,
    isnan,
    masked_fill,
    searchsorted,
    stack,
    sum,
    take,
)
from ..functional import log_softmax
from .inputs import ratio, scores, weighted_mean

AVERAGES = ("macro", "micro", "weighted", None)


def roc_auc(
    output: Any,
    target: Any,
    weight: Any = None,
    *,
    average: str | None = "macro",
    multi_class: str = "ovr",
    logits: bool = False,
    multilabel: bool = False,
) -> Any:
    """Area under the ROC curve: how often a row of the class has a higher score than another; a tie counts half.

    One score a row or two classes give one number, more classes the `average` of each against the rest ("ovr") or of
    all pairs ("ovo", Hand and Till 2001), several labels the `average` of each: "macro", "weighted" by how often each
    is there, "micro" of all scores together, None for one number each. NaN where a class is absent, or no other is
    there ("ovo" leaves out pairs with absent classes), and for NaN scores.
    """
    if multi_class not in ("ovr", "ovo"):
        raise ValueError(f'roc_auc: expected multi_class="ovr" or "ovo", got {multi_class!r}.')
    values, truth, weight = _columns("roc_auc", output, target, weight, average, logits, multilabel)
    if multi_class == "ovr" or multilabel or values.shape[1] == 1:
        return _averaged(lambda s, t, w: _area(s, w * t, w * (1.0 - t)), values, truth, weight, average)
    if average not in ("macro", "weighted"):
        raise ValueError(f'roc_auc: expected average="macro" or "weighted" for pairs ("ovo"), got {average!r}.')
    there = weight.reshape((-1, 1)) * truth
    pairs = list(combinations(range(values.shape[1]), 2))
    areas = stack([_area(values[:, a], there[:, a], there[:, b]) + _area(values[:, b], there[:, b], there[:, a])
                   for a, b in pairs]) / 2.0  # fmt: skip
    total = sum(there, axis=0)
    both = stack([total[a] * total[b] for a, b in pairs]) > 0.0
    share = stack([total[a] + total[b] for a, b in pairs])
    counted = astype(both, areas.dtype) * (share if average == "weighted" else 1.0)
    return weighted_mean(masked_fill(areas, ~both, 0.0), counted)


def average_precision(
    output: Any,
    target: Any,
    weight: Any = None,
    *,
    average: str | None = "macro",
    logits: bool = False,
    multilabel: bool = False,
) -> Any:
    """Precision at each threshold, weighted by the recall it adds. `average` as in `roc_auc`; 0 for absent classes."""
    values, truth, weight = _columns("average_precision", output, target, weight, average, logits, multilabel)
    return _averaged(_precision, values, truth, weight, average)


def _columns(
    name: str, output: Any, target: Any, weight: Any, average: str | None, logits: bool, multilabel: bool
) -> tuple[Any, Any, Any]:
    """Scores (n, c) that rank the rows for c classes or labels; c = 1 for two classes."""
    if average not in AVERAGES:
        known = ", ".join(repr(a) for a in AVERAGES)
        raise ValueError(f"{name}: expected average to be one of {known}, got {average!r}.")
    values, truth, weight = scores(name, output, target, weight, multilabel)
    values = astype(values, weight.dtype)
    if values.shape[1] == 2 and not multilabel:
        return values[:, 1:] - values[:, :1] if logits else values[:, 1:], truth[:, 1:], weight
    if values.shape[1] > 2 and logits and not multilabel:
        values = log_softmax(values)  # ranks as the probabilities do, and has fewer ties
    return values, truth, weight


def _averaged(score: Callable[[Any, Any, Any], Any], values: Any, truth: Any, weight: Any, average: str | None) -> Any:
    """`score` of each column, in one number."""
    n, columns = values.shape
    if columns == 1:
        return score(values[:, 0], truth[:, 0], weight)
    if average == "micro":
        lines = broadcast_to(weight.reshape((-1, 1)), (n, columns)).reshape((-1,))
        return score(values.reshape((-1,)), truth.reshape((-1,)), lines)
    each = stack([score(values[:, c], truth[:, c], weight) for c in range(columns)])
    if average is None:
        return each
    if average == "macro":
        return sum(each) / columns
    there = sum(weight.reshape((-1, 1)) * truth, axis=0)
    return ratio(sum(there * masked_fill(each, there == 0.0, 0.0)), sum(there), 0.0)


def _area(values: Any, up: Any, down: Any) -> Any:
    """The share of pairs of a row of `up` and one of `down`, by weight, where the first has the higher score."""
    order = argsort(values)
    line = take(values, order)
    below = cumulative_sum(take(down, order), include_initial=True)
    lower, not_higher = (take(below, searchsorted(line, line, side=side)) for side in ("left", "right"))
    area = ratio(sum(take(up, order) * (lower + not_higher)) / 2.0, sum(up) * sum(down), math.nan)
    return masked_fill(area, any(isnan(values)), math.nan)


def _precision(values: Any, truth: Any, weight: Any) -> Any:
    """The mean, over the rows of the class by weight, of the precision at their scores."""
    order = argsort(-values)
    line, up = take(-values, order), take(weight * truth, order)
    until = searchsorted(line, line, side="right")
    right, found = (take(cumulative_sum(w, include_initial=True), until) for w in (up, take(weight, order)))
    area = ratio(sum(up * ratio(right, found, 0.0)), sum(up), 0.0)
    return masked_fill(area, any(isnan(values)), math.nan)
