"""Tensors as an array library: what makes `namespace(x)` and the primitives work on them."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from . import array
from .backend import PRIMITIVES, Array, Backend, HostArray, register
from .ops import activation, conv, elementwise, index, reduce
from .tensor import Tensor, lift, transfer


class TensorBackend(Backend):
    """Tensors as an array library: each primitive is the op that knows its way back."""

    def raw_device(self, x: Array) -> Any:
        """Its device."""
        return x.device

    def device_name(self, raw: Any) -> str:
        """For people."""
        return str(raw)

    def copy(self, x: Array) -> Array:
        """A new Tensor."""
        return x.clone()

    def to_host(self, x: Array) -> HostArray:
        """A NumPy array."""
        return x.numpy()  # type: ignore[no-any-return]


def _constant(name: str) -> Callable[..., Any]:
    """A primitive that has no way back."""
    return lambda x, *rest: Tensor(PRIMITIVES[name](x.data, *rest))


_total = lift(reduce.sum)
_conv, _conv_transpose = lift(conv.conv), lift(conv.conv_transpose)
_PRIMITIVES: dict[str, Callable[..., Any]] = {
    "total": lambda x, axis: _total(x, axis=axis),
    "product": operator.matmul,
    "logistic": lift(activation.sigmoid),
    "gather": lift(index.gather),
    "scatter_add": array.scatter_add,
    "place": lift(index.place),
    "one_hot": array.one_hot,
    "erf": lift(elementwise.erf),
    "moved": transfer,
    **{name: _constant(name) for name in ("words_like", "uniform_like", "integers_like")},
    "conv": lambda x, w, *how: _conv(x, w, None, *how),
    "conv_transpose": lambda y, w, *how: _conv_transpose(y, w, None, *how),
    "conv_weight": lift(conv.conv_weight),
    "fold": lift(conv.fold),
    "unfold": lift(conv.unfold),
}
register(Tensor, TensorBackend("tensor", array, _PRIMITIVES))
