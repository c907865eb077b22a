"""Replaying on NumPy: a program is shortened (`lower`), ordered (`schedule`), laid out (`memory`), said in `calls`."""

from .replay import Replay

__all__ = ["Replay"]
