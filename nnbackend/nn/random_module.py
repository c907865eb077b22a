"""The base of layers that draw random numbers."""

from __future__ import annotations

from typing import Any

from ..cells import Scalar
from ..random import fresh_key, site_of
from .module import Module


class RandomModule(Module):
    """A layer that draws random numbers at the address (key, path, number of calls in training)."""

    def __init__(self) -> None:
        self.key, self.calls = fresh_key(), Scalar(0, "calls")

    def start_over(self, key: int, only_fresh: bool = False) -> None:
        """Draw from this key, from the first call on."""
        self.key, self.calls.value = key, 0

    def next_address(self) -> dict[str, Any]:
        """The address of the next draw; counts it."""
        n = self.calls.value
        self.calls.value = n + 1
        return {"key": self.key, "site": site_of(self.path), "step": n}


__all__ = ["RandomModule"]
