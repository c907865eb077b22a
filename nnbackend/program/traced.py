"""Traced: an array that runs and writes down what is done to it.

It carries the real array and computes with it, so a recording is a true step and needs no rules for shapes. Views of
one array know what they are views of: a write through one of them is a new version of all.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from gc import get_referrers
from types import CellType
from typing import Any
from weakref import ref

from ..backend import Array
from ..cells import Scalar
from ..tape import TENSORS
from ..tree import mapped
from .graph import HOLE, Node
from .number import ARITHMETIC, COMPARISONS, UNARY, Number

How = tuple[str, tuple[Any, ...], dict[str, Any]]  # a view: the op that makes it, with its arguments


class Traced:
    """Stands for an array while a step is recorded; when the recording is over it is as good as the array.

    `base` and `how` say which handle it is a view of, `seen` for which version of the base `latest` was derived.
    """

    __slots__ = ("__weakref__", "base", "how", "latest", "seen", "trace", "value")
    __array_priority__ = 2000

    def __init__(
        self, trace: Any, value: Array, node: Node | None, base: Traced | None = None, how: How | None = None
    ) -> None:
        self.trace, self.value, self.latest, self.base, self.how = trace, value, node, base, how
        self.seen = base.node if base is not None and node is not None else None
        trace.handles.append(ref(self))

    @property
    def root(self) -> Traced:
        """What it is, in the end, a view of."""
        return self if self.base is None else self.base.root

    # -- versions
    @property
    def node(self) -> Node:
        """What it is now; a view is derived again if its base has changed."""
        if self.base is not None and self.base.node is not self.seen:
            old, self.seen, (op, args, kw) = self.latest, self.base.node, self.how  # type: ignore[misc]
            self.latest = self.trace.emit(op, (self.seen,), args, kw, self.value, label=old and old.label)
        return self.latest  # type: ignore[return-value]

    def becomes(self, node: Node) -> None:
        """It has been written to: this handle, its base and so all views of that have a new version."""
        self.trace.written(self)
        if self.base is not None:
            base = self.base
            base.becomes(self.trace.emit("set", (base.node, node), (HOLE, HOLE, self.how), {}, base.value))
            self.seen = base.node
        self.latest = node

    def view(self, op: str, args: tuple[Any, ...], kw: dict[str, Any], value: Array) -> Traced:
        """The result of a view op: tied to this handle if it shares its memory."""
        node = self.trace.emit(op, (self.node,), args, kw, value)
        if self.trace.backend.shares(value, self.value):
            return type(self)(self.trace, value, node, self, (op, args, kw))
        return type(self)(self.trace, value, node)

    # -- what it is
    @property
    def shape(self) -> tuple[int, ...]:
        """As a tuple."""
        return tuple(self.value.shape)

    @property
    def dtype(self) -> Any:
        """The library's own."""
        return self.value.dtype

    @property
    def device(self) -> Any:
        """The library's own word."""
        return self.value.device

    @property
    def ndim(self) -> int:
        """How many axes."""
        return len(self.value.shape)

    @property
    def size(self) -> int:
        """How many elements."""
        return self.value.size  # type: ignore[no-any-return]

    def __len__(self) -> int:
        return len(self.value)

    def __repr__(self) -> str:
        return f"Traced({self.value!r})"

    def __array_namespace__(self, api_version: str | None = None) -> Any:
        return self.trace.namespace

    # -- contents
    @property
    def T(self) -> Any:
        """The transpose of a matrix."""
        return self.trace.namespace.matrix_transpose(self)

    mT = T

    def __getitem__(self, key: Any) -> Any:
        return self.trace.getitem(self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.trace.setitem(self, key, value)

    def _inplace(self, name: str, other: Any) -> Any:
        if type(other) in TENSORS:
            return NotImplemented
        trace = self.trace
        result = trace.call(BINARY[name], getattr(operator, f"i{name.rstrip('_')}"), (self, other), {})
        if concrete(result) is not self.value:  # NumPy's scalars do not change
            return result
        if trace.open:
            self.becomes(result.node)
        return self

    def __divmod__(self, other: Any) -> tuple[Any, Any]:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> tuple[Any, Any]:
        return other // self, other % self

    # -- ways out: their values cannot be known at a replay
    def _leaves(self, how: str) -> Array:
        if self.trace.open:
            self.trace.breaks(f"{how} of an array")
        return self.value

    def __bool__(self) -> bool:
        return bool(self._leaves("bool()"))

    def __float__(self) -> float:
        return float(self._leaves("float()"))

    def __int__(self) -> int:
        return int(self._leaves("int()"))

    def __index__(self) -> int:
        return operator.index(self._leaves("index()"))

    def __complex__(self) -> complex:
        return complex(self._leaves("complex()"))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return self.trace.backend.to_host(self._leaves("numpy()")).__array__(dtype, copy=copy)

    def __dlpack__(self, **kw: Any) -> Any:
        return self._leaves("dlpack").__dlpack__(**kw)

    def __dlpack_device__(self) -> Any:
        return self._leaves("dlpack").__dlpack_device__()

    def __getattr__(self, name: str) -> Any:
        """Methods of the library's own arrays, beyond the standard, cannot be recorded."""
        if name.startswith("__"):
            raise AttributeError(name)
        found = getattr(self.value, name)  # AttributeError if the library has no such thing
        self._leaves(f".{name}")
        return found

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kw: Any) -> Any:
        """NumPy's functions are recorded under their own names, unless they write to an array of NumPy's."""
        known = getattr(self.trace.backend.xp, ufunc.__name__, None) is ufunc
        if method == "__call__" and not kw and known and ufunc.nout == 1:
            return self.trace.call(ufunc.__name__, ufunc, inputs, {})
        self._leaves(f"np.{ufunc.__name__}")
        inputs, kw = concrete(inputs), concrete(kw)
        return getattr(ufunc, method)(*inputs, **kw)

    __hash__ = object.__hash__


def concrete(x: Any) -> Any:
    """The real arrays and numbers."""
    if isinstance(x, Traced | Number):
        return x.value
    if isinstance(x, slice):
        return slice(concrete(x.start), concrete(x.stop), concrete(x.step))
    return mapped(concrete, x) if isinstance(x, tuple | list | dict) else x


def freed(handles: list[Any]) -> None:
    """Whoever holds one of these holds the real array instead: Tensors, lists, dicts, attributes and closures do."""
    values = {id(h): h.value for h in handles}
    for holder in get_referrers(*handles):
        if holder is handles or isinstance(holder, Traced):
            continue
        if type(holder) in TENSORS and not holder.is_cell:
            holder.data = values.get(id(holder.data), holder.data)
            holder._grad = values.get(id(holder._grad), holder._grad)
        elif isinstance(holder, Scalar):
            holder._value = values.get(id(holder._value), holder._value)
        elif isinstance(holder, CellType):
            holder.cell_contents = values.get(id(holder.cell_contents), holder.cell_contents)
        elif isinstance(holder, list):
            holder[:] = [values.get(id(part), part) for part in holder]
        else:
            attributes = holder if isinstance(holder, dict) else getattr(holder, "__dict__", None)
            if isinstance(attributes, dict):
                attributes.update({k: values[id(x)] for k, x in attributes.items() if id(x) in values})


def _binary(name: str, apply: Callable[..., Any], swapped: bool = False) -> Callable[..., Any]:
    def method(self: Traced, other: Any) -> Any:
        if type(other) in TENSORS:
            return NotImplemented
        operands = (other, self) if swapped else (self, other)
        return self.trace.call(name, apply, operands, {})

    return method


def _unary(name: str, apply: Callable[..., Any]) -> Callable[[Any], Any]:
    return lambda self: self.trace.call(name, apply, (self,), {})


def _changing(name: str) -> Callable[..., Any]:
    return lambda self, other: self._inplace(name, other)


BINARY = {**ARITHMETIC, "matmul": "matmul", "and_": "bitwise_and", "or_": "bitwise_or", "xor": "bitwise_xor",
          "lshift": "bitwise_left_shift", "rshift": "bitwise_right_shift"}  # fmt: skip
for _short, _name in BINARY.items():
    _plain, _apply = _short.rstrip("_"), getattr(operator, _short)
    setattr(Traced, f"__{_plain}__", _binary(_name, _apply))
    setattr(Traced, f"__r{_plain}__", _binary(_name, _apply, swapped=True))
    if _short != "matmul":
        setattr(Traced, f"__i{_plain}__", _changing(_short))
for _short, _name in COMPARISONS.items():
    setattr(Traced, f"__{_short}__", _binary(_name, getattr(operator, _short)))
for _short, _name in {**UNARY, "invert": "bitwise_invert"}.items():
    setattr(Traced, f"__{_short}__", _unary(_name, getattr(operator, _short)))
Traced.__hash__ = object.__hash__  # type: ignore[method-assign, assignment]
