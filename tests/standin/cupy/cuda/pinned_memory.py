"""Page-locked memory of the host."""

from .memory import PinnedMemoryPointer, PinnedMemoryPool, _pinned

__all__ = ["PinnedMemoryPointer", "PinnedMemoryPool", "alloc_pinned_memory", "is_memory_pinned"]


def alloc_pinned_memory(size: int) -> PinnedMemoryPointer:
    """A buffer of the host."""
    return PinnedMemoryPointer(size)


def is_memory_pinned(data: int) -> bool:
    """Whether an address lies in such a buffer."""
    return any(start <= data < start + size for start, size in list(_pinned.items()))
