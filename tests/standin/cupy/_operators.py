"""Operators of arrays: ufuncs of the namespace."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ._array import SCALARS, functions, ndarray, new


def _binary(name: str) -> tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]:
    """x + y, y + x, x += y. Anything but arrays and numbers goes through NumPy's ufunc, as CuPy's does."""
    numpy_ufunc = getattr(np, name)

    def plain(x: "ndarray", y: Any) -> Any:
        if isinstance(y, (ndarray, *SCALARS)):
            return functions[name](x, y)
        if _should_use_rop(x, y):
            return NotImplemented
        return numpy_ufunc(x, y)

    def reflected(x: "ndarray", y: Any) -> Any:
        return functions[name](y, x) if isinstance(y, SCALARS) else numpy_ufunc(y, x)

    def in_place(x: "ndarray", y: Any) -> "ndarray":
        return functions[name](x, y, x)

    return plain, reflected, in_place


def _should_use_rop(x: Any, y: Any) -> bool:
    try:
        return y.__array_ufunc__ is None
    except AttributeError:
        return getattr(x, "__array_priority__", 0) < getattr(y, "__array_priority__", 0)


def _comparison(name: str, otherwise: bool | None) -> Callable[..., Any]:
    plain = _binary(name)[0]

    def compare(x: ndarray, y: Any) -> Any:
        if otherwise is not None and (y is None or type(y).__eq__ is object.__eq__ is not type(y).__hash__):
            return new(np.full(x.shape, otherwise))
        return plain(x, y)

    return compare


ARITHMETIC = {
    "add": "add", "sub": "subtract", "mul": "multiply", "matmul": "matmul", "truediv": "true_divide",
    "floordiv": "floor_divide", "mod": "remainder", "divmod": "divmod", "pow": "power", "lshift": "left_shift",
    "rshift": "right_shift", "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor",
}  # fmt: skip
COMPARISONS = {"lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal"}
UNARY = {"neg": "negative", "pos": "positive", "abs": "absolute", "invert": "invert"}


def install() -> None:
    """Gives `ndarray` its operators."""
    for name, full in ARITHMETIC.items():
        plain, reflected, in_place = _binary(full)
        setattr(ndarray, f"__{name}__", plain)
        setattr(ndarray, f"__r{name}__", reflected)
        if name not in ("matmul", "divmod"):
            setattr(ndarray, f"__i{name}__", in_place)
    for name, full in COMPARISONS.items():
        setattr(ndarray, f"__{name}__", _comparison(full, None))
    ndarray.__eq__ = _comparison("equal", False)
    ndarray.__ne__ = _comparison("not_equal", True)
    for name, full in UNARY.items():
        setattr(ndarray, f"__{name}__", lambda x, full=full: functions[full](x))
