"""Transformer layers and their stacks."""

from __future__ import annotations

__all__: list[str] = []
