"""Metrics of amounts: output and target (n,), or (n, k) for k amounts a row, whose scores are averaged."""

from __future__ import annotations

import math
from typing import Any

from ..array import abs, astype, clip, masked_fill, mean, sqrt
from ..creation import asarray
from ..errors import ShapeError
from .inputs import check_rows, ratio, weighted_mean, weights

EPSILON = 2.0**-52  # of float64, as in scikit-learn


def mae(output: Any, target: Any, weight: Any = None) -> Any:
    """Mean absolute error."""
    output, target, weight = _pair("mae", output, target, weight)
    return mean(weighted_mean(abs(output - target), weight))


def mse(output: Any, target: Any, weight: Any = None) -> Any:
    """Mean squared error."""
    output, target, weight = _pair("mse", output, target, weight)
    return mean(weighted_mean((output - target) ** 2, weight))


def rmse(output: Any, target: Any, weight: Any = None) -> Any:
    """Root of the mean squared error; of k amounts, the mean of the k roots."""
    output, target, weight = _pair("rmse", output, target, weight)
    return mean(sqrt(weighted_mean((output - target) ** 2, weight)))


def mape(output: Any, target: Any, weight: Any = None) -> Any:
    """Mean of |error| / |target|, 1 for 100 %; huge where targets are 0."""
    output, target, weight = _pair("mape", output, target, weight)
    return mean(weighted_mean(abs(output - target) / clip(abs(target), EPSILON), weight))


def r2(output: Any, target: Any, weight: Any = None) -> Any:
    """1 - squared error / squared distance of the targets to their mean: 1 is perfect, 0 is that mean.

    Constant targets give 1 if all are met, else 0. NaN for a single row.
    """
    output, target, weight = _pair("r2", output, target, weight)
    score = _explained((output - target) ** 2, _from_mean(target, weight) ** 2, weight)
    return score if target.shape[0] > 1 else score * math.nan


def explained_variance(output: Any, target: Any, weight: Any = None) -> Any:
    """`r2` that forgives a constant offset: 1 - variance of the error / variance of the targets."""
    output, target, weight = _pair("explained_variance", output, target, weight)
    return _explained(_from_mean(target - output, weight) ** 2, _from_mean(target, weight) ** 2, weight)


def _explained(left: Any, all: Any, weight: Any) -> Any:
    part, whole = weighted_mean(left, weight), weighted_mean(all, weight)
    unmet = masked_fill(ratio(part, whole, 1.0), (whole == 0.0) & (part == 0.0), 0.0)
    return mean(1.0 - unmet)


def _from_mean(x: Any, weight: Any) -> Any:
    """Distance to the mean: 0 to the bit where x is constant."""
    x = x - x[:1, :]
    return x - weighted_mean(x, weight)


def _pair(name: str, output: Any, target: Any, weight: Any) -> tuple[Any, Any, Any]:
    """Both as (n, k) in the dtype of the weights (n,)."""
    output, target = asarray(output).detach(), asarray(target).detach()
    check_rows(name, output.shape)
    ours, theirs = ((*x.shape, 1) if x.ndim == 1 else x.shape for x in (output, target))
    if ours != theirs:
        raise ShapeError(f"{name}: expected output and target of one shape, got {output.shape} and {target.shape}.")
    weight = weights(name, weight, output.shape[:1], output)
    a, b = (astype(x, weight.dtype).reshape((x.shape[0], -1)) for x in (output, target))
    return a, b, weight
