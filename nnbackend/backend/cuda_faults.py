"""The known ways in which CuPy and CUDA fail: what they say, what that means, what mends it."""

from __future__ import annotations

import re

WHEELS = ("cupy", "cupy-cuda11x", "cupy-cuda12x", "cupy-cuda13x", "cupy-rocm-7-0", "amd-cupy")  # all fill cupy/

GET_DRIVER = "install the NVIDIA driver (580 or newer for CUDA 13), or start the container with --gpus all"
SHOW_GPUS = "look with nvidia-smi -L, and unset CUDA_VISIBLE_DEVICES if it hides the GPU"
FREE_MEMORY = "close what holds the memory; nvidia-smi lists it"
RESTART = "see that nvidia-smi works, then restart the machine or container"
SPAWN = 'start processes with multiprocessing.get_context("spawn")'

# Searched for in an error and its causes; the first that fits is taken.
KNOWN = (
    (r"(cannot|could not) open source file", "the CUDA headers are missing, so no kernel compiles", "{install}"),
    (r"libcuda\.so|nvcuda\.dll", "the NVIDIA driver's library libcuda was not found", GET_DRIVER),
    (
        r"DynamicLibNotFound|failed to load|cannot open shared object|Could not find module|DLL load failed",
        "a CUDA library is missing: {error}",
        "{install}",
    ),
    (r"InsufficientDriver|UnsupportedPtx|UNSUPPORTED_PTX", "the NVIDIA driver is too old for this CuPy", GET_DRIVER),
    (r"cudaErrorNoDevice", "the NVIDIA driver sees no GPU", SHOW_GPUS),
    (r"cudaErrorInitializationError", "CUDA does not start, as in a child forked after its start", SPAWN),
    (r"OutOfMemory|MemoryAllocation", "the GPU's memory is full", FREE_MEMORY),
    (r"cudaError|CUDA_ERROR|CUBLAS_STATUS", "CUDA reports {error}", RESTART),
    (r"", "CuPy fails at the {check} check: {error}", "{repair}"),
)


class CudaProblem(Exception):
    """What keeps CUDA from being used: the reason, what mends it, and what was seen."""

    def __init__(self, reason: str, fix: str, evidence: str = "") -> None:
        super().__init__(reason)
        self.reason, self.fix, self.evidence = reason, fix, evidence or reason


def recognise(error: Exception, check: str, wheels: list[str], driver: int) -> CudaProblem:
    """The problem that an error stands for."""
    if isinstance(error, CudaProblem):
        return error
    chain = _causes(error)
    plainest = next((link for link in chain if not link.__cause__), error)  # where a row of `raise ... from` began
    said = [f"{type(link).__name__}: {link}" for link in chain]
    reason, fix = next((reason, fix) for pattern, reason, fix in KNOWN if re.search(pattern, " ".join(said)))
    return CudaProblem(
        reason.format(error=one_line(said[chain.index(plainest)]), check=check),
        fix.format(install=install_command(wheels, driver), repair=install_command(wheels, driver, repair=True)),
        "; caused by ".join(map(one_line, said)),
    )


def _causes(error: BaseException) -> list[BaseException]:
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link and link not in chain:
        chain.append(link)
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return chain


def one_line(text: str) -> str:
    """Text without line breaks and rulers, cut in the middle when long."""
    text = " ".join(re.sub(r"[=-]{4,}", " ", text).split())
    return text if len(text) <= 300 else f"{text[:150]} ... {text[-150:]}"


def install_command(wheels: list[str], driver: int = 0, *, repair: bool = False) -> str:
    """The command for the CuPy and the CUDA libraries that suit the driver; `repair` renews CuPy's own files."""
    only_12 = "cupy-cuda12x" in wheels and "cupy-cuda13x" not in wheels
    version = 12 if only_12 or 0 < driver < 13000 else 13
    wheel = f"cupy-cuda{version}x"
    others = " ".join(name for name in wheels if name != wheel)
    renew = repair and wheel in wheels
    what = f"--force-reinstall --no-deps {wheel}" if renew else f'"nnbackend[cuda{version}]"'
    return (f"pip uninstall -y {others} && " if others else "") + f"pip install {what}"
