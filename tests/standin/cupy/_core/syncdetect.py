"""Where the host waits for the device: counted, and refused inside `cupyx.allow_synchronize(False)`."""

import contextlib
import threading
import warnings
from collections import Counter
from collections.abc import Iterator

waits: Counter[str] = Counter()  # of the stand-in alone: how often the host has waited, by what made it wait
_local = threading.local()


class DeviceSynchronized(RuntimeError):
    """What CuPy raises."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or "Device synchronization was detected while disallowed.")


def _is_allowed() -> bool:
    return getattr(_local, "allowed", True)


def _declare_synchronize() -> None:
    """CuPy calls it by this name wherever it notices that the host waits: `nb.testing.synchronizations` listens."""
    if not _is_allowed():
        raise DeviceSynchronized


def synchronized(what: str, declared: bool = True) -> None:
    """The host waits. CuPy itself does not notice waits for streams and events, which are not `declared`."""
    from ..cuda import _capture

    if declared:
        _declare_synchronize()
        _capture.refuse(_capture.capturing())
    waits[what] += 1


@contextlib.contextmanager
def allow_synchronize(allow: bool) -> Iterator[None]:
    """As CuPy's, with its warning."""
    warnings.warn(
        "cupyx.allow_synchronize will be removed in future releases as it is not possible to reliably detect "
        "synchronizations.",
        stacklevel=3,
    )
    before = _is_allowed()
    _local.allowed = allow
    try:
        yield
    finally:
        _local.allowed = before
