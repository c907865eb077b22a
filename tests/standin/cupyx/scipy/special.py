"""Ufuncs that NumPy lacks, from Python's own mathematics."""

from __future__ import annotations

from cupy._signatures import FROZEN as _FROZEN
from cupy._ufunc import SPECIAL as _SPECIAL
from cupy._ufunc import ufunc as _ufunc

globals().update((name, _ufunc(name, *_FROZEN["cupyx.scipy.special"][name], made)) for name, made in _SPECIAL.items())
