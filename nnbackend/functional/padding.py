"""Padding by PyTorch's modes."""

from __future__ import annotations

__all__: list[str] = []
