"""Normalisation layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import functional as F
from ..array import expand_dims, squeeze
from ..backend import DeviceLike
from ..cells import Buffer, Parameter
from ..errors import ShapeError
from . import init
from .module import Module


class _Affine(Module):
    """With a weight of ones and a bias of zeros, each if it is wanted."""

    weight: Parameter | None
    bias: Parameter | None

    def _start(self, shape: tuple[int, ...], weight: bool, bias: bool, device: DeviceLike, dtype: Any) -> None:
        self.weight = Parameter.drawn(init.ones, shape, device, dtype) if weight else None
        self.bias = Parameter.drawn(init.zeros, shape, device, dtype) if weight and bias else None


class LayerNorm(_Affine):
    """Mean 0 and variance 1 of each sample over the last axes, `normalized_shape` (Ba et al. 2016)."""

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: DeviceLike = "cpu",
        dtype: Any = "float32",
    ) -> None:
        self.normalized_shape = _shape(normalized_shape)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        self._start(self.normalized_shape, elementwise_affine, bias, device, dtype)

    def forward(self, x: Any) -> Any:
        """(..., *normalized_shape), the same shape."""
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)


class RMSNorm(_Affine):
    """Mean square 1 of each sample over the last axes (Zhang and Sennrich 2019). `eps` None is the dtype's own."""

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: DeviceLike = "cpu",
        dtype: Any = "float32",
    ) -> None:
        self.normalized_shape = _shape(normalized_shape)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        self._start(self.normalized_shape, elementwise_affine, False, device, dtype)

    def forward(self, x: Any) -> Any:
        """(..., *normalized_shape), the same shape."""
        return F.rms_norm(x, self.normalized_shape, self.weight, self.eps)


class GroupNorm(_Affine):
    """Mean 0 and variance 1 of each group of channels of each sample (Wu and He 2018)."""

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        device: DeviceLike = "cpu",
        dtype: Any = "float32",
        *,
        bias: bool = True,
    ) -> None:
        if num_groups < 1 or num_channels % num_groups:
            raise ValueError(f"GroupNorm: expected groups that divide {num_channels} channels, got {num_groups}.")
        self.num_groups, self.num_channels, self.eps, self.affine = num_groups, num_channels, eps, affine
        self._start((num_channels,), affine, bias, device, dtype)

    def forward(self, x: Any) -> Any:
        """(n, c, ...), the same shape."""
        return F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


class _Tracking(_Affine):
    """By channel, with running statistics if they are wanted."""

    dims: tuple[int, ...]  # how many axes an input may have

    def __init__(
        self,
        num_features: int,
        eps: float,
        momentum: float | None,
        affine: bool,
        track_running_stats: bool,
        device: DeviceLike,
        dtype: Any,
        bias: bool,
    ) -> None:
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        self._start((num_features,), affine, bias, device, dtype)
        self.running_mean: Any = None
        self.running_var: Any = None
        self.num_batches_tracked: Any = None
        if track_running_stats:
            self.running_mean = Buffer.full((num_features,), 0.0, device, dtype)
            self.running_var = Buffer.full((num_features,), 1.0, device, dtype)
            self.num_batches_tracked = Buffer.full((), 0, device, "int64")

    def start_over(self, key: int, only_fresh: bool = False) -> None:
        """Running statistics as of a new layer."""
        if self.track_running_stats and not only_fresh:
            for cell, start in ((self.running_mean, 0.0), (self.running_var, 1.0), (self.num_batches_tracked, 0)):
                cell[...] = start

    def _check(self, x: Any) -> None:
        if len(x.shape) not in self.dims:
            wanted = " or ".join(f"{n} axes" for n in self.dims)
            raise ShapeError(f"{type(self).__name__}: expected input of {wanted}, got {tuple(x.shape)}.")


class _BatchNorm(_Tracking):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: DeviceLike = "cpu",
        dtype: Any = "float32",
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias)

    def forward(self, x: Any) -> Any:
        """(n, c, ...), the same shape. In training the running statistics move."""
        self._check(x)
        mean, var, count, factor = self.running_mean, self.running_var, None, self.momentum
        training = self.training or mean is None
        if self.training:
            if not self.track_running_stats:
                mean = var = None
            elif self.num_batches_tracked is not None:
                count = self.num_batches_tracked + 1
                factor = 1.0 / count.astype(x.dtype) if factor is None else factor
        y = F.batch_norm(x, mean, var, self.weight, self.bias, training, factor, self.eps)
        if count is not None:
            self.num_batches_tracked.assign(count)
        return y


class BatchNorm1d(_BatchNorm):
    """Mean 0 and variance 1 of each channel over the batch (Ioffe and Szegedy 2015): (n, c) or (n, c, length).

    In evaluation by running statistics, which in training move by `momentum` at each batch; with `momentum=None` they
    are the averages of all batches so far.
    """

    dims = (2, 3)


class BatchNorm2d(_BatchNorm):
    """`BatchNorm1d` for images (n, c, h, w)."""

    dims = (4,)


class BatchNorm3d(_BatchNorm):
    """`BatchNorm1d` for volumes (n, c, d, h, w)."""

    dims = (5,)


class _InstanceNorm(_Tracking):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        device: DeviceLike = "cpu",
        dtype: Any = "float32",
        *,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias)

    def forward(self, x: Any) -> Any:
        """(n, c, ...) or a single (c, ...), the same shape."""
        self._check(x)
        batch = x if len(x.shape) == self.dims[1] else expand_dims(x, axis=0)
        own, momentum = self.training or not self.track_running_stats, self.momentum or 0.0
        y = F.instance_norm(batch, self.running_mean, self.running_var, self.weight, self.bias, own, momentum, self.eps)
        return y if batch is x else squeeze(y, axis=0)


class InstanceNorm1d(_InstanceNorm):
    """Mean 0 and variance 1 of each channel of each sample (Ulyanov et al. 2016): (n, c, length) or (c, length).

    With `track_running_stats`, in evaluation by running statistics as in `BatchNorm1d`.
    """

    dims = (2, 3)


class InstanceNorm2d(_InstanceNorm):
    """`InstanceNorm1d` for images (n, c, h, w) or (c, h, w)."""

    dims = (3, 4)


class InstanceNorm3d(_InstanceNorm):
    """`InstanceNorm1d` for volumes (n, c, d, h, w) or (c, d, h, w)."""

    dims = (4, 5)


class LocalResponseNorm(Module):
    """Each element over (k + alpha * the mean square of `size` channels around it) ** beta (Krizhevsky et al. 2012)."""

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, x: Any) -> Any:
        """(n, c, ...), the same shape."""
        return F.local_response_norm(x, self.size, self.alpha, self.beta, self.k)


def _shape(normalized_shape: int | Sequence[int]) -> tuple[int, ...]:
    return (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)


__all__ = [
    "BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "GroupNorm", "InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d",
    "LayerNorm", "LocalResponseNorm", "RMSNorm",
]  # fmt: skip
