"""Rows split at random into training, validation and test parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataError, ShapeError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray  # costs 15 ms


def split(
    *arrays: Any,
    test: float = 0.15,
    validation: float = 0.0,
    stratify: ArrayLike | Sequence[Any] | None = None,
    seed: int = 0,
) -> tuple[tuple[Any, ...], ...]:
    """Shuffle the rows of arrays or lists and split them: `(X_train, y_train), (X_test, y_test)`.

    With `validation`, its part is between these. Fractions are of the whole, rounded, at least one row each.
    `stratify=y` keeps the proportions of the classes; a class with a row for every part is in every part,
    which may move a few rows from the largest. `ShapeError` for unequal lengths, `DataError` for too few rows.
    """
    if not 0 < test < 1:
        raise ValueError(f"split: expected test between 0 and 1, got {test}. Pass a fraction such as 0.15.")
    if not 0 <= validation < 1:
        raise ValueError(f"split: expected validation from 0 to below 1, got {validation}. Pass a fraction, or 0.")
    if test + validation >= 1:
        total = test + validation
        raise ValueError(f"split: expected test + validation below 1, got {total}. Leave rows for training.")
    n = _rows(arrays)
    fractions = [validation, test] if validation else [test]
    if n < len(fractions) + 1:
        raise DataError(f"split: expected a row for each of {len(fractions) + 1} parts, got {n}. Add data.")
    classes = np.zeros(n, np.intp) if stratify is None else _classes(stratify, n)
    random = np.random.default_rng(seed)
    counts = _counts(np.bincount(classes), _sizes(n, fractions), random)
    order = random.permutation(n)
    by_class = np.argsort(classes[order], kind="stable")
    part = np.empty(n, np.intp)
    part[by_class] = np.repeat(np.tile(np.arange(counts.shape[1]), len(counts)), counts.ravel())
    parts = [order[part == p] for p in range(counts.shape[1])]
    return tuple(tuple(_take(array, rows) for array in arrays) for rows in parts)


def _rows(arrays: tuple[Any, ...]) -> int:
    """The number of rows that all arrays have."""
    if not arrays:
        raise ValueError("split: expected arrays, got none. Call split(X, y).")
    for array in arrays:
        if not isinstance(array, list | tuple) and not hasattr(array, "__array_namespace__"):
            raise TypeError(f"split: expected arrays or lists, got {type(array).__name__}. Convert it with np.asarray.")
        if getattr(array, "shape", None) == ():
            raise ShapeError("split: expected arrays with rows, got one of shape (). Pass one value for each row.")
    lengths = [len(array) for array in arrays]
    if len(set(lengths)) > 1:
        got = ", ".join(map(str, lengths))
        raise ShapeError(f"split: expected arrays of the same length, got {got}. Pass the same rows in each.")
    return lengths[0]


def _classes(stratify: ArrayLike | Sequence[Any], n: int) -> NDArray[np.intp]:
    """A class number for each row."""
    labels = np.asarray(stratify)
    if labels.shape != (n,):
        fix = "Pass one label for each row (for one-hot labels, y.argmax(axis=1))."
        raise ShapeError(f"split: expected stratify of shape ({n},), got {labels.shape}. {fix}")
    return np.unique(labels, return_inverse=True)[1]


def _sizes(n: int, fractions: list[float]) -> NDArray[np.intp]:
    """Rows in each part, training first: halves rounded up, no part empty."""
    held_out = [int(n * fraction + 0.5) for fraction in fractions]
    sizes = np.array([n - sum(held_out), *held_out])
    while sizes.min() < 1:
        sizes[sizes.argmax()] -= 1
        sizes[sizes.argmin()] += 1
    return sizes


def _counts(members: NDArray[np.intp], sizes: NDArray[np.intp], random: np.random.Generator) -> NDArray[np.intp]:
    """Rows of each class in each part, (classes, parts), by largest remainder, ties at random.

    Rows sum to `members`; columns sum to `sizes`, but for classes that would else be missing in a part.
    """
    counts, remainders = np.divmod(np.outer(members, sizes), members.sum())
    largest = np.lexsort((random.random(counts.size), -remainders.ravel()))
    while (left := members - counts.sum(axis=1)).any():
        room = sizes - counts.sum(axis=0)
        for label, part in zip(*np.unravel_index(largest, counts.shape), strict=True):
            if left[label] and room[part]:
                counts[label, part] += 1
                left[label] -= 1
                room[part] -= 1
    for label, part in np.argwhere((counts == 0) & (members >= len(sizes))[:, None]):
        counts[label, counts[label].argmax()] -= 1
        counts[label, part] += 1
    return counts


def _take(array: Any, rows: NDArray[np.intp]) -> Any:
    """Rows of an array, or of a list as a list."""
    return [array[i] for i in rows] if isinstance(array, list | tuple) else array[rows]
