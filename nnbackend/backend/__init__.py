"""Floor 0: arrays. The only place in the library's maths that names an array library."""

from .base import DTYPES, FLOATING, INTEGRAL, KERNELS, SYNC, Array, Backend, dtype_name
from .detect import cuda_status
from .device import CPU, Device, DeviceLike, HostArray, device, device_of, shown, to_host
from .primitive import PRIMITIVES, erf, gather, logistic, one_hot, place, primitive, scatter_add, total
from .registry import BACKENDS, NUMPY, backend_of, is_array, library_backend, namespace, register

__all__ = [
    "BACKENDS",
    "CPU",
    "DTYPES",
    "FLOATING",
    "INTEGRAL",
    "KERNELS",
    "NUMPY",
    "PRIMITIVES",
    "SYNC",
    "Array",
    "Backend",
    "Device",
    "DeviceLike",
    "HostArray",
    "backend_of",
    "cuda_status",
    "device",
    "device_of",
    "dtype_name",
    "erf",
    "gather",
    "is_array",
    "library_backend",
    "logistic",
    "namespace",
    "one_hot",
    "place",
    "primitive",
    "register",
    "scatter_add",
    "shown",
    "to_host",
    "total",
]
