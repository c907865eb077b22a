import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nnbackend.data import digits, iris, iris_csv, read_csv, xor

GENERATOR = Path(__file__).parents[1] / "ci" / "make_datasets.py"


def test_iris_is_fishers():
    data = iris()
    assert (data.X.shape, data.X.dtype, data.y.dtype) == ((150, 4), np.float64, np.int64)
    assert data.feature_names == ("SepalLengthCm", "SepalWidthCm", "PetalLengthCm", "PetalWidthCm")
    assert data.class_names == ("Iris-setosa", "Iris-versicolor", "Iris-virginica")
    np.testing.assert_array_equal(data.y, np.repeat([0, 1, 2], 50))
    np.testing.assert_allclose(data.X.sum(axis=0), [876.5, 458.6, 563.7, 179.9])
    np.testing.assert_array_equal(data.X[[34, 37]], [[4.9, 3.1, 1.5, 0.2], [4.9, 3.6, 1.4, 0.1]])  # wrong at UCI
    assert "Fisher" in data.description
    assert repr(data).startswith("Dataset(150 rows, 4 features, 3 classes)\nIris")


def test_iris_csv_is_the_same_data():
    data, table = iris(), read_csv(iris_csv())
    assert table.names == ["Id", *data.feature_names, "Species"]
    np.testing.assert_array_equal(table.matrix(data.feature_names), data.X)
    np.testing.assert_array_equal(table["Species"], np.array(data.class_names)[data.y])
    np.testing.assert_array_equal(table["Id"], np.arange(1, 151))


def test_digits():
    data = digits()
    assert (data.X.shape, data.X.dtype, data.y.dtype) == ((1797, 64), np.float64, np.int64)
    assert (data.X.min(), data.X.max(), data.X.sum()) == (0, 16, 561718)
    assert np.bincount(data.y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert data.class_names == tuple("0123456789")
    assert (len(data.feature_names), data.feature_names[9]) == (64, "pixel_1_1")
    assert "CC BY 4.0" in data.description
    assert data.X[0].reshape(8, 8)[0].tolist() == [0, 0, 5, 13, 9, 1, 0, 0]


def test_xor():
    X, y = xor()
    assert X.dtype == y.dtype == np.float64
    assert X.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert y.tolist() == [[0], [1], [1], [0]]


@pytest.mark.parametrize("load", [iris, digits])
def test_each_call_gives_fresh_arrays_in_a_frozen_set(load):
    first = load()
    before = first.X.copy()
    first.X[:] = -1
    first.y[:] = -1
    second = load()
    np.testing.assert_array_equal(second.X, before)
    assert second.y.min() == 0
    with pytest.raises(AttributeError):
        second.X = before


def test_xor_gives_fresh_arrays():
    xor()[0][:] = 7
    xor()[1][:] = 7
    assert (xor()[0].max(), xor()[1].max()) == (1, 1)


def test_they_load_from_anywhere(tmp_path):
    code = "from nnbackend.data import digits, iris; assert len(iris().y) + len(digits().y) == 1947"
    path = f"import sys; sys.path.insert(0, {str(GENERATOR.parents[1])!r}); "
    subprocess.run([sys.executable, "-W", "error", "-c", path + code], cwd=tmp_path, check=True)


def test_the_files_are_small_and_as_the_generator_writes_them(tmp_path):
    files = Path(iris_csv()).parent
    assert sorted(file.name for file in files.iterdir()) == ["digits.npz", "iris.csv"]
    assert (files / "digits.npz").stat().st_size < 80_000
    datasets = pytest.importorskip("sklearn.datasets")
    runpy.run_path(str(GENERATOR))["main"](tmp_path)
    assert (tmp_path / "iris.csv").read_bytes() == Path(iris_csv()).read_bytes()
    with np.load(tmp_path / "digits.npz") as new:
        np.testing.assert_array_equal(new["X"], digits().X)
        np.testing.assert_array_equal(new["y"], digits().y)
    np.testing.assert_array_equal(datasets.load_iris().data, iris().X)
