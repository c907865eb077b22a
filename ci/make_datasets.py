"""Write the bundled data sets from scikit-learn's copies: `python ci/make_datasets.py [folder]`."""

import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits, load_iris

HEADER = "Id,SepalLengthCm,SepalWidthCm,PetalLengthCm,PetalWidthCm,Species"


def main(folder: Path) -> None:
    iris = load_iris()
    rows = [
        ",".join([str(i), *(f"{x:.1f}" for x in row), f"Iris-{iris.target_names[label]}"])
        for i, (row, label) in enumerate(zip(iris.data, iris.target, strict=True), 1)
    ]
    (folder / "iris.csv").write_bytes("\n".join([HEADER, *rows, ""]).encode())
    X, y = load_digits(return_X_y=True)
    np.savez_compressed(folder / "digits.npz", X=X.astype(np.uint8), y=y.astype(np.uint8))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).parents[1] / "nnbackend" / "data" / "files")
