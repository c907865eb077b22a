"""Loss scaling for float16."""

from __future__ import annotations

__all__: list[str] = []
