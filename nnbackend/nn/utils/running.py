"""Running statistics over a whole data set."""

from __future__ import annotations

__all__: list[str] = []
