"""Estimators around a network of yours."""

from __future__ import annotations

import copy
import inspect
from dataclasses import dataclass, field
from typing import Any

from ..nn import Module
from .base import NeuralNet
from .kinds import Classifier, Regressor


@dataclass(kw_only=True, eq=False, repr=False)
class Wrapped(NeuralNet):
    """Base of the estimators that train a given network, or one that a given function makes."""

    module: Any = field(kw_only=False)

    _table = False

    def _made(self, features: int, outputs: int) -> Module:
        """A copy of the network; what makes one is told as much as it wants to know."""
        if isinstance(self.module, Module):
            return copy.deepcopy(self.module)
        if not callable(self.module):
            raise TypeError(f"module: expected a network or what makes one, got {self.module!r}.")
        told = {"n_features": features, "n_outputs": outputs}
        wanted = inspect.signature(self.module).parameters
        made = self.module(**{name: value for name, value in told.items() if name in wanted})
        if not isinstance(made, Module):
            raise TypeError(f"module: expected what makes a network, got one that makes a {type(made).__name__}.")
        return made


@dataclass(kw_only=True, eq=False, repr=False)
class NeuralNetClassifier(Wrapped, Classifier):
    """A classifier around any network: `NeuralNetClassifier(net).fit(X, y)`, `X` (n, features) or (n, channels, ...).

    `module` is a network, which stays as it is (a copy is trained), or a function or class that makes one, told
    `n_features` and `n_outputs` if it has arguments of these names. It gives logits (n, classes), or (n, 1) for two
    classes. What it gets is float32 or float64, scaled unless `scale=False`: one that looks things up casts first,
    `x.astype("int64")`. Other parameters and attributes as in `MLPClassifier`.
    """


@dataclass(kw_only=True, eq=False, repr=False)
class NeuralNetRegressor(Wrapped, Regressor):
    """A regressor around any network, as `NeuralNetClassifier`; see `MLPRegressor`."""
