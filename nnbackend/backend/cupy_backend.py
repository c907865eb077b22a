"""CuPy: one CUDA GPU. Importing this module loads nothing; CuPy comes in when the backend is made."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from .base import KERNELS, Array, Backend, dtype_name


class CupyBackend(Backend):
    """CUDA GPUs, through CuPy and array-api-compat's view of it."""

    views = True

    def __init__(self) -> None:
        self.cupy = importlib.import_module("cupy")
        super().__init__("cupy", importlib.import_module("array_api_compat.cupy"))
        if KERNELS:
            special = importlib.import_module("cupyx.scipy.special")
            self.overrides = {"gather": lambda x, index: x.take(index, axis=0), "erf": special.erf}

    def dtype(self, spec: Any) -> np.dtype[Any]:
        """CuPy's dtypes are NumPy's."""
        return np.dtype(dtype_name(spec))

    def device_name(self, raw: Any) -> str:
        """Its number."""
        return f"cuda:{raw.id}"

    def default_device(self) -> Any:
        """The current one."""
        return self.cupy.cuda.Device()

    def synchronize(self, raw: Any) -> None:
        """Wait for the device."""
        raw.synchronize()

    def from_host(self, host: np.ndarray[Any, Any], raw: Any) -> Array:
        """Upload."""
        with raw:
            return self.cupy.array(host, dtype=self.dtype(host.dtype), order="C")

    def to_host(self, x: Array) -> np.ndarray[Any, Any]:
        """Download, which waits."""
        host: np.ndarray[Any, Any] = self.cupy.asnumpy(x)
        return host

    def shares(self, x: Array, y: Array) -> bool:
        """By their bounds in memory."""
        return bool(self.cupy.may_share_memory(x, y))

    def copy(self, x: Array) -> Array:
        """A contiguous copy."""
        return x.copy(order="C")

    def own(self, x: Array) -> Array:
        """As it is if it owns its memory."""
        return x if x.base is None else x.copy(order="C")
