"""One kind of handle for each array library, so that `namespace(x)` and `backend_of(x)` know them by their type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..backend import NUMPY, PRIMITIVES, Array, Backend, device_of, register
from .namespace import TraceNamespace
from .traced import Traced

_KINDS: dict[Backend, tuple[type[Traced], TraceNamespace]] = {}


def handles_of(backend: Backend) -> tuple[type[Traced], TraceNamespace]:
    """Their type, and its namespace."""
    if backend not in _KINDS:
        kind = type("Traced", (Traced,), {"__slots__": ()})
        namespace = TraceNamespace(backend, kind)
        _KINDS[backend] = (kind, namespace)
        register(kind, TraceBackend(backend, namespace))
    return _KINDS[backend]


ALWAYS = frozenset({"kept"})  # recorded in array functions: they draw where the numbers are used
# Recorded in array functions, which share blocks with others, unless a GPU has a kernel for them.
OPEN = frozenset(
    {
        "affine",
        "log_softmax",
        "log_softmax_back",
        "normalized",
        "normalized_back",
        "pool_max",
        "pool_max_back",
        "pool_sum",
        "pool_sum_back",
        "softmax",
        "softmax_back",
        "softmax_loss",
        "softmax_loss_back",
    }
)


class TraceBackend(Backend):
    """Handles as an array library: the library's own answers, and each primitive one node."""

    def __init__(self, inner: Backend, namespace: TraceNamespace) -> None:
        super().__init__(inner.name, namespace)
        own = () if inner is NUMPY else inner.overrides
        self.overrides = _Recorded(OPEN.difference(own) | ALWAYS)
        self.inner, self.views = inner, inner.views

    def dtype(self, spec: Any) -> Any:
        """The library's."""
        return self.inner.dtype(spec)

    def canonical(self, dtype: Any) -> Any:
        """The library's."""
        return self.inner.canonical(dtype)

    def exp_limit(self, dtype: Any) -> float:
        """The library's."""
        return self.inner.exp_limit(dtype)

    def raw_device(self, x: Any) -> Any:
        """The array's."""
        return device_of(x.value)

    def default_device(self) -> Any:
        """The library's."""
        return self.inner.default_device()

    def from_host(self, host: Any, raw: Any) -> Array:
        """An array of the library itself."""
        return self.inner.from_host(host, raw)

    def to_host(self, x: Any) -> Any:
        """The values, which breaks the recording."""
        return self.inner.to_host(x._leaves("{}()"))

    def copy(self, x: Any) -> Any:
        """A node of its own, though programs may do without it."""
        return x.trace.call("copy", self.inner.copy, (x,), {})

    def own(self, x: Any) -> Any:
        """As the library would have it."""
        owned = self.inner.own(x.value)
        return x if owned is x.value else x.trace.call("copy", lambda _: owned, (x,), {})

    def one(self, like: Any) -> Any:
        """Made from nothing."""
        kw = {"dtype": like.dtype, "device": like.device}
        return like.trace.call("ones", lambda shape, **kw: self.inner.one(like.value), ((),), kw)


class _Recorded(dict[str, Callable[..., Any]]):
    """Every primitive, as it is looked up by name, but for those that are open."""

    def __init__(self, opened: frozenset[str]) -> None:
        super().__init__()
        self._open = opened

    def get(self, name: str, default: Any = None) -> Any:
        if name == "moved":
            return _moved
        if name in self._open:
            return None
        if name == "product":
            return lambda a, b: a.trace.call("matmul", PRIMITIVES["product"], (a, b), {})
        if name == "total":
            return lambda x, axis: x.trace.call(
                "sum", lambda x, axis, keepdims: PRIMITIVES["total"](x, axis), (x,), {"axis": axis, "keepdims": False}
            )
        return lambda x, *rest: x.trace.call(name, PRIMITIVES[name], (x, *rest), {})


def _moved(x: Any, device: Any) -> Any:
    if device_of(x.value) == device:
        return x
    return PRIMITIVES["moved"](x._leaves("a move to another device"), device)
