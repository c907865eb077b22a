"""The seam: what the array-API standard leaves out, one small object per array library."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from ..errors import DTypeError

Array: TypeAlias = Any  # any array: the namespaces share no common type
Precision: TypeAlias = Literal["ieee", "tf32", "bfloat16", "float16"]
KERNELS = os.environ.get("NNBACKEND_KERNELS") != "0"  # "0" empties every table of overrides
SYNC = os.environ.get("NNBACKEND_SYNC") == "1"  # "1" checks values inside ops, at the price of waiting for the device

FLOATS = ("float32", "float64", "float16", "bfloat16")
INTEGERS = ("int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8")
DTYPES = {name: np.dtype(name) for name in ("bool", "float32", "float64", "float16", *INTEGERS)}
FLOATING = {DTYPES[name] for name in FLOATS if name in DTYPES}
INTEGRAL = {DTYPES[name] for name in INTEGERS}


def dtype_name(spec: Any) -> str:
    """The standard's name of a dtype, however it is spelt: "float32", np.float32, xp.float32."""
    name = (
        spec if isinstance(spec, str) else getattr(spec, "name", None) or getattr(spec, "__name__", None) or str(spec)
    )
    name = {"float": "float64", "int": "int64", "bool_": "bool"}.get(name, name.rpartition(".")[2])
    if name not in DTYPES:
        raise DTypeError(f"dtype: expected one of {', '.join(DTYPES)}, got {spec!r}. Cast the data first.")
    return name


def log(message: str, *parts: Any) -> None:
    """A line of the logger `nnbackend`, at level INFO."""
    import logging  # here, because most programs never log: it is a twentieth of the import of this library

    logging.getLogger("nnbackend").info(message, *parts)


class Memory(NamedTuple):
    """The memory of a device in bytes: what is free and what there is, what arrays use of the reserved part."""

    free: int
    total: int
    used: int
    reserved: int


class Backend:
    """An array library as the ops see it. This base needs nothing but the standard.

    `overrides` maps the name of a primitive to a faster version, which returns `NotImplemented` for what it does not
    take. Emptying the table changes speed only.
    """

    block = (
        0  # elements that one call should work on at a time, so that they stay in the cache; 0 if it does not matter
    )
    captures = False  # can its work be captured as a graph?
    views = False  # does a slice share memory, so that flat buffers can hold many parameters?
    overrides: dict[str, Callable[..., Array]]

    def __init__(self, name: str, xp: Any, overrides: dict[str, Callable[..., Array]] | None = None) -> None:
        self.name, self.xp, self.overrides = name, xp, overrides or {}
        self._canonical: dict[Any, np.dtype[Any]] = {}
        self._exp_limit: dict[Any, float] = {}

    def __repr__(self) -> str:
        return f"<{self.name} backend>"

    # -- dtypes
    def dtype(self, spec: Any) -> Any:
        """The library's own dtype object."""
        return getattr(self.xp, dtype_name(spec))

    def canonical(self, dtype: Any) -> np.dtype[Any]:
        """The NumPy dtype of that name: what `Tensor.dtype` shows on every device."""
        try:
            return self._canonical[dtype]
        except KeyError:
            return self._canonical.setdefault(dtype, DTYPES[dtype_name(dtype)])

    def exp_limit(self, dtype: Any) -> float:
        """The largest number whose exponential is finite."""
        try:
            return self._exp_limit[dtype]
        except KeyError:
            return self._exp_limit.setdefault(dtype, math.log(float(self.xp.finfo(dtype).max)) - 0.5)

    # -- devices
    def raw_device(self, x: Array) -> Any:
        """The library's own word for where `x` lives."""
        return x.device

    def device_name(self, raw: Any) -> str:
        """For people."""
        words = str(raw).split("'")  # "Device('device1')"
        return f"{self.name}:{words[1] if len(words) == 3 else raw}"

    def default_device(self) -> Any:
        """Where the library puts arrays if nobody says."""
        return self.xp.__array_namespace_info__().default_device()

    def synchronize(self, raw: Any) -> None:
        """Wait until the device has finished."""

    def on(self, raw: Any) -> AbstractContextManager[Any]:
        """New arrays are made on this device inside."""
        return nullcontext()

    def stream(self, raw: Any, precision: Precision) -> AbstractContextManager[Any]:
        """Work on this device inside: in its turn, and without waiting for it."""
        return nullcontext()

    def precision(self) -> Precision:
        """That of the work at hand."""
        return "ieee"

    def here(self, raw: Any) -> Callable[[], AbstractContextManager[Any]]:
        """What another thread enters so that its work takes its turn with the work of this one."""
        return nullcontext

    def memory(self, raw: Any) -> Memory | None:
        """What is known of the device's memory."""
        return None

    def explained(self, error: BaseException, raw: Any) -> Exception | None:
        """An error of the device's own in our words; None if it is another."""
        return None

    # -- to and from the host
    def from_host(self, host: np.ndarray[Any, Any], raw: Any) -> Array:
        """A copy of a NumPy array on a device of this library."""
        return self.xp.asarray(host, dtype=self.dtype(host.dtype), device=raw, copy=True)

    def to_host(self, x: Array) -> np.ndarray[Any, Any]:
        """A NumPy array of the same values; it may share memory, so do not write to it."""
        return np.from_dlpack(x)

    def from_dlpack(self, x: Any) -> Array:
        """An array over the memory of another library's."""
        return self.xp.from_dlpack(x)

    # -- updates in place
    def assign(self, y: Array, key: Any, value: Any) -> None:
        """Change the elements of y at `key` to `value`; of several for one place the last stays."""
        y[key] = value

    def blend(self, y: Array, b: Any, x: Array, a: Any) -> None:
        """Change y to b y + a x."""
        y *= b
        y += x if a.__class__ is float and a == 1.0 else a * x

    def descend(self, w: Array, a: Any, x: Array) -> None:
        """Change w to w - a x."""
        w -= a * x

    def together(self, fn: Callable[..., None], *arrays: Array) -> None:
        """Call `fn`, which changes the arrays element by element, maybe twice; one kernel does it where that pays."""
        fn(*arrays)

    # -- memory
    def copy(self, x: Array) -> Array:
        """The same values in memory of their own."""
        return self.xp.asarray(x, copy=True)

    def shares(self, x: Array, y: Array) -> bool:
        """Whether a write to one may change the other."""
        try:
            return np.may_share_memory(np.from_dlpack(x), np.from_dlpack(y))
        except (BufferError, RuntimeError, TypeError):  # on a device; by the standard nobody writes to views
            return False

    def joined(self, parts: list[Array]) -> Array | None:
        """The parts as one flat array over the same memory, if they lie side by side there."""
        return None

    def refill(self, y: Array, x: Array) -> None:
        """Change y to x, of the same shape and dtype."""
        y[...] = x

    def own(self, x: Array) -> Array:
        """`x` if nothing else can share its memory, else a copy. `x` must have just been made."""
        return self.copy(x)

    def one(self, like: Array) -> Array:
        """The number 1 as a 0-d array like `like`: where a backward pass starts."""
        return self.xp.ones((), dtype=like.dtype, device=like.device)
