"""The functions of the namespace: NumPy's, behind CuPy's signatures, on CuPy's arrays alone."""

import functools
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from . import _creation, _indexing
from ._array import SCALARS, check_device, functions, ndarray, new, root, unsupported
from ._core.syncdetect import synchronized
from ._signatures import FROZEN, bound
from ._ufunc import ufunc
from .cuda._capture import launched, refuse_blas

# The host learns a shape or a value.
WAITS = {
    "argwhere", "nonzero", "flatnonzero", "unique", "unique_values", "unique_all", "unique_counts", "unique_inverse",
    "bincount", "histogram", "histogram2d", "histogramdd", "extract", "compress", "percentile", "quantile",
    "nanmedian", "setdiff1d", "intersect1d", "union1d", "setxor1d", "trim_zeros", "digitize", "choose", "average",
}  # fmt: skip
VIEWS = {
    "transpose", "permute_dims", "matrix_transpose", "swapaxes", "moveaxis", "rollaxis", "expand_dims", "squeeze",
    "broadcast_to", "broadcast_arrays", "flip", "fliplr", "flipud", "rot90", "atleast_1d", "atleast_2d", "atleast_3d",
    "split", "array_split", "hsplit", "vsplit", "dsplit", "diagonal", "unstack",
}  # fmt: skip
ON_HOST = {  # about types, shapes and addresses: no kernel runs
    "can_cast", "result_type", "promote_types", "min_scalar_type", "common_type", "issubdtype", "isdtype",
    "iscomplexobj", "isrealobj", "isscalar", "broadcast_shapes", "ndim", "shape", "size", "mintypecode", "typename",
    "isfortran", "iterable",
}  # fmt: skip
LISTS = {
    "concatenate", "concat", "stack", "vstack", "hstack", "dstack", "column_stack", "row_stack", "block", "einsum",
    "meshgrid", "ix_",
}  # fmt: skip
BLAS = {  # of these CuPy calls cuBLAS or cuSOLVER
    "dot", "vdot", "inner", "tensordot", "einsum", "cov", "corrcoef", "cholesky", "cond", "det", "eigh", "eigvalsh",
    "inv", "lstsq", "matrix_power", "matrix_rank", "pinv", "qr", "slogdet", "solve", "svd", "tensorinv", "tensorsolve",
    "eig", "eigvals", "multi_dot", "svdvals",
}  # fmt: skip
NO_KERNEL = {  # of their own
    "array",
    "asarray",
    "asanyarray",
    "asnumpy",
    "get_array_module",
    "from_dlpack",
}
JOINS = {"concatenate", "concat", "stack", "vstack", "hstack", "dstack", "column_stack"}
OTHERS = {
    "show_config",
    "show_runtime",
    "who",
    "save",
    "savez",
    "savez_compressed",
    "savetxt",
    "load",
    "loadtxt",
    "genfromtxt",
    "fromfile",
}  # not of arrays


def _host(value: Any) -> Any:
    """The NumPy arrays behind CuPy's, in lists too. Arrays of the host are refused."""
    if isinstance(value, ndarray):
        return check_device(value)
    if isinstance(value, np.ndarray):
        raise unsupported(value)
    return type(value)(map(_host, value)) if type(value) in (list, tuple) else value


def _arrays(value: Any) -> list[ndarray]:
    if isinstance(value, ndarray):
        return [value]
    return [array for each in value for array in _arrays(each)] if type(value) in (list, tuple) else []


def _bare(value: Any) -> Any:
    if isinstance(value, ndarray):
        return value._np
    if isinstance(value, np.ndarray):
        raise unsupported(value)
    return type(value)(map(_bare, value)) if type(value) in (list, tuple) else value


def _device(result: Any, given: list[ndarray]) -> Any:
    """CuPy's arrays for NumPy's: views of an argument stay views, the rest becomes new, in C order."""
    if isinstance(result, np.ndarray):
        if result.base is not None:
            owner = root(result)
            for array in given:
                if root(array._np) is owner:
                    return array._view(result)
        return new(result if not any(result is array._np for array in given) else result.copy())
    if isinstance(result, np.generic):
        return new(result)
    if isinstance(result, tuple) and hasattr(result, "_fields"):
        return type(result)(*(_device(each, given) for each in result))
    if type(result) in SCALARS:  # NumPy's array_equal, count_nonzero, ...
        return new(result)
    return type(result)(_device(each, given) for each in result) if type(result) in (list, tuple) else result


def on_host(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """NumPy's function as CuPy's."""

    @functools.wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        if name in ON_HOST:
            return function(*map(_bare, args), **options)
        out = options.pop("out", None)
        given = _arrays([*args, *options.values()])
        if not given or not (args and _arrays(args[0] if name not in LISTS else args)):
            raise TypeError(f"{name}: expected a cupy.ndarray first, got {type(args[0]) if args else None}")
        if name in JOINS and not all(isinstance(each, ndarray) for each in args[0]):
            raise TypeError("Only cupy arrays can be concatenated")
        if name in JOINS:
            _creation.joins(args[0])
        if name in WAITS:
            synchronized(name)
        if name in BLAS:
            refuse_blas(*(array.dtype for array in given))
        unwrap = _bare if name in VIEWS else _host
        with np.errstate(all="ignore"):
            result = function(*map(unwrap, args), **{key: unwrap(value) for key, value in options.items()})
        result = _device(result, given)
        if name in VIEWS:
            for array in _arrays(result):
                if array.base is None:  # it had to be copied
                    _host(given)
        if out is None:
            return result
        if out.shape != result.shape:
            raise ValueError(f"Output array has shape {out.shape}, expected {result.shape}")
        check_device(out)[...] = result._np
        return out

    return call if name in ON_HOST else launched(call)


# -- where CuPy goes its own way


def where(condition: Any, x: Any = None, y: Any = None) -> Any:
    """Three arguments: numbers do not promote arrays. One: the host waits."""
    if (x is None) != (y is None):
        raise ValueError("Must provide both 'x' and 'y' or neither.")
    if x is None:
        return functions["nonzero"](condition)
    for value in (x, y):
        if not isinstance(value, (ndarray, *SCALARS, np.generic)):
            raise unsupported(value)
    if not isinstance(condition, ndarray):
        raise unsupported(condition)
    return new(np.where(check_device(condition).astype(bool), _host(x), _host(y)))


def _sorted(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(a: Any, axis: Any = -1, kind: Any = None) -> Any:
        if kind not in (None, "stable"):
            raise ValueError(f"Unsupported sort kind {kind!r}; CuPy's is stable")
        if not isinstance(a, ndarray):
            raise unsupported(a)
        if a.ndim == 0:
            raise np.exceptions.AxisError("Sorting arrays with the rank of zero is not supported")
        return new(function(check_device(a), axis=axis, kind="stable"))

    return call


def repeat(a: Any, repeats: Any, axis: int | None = None) -> Any:
    """Counts in an array make the host wait."""
    if isinstance(repeats, ndarray):
        synchronized("repeat")
    return new(np.repeat(check_device(a), _host(repeats), axis))


def take_along_axis(a: Any, indices: Any, axis: int | None) -> Any:
    """Wraps around, as all integer indices do."""
    if indices.dtype.kind not in "iu":
        raise IndexError("`indices` must be an integer array")
    host, index = check_device(a), check_device(indices)
    if axis is None:
        host, axis = host.ravel(), 0
    if index.ndim != host.ndim:
        raise ValueError("`indices` and `a` must have the same number of dimensions")
    return new(np.take_along_axis(host, index.astype(np.int64) % max(host.shape[axis], 1), axis))


def put_along_axis(arr: Any, indices: Any, values: Any, axis: int | None) -> None:
    """In place, wrapping around."""
    host, index = check_device(arr), check_device(indices)
    size = host.size if axis is None else host.shape[axis]
    np.put_along_axis(host, index.astype(np.int64) % max(size, 1), _host(values), axis)


def clip(a: Any, a_min: Any = None, a_max: Any = None, out: Any = None) -> Any:
    """Minimum and maximum by name are the method's."""
    if a_min is None and a_max is None:
        raise ValueError("array_clip: must set either max or min")
    result = np.clip(check_device(a), _host(a_min), _host(a_max))
    return new(result) if out is None else on_host(lambda x: result, "clip")(a, out=out)


def matmul(x1: Any, x2: Any, out: Any = None) -> Any:
    """Arrays alone; what comes out has C order."""
    for value in (x1, x2):
        if not isinstance(value, ndarray):
            raise unsupported(value)
    refuse_blas(x1.dtype, x2.dtype)
    result = np.matmul(check_device(x1), check_device(x2))
    if out is None:
        return new(result)
    out[...] = new(result)
    return out


def _matmul(*args: Any, **options: Any) -> Any:
    if options:
        raise TypeError(f"matmul of the stand-in takes no {', '.join(options)}")
    return matmul(*args)


def reshape(a: Any, shape: Any, order: str = "C", copy: bool | None = None) -> Any:
    """A view where strides allow one."""
    result = a._np.reshape(_bare(shape), order=order)
    view = np.may_share_memory(result, a._np)
    if copy is False and not view:
        raise ValueError("Unable to avoid creating a copy while reshaping.")
    return a._view(result) if view and not copy else new(check_device(a).reshape(shape, order=order).copy())


def ravel(a: Any, order: str = "C") -> Any:
    """A view where strides allow one."""
    fortran = order == "F" or (order in "AK" and a.flags.fnc)
    return reshape(a.transpose() if fortran else a, (-1,))


def asnumpy(a: Any, stream: Any = None, order: str = "C", out: Any = None, blocking: bool = True) -> Any:
    """To the host."""
    if isinstance(a, ndarray):
        return a.get(stream, order, out, blocking)
    if out is None:
        return np.asarray(a, order=order)
    out[...] = a
    return out


def get_array_module(*args: Any) -> Any:
    """CuPy if any argument is CuPy's."""
    import cupy

    return cupy if any(isinstance(arg, ndarray) for arg in args) else np


def may_share_memory(a: Any, b: Any, max_work: Any = None) -> bool:
    """By their bounds."""
    return a._mem.device_id == b._mem.device_id and np.may_share_memory(a._np, b._np)


SPECIALS: dict[str, Callable[..., Any]] = {
    **vars(_creation)["FUNCTIONS"],
    "where": where,
    "sort": _sorted(np.sort),
    "argsort": _sorted(np.argsort),
    "repeat": repeat,
    "take": lambda a, indices, axis=None, out=None: _indexing.take(a, indices, axis, out),
    "take_along_axis": take_along_axis,
    "put_along_axis": put_along_axis,
    "clip": clip,
    "matmul": _matmul,
    "reshape": lambda a, shape, order="C", copy=None: reshape(a, shape, order, copy),
    "ravel": ravel,
    "asnumpy": asnumpy,
    "get_array_module": get_array_module,
    "may_share_memory": may_share_memory,
    "shares_memory": may_share_memory,
    "astype": lambda x, dtype, copy=True: x._astype(dtype, "K", True if copy else None),
}


def fill(place: str, into: dict[str, Any], numpy_place: types.ModuleType) -> None:
    """Puts into a namespace all that CuPy has there and NumPy can stand in for."""
    for name, entry in FROZEN[place].items():
        original = getattr(numpy_place, name, None)
        if isinstance(entry, list):
            if callable(original):
                into[name] = ufunc(name, *entry, original)
        elif isinstance(entry, str):
            if name in SPECIALS and place == "cupy":
                special = SPECIALS[name] if name in NO_KERNEL else launched(SPECIALS[name])
                into[name] = bound(place, name, special, drop=name == "matmul")
            elif callable(original) and name not in OTHERS:
                into[name] = bound(place, name, on_host(original, name), drop=True)
        elif entry is None and name in FROZEN[place] and isinstance(original, type | int | float | None | np.dtype):
            into.setdefault(name, original)
