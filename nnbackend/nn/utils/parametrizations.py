"""Parametrizations of weights."""

from __future__ import annotations

from typing import Any

from ... import functional as F
from ...array import matrix_transpose, moveaxis, reshape
from ...cells import Buffer
from ...linalg import vector_norm
from ...random import generator, key_of
from ...recipe import hollow
from ...tensor import Tensor
from ..module import Module
from .parametrize import register_parametrization


class _WeightNorm(Module):
    """A length for each slice along `dim`, or for the whole, and a direction."""

    def __init__(self, dim: int | None = 0) -> None:
        self.dim = dim

    def forward(self, g: Any, v: Any) -> Any:
        """The weight: g * v / |v|."""
        return v * (g / self._length(v))

    def right_inverse(self, weight: Any) -> tuple[Any, Any]:
        """Length and direction of a weight."""
        seen = weight
        if hollow.get() is not None:  # of no more than tells the shape
            kept = None if self.dim is None or self.dim == -1 else self.dim % weight.ndim
            seen = weight[tuple(slice(None) if i == kept else slice(1) for i in range(weight.ndim))]
        return self._length(seen), weight

    def _length(self, v: Any) -> Any:
        if self.dim is None or self.dim == -1:
            return vector_norm(v)
        axes = tuple(i for i in range(v.ndim) if i != self.dim % v.ndim)
        return vector_norm(v, axis=axes, keepdims=True)


class _SpectralNorm(Module):
    """A weight over its largest singular value, which power iteration estimates: one step per forward in training."""

    def __init__(self, weight: Any, n_power_iterations: int = 1, dim: int = 0, eps: float = 1e-12) -> None:
        if n_power_iterations < 1:
            raise ValueError(f"spectral_norm: expected n_power_iterations >= 1, got {n_power_iterations}.")
        if not -weight.ndim <= dim < max(1, weight.ndim):
            raise ValueError(f"spectral_norm: expected dim in {-weight.ndim}..{weight.ndim - 1}, got {dim}.")
        self.n_power_iterations, self.eps, self.dim = n_power_iterations, eps, dim % weight.ndim
        if weight.ndim > 1:
            matrix = self._matrix(weight)  # what they hold is set by `right_inverse`
            self._u, self._v = Buffer(matrix[:, 0]), Buffer(matrix[0, :])

    def forward(self, weight: Any) -> Any:
        """The same shape."""
        if weight.ndim == 1:
            return F.normalize(weight, dim=0, eps=self.eps)
        matrix = self._matrix(weight)
        if self.training:
            self._iterate(matrix.detach(), self.n_power_iterations)
        u, v = Tensor(self._u.data).clone(), Tensor(self._v.data).clone()  # the next step changes the buffers
        return weight / (u @ (matrix @ v))

    def right_inverse(self, value: Any) -> Any:
        """The value, which the singular vectors are estimated for from the start."""
        if value.ndim > 1 and hollow.get() is None:
            start = generator(key_of(0)).normal(size=self._v.size).astype(value.dtype)
            self._v.assign(value.device.put(start))
            self._iterate(self._matrix(value), 15)
        return value

    def _matrix(self, weight: Any) -> Any:
        return reshape(moveaxis(weight, self.dim, 0), (weight.shape[self.dim], -1))

    def _iterate(self, matrix: Any, steps: int) -> None:
        u, v = self._u, self._v
        for _ in range(steps):
            u = F.normalize(matrix @ v, dim=0, eps=self.eps)
            v = F.normalize(matrix_transpose(matrix) @ u, dim=0, eps=self.eps)
        self._u.assign(u)
        self._v.assign(v)


def weight_norm(module: Module, name: str = "weight", dim: int | None = 0) -> Module:
    """Train length and direction of a weight apart (Salimans and Kingma 2016); `dim=None` has one length for all.

    They are `module.parametrizations.weight.original0` and `original1`.
    """
    return register_parametrization(module, name, _WeightNorm(dim))


def spectral_norm(
    module: Module, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None
) -> Module:
    """Divide a weight by its largest singular value (Miyato et al. 2018), seen as a matrix with `dim` for its rows.

    What is trained is `module.parametrizations.weight.original`.
    """
    weight = getattr(module, name, None)
    if not isinstance(weight, Tensor):
        raise ValueError(f"spectral_norm: expected a parameter of {type(module).__name__}, got {name!r}.")
    if dim is None:
        dim = 1 if type(module).__name__.startswith("ConvTranspose") else 0
    return register_parametrization(module, name, _SpectralNorm(weight.detach(), n_power_iterations, dim, eps))


__all__ = ["spectral_norm", "weight_norm"]
