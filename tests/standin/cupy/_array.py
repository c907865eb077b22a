"""`cupy.ndarray`: a NumPy array that nobody else can reach, and the block of memory it lies in."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from . import _dlpack, _indexing
from ._core.syncdetect import synchronized
from .cuda import pinned_memory, runtime
from .cuda._capture import capturing, launched, must_be_launched, refuse
from .cuda.device import Device
from .cuda.memory import Memory, MemoryPointer, current_pool

SCALARS = (bool, int, float, complex)
DTYPES = "?bBhHiIlLqQefdFD"
NO_CONVERSION = (
    "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy array explicitly."
)


class Flags:
    """The layout."""

    def __init__(self, c: bool, f: bool, own: bool) -> None:
        self.c_contiguous, self.f_contiguous, self.owndata = c, f, own
        self.forc, self.fnc = c or f, f and not c

    def __getitem__(self, name: str) -> bool:
        return getattr(self, name.lower())


def unsupported(value: Any) -> TypeError:
    """What CuPy says about anything that is neither its own array nor a number."""
    return TypeError(f"Unsupported type {type(value)}")


def root(host: Any) -> Any:
    """The NumPy array that owns the memory."""
    while isinstance(host.base, np.ndarray):
        host = host.base
    return host


def new(host: Any, *, order: str = "C") -> "ndarray":
    """An array of its own on the current device; `host` must be fresh, and becomes its memory."""
    must_be_launched()
    host = np.asarray(host)
    if host.dtype.char not in DTYPES:
        raise ValueError(f"Unsupported dtype {host.dtype}")
    pool = current_pool()
    if pool.keeps:
        return _placed(host, Memory(host.nbytes, pool), order)
    mem = Memory.__new__(Memory)  # counted before anything is copied
    mem._pool = None
    if host.base is not None or (order == "C" and not host.flags.c_contiguous):
        host = host.copy(order=order)
    mem.__init__(host.nbytes, pool, host)
    return _made(host, mem, None)


def _placed(host: Any, mem: Memory, order: str) -> "ndarray":
    """A copy of it in this memory."""
    like = np.empty_like(host, order=order, subok=False) if not host.flags.c_contiguous else host
    placed = np.ndarray(host.shape, host.dtype, mem.host.data, 0, None if like is host else like.strides)
    placed[...] = host
    return _made(placed, mem, None)


def _made(host: Any, mem: Memory, base: "ndarray | None") -> "ndarray":
    array = object.__new__(ndarray)
    array._np, array._mem, array.base = host, mem, base
    return array


def check_device(array: "ndarray", device: int | None = None) -> Any:
    """The NumPy array behind it. ValueError if a kernel on the current device could not reach it."""
    device = runtime.getDevice() if device is None else device
    if array._mem.device_id != device:
        raise ValueError(
            f"The device where the array resides ({array._mem.device_id}) is different from the current device "
            f"({device}). Peer access is unavailable between these devices."
        )
    return array._np


functions: dict[str, Callable[..., Any]] = {}  # of the namespace, filled by it


class ndarray:
    """As CuPy's: mixes with Python's and NumPy's numbers, but with no array of the host."""

    __module__ = "cupy"
    __slots__ = ("__weakref__", "_mem", "_np", "base")
    __array_priority__ = 100
    __hash__ = None  # type: ignore[assignment]

    def __init__(
        self, shape: Any, dtype: Any = float, memptr: MemoryPointer | None = None, strides: Any = None, order: str = "C"
    ) -> None:
        if strides is not None and memptr is None:
            raise ValueError("memptr is required if strides is given.")
        self.base = None
        if memptr is None:
            size = int(np.prod(shape, dtype=object)) * np.dtype(dtype).itemsize
            mem = Memory.__new__(Memory)
            mem._pool = None
            if size > 1 << 26:  # a large one is counted before there is memory for it
                Memory(size, current_pool())
            pool = current_pool()
            if pool.keeps:
                mem.__init__(size, pool)
                self._np = np.ndarray(shape, dtype, mem.host.data, 0, None, order or "C")
            else:
                self._np = np.empty(shape, dtype, order or "C")
                mem.__init__(self._np.nbytes, pool, self._np)
            self._mem = mem
        else:
            buffer = root(memptr.mem.host).reshape(-1).view(np.uint8)
            self._np = np.ndarray(shape, dtype, buffer.data, memptr.ptr - memptr.mem.ptr, strides, order or "C")
            self._mem = memptr.mem

    def _view(self, host: Any) -> "ndarray":
        return _made(host, self._mem, self if self.base is None else self.base)

    # -- memory and layout
    dtype = property(lambda self: self._np.dtype)
    ndim = property(lambda self: self._np.ndim)
    size = property(lambda self: self._np.size)
    strides = property(lambda self: self._np.strides)
    itemsize = property(lambda self: self._np.itemsize)
    nbytes = property(lambda self: self._np.nbytes)
    device = property(lambda self: Device(self._mem.device_id))
    T = property(lambda self: self if self.ndim < 2 else self._view(self._np.T))
    real = property(lambda self: self._view(self._np.real) if self.dtype.kind == "c" else self)

    @property
    def shape(self) -> tuple[int, ...]:
        return self._np.shape

    @shape.setter
    def shape(self, shape: Any) -> None:
        view = self._np.reshape(shape)
        if self.size and not np.may_share_memory(view, self._np):
            raise AttributeError("Incompatible shape for in-place modification.")
        self._np = view

    @property
    def mT(self) -> "ndarray":
        if self.ndim < 2:
            raise ValueError("matrix transpose with ndim < 2 is undefined")
        return self._view(self._np.swapaxes(-1, -2))

    @property
    def imag(self) -> "ndarray":
        return self._view(self._np.imag) if self.dtype.kind == "c" else new(np.zeros_like(self._np))

    @property
    def flags(self) -> Flags:
        flags = self._np.flags
        return Flags(flags.c_contiguous, flags.f_contiguous, self.base is None)

    @property
    def data(self) -> MemoryPointer:
        here = self._np.__array_interface__["data"][0] if self.size else self._mem.ptr
        return MemoryPointer(self._mem, here - self._mem.ptr)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "descr": self.dtype.descr,
            "strides": None if self.flags.c_contiguous else self.strides,
            "data": (self.data.ptr, False),
            "stream": 1,
            "version": 3,
        }

    __dlpack__ = _dlpack.export
    __dlpack_device__ = _dlpack.device

    # -- to the host
    def get(self, stream: Any = None, order: str = "C", out: Any = None, blocking: bool = True) -> Any:
        """A copy on the host. CuPy declares the wait even where it does not block."""
        if out is None:
            out = np.empty_like(self._np, order=order.upper() if order.upper() != "A" else "K", subok=False)
        elif not isinstance(out, np.ndarray):
            raise TypeError("Only numpy.ndarray can be obtained from cupy.ndarray")
        elif self.dtype != out.dtype:
            raise TypeError(f"{out.dtype} array cannot be obtained from {self.dtype} array")
        elif self.shape != out.shape:
            raise ValueError(f"Shape mismatch. Expected shape: {self.shape}, actual shape: {out.shape}")
        if self.size:
            synchronized("get")
            np.copyto(out, self._np)
        return out

    def item(self) -> Any:
        if self.size != 1:
            raise ValueError("can only convert an array of size 1 to a Python scalar")
        return self.get().item()

    def __bool__(self) -> bool:
        if self.size > 1:
            raise ValueError(
                "The truth value of an array with more than one element is ambiguous. Use a.any() or a.all()"
            )
        return bool(self.get())

    def tolist(self) -> Any:
        return self.get().tolist()

    def tobytes(self, order: str = "C") -> bytes:
        return self.get().tobytes(order)

    def __int__(self) -> int:
        return int(self.get())

    def __float__(self) -> float:
        return float(self.get())

    def __complex__(self) -> complex:
        return complex(self.get())

    def __repr__(self) -> str:
        return repr(self.get())

    def __str__(self) -> str:
        return str(self.get())

    def __format__(self, spec: str) -> str:
        return format(self.get(), spec)

    def __array__(self, *args: Any, **options: Any) -> Any:
        raise TypeError(NO_CONVERSION)

    def __reduce__(self) -> Any:
        return functions["array"], (self.get(),)

    # -- from the host, and copies
    def set(self, arr: Any, stream: Any = None) -> None:
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if self.dtype != arr.dtype:
            raise TypeError(f"{arr.dtype} array cannot be set to {self.dtype} array")
        if self.shape != arr.shape:
            raise ValueError(f"Shape mismatch. Old shape: {self.shape}, new shape: {arr.shape}")
        if not self.flags.forc:
            raise RuntimeError("Cannot set to non-contiguous array")
        if not pinned_memory.is_memory_pinned(arr.__array_interface__["data"][0]):
            refuse(capturing(stream))
        self._upload(arr)

    @launched
    def _upload(self, arr: Any) -> None:
        np.copyto(self._np, arr)

    @launched
    def _astype(self, dtype: Any, order: str | None = "K", copy: bool | None = True) -> "ndarray":
        """`copy=None`: only if needed; False refuses."""
        dtype, order = np.dtype(dtype), (order or "K").upper()
        fits = dtype == self.dtype and (order in "KA" or self.flags[f"{order}_CONTIGUOUS"])
        if fits and not copy:
            return self
        if copy is False:
            raise ValueError("Unable to avoid copy while creating an array as requested.")
        host = check_device(self)
        with np.errstate(all="ignore"):
            return new(host.astype(dtype, order, copy=True), order="K")

    def astype(
        self, dtype: Any, order: str = "K", casting: Any = None, subok: Any = None, copy: bool = True
    ) -> "ndarray":
        for name, option in (("casting", casting), ("subok", subok)):
            if option is not None:
                raise TypeError(f"{name} is not supported yet")
        return self._astype(dtype, order, True if copy else None)

    def copy(self, order: str = "C") -> "ndarray":
        """On the current device, wherever this array is."""
        if self.size == 0 or self._mem.device_id == runtime.getDevice():
            return self._astype(self.dtype, order)
        with self.device:
            source = self._astype(self.dtype, order, None)
        if not source.flags.forc:
            raise NotImplementedError("CuPy cannot copy non-contiguous array between devices.")
        return new(source._np.copy(order="K"), order="K")

    __copy__ = copy

    def __deepcopy__(self, memo: Any) -> "ndarray":
        with self.device:
            return self.copy()

    def view(self, dtype: Any = None, type: Any = None) -> "ndarray":
        return self._view(self._np.view() if dtype is None else self._np.view(dtype))

    @launched
    def fill(self, value: Any) -> None:
        """With one number."""
        if isinstance(value, ndarray | np.ndarray) and value.shape != ():
            raise ValueError(f"non-scalar {type(value).__module__}.ndarray cannot be used for fill")
        if isinstance(value, ndarray):
            value = check_device(value).astype(self.dtype)
        elif not isinstance(value, (*SCALARS, np.generic, np.ndarray)):
            raise unsupported(value)
        check_device(self)[...] = value

    @launched
    def sort(self, axis: int = -1, kind: str | None = None) -> None:
        check_device(self).sort(axis, kind="stable")

    @launched
    def flatten(self, order: str = "C") -> "ndarray":
        return new(check_device(self).flatten(order))

    def reshape(self, *shape: Any, order: str = "C", copy: bool | None = None) -> "ndarray":
        return functions["reshape"](self, shape[0] if len(shape) == 1 else shape, order, copy=copy)

    def transpose(self, *axes: Any) -> "ndarray":
        return self._view(self._np.transpose(*axes))

    # -- access
    def __len__(self) -> int:
        if self.ndim == 0:
            raise TypeError("len() of unsized object")
        return len(self._np)

    def __iter__(self) -> Iterator["ndarray"]:
        if self.ndim == 0:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: Any) -> "ndarray":
        return _indexing.read(self, index)

    def __setitem__(self, index: Any, value: Any) -> None:
        _indexing.write(self, index, value)

    # -- NumPy's protocols
    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        if "out" in options:
            (options["out"],) = options["out"]
        function = functions.get(ufunc.__name__)
        for part in method.split(".") if method != "__call__" else ():
            function = getattr(function, part, None)
        known = all(isinstance(x, (ndarray, np.ndarray, np.generic, *SCALARS)) for x in inputs)
        return function(*inputs, **options) if function is not None and known else NotImplemented

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        place = functools.reduce(lambda a, b: getattr(a, b, None), func.__module__.split(".")[1:], _namespace[0])
        function = getattr(place, func.__name__, func)
        if function is func or not all(issubclass(t, ndarray | np.ndarray) for t in types):
            return NotImplemented
        return function(*args, **kwargs)


_namespace: list[Any] = []  # the module cupy, put here by itself
