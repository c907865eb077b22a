"""NVRTC, which compiles CUDA without a GPU."""

import ctypes
import ctypes.util
import functools
import glob
import sys
from typing import Any

import pytest


@functools.cache
def nvrtc() -> Any:
    """The compiler, from a wheel or a toolkit; None if there is none."""
    places = [*(f"{folder}/nvidia/*/lib" for folder in sys.path), "/usr/local/cuda*/lib64"]
    found = [path for place in places for path in glob.glob(f"{place}/libnvrtc.so.[0-9]*") if "alt" not in path]
    path = next(filter(None, [*found, ctypes.util.find_library("nvrtc")]), None)
    return path and ctypes.CDLL(path)


def compiled(text: str, architecture: str) -> str:
    """What the compiler says of a file of kernels, with registers and spills, under the options that CuPy gives it."""
    compiler, program, size = nvrtc(), ctypes.c_void_p(), ctypes.c_size_t()
    if compiler is None:
        pytest.skip("no NVRTC")
    assert compiler.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"", 0, None, None) == 0
    options = [b"-std=c++17", b"-ftz=true", b"--device-as-default-execution-space"]
    options += [b"-arch=" + architecture.encode(), b"--ptxas-options=-v"]
    failed = compiler.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
    compiler.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    compiler.nvrtcGetProgramLog(program, log)
    compiler.nvrtcDestroyProgram(ctypes.byref(program))
    assert not failed, log.value.decode()
    return log.value.decode()
