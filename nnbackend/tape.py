"""The tape: how gradients run back. There is no global graph; each Tensor holds the node that made it, or None.

A node is `(clock, op, args, kw, pulls)`. A parent's clock is lower than its children's, so sorting by clock is the
topological order: no recursion, and no reference cycle either, since nodes point at parents only and pullbacks close
over plain arrays. Tensors die as soon as nobody holds them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from .backend import Array, backend_of
from .errors import GraphError, InplaceError
from .ops.core import joint

Node: TypeAlias = tuple[int, Callable[..., Any], tuple[Any, ...], dict[str, Any], Any]

clock = itertools.count(1).__next__  # one count for the whole process: nodes and writes are ordered by it
TENSORS: set[type] = set()  # Tensor and its subclasses


def freed(*args: Any, **kw: Any) -> Any:
    """Stands for the op of a node that a backward pass has used up."""
    raise GraphError("backward: expected a graph, got one already freed. Pass retain_graph=True to the first backward.")


FREED: Node = (0, freed, (), {}, ())


def part_of(whole: Any, i: int) -> Any:
    """The op between an op with several results and result `i`; the gradient goes back as `{i: dy}`."""
    return whole[i], (lambda dy: {i: dy}, None)


def as_of(t: Any, made: int) -> Any:
    """The Tensor that `t` was at a time: `t[key] = x` gives `t` a newer node, whose first argument is the old `t`."""
    while t.node is not None and t.node[0] > made:
        t = t.node[2][0]
    return t


def history(root: Any, wrt: dict[int, Any] | None = None) -> list[tuple[Any, Node, list[tuple[int, Any]]]]:
    """What a backward pass from `root` visits, newest first: Tensor, node, and the parents that want a gradient.

    With `wrt` (Tensors by id) the walk ends there, and what does not lead to one of them is left out.
    """
    found, seen, stack = [], {id(root)}, [root]
    while stack:
        t = stack.pop()
        node = t.node
        if node is None or (wrt is not None and id(t) in wrt):
            continue
        if node is FREED:
            freed()
        made, links = node[0], []
        for i, p in enumerate(node[2]):
            if p.__class__ in TENSORS:
                if p.written > made:
                    _changed(p, made)
                if p.node is not None and p.node[0] > made:
                    p = as_of(p, made)
                if p.requires_grad:
                    links.append((i, p))
                    if id(p) not in seen:
                        seen.add(id(p))
                        stack.append(p)
        found.append((t, node, links))
    if len(found) > 1:
        found.sort(key=_made, reverse=True)
    return found if wrt is None else _leading_to(found, wrt)


def _made(visit: tuple[Any, Node, Any]) -> int:
    return visit[1][0]


def _leading_to(found: list[Any], wrt: dict[int, Any]) -> list[Any]:
    useful, kept = set(wrt), []
    for t, node, links in reversed(found):
        links = [(i, p) for i, p in links if id(p) in useful]
        if links:
            useful.add(id(t))
            kept.append((t, node, links))
    return kept[::-1]


def _changed(p: Any, made: int) -> None:
    name = getattr(p, "name", "") or "a tensor"
    raise InplaceError(
        f"backward: expected {name} as the graph used it (at time {made}), got it changed in place later "
        f"(at time {p.written}). Run backward before changing it, or use .clone() in the forward."
    )


def backward(root: Any, seed: Array, retain_graph: bool) -> None:
    """Add the gradients of `root` to `.grad` of the leaves it depends on; plain arrays all the way."""
    pending: dict[int, Any] = {id(root): seed}
    visits = history(root)
    for t, node, links in visits:
        dy = pending.pop(id(t), None)
        if dy is None:
            continue
        if not retain_graph:
            t.node = FREED
        for p, dx in _pull(t, len(node[2]), node[4], links, dy):
            if p.node is None:
                p.accumulate(dx, dx is dy)
            elif id(p) in pending:
                pending[id(p)] = _total(pending[id(p)], dx)
            else:
                pending[id(p)] = dx


def gradients(root: Any, seed: Any, wrt: Sequence[Any], wrap: Callable[[Any], Any] | None) -> list[Any]:
    """The gradients of `root` for the Tensors `wrt`, None where there is no path; `.grad` is not touched.

    `wrap` makes a Tensor of an array: with it the pass is recorded too, so that its results have gradients again.
    For that each op is called once more, on Tensors: the same text, the same way back.
    """
    wanted = {id(w): w for w in wrt}
    pending: dict[int, Any] = {id(root): seed}
    for t, node, links in history(root, wanted):
        dy = pending.pop(id(t), None)
        if dy is None:
            continue
        for p, dx in _pull(t, len(node[2]), node[4] if wrap is None else _again(node, wrap), links, dy):
            pending[id(p)] = _total(pending[id(p)], dx) if id(p) in pending else dx
    return [pending.get(id(w)) for w in wrt]


def leaves(root: Any, wrt: Sequence[Any]) -> list[Any]:
    """The leaves that a backward pass from `root` would reach besides `wrt`, where the walk ends."""
    stop = {id(w): w for w in wrt}
    visits, stack, seen = [], [root], {id(root)}
    while stack:
        t = stack.pop()
        if id(t) in stop:
            continue
        if t.node is None:
            visits.append(t)
            continue
        for p in t.node[2]:
            if p.__class__ in TENSORS and p.requires_grad and id(p) not in seen:
                seen.add(id(p))
                stack.append(as_of(p, t.node[0]))
    return visits


def _again(node: Node, wrap: Callable[[Any], Any]) -> Any:
    made, op, args, kw, pulls = node
    if op is part_of:
        return pulls
    tensors = [
        as_of(a, made) if a.__class__ in TENSORS else wrap(a) if hasattr(a, "dtype") and hasattr(a, "shape") else a
        for a in args
    ]
    return op(*tensors, **kw)[1]


def _pull(t: Any, arity: int, pulls: Any, links: list[tuple[int, Any]], dy: Any) -> list[tuple[Any, Any]]:
    """The gradients of the parents that want one and have one."""
    if dy.__class__ is dict:  # an op with several results
        dy = tuple(dy.get(i) for i in range(len(t.data)))
    if pulls.__class__ is joint:
        wanted = dict(links)
        dxs = pulls.fn(dy, tuple(i in wanted for i in range(arity)))
        return [(p, dxs[i]) for i, p in links if dxs[i] is not None]
    return [(p, pull(dy)) for i, p in links if (pull := pulls[i]) is not None]


def _total(a: Any, b: Any) -> Any:
    """The sum of two gradients of one value. Neither is written to: others may hold them."""
    if a.__class__ is dict:
        return {i: _total(a[i], b[i]) if i in a and i in b else a.get(i, b.get(i)) for i in a.keys() | b.keys()}
    return a + b


def seed_of(root: Any) -> Array:
    """Where a backward pass starts: 1."""
    return backend_of(root.data).one(root.data)


def owned(dx: Array, shared: bool) -> Array:
    """A gradient that a leaf can keep: memory that nothing else holds."""
    backend = backend_of(dx)
    return backend.copy(dx) if shared else backend.own(dx)
