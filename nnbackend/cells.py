"""Cells: whatever outlives a step. Parameters, buffers, counters and learning rates live here and nowhere else.

A program that is being recorded must see every read and write of state. Cells are the one place to watch: only they
know that a recorder may exist (one context variable, 0.03 µs); ops, layers and optimizers do not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any

from .backend import (
    BACKENDS,
    FLOATING,
    NUMPY,
    Array,
    Device,
    DeviceLike,
    backend_of,
    device_of,
    dtype_name,
    is_array,
    namespace,
)
from .backend import device as find_device
from .errors import DeviceMismatchError, DTypeError, ShapeError
from .random import fresh_key, generator
from .recipe import hollow, hollow_array, is_hollow
from .recorder import recorder
from .tape import TENSORS, clock
from .tensor import Tensor

_changes: ContextVar[int] = ContextVar("nnbackend.changes", default=0)


class _Structure:
    """Counts changes of structure: attributes of modules and optimizers, homes of parameters. One integer."""

    version = 0
    settings = 0  # changes of anything but training modes
    latest = ""  # what changed last, for messages

    def changed(self, what: str = "", mode: bool = False) -> None:
        if hollow.get() is not None:  # of a module that nobody uses yet
            return
        self.version += 1
        self.settings += not mode
        self.latest = what
        _changes.set(_changes.get() + 1)

    @property
    def changes_here(self) -> int:
        """How many changes this thread or task has made."""
        return _changes.get()


structure = _Structure()


class Scalar:
    """A number that changes from step to step: a learning rate, a count of steps or calls."""

    __slots__ = ("_value", "name")

    def __init__(self, value: float, name: str = "") -> None:
        self._value, self.name = value, name

    @property
    def value(self) -> Any:
        """The number; while recording, what stands for it."""
        r = recorder.get()
        return self._value if r is None else r.read(self)

    @value.setter
    def value(self, value: Any) -> None:
        r = recorder.get()
        if r is None:
            self._value = value
        else:
            r.write(self, value)

    def __repr__(self) -> str:
        return f"Scalar({self._value})"


class Cell(Tensor):
    """A Tensor that outlives the step. It changes in place: its identity is permanent, its array is not.

    `home` is the flat buffer whose slice `array` is, where an optimizer has laid the parameters out, with the offset.
    """

    __slots__ = ("array", "home", "name", "offset")
    is_cell = True

    array: Array
    home: Cell | None
    offset: int

    def __init__(self, array: Array, requires_grad: bool = False, name: str = "") -> None:
        self.array, self.name, self.home, self.offset = array, name, None, 0
        self.requires_grad = requires_grad
        self.node, self._grad, self.written = None, None, 0

    @property
    def data(self) -> Array:
        """The array; while recording, what stands for it."""
        r = recorder.get()
        return self.array if r is None else r.read(self)

    def assign(self, value: Any) -> None:
        """Take over these values in place. ShapeError if they do not fit; the dtype and the device stay."""
        raw, data = value.data if isinstance(value, Tensor) else value, self.data
        name = self.name or "assign"
        if not is_array(raw):
            raise DTypeError(f"{name}: expected a tensor or an array, got {type(value).__name__}. Use nb.tensor(...).")
        if (there := device_of(raw)) is not (here := device_of(data)) and there != here:
            raise DeviceMismatchError(f'{name}: expected {here}, got {there}. Move it with .to("{here}").')
        if tuple(raw.shape) != self.shape:
            raise ShapeError(f"{name}: expected shape {self.shape}, got {tuple(raw.shape)}")
        if hollow.get() is not None and is_hollow(self.array):
            return
        data[...] = raw if raw.dtype == data.dtype else namespace(raw).astype(raw, data.dtype)
        self.written = clock()

    def move(self, device: Device | None = None, dtype: Any = None) -> None:
        """Change device or, if it is floating, dtype in place, with the gradient; the cell stays the same object."""
        here, g = Tensor(self.array), self._grad
        moved = here.to(device or self.device, dtype if self.dtype in FLOATING else None)
        if moved is not here:
            self.rehome(moved.data)
            if g is not None:
                self._grad = Tensor(g.data if isinstance(g, Tensor) else g).to(self.device, self.dtype).data

    def rehome(self, array: Array, home: Cell | None = None, offset: int = 0) -> None:
        """Live in another array of the same values: alone, or as a slice of a flat buffer."""
        self.array, self.home, self.offset = array, home, offset
        structure.changed(self.name)

    def _replace(self, new: Any) -> None:
        """`p -= x`: in place, so that everybody who holds the parameter sees it."""
        self.assign(new)

    def _before(self) -> Any:
        self._writable_leaf()
        return Tensor(self.data)

    def _inplace(self, method: str, other: Any) -> Any:
        self._writable_leaf()
        self.assign(getattr(Tensor(self.data), method)(other))
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if (budget := hollow.get()) is not None:
            budget.spend()
            return _restored(type(self), self.array, self._state())
        return _restored(type(self), backend_of(self.array).copy(self.array), self._state())

    def __reduce__(self) -> tuple[Any, ...]:
        host = backend_of(self.array).to_host(self.array)
        return _unpickled, (type(self), host, str(self.device), self._state())

    def _state(self) -> dict[str, Any]:
        return {"requires_grad": self.requires_grad, "name": self.name}


class Buffer(Cell):
    """State that is not trained: running statistics, optimizer memory. `persistent` ones are in the state dict."""

    __slots__ = ("persistent",)

    def __init__(self, array: Any, name: str = "", persistent: bool = True) -> None:
        raw = array.data if isinstance(array, Tensor) else array
        super().__init__(raw if hollow.get() else backend_of(raw).copy(raw), False, name)
        self.persistent = persistent

    @classmethod
    def full(cls, shape: tuple[int, ...], value: float, device: DeviceLike = "cpu", dtype: Any = "float32") -> Buffer:
        """One that starts with this number everywhere."""
        if hollow.get():
            return cls(hollow_array(shape, dtype))
        place = find_device(device)
        return cls(place.put(NUMPY.xp.full(shape, value, dtype=dtype_name(dtype))))

    def _state(self) -> dict[str, Any]:
        return {**super()._state(), "persistent": self.persistent}


Initialiser = Callable[[Any, tuple[int, ...]], Any]  # (generator, shape) -> NumPy array, drawn on the host


class Parameter(Cell):
    """A Tensor to train, which `initialiser` can draw again; `drawn_at` is when it did so last."""

    __slots__ = ("_gradient", "drawn_at", "gradient_home", "initialiser")

    gradient_home: Cell  # where replays of a recorded step leave the gradient; unset until one does

    def __init__(self, data: Any, requires_grad: bool = True, initialiser: Initialiser | None = None) -> None:
        array = data.data if isinstance(data, Tensor) else data
        if not is_array(array):
            given = type(data).__name__
            raise DTypeError(f"Parameter: expected a tensor or an array, got {given}. Use nb.tensor(...).")
        super().__init__(array if hollow.get() else backend_of(array).copy(array))
        self.initialiser, self.drawn_at = initialiser, -1 if initialiser is None else 0
        self.requires_grad_(requires_grad)

    @classmethod
    def drawn(
        cls, initialiser: Initialiser, shape: tuple[int, ...], device: DeviceLike = "cpu", dtype: Any = "float32"
    ) -> Parameter:
        """A parameter drawn now, from fresh entropy, which can be drawn again."""
        if hollow.get():
            return cls(hollow_array(shape, dtype), initialiser=initialiser)
        host = initialiser(generator(fresh_key()), shape).astype(dtype_name(dtype))
        return cls(find_device(device).put(host), initialiser=initialiser)

    @property
    def _grad(self) -> Any:
        r = recorder.get()
        return self._gradient if r is None else r.read_grad(self)

    @_grad.setter
    def _grad(self, value: Any) -> None:
        r = recorder.get()
        if r is None:
            self._gradient = value
        else:
            r.write_grad(self, value)

    @property
    def fresh(self) -> bool:
        """As it was drawn: never loaded, assigned or trained."""
        return self.written == self.drawn_at

    def accumulate(self, dx: Array, shared: bool) -> None:
        """Add to the gradient. For the tape."""
        if recorder.get() is None and self._gradient is None:
            backend = BACKENDS.get(dx.__class__) or backend_of(dx)
            self._gradient = backend.copy(dx) if shared else backend.own(dx)
        else:
            super().accumulate(dx, shared)

    def _shown(self, g: Array) -> Array:
        """A copy, if a replay may write over it."""
        return backend_of(g).copy(g) if hasattr(self, "gradient_home") else g

    def draw(self, generator: Any) -> None:
        """Draw the values again, from NumPy's `generator`; afterwards the parameter counts as fresh."""
        if self.initialiser is not None and hollow.get() is None:
            self.assign(self.device.put(self.initialiser(generator, self.shape).astype(self.dtype)))
            self.drawn_at = self.written

    def _state(self) -> dict[str, Any]:
        return {**super()._state(), "initialiser": self.initialiser, "drawn_at": 0 if self.fresh else -1}


def gradients_of(parameters: Iterable[Parameter]) -> list[Array | None]:
    """Their gradients as arrays, None where there is none. For optimizers."""
    r = recorder.get()
    gradients = [p._gradient for p in parameters] if r is None else [r.read_grad(p) for p in parameters]
    return [g.data if g.__class__ in TENSORS else g for g in gradients]


def clear_gradients(parameters: Iterable[Parameter]) -> None:
    """Forget their gradients."""
    r = recorder.get()
    for p in parameters:
        if r is None:
            p._gradient = None
        else:
            r.write_grad(p, None)


def gradient_home(parameter: Parameter, like: Array) -> Cell:
    """The cell where programs leave the gradient of a parameter."""
    home: Cell | None = getattr(parameter, "gradient_home", None)
    wanted = device_of(like), like.dtype, like.shape  # the device first: dtypes of different libraries do not compare
    if home is None or (home.array is not None and (home.device, home.array.dtype, home.array.shape) != wanted):
        home = parameter.gradient_home = Cell(None, name=f"{parameter.name}.grad")  # memory comes with the first replay
    return home


def _restored(kind: type[Cell], array: Array, state: dict[str, Any]) -> Cell:
    cell = kind.__new__(kind)
    Cell.__init__(cell, array)
    for name, value in state.items():
        setattr(cell, name, value)
    return cell


def _unpickled(kind: type[Cell], host: Any, device: str, state: dict[str, Any]) -> Cell:
    return _restored(kind, find_device(device).put(host), state)
