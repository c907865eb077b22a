"""Page-locked memory of the host."""

from .memory import PinnedMemoryPointer, PinnedMemoryPool

__all__ = ["PinnedMemoryPointer", "PinnedMemoryPool", "alloc_pinned_memory"]


def alloc_pinned_memory(size: int) -> PinnedMemoryPointer:
    """A buffer of the host."""
    return PinnedMemoryPointer(size)
