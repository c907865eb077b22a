"""`cupy.ufunc`: NumPy's ufuncs in the loops that CuPy has, chosen as CuPy chooses them."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ._array import SCALARS, check_device, ndarray, new, unsupported
from ._libm import libm
from .cuda._capture import launched

_WEAK = {int: "q", float: "d", complex: "D"}  # Python's numbers do not promote arrays of their kind


def _kind(dtype: Any) -> int:
    return {"b": 0, "u": 1, "i": 1, "f": 2, "c": 2}[dtype.kind]


_F32 = np.dtype(np.float32)
_SMALLEST = np.finfo(_F32).smallest_normal


class _Loop:
    def __init__(self, text: str) -> None:
        takes, makes = text.split("->")
        self.takes, self.makes = [np.dtype(c) for c in takes], [np.dtype(c) for c in makes]

    def fits(self, given: list[Any], weak: list[Any]) -> bool:
        for dtype, python, loop in zip(given, weak, self.takes, strict=True):
            if np.can_cast(dtype, loop):
                continue
            if python is None or np.result_type(python(0), loop) != loop:
                return False
        return True


class ufunc:
    """One of them. `compute` stands in where NumPy has none of that name."""

    __module__ = "cupy"

    def __init__(self, name: str, nin: int, nout: int, types: str, compute: Callable[..., Any]) -> None:
        self.__name__, self.name = name, f"cupy_{name}"
        self.nin, self.nout, self.nargs = nin, nout, nin + nout
        self.types = types.split()
        self._loops = [_Loop(text) for text in self.types]
        self._compute, self._chosen = libm(name, compute), dict[Any, _Loop]()
        self._ordered = isinstance(self._compute, np.ufunc)

    def __repr__(self) -> str:
        return f"<ufunc {self.name!r}>"

    def _loop(self, key: tuple[Any, ...]) -> _Loop:
        """The first that all arguments can be cast to; Python's numbers count only if no array is of a lower kind."""
        given = [np.dtype(_WEAK[k]) if k in _WEAK else np.dtype(bool) if k is bool else np.dtype(k) for k in key]
        weak = [k if k in _WEAK else None for k in key]
        arrays = [_kind(d) for d, w in zip(given, weak, strict=True) if w is None]
        numbers = [_kind(d) for d, w in zip(given, weak, strict=True) if w is not None]
        if not arrays or not numbers or max(numbers) > max(arrays):
            weak = [None] * len(weak)
        for loop in self._loops:
            if loop.fits(given, weak):
                return loop
        raise TypeError(f"Wrong type ({tuple(given)}) of arguments for {self.name}")

    @launched
    def __call__(
        self, *args: Any, out: Any = None, dtype: Any = None, casting: str = "same_kind", **others: Any
    ) -> Any:
        if others:
            raise TypeError(f"Wrong arguments {others}")
        if not self.nin <= len(args) <= self.nargs:
            raise TypeError(
                f"Wrong number of arguments for {self.name!r}. It must be either {self.nin} or {self.nargs} (with "
                f"outputs), but given {len(args)}."
            )
        if out is not None and len(args) > self.nin:
            raise ValueError("Cannot specify 'out' as both a positional and keyword argument")
        outs = args[self.nin :] or (out if isinstance(out, tuple) else (out,) * self.nout)
        hosts, key = [], []
        for value in args[: self.nin]:
            if isinstance(value, ndarray):
                hosts.append(check_device(value))
                key.append(hosts[-1].dtype)
            elif type(value) in SCALARS:
                hosts.append(value)
                key.append(np.dtype(np.uint64) if type(value) is int and value >= 1 << 63 else type(value))
            elif isinstance(value, np.generic):
                hosts.append(value)
                key.append(value.dtype)
            else:
                raise unsupported(value)
        if dtype is None:
            loop = self._chosen.get(tuple(key)) or self._chosen.setdefault(tuple(key), self._loop(tuple(key)))
        else:
            loops = (loop for loop in self._loops if all(make == np.dtype(dtype) for make in loop.makes))
            loop = next(loops, None)
            if loop is None:
                raise TypeError(f"Wrong type ({np.dtype(dtype)}) of arguments for {self.name}")
        for target in outs:
            if target is not None:
                check_device(target) if isinstance(target, ndarray) else _refuse(target)
        return self._run(loop, hosts, outs, casting)

    def _run(self, loop: _Loop, hosts: list[Any], outs: Any, casting: str) -> Any:
        with np.errstate(all="ignore"):
            cast = [
                host if getattr(host, "dtype", None) is kind else _cast(host, kind)
                for host, kind in zip(hosts, loop.takes, strict=True)
            ]
            if _F32 in loop.takes:
                cast = [_flushed(host) if host.dtype is _F32 else host for host in cast]
            results = self._compute(*cast, order="C") if self._ordered else self._compute(*cast)
            made = []
            results = results if self.nout > 1 else (results,)
            for result, kind, target in zip(results, loop.makes, outs, strict=True):
                result = _flushed(np.asarray(result)) if kind is _F32 else result
                if target is None:
                    made.append(new(result if getattr(result, "dtype", None) is kind else np.asarray(result, kind)))
                    continue
                if target.shape != np.shape(result):
                    raise ValueError(f"Output array has shape {target.shape}, expected {np.shape(result)}")
                if not np.can_cast(kind, target.dtype, casting):
                    raise TypeError(
                        f"output (typecode '{kind.char}') could not be coerced to provided output parameter"
                        f" (typecode '{target.dtype.char}') according to the casting rule \"{casting}\""
                    )
                target._np[...] = result
                made.append(target)
        return made[0] if self.nout == 1 else tuple(made)

    # -- what few of CuPy's ufuncs have
    def at(self, a: Any, indices: Any, b: Any = None) -> None:
        """In place, as often as an index turns up. Indices wrap around."""
        if self.__name__ not in ("add", "subtract", "maximum", "minimum", "bitwise_and", "bitwise_or", "bitwise_xor"):
            raise NotImplementedError(f"`{self.name}.at` is not supported yet")
        scatter(self.__name__, a, indices, b)

    def reduce(self, array: Any, axis: Any = 0, dtype: Any = None, out: Any = None, keepdims: bool = False) -> Any:
        if self.__name__ not in ("add", "multiply"):
            raise NotImplementedError(f"`{self.name}.reduce` is not supported yet")
        return getattr(array, {"add": "sum", "multiply": "prod"}[self.__name__])(axis, dtype, out, keepdims)

    def accumulate(self, array: Any, axis: int = 0, dtype: Any = None, out: Any = None) -> Any:
        if self.__name__ not in ("add", "multiply"):
            raise NotImplementedError(f"`{self.name}.accumulate` is not supported yet")
        return getattr(array, {"add": "cumsum", "multiply": "cumprod"}[self.__name__])(axis, dtype, out)

    def outer(self, a: Any, b: Any, **options: Any) -> Any:
        return self(a.reshape(a.shape + (1,) * b.ndim), b, **options)


def _flushed(host: Any) -> Any:
    """CuPy compiles with -ftz=true: in float32, numbers below the smallest normal one are zero, coming and going."""
    small = np.abs(host) < _SMALLEST
    if small.any() and (host[small] != 0).any():
        return np.where(small, np.copysign(np.float32(0), host), host)
    return host


def _cast(host: Any, kind: Any) -> Any:
    return host.astype(kind) if isinstance(host, np.ndarray) else np.asarray(host, kind)


def _refuse(target: Any) -> None:
    raise unsupported(target)


ATOMIC = {"add": "efdiIQL", "maximum": "fdiIQL", "minimum": "fdiIQL"}  # what CUDA has atomic operations for


@launched
def scatter(name: str, a: Any, indices: Any, value: Any) -> None:
    """`cupyx.scatter_add` and its like."""
    from ._indexing import _prepared

    parts, kernel = _prepared(a, indices)
    if kernel and a.dtype.char not in ATOMIC.get(name, "ilqILQ"):
        raise TypeError(f"scatter_{name[:3]} does not support {a.dtype}")
    value = check_device(value) if isinstance(value, ndarray) else value
    with np.errstate(all="ignore"):
        getattr(np, name).at(check_device(a), parts, np.asarray(value).astype(a.dtype))


_gamma = np.frompyfunc(lambda x: math.gamma(x) if x > 0 else math.nan, 1, 1)
_gammaln = np.frompyfunc(lambda x: math.lgamma(x) if x > 0 else math.inf, 1, 1)
SPECIAL: dict[str, Callable[..., Any]] = {
    "gamma": _gamma,
    "gammaln": _gammaln,
    **dict.fromkeys(("erf", "erfc", "expit")),
}
