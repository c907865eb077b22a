"""The schedules, from simple to less so."""

from __future__ import annotations

__all__: list[str] = []
