"""What goes wrong between arrays, in words: other devices, other dtypes, shapes that do not fit."""

from __future__ import annotations

from typing import Any

from .backend import FLOATING, Array, backend_of, device_of, is_array
from .errors import DeviceMismatchError, DTypeError, ShapeError
from .tape import TENSORS


def harmonised(op: Any, args: tuple[Any, ...], raw: list[Any], like: Array) -> tuple[tuple[Any, ...], list[Any], Any]:
    """Arguments that meet other libraries' arrays, NumPy scalars or several dtypes: checked, scalars made Python numbers."""
    args_, home, dtypes = list(args), device_of(like), {}
    for i, (a, value) in enumerate(zip(args, raw, strict=True)):
        if not is_array(value):
            continue
        if a.__class__ not in TENSORS and not value.shape and hasattr(value, "item") and hasattr(value, "tobytes"):
            args_[i] = raw[i] = value.item()  # a NumPy scalar is a number: it never promotes
            continue
        backend = backend_of(value)
        if backend is not backend_of(like) or device_of(value) != home:
            raise _mismatch(op, home, device_of(value), i)
        dtype = backend.canonical(value.dtype)
        if dtype in FLOATING:
            dtypes.setdefault(dtype, i)
    if len(dtypes) > 1:
        (first, _), (second, i) = list(dtypes.items())[:2]
        raise DTypeError(f"{_name(op)}: expected {first}, got {second} (argument {i + 1}). Cast one with .astype(...).")
    return tuple(args_), raw, next(iter(dtypes), None)


def check_result(op: Any, raw: list[Any], y: Any, dtype: Any) -> None:
    """Integers that would have widened the floats they met."""
    for part in y if y.__class__ is tuple else (y,):
        got = backend_of(part).canonical(part.dtype)
        if got in FLOATING and got != dtype and dtype is not None:
            others = [str(backend_of(v).canonical(v.dtype)) for v in raw if is_array(v) and v.dtype != dtype]
            raise DTypeError(f"{_name(op)}: expected {dtype}, got {', '.join(others)} too. Cast with .astype({str(dtype)!r}).")


def explained(op: Any, raw: list[Any], error: Exception) -> Exception:
    """The array library's complaint in terms of devices, dtypes and shapes."""
    arrays = [(i, v) for i, v in enumerate(raw) if is_array(v)]
    name = _name(op)
    if not arrays or str(error).startswith(f"{name}:"):
        return error
    home = device_of(arrays[0][1])
    for i, v in arrays:
        if device_of(v) != home:
            return _mismatch(op, home, device_of(v), i)
    shapes = " and ".join(str(tuple(v.shape)) for _, v in arrays)
    if isinstance(error, ValueError):
        return ShapeError(f"{name}: expected shapes that fit together, got {shapes} ({error})")
    if isinstance(error, TypeError) and len({str(v.dtype) for _, v in arrays}) > 1:
        dtypes = " and ".join(str(backend_of(v).canonical(v.dtype)) for _, v in arrays)
        return DTypeError(f"{name}: expected one dtype, got {dtypes}. Cast with .astype(...). ({error})")
    return error


def _mismatch(op: Any, home: Any, other: Any, i: int) -> DeviceMismatchError:
    return DeviceMismatchError(
        f'{_name(op)}: expected {home}, got {other} (argument {i + 1}). Move one of them, e.g. with .to("{home}").'
    )


def _name(op: Any) -> str:
    return str(op.__name__)
