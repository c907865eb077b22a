"""`RawModule` and `RawKernel`: CUDA text compiled by g++ against `shim.hpp` and `fibers.hpp`.

The threads of a block run in ascending order from one barrier to the next, with `ORDER = "descending"` the other way
round, and so do the blocks: a kernel without races makes the same in both.
"""

import contextlib
import ctypes
import functools
import hashlib
import os
import re
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ._array import check_device, ndarray
from .cuda._capture import launched
from .cuda.memory import MemoryPointer

ORDER = "ascending"
SHIM = [Path(__file__).parent.parent / name for name in ("shim.hpp", "fibers.hpp")]
SHARED, MOST_SHARED = 48 << 10, 227 << 10  # bytes a block may have as it is, and with the kernel's attribute set
_KERNEL = re.compile(r"extern\s+\"C\"\s+__global__\s+(?:__\w+__\([^)]*\)\s+)?void\s+(\w+)\s*\(")
_MACRO = re.compile(r"#define(?:[^\n]*\\\n)*[^\n]*__global__")  # which makes kernels
_GXX = ("g++", "-std=c++20", "-w", "-x", "c++", "-")
_OPTIONS = (
    *("-O1", "-ffp-contract=off", "-fno-strict-aliasing", "-fno-gnu-unique", "-fno-threadsafe-statics"),
    *("-shared", "-fPIC", "-nostdlib"),  # to look through all libraries takes as long as the rest
)
_TYPES = {bool: np.dtype(bool), int: np.dtype(np.int64), float: np.dtype(np.float64), complex: np.dtype(np.complex128)}
_one_at_a_time = threading.Lock()  # threadIdx and its like are global


class CompileException(Exception):
    """The text is not C++."""


class KernelError(RuntimeError):
    """What a GPU does not say: threads wait for some that never come, write behind shared memory, or misalign."""


@contextlib.contextmanager
def order(name: str) -> Iterator[None]:
    """Threads and blocks run in this order: "ascending" or "descending"."""
    global ORDER
    if name not in ("ascending", "descending"):
        raise ValueError(f"order: expected ascending or descending, got {name!r}")
    before, ORDER = ORDER, name
    try:
        yield
    finally:
        ORDER = before


_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_ALIGNED = r"(?:(?:__align__|alignas)\s*\(\s*\d+\s*\)\s*)?"
_DYNAMIC = re.compile(rf"extern\s+(?:__shared__\s+{_ALIGNED}|{_ALIGNED}__shared__\s+)([^;]*?)(\w+)\s*\[\s*\]\s*;")
_SHARED = re.compile(r"__shared__\s+([^;]+);")


def _shared_memory(code: str) -> str:
    """The text with shared memory as the shim has it: static, and told of where it is declared."""

    def told(found: re.Match[str]) -> str:
        names = re.findall(r"(\w+)\s*(?:\[[^\]]*\]\s*)*(?=,|$)", re.sub(r"<[^<>]*>", "", found[1].strip()))
        return " ".join([f"static {found[1]};", *(f"standin::shared(&{name}, sizeof({name}));" for name in names)])

    code = _COMMENT.sub(lambda found: "\n" * found[0].count("\n"), code)
    return _SHARED.sub(told, _DYNAMIC.sub(r"\1* \2 = (\1*)standin::dynamic;", code))


def _gxx(text: str, *options: str) -> str:
    done = subprocess.run([*_GXX, *options], input=text, text=True, capture_output=True)
    if done.returncode:
        raise CompileException(done.stderr)
    return done.stdout


def built(key: str, text: Callable[[], str], *options: str) -> ctypes.CDLL:
    """The library of a C++ text, kept under the hash of `key`, of which the text is made."""
    name = hashlib.sha256("\0".join((key, *_GXX, *_OPTIONS, Path(__file__).read_text())).encode()).hexdigest()[:24]
    folder = Path(tempfile.gettempdir(), f"nnbackend-standin-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"{name}.so"
    if not path.exists():
        partial = path.with_suffix(f".{os.getpid()}")
        _gxx(text(), *_OPTIONS, *options, "-o", str(partial), "-lm", "-lc", "-lgcc")
        partial.replace(path)
    return ctypes.CDLL(str(path))


@functools.cache
def _compiled(code: str, names: tuple[str, ...] = ()) -> tuple[ctypes.CDLL, list[str]]:
    """The library, and the kernels in it: those named `extern "C"`, or the given expressions."""
    shim = "".join(path.read_text() for path in SHIM)

    def text() -> str:
        found = names or tuple(_KERNEL.findall(_gxx(code, "-E", "-P") if _MACRO.search(code) else code))
        launchers = "".join(
            f'extern "C" const char* standin_launch_{i}(const unsigned* dims, void** given) '
            f"{{ return standin::launch(&{name}, dims, given); }}\n"
            f'extern "C" int standin_sizes_{i}(int* into) {{ return standin::sizes(&{name}, into); }}\n'
            for i, name in enumerate(found)
        )
        listed = f'extern "C" const char* standin_names() {{ return "{"|".join(found)}"; }}\n'
        return f'{shim}\n#line 1 "kernel.cu"\n{_shared_memory(code)}\n{launchers}{listed}'

    library = built("\0".join((code, *names, shim)), text, "-fsanitize=alignment")
    library.standin_names.restype = ctypes.c_char_p
    return library, library.standin_names().decode().split("|")


class RawKernel:
    """One kernel. Arguments are arrays, whose address is passed, and numbers.

    CUDA takes the bytes of these as they are, so they must be of the parameter's size, and floats where it is one.
    """

    _most_shared = SHARED

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
        launch = library[f"standin_launch_{i}"]
        launch.restype = ctypes.c_char_p
        return launch, list(sizes[:count])

    def compile(self, log_stream: Any = None) -> None:
        """Now."""
        _ = self._calls

    max_dynamic_shared_size_bytes = property(lambda self: self._most_shared)

    @max_dynamic_shared_size_bytes.setter
    def max_dynamic_shared_size_bytes(self, size: int) -> None:
        if not 0 <= size <= MOST_SHARED:
            raise RuntimeError("CUDA_ERROR_INVALID_VALUE: invalid argument")
        self._most_shared = size

    def __call__(self, grid: tuple[int, ...], block: tuple[int, ...], args: Any, *, shared_mem: int = 0) -> None:
        _, sizes = self._calls
        for name, value in (("grid", grid), ("block", block)):
            if not isinstance(value, tuple):
                raise TypeError(f"Argument '{name}' has incorrect type (expected tuple, got {type(value).__name__})")
        dims = [*map(int, grid), 1, 1][:3] + [*map(int, block), 1, 1][:3]
        if min(dims) < 1 or int(np.prod(dims[3:])) > 1024 or max(dims[1:3]) > 65535 or shared_mem > self._most_shared:
            raise RuntimeError("CUDA_ERROR_INVALID_VALUE: invalid argument")
        if len(args) != len(sizes):
            raise ValueError(f"{self.name} takes {len(sizes)} arguments, got {len(args)}")
        values = [_value(arg) for arg in args]
        for i, (value, size) in enumerate(zip(values, sizes, strict=True)):
            if value.nbytes != abs(size) or (value.dtype.kind == "f") != (size < 0):
                wanted = f"a float of {-size} bytes" if size < 0 else f"{size} bytes"
                raise TypeError(f"{self.name}: argument {i} takes {wanted}, got {value.nbytes} ({value.dtype})")
        pointers = (ctypes.c_void_p * max(len(values), 1))(*(value.ctypes.data for value in values))
        self._launch((ctypes.c_uint * 8)(*dims, shared_mem), pointers, values, args)

    @functools.partial(launched, run=False)
    def _launch(self, dims: Any, pointers: Any, *kept: Any) -> None:
        dims[7] = ORDER == "descending"
        with _one_at_a_time:
            failed = self._calls[0](dims, pointers)
        if failed:
            raise KernelError(f"{self.name}: {failed.decode()}")


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
        self, *, code: Any = None, path: Any = None, options: tuple[str, ...] = (), backend: str = "nvrtc",
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
