"""Rules for whole matrices: they see each parameter in its own shape."""

from __future__ import annotations

__all__: list[str] = []
