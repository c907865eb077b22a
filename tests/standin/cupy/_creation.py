"""Making arrays: on the current device, from numbers, from the host, from arrays of any device."""

from collections.abc import Callable
from typing import Any

import numpy as np

from . import _dlpack
from ._array import _made, check_device, ndarray, new, unsupported
from ._core.syncdetect import synchronized
from .cuda import pinned_memory, runtime
from .cuda._capture import capturing, launched, refuse, refuse_blas
from .cuda.memory import Memory, current_pool


def _nested(obj: Any) -> list[Any]:
    return [each for part in obj for each in _nested(part)] if isinstance(obj, list | tuple) else [obj]


def array(
    obj: Any, dtype: Any = None, copy: Any = True, order: str | None = "K", subok: bool = False, ndmin: int = 0,
    blocking: bool = False,
) -> ndarray:  # fmt: skip
    """Uploads without waiting; `blocking` waits."""
    if subok:
        raise NotImplementedError
    order = (order or "K").upper()
    if isinstance(obj, ndarray):
        if obj._mem.device_id == runtime.getDevice():
            made = obj._astype(dtype or obj.dtype, order, copy)
        else:
            made = obj.copy(order=order)._astype(dtype or obj.dtype, copy=None)
        return made if made.ndim >= ndmin else made.reshape((1,) * (ndmin - made.ndim) + made.shape)
    leaves = _nested(obj) if isinstance(obj, list | tuple) else []
    if leaves and all(isinstance(leaf, ndarray) for leaf in leaves):
        return _stacked(obj, dtype, "F" if order == "F" else "C", ndmin)
    host = np.array(obj)  # raises for a mixture
    if dtype is not None:
        host = host.astype(dtype) if isinstance(obj, np.ndarray) else np.array(_hosts(obj), dtype)
    if host.dtype.char not in "?bBhHiIlLqQefdFD":
        raise ValueError(f"Unsupported dtype {host.dtype}")
    fortran = order == "F" or (order in "KA" and isinstance(obj, np.ndarray) and obj.flags.fnc)
    if host.ndim == 0:  # a kernel fills it
        return full((), host, host.dtype).reshape((1,) * ndmin)
    if capture := capturing():
        if not _read_later(obj, host, fortran, blocking):
            refuse(capture)
        made = ndarray(obj.shape, obj.dtype, order="F" if fortran else "C")
        made._upload(obj)
        return made
    if _read_later(obj, host, fortran, blocking):
        return _made(obj, Memory(obj.nbytes, current_pool(), obj), None)
    made = new(np.array(host, order="F" if fortran else "C", ndmin=ndmin, copy=True), order="K")
    if blocking:
        synchronized("array(blocking=True)")
    return made


def joins(arrays: list[ndarray]) -> None:
    """Of more than 8 arrays CuPy uploads the addresses, if they are small."""
    same = len({array.dtype for array in arrays}) == 1
    if len(arrays) > 8 and same and sum(array.nbytes for array in arrays) < len(arrays) << 21:
        refuse(capturing())


@launched
def _stacked(obj: Any, dtype: Any, order: str, ndmin: int) -> ndarray:
    joins(_nested(obj))
    return new(np.array(_hosts(obj), dtype, order=order, ndmin=ndmin), order="K")


def _read_later(obj: Any, host: Any, fortran: bool, blocking: bool) -> bool:
    """CuPy copies page-locked memory when the stream comes to it; here never, so that later writes to it show."""
    late = isinstance(obj, np.ndarray) and obj.size > 0 < obj.ndim == host.ndim and obj.dtype == host.dtype
    late = late and obj.flags["F_CONTIGUOUS" if fortran else "C_CONTIGUOUS"]
    return late and not blocking and pinned_memory.is_memory_pinned(obj.__array_interface__["data"][0])


def _hosts(obj: Any) -> Any:
    if isinstance(obj, ndarray):
        return check_device(obj)
    return [_hosts(part) for part in obj] if isinstance(obj, list | tuple) else obj


def asarray(a: Any, dtype: Any = None, order: Any = None, copy: Any = None, blocking: bool = False) -> ndarray:
    """A copy only where one is needed."""
    return array(a, dtype, copy, order or "K", blocking=blocking)


def empty(shape: Any, dtype: Any = float, order: str = "C") -> ndarray:
    """The poison shows what is read before it is written."""
    made = ndarray(_shape(shape), dtype, order=order)
    made._np.fill(np.nan if made.dtype.kind in "fc" else 0x6B)
    return made


def _shape(shape: Any) -> Any:
    if isinstance(shape, ndarray | np.ndarray):
        raise TypeError("shape: expected integers, got an array")
    return shape


def full(shape: Any, fill_value: Any, dtype: Any = None, order: str = "C") -> ndarray:
    if dtype is None:
        dtype = fill_value.dtype if isinstance(fill_value, ndarray) else np.array(fill_value).dtype
    made = ndarray(_shape(shape), dtype, order=order)
    made.fill(fill_value)
    return made


def _like(value: Any) -> Callable[..., ndarray]:
    def like(a: Any, dtype: Any = None, order: str = "K", subok: Any = None, shape: Any = None) -> ndarray:
        if subok is not None:
            raise TypeError("subok is not supported yet")
        if not isinstance(a, ndarray):
            raise unsupported(a)
        host = np.empty_like(a._np, dtype, order, shape=shape)
        host.fill(value if value is not None else np.nan if host.dtype.kind in "fc" else 0x6B)
        return new(host, order="K")

    return like


def full_like(
    a: Any, fill_value: Any, dtype: Any = None, order: str = "K", subok: Any = None, shape: Any = None
) -> ndarray:
    made = _like(0)(a, dtype, order, subok, shape)
    made.fill(fill_value)
    return made


def arange(start: Any, stop: Any = None, step: Any = 1, dtype: Any = None) -> ndarray:
    """Of numbers of the host."""
    for value in (start, stop, step):
        if isinstance(value, ndarray | np.ndarray):
            raise TypeError("arange: expected numbers, got an array")
    if dtype in (bool, np.bool_) or any(isinstance(value, bool) for value in (start, stop, step)):
        raise TypeError("arange: bool is not supported")
    if stop is None:
        start, stop = 0, start
    return new(np.arange(start, stop, 1 if step is None else step, dtype))


def linspace(
    start: Any, stop: Any, num: int = 50, endpoint: bool = True, retstep: bool = False, dtype: Any = None, axis: int = 0
) -> Any:
    for value in (start, stop):
        if isinstance(value, ndarray | np.ndarray):
            raise TypeError("linspace of the stand-in takes numbers")
    made = np.linspace(start, stop, num, endpoint, retstep, dtype, axis)
    return (new(made[0]), made[1]) if retstep else new(made)


def _contiguous(order: str) -> Callable[..., ndarray]:
    def convert(a: Any, dtype: Any = None) -> ndarray:
        if order == "F" and isinstance(a, ndarray) and a.ndim == 2 and a.flags.c_contiguous and a.dtype.char in "fd":
            refuse_blas(a.dtype)  # CuPy transposes with it
        return array(a, dtype, None, order, ndmin=1)

    return convert


def from_dlpack(array: Any, device: Any = None, copy: Any = None) -> ndarray:
    """A view of an array of a GPU. CPU arrays are refused."""
    number = array.__dlpack_device__()[1]
    host = _dlpack.taken(array)
    if isinstance(array, ndarray):
        view = array._view(host)
        return view.copy() if copy else view
    raise BufferError(f"no other library has arrays on device {number} of the stand-in")


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "array": array,
    "asarray": asarray,
    "asanyarray": lambda a, dtype=None, order=None, **others: asarray(a, dtype, order),
    "ascontiguousarray": _contiguous("C"),
    "asfortranarray": _contiguous("F"),
    "copy": lambda a, order="K": a.copy(order=order) if isinstance(a, ndarray) else array(a, order=order),
    "empty": empty,
    "zeros": lambda shape, dtype=float, order="C": full(shape, 0, dtype, order),
    "ones": lambda shape, dtype=float, order="C": full(shape, 1, dtype, order),
    "full": full,
    "empty_like": lambda prototype, **options: _like(None)(prototype, **options),
    "zeros_like": lambda a, **options: _like(0)(a, **options),
    "ones_like": lambda a, **options: _like(1)(a, **options),
    "full_like": full_like,
    "arange": arange,
    "linspace": linspace,
    "eye": lambda N, M=None, k=0, dtype=float, order="C": new(np.eye(N, M, k, dtype, order), order="K"),
    "identity": lambda n, dtype=float: new(np.identity(n, dtype)),
    "tri": lambda N, M=None, k=0, dtype=float: new(np.tri(N, M, k, dtype)),
    "from_dlpack": from_dlpack,
}
