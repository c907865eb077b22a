"""A stand-in for CuPy 14.2 on machines without a GPU: NumPy underneath, as strict as CuPy, two devices.

It turns up as `cupy` where the environment has NNBACKEND_TEST_CUPY=standin (see tests/conftest.py). What CuPy lacks is
missing here, too, and what CuPy has and nobody in this project uses may be missing as well.
"""

from __future__ import annotations

import sys as _sys

import numpy as _np

from . import _array, _functions, _methods, _operators
from . import cuda as cuda
from . import fft as fft
from . import lib as lib
from . import linalg as linalg
from ._array import ndarray as ndarray
from ._raw import RawKernel as RawKernel
from ._raw import RawModule as RawModule
from ._ufunc import ufunc as ufunc

__version__ = "14.2.0"
is_standin = True
newaxis, pi, e, inf, nan, euler_gamma = None, _np.pi, _np.e, _np.inf, _np.nan, _np.euler_gamma

_functions.fill("cupy", globals(), _np)
_array.functions.update((name, value) for name, value in globals().items() if callable(value) and name[0] != "_")
_array._namespace.append(_sys.modules[__name__])
_methods.install()
_operators.install()


def get_default_memory_pool() -> cuda.MemoryPool:
    """The pool of all devices."""
    return cuda.memory._default


_pinned = cuda.PinnedMemoryPool()


def get_default_pinned_memory_pool() -> cuda.PinnedMemoryPool:
    """It keeps nothing."""
    return _pinned
