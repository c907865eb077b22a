"""The methods of Tensor that are another spelling of a function of `nnbackend.array`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .backend import namespace
from .errors import ShapeError
from .ops.core import Axis


def _method(name: str) -> Callable[..., Any]:
    """The function of that name of the array namespace, or of its `linalg`, with the Tensor as first argument."""
    path = name.split(".")

    def method(self: Any, *args: Any, **kw: Any) -> Any:
        function = namespace(self)
        for part in path:
            function = getattr(function, part)
        return function(self, *args, **kw)

    method.__name__ = path[-1]
    method.__doc__ = f"`nb.{name}` of this Tensor."
    return method


class TensorMethods:
    """`x.sum(0)` for `nb.sum(x, axis=0)`; `gather`, `scatter` and `index_*` by PyTorch's names and meaning."""

    __slots__ = ()

    sin, cos, log1p, expm1, erf = map(_method, ("sin", "cos", "log1p", "expm1", "erf"))
    floor, ceil, round, sign, square = map(_method, ("floor", "ceil", "round", "sign", "square"))
    logsumexp, cumsum, cumprod = map(_method, ("logsumexp", "cumulative_sum", "cumulative_prod"))
    logcumsumexp, cummax, cummin = map(_method, ("logcumsumexp", "cummax", "cummin"))
    sort, argsort, topk, take_along_axis = map(_method, ("sort", "argsort", "topk", "take_along_axis"))
    tril, triu, roll, flip, diff = map(_method, ("tril", "triu", "roll", "flip", "diff"))
    repeat, tile, chunk, split, unfold = map(_method, ("repeat", "tile", "chunk", "split", "unfold"))
    swapaxes, moveaxis, broadcast_to = map(_method, ("swapaxes", "moveaxis", "broadcast_to"))
    masked_fill, lerp, nan_to_num = map(_method, ("masked_fill", "lerp", "nan_to_num"))
    index_select, index_add = map(_method, ("index_select", "index_add"))
    isfinite, isnan, isinf = map(_method, ("isfinite", "isnan", "isinf"))
    matmul, diag = map(_method, ("matmul", "diag"))
    norm, inv, det, slogdet = map(_method, ("linalg.norm", "linalg.inv", "linalg.det", "linalg.slogdet"))
    cholesky, diagonal, trace, outer = map(
        _method, ("linalg.cholesky", "linalg.diagonal", "linalg.trace", "linalg.outer")
    )

    def gather(self, dim: int, index: Any) -> Any:
        """Element `index[..., j, ...]` of each line along `dim`; `index` may have fewer lines."""
        return namespace(self).take_along_axis(_cut(self, dim, index.shape), index, axis=dim)

    def scatter(self, dim: int, index: Any, src: Any) -> Any:
        """A copy with `src` where `gather` would take; of several for one place, one stays."""
        return _scattered(self, dim, index, src, "put_along_axis")

    def scatter_add(self, dim: int, index: Any, src: Any) -> Any:
        """A copy with `src` added where `gather` would take, repeats counted each time."""
        return _scattered(self, dim, index, src, "add_along_axis")

    def sum(self, axis: Axis = None, keepdims: bool = False) -> Any:
        """Sum of the elements along `axis`, of all by default."""
        return namespace(self).sum(self, axis=axis, keepdims=keepdims)

    def mean(self, axis: Axis = None, keepdims: bool = False) -> Any:
        """Mean along `axis`."""
        return namespace(self).mean(self, axis=axis, keepdims=keepdims)

    def max(self, axis: Axis = None, keepdims: bool = False) -> Any:
        """Largest element along `axis`."""
        return namespace(self).max(self, axis=axis, keepdims=keepdims)

    def min(self, axis: Axis = None, keepdims: bool = False) -> Any:
        """Smallest element along `axis`."""
        return namespace(self).min(self, axis=axis, keepdims=keepdims)

    def prod(self, axis: Axis = None, keepdims: bool = False) -> Any:
        """Product along `axis`."""
        return namespace(self).prod(self, axis=axis, keepdims=keepdims)

    def var(self, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Any:
        """Variance along `axis`; `correction=1` for the unbiased estimate."""
        return namespace(self).var(self, axis=axis, correction=correction, keepdims=keepdims)

    def std(self, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Any:
        """Standard deviation along `axis`."""
        return namespace(self).std(self, axis=axis, correction=correction, keepdims=keepdims)

    def argmax(self, axis: int | None = None, keepdims: bool = False) -> Any:
        """Where the largest element is."""
        return namespace(self).argmax(self, axis=axis, keepdims=keepdims)

    def argmin(self, axis: int | None = None, keepdims: bool = False) -> Any:
        """Where the smallest element is."""
        return namespace(self).argmin(self, axis=axis, keepdims=keepdims)

    def any(self, axis: Axis = None, keepdims: bool = False) -> Any:
        """Whether any element is true."""
        return namespace(self).any(self, axis=axis, keepdims=keepdims)

    def all(self, axis: Axis = None, keepdims: bool = False) -> Any:
        """Whether all elements are true."""
        return namespace(self).all(self, axis=axis, keepdims=keepdims)

    def reshape(self, *shape: Any) -> Any:
        """The same elements in another shape; one length may be -1."""
        return namespace(self).reshape(self, shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape)

    def flatten(self, start: int = 0) -> Any:
        """All axes from `start` on as one."""
        return namespace(self).reshape(self, (*self.shape[:start], -1))  # type: ignore[attr-defined]

    def permute(self, *axes: int) -> Any:
        """The axes in another order."""
        return namespace(self).permute_dims(self, axes)

    def squeeze(self, axis: Axis) -> Any:
        """Without axes of length 1."""
        return namespace(self).squeeze(self, axis=axis)

    def unsqueeze(self, axis: int) -> Any:
        """With a new axis of length 1."""
        return namespace(self).expand_dims(self, axis=axis)

    def exp(self) -> Any:
        """Exponential of each element."""
        return namespace(self).exp(self)

    def log(self) -> Any:
        """Natural logarithm."""
        return namespace(self).log(self)

    def sqrt(self) -> Any:
        """Square root."""
        return namespace(self).sqrt(self)

    def tanh(self) -> Any:
        """Hyperbolic tangent."""
        return namespace(self).tanh(self)

    def abs(self) -> Any:
        """Absolute values."""
        return namespace(self).abs(self)

    def clip(self, min: Any = None, max: Any = None) -> Any:
        """Values kept between `min` and `max`."""
        return namespace(self).clip(self, min, max)


def _cut(x: Any, dim: int, shape: tuple[int, ...]) -> Any:
    """The part of `x` in which an index of `shape` moves along `dim`, the first lines of each axis."""
    dim %= len(shape)
    if any(n > m for i, (n, m) in enumerate(zip(shape, x.shape, strict=True)) if i != dim):
        raise ShapeError(f"expected an index no larger than {tuple(x.shape)} but along axis {dim}, got {tuple(shape)}")
    key = tuple(slice(None) if i == dim else slice(n) for i, n in enumerate(shape))
    return x if all(n == m for i, (n, m) in enumerate(zip(shape, x.shape, strict=True)) if i != dim) else x[key]


def _scattered(x: Any, dim: int, index: Any, src: Any, how: str) -> Any:
    part, space = _cut(x, dim, index.shape), namespace(x)
    source = src if isinstance(src, int | float) else src[tuple(slice(n) for n in index.shape)]
    values = space.full(index.shape, src, dtype=x.dtype, device=x.device) if source is src else source
    new = getattr(space, how)(part, index, values, axis=dim)
    if part is x:
        return new
    out = x.clone()
    out[tuple(slice(n) for n in part.shape)] = new
    return out
