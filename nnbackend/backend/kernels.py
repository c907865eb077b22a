"""CUDA kernels: `.cu` files in `cuda/`, compiled by CuPy for each device when first used.

A new kernel takes four steps: write an `extern "C" __global__` function in a file there, in which one thread makes one
part of the result; make room for the result; `launch` it; and enter that in a table of overrides. CuPy passes on a
Python number as int64 or float64, so give others as NumPy scalars. Sizes are int64.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import import_module
from typing import Any

BLOCK = 256  # threads that start together


def source(name: str) -> str:
    """The text of a file in `cuda/`, with the files it includes from there pasted in, each once."""
    from importlib import resources  # here, because it loads much that is not needed without a GPU

    pasted: set[str] = set()

    def text(name: str) -> str:
        if name in pasted:
            return ""
        pasted.add(name)
        raw = resources.files(__package__).joinpath("cuda", name).read_text("utf-8")
        return re.sub(r'^#include "(.+)"\n', lambda found: text(found[1]), raw, flags=re.MULTILINE)

    return text(name)


@cache
def module(name: str, *options: str) -> Any:
    """A file of kernels as a `cupy.RawModule`."""
    return import_module("cupy").RawModule(code=source(name), options=("-std=c++17", *options))


@cache
def function(name: str, kernel: str, *options: str) -> Any:
    """A kernel of the file `name`. Where the bits matter, give the option `--fmad=false`: NVRTC fuses a * b + c."""
    return module(name, *options).get_function(kernel)


def launch(name: str, kernel: str, threads: int, *arguments: Any) -> None:
    """Run a kernel of the file `name` with at least so many threads, on CuPy's current device and stream."""
    if threads:
        start(name, kernel, (-(-threads // BLOCK),), BLOCK, *arguments)


def start(name: str, kernel: str, blocks: tuple[int, ...], threads: int, *arguments: Any, shared: int = 0) -> None:
    """Run a kernel of the file `name` as so many blocks of so many threads, with `shared` bytes in common for each."""
    function(name, kernel)(blocks, (threads,), arguments, shared_mem=shared)
