"""Averages of the weights over the steps: EMA and SWA."""

from __future__ import annotations

__all__: list[str] = []
