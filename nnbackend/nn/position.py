"""Positions in a sequence as vectors and rotations."""

from __future__ import annotations

__all__: list[str] = []
