"""Labels as indices and one-hot rows, features scaled to mean 0 and standard deviation 1."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ..errors import DataError, DTypeError, LabelError, NotFittedError, ShapeError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike, NDArray  # costs 15 ms


class LabelEncoder:
    """Class labels (str, int, float or bool) to indices 0..C-1, in sorted order, and back."""

    _classes: NDArray[Any] | None = None

    @property
    def classes(self) -> NDArray[Any]:
        """The distinct labels, sorted."""
        if self._classes is None:
            raise NotFittedError("LabelEncoder: expected fitted classes, got none. Call fit(y) first.")
        return self._classes

    def fit(self, y: ArrayLike | Sequence[Any]) -> Self:
        """Learn the classes."""
        labels = _labels(y)
        if not labels.size:
            raise LabelError("LabelEncoder: expected labels, got none. Pass the labels of the training data.")
        self._classes = np.unique(labels)
        return self

    def transform(self, y: ArrayLike | Sequence[Any]) -> NDArray[np.int64]:
        """The index of each label; `LabelError` for one that `fit` did not see."""
        labels, classes = _labels(y), self.classes
        indices, known = np.zeros(labels.shape, np.int64), np.zeros(labels.shape, np.bool_)
        if (labels.dtype.kind == "U") == (classes.dtype.kind == "U"):
            indices = np.minimum(np.searchsorted(classes, labels), len(classes) - 1).astype(np.int64)
            known = np.asarray(classes[indices] == labels)
        if not known.all():
            row = int(np.argmin(known))
            got = f"{labels[row].item()!r} in row {row}"
            raise LabelError(f"LabelEncoder: expected one of {_some(classes)}, got {got}. Correct it, or fit again.")
        return indices

    def fit_transform(self, y: ArrayLike | Sequence[Any]) -> NDArray[np.int64]:
        """`fit(y)`, then `transform(y)`."""
        return self.fit(y).transform(y)

    def inverse_transform(self, indices: ArrayLike) -> NDArray[Any]:
        """The label of each index."""
        classes = self.classes
        return classes[_indices(indices, len(classes), "LabelEncoder")]

    def state(self) -> dict[str, Any]:
        """What `from_state` needs, as plain values."""
        return {"classes": self.classes.tolist(), "dtype": self.classes.dtype.str}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The encoder that `state()` describes."""
        labels = np.asarray(state["classes"])
        return cls().fit(labels if labels.dtype.kind == "U" else labels.astype(state["dtype"]))

    def __repr__(self) -> str:
        if self._classes is None:
            return "LabelEncoder(not fitted)"
        return f"LabelEncoder({len(self._classes)} classes: {_some(self._classes)})"


def one_hot(labels: ArrayLike, classes: int | None = None, dtype: DTypeLike = np.float32) -> NDArray[Any]:
    """Rows with a 1 at the label, (n,) integers -> (n, classes); `classes` defaults to the largest label + 1."""
    array = np.asarray(labels)
    if array.ndim != 1:
        raise ShapeError(f"one_hot: expected labels of shape (n,), got {array.shape}. Try labels.ravel().")
    if classes is None:
        if not array.size:
            raise LabelError("one_hot: expected labels, got none. Pass classes= as well.")
        classes = max(int(array.max()), 0) + 1 if array.dtype.kind in "biu" else 1
    elif classes < 1:
        raise ValueError(f"one_hot: expected classes >= 1, got {classes}. Pass the number of classes.")
    indices = _indices(array, classes, "one_hot")
    result = np.zeros((len(indices), classes), dtype)
    result[np.arange(len(indices)), indices] = 1
    return result


class StandardScaler:
    """Columns to mean 0 and standard deviation 1, as learnt by `fit`, and back.

    The statistics and the arithmetic are float64; results have the input's float dtype, integers give float64.
    """

    _mean: NDArray[np.float64] | None = None
    _scale: NDArray[np.float64] | None = None

    @property
    def mean(self) -> NDArray[np.float64]:
        """What is subtracted, one for each column."""
        return self._fitted()[0]

    @property
    def scale(self) -> NDArray[np.float64]:
        """What is then divided by, one for each column."""
        return self._fitted()[1]

    def fit(self, X: ArrayLike) -> Self:
        """Learn mean and scale from (n, columns); a constant column gets scale 1 and a warning."""
        array = _matrix(X)
        if not len(array):
            raise DataError("StandardScaler: expected rows, got none. Pass the training data.")
        wide = array.astype(np.float64)
        if not np.isfinite(wide).all():
            row, column = map(int, np.argwhere(~np.isfinite(wide))[0])
            where = f"{wide[row, column]} in row {row}, column {column}"
            problem = f"StandardScaler: expected finite numbers, got {where}. Remove or fill the missing values."
            raise DataError(problem, row=row, column=column)
        mean, scale = wide.mean(axis=0), wide.std(axis=0)
        constant = (wide == wide[0]).all(axis=0) | (scale == 0)
        if constant.any():
            columns = ", ".join(map(str, np.flatnonzero(constant)))
            problem = (
                f"expected columns that vary, got constant ones: {columns}. They become 0; consider leaving them out."
            )
            warnings.warn(f"StandardScaler: {problem}", stacklevel=2)
        self._mean, self._scale = np.where(constant, wide[0], mean), np.where(constant, 1.0, scale)
        return self

    def transform(self, X: ArrayLike) -> NDArray[Any]:
        """`(X - mean) / scale`."""
        mean, scale = self._fitted()
        array = _matrix(X, len(mean))
        return ((array.astype(np.float64) - mean) / scale).astype(_float(array))

    def fit_transform(self, X: ArrayLike) -> NDArray[Any]:
        """`fit(X)`, then `transform(X)`."""
        return self.fit(X).transform(X)

    def inverse_transform(self, X: ArrayLike) -> NDArray[Any]:
        """`X * scale + mean`."""
        mean, scale = self._fitted()
        array = _matrix(X, len(mean))
        return (array.astype(np.float64) * scale + mean).astype(_float(array))

    def state(self) -> dict[str, Any]:
        """What `from_state` needs, as plain values."""
        return {"mean": self.mean.tolist(), "scale": self.scale.tolist()}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The scaler that `state()` describes."""
        scaler = cls()
        scaler._mean, scaler._scale = (np.array(state[key], dtype=np.float64) for key in ("mean", "scale"))
        return scaler

    def _fitted(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        if self._mean is None or self._scale is None:
            raise NotFittedError("StandardScaler: expected a fitted mean and scale, got none. Call fit(X) first.")
        return self._mean, self._scale

    def __repr__(self) -> str:
        if self._mean is None:
            return "StandardScaler(not fitted)"
        return f"StandardScaler({len(self._mean)} columns)"


def _labels(y: ArrayLike | Sequence[Any]) -> NDArray[Any]:
    """Labels of one kind, (n,)."""
    values: Any = y.tolist() if isinstance(y, np.ndarray) and y.dtype == object else y
    array = np.asarray(values)
    if array.ndim != 1:
        raise ShapeError(f"LabelEncoder: expected labels of shape (n,), got {array.shape}. Try y.ravel().")
    if array.dtype.kind not in "Ubiuf":
        raise LabelError(f"LabelEncoder: expected str, int, float or bool labels, got {array.dtype}. Convert them.")
    if array.dtype.kind == "U" and not isinstance(values, np.ndarray):  # NumPy makes [1, "a"] into ["1", "a"]
        for row, value in enumerate(values):
            if not isinstance(value, str):
                got = f"{value!r} in row {row}, beside text"
                raise LabelError(f"LabelEncoder: expected labels of one kind, got {got}. Convert all to str.")
    if array.dtype.kind == "f" and np.isnan(array).any():
        row = int(np.argmax(np.isnan(array)))
        raise LabelError(f"LabelEncoder: expected a label in every row, got nan in row {row}. Remove such rows.")
    return array


def _indices(labels: ArrayLike, classes: int, place: str) -> NDArray[np.int64]:
    """Integers in 0..classes-1, of any shape."""
    array = np.asarray(labels)
    if array.dtype.kind not in "biu":
        fix = "Encode them with LabelEncoder." if array.dtype.kind in "UO" else "Round them with .astype(int)."
        raise LabelError(f"{place}: expected integer labels, got {array.dtype}. {fix}")
    outside = (array < 0) | (array >= classes)
    if outside.any():
        flat = array.ravel()
        row = int(np.argmax(outside.ravel()))
        got = f"{int(outside.sum())} outside, the first {flat[row]} in row {row}"
        one_based = flat.min() == 1 and flat.max() == classes
        fix = "The labels look 1-based: subtract 1." if one_based else "Correct them, or the number of classes."
        raise LabelError(f"{place}: expected labels from 0 to {classes - 1}, got {got}. {fix}")
    return array.astype(np.int64)


def _matrix(X: ArrayLike, columns: int | None = None) -> NDArray[Any]:
    """Numbers, (n, columns)."""
    array = np.asarray(X)
    if array.dtype.kind not in "biuf":
        raise DTypeError(f"StandardScaler: expected numbers, got {array.dtype}. Encode text columns first.")
    if array.ndim != 2:
        fix = "Try X.reshape(-1, 1)." if array.ndim == 1 else "Flatten each row."
        raise ShapeError(f"StandardScaler: expected X of shape (n, columns), got {array.shape}. {fix}")
    if columns is not None and array.shape[1] != columns:
        got = f"{array.shape[1]} in shape {array.shape}"
        raise ShapeError(f"StandardScaler: expected {columns} columns as in fit, got {got}. Pass the same columns.")
    return array


def _float(array: NDArray[Any]) -> np.dtype[Any]:
    """The array's dtype if it is a float, else float64."""
    return array.dtype if array.dtype.kind == "f" else np.dtype(np.float64)


def _some(values: NDArray[Any]) -> str:
    """The first few values, and how many there are."""
    listed = ", ".join(repr(value) for value in values[:10].tolist())
    return listed if len(values) <= 10 else f"{listed}, ... ({len(values)} in all)"
