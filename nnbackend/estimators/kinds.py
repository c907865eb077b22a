"""Classifiers and regressors: what they predict, and how good that is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from ..backend import to_host
from ..errors import ShapeError
from ..tensor import Tensor
from .base import NeuralNet, like
from .checks import amounts, targets, weights
from .rules import ClassifierMixin, RegressorMixin
from .targets import Amounts, Classes, labels_of


@dataclass(kw_only=True, eq=False, repr=False)
class Classifier(ClassifierMixin, NeuralNet):
    """Base of the classifiers: one label a row, or columns of 0 and 1 for several."""

    class_weight: Mapping[Any, float] | str | None = None

    _offset = 10.0  # ratios of sizes often tell classes apart, and they need the columns' own zero
    classes_: ClassVar[Any]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        tags.classifier_tags.multi_label = True
        return tags

    def _targets(self, y: Any) -> Any:
        return labels_of(y)

    def _coding(self, y: Any, classes: Any) -> Classes:
        return Classes(y, classes)

    def _row_weights(self, code: Classes, y: Any, weight: Any) -> Any:
        return code.weights(y, self.class_weight, weight)

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """One epoch more on a part of the data. The first call needs all `classes` that will come."""
        on = self._is_fitted()
        if not on and classes is None:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        if on and classes is not None and not np.array_equal(np.unique(np.asarray(classes)), self.classes_):
            raise ValueError(f"`classes={classes!r}` is not the same as on last call to partial_fit: {self.classes_}.")
        if self.class_weight == "balanced":
            raise ValueError(
                "class_weight 'balanced' is not supported for partial_fit, which sees a part of the data. "
                "Give the weights of the classes as a dict."
            )
        return self._train(X, y, sample_weight, on=on, part=True, classes=classes)

    def predict_log_proba(self, X: Any) -> Any:
        """The logarithms of `predict_proba`, exact where probabilities are tiny."""
        z, x = self._outputs(X)
        return like(to_host(self._code.log_probabilities(z)).astype(_width(x)), X, x)

    def decision_function(self, X: Any) -> Any:
        """Log odds of the second of two classes (n,) or of each of several labels; else log p of each (n, classes)."""
        z, x = self._outputs(X)
        return like(to_host(self._code.scores(z)).astype(_width(x)), X, x)

    def predict_proba(self, X: Any) -> Any:
        """The probability of each class, in the order of `classes_`, (n, classes); of several labels, one for each."""
        p, x = self._probabilities(X)
        return like(p, X, x)

    def predict(self, X: Any) -> Any:
        """The most probable class of each row (n,), or all labels more probable than not (n, labels)."""
        labels, x = self._labels(X)
        return like(labels, X, x)

    def _probabilities(self, X: Any) -> tuple[Any, Any]:
        z, x = self._outputs(X)
        return np.exp(to_host(self._code.log_probabilities(z))).astype(_width(x)), x

    def _labels(self, X: Any) -> tuple[Any, Any]:
        p, x = self._probabilities(X)
        return (p > 0.5).astype(np.int64) if self._code.several else self.classes_[np.argmax(p, axis=1)], x

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The share of rows that are right; of several labels, those that all are."""
        found, _ = self._labels(X)
        wanted = labels_of(targets(y, len(found), type(self).__name__))
        if wanted.shape != found.shape:
            raise ShapeError(f"score: expected y of shape {found.shape}, got {wanted.shape}.")
        right = found == wanted
        return float(np.average(right.all(axis=1) if right.ndim > 1 else right, weights=weights(sample_weight, len(y))))


@dataclass(kw_only=True, eq=False, repr=False)
class Regressor(RegressorMixin, NeuralNet):
    """Base of the regressors: one amount a row, or several."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        tags.target_tags.multi_output = True
        return tags

    def _targets(self, y: Any) -> Any:
        return amounts(y)

    def _coding(self, y: Any, classes: Any) -> Amounts:
        return Amounts(y)

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """One epoch more on a part of the data."""
        return self._train(X, y, sample_weight, on=self._is_fitted(), part=True)

    def predict(self, X: Any) -> Any:
        """Amounts (n,), or (n, outputs) as y was in `fit`."""
        z, x = self._outputs(X)
        return like(to_host(self._code.results(z)).astype(_width(x)), X, x)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """R2, the mean over outputs: 1 is perfect, 0 is no better than the mean of y."""
        found = self.predict(X)
        found = np.asarray(to_host(found.data if isinstance(found, Tensor) else found), dtype=np.float64)
        wanted = amounts(targets(y, len(found), type(self).__name__)).astype(np.float64)
        if wanted.shape != found.shape and wanted.size != found.size:
            raise ShapeError(f"score: expected y of shape {found.shape}, got {wanted.shape}.")
        found, wanted = found.reshape(len(found), -1), wanted.reshape(len(found), -1)
        w = weights(sample_weight, len(found))
        w = np.ones((len(found), 1)) if w is None else w[:, None]
        rest = (w * (wanted - found) ** 2).sum(axis=0)
        spread = (w * (wanted - np.average(wanted, axis=0, weights=w[:, 0])) ** 2).sum(axis=0)
        each = np.where(spread > 0, 1 - rest / np.where(spread > 0, spread, 1.0), np.where(rest > 0, 0.0, 1.0))
        return float(each.mean())


def _width(x: Any) -> str:
    """The dtype of results: that of X."""
    return "float32" if "float32" in str(x.dtype) else "float64"
