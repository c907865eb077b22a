"""Tensor: one array and the node that made it. It is an array of the standard itself, of `nnbackend.array`."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Iterator
from typing import Any

from . import tape
from .backend import FLOATING, Array, Device, DeviceLike, HostArray, backend_of, device_of, namespace, shown, to_host
from .backend import device as find_device
from .careful import careful
from .diagnose import check_result, check_same_kind, check_widened, explain, harmonised, raw_key
from .errors import DTypeError, GraphError, ShapeError
from .grad_mode import enable_grad, recording
from .interop import Interop
from .ops import elementwise, index, linear
from .ops import shape as shapes
from .ops.transfer import to_device
from .recorder import recorder
from .tape import TENSORS, clock
from .tensor_methods import TensorMethods

# Argument types that cannot hide an array of another library, dtype or device.
PLAIN = frozenset({float, int, bool, str, type(None), slice, type(...), type})


def lift(op: Callable[..., Any], differentiable: bool = True) -> Callable[..., Any]:
    """The op as a function on Tensors: any Tensor in, Tensor out, with its history; all plain arrays in, array out.

    Positional arguments are the op's arrays, keywords its settings.
    """
    keeps_history, run = recording.get if differentiable else bool, careful(op)

    @functools.wraps(op)
    def lifted(*args: Any, **kw: Any) -> Any:
        raw, need, like, uneven = [], False, None, False
        for a in args:
            if a.__class__ in TENSORS:
                raw.append(value := a.data)
                if like is None:
                    like = value.dtype
                elif value.dtype is not like:
                    uneven = True
                if a.requires_grad:
                    need = True
            else:
                raw.append(a)
                if a.__class__ not in PLAIN:
                    uneven = True
        if (r := recorder.get()) is not None:
            raw, kw = r.operands(args, raw), r.known(kw)
        if like is None:
            return op(*raw, **kw)[0]
        if uneven:
            args, raw, like = harmonised(op, args, raw)
        try:
            y, pulls = run(*raw, **kw)
        except (ValueError, TypeError, RuntimeError, MemoryError) as error:
            explain(op, raw, error)
            raise
        if uneven:
            check_result(op, raw, y, like)
        elif not need and y.__class__ is not tuple and y.dtype is not like:
            check_widened(op, like, y)
        if r is not None:
            r.result(op, y)
        node = (clock(), op, args, kw, pulls) if need and keeps_history() else None
        if y.__class__ is tuple:
            return parts(y, node)
        return Tensor(y, node is not None, node)

    return lifted


def parts(y: tuple[Array, ...], node: tape.Node | None) -> tuple[Any, ...]:
    """Several results: Tensors that share one hidden Tensor, which stands for them all."""
    if node is None:
        return tuple(Tensor(part) for part in y)
    whole = Tensor(y, True, node)
    return tuple(
        Tensor(part, True, (clock(), tape.part_of, (whole, i), {}, tape.part_of(y, i)[1])) for i, part in enumerate(y)
    )


def _reflected(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, other: function(other, self)


def plain(fn: Callable[..., Array]) -> Callable[..., Any]:
    """A function on arrays that has no gradient, lifted."""

    @functools.wraps(fn)
    def op(*args: Any, **kw: Any) -> Any:
        return fn(*args, **kw), (None,) * len(args)

    return lift(op, differentiable=False)


def _changing(method: str) -> Callable[[Any, Any], Any]:
    return lambda self, other: self._inplace(method, other)


class Tensor(TensorMethods, Interop):
    """An array that remembers where it came from, so that gradients can run back.

    `nb.tensor(...)` makes one. Tensors are values: `t += x` and `t[key] = x` give *this* Tensor new contents, no other
    Tensor changes. Only leaves (made by you, or parameters) change in place, and only under `no_grad`.
    """

    __slots__ = ("__weakref__", "_grad", "bounds", "data", "node", "requires_grad", "written")
    __array_ufunc__ = None  # NumPy leaves `array + tensor` to us
    __array_priority__ = 1000
    is_cell = False  # does its array change in place?

    data: Array
    requires_grad: bool
    node: Any
    written: int
    _grad: Any
    bounds: tuple[int, int]  # of integer Tensors made from host data: lowest and highest value; unset when unknown

    def __init__(self, data: Array, requires_grad: bool = False, node: Any = None) -> None:
        self.data = data
        self.requires_grad = requires_grad
        self.node = node
        self._grad = None
        self.written = 0

    def __init_subclass__(cls) -> None:
        TENSORS.add(cls)

    # -- what it is
    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""
        return self.data.shape  # type: ignore[no-any-return]

    @property
    def dtype(self) -> Any:
        """A NumPy dtype on every device."""
        data = self.data
        return backend_of(data).canonical(data.dtype)

    @property
    def device(self) -> Device:
        """Where the values live."""
        return device_of(self.data)

    @property
    def ndim(self) -> int:
        """How many axes."""
        return len(self.data.shape)

    @property
    def size(self) -> int:
        """How many elements."""
        return math.prod(self.data.shape)

    @property
    def is_leaf(self) -> bool:
        """Made by you rather than by an operation whose history is kept."""
        return not self.requires_grad or self.node is None

    def __len__(self) -> int:
        if self.data.shape:
            return int(self.data.shape[0])
        raise TypeError("len() of a 0-d tensor")

    def __iter__(self) -> Iterator[Any]:
        return (self[i, ...] for i in range(len(self)))

    def __repr__(self) -> str:
        values = shown(self.data, "Tensor(")
        made_by = tape.maker(self) if self.requires_grad else ""
        notes = [str(self.dtype)] if self.ndim < 2 and self.size else [f"{self.dtype}, shape {self.shape}"]
        notes += [f"on {self.device}"] if self.device != "cpu" else []
        notes += [f"from {made_by}"] if made_by else ["requires_grad=True"] if self.requires_grad else []
        return f"{type(self).__name__}({values}, {', '.join(notes)})"

    def __array_namespace__(self, api_version: str | None = None) -> Any:
        return namespace(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self._leaf_copy("deepcopy")

    def __reduce__(self) -> tuple[Any, ...]:
        self._leaf_copy("pickle")
        return _unpickled, (to_host(self.data), str(self.device), self.requires_grad, getattr(self, "bounds", None))

    def _leaf_copy(self, what: str) -> Any:
        if not self.is_leaf:
            made_by = tape.maker(self) or "an op"
            raise GraphError(f"{what}: expected a leaf, got the result of {made_by}. Use .detach().")
        return self._bounding(Tensor(backend_of(self.data).copy(self.data), self.requires_grad))

    def _bounding(self, y: Any) -> Any:
        """Tell `y`, which has the same values, their bounds."""
        if y is not self and hasattr(self, "bounds"):
            y.bounds = self.bounds
        return y

    # -- moving and copying
    def to(self, target: DeviceLike, dtype: Any = None) -> Any:
        """On another device, or in another dtype, or both: `.to("cuda")`, `.to("float64")`, `.to("cpu", "float32")`."""
        try:
            where = find_device(target)
        except ValueError as unknown:
            try:
                return self.astype(target)
            except DTypeError:
                raise unknown from None
        y = self.astype(dtype) if dtype is not None and self.device == "cpu" else self  # not all devices have float64
        return (y if where == y.device else y._bounding(transfer(y, where))).astype(dtype or y.dtype)

    def to_device(self, device: DeviceLike, /, *, stream: Any = None) -> Any:
        """The standard's name for moving."""
        return self.to(find_device(device))

    def astype(self, dtype: Any) -> Any:
        """The same values in another dtype; the gradient comes back in the old one."""
        return self if backend_of(self.data).dtype(dtype) == self.data.dtype else namespace(self).astype(self, dtype)

    def detach(self) -> Any:
        """The same values without history; they share memory."""
        return self._bounding(Tensor(self.data))

    def clone(self) -> Any:
        """A copy with history."""
        return _clone(self)

    def requires_grad_(self, mode: bool = True) -> Any:
        """Ask for a gradient, or no longer. DTypeError for integers, GraphError for results of operations."""
        if mode and self.dtype not in FLOATING:
            raise DTypeError(f"requires_grad: expected a floating dtype, got {self.dtype}. Use .astype('float32').")
        if self.node is not None and mode != self.requires_grad:
            raise GraphError(f"requires_grad_({mode}): expected a leaf, got the result of an operation. Use .detach().")
        self.requires_grad = mode
        return self

    # -- gradients
    @property
    def grad(self) -> Any:
        """The gradient that `backward` has added up, or None. Assigning copies."""
        g = self._grad
        if g is not None and g.__class__ not in TENSORS:
            g = self._grad = Tensor(self._shown(g))
        return g

    @grad.setter
    def grad(self, value: Any) -> None:
        if value is not None:
            check_same_kind("grad", self, value)
            raw = value.data if value.__class__ in TENSORS else value
            value = value if value.__class__ in TENSORS and value.requires_grad else backend_of(raw).copy(raw)
        self._grad = value

    def _shown(self, g: Array) -> Array:
        """The gradient for somebody to look at and keep."""
        return g

    def accumulate(self, dx: Array, shared: bool) -> None:
        """Add to the gradient; `shared` says that others hold `dx` too. For the tape."""
        g = self._grad
        if g is None:
            backend = backend_of(dx)
            self._grad = backend.copy(dx) if shared else backend.own(dx)
        elif g.__class__ in TENSORS:  # somebody has looked at it: that value stays
            self._grad = Tensor(g.data + dx)
        else:
            g += dx
            self._grad = g

    def backward(self, gradient: Any = None, retain_graph: bool = False, create_graph: bool = False) -> None:
        """Add to `.grad` of every leaf the gradient of this Tensor; `gradient` weighs its elements if there are many.

        The graph is freed unless `retain_graph`; with `create_graph` the gradients have gradients themselves.
        """
        if not self.requires_grad:
            raise GraphError(
                f"backward: expected a tensor with history, got {self!r}. Was it made under no_grad, "
                "or of tensors without requires_grad=True?"
            )
        if gradient is None:
            if self.data.shape:
                raise GraphError(f"backward: expected a scalar, got {self.shape}. Use .sum(), or pass a gradient.")
            seed = tape.seed_of(self)
        else:
            check_same_kind("backward", self, gradient)
            seed = gradient.data if gradient.__class__ in TENSORS else gradient
            seed = seed if (r := recorder.get()) is None else r.operands((gradient,), [seed])[0]
        if self.node is None:
            self.accumulate(seed, True)
        elif create_graph:
            seed = gradient if gradient.__class__ in TENSORS else Tensor(seed)
            leaves = tape.leaves(self, ())
            for leaf, g in zip(leaves, tape.gradients(self, seed, leaves, Tensor), strict=True):
                if g is not None:
                    with tape.adding, enable_grad():
                        leaf._grad = g.clone() if leaf._grad is None else leaf.grad + g
        else:
            tape.backward(self, seed, retain_graph)

    # -- contents
    def __getitem__(self, key: Any) -> Any:
        return _getitem(self, key=raw_key(key, self.data))

    def __setitem__(self, key: Any, value: Any) -> None:
        new = _setitem(self._before(), value, key=raw_key(key, self.data))
        if new.requires_grad and new.dtype not in FLOATING:
            raise DTypeError(f"setitem: expected a value without history for {new.dtype}. Use .detach().")
        self._replace(new)

    def _before(self) -> Any:
        """The present contents as a Tensor of their own."""
        old = Tensor(self.data, self.requires_grad and not self._writable_leaf(), self.node)
        old.written = self.written
        return old

    def _writable_leaf(self) -> bool:
        """A leaf that wants a gradient may change only where no history is kept."""
        if not self.requires_grad or self.node is not None:
            return False
        if recording.get():
            raise GraphError("in-place: expected no_grad around a change of a leaf that needs a gradient.")
        return True

    def _replace(self, new: Any) -> None:
        """Take over the contents and the history of `new`."""
        if (r := recorder.get()) is not None:
            r.replaced(self)
        if new.node is not None:
            self.node, self.requires_grad = new.node, True
        elif self.node is not None and self.requires_grad:
            self.node, self.requires_grad = tape.cut(Tensor(self.data, True, self.node)), False
        else:
            self.written = clock()
        self.data = new.data
        if hasattr(self, "bounds"):
            del self.bounds

    def _inplace(self, method: str, other: Any) -> Any:
        """`t += x`: leaves that want a gradient change in place, everything else becomes a new Tensor."""
        if not self._writable_leaf():
            return NotImplemented
        new = getattr(self, method)(other)
        if new.shape != self.shape:
            raise ShapeError(f"in-place: expected a result of shape {self.shape}, got {new.shape}")
        self._replace(new)
        return self

    # -- operators
    __add__ = lift(elementwise.add)
    __sub__ = lift(elementwise.subtract)
    __mul__ = lift(elementwise.multiply)
    __truediv__ = lift(elementwise.divide)
    __pow__ = lift(elementwise.pow)
    __mod__ = lift(elementwise.remainder)
    __matmul__ = lift(linear.matmul)
    __floordiv__ = plain(operator.floordiv)
    __radd__, __rsub__, __rmul__, __rtruediv__ = map(_reflected, (__add__, __sub__, __mul__, __truediv__))
    __rpow__, __rmod__, __rmatmul__, __rfloordiv__ = map(_reflected, (__pow__, __mod__, __matmul__, __floordiv__))
    __neg__ = lift(elementwise.negative)
    __pos__ = lift(elementwise.positive)
    __abs__ = lift(elementwise.abs)
    __eq__, __ne__ = plain(operator.eq), plain(operator.ne)
    __lt__, __le__, __gt__, __ge__ = (plain(f) for f in (operator.lt, operator.le, operator.gt, operator.ge))
    __and__, __or__, __xor__ = plain(operator.and_), plain(operator.or_), plain(operator.xor)
    __invert__ = plain(operator.invert)
    __rand__, __ror__, __rxor__ = map(_reflected, (__and__, __or__, __xor__))
    __lshift__, __rshift__ = plain(operator.lshift), plain(operator.rshift)
    __rlshift__, __rrshift__ = _reflected(__lshift__), _reflected(__rshift__)
    __iadd__, __isub__, __imul__, __itruediv__ = map(_changing, ("__add__", "__sub__", "__mul__", "__truediv__"))
    __ipow__, __imod__, __imatmul__ = map(_changing, ("__pow__", "__mod__", "__matmul__"))
    __ifloordiv__, __iand__, __ior__, __ixor__ = map(_changing, ("__floordiv__", "__and__", "__or__", "__xor__"))
    __ilshift__, __irshift__ = map(_changing, ("__lshift__", "__rshift__"))
    __hash__ = object.__hash__

    mT = property(lift(shapes.matrix_transpose), doc="The last two axes exchanged.")

    @property
    def T(self) -> Any:
        """The transpose of a matrix."""
        if len(self.data.shape) != 2:
            raise ShapeError(f"T: expected a matrix, got shape {self.shape}. Use .mT or .permute(...).")
        return self.mT


TENSORS.add(Tensor)
_getitem, _setitem = lift(index.getitem), lift(index.setitem)
transfer, _clone = lift(to_device), lift(elementwise.copy)


def _unpickled(host: HostArray, device: str, requires_grad: bool, bounds: tuple[int, int] | None) -> Tensor:
    t = Tensor(find_device(device).put(host), requires_grad)
    if bounds is not None:
        t.bounds = bounds
    return t
