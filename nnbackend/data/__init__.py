"""Tables, encoders, splits, loaders and bundled data sets."""

from .csv import Table, read_csv
from .datasets import Dataset, digits, iris, iris_csv, xor
from .encode import LabelEncoder, StandardScaler, one_hot
from .loader import DataLoader
from .split import split

__all__ = [
    "DataLoader",
    "Dataset",
    "LabelEncoder",
    "StandardScaler",
    "Table",
    "digits",
    "iris",
    "iris_csv",
    "one_hot",
    "read_csv",
    "split",
    "xor",
]
