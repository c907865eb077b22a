"""Ctrl-C and the end that others wish for a process wait until a step is over."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress
from types import FrameType
from typing import Any

USUAL: dict[int, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
HINT = b"\nfit: finishing this step; press Ctrl-C again to stop at once\n"


class Interrupts:
    """Inside, the first SIGINT or SIGTERM is only noted as `caught`; a second one stops at once.

    In the main thread alone, and only in place of the usual handlers: a handler that somebody has set stays.
    """

    def __init__(self, say: bool = False) -> None:
        self.caught: int | None = None
        self._say, self._over, self._before = say, False, dict[int, Any]()

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number, usual in USUAL.items():
                if signal.getsignal(number) == usual:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        self._over = True  # what comes now must not keep a handler from being put back
        while self._before:
            signal.signal(*self._before.popitem())

    def pass_on(self) -> None:
        """Let what was caught have its usual effect."""
        if self.caught is not None:
            raise _usual(self.caught)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.caught is None:
            self.caught = number
            if self._say:
                with suppress(OSError):  # nobody reads it any more
                    os.write(2, HINT)  # printing could be what was interrupted
        elif not self._over:
            raise _usual(number)


def _usual(number: int) -> BaseException:
    return KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)
