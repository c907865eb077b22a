"""What goes wrong between arrays, in words: other devices, other dtypes, shapes that do not fit."""

from __future__ import annotations

from typing import Any

from .backend import FLOATING, INTEGRAL, NUMPY, Array, backend_of, device_of, is_array
from .errors import DeviceError, DeviceMismatchError, DTypeError, NNBackendError, ShapeError
from .ops import elementwise, linear
from .tape import TENSORS

_ARITHMETIC = (elementwise.__name__, linear.__name__)  # whose arguments all have one dtype
_BASIC = frozenset({int, slice, type(...), type(None), bool, list})  # keys that are no arrays
_EXTREMES = ("max", "min", "argmax", "argmin")  # nothing has none
_CASTS = ("astype", "one_hot")  # whose result is as wide as was asked for


def harmonised(op: Any, args: tuple[Any, ...], raw: list[Any]) -> tuple[tuple[Any, ...], list[Any], Any]:
    """Arguments that meet other libraries' arrays, NumPy scalars or several dtypes: checked, scalars made numbers."""
    like = next(value for a, value in zip(args, raw, strict=True) if a.__class__ in TENSORS)
    args_, home, arithmetic = list(args), device_of(like), op.__module__ in _ARITHMETIC
    dtypes: dict[Any, int] = {}
    integral: dict[Any, int] = {}
    for i, (a, value) in enumerate(zip(args, raw, strict=True)):
        if not is_array(value):
            if arithmetic and isinstance(value, list | tuple):
                place = f"{_name(op)}: expected an array or a number, got a list (argument {i + 1})"
                raise DTypeError(f"{place}. Use nb.asarray(...).")
            continue
        backend = backend_of(value)
        if a.__class__ not in TENSORS and not value.shape and backend is NUMPY:
            args_[i] = raw[i] = value.item()  # a NumPy scalar is a number: it never promotes
            continue
        if backend is not backend_of(like) or device_of(value) != home:
            raise _mismatch(op, home, device_of(value), i)
        dtype = backend.canonical(value.dtype)
        if dtype in FLOATING:
            dtypes.setdefault(dtype, i)
        elif arithmetic and dtype in INTEGRAL:
            integral.setdefault(dtype, i)
    if dtypes and integral:
        dtypes |= integral
    if len(dtypes) > 1:
        (first, k), (second, i) = list(dtypes.items())[:2]
        if getattr(args[i], "is_cell", False):  # a model says what it expects of its input
            first, second, i = second, first, k
        raise DTypeError(f"{_name(op)}: expected {first}, got {second} (argument {i + 1}). Cast one with .astype(...).")
    return tuple(args_), raw, next(iter(dtypes), None)


def check_result(op: Any, raw: list[Any], y: Any, dtype: Any) -> None:
    """Integers that would have widened the floats they met."""
    for part in y if y.__class__ is tuple else (y,):
        got = backend_of(part).canonical(part.dtype)
        if got in FLOATING and got != dtype and dtype is not None:
            others = ", ".join(str(backend_of(v).canonical(v.dtype)) for v in raw if is_array(v) and v.dtype != dtype)
            raise DTypeError(f"{_name(op)}: expected {dtype}, got {others} too. Cast with .astype({str(dtype)!r}).")


def check_widened(op: Any, like: Any, y: Any) -> None:
    """Integers that became floats by themselves, as wide as their library likes."""
    backend = backend_of(y)
    if backend.canonical(y.dtype) in FLOATING and backend.canonical(like) not in FLOATING and _name(op) not in _CASTS:
        given = backend.canonical(like)
        raise DTypeError(f"{_name(op)}: expected a floating dtype, got {given}. Cast with .astype('float32').")


def explain(op: Any, raw: list[Any], error: Exception) -> None:
    """Say the array library's complaint in terms of devices, dtypes and shapes, where that is what it is about."""
    arrays = [(i, v) for i, v in enumerate(raw) if is_array(v)]
    if isinstance(error, NNBackendError) or not arrays:
        return
    name, home = _name(op), device_of(arrays[0][1])
    for i, v in arrays:
        if device_of(v) != home:
            raise _mismatch(op, home, device_of(v), i) from error
    if (ours := home.backend.explained(error, home.raw)) is not None:
        raise ours from error
    if isinstance(error, ValueError) and "different from the current device" in str(error):  # CuPy's words
        raise DeviceError(f'{name}: expected work on {home} inside `with nb.device("{home}").stream():`.') from error
    shapes = [tuple(v.shape) for _, v in arrays]
    got = " and ".join(map(str, shapes))
    if isinstance(error, ValueError) and ("out of bounds" in str(error) or "duplicate" in str(error)):
        n = len(shapes[0])
        axes = f"distinct axes in {-n}..{n - 1}" if n else "no axis"
        raise ShapeError(f"{name}: expected {axes} for shape {got} ({error})") from error
    if isinstance(error, ValueError) and name in _EXTREMES and any(0 in shape for shape in shapes):
        raise ShapeError(f"{name}: expected at least one element along the axes, got {got} ({error})") from error
    if isinstance(error, ValueError):
        where = _clash(shapes) if "could not be broadcast together with shapes" in str(error) else ""
        raise ShapeError(f"{name}: expected shapes that fit together, got {got}{where} ({error})") from error
    if isinstance(error, TypeError) and len({str(v.dtype) for _, v in arrays}) > 1:
        dtypes = " and ".join(str(backend_of(v).canonical(v.dtype)) for _, v in arrays)
        raise DTypeError(f"{name}: expected one dtype, got {dtypes}. Cast with .astype(...). ({error})") from error


def _clash(shapes: list[tuple[int, ...]]) -> str:
    """The last axis whose lengths do not broadcast, counted from the end, where shapes are aligned."""
    for k in range(1, max(map(len, shapes)) + 1):
        lengths = list(dict.fromkeys(s[-k] for s in shapes if len(s) >= k and s[-k] != 1))
        if len(lengths) > 1:
            return f": axis {-k} has length {lengths[0]} in one and {lengths[1]} in another."
    return ""


def raw_key(key: Any, like: Array) -> Any:
    """An index into `like` without Tensors in it. DeviceMismatchError if a part of it lives elsewhere."""
    if key.__class__ in _BASIC:
        return key
    if isinstance(key, tuple):
        return tuple([raw_key(part, like) for part in key])
    if not is_array(key):
        return key
    home = device_of(like)
    if device_of(key) != home:
        raise DeviceMismatchError(f'index: expected {home}, got {device_of(key)}. Move it with .to("{home}").')
    return key.data if key.__class__ in TENSORS else key


def check_same_kind(place: str, t: Any, value: Any) -> None:
    """A gradient is like its Tensor."""
    if not is_array(value):
        raise DTypeError(f"{place}: expected a tensor or an array, got {type(value).__name__}. Use nb.tensor(...).")
    if device_of(value) != t.device:
        raise DeviceMismatchError(f"{place}: expected {t.device}, got {device_of(value)}. Move it with .to(...).")
    if tuple(value.shape) != t.shape:
        raise ShapeError(f"{place}: expected shape {t.shape}, got {tuple(value.shape)}")
    if backend_of(value).canonical(value.dtype) != t.dtype:
        raise DTypeError(f"{place}: expected {t.dtype}, got {value.dtype}. Use .astype(...).")


def _mismatch(op: Any, home: Any, other: Any, i: int) -> DeviceMismatchError:
    return DeviceMismatchError(
        f'{_name(op)}: expected {home}, got {other} (argument {i + 1}). Move one of them, e.g. with .to("{home}").'
    )


def _name(op: Any) -> str:
    return str(op.__name__)
