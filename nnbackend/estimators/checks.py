"""What people hand to an estimator, checked in scikit-learn's words, whether or not it is installed."""

from __future__ import annotations

import warnings
from operator import index
from typing import Any

import numpy as np

from ..backend import is_array, namespace, to_host
from ..errors import DataError, DTypeError, ShapeError
from ..tensor import Tensor

KINDS = "biuf"  # dtypes that are numbers


def inputs(X: Any, estimator: str, two_d: bool = True) -> Any:
    """Features in their own array library and device, as float32 if they are that, else as float64.

    Lists, frames and other things with `__array__` become NumPy arrays. ShapeError, DTypeError or DataError says what
    is wrong, and in which row and column.
    """
    x = _array(X, "X")
    if x.ndim < 2:
        got = f"{x.ndim}D" if x.ndim else "scalar"
        raise ShapeError(
            f"Expected 2D array, got {got} array instead:\narray={x}.\nReshape your data either using "
            "array.reshape(-1, 1) if your data has a single feature or array.reshape(1, -1) if it contains a single "
            "sample."
        )
    if two_d and x.ndim > 2:
        raise ShapeError(f"Found array with dim {x.ndim}, while dim <= 2 is required by {estimator}.")
    for axis, what in enumerate(("sample", "feature")):
        if not x.shape[axis]:
            shape = tuple(x.shape)
            raise DataError(
                f"Found array with 0 {what}(s) (shape={shape}) while a minimum of 1 is required by {estimator}."
            )
    x = _numbers(x, "X")
    _finite(x, "X", estimator)
    return x


def column_names(X: Any) -> Any:
    """The names of a frame's columns, if they are text; None for what has no names. TypeError for a mixture."""
    columns = getattr(X, "columns", None)
    if columns is None or isinstance(X, dict):
        return None
    names = np.asarray(list(columns), dtype=object)
    text = [isinstance(name, str) for name in names]
    if any(text) and not all(text):
        kinds = sorted({type(name).__name__ for name in names})
        raise TypeError(
            f"Feature names are only supported if all input features have string names, but your input has {kinds} as "
            "feature name / column name types. If you want feature names to be stored and validated, you must convert "
            "them all to strings, by using X.columns = X.columns.astype(str) for example. Otherwise you can remove "
            "feature / column names from your input data, or convert them all to a non-string data type."
        )
    return names if len(names) and all(text) else None


def check_names(X: Any, seen: Any, estimator: str) -> None:
    """ValueError for a frame whose columns are not those `seen` in `fit`, in their order."""
    now = column_names(X)
    if now is not None and seen is None:
        warnings.warn(f"X has feature names, but {estimator} was fitted without feature names", stacklevel=3)
    elif now is None and seen is not None:
        text = f"X does not have valid feature names, but {estimator} was fitted with feature names"
        warnings.warn(text, stacklevel=3)
    elif now is not None and list(now) != list(seen):
        raise ValueError("The feature names should match those that were passed during fit.\n" + _compared(seen, now))


def check_number(x: Any, seen: int, estimator: str) -> None:
    """ShapeError unless there are as many features as were `seen` in `fit`."""
    if x.shape[1] != seen:
        raise ShapeError(f"X has {x.shape[1]} features, but {estimator} is expecting {seen} features as input.")


def _compared(seen: Any, now: Any) -> str:
    lines = []
    for what, names in (
        ("unseen at fit time", sorted({*now} - {*seen})),
        ("seen at fit time, yet now missing", sorted(set(seen) - set(now))),
    ):
        if names:
            more = ["- ...\n"] if len(names) > 5 else []
            lines += [f"Feature names {what}:\n", *(f"- {name}\n" for name in names[:5]), *more]
    return "".join(lines) or "Feature names must be in the same order as they were in fit.\n"


def targets(y: Any, rows: int, estimator: str) -> Any:
    """Targets on the host, (rows,) or (rows, outputs), of any dtype but complex; a column comes as it is."""
    if y is None:
        raise DataError(
            f"This {estimator} estimator requires y to be passed, but the target y is None. Call fit(X, y)."
        )
    array = _array(_on_host(y), "y")
    if array.ndim not in (1, 2):
        raise ShapeError(f"y should be a 1d or 2d array, got an array of shape {array.shape} instead.")
    if len(array) != rows:
        raise ShapeError(f"Found input variables with inconsistent numbers of samples: [{rows}, {len(array)}]")
    if array.dtype.kind == "f":
        _finite(array, "y", estimator)
    elif array.dtype.kind == "O" and (missing := [i for i, v in enumerate(array.flat) if _is_missing(v)]):
        row = missing[0] // (array.size // len(array))
        raise DataError(f"Input y contains NaN: {len(missing)} missing values (first: row {row}).", row=row)
    return array


def whole(name: str, value: Any, more: str = "", least: int = 1) -> int:
    """A setting that is a whole number, or one of some `more` that was looked at before; ValueError if not."""
    try:
        number = index(value)
    except TypeError:
        number = least - 1
    if number < least:
        raise ValueError(f"{name}: expected a whole number >= {least}{more}, got {value!r}.")
    return number


def amounts(y: Any) -> Any:
    """Targets of a regression as floats."""
    return _numbers(y, "y")


def weights(sample_weight: Any, rows: int) -> Any:
    """One weight a row as float64 on the host, at least one above 0; None stays None."""
    if sample_weight is None:
        return None
    w = np.asarray(_numbers(_array(_on_host(sample_weight), "sample_weight"), "sample_weight"), dtype=np.float64)
    w = np.full(rows, w) if w.ndim == 0 else w
    if w.ndim != 1:
        raise ShapeError(f"Sample weights must be 1D array or scalar, got {w.ndim}D array.")
    if len(w) != rows:
        raise ShapeError(f"sample_weight.shape == {w.shape}, expected {(rows,)}!")
    if not np.isfinite(w).all() or (w < 0).any():
        row = int(np.argmin(np.isfinite(w) & (w >= 0)))
        raise DataError(f"sample_weight: expected finite numbers >= 0, got {w[row]} in row {row}.", row=row)
    if not w.any():
        raise DataError("Sample weights must contain at least one non-zero number.")
    return w


def _on_host(data: Any) -> Any:
    """Arrays of other libraries as NumPy's; anything else as it is."""
    if isinstance(data, np.ndarray) or not is_array(data):
        return data
    return to_host(data.data if isinstance(data, Tensor) else data)


def _array(data: Any, name: str) -> Any:
    """An array of some library, sharing memory where it can."""
    if isinstance(data, Tensor):
        data = data.data
    if hasattr(data, "tocsr") and hasattr(data, "toarray"):
        raise DTypeError(
            f"Sparse data was passed for {name}, but dense data is required. Use '.toarray()' to convert to a dense "
            "numpy array."
        )
    if isinstance(data, np.ma.MaskedArray):
        if np.ma.getmaskarray(data).any():
            count = int(np.ma.getmaskarray(data).sum())
            raise DTypeError(f"{name}: expected no masked values, got {count}. Fill them with {name}.filled(value).")
        data = data.data
    if isinstance(data, np.matrix):
        raise DTypeError("np.matrix is not supported. Please convert to a numpy array with np.asarray.")
    if not is_array(data) or isinstance(data, np.ndarray):
        try:
            data = np.asarray(data)
        except ValueError as error:
            raise DataError(f"{name}: expected rows of one length, got a ragged list ({error}).") from error
    if data.dtype.kind == "c" if isinstance(data, np.ndarray) else "complex" in str(data.dtype):
        raise DataError(f"Complex data not supported\n{name}: expected real numbers, got {data.dtype}.")
    return data


def _numbers(x: Any, name: str) -> Any:
    """The same values as float32 or float64, row by row in the machine's byte order."""
    xp = namespace(x)
    if not isinstance(x, np.ndarray):
        return x if x.dtype in (xp.float32, xp.float64) else xp.astype(x, xp.float64)
    if x.dtype.kind == "O":
        return _of_objects(x, name)
    if x.dtype.kind not in KINDS:
        raise DTypeError(f"{name}: expected numbers, got dtype {x.dtype}. Convert or encode them first.")
    wanted = np.float32 if x.dtype.kind == "f" and x.dtype.itemsize == 4 else np.float64
    return x.astype(wanted, order="C", copy=False)  # sums in one order, whatever the layout


def _of_objects(x: Any, name: str) -> Any:
    """DTypeError names the first that is no number."""
    values = np.empty(x.size)
    for i, value in enumerate(x.flat):
        try:
            if isinstance(value, str | bytes):
                raise TypeError(f"could not convert string to float: {value!r}")
            values[i] = np.nan if _is_missing(value) else float(value)
        except (TypeError, ValueError) as error:
            row, column = divmod(i, max(1, x.size // len(x)) if x.ndim else 1)
            raise DTypeError(
                f"{name}: expected numbers, got {value!r} in row {row}, column {column} ({error}). Encode it first."
            ) from error
    return values.reshape(x.shape)


def _is_missing(value: Any) -> bool:
    """None, NaN, or pandas' NaT and NA."""
    try:
        return value is None or bool(value != value)
    except TypeError:  # NA does not say
        return True


def _finite(x: Any, name: str, estimator: str) -> None:
    xp = namespace(x)
    if bool(xp.all(xp.isfinite(x))):
        return
    host = to_host(x).reshape(x.shape[0], -1)
    bad = ~np.isfinite(host)
    row, column = (int(i) for i in np.argwhere(bad)[0])
    what = "NaN" if np.isnan(host[bad]).any() else f"infinity or a value too large for dtype({str(host.dtype)!r})"
    where = f"row {row}, column {column}" if x.ndim > 1 else f"row {row}"
    raise DataError(
        f"Input {name} contains {what}.\n{estimator} expects finite numbers, got {int(bad.sum())} that are not "
        f"(first: {where}). Drop those rows or fill them in.",
        row=row,
        column=column if x.ndim > 1 else None,
    )
