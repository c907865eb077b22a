"""Arithmetic of Python numbers as text: what a replay computes on the host."""

from __future__ import annotations

from collections.abc import Callable

from ..graph import Node
from ..number import FUNCTIONS
from .code import Code

HOST = {
    "add": "{} + {}", "subtract": "{} - {}", "multiply": "{} * {}", "divide": "{} / {}", "floor_divide": "{} // {}",
    "remainder": "{} % {}", "pow": "({}) ** {}", "negative": "-{}", "positive": "+{}", "abs": "abs({})",
    "less": "{} < {}", "less_equal": "{} <= {}", "greater": "{} > {}", "greater_equal": "{} >= {}",
    "equal": "{} == {}", "not_equal": "{} != {}",
}  # fmt: skip


def host_text(n: Node, code: Code, ref: Callable[[Node], str]) -> str:
    """What a number of the host's is, by the names of those that it comes from."""
    if n.op == "scalar":
        return f"{code.name(n.value)}._value"
    parts = [ref(x) if isinstance(x, Node) else code.name(x) for x in n.operands()]
    function = FUNCTIONS.get(n.op)
    return f"{code.name(function)}({', '.join(parts)})" if function else HOST[n.op].format(*parts)
