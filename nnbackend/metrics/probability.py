"""Metrics of probabilities: how much of it was where the truth is? Outputs are probabilities, or logits if so said."""

from __future__ import annotations

from typing import Any

from ..array import astype, clip, finfo, log, masked_fill, mean, sum
from ..backend import FLOATING
from ..functional import log_softmax, logsigmoid, sigmoid, softmax
from .inputs import scores, weighted_mean


def log_loss(output: Any, target: Any, weight: Any = None, *, logits: bool = False, multilabel: bool = False) -> Any:
    """-log of the probability of the truth, on average; of several labels, the mean of each label's.

    Probabilities are kept the epsilon of their dtype away from 0 and 1; logits need no such thing.
    """
    values, truth, weight = scores("log_loss", output, target, weight, multilabel, probabilities=not logits)
    yes_or_no = multilabel or values.shape[1] == 1
    if logits:
        values = astype(values, weight.dtype)
        yes = logsigmoid(values) if yes_or_no else log_softmax(values)
        no = logsigmoid(-values) if yes_or_no else yes
    else:
        values = values if values.dtype in FLOATING else astype(values, weight.dtype)
        eps = float(finfo(values.dtype).eps)
        yes, no = (log(astype(clip(p, eps, 1.0 - eps), weight.dtype)) for p in (values, 1.0 - values))
    lost = -masked_fill(yes, truth == 0.0, 0.0)
    if yes_or_no:
        return weighted_mean(mean(lost - masked_fill(no, truth == 1.0, 0.0), axis=1), weight)
    return weighted_mean(sum(lost, axis=1), weight)


def brier(output: Any, target: Any, weight: Any = None, *, logits: bool = False, multilabel: bool = False) -> Any:
    """The squared distance from probability to truth (Brier 1950).

    Of two classes and of labels, 0 to 1: (p - y)^2, averaged over the labels; of more classes, 0 to 2: the sum over
    all of them, as in scikit-learn.
    """
    values, truth, weight = scores("brier", output, target, weight, multilabel, probabilities=not logits)
    yes_or_no = multilabel or values.shape[1] == 1
    values = astype(values, weight.dtype)
    if logits:
        values = sigmoid(values) if yes_or_no else softmax(values)
    squares = (values - truth) ** 2
    each = mean(squares, axis=1) if yes_or_no or squares.shape[1] == 2 else sum(squares, axis=1)
    return weighted_mean(each, weight)
