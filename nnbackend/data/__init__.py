"""Tables, encoders, splits, loaders and data sets."""

from .csv import Table, read_csv
from .csv_loader import CSVLoader
from .datasets import Dataset, digits, iris, iris_csv, moons, spirals, xor
from .encode import LabelEncoder, OneHotEncoder, one_hot
from .images import fashion_mnist, mnist_5k
from .loader import DataLoader
from .scale import MinMaxScaler, StandardScaler
from .split import split

__all__ = [
    "CSVLoader",
    "DataLoader",
    "Dataset",
    "LabelEncoder",
    "MinMaxScaler",
    "OneHotEncoder",
    "StandardScaler",
    "Table",
    "digits",
    "fashion_mnist",
    "iris",
    "iris_csv",
    "mnist_5k",
    "moons",
    "one_hot",
    "read_csv",
    "spirals",
    "split",
    "xor",
]
