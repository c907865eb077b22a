"""What the lint has to say: a code, what was seen, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One thing that is probably a mistake. `fatal` if training would raise this as an error."""

    code: str
    message: str
    cure: str = ""
    fatal: bool = False

    def __str__(self) -> str:
        return f"{self.code}: {self.message} {self.cure}".rstrip()
