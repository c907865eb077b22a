"""cuBLASLt by ctypes: the few functions, numbers and structures of `cublasLt.h` that are used here.

They are the same in CUDA 12 and 13. Names are the header's without what they all begin with, such as `CUBLASLT_`.
"""

from __future__ import annotations

import ctypes
import threading
from ctypes import POINTER, byref, c_char_p, c_float, c_int, c_int64, c_size_t, c_uint32, c_uint64, c_void_p
from enum import IntEnum
from functools import cache
from importlib import import_module
from typing import Any

from .cuda_faults import one_line

NAMES = ("libcublasLt.so.13", "libcublasLt.so.12", "cublasLt64_13.dll", "cublasLt64_12.dll")


class DataType(IntEnum):
    """Of the elements: `CUDA_`, in `library_types.h`."""

    R_32F = 0
    R_64F = 1
    R_16F = 2
    R_16BF = 14


class Compute(IntEnum):
    """How products are made and summed: `CUBLAS_COMPUTE_`, in `cublas_api.h`."""

    COMPUTE_32F = 68
    COMPUTE_64F = 70
    COMPUTE_32F_FAST_TF32 = 77


class Desc(IntEnum):
    """What a product has: `CUBLASLT_MATMUL_DESC_`."""

    POINTER_MODE = 2
    TRANSA = 3
    TRANSB = 4
    EPILOGUE = 7
    BIAS_POINTER = 8


class Epilogue(IntEnum):
    """What is done to the result before it is stored: `CUBLASLT_EPILOGUE_`."""

    DEFAULT = 1
    BIAS = 4


class Layout(IntEnum):
    """What a stack of matrices has beside its sizes: `CUBLASLT_MATRIX_LAYOUT_`."""

    BATCH_COUNT = 5
    STRIDED_BATCH_OFFSET = 6


class Preference(IntEnum):
    """What an algorithm may use and count on: `CUBLASLT_MATMUL_PREF_`."""

    MAX_WORKSPACE_BYTES = 1
    REDUCTION_SCHEME_MASK = 3
    MIN_ALIGNMENT_A_BYTES = 5
    MIN_ALIGNMENT_B_BYTES = 6
    MIN_ALIGNMENT_C_BYTES = 7
    MIN_ALIGNMENT_D_BYTES = 8


POINTER_MODE_DEVICE = 1  # alpha and beta are in the device's memory
REDUCTION_SCHEME_COMPUTE_TYPE = 2  # parts of a sum are kept as precisely as they are summed

KINDS: dict[str, Any] = {  # of the attributes
    "POINTER_MODE": c_int,
    "TRANSA": c_int,
    "TRANSB": c_int,
    "EPILOGUE": c_uint32,
    "BIAS_POINTER": c_void_p,
    "BATCH_COUNT": c_int,
    "STRIDED_BATCH_OFFSET": c_int64,
    "MAX_WORKSPACE_BYTES": c_uint64,
    "REDUCTION_SCHEME_MASK": c_uint32,
    "MIN_ALIGNMENT_A_BYTES": c_uint32,
    "MIN_ALIGNMENT_B_BYTES": c_uint32,
    "MIN_ALIGNMENT_C_BYTES": c_uint32,
    "MIN_ALIGNMENT_D_BYTES": c_uint32,
}


class Algorithm(ctypes.Structure):
    """`cublasLtMatmulAlgo_t`: 64 bytes of the library's own."""

    _fields_ = (("data", c_uint64 * 8),)


class Found(ctypes.Structure):
    """`cublasLtMatmulHeuristicResult_t`."""

    _fields_ = (
        ("algorithm", Algorithm),
        ("workspace", c_size_t),
        ("state", c_int),
        ("waves", c_float),
        ("reserved", c_int * 4),
    )


_CREATE: tuple[Any, ...] = (POINTER(c_void_p),)
_SET = (c_void_p, c_int, c_void_p, c_size_t)
_PROBLEM = (c_void_p,) * 6  # handle, descriptor, layouts of A, B, C, D
FUNCTIONS: dict[str, tuple[Any, ...]] = {  # and what they take
    "cublasLtCreate": _CREATE,
    "cublasLtMatmulDescCreate": (*_CREATE, c_int, c_int),
    "cublasLtMatmulDescSetAttribute": _SET,
    "cublasLtMatmulDescDestroy": (c_void_p,),
    "cublasLtMatrixLayoutCreate": (*_CREATE, c_int, c_uint64, c_uint64, c_int64),
    "cublasLtMatrixLayoutSetAttribute": _SET,
    "cublasLtMatrixLayoutDestroy": (c_void_p,),
    "cublasLtMatmulPreferenceCreate": _CREATE,
    "cublasLtMatmulPreferenceSetAttribute": _SET,
    "cublasLtMatmulPreferenceDestroy": (c_void_p,),
    "cublasLtMatmulAlgoGetHeuristic": (*_PROBLEM, c_void_p, c_int, POINTER(Found), POINTER(c_int)),
    "cublasLtMatmulAlgoCheck": (*_PROBLEM, POINTER(Algorithm), POINTER(Found)),
    # handle, descriptor, alpha, A, its layout, B, its layout, beta, C, its layout, D, its layout, algorithm,
    # workspace, its size, stream
    "cublasLtMatmul": (*(c_void_p,) * 14, c_size_t, c_void_p),
}


class CublasLtError(RuntimeError):
    """cuBLASLt is not there, or refuses."""


class Library:
    """The library, loaded. Its functions may be called by many threads at a time."""

    def __init__(self) -> None:
        self.path, lib = _load()
        self.functions: dict[str, Any] = {}
        try:
            for name, takes in FUNCTIONS.items():
                self.functions[name] = function = getattr(lib, name)
                function.argtypes, function.restype = takes, c_int
            self._name = lib.cublasLtGetStatusName
        except AttributeError as error:
            raise CublasLtError(f"{self.path} is no cuBLASLt: {error}") from error
        self._name.argtypes, self._name.restype = (c_int,), c_char_p
        self.matmul = self.functions["cublasLtMatmul"]
        self._handles: dict[int, int] = {}
        self._lock = threading.Lock()

    def status(self, status: int) -> str:
        """Its name, such as CUBLAS_STATUS_NOT_SUPPORTED."""
        return bytes(self._name(status) or b"an unknown status").decode()

    def call(self, name: str, *arguments: Any) -> None:
        """CublasLtError if the function answers anything but success."""
        if status := self.functions[name](*arguments):
            raise CublasLtError(f"{name} answers {self.status(status)}")

    def handle(self, device: int) -> int:
        """Of the current device, whose number is given: made once, and kept."""
        with self._lock:
            if device not in self._handles:
                made = c_void_p()
                self.call("cublasLtCreate", byref(made))
                self._handles[device] = made.value or 0
            return self._handles[device]


class Descriptor:
    """A description of `kind` ("MatmulDesc", "MatrixLayout", "MatmulPreference"), destroyed with this object."""

    def __init__(self, library: Library, kind: str, *arguments: int) -> None:
        self._library, self._kind, self.address = library, f"cublasLt{kind}", 0
        made = c_void_p()
        library.call(f"{self._kind}Create", byref(made), *arguments)
        self.address = made.value or 0

    def __del__(self) -> None:
        if self.address:
            self._library.functions[f"{self._kind}Destroy"](self.address)

    def set(self, attribute: IntEnum, value: int) -> None:
        """CublasLtError if the library knows no such attribute."""
        given = KINDS[attribute.name](value)
        self._library.call(f"{self._kind}SetAttribute", self.address, attribute, byref(given), ctypes.sizeof(given))


@cache
def library() -> Library:
    """CuBLASLt. CublasLtError if it cannot be loaded."""
    return Library()


def _load() -> tuple[str, Any]:
    """Where CuPy's own finder says, else by name."""
    reasons = []
    for find in (_found, *(lambda name=name: name for name in NAMES)):
        try:
            return (path := find()), ctypes.CDLL(path)
        except (ImportError, OSError, RuntimeError) as error:
            reasons.append(one_line(str(error)))
    raise CublasLtError(f"cuBLASLt cannot be loaded: {'; '.join(reasons)}")


def _found() -> str:
    path = import_module("cuda.pathfinder").load_nvidia_dynamic_lib("cublasLt").abs_path
    return path or NAMES[0]
