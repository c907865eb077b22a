"""How good is a model? Results stay on the device of their inputs until somebody reads them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .array import argmax, astype, mean, scatter_add
from .backend import FLOATING
from .creation import asarray, ones
from .errors import LabelError, ShapeError

__all__ = ["METRICS", "Metric", "accuracy", "classes_of", "confusion_matrix", "metric"]

Metric = Callable[[Any, Any], Any]


def classes_of(output: Any, threshold: float = 0.5) -> Any:
    """Class indices from scores (n, c), from one score a row (n, 1) or (n,) above `threshold`, or from indices (n,)."""
    output = asarray(output).detach()
    if len(output.shape) > 1 and output.shape[1] > 1:
        return argmax(output, axis=1)
    if len(output.shape) > 1:
        output = output.reshape((output.shape[0], *output.shape[2:]))
    return astype(output > threshold, "int64") if output.dtype in FLOATING else output


def accuracy(output: Any, target: Any, threshold: float = 0.5) -> Any:
    """The share of rows whose class is right; targets are indices, one-hot rows, or 0 and 1."""
    found, wanted = classes_of(output, threshold), classes_of(target)
    if found.shape != wanted.shape:
        raise ShapeError(f"accuracy: expected one target a row, got {found.shape} and {wanted.shape}")
    return mean(astype(found == wanted, "float32"))


def confusion_matrix(output: Any, target: Any, classes: int | None = None, threshold: float = 0.5) -> Any:
    """(classes, classes) counts: row = true class, column = predicted class."""
    found, wanted = classes_of(output, threshold), classes_of(target)
    if found.shape != wanted.shape:
        raise ShapeError(f"confusion_matrix: expected one target a row, got {found.shape} and {wanted.shape}")
    shape = asarray(output).shape
    highest = int(max(found.max().item(), wanted.max().item()))
    n = classes or max(shape[1] if len(shape) > 1 else 2, highest + 1, 2)
    if highest >= n:
        raise LabelError(f"confusion_matrix: expected labels in 0..{n - 1} ({n} classes), got {highest}.")
    counts = scatter_add(ones(found.size, dtype="float64", device=found.device), wanted * n + found, n * n)
    return astype(counts.reshape((n, n)), "int64")


METRICS: dict[str, Metric] = {"accuracy": accuracy}


def metric(spec: str | Metric) -> tuple[str, Metric]:
    """Name and function of a metric. ValueError for unknown names."""
    if isinstance(spec, str):
        if spec not in METRICS:
            raise ValueError(f"metrics: expected one of {', '.join(METRICS)} or a function, got {spec!r}.")
        return spec, METRICS[spec]
    return getattr(spec, "__name__", type(spec).__name__), spec
