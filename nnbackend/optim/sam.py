"""SAM: an optimizer that looks around before it steps."""

from __future__ import annotations

__all__: list[str] = []
