"""Which library does an array belong to? One dict look-up by `type(x)`."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from ..errors import DTypeError
from .base import INTEGERS, Array, Backend
from .cupy_backend import CupyBackend
from .fusion import lazy
from .numpy_backend import NumpyBackend

NUMPY = NumpyBackend()

# One namespace per array type: true for NumPy, CuPy, array-api-strict, Tensor and whatever records a program.
BACKENDS: dict[type, Backend] = {}
_NAMESPACES: dict[type, Any] = {}
_BY_LIBRARY: dict[str, Backend] = {"numpy": NUMPY}


def register(kind: type, backend: Backend) -> None:
    """From now on arrays of type `kind` belong to `backend`."""
    BACKENDS[kind] = backend
    _NAMESPACES[kind] = backend.xp


for _kind in (np.ndarray, np.memmap, np.bool_, np.float16, np.float32, np.float64):
    register(_kind, NUMPY)  # the last ones because NumPy's 0-d results are scalars
for _name in INTEGERS:
    register(getattr(np, _name), NUMPY)
register(lazy.Lazy, lazy.BACKEND)


def namespace(x: Array) -> Any:
    """The array-API namespace of an array; NumPy's is `numpy` itself. DTypeError for what is no array."""
    try:
        return _NAMESPACES[type(x)]
    except KeyError:
        return backend_of(x).xp


def backend_of(x: Array) -> Backend:
    """The library of an array: its namespace, its devices, its faster primitives. DTypeError for what is no array."""
    try:
        return BACKENDS[type(x)]
    except KeyError:
        kind = type(x)
    library = kind.__module__.partition(".")[0]
    base = next((b for b in kind.__mro__ if b in BACKENDS), None)
    if _is_cupys(kind):
        register(kind, library_backend("cupy"))
    elif base is not None and not isinstance(x, np.ndarray):  # a subclass of Tensor; NumPy's own may mean anything
        register(kind, BACKENDS[base])
    elif hasattr(x, "__array_namespace__") and not isinstance(x, np.ndarray):
        register(kind, _BY_LIBRARY.setdefault(library, Backend(library, x.__array_namespace__())))
    else:
        name = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
        convert = "np.array" if isinstance(x, np.ndarray) else "nb.tensor"
        raise DTypeError(f"expected an array, got {name}. Convert it with {convert}(...).")
    return BACKENDS[kind]


def is_array(x: Any) -> bool:
    """Is `x` an array of some library? Python numbers and lists are not."""
    kind = type(x)
    return kind in BACKENDS or hasattr(kind, "__array_namespace__") or _is_cupys(kind)


def _is_cupys(kind: type) -> bool:
    """CuPy's arrays do not name their namespace."""
    return issubclass(kind, getattr(sys.modules.get("cupy"), "ndarray", ()))


def library_backend(library: str) -> Backend:
    """The backend of a library by name; any but CuPy must have been imported by whoever asks."""
    if library not in _BY_LIBRARY:
        _BY_LIBRARY[library] = CupyBackend() if library == "cupy" else Backend(library, sys.modules[library])
    return _BY_LIBRARY[library]


def assign(y: Array, key: Any, value: Any) -> None:
    """Change the elements of y at `key` to `value`, in place; of several for one place the last stays."""
    backend_of(y).assign(y, key, value)


def blend(y: Array, b: Any, x: Array, a: Any) -> None:
    """Change y to b y + a x, in place."""
    backend_of(y).blend(y, b, x, a)


def descend(w: Array, a: Any, x: Array) -> None:
    """Change w to w - a x, in place."""
    backend_of(w).descend(w, a, x)
