"""Files: weights as safetensors, written whole or not at all."""

from .model import load, save

__all__ = ["load", "save"]
