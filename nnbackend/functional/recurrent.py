"""Recurrent networks, step by step and over sequences."""

from __future__ import annotations

__all__: list[str] = []
