"""Number: what stands for a Python number that changes from step to step, while a step is recorded."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from functools import partialmethod
from typing import Any
from weakref import ref

from ..backend import is_array
from ..ops.core import NUMBERS
from ..tape import TENSORS
from .graph import HOLE, Node


class Number:
    """A Python number and the node that says where it comes from. Arithmetic on it is recorded.

    Asking for its value, by `if`, `float()` or as an index, pins a number that comes from outside: the program then
    holds for this value only. It breaks the recording for a number that has been computed.
    """

    __slots__ = ("__weakref__", "node", "trace", "value")
    __array_ufunc__ = None

    def __init__(self, trace: Any, value: Any, node: Node) -> None:
        self.trace, self.value, self.node = trace, value, node
        trace.handles.append(ref(self))

    def known(self) -> Any:
        """The plain number, which the program then depends on."""
        return self._known("value", self.value)

    def _known(self, how: str, value: Any) -> Any:
        if self.trace.open:
            self.trace.pin(self.node, how, value if how == "bool" else self.value)
        return value

    def __bool__(self) -> bool:
        return bool(self._known("bool", bool(self.value)))

    def __float__(self) -> float:
        return float(self._known("float", self.value))

    def __int__(self) -> int:
        return int(self._known("int", self.value))

    def __index__(self) -> int:
        return operator.index(self._known("index", self.value))

    def __format__(self, spec: str) -> str:
        return format(self._known("format", self.value), spec)

    def __str__(self) -> str:
        return str(self._known("str", self.value))

    def __repr__(self) -> str:
        return f"Number({self.value})"

    def __hash__(self) -> int:
        return hash(self.known())

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.value, name)
        self.known()
        return found


NUMBERS.add(Number)


def _recorded(name: str, apply: Callable[..., Any], *operands: Any) -> Any:
    trace = next(x.trace for x in operands if type(x) is Number)
    value = apply(*[x.value if type(x) is Number else x for x in operands])
    if not trace.open:
        return value
    inputs = [x.node for x in operands if type(x) is Number]
    args = tuple(HOLE if type(x) is Number else x for x in operands)
    return Number(trace, value, trace.emit(name, inputs, args, {}, value, host=True))


def _binary(name: str, apply: Callable[..., Any]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    def forward(self: Number, other: Any) -> Any:
        if type(other) in NUMBERS:
            return _recorded(name, apply, self, other)
        if type(other) in TENSORS or hasattr(other, "trace") or not is_array(other):
            return NotImplemented
        return apply(self, self.trace.handle(other))

    def reflected(self: Number, other: Any) -> Any:
        if type(other) in NUMBERS:
            return _recorded(name, apply, other, self)
        return apply(self.trace.handle(other), self) if is_array(other) else NotImplemented

    return forward, reflected


def _looked_at(x: Number, method: str, *others: Any) -> Any:
    """What is rarely done to numbers is not recorded: the program depends on their values."""
    return getattr(x.known(), method)(*[y.known() if type(y) is Number else y for y in others])


ARITHMETIC = {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide", "floordiv": "floor_divide",
    "mod": "remainder", "pow": "pow",
}  # fmt: skip
COMPARISONS = {
    "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal", "eq": "equal", "ne": "not_equal",
}  # fmt: skip
UNARY = {"neg": "negative", "pos": "positive", "abs": "abs"}
FUNCTIONS: dict[str, Callable[..., Any]] = {"cos": math.cos, "log": math.log, "minimum": min, "maximum": max}

for _short, _name in ARITHMETIC.items():
    _forward, _reflected = _binary(_name, getattr(operator, _short))
    setattr(Number, f"__{_short}__", _forward)
    setattr(Number, f"__r{_short}__", _reflected)
for _short, _name in COMPARISONS.items():
    setattr(Number, f"__{_short}__", _binary(_name, getattr(operator, _short))[0])
for _short, _name in UNARY.items():
    setattr(
        Number,
        f"__{_short}__",
        partialmethod(lambda x, name, apply: _recorded(name, apply, x), _name, getattr(operator, _short)),
    )
for _short in (
    "and", "rand", "or", "ror", "xor", "rxor", "lshift", "rlshift", "rshift", "rrshift", "invert", "divmod", "rdivmod",
    "round", "trunc", "floor", "ceil",
):  # fmt: skip
    setattr(Number, f"__{_short}__", partialmethod(_looked_at, f"__{_short}__"))


def _function(name: str) -> Callable[..., Any]:
    apply = FUNCTIONS[name]

    def function(*operands: Any) -> Any:
        recorded = any(type(x) is Number for x in operands)
        return _recorded(name, apply, *operands) if recorded else apply(*operands)

    return function


cos, log, minimum, maximum = map(_function, ("cos", "log", "minimum", "maximum"))  # of numbers, recorded or not
