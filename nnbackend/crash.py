"""Named points where tests let things go wrong: a full disk, an interrupt, the end of the process. Off by default."""

from __future__ import annotations

from collections.abc import Callable

armed: dict[str, Callable[[], None]] = {}  # what happens at a point; tests put it here and take it out again


def point(name: str) -> None:
    """Nothing happens here, unless a test wants it to."""
    if armed and name in armed:
        armed[name]()
