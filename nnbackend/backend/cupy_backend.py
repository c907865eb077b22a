"""CuPy: CUDA GPUs. Importing this module loads nothing; CuPy comes in when the backend is made."""

from __future__ import annotations

import importlib
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, get_args

import numpy as np

from ..errors import DeviceError
from .base import KERNELS, Array, Backend, Memory, Precision, dtype_name
from .cuda_faults import SPAWN, one_line
from .cupy_namespace import namespace
from .cupy_primitives import last_for_each, overrides
from .fusion.lazy import together
from .gemm import PRECISION

PINNED = 1 << 25  # bytes: results up to here are read through page-locked memory, which a system has little of
NO_ROOM = "ALLOC_FAILED|cudaErrorMemoryAllocation|CUDA_ERROR_OUT_OF_MEMORY"  # of what is beside CuPy's pool


class CupyBackend(Backend):
    """CUDA GPUs, through CuPy and array-api-compat's view of it.

    Arrays are made, and kernels started, on CuPy's current device and stream. Inside `stream` these are the device
    asked for and one non-blocking stream that all work of ours on that device shares.
    """

    captures = views = True

    def __init__(self) -> None:
        self.cupy = importlib.import_module("cupy")
        super().__init__("cupy", namespace(self.cupy))
        self._pinned = importlib.import_module("cupyx").empty_pinned
        self._core = importlib.import_module("cupy._core")
        linalg = importlib.import_module("cupy._core._routines_linalg")
        self._kinds = dict.fromkeys(get_args(Precision), linalg.COMPUTE_TYPE_FP32)
        self._kinds["tf32"] = linalg.COMPUTE_TYPE_TF32
        self._precisions: list[int] = []  # CuPy's own, and those in use
        self._streams: dict[int, Any] = {}
        self._lock = threading.Lock()
        if KERNELS:
            self.overrides = overrides(self.cupy)

    def dtype(self, spec: Any) -> np.dtype[Any]:
        """CuPy's dtypes are NumPy's."""
        return np.dtype(dtype_name(spec))

    # -- devices and streams
    def device_name(self, raw: Any) -> str:
        """Its number."""
        return f"cuda:{raw.id}"

    def default_device(self) -> Any:
        """The current one."""
        return self.cupy.cuda.Device()

    def synchronize(self, raw: Any) -> None:
        """Wait for all streams of the device. DeviceError if something has failed there."""
        with self._explaining(raw):
            raw.synchronize()

    def on(self, raw: Any) -> Any:
        """CuPy makes arrays on its current device, whatever `device=` says."""
        return raw

    @contextmanager
    def stream(self, raw: Any, precision: Precision) -> Iterator[None]:
        """Both streams wait for each other, but nobody on the host does; errors are told in our words."""
        with self._explaining(raw), raw, self._precisely(precision):
            here, ours = self.cupy.cuda.get_current_stream(), self._stream(raw.id)
            if here.ptr == ours.ptr:
                yield
                return
            ours.wait_event(here.record())
            try:
                with ours:
                    yield
            finally:
                here.wait_event(ours.record())

    def precision(self) -> Precision:
        """That of the stream entered last."""
        return PRECISION.get()

    def here(self, raw: Any) -> Callable[[], AbstractContextManager[Any]]:
        """Its stream; if each thread has a default of its own, the one for all, which keeps their order."""
        with raw:
            stream, kinds = self.cupy.cuda.get_current_stream(), self.cupy.cuda.Stream
        stream = kinds.null if stream.ptr == kinds.ptds.ptr else stream

        @contextmanager
        def entered() -> Iterator[None]:
            with raw, stream:
                yield

        return entered

    def _stream(self, number: int) -> Any:
        with self._lock:
            if number not in self._streams:
                self._streams[number] = self.cupy.cuda.Stream(non_blocking=True)
            return self._streams[number]

    @contextmanager
    def _precisely(self, precision: Precision) -> Iterator[None]:
        """For our own products, and for those of CuPy, which has one setting in a process, tf32 or not."""
        with self._lock:
            if not self._precisions:
                self._precisions.append(self._core.get_compute_type(np.float32))
            self._precisions.append(kind := self._kinds[precision])
            self._core.set_compute_type(np.float32, kind)
        before = PRECISION.get()
        PRECISION.set(precision)
        try:
            yield
        finally:
            PRECISION.set(before)
            with self._lock:  # other threads may be at work meanwhile
                del self._precisions[len(self._precisions) - 1 - self._precisions[::-1].index(kind)]
                self._core.set_compute_type(np.float32, self._precisions[-1])
                if len(self._precisions) == 1:
                    self._precisions.clear()

    # -- memory
    def memory(self, raw: Any) -> Memory:
        """Free is what CUDA has left, and what CuPy's pool keeps but nobody uses; a limit of the pool counts."""
        with raw:
            free, total = self.cupy.cuda.runtime.memGetInfo()
            pool = self.cupy.get_default_memory_pool()
            used, reserved, limit = pool.used_bytes(), pool.total_bytes(), pool.get_limit()
        free += reserved - used
        return Memory(min(free, limit - used) if limit else free, min(total, limit) if limit else total, used, reserved)

    @contextmanager
    def _explaining(self, raw: Any) -> Iterator[None]:
        """Errors of the device's own come out in our words."""
        try:
            yield
        except (MemoryError, RuntimeError) as error:
            if (ours := self.explained(error, raw)) is None:
                raise
            raise ours from error

    def explained(self, error: BaseException, raw: Any) -> Exception | None:
        """MemoryError with the figures of the device, DeviceError for what CUDA reports. Notes are kept."""
        if not type(error).__module__.startswith("cupy"):
            return None
        if isinstance(error, MemoryError) or re.search(NO_ROOM, str(error)):
            ours: Exception = self._out_of_memory(error, raw)
        elif "cudaErrorInitializationError" in str(error):
            ours = DeviceError(f"CUDA was started before this process was forked; {SPAWN}.")
        elif re.search("cudaError|CUDA_ERROR|CUBLAS|CUSOLVER", str(error)):
            said = one_line(f"{type(error).__name__}: {error}")
            ours = DeviceError(f"CUDA reports {said}. An earlier op may have caused it: NNBACKEND_SYNC=1 shows which.")
        else:
            return None
        for note in getattr(error, "__notes__", ()):
            ours.add_note(note)
        return ours

    def _out_of_memory(self, error: BaseException, raw: Any) -> MemoryError:
        with raw:
            self.cupy.get_default_memory_pool().free_all_blocks()
        asked = re.search(r"allocating ([\d,]+) bytes", str(error))
        wanted = _size(int(asked[1].replace(",", ""))) if asked else "more"
        free, total, used, reserved = map(_size, self.memory(raw))
        return MemoryError(
            f"out of memory on {self.device_name(raw)}: asked for {wanted}, {used} in use, {reserved} reserved, "
            f"{free} of {total} free. Use a smaller batch_size, or fit(accumulate=k)."
        )

    # -- to and from the host
    def from_host(self, host: np.ndarray[Any, Any], raw: Any) -> Array:
        """Upload through page-locked memory (CuPy's way), without waiting for it."""
        host = np.asarray(host)  # NumPy's 0-d results are scalars
        with self._explaining(raw), raw:
            if self.cupy.cuda.pinned_memory.is_memory_pinned(host.ctypes.data):
                host = host.copy()  # CuPy would read it later, with all that is written to it until then
            return self.cupy.array(host, dtype=self.dtype(host.dtype), order="C")

    def to_host(self, x: Array) -> np.ndarray[Any, Any]:
        """Download, which waits."""
        with self._explaining(x.device), x.device:
            out = self._pinned(x.shape, x.dtype) if 0 < x.nbytes <= PINNED else None
            host: np.ndarray[Any, Any] = self.cupy.asnumpy(x, out=out)
        return host

    def assign(self, y: Array, key: Any, value: Any) -> None:
        """CuPy leaves it open which of several values stays for one place, so all of them become the last one's."""
        if getattr(value, "ndim", 0):
            value = last_for_each(self.cupy, value, key, y.shape)
        y[key] = value

    def together(self, fn: Callable[..., None], *arrays: Array) -> None:
        """In one launch, unless `fn` does what lazy arrays cannot."""
        if not (KERNELS and together(fn, *arrays)):
            fn(*arrays)

    def shares(self, x: Array, y: Array) -> bool:
        """By their bounds in memory."""
        kind = self.cupy.ndarray  # numbers of NumPy's may be among them
        return isinstance(x, kind) and isinstance(y, kind) and bool(self.cupy.may_share_memory(x, y))

    def copy(self, x: Array) -> Array:
        """A contiguous copy."""
        return x.copy(order="C")

    def joined(self, parts: list[Array]) -> Array | None:
        """The parts as one flat array over the same memory, if they lie side by side there."""
        first, place = parts[0], parts[0].data.ptr
        for x in parts:
            if not x.flags.c_contiguous or x.dtype != first.dtype or x.data.ptr != place or x.base is None:
                return None
            if x.data.mem is not first.data.mem:
                return None
            place += x.nbytes
        return self.cupy.ndarray((sum(x.size for x in parts),), first.dtype, memptr=first.data)

    def refill(self, y: Array, x: Array) -> None:
        """Change y to x, of the same shape and dtype; by a plain copy of memory where both are contiguous."""
        if x.flags.c_contiguous and y.flags.c_contiguous and x.nbytes:
            y.data.copy_from_device_async(x.data, x.nbytes)
        else:
            y[...] = x

    def own(self, x: Array) -> Array:
        """As it is if it owns its memory."""
        return x if x.base is None else x.copy(order="C")


def _size(n: int) -> str:
    return f"{n / 2**30:.2f} GiB" if n >= 2**30 else f"{n / 2**20:.1f} MiB"
