"""Are two recordings the same program? A counter or a random draw of Python's own would make them differ."""

from __future__ import annotations

from typing import Any

from ..backend import to_host
from .graph import Node, Program
from .simplify import exact


def differing(a: Program, b: Program) -> str:
    """Where two programs differ, in words, or nothing. Arrays that are the same in both are marked as live.

    An array from outside may change between replays and is looked at anew each time; one that the step has made
    itself is a constant, if it comes out the same twice.
    """
    place = {n: i for i, n in enumerate(a.nodes)} | {n: i for i, n in enumerate(b.nodes)}
    if len(a.nodes) != len(b.nodes):
        return f"the number of operations ({len(a.nodes)} and {len(b.nodes)})"
    for m, n in zip(a.nodes, b.nodes, strict=True):
        if (m.op, m.shape, m.dtype, m.host) != (n.op, n.shape, n.dtype, n.host):
            return f"an operation ({_said(m)} and {_said(n)})"
        if [place[i] for i in m.inputs] != [place[i] for i in n.inputs]:
            return f"the operands of {_said(n)}"
        if exact((m.args, m.kw)) != exact((n.args, n.kw)):
            return f"the settings of {_said(n)}: {m.args[:4]} and {n.args[:4]}"
        if m.op == "const":
            if m.value is not n.value and not _equal(m.value, n.value):
                return f"an array {_where(n)}that is not made by recorded operations"
        elif m.value is not n.value and not (m.op == "input" and m.value == n.value):
            return f"what {_said(n)} stands for"
    for m, n in zip(a.nodes, b.nodes, strict=True):
        if m.op == "const" and m.value is n.value:
            m.kw["live"] = n.kw["live"] = True
    if _ends(a, place) != _ends(b, place):
        return "what is changed or returned"
    return ""


def _ends(p: Program, place: dict[Node, int]) -> Any:
    return (
        [place[n] for n in p.outputs],
        [(id(cell), place[n]) for cell, n in [*p.updates, *p.numbers]],
        [(id(g.parameter), g.enters, id(g.home), g.leaves) for g in p.gradients],
        list(map(id, p.written)),
    )


def _equal(a: Any, b: Any) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and to_host(a).tobytes() == to_host(b).tobytes()


def _where(n: Node) -> str:
    return f"in {n.scope} " if n.scope else ""


def _said(n: Node) -> str:
    return f"{n.op} of shape {n.shape}" + (f" in {n.scope}" if n.scope else "")
