"""The blocks of queries that attention works in: no more than half a million of the weights of a head each."""

from __future__ import annotations


def blocks(queries: int, keys: int) -> list[slice]:
    """The queries of each block."""
    rows = max(1, (1 << 19) // max(1, keys))
    return [slice(a, min(a + rows, queries)) for a in range(0, max(1, queries), rows)]
