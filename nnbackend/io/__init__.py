"""Files: models as safetensors, programs as plain NumPy; written whole or not at all."""

from .model import load, save, weights
from .source import to_source

__all__ = ["load", "save", "to_source", "weights"]
