"""Element-wise code on arrays as one launch: it runs on lazy arrays, which only write down what is done to them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any, Literal

import numpy as np

from ..base import DTYPES, Array, Backend
from .group import Constant, Group, Input, Step
from .launch import run
from .ops import BY_OPERANDS, FLOATING, NAMES, TRUTH, WEAK, WHOLE, power, supported

NUMBER, STEP = 1 << 16, 1 << 17  # where these are counted from until it is known how many there are


def together(fn: Callable[..., None], *arrays: Array) -> bool:
    """Let `fn` change the arrays in place, in one launch; False, with nothing done, if it is not element by element.

    It is called with lazy arrays. Python's numbers in it are handed to the kernel, so that others need no new kernel.
    """
    first = arrays[0]
    for x in arrays:
        if x.shape != first.shape or not x.flags.c_contiguous or x.dtype not in NAMES or not x.size:
            return False
    if len({x.data.ptr for x in arrays}) < len(arrays):
        return False
    sheet = Sheet()
    lazies = [Lazy(sheet, i, NAMES[x.dtype], x) for i, x in enumerate(arrays)]
    try:
        fn(*lazies)
    except Exception:  # what lazy arrays cannot do, the arrays can, or they say why not
        return False
    changed = [i for i, x in enumerate(lazies) if x.value != i]
    if changed:
        inputs = tuple([Input(x.name, (1,)) for x in lazies])
        group = sheet.group(first.size, inputs, [lazies[i].value for i in changed])
        run(group, arrays, sheet.numbers, [arrays[i] for i in changed])
    return True


class Sheet:
    """Where it is written down."""

    def __init__(self) -> None:
        self.numbers: list[float] = []
        self.kinds: list[Literal["float", "int"]] = []
        self.steps: list[Step] = []

    def operand(self, x: Any) -> tuple[Any, str]:
        """What stands for it in a step, and its dtype."""
        if isinstance(x, Lazy):
            if x.sheet is not self:
                raise ValueError("expected lazy arrays of one call")
            return x.value, x.name
        if type(x) is bool:
            return Constant(x), "bool"
        if type(x) not in (int, float):
            raise TypeError(f"expected an array or a Python number, got {type(x).__name__}")
        kind: Literal["float", "int"] = "float" if type(x) is float else "int"
        self.numbers.append(x)
        self.kinds.append(kind)
        return NUMBER + len(self.numbers) - 1, kind

    def step(self, op: str, operands: tuple[Any, ...], like: Lazy, dtype: str = "") -> Lazy:
        """Add one; its result, which has the dtype that NumPy would give it."""
        if op == "pow" and (simple := power(operands[1])):
            op, operands = simple, operands[:1]
        values, names = zip(*map(self.operand, operands), strict=True)
        dtype = dtype or _dtype(op, names)
        self.steps.append(Step(op, values, dtype))
        return Lazy(self, STEP + len(self.steps) - 1, dtype, like.like)

    def group(self, n: int, inputs: tuple[Input, ...], changed: list[int]) -> Group:
        """All of it over `n` elements."""
        first, last = len(inputs), len(inputs) + len(self.numbers)

        def place(x: Any) -> Any:
            if isinstance(x, Constant) or x < NUMBER:
                return x
            return x - NUMBER + first if x < STEP else x - STEP + last

        steps = tuple([Step(op, tuple(map(place, operands)), dtype) for op, operands, dtype in self.steps])
        return Group((n,), inputs, tuple(self.kinds), steps, tuple(map(place, changed)))


@cache
def _dtype(op: str, names: tuple[str, ...]) -> str:
    arrays = names[1:] if op == "where" else names
    if all(name in WEAK for name in arrays):
        raise TypeError(f"{op}: expected an array")
    dtype = np.result_type(*(WEAK[name] if name in WEAK else DTYPES[name] for name in arrays)).name
    dtype = "bool" if op in BY_OPERANDS else dtype
    if not supported(op, names, dtype):
        raise TypeError(f"{op} of {', '.join(names)}: no kernel")
    return dtype


class Lazy:
    """An array that is there later. In-place operators, and `x[...] = y`, change what it stands for."""

    __slots__ = ("like", "name", "sheet", "value")
    __array_ufunc__ = None
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, sheet: Sheet, value: int, name: str, like: Array) -> None:
        self.sheet, self.value, self.name, self.like = sheet, value, name, like

    dtype = property(lambda self: DTYPES[self.name])
    shape = property(lambda self: self.like.shape)
    ndim = property(lambda self: self.like.ndim)
    size = property(lambda self: self.like.size)
    device = property(lambda self: self.like.device)

    def __setitem__(self, key: Any, y: Any) -> None:
        if key is not ...:
            raise TypeError("expected all elements")
        if not isinstance(y, Lazy) or y.name != self.name:
            y = self.sheet.step("astype", (y,), self, self.name)
        self.value = y.value

    def __bool__(self) -> bool:
        raise TypeError("its value is not known yet")


def _binary(op: str, x: Lazy, y: Any) -> Lazy:
    return x.sheet.step(op, (x, y), x)


def _reflected(op: str, x: Lazy, y: Any) -> Lazy:
    return x.sheet.step(op, (y, x), x)


def _in_place(op: str, x: Lazy, y: Any) -> Lazy:
    x[...] = x.sheet.step(op, (x, y), x)
    return x


def _unary(op: str, x: Lazy) -> Lazy:
    return x.sheet.step(op, (x,), x)


def _method(how: Callable[..., Lazy], op: str) -> Any:
    return lambda *operands: how(op, *operands)


for _name, _op in {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide", "floordiv": "floor_divide",
    "mod": "remainder", "pow": "pow", "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor",
}.items():  # fmt: skip
    for _prefix, _how in {"": _binary, "r": _reflected, "i": _in_place}.items():
        setattr(Lazy, f"__{_prefix}{_name}__", _method(_how, _op))
for _name, _op in {
    "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal", "eq": "equal", "ne": "not_equal",
}.items():  # fmt: skip
    setattr(Lazy, f"__{_name}__", _method(_binary, _op))
for _name, _op in {"neg": "negative", "pos": "positive", "abs": "abs", "invert": "bitwise_invert"}.items():
    setattr(Lazy, f"__{_name}__", _method(_unary, _op))


class LazyNamespace:
    """The element-wise functions of the standard."""

    finfo, iinfo, isdtype = staticmethod(np.finfo), staticmethod(np.iinfo), staticmethod(np.isdtype)

    def __getattr__(self, name: str) -> Any:
        """A function or a dtype."""
        if name in DTYPES:
            return DTYPES[name]
        if name in FLOATING or name in WHOLE or name in TRUTH:
            return partial(self._call, name)
        raise AttributeError(name)

    def _call(self, op: str, *operands: Any) -> Lazy:
        like = next(x for x in operands if isinstance(x, Lazy))
        return like.sheet.step(op, operands, like)

    def astype(self, x: Lazy, dtype: Any, /, *, copy: bool = True) -> Lazy:
        """In another dtype."""
        return x.sheet.step("astype", (x,), x, np.dtype(dtype).name)

    def full_like(self, x: Lazy, value: float) -> Lazy:
        """A number everywhere."""
        return x.sheet.step("astype", (value,), x, x.name)

    def ones_like(self, x: Lazy) -> Lazy:
        """1 everywhere."""
        return self.full_like(x, 1)

    def zeros_like(self, x: Lazy) -> Lazy:
        """0 everywhere."""
        return self.full_like(x, 0)


BACKEND = Backend("lazy", LazyNamespace())
