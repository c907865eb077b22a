"""Making Tensors: from lists, numbers and other libraries' arrays, or from nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .backend import DTYPES, INTEGRAL, NUMPY, DeviceLike, HostArray, backend_of, is_array, to_host
from .backend import device as find_device
from .backend import from_dlpack as shown_by
from .errors import DataError, DTypeError, GraphError
from .grad_mode import recording
from .recorder import known, made
from .tensor import Tensor

_host = NUMPY.xp


def tensor(data: Any, dtype: Any = None, device: DeviceLike = None, requires_grad: bool = False) -> Tensor:
    """A Tensor with a copy of `data`: numbers, nested lists, arrays of any library, anything NumPy can read.

    Python floats become float32, integers int64, as in PyTorch; arrays keep their dtype and, unless `device` says
    otherwise, their device. DTypeError for what is not a number, DataError for ragged lists.
    """
    data = _shared(known(data))
    raw = data.data if isinstance(data, Tensor) else _checked(data) if is_array(data) else None
    host: HostArray | None = None
    if raw is None:
        host = _from_python(data, None if dtype is None else NUMPY.dtype(dtype))
    elif backend_of(raw) is NUMPY:
        host = raw if dtype is None else raw.astype(NUMPY.dtype(dtype))
    if host is not None:
        t = Tensor(made(find_device("cpu" if device is None else device).put(host)))
    else:
        t = Tensor(backend_of(raw).copy(raw))
        t = t.to(find_device(t.device if device is None else device), dtype)
    if t.dtype in INTEGRAL and host is not None and host.size:
        t.bounds = int(host.min()), int(host.max())
    elif isinstance(data, Tensor) and hasattr(data, "bounds"):
        t.bounds = data.bounds
    return t.requires_grad_() if requires_grad else t


def asarray(data: Any, dtype: Any = None, device: DeviceLike = None, copy: bool | None = None) -> Tensor:
    """A Tensor that shares the memory of `data` where it can; a Tensor itself comes back as it is, with its history.

    ValueError with `copy=False` where it cannot. GraphError for a list of Tensors with history, which would be lost.
    """
    data = _shared(data)
    if isinstance(data, Tensor):
        t = data
    elif is_array(data) and getattr(_checked(data).dtype, "isnative", True):
        t = Tensor(_host.asarray(data) if isinstance(data, _host.memmap) else data)
    elif recording.get() and _has_history(data):
        raise GraphError("asarray: expected numbers, got a list of tensors with history. Use nb.stack([...]).")
    elif copy is False:
        raise ValueError(f"asarray: expected an array for copy=False, got {type(data).__name__}.")
    else:
        return tensor(data, dtype, device)
    y = t if device is None else t.to(find_device(device))
    y = y if dtype is None else y.astype(dtype)
    if copy is False and y is not t:
        raise ValueError(f"asarray: expected {t.dtype} on {t.device} for copy=False, got {y.dtype} on {y.device}.")
    return y.clone() if copy and y is t else y


def _shared(data: Any) -> Any:
    """The memory of PyTorch's tensors and their like as an array; all else as it is."""
    return shown_by(data) if hasattr(data, "__dlpack_device__") and not is_array(data) else data


def _from_python(data: Any, dtype: Any) -> HostArray:
    """Numbers and nested lists, possibly with arrays inside, whose widest dtype wins. Python floats are float32."""
    dtypes: set[Any] = set()
    plain = _without_arrays(data, dtypes)
    try:
        host: HostArray = _checked(_host.array(plain))
    except ValueError as error:
        raise _ragged(plain, error) from error
    if dtype is None and host.dtype.kind == "f" and isinstance(data, list | tuple | float):
        dtype = _host.result_type(*dtypes or {_host.float32})
    return host if dtype is None else host.astype(dtype)


def _checked(data: Any) -> Any:
    """An array of booleans or real numbers; a mask, an index or a unit is never dropped unnoticed."""
    if not isinstance(data, _host.ndarray | _host.generic):
        backend_of(data).canonical(data.dtype)
        return data
    kind = type(data)
    if kind not in (_host.ndarray, _host.memmap) and not isinstance(data, _host.generic):
        name = f"{kind.__module__}.{kind.__name__}"
        raise DTypeError(f"tensor: expected a plain array, got {name}. Convert it with np.array.")
    host = _host.asarray(data)
    if host.dtype.newbyteorder("=") not in DTYPES.values():
        cells = (f" (first cell that is no number: {v!r})" for v in host.flat if not isinstance(v, int | float))
        raise DTypeError(f"tensor: expected booleans or real numbers, got dtype {host.dtype}{next(cells, '')}.")
    return data


def _without_arrays(data: Any, dtypes: set[Any]) -> Any:
    """Nested lists with plain arrays inside; `dtypes` collects the floating ones of arrays."""
    if isinstance(data, list | tuple):
        return [_without_arrays(item, dtypes) for item in data]
    if not is_array(data):
        return data
    host = to_host(_checked(data.data if isinstance(data, Tensor) else data))
    if host.dtype.kind == "f":
        dtypes.add(host.dtype)
    return host


def _has_history(data: Any) -> bool:
    if isinstance(data, list | tuple):
        return any(map(_has_history, data))
    return isinstance(data, Tensor) and data.requires_grad


def _ragged(data: Any, error: ValueError) -> DataError:
    """The first row whose length differs from that of the rows before it, at the first depth where one does."""
    level = list(enumerate(data)) if isinstance(data, list) else []
    while level:
        lengths = [f"length {len(p)}" if isinstance(p, list) or _host.ndim(p) else "a number" for _, p in level]
        for (row, _), got in zip(level, lengths, strict=True):
            if got != lengths[0]:
                return DataError(f"tensor: expected rows of {lengths[0]}, got {got} in row {row}.", row=row)
        level = [(row, part) for row, parts in level if lengths[0] != "a number" for part in parts]
    return DataError(f"tensor: expected nested lists of one shape ({error}).")


# -- from nothing ---------------------------------------------------------------------------------------------------


def _make(name: str, *args: Any, dtype: Any, device: DeviceLike, **kw: Any) -> Tensor:
    place, args = find_device("cpu" if device is None else device), known(args)
    backend, raw = place.backend, place.raw
    dtype = None if dtype is None else backend.dtype(dtype)
    with backend.on(raw):
        return Tensor(made(getattr(backend.xp, name)(*args, dtype=dtype, device=raw, **kw)))


def zeros(shape: int | Sequence[int], *, dtype: Any = "float32", device: DeviceLike = None) -> Tensor:
    """All 0."""
    return _make("zeros", shape, dtype=dtype, device=device)


def ones(shape: int | Sequence[int], *, dtype: Any = "float32", device: DeviceLike = None) -> Tensor:
    """All 1."""
    return _make("ones", shape, dtype=dtype, device=device)


def empty(shape: int | Sequence[int], *, dtype: Any = "float32", device: DeviceLike = None) -> Tensor:
    """Whatever the memory held."""
    return _make("empty", shape, dtype=dtype, device=device)


def full(shape: int | Sequence[int], fill_value: Any, *, dtype: Any = None, device: DeviceLike = None) -> Tensor:
    """All `fill_value`."""
    value = asarray(fill_value).item() if is_array(fill_value) else known(fill_value)
    return _make("full", shape, value, dtype=dtype or _dtype_of(value), device=device)


def _dtype_of(value: Any) -> str:
    return "bool" if isinstance(value, bool) else "int64" if isinstance(value, int) else "float32"


def arange(start: Any, stop: Any = None, step: Any = 1, *, dtype: Any = None, device: DeviceLike = None) -> Tensor:
    """start, start + step, ... below stop."""
    start, stop, step = known((start, stop, step))
    if stop is None:
        start, stop = 0, start
    dtype = dtype or ("int64" if all(isinstance(v, int) for v in (start, stop, step)) else "float32")
    return _make("arange", start, stop, step, dtype=dtype, device=device)


def linspace(
    start: float, stop: float, num: int, *, dtype: Any = "float32", device: DeviceLike = None, endpoint: bool = True
) -> Tensor:
    """`num` values from start to stop."""
    return _make("linspace", start, stop, num, dtype=dtype, device=device, endpoint=endpoint)


def eye(
    n_rows: int, n_cols: int | None = None, *, k: int = 0, dtype: Any = "float32", device: DeviceLike = None
) -> Tensor:
    """1 on diagonal k, else 0."""
    return _make("eye", n_rows, n_cols, k=k, dtype=dtype, device=device)


def _like(make: Any, x: Any, *args: Any, dtype: Any, device: DeviceLike) -> Any:
    t = asarray(x)
    made = make(t.shape, *args, dtype=dtype or t.dtype, device=t.device if device is None else device)
    return made if t is x or not is_array(x) else made.data


def zeros_like(x: Any, *, dtype: Any = None, device: DeviceLike = None) -> Any:
    """0 in the shape of `x`."""
    return _like(zeros, x, dtype=dtype, device=device)


def ones_like(x: Any, *, dtype: Any = None, device: DeviceLike = None) -> Any:
    """1 in the shape of `x`."""
    return _like(ones, x, dtype=dtype, device=device)


def empty_like(x: Any, *, dtype: Any = None, device: DeviceLike = None) -> Any:
    """Memory in the shape of `x`."""
    return _like(empty, x, dtype=dtype, device=device)


def full_like(x: Any, fill_value: Any, *, dtype: Any = None, device: DeviceLike = None) -> Any:
    """`fill_value` in the shape of `x`."""
    return _like(full, x, fill_value, dtype=dtype, device=device)


def from_dlpack(x: Any, *, device: DeviceLike = None, copy: bool | None = None) -> Tensor:
    """A Tensor over the memory of another library's array, on the host or on a GPU, PyTorch's and JAX's too.

    DeviceError for memory of other devices.
    """
    known = isinstance(x, Tensor) or (is_array(x) and backend_of(x).name in ("numpy", "cupy", "array_api_strict"))
    return asarray(x if known else shown_by(x), device=device, copy=copy)
