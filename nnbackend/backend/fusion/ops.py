"""What each element-wise function is in CUDA, with the bits of CuPy's ufunc of that name.

Half-precision numbers are floats in registers, rounded after each operation. Functions that are not C's are those of
`cuda/fusion.cuh`.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from ..base import DTYPES, FLOATS, INTEGERS
from .group import Constant

MEMORY = {
    "float32": "float", "float64": "double", "float16": "half", "bool": "bool",
    "int8": "signed char", "int16": "short", "int32": "int", "int64": "long long",
    "uint8": "unsigned char", "uint16": "unsigned short", "uint32": "unsigned", "uint64": "u64",
}  # fmt: skip
REGISTER = {**MEMORY, "float16": "float", "float": "double", "int": "long long"}  # the last two for Python's numbers
NAMES = {dtype: name for name, dtype in DTYPES.items()}  # quicker than asking NumPy
WEAK = {"float": 0.0, "int": 0}

_CALLS = (
    "exp", "expm1", "log", "log1p", "log2", "log10", "sqrt", "sin", "cos", "tan", "asin", "acos", "atan", "sinh",
    "cosh", "tanh", "asinh", "acosh", "atanh", "erf", "floor", "ceil", "trunc",
)  # fmt: skip
_COMPARED = {
    "equal": "{} == {}", "not_equal": "{} != {}", "less": "{} < {}", "less_equal": "{} <= {}",
    "greater": "{} > {}", "greater_equal": "{} >= {}",
}  # fmt: skip
_CHOSEN = {"maximum": "maximum({}, {})", "minimum": "minimum({}, {})", "where": "{} ? {} : {}", "astype": "{}"}
_COPIED = {"positive": "{}", "copy": "{}"}
_BITS = {"bitwise_and": "{} & {}", "bitwise_or": "{} | {}", "bitwise_xor": "{} ^ {}"}

FLOATING = {
    **{name: f"{name}({{}})" for name in _CALLS}, **_COMPARED, **_CHOSEN, **_COPIED,
    "add": "add({}, {})", "subtract": "subtract({}, {})", "multiply": "multiply({}, {})", "divide": "{} / {}",
    "floor_divide": "floor_divide({}, {})", "remainder": "remainder_of({}, {})", "pow": "pow({}, {})",
    "negative": "-{}", "abs": "fabs({})", "sign": "sign({})", "square": "multiply({0}, {0})", "reciprocal": "1 / {}",
    "round": "rint({})", "hypot": "hypot({}, {})", "atan2": "atan2({}, {})", "copysign": "copysign({}, {})",
    "nextafter": "nextafter({}, {})", "logaddexp": "logaddexp({}, {})", "isnan": "isnan({})", "isinf": "isinf({})",
    "isfinite": "isfinite({})", "signbit": "signbit({})", "logistic": "", "uniform_like": "",
}  # fmt: skip
WHOLE = {
    **_COMPARED, **_CHOSEN, **_COPIED, **_BITS,
    "add": "{} + {}", "subtract": "{} - {}", "multiply": "{} * {}", "floor_divide": "floor_divide({}, {})",
    "remainder": "remainder_of({}, {})", "pow": "power({}, {})", "negative": "-{}", "abs": "{0} < 0 ? -{0} : {0}",
    "sign": "sign({})", "square": "{0} * {0}", "round": "{}", "floor": "{}", "ceil": "{}", "trunc": "{}",
    "bitwise_invert": "~{}", "bitwise_left_shift": "{} << {}", "bitwise_right_shift": "{} >> {}",
}  # fmt: skip
TRUTH = {
    **_COMPARED, **_CHOSEN, **_COPIED, **_BITS,
    "add": "{} | {}", "multiply": "{} & {}", "bitwise_invert": "!{}", "logical_and": "{} && {}",
    "logical_or": "{} || {}", "logical_xor": "{} != {}", "logical_not": "!{}",
}  # fmt: skip
BY_OPERANDS = {*_COMPARED, "isnan", "isinf", "isfinite", "signbit", "logical_and", "logical_or", "logical_xor",
               "logical_not"}  # fmt: skip
NOT_IN_HALF = {"logaddexp", "nextafter"}  # CuPy rounds elsewhere


def supported(op: str, operands: tuple[str, ...], result: str) -> bool:
    """Whether a group may have such a step: dtypes by name, "float" or "int" for numbers and constants."""
    if not all(name in MEMORY or name in WEAK for name in operands) or result not in MEMORY:
        return False
    if op == "uniform_like":
        return result in FLOATS
    where = worked_in(op, operands, result)
    mixed = {"int64", "uint64"} <= {*operands} and op != "where"  # NumPy makes floats of them
    return op in _table(where) and not mixed and not (where == "float16" and op in NOT_IN_HALF)


def kind(x: int | Constant, dtype: Any) -> str:
    """The dtype of an operand; "float" or "int" for Python's numbers. `dtype` knows those of values."""
    return {bool: "bool", int: "int"}.get(type(x.value), "float") if isinstance(x, Constant) else str(dtype(x))


def worked_in(op: str, operands: tuple[str, ...], result: str) -> str:
    """The dtype in which a step is computed, to which its operands are converted."""
    if op not in BY_OPERANDS:
        return result
    if all(name in WEAK for name in operands):
        return "float64" if "float" in operands else "int64"
    return str(np.result_type(*(WEAK[name] if name in WEAK else DTYPES[name] for name in operands)).name)


def power(y: Any) -> str | None:
    """The function that CuPy takes for `x ** y`, if `y` is one of some numbers; then `pow` has other bits."""
    if type(y) is int:
        return "square" if y == 2 else None
    return {2.0: "square", 0.5: "sqrt", -1.0: "reciprocal"}.get(y) if type(y) is float else None


def _table(dtype: str) -> dict[str, str]:
    return TRUTH if dtype == "bool" else WHOLE if dtype in INTEGERS else FLOATING


def expression(op: str, operands: list[tuple[str, Any]], result: str) -> str:
    """The C++ of one step. Operands are pairs: a dtype and a name; or "float", "int" or "bool" and a Constant."""
    dtype = worked_in(op, tuple(kind for kind, _ in operands), result)
    if op == "pow" and isinstance(y := operands[1][1], Constant) and (simple := power(y.value)):
        op, operands = simple, operands[:1]
    if op == "logistic":
        return _logistic(converted(*operands[0], dtype), dtype)
    kinds = ["bool" if op == "where" and i == 0 else dtype for i in range(len(operands))]
    return _rounded(op, [converted(*x, kind) for x, kind in zip(operands, kinds, strict=True)], dtype)


def _rounded(op: str, terms: list[str], dtype: str) -> str:
    text = _table(dtype)[op].format(*terms)
    exact = op in BY_OPERANDS or op in ("where", "astype", "positive", "copy", "maximum", "minimum", "abs", "negative")
    return f"round16({text})" if dtype == "float16" and not exact else text


def _logistic(x: str, dtype: str) -> str:
    """The steps of the primitive."""
    lowest = -(math.log(float(np.finfo(dtype).max)) - 0.5)
    y = _rounded("maximum", [x, literal(lowest, dtype)], dtype)
    y = _rounded("exp", [_rounded("negative", [y], dtype)], dtype)
    y = _rounded("add", [y, literal(1.0, dtype)], dtype)
    return _rounded("divide", [literal(1.0, dtype), y], dtype)


def converted(kind: str, x: Any, dtype: str) -> str:
    """An operand of a step in the dtype in which it is computed."""
    if isinstance(x, Constant):
        return literal(x.value, dtype)
    if kind == dtype or (dtype == "float64" and kind == "float") or (dtype == "int64" and kind == "int"):
        return str(x)
    if dtype != "float16":
        return f"({REGISTER[dtype]}){x}"
    return f"round16({x})" if kind in ("float", *FLOATS) else f"round16((float){x})"


def literal(value: float, dtype: str) -> str:
    """A number in a dtype, exactly."""
    with np.errstate(over="ignore"):
        number = np.array(value).astype(dtype)[()]
    if dtype == "bool":
        return "true" if number else "false"
    if dtype in INTEGERS:
        least = number == np.iinfo(dtype).min and dtype == "int64"
        suffix = {"int64": "ll", "uint64": "ull", "uint32": "u"}.get(dtype, "")
        plain = f"-{2**63 - 1}ll - 1" if least else f"{int(number)}{suffix}"
        plain = plain if suffix or dtype == "int32" else f"({REGISTER[dtype]}){plain}"
        return f"({plain})" if number < 0 else plain
    double = dtype == "float64"
    if np.isfinite(number):
        text = re.sub(r"\.?0*p", "p", float(number).hex()) + ("" if double else "f")
        return f"({text})" if text[0] == "-" else text
    bits = number.astype("float64" if double else "float32").view("uint64" if double else "uint32")
    return f"__longlong_as_double({bits:#x}ll)" if double else f"__int_as_float({bits:#x})"
