"""Estimators that build their own network: layers in a row."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .. import nn
from .base import NeuralNet
from .checks import whole
from .kinds import Classifier, Regressor

ALIASES = {"logistic": nn.Sigmoid, "identity": nn.Identity}  # scikit-learn's names


class Apply(nn.Module):
    """A function of arrays as a layer."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function

    def forward(self, x: Any) -> Any:
        """What it says."""
        return self.function(x)


@dataclass(kw_only=True, eq=False, repr=False)
class MLP(NeuralNet):
    """Base of the estimators that build a multilayer perceptron."""

    hidden: Any = (100,)
    hidden_layer_sizes: Any = None
    activation: Any = "relu"
    dropout: float = 0.0
    batch_norm: bool = False

    def _made(self, features: int, outputs: int) -> nn.Module:
        hidden = self._sizes()
        several = isinstance(self.activation, list | tuple)
        kinds = list(self.activation) if several else [self.activation] * len(hidden)
        if len(kinds) != len(hidden):
            raise ValueError(f"activation: expected one, or one for each of {len(hidden)} layers, got {len(kinds)}.")
        layers: list[nn.Module] = []
        for size, kind in zip(hidden, kinds, strict=True):
            layers.append(nn.Linear(features, size))
            if self.batch_norm:
                layers.append(nn.BatchNorm1d(size))
            layers.append(_activation(kind))
            if self.dropout:
                layers.append(nn.Dropout(self.dropout))
            features = size
        return nn.Sequential(*layers, nn.Linear(features, outputs))

    def _sizes(self) -> list[int]:
        """Of the hidden layers. ValueError unless all are at least 1."""
        given = self.hidden if self.hidden_layer_sizes is None else self.hidden_layer_sizes
        return [whole("hidden", n) for n in (given if hasattr(given, "__iter__") else [given])]


def _activation(spec: Any) -> nn.Module:
    """A fresh layer for a name, a layer, what makes one, or a function of arrays."""
    if isinstance(spec, nn.Module):
        return copy.deepcopy(spec)
    if isinstance(spec, str | type):
        return nn.activation(ALIASES.get(spec, spec) if isinstance(spec, str) else spec)
    if not callable(spec):
        raise TypeError(f"activation: expected a name, a layer or a function, got {spec!r}.")
    wanted = inspect.signature(spec).parameters.values()
    return Apply(spec) if any(p.default is p.empty for p in wanted) else nn.activation(spec)


@dataclass(kw_only=True, eq=False, repr=False)
class MLPClassifier(MLP, Classifier):
    """A multilayer perceptron that tells classes apart: `MLPClassifier(hidden=(50, 20)).fit(X, y).predict(X_new)`.

    y has one label a row, text or number, or columns of 0 and 1 for several. Results come in X's array library, on its
    device, in float32 if X is float32 and else in float64.

    The network: `hidden` sizes (or `hidden_layer_sizes`); `activation`, one or one a layer: a name, a layer, what makes
    one, or a function of arrays; `dropout`, a probability; `batch_norm`.
    What it learns: `loss`, a name or a function of (outputs, class indices), by default cross-entropy;
    `class_weight`, a dict by label or "balanced".
    How: `optimizer`, a name, with `lr` and `weight_decay` (or `alpha`), or a template such as `optim.SGD(lr=0.1)`;
    `schedule`, a function of the optimizer, moved on every epoch or `schedule_every="step"`; `clip_norm`; `epochs` of
    steps of `batch_size` rows ("auto": 200, None: all), in a new order each if `shuffle`; `random_state`.
    `scale` brings columns to a common scale first, which a network needs, but keeps ratios of columns that are not far
    apart (see `Scaling`); "standard" gives each mean 0 and standard deviation 1, False leaves them as they are.
    `early_stopping` sets `validation_fraction` of the rows aside, unless `fit` gets validation data, ends when their
    loss has not fallen by more than `min_delta` in `patience` epochs, and takes the best epoch's weights.
    `warm_start` lets `fit` go on where it was; `callbacks`, `metrics` and `verbose` are the Trainer's; `device` is
    where to compute, X's own by default.

    After `fit`: `classes_`, `n_features_in_`, `feature_names_in_` (of a frame), `n_outputs_`, `n_iter_` epochs,
    `loss_`, `loss_curve_`, `history_`, `net_` (which takes scaled columns), `scaling_` and `trainer_`.
    """


@dataclass(kw_only=True, eq=False, repr=False)
class MLPRegressor(MLP, Regressor):
    """A multilayer perceptron that estimates amounts, one a row or several: `MLPRegressor().fit(X, y).predict(X_new)`.

    The loss is "mse" by default. Where it is one of differences, `scale` also applies to y, and the losses and metrics
    of `history_` are of scaled targets. Everything else as in `MLPClassifier`.
    """
