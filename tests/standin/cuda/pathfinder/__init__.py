"""CuPy's finder of NVIDIA's libraries. It finds one: `cublaslt.cpp`, compiled by g++ and kept as kernels are."""

import ctypes
import functools
import hashlib
import os
import subprocess
import tempfile
import weakref
from pathlib import Path
from typing import Any, NamedTuple

from cupy.cuda._capture import active

SOURCE = Path(__file__).parents[2] / "cublaslt.cpp"
_GXX = ("g++", "-std=c++20", "-O3", "-ffp-contract=off", "-shared", "-fPIC", "-x", "c++", "-")


class DynamicLibNotFoundError(RuntimeError):
    """What CuPy's finder raises."""


class LoadedDL(NamedTuple):
    """Where a library is."""

    abs_path: str | None


def load_nvidia_dynamic_lib(libname: str) -> LoadedDL:
    """By its short name."""
    if libname != "cublasLt":
        raise DynamicLibNotFoundError(f'Failure finding "{libname}"')
    return LoadedDL(_loaded()[0])


@functools.cache
def _loaded() -> tuple[str, Any, Any]:
    source = SOURCE.read_text()
    key = hashlib.sha256("\0".join((source, *_GXX)).encode()).hexdigest()[:24]
    folder = Path(tempfile.gettempdir(), f"nnbackend-standin-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"{key}.so"
    if not path.exists():
        partial = path.with_suffix(f".{os.getpid()}")
        subprocess.run([*_GXX, "-o", str(partial)], input=source, text=True, check=True)
        partial.replace(path)
    library = ctypes.CDLL(str(path))
    kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
    hook = kind(functools.partial(_taken, library))
    ctypes.c_void_p.in_dll(library, "standin_hook").value = ctypes.cast(hook, ctypes.c_void_p).value
    return str(path), library, hook


def _taken(library: Any, job: int, stream: int | None) -> int:
    """Whether a product waits for the launch of a graph, as it does while its stream captures."""
    capture = active.get(stream or 0)
    if capture is None:
        return 0
    kept = ctypes.c_void_p(job)
    run = functools.partial(library.standin_run, kept)
    weakref.finalize(run, library.standin_free, kept)
    capture.record(run, (), {}, run=False)
    return 1
