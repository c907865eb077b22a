"""Plans of NVIDIA's cuDNN, where it is installed; `NNBACKEND_CUDNN=0` leaves it alone.

It takes the library (`nvidia-cudnn-cu12` or `-cu13`) and `nvidia-cudnn-frontend`, whose own dependencies are not
needed. An operation as a graph of tensors, with the engine chosen for it, is a plan. It belongs to the shapes, strides,
dtypes and settings, and to no address. Plans and workspaces are made outside of captures, so what a capture meets must
have run before.
"""

from __future__ import annotations

import math
import os
import threading
import weakref
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

from ..errors import DeviceError
from .base import Array, log
from .capture import UncapturedError
from .cublaslt import library
from .cuda_faults import one_line

Ints = tuple[int, ...]

TYPES = {"float32": "FLOAT", "float16": "HALF", "uint16": "BFLOAT16"}  # the last are its bits
ALIGNED = 16  # bytes: addresses are multiples of it
LIMIT = 1 << 30  # bytes of a workspace
PLANS = {"conv": 1024, "sdpa": 64}  # that are made at most; one for attention takes half a second
PYTHON = ("sdpa_", "frost")  # engines that the frontend would compile with CUTLASS, and torch beside it
ANY = ("NONDETERMINISTIC", "DOWN_CONVERT_INPUTS", "REDUCED_PRECISION_REDUCTION")  # what engines may never do
IEEE = (*ANY, "TENSOR_CORE", "WINOGRAD", "FFT")  # nor in "ieee": round factors, as tensor cores do, or transform them


def frontend() -> Any:
    """The package, with the library loaded. ImportError, OSError or RuntimeError says why not."""
    if os.environ.get("NNBACKEND_CUDNN") == "0":
        raise ImportError("NNBACKEND_CUDNN=0")
    if find_spec("cudnn") is None:
        raise ImportError("nvidia-cudnn-frontend is not installed")
    library()  # cuDNN ends the process if it does not find cuBLASLt
    cudnn = import_module("cudnn")
    if not hasattr(cudnn, "pygraph"):
        raise ImportError("the module cudnn is not that of nvidia-cudnn-frontend")
    cudnn.backend_version()
    return cudnn


class Layout(NamedTuple):
    """A tensor in memory: strides are in elements, and for axes of length 1 as if it were dense."""

    shape: Ints
    steps: Ints
    dtype: str

    @classmethod
    def of(cls, x: Array) -> Layout:
        """That of an array."""
        dense = cls.dense(x.shape, x.dtype.name)
        axes = zip(x.shape, x.strides, dense.steps, strict=True)
        return dense._replace(steps=tuple(step if n == 1 else s // x.itemsize for n, s, step in axes))

    @classmethod
    def dense(cls, shape: Ints, dtype: str) -> Layout:
        """In C's order."""
        return cls(shape, tuple(math.prod(shape[i + 1 :]) for i in range(len(shape))), dtype)


class Plan(NamedTuple):
    """A graph with its engine, its inputs and outputs, and how many bytes of workspace it needs."""

    graph: Any
    tensors: tuple[Any, ...]
    size: int


class Cudnn:
    """Makes plans and runs them. Devices have a handle each, which one thread at a time uses."""

    def __init__(self, cupy: Any, cudnn: Any) -> None:
        self.cupy, self._cudnn = cupy, cudnn
        self._types = {dtype: getattr(cudnn.data_type, name) for dtype, name in TYPES.items()}
        self._lock = threading.RLock()
        self._handles: dict[int, Any] = {}
        self._plans: dict[tuple[Any, ...], Plan | None] = {}
        self._workspaces: dict[tuple[int, int], list[Any]] = {}  # of a device and a stream; graphs may use old ones
        self._said: set[str] = set()

    def plan(
        self, name: str, inputs: dict[str, Layout], outputs: list[Layout], barred: tuple[str, ...], **how: Any
    ) -> Plan | None:
        """For one operation, by an engine without the `barred` notes. None, with the reason logged, if there is none.

        UncapturedError if it would have to be made inside a capture.
        """
        device = self.cupy.cuda.get_device_id()
        key = (name, device, *inputs.values(), *outputs, barred, *how.values())
        with self._lock:
            if key not in self._plans:
                if self.cupy.cuda.get_current_stream().is_capturing():
                    shapes = ", ".join(str(x.shape) for x in inputs.values())
                    raise UncapturedError(f"cuDNN's {name} of {shapes} must run once before it is captured")
                try:
                    self._plans[key] = self._made(device, name, inputs, outputs, barred, how)
                except Exception as error:  # classes of the package's own are among them
                    self._plans[key] = None
                    self._say_once(f"{name} without cuDNN: {one_line(str(error))}")
            return self._plans[key]

    def _made(
        self, device: int, name: str, inputs: dict[str, Layout], outputs: list[Layout], barred: tuple[str, ...],
        how: dict[str, Any],
    ) -> Plan:  # fmt: skip
        cudnn, types, kind = self._cudnn, self._types, name.partition("_")[0]
        if sum(plan is not None and key[0].startswith(kind) for key, plan in self._plans.items()) >= PLANS[kind]:
            raise RuntimeError(f"there are {PLANS[kind]} plans already")
        graph = cudnn.pygraph(
            io_data_type=types[outputs[0].dtype],
            intermediate_data_type=cudnn.data_type.FLOAT,
            compute_data_type=cudnn.data_type.FLOAT,
            handle=self._handle(device),
        )
        tensors = {
            port: graph.tensor(name=port, dim=[*x.shape], stride=[*x.steps], data_type=types[x.dtype])
            for port, x in inputs.items()
        }
        results = getattr(graph, name)(**tensors, **how)
        results = results if isinstance(results, (list, tuple)) else [results]
        for y, x in zip(results, outputs, strict=True):
            y.set_output(True).set_dim([*x.shape]).set_stride([*x.steps]).set_data_type(types[x.dtype])
        graph.validate()
        graph.build_operation_graph()
        graph.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
        graph.deselect_engines([*PYTHON])
        graph.deselect_numeric_notes([getattr(cudnn.numerical_note, note) for note in barred])
        graph.deselect_workspace_greater_than(LIMIT)
        graph.check_support()
        graph.build_plans()
        return Plan(graph, (*tensors.values(), *results), graph.get_workspace_size())

    def run(self, plan: Plan, *arrays: Array) -> None:
        """On CuPy's current stream: inputs and outputs, in the plan's order."""
        cuda = self.cupy.cuda
        device, stream = cuda.get_device_id(), cuda.get_current_stream()
        pack = {tensor: x.data.ptr for tensor, x in zip(plan.tensors, arrays, strict=True)}
        with self._lock:
            handle, workspace = self._handle(device), self._workspace(device, stream, plan.size)
            self._cudnn.set_stream(handle=handle, stream=stream.ptr)
            try:
                plan.graph.execute(pack, workspace, handle=handle)
            except RuntimeError as error:
                raise DeviceError(f"cuDNN reports: {one_line(str(error))}") from error

    def _handle(self, device: int) -> Any:
        if device not in self._handles:
            self._handles[device] = self._cudnn.create_handle()
        return self._handles[device]

    def _workspace(self, device: int, stream: Any, size: int) -> int:
        """Its address, made at the first plan that needs so much. The stream, whose work takes turns, keeps it."""
        if not size:
            return 0
        key = device, stream.ptr
        if key not in self._workspaces:
            weakref.finalize(stream, self._workspaces.pop, key, None).atexit = False
        spaces = self._workspaces.setdefault(key, [])
        if not spaces or spaces[-1].mem.size < size:
            if stream.is_capturing():
                raise UncapturedError("the stream must have a workspace for cuDNN before it captures")
            spaces.append(self.cupy.get_default_memory_pool().malloc(size))
        address: int = spaces[-1].ptr
        return address

    def _say_once(self, message: str) -> None:
        if message not in self._said:
            self._said.add(message)
            log(message)
