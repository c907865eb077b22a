"""What an estimator is: scikit-learn's own base classes where it is installed, else the little of them that is used."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from .. import errors


class PlainEstimator:
    """Parameters are the arguments of `__init__`, kept under their names."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Parameters by name; if `deep`, also those of parameters that have some, as `outer__inner`."""
        found = {}
        for name in inspect.signature(type(self)).parameters:
            found[name] = value = getattr(self, name)
            if deep and hasattr(value, "get_params") and not isinstance(value, type):
                found.update((f"{name}__{inner}", deeper) for inner, deeper in value.get_params().items())
        return found

    def set_params(self, **params: Any) -> Self:
        """Change some, `outer__inner` too. ValueError for a name that there is not; nothing has changed then."""
        valid = inspect.signature(type(self)).parameters
        if unknown := [name for name in params if name.partition("__")[0] not in valid]:
            known = ", ".join(valid)
            raise ValueError(f"Invalid parameter {unknown[0]!r} for estimator {self!r}. Valid parameters are: {known}.")
        for name, value in params.items():
            outer, _, inner = name.partition("__")
            if inner:
                getattr(self, outer).set_params(**{inner: value})
            else:
                setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        changed = [
            f"{name}={getattr(self, name)!r}"
            for name, p in sorted(inspect.signature(type(self)).parameters.items())
            if repr(getattr(self, name)) != repr(p.default)
        ]
        return f"{type(self).__name__}({', '.join(changed)})"


class PlainClassifier:
    """Says that it is a classifier."""

    _estimator_type = "classifier"


class PlainRegressor:
    """Says that it is a regressor."""

    _estimator_type = "regressor"


if TYPE_CHECKING:
    from ..errors import NotFittedError as NotFittedError

    BaseEstimator: TypeAlias = PlainEstimator
    ClassifierMixin: TypeAlias = PlainClassifier
    RegressorMixin: TypeAlias = PlainRegressor
    DataConversionWarning: TypeAlias = UserWarning
else:
    try:
        from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
        from sklearn.exceptions import DataConversionWarning
        from sklearn.exceptions import NotFittedError as TheirNotFittedError

        class NotFittedError(errors.NotFittedError, TheirNotFittedError):
            """Both ours and scikit-learn's."""
    except ImportError:
        BaseEstimator, ClassifierMixin, RegressorMixin = PlainEstimator, PlainClassifier, PlainRegressor
        NotFittedError, DataConversionWarning = errors.NotFittedError, UserWarning
