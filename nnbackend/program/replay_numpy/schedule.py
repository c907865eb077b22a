"""The order of work: long element-wise stretches are gathered into blocks that stay in the cache.

A block works on some rows of all its members at once: element-wise functions, reductions along the other axes, and
views that keep the rows. Sums over the rows may end it: each block gives a part.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from ..graph import LEAVES, Node, Program, is_view
from .lower import elementwise

SMALL = 1 << 18  # bytes: an array that is smaller stays in the cache by itself
REDUCTIONS = frozenset({"sum", "max", "min", "prod", "row_dot"})


class Block(list[Node]):
    """Nodes that are computed together, a few rows at a time."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.rows = rows


def scheduled(program: Program) -> list[Node | Block]:
    """The nodes in an order that can be run, with blocks where there is enough to do."""
    done: list[Node | Block] = []
    block: Block | None = None
    waiting: list[Node] = []  # free nodes that need a member of the open block
    for n in program.nodes:
        if block is not None and _joins(n, block, waiting):
            block.append(n)
            continue
        needs = block is not None and any(i in block or i in waiting for i in n.inputs)
        if needs and (_free(n)):
            waiting.append(n)
            continue
        if block is not None and not needs and not _opens(n):
            done.append(n)  # it can be done before the block
            continue
        done += _closed(block, waiting)
        block, waiting = None, []
        if _opens(n):
            block = Block(n.shape[0])
            block.append(n)
        else:
            done.append(n)
    return done + list(_closed(block, waiting))


def _closed(block: Block | None, waiting: list[Node]) -> Iterator[Node | Block]:
    if block is not None:
        yield block if len(block) > 1 or _big(block[0]) else block[0]
    yield from waiting


def _free(n: Node) -> bool:
    """What costs nothing, or next to nothing."""
    return n.host or n.op in LEAVES or is_view(n)


def _big(n: Node) -> bool:
    return n.dtype is not None and math.prod(n.shape) * n.dtype.itemsize > SMALL


def _opens(n: Node) -> bool:
    if not n.shape or n.shape[0] < 2:
        return False
    if n.op in REDUCTIONS:
        return _by_row(n) and _big(n.inputs[0])
    return elementwise(n) and _big(n) and all(_fits(n, i) for i in n.inputs)


def _by_row(n: Node) -> bool:
    """Whether a reduction works on each row by itself."""
    if n.op == "row_dot":
        return all(i.shape[:1] == n.shape[:1] or len(i.shape) < len(n.shape) for i in n.inputs)
    return n.inputs[0].shape[:1] == n.shape[:1] and "dtype" not in n.kw and 0 not in _axes(n)


def _joins(n: Node, block: Block, waiting: list[Node]) -> bool:
    """Whether rows of `n` can be computed from the same rows of its inputs."""
    if (_free(n) and not is_view(n)) or any(i in waiting for i in n.inputs):
        return False
    inside = [i for i in n.inputs if i in block]
    if any(ends(i) for i in inside):
        return False
    if ends(n):
        return (
            bool(inside)
            and n.dtype.kind == "f"
            and "dtype" not in n.kw
            and all(i.shape[:1] == (block.rows,) for i in n.inputs)
        )
    if not n.shape or n.shape[0] != block.rows:
        return False
    if is_view(n):
        return bool(inside) and _keeps_rows(n)
    if n.op in REDUCTIONS:
        return _by_row(n) and (bool(inside) or _big(n.inputs[0]))
    fits = all(aligned(n, i) if i in block else _fits(n, i) for i in n.inputs)
    return fits and elementwise(n) and (_big(n) or bool(inside))


def _fits(n: Node, i: Node) -> bool:
    """Whether an operand is aligned with the rows of `n`, or the same for all of them."""
    return len(i.shape) < len(n.shape) or i.shape[0] in (1, n.shape[0])


def aligned(n: Node, i: Node) -> bool:
    """Whether an operand of a member is cut into rows like the member itself."""
    return len(i.shape) == len(n.shape) and i.shape[0] == n.shape[0]


def ends(n: Node) -> bool:
    """Whether a member of a block sums over the rows; its value is ready after the last block."""
    return n.op in ("column_sum", "vdot") or (n.op == "sum" and 0 in _axes(n))


def _axes(n: Node) -> tuple[int, ...]:
    ndim, axis = len(n.inputs[0].shape), n.kw["axis"]
    if axis is None:
        return tuple(range(ndim))
    return tuple(a % ndim for a in ((axis,) if isinstance(axis, int) else axis))


def _keeps_rows(n: Node) -> bool:
    """Views of a block that are the same view of its rows."""
    x = n.inputs[0]
    if n.op == "reshape":
        return x.shape[:1] == n.shape[:1]
    if n.op == "expand_dims":
        return bool(n.kw.get("axis", n.args[1] if len(n.args) > 1 else 0) % len(n.shape) > 0)
    if n.op == "squeeze":
        axes = n.kw.get("axis", n.args[1] if len(n.args) > 1 else 0)
        return all(a % len(x.shape) > 0 for a in ((axes,) if isinstance(axes, int) else axes))
    return n.op == "broadcast_to" and len(x.shape) == len(n.shape) and x.shape[0] == n.shape[0]
