"""Features scaled column by column: to mean 0 and standard deviation 1, or from 0 to 1."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from ..errors import DataError, DTypeError, NotFittedError, ShapeError
from .encode import unmasked

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray  # costs 15 ms

BLOCK = 1 << 19  # numbers that are looked at together: data may be a file that is larger than memory


class _Statistics(NamedTuple):
    """What is known of rows: of each column the least, the largest, the mean, and the sum of squares around it."""

    rows: int
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    mean: NDArray[np.float64]
    squares: NDArray[np.float64]

    @classmethod
    def of(cls, block: NDArray[np.float64]) -> Self:
        mean = block.mean(axis=0)
        return cls(len(block), block.min(axis=0), block.max(axis=0), mean, ((block - mean) ** 2).sum(axis=0))

    def merged(self, other: Self) -> Self:
        """Those of both, without loss (Chan, Golub and LeVeque, 1979, Updating formulae ... sample variances)."""
        rows, apart = self.rows + other.rows, other.mean - self.mean
        return type(self)(
            rows,
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
            self.mean + apart * (other.rows / rows),
            self.squares + other.squares + apart**2 * (self.rows * other.rows / rows),
        )


class _Scaler(ABC):
    """`(X - shift) / scale` of each column."""

    _name = "shift"  # of what is subtracted
    _seen: _Statistics | None = None
    _shift: NDArray[np.float64] | None = None
    _scale: NDArray[np.float64] | None = None

    @property
    def scale(self) -> NDArray[np.float64]:
        """What is divided by, one for each column."""
        return self._fitted()[1]

    def fit(self, X: ArrayLike, names: Sequence[str] | None = None) -> Self:
        """Learn from (n, columns); a constant column gets scale 1 and a warning, which calls columns by `names`."""
        names = _names(X, names)
        seen = self._statistics(_matrix(X, self._place), names)
        self._learn(seen)
        constant = np.flatnonzero(seen.low == seen.high)
        if constant.size:
            got = f"constant ones: {_called(constant, names)}. They become 0; consider leaving them out."
            warnings.warn(f"{self._place}: expected columns that vary, got {got}", stacklevel=2)
        return self

    def partial_fit(self, X: ArrayLike, names: Sequence[str] | None = None) -> Self:
        """Learn from these rows and all before, as if they had come together; no warning, as more may come."""
        if self._shift is None:
            self._learn(self._statistics(_matrix(X, self._place), _names(X, names)))
        elif self._seen is None:
            raise NotFittedError(f"{self._place}: expected statistics to go on from, got an old file's. Call fit(X).")
        else:
            new = self._statistics(_matrix(X, self._place, len(self._shift)), _names(X, names))
            self._learn(self._seen.merged(new))
        return self

    def transform(self, X: ArrayLike) -> NDArray[Any]:
        """`(X - shift) / scale`."""
        shift, scale = self._fitted()
        return self._mapped(X, lambda block: (block - shift) / scale)

    def fit_transform(self, X: ArrayLike, names: Sequence[str] | None = None) -> NDArray[Any]:
        """`fit(X)`, then `transform(X)`."""
        return self.fit(X, names).transform(X)

    def inverse_transform(self, X: ArrayLike) -> NDArray[Any]:
        """`X * scale + shift`."""
        shift, scale = self._fitted()
        return self._mapped(X, lambda block: block * scale + shift)

    def state(self) -> dict[str, Any]:
        """What `from_state` needs, as plain values."""
        shift, scale = self._fitted()
        seen = None if self._seen is None else [self._seen.rows, *(part.tolist() for part in self._seen[1:])]
        return {self._name: shift.tolist(), "scale": scale.tolist(), "seen": seen}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The scaler that `state()` describes."""
        scaler = cls()
        scaler._shift, scaler._scale = _floats(state[cls._name]), _floats(state["scale"])
        if state.get("seen") is not None:  # old files have the result alone
            rows, *parts = state["seen"]
            scaler._seen = _Statistics(int(rows), *map(_floats, parts))
        return scaler

    @abstractmethod
    def _of(self, seen: _Statistics) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Shift and scale; scale is 0 where all values are the same."""

    def _learn(self, seen: _Statistics) -> None:
        shift, scale = self._of(seen)
        constant = (seen.low == seen.high) | (scale == 0)
        self._seen = seen
        self._shift, self._scale = np.where(constant, seen.low, shift), np.where(constant, 1.0, scale)

    def _statistics(self, array: NDArray[Any], names: Sequence[str] | None) -> _Statistics:
        """Of (n, columns), which must be finite."""
        seen = None
        for start, block in _blocks(array):
            if not np.isfinite(block).all():
                row, column = map(int, np.argwhere(~np.isfinite(block))[0])
                place = f"row {start + row}, column {_called([column], names)}"
                problem = f"expected finite numbers, got {block[row, column]} in {place}"
                fix = "Remove or fill the missing values."
                raise DataError(f"{self._place}: {problem}. {fix}", row=start + row, column=column)
            new = _Statistics.of(block)
            seen = new if seen is None else seen.merged(new)
        if seen is None:
            raise DataError(f"{self._place}: expected rows, got none. Pass the training data.")
        return seen

    def _mapped(self, X: ArrayLike, change: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> NDArray[Any]:
        """What becomes of all rows."""
        array = _matrix(X, self._place, len(self._fitted()[0]))
        result = np.empty(array.shape, array.dtype if array.dtype.kind == "f" else np.float64)
        for start, block in _blocks(array):
            result[start : start + len(block)] = change(block)
        return result

    def _fitted(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        if self._shift is None or self._scale is None:
            raise NotFittedError(
                f"{self._place}: expected a fitted {self._name} and scale, got none. Call fit(X) first."
            )
        return self._shift, self._scale

    @property
    def _place(self) -> str:
        return type(self).__name__

    def __repr__(self) -> str:
        return f"{self._place}({'not fitted' if self._shift is None else f'{len(self._shift)} columns'})"


class StandardScaler(_Scaler):
    """Columns to mean 0 and standard deviation 1, as learnt by `fit`, and back.

    Data is read in blocks and never copied whole; the statistics and the arithmetic are float64. Results have the
    input's float dtype, integers give float64.
    """

    _name = "mean"

    @property
    def mean(self) -> NDArray[np.float64]:
        """What is subtracted, one for each column."""
        return self._fitted()[0]

    def _of(self, seen: _Statistics) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return seen.mean, np.sqrt(seen.squares / seen.rows)


class MinMaxScaler(_Scaler):
    """Columns to between 0, their least value, and 1, their largest, as learnt by `fit`, and back.

    Data is read in blocks and never copied whole; the statistics and the arithmetic are float64. Results have the
    input's float dtype, integers give float64.
    """

    _name = "minimum"

    @property
    def minimum(self) -> NDArray[np.float64]:
        """What is subtracted, one for each column."""
        return self._fitted()[0]

    def _of(self, seen: _Statistics) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return seen.low, seen.high - seen.low


def _matrix(X: ArrayLike, place: str, columns: int | None = None) -> NDArray[Any]:
    """Numbers, (n, columns)."""
    array = unmasked(X, place)
    if array.dtype.kind not in "biuf":
        raise DTypeError(f"{place}: expected numbers, got {array.dtype}. Encode text columns first.")
    if array.ndim != 2:
        fix = "Try X.reshape(-1, 1)." if array.ndim == 1 else "Flatten each row."
        raise ShapeError(f"{place}: expected X of shape (n, columns), got {array.shape}. {fix}")
    if columns is not None and array.shape[1] != columns:
        got = f"{array.shape[1]} in shape {array.shape}"
        raise ShapeError(f"{place}: expected {columns} columns as in fit, got {got}. Pass the same columns.")
    return array


def _blocks(array: NDArray[Any]) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Rows in float64, some at a time, each with the number of its first."""
    rows = max(1, BLOCK // max(1, array.shape[1]))
    for start in range(0, len(array), rows):
        yield start, array[start : start + rows].astype(np.float64)


def _names(X: Any, names: Sequence[str] | None) -> Sequence[str] | None:
    """Those given, or a data frame's."""
    return getattr(X, "columns", None) if names is None else names


def _called(columns: Iterable[int], names: Sequence[str] | None) -> str:
    """Columns as people call them."""
    return ", ".join(str(i) if names is None else repr(str(names[i])) for i in columns)


def _floats(values: Any) -> NDArray[np.float64]:
    return np.array(values, dtype=np.float64)
