"""Losses of margins, pairs and triplets."""

from __future__ import annotations

__all__: list[str] = []
