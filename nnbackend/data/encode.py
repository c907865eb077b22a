"""Labels as indices, and categories as columns of zeros and ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

import numpy as np

from ..errors import DataError, DTypeError, LabelError, NotFittedError, ShapeError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike, NDArray  # costs 15 ms

    Columns = ArrayLike | Sequence[Sequence[Any]] | Mapping[str, ArrayLike | Sequence[Any]]

Unknown = Literal["error", "bucket", "ignore"]


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
        indices, known = _looked_up(labels, classes)
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
        return _to_store(self.classes)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The encoder that `state()` describes."""
        encoder = cls()
        encoder._classes = _stored(state)
        return encoder

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


class OneHotEncoder:
    """Columns of categories (text, whole numbers or bool) as columns of zeros and ones, one for each category.

    Of a category that `fit` did not see `transform` makes an "error", a one in a last column of its feature that is
    there for that ("bucket"), or zeros ("ignore"): never another column, nor another number of columns.
    """

    _categories: dict[str, NDArray[Any]] | None = None

    def __init__(self, unknown: Unknown = "error") -> None:
        if unknown not in get_args(Unknown):
            raise ValueError(f"OneHotEncoder: expected unknown among {get_args(Unknown)}, got {unknown!r}. Choose one.")
        self.unknown = unknown

    @property
    def categories(self) -> dict[str, NDArray[Any]]:
        """The categories of each feature, sorted."""
        if self._categories is None:
            raise NotFittedError("OneHotEncoder: expected fitted categories, got none. Call fit(X) first.")
        return self._categories

    @property
    def names(self) -> list[str]:
        """What the columns of `transform` are called, such as "colour=red"."""
        extra = ["<unknown>"] * (self.unknown == "bucket")
        return [f"{name}={word}" for name, known in self.categories.items() for word in [*known.tolist(), *extra]]

    def fit(self, X: Columns) -> Self:
        """Learn from (n, features), or from columns by name: `{"colour": table["colour"]}`."""
        columns = _columns(X)
        if not columns or not len(next(iter(columns.values()))):
            raise DataError("OneHotEncoder: expected rows and columns, got none. Pass the training data.")
        self._categories = {name: np.unique(labels) for name, labels in columns.items()}
        return self

    def transform(self, X: Columns, dtype: DTypeLike = np.float32) -> NDArray[Any]:
        """(n, len(names)). DataError names the row and the column of an unknown category, and wrong columns."""
        categories, columns = self.categories, _columns(X)
        if columns.keys() != categories.keys():
            got = f"expected the columns {list(categories)}, got {list(columns)}"
            raise DataError(f"OneHotEncoder: {got}. Pass those of fit, by name in any order.")
        return np.hstack([self._one_hot(name, columns[name], known, dtype) for name, known in categories.items()])

    def fit_transform(self, X: Columns, dtype: DTypeLike = np.float32) -> NDArray[Any]:
        """`fit(X)`, then `transform(X)`."""
        return self.fit(X).transform(X, dtype)

    def state(self) -> dict[str, Any]:
        """What `from_state` needs, as plain values."""
        known = {name: _to_store(classes) for name, classes in self.categories.items()}
        return {"unknown": self.unknown, "categories": known}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The encoder that `state()` describes."""
        encoder = cls(state["unknown"])
        encoder._categories = {name: _stored(known) for name, known in state["categories"].items()}
        return encoder

    def _one_hot(self, name: str, labels: NDArray[Any], known: NDArray[Any], dtype: DTypeLike) -> NDArray[Any]:
        """The columns of one feature."""
        places, found = _looked_up(labels, known)
        if self.unknown == "error" and not found.all():
            row = int(np.argmin(found))
            problem = f"expected one of {_some(known)}, got {labels[row].item()!r} in row {row}, column {name!r}"
            fix = "Correct it, or make the encoder with unknown='bucket' or 'ignore'."
            raise DataError(f"OneHotEncoder: {problem}. {fix}", row=row, column=name)
        places[~found] = len(known)
        rows = one_hot(places, len(known) + 1, dtype)
        return rows if self.unknown == "bucket" else rows[:, :-1]

    def __repr__(self) -> str:
        if self._categories is None:
            return "OneHotEncoder(not fitted)"
        return f"OneHotEncoder({len(self._categories)} columns to {len(self.names)})"


def _columns(X: Columns) -> dict[str, NDArray[Any]]:
    """Columns of labels by name, or by number, of one length."""
    if not isinstance(X, Mapping):
        array = X if isinstance(X, np.ndarray) else np.array(X, dtype=object)  # which leaves numbers beside text alone
        if array.ndim != 2:
            fix = "Try X.reshape(-1, 1), or pass columns by name in a dict."
            raise ShapeError(f"OneHotEncoder: expected X of shape (n, features), got {array.shape}. {fix}")
        X = {str(i): array[:, i] for i in range(array.shape[1])}
    columns = {name: _labels(column, f"OneHotEncoder, column {name!r}") for name, column in X.items()}
    if len(lengths := {len(labels) for labels in columns.values()}) > 1:
        raise ShapeError(f"OneHotEncoder: expected columns of one length, got {sorted(lengths)}. Pass the same rows.")
    return columns


def _looked_up(labels: NDArray[Any], classes: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The place of each label among sorted classes, and whether it is there at all."""
    if (labels.dtype.kind == "U") != (classes.dtype.kind == "U"):
        return np.zeros(labels.shape, np.int64), np.zeros(labels.shape, np.bool_)
    places = np.minimum(np.searchsorted(classes, labels), len(classes) - 1).astype(np.int64)
    return places, np.asarray(classes[places] == labels)


def _to_store(classes: NDArray[Any]) -> dict[str, Any]:
    """Classes as plain values."""
    return {"classes": classes.tolist(), "dtype": classes.dtype.str}


def _stored(state: Mapping[str, Any]) -> NDArray[Any]:
    """The classes in a state."""
    labels = np.asarray(state["classes"])
    return LabelEncoder().fit(labels if labels.dtype.kind == "U" else labels.astype(state["dtype"])).classes


def unmasked(X: Any, place: str) -> NDArray[Any]:
    """As an array. DTypeError for a masked one, whose mask would be lost."""
    if isinstance(X, np.ma.MaskedArray):
        raise DTypeError(f"{place}: expected a plain array, got a masked one. Fill it with .filled(...) first.")
    return np.asarray(X)


def _labels(y: ArrayLike | Sequence[Any], place: str = "LabelEncoder") -> NDArray[Any]:
    """Labels of one kind, (n,)."""
    values: Any = y if isinstance(y, list | tuple) else unmasked(y, place)
    if isinstance(values, np.ndarray) and values.dtype == object:
        values = values.tolist()
    array = unmasked(values, place)
    if array.ndim != 1:
        raise ShapeError(f"{place}: expected labels of shape (n,), got {array.shape}. Try y.ravel().")
    if array.dtype.kind not in "Ubiuf":
        raise LabelError(f"{place}: expected str, int, float or bool labels, got {array.dtype}. Convert them.")
    if array.dtype.kind == "U" and not isinstance(values, np.ndarray):  # NumPy makes [1, "a"] into ["1", "a"]
        for row, value in enumerate(values):
            if not isinstance(value, str):
                got = f"{value!r} in row {row}, beside text"
                raise LabelError(f"{place}: expected labels of one kind, got {got}. Convert all to str.")
    if array.dtype.kind == "f" and np.isnan(array).any():
        row = int(np.argmax(np.isnan(array)))
        raise LabelError(f"{place}: expected a label in every row, got nan in row {row}. Remove such rows.")
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


def _some(values: NDArray[Any]) -> str:
    """The first few values, and how many there are."""
    listed = ", ".join(repr(value) for value in values[:10].tolist())
    return listed if len(values) <= 10 else f"{listed}, ... ({len(values)} in all)"
