"""Training or evaluation? Modules have a flag; `evaluating` overrides it in one thread or task, writing no flag."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

mode: ContextVar[bool | None] = ContextVar("nnbackend.training", default=None)


@contextlib.contextmanager
def evaluating() -> Iterator[None]:
    """Inside, every module behaves as after `eval()`, in this thread or task alone; no flag is written."""
    token = mode.set(False)
    try:
        yield
    finally:
        mode.reset(token)
