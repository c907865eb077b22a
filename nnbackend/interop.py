"""A Tensor as Python numbers, as a NumPy array, and as memory for other libraries."""

from __future__ import annotations

import math
from typing import Any

from .backend import Array, HostArray, device_of, to_host
from .errors import DeviceError


class Interop:
    """The ways out of a Tensor. Each waits for the device, so none belongs inside a training step."""

    __slots__ = ()
    data: Array

    def numpy(self) -> HostArray:
        """The values as a NumPy array to read; `.copy()` it to write."""
        view = to_host(self.data).view()
        view.flags.writeable = False
        return view

    def item(self) -> Any:
        """The only element as a Python number; ValueError if there are more."""
        shape = tuple(self.data.shape)
        if math.prod(shape) != 1:
            raise ValueError(f"item: expected a tensor with one element, got shape {shape}. Index or reduce it first.")
        return to_host(self.data).item()

    def tolist(self) -> Any:
        """Nested lists of Python numbers."""
        return to_host(self.data).tolist()

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else str(self)

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        return to_host(self.data).__index__()

    def __bool__(self) -> bool:
        shape = tuple(self.data.shape)
        if math.prod(shape) != 1:
            raise ValueError(f"the truth of a tensor of shape {shape} is ambiguous. Use .any() or .all().")
        return bool(self.item())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> HostArray:
        if device_of(self.data) != "cpu":
            raise DeviceError(f"numpy: expected a tensor on the cpu, got one on {device_of(self.data)}. Use .numpy().")
        return self.numpy().__array__(dtype, copy=copy)

    def __dlpack__(self, **kw: Any) -> Any:
        return self._memory().__dlpack__(**kw)

    def __dlpack_device__(self) -> Any:
        return self._memory().__dlpack_device__()

    def _memory(self) -> Array:
        return self.data if hasattr(self.data, "__dlpack__") else to_host(self.data)  # NumPy's scalars have none
