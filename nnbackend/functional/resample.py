"""Images larger and smaller."""

from __future__ import annotations

__all__: list[str] = []
