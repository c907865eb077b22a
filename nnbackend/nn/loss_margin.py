"""Losses of margins, pairs and triplets as layers."""

from __future__ import annotations

__all__: list[str] = []
