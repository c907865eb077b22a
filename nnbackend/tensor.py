"""Tensor: one array and the node that made it. It is itself an array of the standard; its namespace is `nnbackend.array`."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from . import tape
from .backend import FLOATING, Array, Device, DeviceLike, HostArray, backend_of, device_of, is_array, namespace, shown, to_host
from .backend import device as find_device
from .diagnose import check_result, explained, harmonised
from .errors import DeviceError, DeviceMismatchError, DTypeError, GraphError, NNBackendError, ShapeError
from .grad_mode import recording
from .interop import Interop
from .ops import elementwise, index, linear
from .ops import shape as shapes
from .ops.transfer import to_device
from .tape import TENSORS, clock
from .tensor_methods import TensorMethods

Key: TypeAlias = Any


# Argument types that cannot hide an array of another library, dtype or device.
PLAIN = frozenset({float, int, bool, str, tuple, list, type(None), slice, type(...), type})


def lift(op: Callable[..., Any], differentiable: bool = True) -> Callable[..., Any]:
    """The op as a function on Tensors: any Tensor in, Tensor out, with its history; all plain arrays in, array out.

    Positional arguments are the op's arrays, keywords its settings.
    """
    keeps_history = recording.get if differentiable else bool

    @functools.wraps(op)
    def lifted(*args: Any, **kw: Any) -> Any:
        raw, like, need, plain = [], None, False, True
        for a in args:
            kind = a.__class__
            if kind in TENSORS:
                value = a.data
                if like is None:
                    like = value
                elif value.dtype is not like.dtype:
                    plain = False
                if a.requires_grad:
                    need = True
                raw.append(value)
            else:
                raw.append(a)
                if kind not in PLAIN:
                    plain = False
        if like is None:
            return op(*args, **kw)[0]
        dtype = None
        if not plain:
            args, raw, dtype = harmonised(op, args, raw, like)
        try:
            y, pulls = op(*raw, **kw)
        except NNBackendError:
            raise
        except (ValueError, TypeError, RuntimeError, IndexError) as error:
            raise explained(op, raw, error) from error
        if dtype is not None:
            check_result(op, raw, y, dtype)
        if need and keeps_history():
            node = (clock(), op, args, kw, pulls)
            return Tensor(y, True, node) if y.__class__ is not tuple else _parts(y, node)
        return Tensor(y) if y.__class__ is not tuple else tuple(Tensor(part) for part in y)

    return lifted


def _parts(y: tuple[Array, ...], node: tape.Node) -> tuple[Any, ...]:
    """Several results: Tensors that share one hidden Tensor, which stands for them all."""
    whole = Tensor(y, True, node)
    made = clock()
    return tuple(
        Tensor(part, True, (made, tape.part_of, (whole, i), {}, tape.part_of(y, i)[1])) for i, part in enumerate(y)
    )


def _reflected(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, other: function(other, self)


def plain(fn: Callable[..., Array]) -> Callable[..., Any]:
    """A function on arrays that has no gradient, lifted."""

    @functools.wraps(fn)
    def op(*args: Any, **kw: Any) -> Any:
        return fn(*args, **kw), (None,) * len(args)

    return lift(op, differentiable=False)


def _raw_key(key: Key) -> Key:
    """An index without Tensors in it."""
    if isinstance(key, tuple):
        return tuple(k.data if k.__class__ in TENSORS else k for k in key)
    return key.data if key.__class__ in TENSORS else key


def _check_same_kind(place: str, t: Any, value: Any) -> None:
    """A gradient is like its Tensor."""
    if not is_array(value):
        raise DTypeError(f"{place}: expected a tensor or an array, got {type(value).__name__}. Use nb.tensor(...).")
    if device_of(value) != t.device and str(value.device) != str(t.device):
        raise DeviceMismatchError(f"{place}: expected {t.device}, got {value.device}. Move it with .to(...).")
    if tuple(value.shape) != t.shape:
        raise ShapeError(f"{place}: expected shape {t.shape}, got {tuple(value.shape)}")
    if str(value.dtype).rpartition(".")[2] != str(t.dtype):
        raise DTypeError(f"{place}: expected {t.dtype}, got {value.dtype}. Use .astype(...).")


class Tensor(TensorMethods, Interop):
    """An array that remembers where it came from, so that gradients can run back.

    `nb.tensor(...)` makes one. Tensors are values: `t += x` and `t[key] = x` give *this* Tensor new contents, no other
    Tensor changes. Only leaves (made by you, or parameters) change in place, and only under `no_grad`.
    """

    __slots__ = ("__weakref__", "_grad", "bounds", "data", "node", "requires_grad", "written")
    __array_ufunc__ = None  # NumPy leaves `array + tensor` to us
    __array_priority__ = 1000

    data: Array
    requires_grad: bool
    node: Any
    written: int
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
        if not self.data.shape:
            raise TypeError("len() of a 0-d tensor")
        return int(self.data.shape[0])

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        values = shown(self.data, "Tensor(")
        made_by = self.node[1].__name__ if self.requires_grad and self.node not in (None, tape.FREED) else ""
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
        return _unpickled, (to_host(self.data), str(self.device), self.requires_grad)

    def _leaf_copy(self, what: str) -> Any:
        if self.node is not None:
            raise GraphError(f"{what}: expected a leaf, got the result of {self.node[1].__name__}. Use .detach().")
        return Tensor(backend_of(self.data).copy(self.data), self.requires_grad)

    # -- moving and copying
    def to(self, target: DeviceLike, dtype: Any = None) -> Any:
        """On another device, or in another dtype, or both: `.to("cuda")`, `.to("float64")`, `.to("cpu", "float32")`."""
        try:
            where = find_device(target)
        except ValueError:
            return self.astype(target)
        y = self if where == self.device else transfer(self, where)
        if y is not self and hasattr(self, "bounds"):
            y.bounds = self.bounds
        return y if dtype is None else y.astype(dtype)

    def to_device(self, device: DeviceLike, /, *, stream: Any = None) -> Any:
        """The standard's name for moving."""
        return self.to(find_device(device))

    def astype(self, dtype: Any) -> Any:
        """The same values in another dtype; the gradient comes back in the old one."""
        return self if backend_of(self.data).dtype(dtype) == self.data.dtype else namespace(self).astype(self, dtype)

    def detach(self) -> Any:
        """The same values without history; they share memory."""
        y = Tensor(self.data)
        if hasattr(self, "bounds"):
            y.bounds = self.bounds
        return y

    def clone(self) -> Any:
        """A copy with history."""
        return _clone(self)

    def requires_grad_(self, mode: bool = True) -> Any:
        """Ask for a gradient, or no longer. DTypeError for integers, GraphError for results of operations."""
        if mode and self.dtype not in FLOATING:
            raise DTypeError(f"requires_grad: expected a floating dtype, got {self.dtype}. Use .astype('float32').")
        if self.node is not None and not mode:
            raise GraphError("requires_grad_(False): expected a leaf, got the result of an operation. Use .detach().")
        self.requires_grad = mode
        return self

    # -- gradients
    @property
    def grad(self) -> Any:
        """The gradient that `backward` has added up, or None. Assigning copies."""
        g = self._grad
        if g is not None and g.__class__ not in TENSORS:
            g = self._grad = Tensor(g)
        return g

    @grad.setter
    def grad(self, value: Any) -> None:
        if value is not None:
            _check_same_kind("grad", self, value)
            raw = value.data if value.__class__ in TENSORS else value
            value = value if value.__class__ in TENSORS and value.requires_grad else backend_of(raw).copy(raw)
        self._grad = value

    def accumulate(self, dx: Array, shared: bool) -> None:
        """Add to the gradient; `shared` says that others hold `dx` too. For the tape."""
        g = self._grad
        if g is None:
            self._grad = tape.owned(dx, shared)
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
            raise GraphError("backward: expected a tensor with history, got one that needs no gradient.")
        if gradient is None:
            if self.data.shape:
                raise GraphError(f"backward: expected a scalar, got shape {self.shape}. Use .sum(), or pass a gradient.")
            seed = tape.seed_of(self)
        else:
            _check_same_kind("backward", self, gradient)
            seed = gradient.data if gradient.__class__ in TENSORS else gradient
        if self.node is None:
            self.accumulate(seed, True)
        elif create_graph:
            seed = gradient if gradient.__class__ in TENSORS else Tensor(seed)
            leaves = tape.leaves(self, ())
            for leaf, g in zip(leaves, tape.gradients(self, seed, leaves, Tensor), strict=True):
                if g is not None:
                    leaf._grad = g if leaf._grad is None else leaf.grad + g
        else:
            tape.backward(self, seed, retain_graph)

    # -- contents
    def __getitem__(self, key: Key) -> Any:
        return _getitem(self, key=_raw_key(key))

    def __setitem__(self, key: Key, value: Any) -> None:
        self._replace(_setitem(self._before(), value, key=_raw_key(key)))

    def _before(self) -> Any:
        """This Tensor's present contents as a Tensor of their own."""
        return Tensor(self.data, self.requires_grad and not self._writable_leaf(), self.node)

    def _writable_leaf(self) -> bool:
        """A leaf that wants a gradient may change only where no history is kept."""
        if not self.requires_grad or self.node is not None:
            return False
        if recording.get():
            raise GraphError("in-place: expected no_grad around a change of a leaf that needs a gradient.")
        return True

    def _replace(self, new: Any) -> None:
        """Take over the contents and the history of `new`."""
        self.data = new.data
        if new.node is None:
            self.written = clock()
        else:
            self.node, self.requires_grad = new.node, True

    def _inplace(self, method: str, other: Any) -> Any:
        """`t += x`: leaves that want a gradient change in place, everything else becomes a new Tensor."""
        if not self._writable_leaf():
            return NotImplemented
        self._replace(getattr(self, method)(other))
        return self

    def __iadd__(self, other: Any) -> Any:
        return self._inplace("__add__", other)

    def __isub__(self, other: Any) -> Any:
        return self._inplace("__sub__", other)

    def __imul__(self, other: Any) -> Any:
        return self._inplace("__mul__", other)

    def __itruediv__(self, other: Any) -> Any:
        return self._inplace("__truediv__", other)

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
    __eq__, __ne__ = plain(operator.eq), plain(operator.ne)  # type: ignore[assignment]
    __lt__, __le__, __gt__, __ge__ = map(plain, (operator.lt, operator.le, operator.gt, operator.ge))
    __and__, __or__, __xor__, __invert__ = map(plain, (operator.and_, operator.or_, operator.xor, operator.invert))
    __rand__, __ror__, __rxor__ = map(_reflected, (__and__, __or__, __xor__))
    __lshift__, __rshift__ = plain(operator.lshift), plain(operator.rshift)
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


def _unpickled(host: HostArray, device: str, requires_grad: bool) -> Tensor:
    return Tensor(find_device(device).put(host), requires_grad)
