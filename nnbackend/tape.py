"""The tape: how gradients run back. There is no global graph; each Tensor holds the node that made it, or None.

A node is `(clock, op, args, kw, pulls)`. A parent's clock is lower than its children's, so sorting by clock is the
topological order: no recursion, and no reference cycle either, since nodes point at parents only and pullbacks close
over plain arrays. Tensors die as soon as nobody holds them.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from heapq import heappop, heappush
from typing import Any, TypeAlias

from .backend import BACKENDS, Array, backend_of
from .errors import GraphError, InplaceError
from .grad_mode import enable_grad
from .ops.core import joint
from .ops.index import setitem
from .recorder import recorder

Node: TypeAlias = tuple[int, Callable[..., Any], tuple[Any, ...], dict[str, Any], Any]

clock = itertools.count(1).__next__  # one count for the whole process: nodes and writes are ordered by it
TENSORS: set[Any] = set()  # Tensor and its subclasses
adding = threading.RLock()  # held while a leaf's gradient grows: leaves may be shared by threads


def freed(*args: Any, **kw: Any) -> Any:
    """Stands for the op of a node that a backward pass has used up."""
    raise GraphError("backward: expected a graph, got one already freed. Pass retain_graph=True to the first backward.")


FREED: Node = (0, freed, (), {}, ())


def part_of(whole: Any, i: int) -> Any:
    """The op between an op with several results and result `i`; the gradient goes back as `{i: dy}`."""
    return whole[i], (lambda dy: {i: dy}, None)


def cut(old: Any) -> Node:
    """The node of a Tensor that has new contents without history. Graphs that used it before find the `old` one."""
    return clock(), part_of, (old,), {}, (None,)


def maker(t: Any) -> str:
    """The name of the op that made `t`, as far as that is known."""
    if t.node is None or t.node is FREED:
        return ""
    return maker(t.node[2][0]) if t.node[1] is part_of else str(t.node[1].__name__)


def as_of(t: Any, made: int) -> Any:
    """The Tensor that `t` was at a time: `t[key] = x` gives `t` a newer node, whose first argument is the old `t`."""
    while t.node is not None and t.node[0] > made:
        t = t.node[2][0]
    return t


def parents(node: Node) -> list[tuple[int, Any]]:
    """The arguments of a node that want a gradient, with their places. InplaceError if one has changed since."""
    made, links = node[0], []
    for i, p in enumerate(node[2]):
        if p.__class__ in TENSORS:
            if p.node is None:
                if p.written > made and (p.requires_grad or p.is_cell):  # else the array that was used is intact
                    _changed(p, made)
            elif p.node[0] > made:
                p = as_of(p, made)
            elif p.node is FREED and p.requires_grad:
                freed()
            if p.requires_grad:
                links.append((i, p))
    return links


def _changed(p: Any, made: int) -> None:
    name = getattr(p, "name", "") or "a tensor"
    raise InplaceError(
        f"backward: expected {name} as the graph used it (at time {made}), got it changed in place later "
        f"(at time {p.written}). Run backward before changing it, or use .clone() in the forward."
    )


def backward(root: Any, seed: Array, retain_graph: bool) -> None:
    """Add the gradients of `root` to `.grad` of the leaves it depends on; plain arrays all the way.

    Nodes come newest first. The leaves get theirs at the end: an error on the way leaves them as they were.
    """
    if root.node is FREED:
        freed()
    pending: dict[Any, Any] = {root: seed}  # by Tensor: they hash by identity
    deposits: dict[Any, tuple[Any, bool]] = {}
    newest, reset, r = [(-root.node[0], root)], [], recorder.get()
    while newest:
        t = heappop(newest)[1]
        if r is not None:
            r.going_back(t)
        dy, node = pending.pop(t), t.node
        links, pulls = parents(node), node[4]
        if dy.__class__ is dict or pulls.__class__ is joint:
            pulls, dy = _split(t, node, pulls, links, dy)
        for i, p in links:
            pull = pulls[i]
            if pull is None or (dx := pull(dy)) is None:
                continue
            if r is not None:
                r.gradient(p, dx)
            if p.node is None:
                deposits[p] = (dx, dx is dy) if p not in deposits else (deposits[p][0] + dx, False)
            elif p in pending:
                pending[p] = _total(pending[p], dx)
            else:
                pending[p] = dx
                heappush(newest, (-p.node[0], p))
        if node[1] is setitem:
            reset.append(t)  # older nodes that used `t` have yet to find its older self
        elif not retain_graph:
            t.node = FREED
    for t in () if retain_graph else reset:
        t.node = FREED
    if r is not None:
        r.going_back(None)
    with adding:
        for p, (dx, shared) in deposits.items():
            p.accumulate(dx, shared)


def gradients(root: Any, seed: Any, wrt: Sequence[Any], wrap: Callable[[Any], Any] | None) -> list[Any]:
    """The gradients of `root` for the Tensors `wrt`, None where there is no path; `.grad` is not touched.

    `wrap` makes a Tensor of an array: with it the pass is recorded too, so that its results have gradients again.
    For that each op is called once more, on Tensors: the same text, the same way back.
    """
    pending: dict[int, Any] = {id(root): seed}
    r = recorder.get()
    with enable_grad():  # of use to Tensors only
        for t, links in _leading_to(root, {id(w) for w in wrt}):
            if r is not None:
                r.going_back(t)
            dy, node = pending.pop(id(t), None), t.node
            if dy is None:
                continue
            pulls, dy = _split(t, node, node[4] if wrap is None else _again(node, wrap), links, dy)
            for i, p in links:
                pull = pulls[i]
                if pull is not None and (dx := pull(dy)) is not None:
                    pending[id(p)] = _total(pending[id(p)], dx) if id(p) in pending else dx
    if r is not None:
        r.going_back(None)
    return [pending.get(id(w)) for w in wrt]


def leaves(root: Any, wrt: Sequence[Any]) -> list[Any]:
    """The leaves that a backward pass from `root` would reach besides `wrt`, where the walk ends."""
    stop = {id(w) for w in wrt}
    return [t for t, links in _walk(root, stop) if links is None and id(t) not in stop]


def _leading_to(root: Any, wrt: set[int]) -> list[tuple[Any, list[tuple[int, Any]]]]:
    """The Tensors between `root` and those of `wrt`, newest first, each with the parents on the way there."""
    made = [(t, links) for t, links in _walk(root, wrt) if links is not None]
    made.sort(key=lambda visit: visit[0].node[0])
    useful, kept = set(wrt), []
    for t, links in made:
        links = [(i, p) for i, p in links if id(p) in useful]
        if links:
            useful.add(id(t))
            kept.append((t, links))
    return kept[::-1]


def _walk(root: Any, stop: set[int]) -> Iterator[tuple[Any, list[tuple[int, Any]] | None]]:
    """Every Tensor that `root` comes from, in any order, with its parents; None for leaves and for those to stop at."""
    if root.node is FREED:
        freed()
    seen, stack = {id(root)}, [root]
    while stack:
        t = stack.pop()
        links = None if t.node is None or id(t) in stop else parents(t.node)
        yield t, links
        for _, p in links or ():
            if id(p) not in seen:
                seen.add(id(p))
                stack.append(p)


def _again(node: Node, wrap: Callable[[Any], Any]) -> Any:
    made, op, args, kw, pulls = node
    if op is part_of:
        return pulls
    tensors = []
    for a in args:
        if a.__class__ in TENSORS:
            a = as_of(a, made)
            if a.written > made:
                _changed(a, made)
        elif hasattr(a, "dtype") and hasattr(a, "shape"):
            a = wrap(a)
        tensors.append(a)
    return op(*tensors, **kw)[1]


def _split(t: Any, node: Node, pulls: Any, links: list[tuple[int, Any]], dy: Any) -> tuple[Any, Any]:
    """One pullback an argument, and the gradient they take, where an op has joint ones or several results."""
    if dy.__class__ is dict:
        dy = tuple(dy.get(i) for i in range(len(t.data)))
    if pulls.__class__ is joint:
        wanted = dict(links)
        dxs = pulls.fn(dy, tuple(i in wanted for i in range(len(node[2]))))
        pulls = [lambda _, dx=dx: dx for dx in _apart(dxs)]
    return pulls, dy


def _total(a: Any, b: Any) -> Any:
    """The sum of two gradients of one value. Neither is written to: others may hold them."""
    if a.__class__ is dict:
        return {i: _total(a[i], b[i]) if i in a and i in b else a.get(i, b.get(i)) for i in a.keys() | b.keys()}
    return a + b


def _apart(dxs: tuple[Any, ...]) -> Iterator[Any]:
    """One array returned for two arguments becomes two: leaves keep what they get."""
    seen: set[int] = set()
    for dx in dxs:
        yield backend_of(dx).copy(dx) if id(dx) in seen else dx
        if dx is not None:
            seen.add(id(dx))


def seed_of(root: Any) -> Array:
    """Where a backward pass starts: 1."""
    y = root.data
    return (BACKENDS.get(y.__class__) or backend_of(y)).one(y)


def _forked() -> None:
    """In a child process: the thread that may have held the lock is gone."""
    global adding
    adding = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
