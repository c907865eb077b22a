"""`RawModule` and `RawKernel`: CUDA text compiled by g++ against `shim.hpp`, kept in a folder for temporary files."""

import ctypes
import functools
import hashlib
import os
import re
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any

import numpy as np

from ._array import check_device, ndarray
from .cuda.memory import MemoryPointer

SHIM = Path(__file__).parent.parent / "shim.hpp"
_KERNEL = re.compile(r"extern\s+\"C\"\s+__global__\s+(?:__\w+__\([^)]*\)\s+)?void\s+(\w+)\s*\(")
_GXX = ("g++", "-std=c++20", "-w", "-x", "c++", "-")
_TYPES = {bool: np.dtype(bool), int: np.dtype(np.int64), float: np.dtype(np.float64), complex: np.dtype(np.complex128)}
_one_at_a_time = threading.Lock()  # threadIdx and its like are global


class CompileException(Exception):
    """The text is not C++."""


def _gxx(text: str, *options: str) -> str:
    done = subprocess.run([*_GXX, *options], input=text, text=True, capture_output=True)
    if done.returncode:
        raise CompileException(done.stderr)
    return done.stdout


@functools.cache
def _compiled(code: str, names: tuple[str, ...] = ()) -> tuple[ctypes.CDLL, list[str]]:
    """The library, and the kernels in it: those named `extern "C"`, or the given expressions."""
    shim = SHIM.read_text()
    key = hashlib.sha256("\0".join((code, *names, shim, *_GXX, Path(__file__).read_text())).encode()).hexdigest()[:24]
    folder = Path(tempfile.gettempdir(), f"nnbackend-standin-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"{key}.so"
    if not path.exists():
        found = names or tuple(_KERNEL.findall(_gxx(code, "-E", "-P")))
        launchers = "".join(
            f'extern "C" void standin_launch_{i}(const unsigned* dims, void** given) '
            f"{{ standin::launch(&{name}, dims, given); }}\n"
            f'extern "C" int standin_sizes_{i}(int* into) {{ return standin::sizes(&{name}, into); }}\n'
            for i, name in enumerate(found)
        )
        listed = f'extern "C" const char* standin_names() {{ return "{"|".join(found)}"; }}\n'
        text = f'{shim}\n#line 1 "kernel.cu"\n{code}\n{launchers}{listed}'
        partial = path.with_suffix(f".{os.getpid()}")
        _gxx(text, "-O2", "-ffp-contract=off", "-fno-strict-aliasing", "-shared", "-fPIC", "-o", str(partial))
        partial.replace(path)
    library = ctypes.CDLL(str(path))
    library.standin_names.restype = ctypes.c_char_p
    return library, library.standin_names().decode().split("|")


class RawKernel:
    """One kernel. Arguments are arrays, whose address is passed, and numbers, which must have the parameter's size."""

    def __init__(
        self, code: str, name: str, options: tuple[str, ...] = (), backend: str = "nvrtc", **others: Any
    ) -> None:
        self._module, self.name = RawModule(code=code, options=options, name_expressions=None), name

    @classmethod
    def _of(cls, module: "RawModule", name: str) -> "RawKernel":
        kernel = object.__new__(cls)
        kernel._module, kernel.name = module, name
        return kernel

    @property
    def kernel(self) -> "RawKernel":
        return self

    @functools.cached_property
    def _calls(self) -> tuple[Any, list[int]]:
        library, names = _compiled(self._module.code, self._module._names)
        i = names.index(self.name)
        sizes = (ctypes.c_int * 256)()
        count = library[f"standin_sizes_{i}"](sizes)
        return library[f"standin_launch_{i}"], list(sizes[:count])

    def compile(self, log_stream: Any = None) -> None:
        """Now."""
        _ = self._calls

    def __call__(self, grid: Any, block: Any, args: Any, *, shared_mem: int = 0, **others: Any) -> None:
        launch, sizes = self._calls
        dims = [*map(int, grid), 1, 1][:3] + [*map(int, block), 1, 1][:3]
        if min(dims) < 1 or int(np.prod(dims[3:])) > 1024 or max(dims[1:3]) > 65535:
            raise RuntimeError("CUDA_ERROR_INVALID_VALUE: invalid argument")
        if len(args) != len(sizes):
            raise ValueError(f"{self.name} takes {len(sizes)} arguments, got {len(args)}")
        values = [_value(arg) for arg in args]
        for i, (value, size) in enumerate(zip(values, sizes, strict=True)):
            if value.nbytes != size:
                raise TypeError(f"{self.name}: argument {i} takes {size} bytes, got {value.nbytes} ({value.dtype})")
        pointers = (ctypes.c_void_p * max(len(values), 1))(*(value.ctypes.data for value in values))
        with _one_at_a_time:
            launch((ctypes.c_uint * 6)(*dims), pointers)


def _value(arg: Any) -> Any:
    """The bytes that CUDA gets. Python's numbers go as int64 and float64."""
    if isinstance(arg, ndarray):
        check_device(arg)
        return np.array(arg.data.ptr, np.uint64)
    if isinstance(arg, MemoryPointer):
        return np.array(arg.ptr, np.uint64)
    if isinstance(arg, np.generic):
        return np.array(arg)
    if type(arg) in _TYPES:
        return np.array(arg, _TYPES[type(arg)])
    raise TypeError(f"Unsupported type {type(arg)}")


class RawModule:
    """A file of kernels, compiled when the first is called for."""

    def __init__(
        self, code: Any = None, *, path: Any = None, options: tuple[str, ...] = (), backend: str = "nvrtc",
        translate_cucomplex: bool = False, enable_cooperative_groups: bool = False, name_expressions: Any = None,
        jitify: Any = None,
    ) -> None:  # fmt: skip
        if (code is None) == (path is None):
            raise TypeError("Exactly one of `code` and `path` keyword arguments must be given.")
        if not isinstance(options, tuple):
            raise TypeError(f"Argument 'options' has incorrect type (expected tuple, got {type(options).__name__})")
        self.code, self.options = code, options
        self._names = tuple(name_expressions or ())

    def compile(self, log_stream: Any = None) -> None:
        """Now."""
        _compiled(self.code, self._names)

    def get_function(self, name: str) -> RawKernel:
        """By its name, or by the expression that was announced."""
        if name not in _compiled(self.code, self._names)[1]:
            raise RuntimeError("CUDA_ERROR_NOT_FOUND: named symbol not found")
        return RawKernel._of(self, name)
