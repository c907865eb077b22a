"""Ufuncs by the functions of the C library: the same bits as in a kernel, where NumPy has code of its own."""

import ctypes
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

_NAMES = {  # of the ufunc: of the C function
    **{name: name for name in ("exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "cbrt", "erf", "erfc")},
    **{name: name for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh")},
    **{f"arc{name}": f"a{name}" for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh")},
    "arctan2": "atan2", "hypot": "hypot", "power": "pow", "logaddexp": "add_exp", "expit": "logistic",
}  # fmt: skip
_PAIRS = ("atan2", "hypot", "pow", "add_exp")
_TEXT = """
#include <math.h>
static float add_expf(float a, float b) { return a == b ? a + log(2.0) : fmaxf(a, b) + log1pf(expf(-fabsf(a - b))); }
static double add_exp(double a, double b) { return a == b ? a + log(2.0) : fmax(a, b) + log1p(exp(-fabs(a - b))); }
static float logisticf(float v) { return 1 / (1 + expf(-v)); }
static double logistic(double v) { return 1 / (1 + exp(-v)); }
#define ONE(f, name, T) \\
  extern "C" void name(const T* x, T* out, long n) { for (long i = 0; i < n; ++i) out[i] = f(x[i]); }
#define TWO(f, name, T) \\
  extern "C" void name(const T* x, const T* y, T* out, long n) { for (long i = 0; i < n; ++i) out[i] = f(x[i], y[i]); }
"""


@functools.cache
def _library() -> ctypes.CDLL:
    from ._raw import built

    loops = [
        f"{'TWO' if name in _PAIRS else 'ONE'}({name}{suffix}, loop_{name}_{char}, {kind})"
        for name in _NAMES.values()
        for suffix, char, kind in (("f", "f", "float"), ("", "d", "double"))
    ]
    text = "\n".join([_TEXT, *loops])
    return built(text, lambda: text)


@functools.cache
def _loop(name: str, char: str) -> Any:
    loop = _library()[f"loop_{_NAMES[name]}_{char}"]
    loop.argtypes = [ctypes.c_void_p] * (2 + (_NAMES[name] in _PAIRS)) + [ctypes.c_long]
    return loop


def libm(name: str, otherwise: Callable[..., Any]) -> Callable[..., Any]:
    """The function of that name for floats, half precision in single, and `otherwise` for the rest."""
    if name not in _NAMES:
        return otherwise

    def compute(*hosts: Any) -> Any:
        kind = hosts[0].dtype
        if kind.char not in "efd":
            return otherwise(*hosts, order="C")
        wide = np.dtype(np.float64 if kind.char == "d" else np.float32)
        given = [np.asarray(host, wide, order="C") for host in np.broadcast_arrays(*hosts)]
        out = np.empty(given[0].shape, wide)
        _loop(name, wide.char)(*(each.__array_interface__["data"][0] for each in (*given, out)), out.size)
        return out.astype(kind, copy=False)

    return compute
