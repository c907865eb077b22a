"""Metrics by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from . import classes, probability, ranking, regression

Metric = Callable[..., Any]

_AVERAGED = (classes.precision, classes.recall, classes.f1)
METRICS: dict[str, Metric] = {
    fn.__name__: fn
    for fn in (
        classes.accuracy, classes.balanced_accuracy, classes.top_k_accuracy, *_AVERAGED, classes.matthews_corrcoef,
        classes.cohen_kappa, ranking.roc_auc, ranking.average_precision, probability.log_loss, probability.brier,
        regression.r2, regression.explained_variance, regression.mae, regression.mse, regression.rmse, regression.mape,
    )
}  # fmt: skip
METRICS |= {f"{fn.__name__}_{a}": partial(fn, average=a) for fn in _AVERAGED for a in ("macro", "micro", "weighted")}
METRICS |= {f"top_{k}_accuracy": partial(classes.top_k_accuracy, k=k) for k in (3, 5)}


def metric(spec: str | Metric, logits: bool = False, multilabel: bool = False) -> tuple[str, Metric]:
    """Name and function of a metric. ValueError for unknown names.

    With `logits` or `multilabel`, ours are told what the outputs are, if it makes a difference to them; functions of
    others stay as they are.
    """
    if isinstance(spec, str):
        if spec not in METRICS:
            raise ValueError(f"metrics: expected one of {', '.join(METRICS)} or a function, got {spec!r}.")
        name, function = spec, METRICS[spec]
    else:
        plain = spec.func if isinstance(spec, partial) else spec
        name, function = getattr(plain, "__name__", type(plain).__name__), spec
        if METRICS.get(name) is not plain:
            return name, spec
    settings = {"logits": logits, "multilabel": multilabel}
    told = {key: True for key, on in settings.items() if on and key in inspect.signature(function).parameters}
    return name, partial(function, **told) if told else function


def takes_weight(function: Metric) -> bool:
    """Whether a metric can be called with `weight=`, one a row. For losses `weight` means something else."""
    plain = function.func if isinstance(function, partial) else function
    if (getattr(plain, "__module__", None) or "").startswith(f"{__name__.partition('.')[0]}.functional"):
        return False
    try:
        return "weight" in inspect.signature(function).parameters
    except (TypeError, ValueError):  # no Python function
        return False
