"""The array-API namespace of handles: any function of the standard runs and is written down, without a list of them."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from ..backend import Backend
from ..recorder import writer
from ..tree import leaves
from .graph import HOLE, VIEWS
from .traced import Traced, concrete

REDUCTIONS = frozenset({"sum", "prod", "mean", "max", "min", "any", "all", "var", "std"})
ALIKE = {"zeros_like": "zeros", "ones_like": "ones", "full_like": "full", "empty_like": "empty"}
QUESTIONS = frozenset({"can_cast", "finfo", "iinfo", "isdtype", "result_type"})  # about dtypes, not about values
UNKNOWN_SHAPE = frozenset({"nonzero", "unique_all", "unique_counts", "unique_inverse", "unique_values"})


class TraceNamespace:
    """The functions of one array library, recorded. What is no function is the library's own."""

    def __init__(self, backend: Backend, kind: type) -> None:
        self._backend, self._kind = backend, kind

    def __getattr__(self, name: str) -> Any:
        """Any function that the library has."""
        own = getattr(self._backend.xp, name)
        if isinstance(own, ModuleType):
            return _Linalg(self, own) if name == "linalg" else _Extension(own)
        if not callable(own) or isinstance(own, type) or name.startswith("_"):
            return own
        if name in QUESTIONS:
            fn = self._question(own)
        else:
            fn = self._recorded(name, own)
        setattr(self, name, fn)  # found at once from now on
        return fn

    def __getstate__(self) -> None:
        raise TypeError("a recording cannot be pickled")

    def _question(self, own: Callable[..., Any]) -> Callable[..., Any]:
        def ask(*args: Any, **kw: Any) -> Any:
            return own(*[a.dtype if isinstance(a, Traced) else a for a in args], **kw)

        return ask

    def _recorded(self, name: str, own: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kw: Any) -> Any:
            trace = writer()
            if getattr(trace, "kind", None) is not self._kind:  # the recording is over
                return own(*concrete(args), **concrete(kw))
            if args and type(args[0]) is self._kind and args[0].trace is not trace:  # from a recording that is over
                args = (trace.handle(args[0].value), *args[1:])
            special = getattr(self, f"_{name}", None)
            if special is not None:
                return special(trace, own, *args, **kw)
            if name in ALIKE:
                like, *rest = args
                kw = {"dtype": like.dtype, "device": like.device, **{k: v for k, v in kw.items() if v is not None}}
                return getattr(self, ALIKE[name])(tuple(like.shape), *rest, **kw)
            if name in UNKNOWN_SHAPE or (
                name == "repeat" and any(isinstance(x, Traced) for x in (*args[1:], *kw.values()))
            ):
                trace.breaks(f"{name}, whose result has a shape that depends on values,")
            if name in REDUCTIONS:
                if len(args) > 1:
                    args, kw = args[:1], {"axis": args[1], **kw}
                kw = {"axis": None, "keepdims": False, **kw}
            if name in VIEWS and len(args) and type(args[0]) is self._kind:
                args, kw = (args[0], *trace.known(args[1:])), trace.known(kw)
                value = own(args[0].value, *args[1:], **kw)
                return args[0].view(name, (HOLE, *args[1:]), kw, value)
            return trace.call(name, own, args, kw)

        return run

    # -- with more than one meaning
    def _astype(self, trace: Any, own: Any, x: Any, dtype: Any, *, copy: bool = True, device: Any = None) -> Any:
        if x.dtype == dtype:
            return self._copied(trace, x) if copy else x
        return trace.call("astype", lambda x, dtype: own(x, dtype), (x, dtype), {})

    def _asarray(
        self, trace: Any, own: Any, x: Any, /, *, dtype: Any = None, device: Any = None, copy: bool | None = None
    ) -> Any:
        if not isinstance(x, Traced):
            if any(isinstance(part, Traced) for part in leaves(x)):
                trace.breaks("a list of arrays made one array (use stack)")
            return trace.made(own(concrete(trace.known(x)), dtype=dtype, device=device, copy=copy))
        if dtype is not None and x.dtype != dtype:
            return self.astype(x, dtype)
        return self._copied(trace, x) if copy else x

    def _copied(self, trace: Any, x: Any) -> Any:
        return trace.call("copy", self._backend.copy, (x,), {})


class _Linalg:
    """Linear algebra, recorded under names such as `linalg.solve`."""

    def __init__(self, outer: TraceNamespace, own: ModuleType) -> None:
        self._outer, self._own = outer, own

    def __getattr__(self, name: str) -> Any:
        return self._outer._recorded(f"linalg.{name}", getattr(self._own, name))


class _Extension:
    """`fft`, which is not recorded: programs know no complex numbers."""

    def __init__(self, own: ModuleType) -> None:
        self._own = own

    def __getattr__(self, name: str) -> Any:
        fn = getattr(self._own, name)

        def run(*args: Any, **kw: Any) -> Any:
            for x in leaves((args, kw)):
                if isinstance(x, Traced):
                    x._leaves(f"{name}()")
            return fn(*concrete(args), **concrete(kw))

        return run if callable(fn) and not isinstance(fn, type) else fn
