"""Small data sets that come with the library: nothing is downloaded."""

from __future__ import annotations

import csv
import os
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray  # costs 15 ms

FILES = os.path.join(os.path.dirname(__file__), "files")

IRIS = """Iris: length and width of sepal and petal, in cm, of 150 flowers, 50 of each of three species.
R. A. Fisher, The use of multiple measurements in taxonomic problems, Annals of Eugenics 7 (1936), 179-188.
The values are Fisher's, as in scikit-learn; the copy at UCI and its descendants differ in flowers 35 and 38."""

DIGITS = """Digits: 1,797 handwritten digits as 8 x 8 pixels from 0 (white) to 16 (black), row by row.
The test set of E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning
Repository (1998), https://doi.org/10.24432/C50P49, licence CC BY 4.0; stored here as bytes, values unchanged."""


class Dataset(NamedTuple):
    """Features `X` (n, features), class numbers `y` (n,), and what they mean."""

    X: NDArray[np.floating[Any]]
    y: NDArray[np.int64]
    feature_names: tuple[str, ...]
    class_names: tuple[str, ...]
    description: str

    def __repr__(self) -> str:
        rows, features = self.X.shape
        return f"Dataset({rows} rows, {features} features, {len(self.class_names)} classes)\n{self.description}"


def iris() -> Dataset:
    """Three species of iris by four lengths: X (150, 4) in cm, y (150,)."""
    with open(iris_csv(), encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    X = np.array([row[1:5] for row in rows]).astype(np.float64)
    species, y = np.unique([row[5] for row in rows], return_inverse=True)
    return Dataset(X, y.astype(np.int64), tuple(header[1:5]), tuple(species.tolist()), IRIS)


def iris_csv() -> str:
    """The file behind `iris()`, for `read_csv`: an Id, four lengths, Species."""
    return os.path.join(FILES, "iris.csv")


def digits() -> Dataset:
    """Handwritten digits of 8 x 8 pixels: X (1797, 64) from 0 to 16, y (1797,)."""
    with np.load(os.path.join(FILES, "digits.npz"), allow_pickle=False) as arrays:
        X, y = arrays["X"].astype(np.float64), arrays["y"].astype(np.int64)
    return Dataset(X, y, pixels(8), tuple("0123456789"), DIGITS)


def pixels(side: int) -> tuple[str, ...]:
    """The names of the pixels of a square image, row by row."""
    return tuple(f"pixel_{row}_{column}" for row in range(side) for column in range(side))


def xor() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Exclusive or: X (4, 2), y (4, 1), in the order 00, 01, 10, 11."""
    return np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]), np.array([[0.0], [1.0], [1.0], [0.0]])


def moons(n: int = 200, noise: float = 0.1, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Two half circles that reach into each other: X (n, 2), y (n,) of 0 and 1; `noise` is a standard deviation."""
    _check(n, 2, noise)
    y = np.arange(n) % 2
    random = np.random.default_rng(seed)
    angle = random.uniform(0, np.pi, n)
    upper = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    X = np.where(y[:, None] == 0, upper, [1.0, 0.5] - upper)
    return X + random.normal(0, noise, (n, 2)), y.astype(np.int64)


def spirals(
    n: int = 300, classes: int = 3, noise: float = 0.02, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """One arm of a spiral for each class, in the unit circle: X (n, 2), y (n,); `noise` is a standard deviation."""
    _check(n, classes, noise)
    y = np.arange(n) % classes
    random = np.random.default_rng(seed)
    radius = np.sqrt(random.uniform(0.01, 1, n))
    angle = 1.5 * np.pi * radius + 2 * np.pi * y / classes
    X = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return X + random.normal(0, noise, (n, 2)), y.astype(np.int64)


def _check(n: int, classes: int, noise: float) -> None:
    if not n >= classes >= 1 or not noise >= 0:
        raise ValueError(f"expected n >= classes >= 1 and noise >= 0, got {n}, {classes} and {noise}.")
