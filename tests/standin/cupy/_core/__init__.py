"""What the library uses of CuPy's insides."""

from . import _routines_linalg, syncdetect
from ._routines_linalg import get_compute_type, set_compute_type

__all__ = ["_routines_linalg", "get_compute_type", "set_compute_type", "syncdetect"]
