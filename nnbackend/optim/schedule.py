"""What a schedule is: a number for each step, given to the settings of an optimizer."""

from __future__ import annotations

__all__: list[str] = []
