"""The methods of Tensor that are another spelling of a function of `nnbackend.array`."""

from __future__ import annotations

from typing import Any

from .backend import namespace
from .ops.core import Axis


class TensorMethods:
    """`x.sum(0)` for `nb.sum(x, axis=0)`."""

    __slots__ = ()

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
