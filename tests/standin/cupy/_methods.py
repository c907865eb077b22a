"""Methods of arrays that are functions of the namespace by another name."""

from typing import Any

from . import _indexing
from ._array import functions, ndarray
from ._functions import clip
from ._signatures import FROZEN, bound

SAME = {
    "all", "any", "argmax", "argmin", "argpartition", "argsort", "choose", "conj", "conjugate", "cumprod", "cumsum",
    "diagonal", "dot", "max", "mean", "min", "nonzero", "partition", "prod", "ptp", "ravel", "repeat", "round",
    "searchsorted", "squeeze", "std", "sum", "swapaxes", "trace", "var",
}  # fmt: skip
OWN = {  # written in `_array.ndarray` itself
    "astype", "copy", "fill", "flatten", "get", "item", "reshape", "set", "sort", "tobytes", "tolist", "transpose",
    "view",
}  # fmt: skip


def install() -> None:
    """Gives `ndarray` its methods, behind CuPy's signatures."""
    for name in OWN:
        setattr(ndarray, name, bound("ndarray", name, vars(ndarray)[name]))
    for name in SAME:
        if name in functions:
            setattr(ndarray, name, bound("ndarray", name, functions[name], drop=True))
    ndarray.take = bound("ndarray", "take", lambda a, i, axis=None, out=None: _indexing.take(a, i, axis, out))
    ndarray.clip = bound("ndarray", "clip", _clip)
    ndarray.__copy__ = ndarray.copy
    unknown = [n for n in vars(ndarray) if n[0] != "_" and n not in FROZEN["ndarray"]]
    if unknown:
        raise AssertionError(f"CuPy's ndarray lacks {unknown}")


def _clip(a: Any, min: Any = None, max: Any = None, out: Any = None) -> Any:
    return clip(a, min, max, out)
