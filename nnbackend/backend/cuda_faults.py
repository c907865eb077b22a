"""The known ways in which CuPy and CUDA fail: what they say, what that means, what mends it."""

from __future__ import annotations

import os
import platform
import re
import sys
from typing import NamedTuple

# Distributions that all fill the folder cupy/: CuPy's own list, without those that need an older Python.
WHEELS = (
    *("cupy", "cupy-cuda102", "cupy-cuda110", "cupy-cuda111", "cupy-cuda11x", "cupy-cuda12x", "cupy-cuda13x"),
    *("cupy-rocm-4-3", "cupy-rocm-5-0", "cupy-rocm-7-0", "cupy-rocm-7-1", "cupy-rocm-7-14", "amd-cupy"),
)

DRIVER = "install the NVIDIA driver (580 or newer for CUDA 13), or start the container with --gpus all"
DRIVER_IN_WSL = "install the NVIDIA driver in Windows and none in WSL, then wsl --shutdown"
SHOW_GPUS = "look with nvidia-smi -L, and unset CUDA_VISIBLE_DEVICES if it hides the GPU"
FREE_MEMORY = "close what holds the memory; nvidia-smi lists it"
RESTART = "restart the machine or container, then see that nvidia-smi works"
SPAWN = 'start processes with multiprocessing.get_context("spawn")'
OWN_CACHE = "set CUPY_CACHE_DIR to a folder of your own"


class Fault(NamedTuple):
    """What is searched for in an error and its causes, what it means, what mends it, and where people met it."""

    said: str
    reason: str
    fix: str
    seen: str


# The first that fits is taken.
KNOWN = (
    # CuPy's import
    Fault(
        "multiarray failed to import|dtype size changed|compiled using NumPy|module 'numpy' has no attribute",
        "this CuPy and this NumPy do not fit each other: {error}",
        "{install}",
        "numpy#26717, arch4edu#273",
    ),
    Fault(
        "ModuleNotFoundError: (?!No module named 'cupy)",
        "a package is missing: {error}",
        "{install}",
        "CuPy 14's metadata",
    ),
    Fault(
        r"libcuda\.so|nvcuda\.dll",
        "the NVIDIA driver's library libcuda was not found",
        "{driver}",
        "cupy#1790",
    ),
    Fault(
        "undefined symbol|not defined in file|procedure could not be found",
        "CUDA libraries of different versions are mixed: {error}",
        "unset LD_LIBRARY_PATH CUDA_PATH; {newer}",
        "pytorch#174320",
    ),
    Fault(
        "DynamicLibNotFound|Failure finding|failed to (load|open)|cannot open shared object|Could not find module"
        "|DLL load failed",
        "a CUDA library is missing: {error}",
        "{install}",
        "cupy#8227, cupy#8317, cupy#9127, cupy#9318, cutile-python#57",
    ),
    # the first kernel
    Fault(
        r"PermissionError.*(\.cubin|kernel_cache)",
        "CuPy cannot use its kernel cache: {error}",
        OWN_CACHE,
        "cupy#2296, accelerated-computing-hub#263",
    ),
    Fault(
        "No space left|[Qq]uota exceeded",
        "the disk with CuPy's kernel cache is full: {error}",
        f"make room, or {OWN_CACHE}",
        "httomo#243",
    ),
    Fault(
        "INVALID_IMAGE|kernel image is invalid",
        "a kernel in CuPy's cache is damaged",
        "rm -r ~/.cupy/kernel_cache  # or the folder that CUPY_CACHE_DIR names",
        "cupy/cuda/compiler.py",
    ),
    Fault(
        "(cannot|could not) open source file",
        "the CUDA headers are missing, so no kernel compiles",
        "{install}",
        "cupy#8466",
    ),
    Fault(
        "gpu-architecture|no kernel image|NO_BINARY_FOR_GPU|NoKernelImage|ARCH_MISMATCH",
        "the GPU is newer than the CUDA that CuPy uses",
        "{newer}",
        "cupy#9106, cupy#9121",
    ),
    Fault(
        "CompileException|NVRTC_ERROR_COMPILATION",
        "CUDA's compiler and headers are of different versions: {error}",
        "unset LD_LIBRARY_PATH CUDA_PATH; {newer}",
        "cupy#9719, cupy#8249",
    ),
    Fault(
        "UnsupportedPtx|UNSUPPORTED_PTX",
        "the NVIDIA driver is older than CUDA's compiler",
        "{driver}",
        "MONAI#3541",
    ),
    # the driver
    Fault(
        "InsufficientDriver",
        "the NVIDIA driver is too old for this CuPy",
        "{driver}",
        "cupy#9252",
    ),
    Fault(
        "StubLibrary|STUB_LIBRARY",
        "the toolkit's stub of libcuda is loaded in place of the NVIDIA driver",
        "take the folder that ends in stubs out of LD_LIBRARY_PATH",
        "NVIDIA/warp#219",
    ),
    Fault(
        "CompatNotSupported|COMPAT_NOT_SUPPORTED|forward compatibility",
        "CUDA's forward compatibility does not support this GPU",
        "restart the machine; if that does not help, update the NVIDIA driver or uninstall cuda-compat",
        "cusignal#398, nvidia-docker#1294",
    ),
    Fault(
        "DriverMismatch|DRIVER_MISMATCH",
        "the NVIDIA driver was updated, but the old one still runs",
        RESTART,
        "SceneWorks#1966",
    ),
    Fault(
        "SystemNotReady|SYSTEM_NOT_READY",
        "CUDA waits for NVIDIA's fabric manager",
        "sudo systemctl start nvidia-fabricmanager  # if it is missing, install the driver's version of it",
        "cupy#2845, jax#34113",
    ),
    # the GPU
    Fault(
        "NoDevice|NO_DEVICE|InvalidDevice|INVALID_DEVICE",
        "the NVIDIA driver sees no GPU",
        SHOW_GPUS,
        "WSL#9272",
    ),
    Fault(
        "DevicesUnavailable|DEVICE_UNAVAILABLE|busy or unavailable",
        "another process has the GPU for itself",
        "end that process, which nvidia-smi lists, or let them share: sudo nvidia-smi -c DEFAULT",
        "DIGITS#2005",
    ),
    Fault(
        "cudaErrorInitializationError",
        "CUDA does not start, as in a child forked after its start",
        SPAWN,
        "pytorch#15734",
    ),
    Fault(
        "OutOfMemory|MemoryAllocation|CUBLAS_STATUS_(ALLOC_FAILED|NOT_INITIALIZED)",
        "the GPU's memory is full",
        FREE_MEMORY,
        "cosmos-framework#145",
    ),
    Fault(
        "cudaErrorUnknown|CUDA_ERROR_UNKNOWN",
        "CUDA reports an unknown error, as after the machine slept",
        "sudo modprobe -r nvidia_uvm && sudo modprobe nvidia_uvm  # or restart the machine",
        "cupy#7774, pytorch#49081",
    ),
    # all the rest
    Fault("cudaError|CUDA_ERROR|CUBLAS_STATUS", "CUDA reports {error}", RESTART, ""),
    Fault("", "CuPy fails at the {check} check: {error}", "{repair}", "cupy#7021"),
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
    known = next(fault for fault in KNOWN if re.search(fault.said, " ".join(said)))
    return CudaProblem(
        known.reason.format(error=one_line(said[chain.index(plainest)]), check=check),
        known.fix.format(
            install=install_command(wheels, driver),
            repair=install_command(wheels, driver, repair=True),
            newer=install_command(wheels, driver, newer=True),
            driver=get_driver(),
        ),
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


def get_driver() -> str:
    """How to come by an NVIDIA driver here."""
    return DRIVER_IN_WSL if "microsoft" in platform.release().lower() else DRIVER


def install_command(wheels: list[str], driver: int = 0, *, repair: bool = False, newer: bool = False) -> str:
    """The command for the CuPy and the CUDA libraries that suit the driver.

    `repair` renews CuPy's own files, `newer` takes the newest of all. What conda installed, conda mends.
    """
    only_12 = "cupy-cuda12x" in wheels and "cupy-cuda13x" not in wheels
    version = 12 if only_12 or 0 < driver < 13000 else 13
    if "cupy" in wheels and os.path.isdir(os.path.join(sys.prefix, "conda-meta")):
        renew = "--force-reinstall " if repair else ""
        return f'conda install -c conda-forge {renew}"cupy>=14,<15" cuda-version={version}'
    wheel = f"cupy-cuda{version}x"
    others = " ".join(name for name in wheels if name != wheel)
    if repair and wheel in wheels:
        what = f'--force-reinstall --no-deps "{wheel}>=14,<15"'
    elif newer:
        what = f'-U --upgrade-strategy eager "{wheel}[ctk]>=14,<15"'
    else:
        what = f'"nnbackend[cuda{version}]"'
    return (f"pip uninstall -y {others} && " if others else "") + f"pip install {what}"
