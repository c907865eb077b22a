"""checkpoint: what a function computes on the way is forgotten, and computed again in the backward pass."""

from __future__ import annotations

__all__: list[str] = []
