"""Fourier transforms: NumPy's."""

from __future__ import annotations

import numpy as _np

from ._functions import fill as _fill

_fill("cupy.fft", globals(), _np.fft)
