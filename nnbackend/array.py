"""The namespace of Tensor: the functions of the array-API standard, with gradients where they have one.

Any Tensor in, Tensor out; all plain arrays in, plain array out of their own library. Default dtype float32.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable, Sequence
from typing import Any

from . import linalg
from .backend import (
    CPU,
    DTYPES,
    FLOATING,
    NUMPY,
    Array,
    backend_of,
    dtype_name,
    is_array,
    namespace,
)  # fmt: skip
from .creation import (
    arange,
    asarray,
    empty,
    empty_like,
    eye,
    from_dlpack,
    full,
    full_like,
    linspace,
    ones,
    ones_like,
    tensor,
    zeros,
    zeros_like,
)  # fmt: skip
from .errors import ShapeError
from .numerics import (
    chunk,
    cummax,
    cummin,
    index_add,
    index_select,
    lerp,
    nan_to_num,
    swapaxes,
    unfold,
)  # fmt: skip
from .ops import elementwise, index, linear, reduce, scan
from .ops import shape as shapes
from .ops.core import NUMBERS, Axis
from .ops.linalg import diag
from .ops.scan import logcumsumexp
from .tensor import Tensor, lift, plain, transfer

__array_api_version__ = "2024.12"
e, inf, nan, newaxis, pi = math.e, math.inf, math.nan, None, math.pi
bool, float16, float32, float64 = (DTYPES[name] for name in ("bool", "float16", "float32", "float64"))
int8, int16, int32, int64 = (DTYPES[f"int{n}"] for n in (8, 16, 32, 64))
uint8, uint16, uint32, uint64 = (DTYPES[f"uint{n}"] for n in (8, 16, 32, 64))

# -- element by element ---------------------------------------------------------------------------------------------

abs, negative, positive = lift(elementwise.abs), lift(elementwise.negative), lift(elementwise.positive)
add, subtract = lift(elementwise.add), lift(elementwise.subtract)
multiply, divide = lift(elementwise.multiply), lift(elementwise.divide)
pow, remainder, hypot = lift(elementwise.pow), lift(elementwise.remainder), lift(elementwise.hypot)
square, sqrt, reciprocal = lift(elementwise.square), lift(elementwise.sqrt), lift(elementwise.reciprocal)
exp, expm1, erf = lift(elementwise.exp), lift(elementwise.expm1), lift(elementwise.erf)
log, log1p, log2, log10 = (lift(f) for f in (elementwise.log, elementwise.log1p, elementwise.log2, elementwise.log10))
logaddexp = lift(elementwise.logaddexp)
sin, cos, tan = lift(elementwise.sin), lift(elementwise.cos), lift(elementwise.tan)
asin, acos, atan, atan2 = (lift(f) for f in (elementwise.asin, elementwise.acos, elementwise.atan, elementwise.atan2))
sinh, cosh, tanh = lift(elementwise.sinh), lift(elementwise.cosh), lift(elementwise.tanh)
asinh, acosh, atanh = lift(elementwise.asinh), lift(elementwise.acosh), lift(elementwise.atanh)
maximum, minimum, copysign = lift(elementwise.maximum), lift(elementwise.minimum), lift(elementwise.copysign)
floor, ceil, round = lift(elementwise.floor), lift(elementwise.ceil), lift(elementwise.round)
trunc, sign = lift(elementwise.trunc), lift(elementwise.sign)
_clip, _astype, _copy = lift(elementwise.clip), lift(elementwise.astype), lift(elementwise.copy)
_as_integers = lift(elementwise.astype, differentiable=False)


def clip(x: Any, min: Any = None, max: Any = None) -> Any:
    """Values kept between `min` and `max`; None leaves that side open."""
    return _clip(x, min, max)


def astype(x: Any, dtype: Any, *, copy: builtins.bool = True, device: Any = None) -> Any:
    """The same values in another dtype. Integers and booleans have no history."""
    data = x.data if isinstance(x, Tensor) else x
    backend = backend_of(data)
    own = backend.dtype(dtype)
    cast = _astype if backend.canonical(own) in FLOATING else _as_integers
    y = cast(x, dtype=own) if own != data.dtype else _copy(x) if copy else x
    return y if device is None else transfer(y, device)


def _plain(name: str) -> Callable[..., Any]:
    """A function of the standard that has no gradient, by name."""

    def fn(x: Array, *args: Any, **kw: Any) -> Array:
        xp = namespace(args[0] if type(x) in NUMBERS else x)
        y = getattr(xp, name)(x, *args, **kw)
        return xp.asarray(y) if type(y) is int else y  # NumPy before 2.3 counts in Python numbers

    fn.__name__ = fn.__qualname__ = name
    return plain(fn)


equal, not_equal, less, less_equal = map(_plain, ("equal", "not_equal", "less", "less_equal"))
greater, greater_equal = map(_plain, ("greater", "greater_equal"))
logical_and, logical_or = map(_plain, ("logical_and", "logical_or"))
logical_not, logical_xor = map(_plain, ("logical_not", "logical_xor"))
bitwise_and, bitwise_or, bitwise_xor = map(_plain, ("bitwise_and", "bitwise_or", "bitwise_xor"))
bitwise_invert, bitwise_left_shift = map(_plain, ("bitwise_invert", "bitwise_left_shift"))
bitwise_right_shift, floor_divide = map(_plain, ("bitwise_right_shift", "floor_divide"))
isfinite, isinf, isnan, signbit = map(_plain, ("isfinite", "isinf", "isnan", "signbit"))
nextafter = _plain("nextafter")

# -- reductions -----------------------------------------------------------------------------------------------------

_sum, _mean, _prod = lift(reduce.sum), lift(reduce.mean), lift(reduce.prod)
max, min, logsumexp = lift(reduce.max), lift(reduce.min), lift(reduce.logsumexp)
mean, var, std = lift(reduce.mean), lift(reduce.var), lift(reduce.std)
_cumulative_sum, _cumulative_prod = lift(scan.cumulative_sum), lift(scan.cumulative_prod)
all, any, count_nonzero = map(_plain, ("all", "any", "count_nonzero"))
argmax, argmin = map(_plain, ("argmax", "argmin"))


def sum(x: Any, axis: Axis = None, dtype: Any = None, keepdims: builtins.bool = False) -> Any:
    """Sum along `axis`."""
    return _sum(x if dtype is None else astype(x, dtype), axis=axis, keepdims=keepdims)


def prod(x: Any, axis: Axis = None, dtype: Any = None, keepdims: builtins.bool = False) -> Any:
    """Product along `axis`."""
    return _prod(x if dtype is None else astype(x, dtype), axis=axis, keepdims=keepdims)


def cumulative_sum(x: Any, axis: int | None = None, dtype: Any = None, include_initial: builtins.bool = False) -> Any:
    """Running sums along `axis`, from 0 on with `include_initial`."""
    return _cumulative_sum(x if dtype is None else astype(x, dtype), axis=axis, include_initial=include_initial)


def cumulative_prod(x: Any, axis: int | None = None, dtype: Any = None, include_initial: builtins.bool = False) -> Any:
    """Running products along `axis`, from 1 on with `include_initial`."""
    return _cumulative_prod(x if dtype is None else astype(x, dtype), axis=axis, include_initial=include_initial)


# -- shapes ---------------------------------------------------------------------------------------------------------

matrix_transpose, moveaxis = lift(shapes.matrix_transpose), lift(shapes.moveaxis)
expand_dims, squeeze, flip, roll = (lift(f) for f in (shapes.expand_dims, shapes.squeeze, shapes.flip, shapes.roll))
repeat, tile, pad, split = lift(shapes.repeat), lift(shapes.tile), lift(shapes.pad), lift(shapes.split)
unstack = lift(shapes.unstack)
_reshape, _concat, _stack = lift(shapes.reshape), lift(shapes.concat), lift(shapes.stack)
_permute_dims, _broadcast_to = lift(shapes.permute_dims), lift(shapes.broadcast_to)


def permute_dims(x: Any, axes: Sequence[int]) -> Any:
    """The axes in another order."""
    return _permute_dims(x, axes=tuple(axes))


def broadcast_to(x: Any, shape: Sequence[int]) -> Any:
    """Repeated, without a copy, to a larger shape."""
    return _broadcast_to(x, shape=tuple(shape))


def reshape(x: Any, shape: int | tuple[int, ...], *, copy: builtins.bool | None = None) -> Any:
    """The same elements in another shape; one length may be -1. ShapeError if the counts differ."""
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    have, known = math.prod(x.shape), math.prod(n for n in shape if n != -1)
    if shape.count(-1) > 1 or (-1 not in shape and have != known) or (-1 in shape and known and have % known):
        of = "with more than one -1" if shape.count(-1) > 1 else f"of {'a multiple of ' * (-1 in shape)}{known}"
        raise ShapeError(f"reshape: expected a shape of {have} elements (from {tuple(x.shape)}), got {shape} {of}.")
    return _reshape(_copy(x) if copy else x, shape=shape)


def concat(arrays: Sequence[Any], *, axis: int | None = 0) -> Any:
    """One after the other along `axis`; None flattens them first."""
    return _concat(*arrays, axis=axis)


def stack(arrays: Sequence[Any], *, axis: int = 0) -> Any:
    """Side by side along a new `axis`."""
    return _stack(*arrays, axis=axis)


def broadcast_arrays(*arrays: Any) -> tuple[Any, ...]:
    """All in the shape they broadcast to."""
    shape = NUMPY.xp.broadcast_shapes(*(a.shape for a in arrays))
    return tuple(broadcast_to(a, shape) for a in arrays)


def meshgrid(*arrays: Any, indexing: str = "xy") -> tuple[Any, ...]:
    """Coordinates of a grid from the coordinates along its axes."""
    n = len(arrays)
    order = [1, 0, *range(2, n)] if indexing == "xy" and n > 1 else list(range(n))
    shape = tuple(arrays[i].shape[0] for i in order)
    lines = (reshape(a, tuple(-1 if order[k] == i else 1 for k in range(n))) for i, a in enumerate(arrays))
    return tuple(broadcast_to(line, shape) for line in lines)


def tril(x: Any, *, k: int = 0) -> Any:
    """0 above diagonal k."""
    return where(_lower(x, k), x, _zero(x))


def triu(x: Any, *, k: int = 0) -> Any:
    """0 below diagonal k."""
    return where(_lower(x, k - 1), _zero(x), x)


def _zero(x: Any) -> Any:
    """The number 0 that leaves the dtype of `x` as it is."""
    return 0.0 if isdtype(x.dtype, "real floating") else False if isdtype(x.dtype, "bool") else 0


def _lower(x: Any, k: int) -> Any:
    data = x.data if isinstance(x, Tensor) else x
    rows = arange(x.shape[-2], device=data)
    columns = arange(x.shape[-1], device=data)
    mask = expand_dims(rows, axis=1) + k >= columns
    return mask if isinstance(x, Tensor) else mask.data


# -- picking and sorting --------------------------------------------------------------------------------------------

where, masked_fill, sort = lift(index.where), lift(index.masked_fill), lift(index.sort)
gather, scatter_add, take_along_axis = lift(index.gather), lift(index.scatter_add), lift(index.take_along_axis)
put_along_axis, add_along_axis = lift(index.put_along_axis), lift(index.add_along_axis)
topk = lift(index.topk)
_take, _one_hot = lift(index.take), lift(index.one_hot)
argsort = lift(index.argsort, differentiable=False)
nonzero, _searchsorted, unique_values = map(_plain, ("nonzero", "searchsorted", "unique_values"))


def searchsorted(x1: Any, x2: Any, *, side: str = "left", sorter: Any = None) -> Any:
    """Where each of `x2` would go into the sorted `x1`; `sorter` is what sorts an `x1` that is not."""
    return _searchsorted(x1 if sorter is None else take(x1, sorter), x2, side=side)


def diff(x: Any, *, axis: int = -1, n: int = 1, prepend: Any = None, append: Any = None) -> Any:
    """Differences of neighbours along `axis`, `n` times over; `prepend` and `append` are joined on first."""
    parts = [part for part in (prepend, x, append) if part is not None]
    x = concat(parts, axis=axis) if len(parts) > 1 else x
    if n < 0 or not -len(x.shape) <= axis < len(x.shape):
        raise ShapeError(f"diff: expected n >= 0 along an axis of {tuple(x.shape)}, got n={n}, axis={axis}")
    before = (slice(None),) * (axis % len(x.shape))
    for _ in range(n):
        x = x[(*before, slice(1, None), ...)] - x[(*before, slice(None, -1), ...)]
    return x


def take(x: Any, indices: Any, *, axis: int | None = None) -> Any:
    """Slices along `axis` at 1-D `indices`."""
    if axis is None and len(x.shape) != 1:
        raise ShapeError(f"take: expected axis= for an array of shape {tuple(x.shape)}")
    return _take(x, indices, axis=axis or 0)


def one_hot(labels: Any, classes: int, dtype: Any = "float32") -> Any:
    """(...) integers -> (..., classes) zeros and ones."""
    data = labels.data if isinstance(labels, Tensor) else labels
    return _one_hot(labels, classes=classes, dtype=backend_of(data).dtype(dtype))


# -- products -------------------------------------------------------------------------------------------------------

matmul, vecdot = lift(linear.matmul), lift(linear.vecdot)


def tensordot(a: Any, b: Any, *, axes: int | tuple[Sequence[int], Sequence[int]] = 2) -> Any:
    """Sum of products over `axes`: the last n of `a` with the first n of `b`, or two lists."""
    a, b = _alike(a, b)
    return linear.tensordot(a, b, axes=axes)


def einsum(subscripts: str, *operands: Any) -> Any:
    """Einstein summation: `einsum("bij,bjk->bik", a, b)`."""
    return linear.einsum(subscripts, *_alike(*operands))


def _alike(*arrays: Any) -> list[Any]:
    """All Tensors if one is."""
    return [asarray(a) for a in arrays] if builtins.any(isinstance(a, Tensor) for a in arrays) else list(arrays)


# -- dtypes are NumPy's on every device -----------------------------------------------------------------------------


def _dtype(x: Any) -> Any:
    """NumPy's dtype of an array or of another library's dtype."""
    return DTYPES[dtype_name(x.dtype if is_array(x) else x)]


def finfo(type: Any) -> Any:
    """Limits of a floating dtype, or of an array's."""
    return NUMPY.xp.finfo(_dtype(type))


def iinfo(type: Any) -> Any:
    """Limits of an integer dtype, or of an array's."""
    return NUMPY.xp.iinfo(_dtype(type))


def isdtype(dtype: Any, kind: Any) -> builtins.bool:
    """Whether a dtype is of this kind: a dtype, "bool", "integral", "real floating", ..., or a tuple of them."""
    kinds = kind if isinstance(kind, tuple) else (kind,)
    return builtins.bool(NUMPY.xp.isdtype(_dtype(dtype), tuple(k if isinstance(k, str) else _dtype(k) for k in kinds)))


def result_type(*items: Any) -> Any:
    """The dtype that these arrays, dtypes and numbers have together."""
    return NUMPY.xp.result_type(*(x if type(x) in (builtins.bool, int, float) else _dtype(x) for x in items))


def can_cast(from_: Any, to: Any) -> builtins.bool:
    """Whether this array or dtype becomes that dtype without loss."""
    return builtins.bool(NUMPY.xp.can_cast(_dtype(from_), _dtype(to)))


class __array_namespace_info__:
    """What this namespace can do (array-API inspection)."""

    def capabilities(self) -> dict[str, Any]:
        """Masks and data-dependent shapes work where the library below allows them."""
        return {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 64}

    def default_device(self) -> Any:
        """Where arrays go if nobody says."""
        return CPU

    def devices(self) -> list[Any]:
        """Devices that are always there."""
        return [CPU]

    def default_dtypes(self, *, device: Any = None) -> dict[str, Any]:
        """float32, as in PyTorch."""
        return {"real floating": float32, "complex floating": None, "integral": int64, "indexing": int64}

    def dtypes(self, *, device: Any = None, kind: Any = None) -> dict[str, Any]:
        """The dtypes of a kind."""
        names = [name for name in DTYPES if name != "float16" and (kind is None or isdtype(DTYPES[name], kind))]
        return {name: DTYPES[name] for name in names}


__all__ = [
    "abs", "acos", "acosh", "add", "add_along_axis", "all", "any", "arange", "argmax", "argmin", "argsort", "asarray",
    "asin", "asinh", "astype", "atan", "atan2", "atanh", "bitwise_and", "bitwise_invert", "bitwise_left_shift",
    "bitwise_or", "bitwise_right_shift", "bitwise_xor", "bool", "broadcast_arrays", "broadcast_to", "can_cast", "ceil",
    "chunk", "clip", "concat", "copysign", "cos", "cosh", "count_nonzero", "cummax", "cummin", "cumulative_prod",
    "cumulative_sum", "diag", "diff", "divide", "e", "einsum", "empty", "empty_like", "equal", "erf", "exp",
    "expand_dims", "expm1", "eye", "finfo", "flip", "float16", "float32", "float64", "floor", "floor_divide",
    "from_dlpack", "full", "full_like", "gather", "greater", "greater_equal", "hypot", "iinfo", "index_add",
    "index_select", "inf", "int8", "int16", "int32", "int64", "isdtype", "isfinite", "isinf", "isnan", "lerp", "less",
    "less_equal", "linalg", "linspace", "log", "log1p", "log2", "log10", "logaddexp", "logcumsumexp", "logical_and",
    "logical_not", "logical_or", "logical_xor", "logsumexp", "masked_fill", "matmul", "matrix_transpose", "max",
    "maximum", "mean", "meshgrid", "min", "minimum", "moveaxis", "multiply", "nan", "nan_to_num", "negative",
    "newaxis", "nextafter", "nonzero", "not_equal", "one_hot", "ones", "ones_like", "pad", "permute_dims", "pi",
    "positive", "pow", "prod", "put_along_axis", "reciprocal", "remainder", "repeat", "reshape", "result_type", "roll",
    "round", "scatter_add", "searchsorted", "sign", "signbit", "sin", "sinh", "sort", "split", "sqrt", "square",
    "squeeze", "stack", "std", "subtract", "sum", "swapaxes", "take", "take_along_axis", "tan", "tanh", "tensor",
    "tensordot", "tile", "topk", "tril", "triu", "trunc", "uint8", "uint16", "uint32", "uint64", "unfold",
    "unique_values", "unstack", "var", "vecdot", "where", "zeros", "zeros_like",
]  # fmt: skip
