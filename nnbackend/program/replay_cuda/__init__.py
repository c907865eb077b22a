"""Replaying on a GPU: few kernels, no copies of state, and all of a step in one captured graph."""

from .replay import Replay

__all__ = ["Replay"]
