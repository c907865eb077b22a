"""Tables, encoders, splits, loaders and data sets."""

from .csv import Table, read_csv
from .datasets import Dataset, digits, iris, iris_csv, xor
from .encode import LabelEncoder, StandardScaler, one_hot
from .images import fashion_mnist, mnist_5k
from .loader import DataLoader
from .split import split

__all__ = [
    "DataLoader",
    "Dataset",
    "LabelEncoder",
    "StandardScaler",
    "Table",
    "digits",
    "fashion_mnist",
    "iris",
    "iris_csv",
    "mnist_5k",
    "one_hot",
    "read_csv",
    "split",
    "xor",
]
