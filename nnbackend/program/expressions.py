"""What computes a value, as an expression of NumPy's Python with no more parentheses than its meaning needs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from ..backend import dtype_name
from ..errors import DTypeError
from .graph import HOLE, Node, Program
from .names import Names

# How tightly an operator binds; arguments of a call stand alone.
ALONE, COMPARISON, OR, XOR, AND, SHIFT, SUM, PRODUCT, SIGN, POWER, ATOM = range(11)
BINARY = {
    "less": ("<", COMPARISON), "less_equal": ("<=", COMPARISON), "greater": (">", COMPARISON),
    "greater_equal": (">=", COMPARISON), "equal": ("==", COMPARISON), "not_equal": ("!=", COMPARISON),
    "bitwise_or": ("|", OR), "bitwise_xor": ("^", XOR), "bitwise_and": ("&", AND),
    "bitwise_left_shift": ("<<", SHIFT), "bitwise_right_shift": (">>", SHIFT),
    "add": ("+", SUM), "subtract": ("-", SUM), "multiply": ("*", PRODUCT), "divide": ("/", PRODUCT),
    "floor_divide": ("//", PRODUCT), "remainder": ("%", PRODUCT), "matmul": ("@", PRODUCT), "pow": ("**", POWER),
}  # fmt: skip
UNARY = {"negative": "-", "positive": "+", "bitwise_invert": "~"}
REDUCTIONS = frozenset({"sum", "prod", "mean", "max", "min", "any", "all"})
HELPER_NAMES = {  # primitives that a script defines for itself, under these names
    "logistic": "sigmoid", "scatter_add": "scatter_add", "one_hot": "one_hot", "place": "place", "erf": "erf",
    "windows": "windows", "unfold": "unfold", "fold": "fold", "conv": "conv", "conv_transpose": "conv_transpose",
    "conv_weight": "conv_weight", "words_like": "words", "uniform_like": "uniform", "integers_like": "integers",
    "attention": "attention", "attention_back": "attention_back",
    **{name: name for name in ("rnn", "rnn_back", "gru", "gru_back", "lstm", "lstm_back")},
}  # fmt: skip
HOST_NAMES = {"cos": "math.cos", "log": "math.log", "minimum": "min", "maximum": "max"}  # of numbers
_WEAK = frozenset({*BINARY, "maximum", "minimum", "where", "clip"})  # a Python number takes the dtype of the others

Text = tuple[str, int]  # an expression and how tightly its outermost operator binds


class Expressions:
    """Expressions by the names of values; those in `inlined` are written out where they are used."""

    def __init__(self, program: Program, names: Names, inlined: set[Node]) -> None:
        self.library, self.names, self.inlined = program.library, names, inlined

    def operand(self, n: Node, level: int = ALONE, user: Node | None = None) -> str:
        """A value as it stands in the expression of `user`, where operators bind as tightly as `level`."""
        if n in self.names.of:
            return self.names.of[n]
        text, own = self._constant(n, user) if n.op == "const" else self.text(n)
        return text if own >= level else f"({text})"

    def text(self, n: Node) -> Text:
        """What computes this value."""
        if n.op == "number":
            return literal(n.args[0])
        if n.op in BINARY and len(n.args) == 2 and not n.kw:
            return self._narrowed(n, self._binary(n))
        if n.op in UNARY and len(n.args) == 1:
            return UNARY[n.op] + self.operand(n.inputs[0], SIGN, n), SIGN
        if n.op == "copy" and n.host:
            return self.operand(n.inputs[0]), ALONE
        inputs = iter(n.inputs)
        args = [self.argument(a, inputs, n) for a in n.args]
        kw = {name: self.argument(value, inputs, n) for name, value in _settings(n).items()}
        special = getattr(self, f"_{n.op}", None)
        text = special(n, args, kw) if special is not None else None
        return text or f"{self._function(n)}({_listed(args, kw)})", ATOM

    def view(self, name: str, op: str, args: tuple[Any, ...], kw: dict[str, Any], rank: int) -> str:
        """A view of the value called `name`."""
        base = Node(op)
        self.names.of[base] = name
        return self.text(Node(op, [base], args, kw, args[1] if op == "reshape" else (0,) * rank))[0]

    # -- operators
    def _binary(self, n: Node) -> Text:
        symbol, level = BINARY[n.op]
        left, right = level, level + 1
        if n.op == "pow":
            left, right = ATOM, SIGN
        elif level == COMPARISON:
            left = right
        a, b = n.operands()
        space = "" if n.op == "pow" else " "
        return f"{self.side(a, left, n)}{space}{symbol}{space}{self.side(b, right, n)}", level

    def side(self, x: Any, level: int, user: Node) -> str:
        """A value or a number beside an operator."""
        if isinstance(x, Node):
            return self.operand(x, level, user)
        text, own = literal(x)
        return text if own >= level else f"({text})"

    def _narrowed(self, n: Node, text: Text) -> Text:
        """With a cast, if it was computed in place of something narrower."""
        if n.host or n.op in ("divide", "pow") or BINARY[n.op][1] == COMPARISON or not n.dtype:
            return text
        size = self.library.canonical(n.dtype).itemsize
        if all(i.host or self.library.canonical(i.dtype).itemsize <= size for i in n.inputs):
            return text
        return f"({text[0]}).astype({dtype_text(n.dtype)})", ATOM

    # -- arguments
    def argument(self, x: Any, inputs: Iterator[Node], user: Node) -> str:
        """An argument of a call, with the next of the inputs wherever there is a hole."""
        if x is HOLE:
            return self.operand(next(inputs), ALONE, user)
        if isinstance(x, tuple | list):
            parts = [self.argument(part, inputs, user) for part in x]
            if isinstance(x, list):
                return f"[{', '.join(parts)}]"
            return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"
        return literal(x)[0]

    def key(self, x: Any, inputs: Iterator[Node], user: Node) -> str:
        """An index, as it stands between brackets."""
        if isinstance(x, tuple) and x:
            return ", ".join([self.key(part, inputs, user) for part in x]) + "," * (len(x) == 1)
        if isinstance(x, slice):
            start, stop, step = ["" if v is None else str(v) for v in (x.start, x.stop, x.step)]
            return f"{start}:{stop}" + (f":{step}" if step else "")
        return self.argument(x, inputs, user)

    def _constant(self, n: Node, user: Node | None) -> Text:
        """A 0-d array: as a Python number, where that is the same."""
        value = self.library.to_host(n.value)[()]
        others = [] if user is None or user.op not in _WEAK else [i for i in user.inputs if not i.host]
        if not any(i.op != "const" and i.dtype == n.dtype for i in others):
            return f"{dtype_text(n.dtype)}({literal(value.item())[0]})", ATOM
        short = str(value)
        if not math.isfinite(value) or value.dtype.type(float(short)) != value:
            return literal(value.item())
        return short, SIGN if short.startswith("-") else ATOM

    # -- functions
    def _function(self, n: Node) -> str:
        if n.host:
            return HOST_NAMES.get(n.op, n.op)
        return HELPER_NAMES.get(n.op) or f"np.{n.op}"

    def _base(self, n: Node) -> str:
        return self.operand(n.inputs[0], ATOM)

    def _getitem(self, n: Node, args: list[str], kw: dict[str, str]) -> str:
        return f"{self._base(n)}[{self.key(n.args[1], iter(n.inputs[1:]), n)}]"

    def _part(self, n: Node, args: list[str], kw: dict[str, str]) -> str:
        return f"{self._base(n)}[{n.args[1]}]"

    def _copy(self, n: Node, args: list[str], kw: dict[str, str]) -> str:
        return f"{self._base(n)}.copy()"

    def _matrix_transpose(self, n: Node, args: list[str], kw: dict[str, str]) -> str:
        return self._base(n) + (".T" if len(n.shape) == 2 else ".mT")

    def _astype(self, n: Node, args: list[str], kw: dict[str, str]) -> str:
        return f"{self._base(n)}.astype({dtype_text(n.dtype)})"

    def _reshape(self, n: Node, args: list[str], kw: dict[str, str]) -> str | None:
        return None if kw else f"{self._base(n)}.reshape({', '.join(map(str, n.shape)) or '()'})"

    def _gather(self, n: Node, args: list[str], kw: dict[str, str]) -> str:
        return f"np.take({', '.join(args)}, axis=0)"

    def _uniform_like(self, n: Node, args: list[str], kw: dict[str, str]) -> str:
        half = dtype_text(n.dtype) == "np.float16"
        drawn = f"uniform({n.shape}, {'np.float32' if half else dtype_text(n.dtype)}, {', '.join(args[1:])})"
        return f"(np.floor({drawn} * 2048.0) / 2048.0).astype(np.float16)" if half else drawn

    def _drawn(self, n: Node, args: list[str], kw: dict[str, str]) -> str:
        return f"{HELPER_NAMES[n.op]}({n.shape}, {', '.join(args[1:])})"

    _words_like = _integers_like = _drawn

    def _reduction(self, n: Node, args: list[str], kw: dict[str, str]) -> str | None:
        return f"{self._base(n)}.{n.op}({_listed(args[1:], kw)})"

    _sum = _prod = _mean = _max = _min = _any = _all = _reduction


def _settings(n: Node) -> dict[str, Any]:
    """The keyword arguments that say something: NumPy has one device, and reductions their defaults."""
    kw = {name: value for name, value in n.kw.items() if name != "device"}
    usual: dict[str, Any] = {"dtype": None, "copy": None}
    if n.op in {*REDUCTIONS, "var", "std", "flip"}:
        usual |= {"axis": None, "keepdims": False}
    return {name: value for name, value in kw.items() if name not in usual or value is not usual[name]}


def _listed(args: list[str], kw: dict[str, str]) -> str:
    return ", ".join([*args, *(f"{name}={value}" for name, value in kw.items())])


def literal(x: Any) -> Text:
    """A Python value as it is written."""
    if isinstance(x, float) and not math.isfinite(x):
        text = "np.nan" if math.isnan(x) else "np.inf" if x > 0 else "-np.inf"
        return text, SIGN if text[0] == "-" else ATOM
    if x is None or isinstance(x, bool | int | float | complex | str | slice):
        text = repr(x)
        return text, SIGN if text.startswith("-") else ATOM
    return "..." if x is ... else dtype_text(x), ATOM


def dtype_text(dtype: Any) -> str:
    """`np.float32`; what is no dtype, as Python shows it."""
    try:
        return f"np.{dtype_name(dtype)}"
    except DTypeError:
        return repr(dtype)
