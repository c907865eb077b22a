"""Moving between devices: the one op whose result lives elsewhere."""

from __future__ import annotations

from ..backend import Array, Device, device_of, primitive, to_host
from .core import Op


@primitive
def moved(x: Array, device: Device) -> Array:
    """A copy of `x` on `device`; `x` itself if it is there already."""
    return x if device_of(x) == device else device.put(to_host(x))


def to_device(x: Array, device: Device) -> Op:
    """The same values on `device`; the gradient goes back to where `x` is."""
    home = device_of(x)
    return moved(x, device), (lambda dy: moved(dy, home), None)
