"""Reading and writing by index, as CuPy does: integer arrays wrap around, masks make the host wait."""

from typing import Any

import numpy as np

from ._core.syncdetect import synchronized
from .cuda._capture import capturing, launched, refuse

INVALID = (
    "only integers, slices (`:`), ellipsis (`...`),numpy.newaxis (`None`) and integer or boolean arrays are valid "
    "indices"
)


def _prepared(array: Any, index: Any) -> tuple[tuple[Any, ...], bool]:
    """The index for NumPy, and whether it needs a kernel. Lists and arrays of the host are uploaded, as CuPy does."""
    from ._array import check_device, ndarray

    parts = list(index) if isinstance(index, tuple) else [index]
    arrays = []
    for i, part in enumerate(parts):
        if isinstance(part, ndarray):
            parts[i] = check_device(part)
        elif part is None or part is Ellipsis or isinstance(part, slice):
            continue
        elif isinstance(part, bool | np.bool_ | list | tuple | np.ndarray):
            parts[i] = _uploaded(part)
        elif not isinstance(part, int | np.integer):
            raise IndexError(INVALID)
        else:
            parts[i] = int(part)
            continue
        if parts[i].dtype.kind not in "biu":
            raise IndexError(
                f"arrays used as indices must be of integer or boolean type. (actual: {parts[i].dtype.type})"
            )
        arrays.append(i)
    if sum(part is Ellipsis for part in parts) > 1:
        raise IndexError("an index can only have a single ellipsis ('...')")
    if arrays:
        _wrap(array, parts, arrays)
    elif Ellipsis not in [part for part in parts if part is Ellipsis]:
        parts.append(Ellipsis)  # NumPy would return a number where CuPy returns a 0-d view
    return tuple(parts), bool(arrays)


def _uploaded(part: Any) -> Any:
    from ._array import ndarray
    from ._creation import array

    refuse(capturing())
    if isinstance(part, list | tuple) and any(isinstance(each, ndarray) for each in part):
        return array(part)._np
    host = np.array(part)
    return host.astype(np.int32) if host.size == 0 and not isinstance(part, np.ndarray) else host


def _wrap(array: Any, parts: list[Any], arrays: list[int]) -> None:
    """Out of range means modulo, in place of an IndexError."""
    masks = [i for i in arrays if parts[i].dtype.kind == "b"]
    if len(masks) > 1:
        raise NotImplementedError("CuPy takes one mask")
    if masks and parts[masks[0]].size:
        synchronized("mask")
    taken = sum(
        parts[i].ndim if i in masks else 1 for i, part in enumerate(parts) if part is not None and part is not Ellipsis
    )
    axis = 0
    for i, part in enumerate(parts):
        if part is None:
            continue
        if part is Ellipsis:
            axis += array.ndim - taken
        elif i in masks:
            axis += part.ndim
        else:
            if i in arrays and axis < array.ndim and array.shape[axis]:
                parts[i] = part.astype(np.int64) % array.shape[axis]
            axis += 1


def read(array: Any, index: Any) -> Any:
    """A view, or a new array if an array is in the index."""
    from ._array import ndarray

    arrays = (ndarray, np.ndarray, list, tuple, bool, np.bool_)
    if any(isinstance(part, arrays) for part in (index if isinstance(index, tuple) else [index])):
        return _gathered(array, index)
    return array._view(array._np[_prepared(array, index)[0]])


@launched
def _gathered(array: Any, index: Any) -> Any:
    from ._array import check_device, new

    return new(check_device(array)[_prepared(array, index)[0]])


@launched
def write(array: Any, index: Any, value: Any) -> None:
    """In place. CuPy fills with numbers, copies arrays, and takes arrays of the host only beside index arrays."""
    from ._array import SCALARS, check_device, ndarray, unsupported
    from ._creation import array as upload

    parts, kernel = _prepared(array, index)
    if not kernel:
        target = array._view(array._np[parts])
        if not isinstance(value, ndarray):
            target.fill(value)
            return
        source = value._np
        while source.ndim > target.ndim and source.shape[0] == 1:
            source = source[0]
        same = (target.shape, target.strides, target.dtype) == (source.shape, source.strides, source.dtype)
        if not (same and target.flags.c_contiguous):  # then CuPy copies memory, which works between devices
            check_device(target), check_device(value)
        with np.errstate(all="ignore"):
            np.copyto(target._np, source, casting="unsafe")
        return
    if isinstance(value, ndarray):
        source = check_device(value)
    elif isinstance(value, (*SCALARS, np.generic, np.ndarray, list, tuple)):
        refuse(capturing())
        source = upload(value, dtype=array.dtype)._np
    else:
        raise unsupported(value)
    host = check_device(array)
    with np.errstate(all="ignore"):
        if len(parts) == 1 and parts[0].ndim == 1 and source.shape[:1] == parts[0].shape and source.ndim == host.ndim:
            host[parts[0][::-1]] = source[::-1]  # of several values for one place any may win: not the last
        else:
            host[parts] = source


@launched
def take(array: Any, indices: Any, axis: int | None, out: Any) -> Any:
    """Wraps around; indices of the host are uploaded."""
    from ._array import SCALARS, check_device, ndarray, new

    host = check_device(array)
    if isinstance(indices, ndarray):
        indices = check_device(indices)
    elif not isinstance(indices, (*SCALARS, np.generic)):
        refuse(capturing())
        indices = np.array(indices, dtype=int)
    if np.asarray(indices).dtype.kind not in "biu":
        raise TypeError(f"indices of {np.asarray(indices).dtype}")
    length = host.size if axis is None else host.shape[axis]
    result = np.take(host, np.asarray(indices).astype(np.int64) % max(length, 1), axis=axis)
    if out is None:
        return new(result)
    if out.dtype != array.dtype:
        raise TypeError("Output dtype mismatch")
    if out.shape != result.shape:
        raise ValueError("Output shape mismatch")
    check_device(out)[...] = result
    return out
