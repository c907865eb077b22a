"""Whether CUDA can be used here; and if not, why not, and what mends it.

`cuda_status()` runs the table `CHECKS` from top to bottom and stops at the first failure. CuPy is imported by the
check of that name and nowhere earlier. Nothing raises, prints or warns: whatever goes wrong is kept as evidence.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import re
import sys
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal, NamedTuple, TypeAlias

from .cuda_faults import (
    FREE_MEMORY,
    OWN_CACHE,
    SHOW_GPUS,
    SPAWN,
    WHEELS,
    CudaProblem,
    get_driver,
    install_command,
    one_line,
    recognise,
)

Verdict: TypeAlias = Literal["ok", "failed", "skipped", "warning"]

# As pyproject.toml has it: CuPy's major version, and the first of array-api-compat.
CUPY = 14
ARRAY_API_COMPAT = (1, 13)
OLDEST_GPU = {12: (5, 0), 13: (7, 5)}  # compute capability that a CUDA still compiles for
DRIVER_VERSION = "/proc/driver/nvidia/version"  # on Linux
GIB = 2**30


class Check(NamedTuple):
    """One thing that was looked at, and what was seen."""

    name: str
    verdict: Verdict
    evidence: str


class Gpu(NamedTuple):
    """A GPU: its compute capability decides which CUDA compiles for it; `memory` is all it has, in bytes."""

    name: str
    capability: str
    memory: int

    def __str__(self) -> str:
        return f"{self.name}, compute capability {self.capability}, {self.memory / GIB:.1f} GiB"


class CudaStatus(NamedTuple):
    """The answer: `reason` is one sentence, `fix` one command or advice (or empty), `devices` counts `gpus`."""

    usable: bool
    reason: str
    fix: str
    checks: tuple[Check, ...]
    devices: int
    gpus: tuple[Gpu, ...] = ()


_lock = threading.Lock()
_started = False  # CUDA was started in this process
_forked = False  # or in one that this process was forked from


@functools.cache
def cuda_status() -> CudaStatus:
    """Whether CUDA works here, found out once per process. Tests start again with `cuda_status.cache_clear()`."""
    with _lock:
        return _diagnose()


def _after_fork() -> None:
    """In the child: the thread that may have held the lock is not here, and neither is CUDA."""
    global _lock, _forked
    _lock = threading.Lock()
    if _started:
        _forked = True
        cuda_status.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def importable(name: str) -> bool:
    """Whether a top-level package is there, without importing it."""
    return sys.modules.get(name) is not None or importlib.util.find_spec(name) is not None


class _Machine:
    """What the checks so far have found."""

    def __init__(self) -> None:
        self.wheels: list[str] = []
        self.cupy: Any = None
        self.driver, self.runtime = 0, 0
        self.gpus: list[Gpu] = []


# Each check returns its evidence, warns, or raises.


def _fork(machine: _Machine) -> str:
    if _forked:
        raise CudaProblem("CUDA was started before fork; use spawn", SPAWN)
    return "no CUDA in a parent process"


def _installed(machine: _Machine) -> str:
    if sys.platform == "darwin":
        raise CudaProblem("macOS has no CUDA", 'stay with device="cpu"')
    if not importable("cupy"):
        raise CudaProblem("CuPy is not installed", f"{install_command([])}  # or [cuda12] if the driver is below 580")
    return "a package is named cupy"


def _wheels(machine: _Machine) -> str:
    from importlib import metadata  # slow to load, and CuPy needs it anyway

    machine.wheels = [name for name in WHEELS if any(metadata.Distribution.discover(name=name))]
    if len(machine.wheels) > 1:
        fix = install_command(machine.wheels, repair=True)
        warnings.warn(f"these overwrite each other's files; keep one: {fix}", stacklevel=1)
    return ", ".join(machine.wheels) or "no wheel of CuPy"


def _cache(machine: _Machine) -> str:
    folder = os.environ.get("CUPY_CACHE_DIR", os.path.expanduser("~/.cupy/kernel_cache"))
    with suppress(OSError):
        os.makedirs(folder, exist_ok=True)
    if not os.access(folder, os.W_OK):  # then CuPy cannot be imported, or refuses to compile
        raise CudaProblem(f"CuPy cannot write its kernel cache {folder}", OWN_CACHE)
    return folder


def _import(machine: _Machine) -> str:
    machine.cupy = cupy = importlib.import_module("cupy")
    if not hasattr(cupy, "cuda"):
        place = cupy.__file__ or next(iter(cupy.__path__))
        fix = f"remove {place}, then {install_command(machine.wheels, repair=True)}"
        raise CudaProblem(f"{place} is imported as cupy, but it is not CuPy", fix)
    if getattr(cupy.cuda.runtime, "is_hip", False):
        raise CudaProblem("this CuPy is for AMD's GPUs, not for CUDA", install_command(machine.wheels))
    return f"CuPy {cupy.__version__}"


def _array_api(machine: _Machine) -> str:
    version = importlib.import_module("array_api_compat").__version__
    if tuple(map(int, version.split(".")[:2])) < ARRAY_API_COMPAT:
        needed = ".".join(map(str, ARRAY_API_COMPAT))
        fix = f'pip install -U "array-api-compat>={needed},<2"'
        raise CudaProblem(f"array-api-compat {version} is too old: {needed} is needed", fix)
    return f"array-api-compat {version}"


def _driver(machine: _Machine) -> str:
    machine.driver = machine.cupy.cuda.runtime.driverGetVersion()
    if machine.driver == 0:
        raise CudaProblem("no NVIDIA driver was found", get_driver(), "CUDA reports driver version 0")
    return f"{_own_number_of_the_driver()}for CUDA {_dotted(machine.driver)}"


def _own_number_of_the_driver() -> str:
    with suppress(OSError), open(DRIVER_VERSION) as file:
        if found := re.search(r"\d{3}\.[\d.]+", file.read()):
            return f"{found[0]}, "
    return ""


def _version(machine: _Machine) -> str:
    """Behind the driver, which says what to install instead."""
    version = machine.cupy.__version__
    major = int(version.partition(".")[0])
    if major < CUPY:
        fix = install_command(machine.wheels, machine.driver)
        raise CudaProblem(f"CuPy {version} is too old: {CUPY} is needed", fix)
    if major > CUPY:
        warnings.warn(f"nnbackend is made for {CUPY}", stacklevel=1)
    return f"CuPy {version}"


def _runtime(machine: _Machine) -> str:
    machine.runtime = machine.cupy.cuda.runtime.runtimeGetVersion()
    versions = f"driver for CUDA {_dotted(machine.driver)}, CuPy for CUDA {_dotted(machine.runtime)}"
    if machine.driver // 1000 < machine.runtime // 1000:
        fix = install_command(machine.wheels, machine.driver) if machine.driver >= 12000 else get_driver()
        raise CudaProblem(f"the NVIDIA driver is too old for this CuPy ({versions})", fix, versions)
    return versions


def _dotted(version: int) -> str:
    return f"{version // 1000}.{version % 1000 // 10}"


def _devices(machine: _Machine) -> str:
    global _started
    runtime = machine.cupy.cuda.runtime
    count = runtime.getDeviceCount()
    _started = True
    if count == 0:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "not set")
        raise CudaProblem("the NVIDIA driver sees no GPU", SHOW_GPUS, f"0 GPUs; CUDA_VISIBLE_DEVICES: {visible}")
    for index in range(count):
        found = runtime.getDeviceProperties(index)
        capability = f"{found['major']}.{found['minor']}"
        machine.gpus.append(Gpu(found["name"].decode(), capability, found["totalGlobalMem"]))
    return _not_too_old(machine)


def _not_too_old(machine: _Machine) -> str:
    gpu, cuda = machine.gpus[0], machine.runtime // 1000
    capability = tuple(map(int, gpu.capability.split(".")))
    if capability < OLDEST_GPU.get(cuda, (0, 0)):
        fix = install_command(machine.wheels, 12000) if capability >= OLDEST_GPU[12] else 'stay with device="cpu"'
        raise CudaProblem(f"{gpu.name} is too old for CUDA {cuda} (compute capability {gpu.capability})", fix)
    return "; ".join(f"cuda:{index} {gpu}" for index, gpu in enumerate(machine.gpus))


def _memory(machine: _Machine) -> str:
    free, total = machine.cupy.cuda.runtime.memGetInfo()
    if free < GIB // 2:
        warnings.warn(f"that is little; {FREE_MEMORY}", stacklevel=1)
    return f"{free / GIB:.1f} of {total / GIB:.1f} GiB free"


def _kernel(machine: _Machine) -> str:
    x = machine.cupy.asarray([1.0, 2.0], dtype="float32")
    return _same("x * 2", (x * 2).tolist(), [2.0, 4.0])


def _matmul(machine: _Machine) -> str:
    x = machine.cupy.asarray([[1.0, 2.0], [3.0, 4.0]], dtype="float32")
    return _same("x @ x", (x @ x).tolist(), [[7.0, 10.0], [15.0, 22.0]])


def _same(what: str, got: object, expected: object) -> str:
    if got != expected:
        raise ArithmeticError(f"{what} is {got}, expected {expected}")
    return f"{what} is {got}"


CHECKS: tuple[tuple[str, Callable[[_Machine], str]], ...] = (
    ("fork", _fork),
    ("installed", _installed),
    ("wheels", _wheels),
    ("cache", _cache),
    ("import", _import),
    ("array-api", _array_api),
    ("driver", _driver),
    ("version", _version),
    ("runtime", _runtime),
    ("devices", _devices),
    ("memory", _memory),
    ("kernel", _kernel),
    ("matmul", _matmul),
)


def _diagnose() -> CudaStatus:
    machine, checks, problem = _Machine(), list[Check](), None
    if os.environ.get("NNBACKEND_DEVICE") == "cpu":
        problem = CudaProblem("NNBACKEND_DEVICE=cpu is set", "unset NNBACKEND_DEVICE")
    for name, check in CHECKS:
        if problem:
            checks.append(Check(name, "skipped", "not reached"))
            continue
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            warnings.simplefilter("ignore", DeprecationWarning)
            try:
                evidence = check(machine)
            except Exception as error:
                problem = recognise(error, name, machine.wheels, machine.driver)
                evidence = problem.evidence
        verdict: Verdict = "failed" if problem else "warning" if caught else "ok"
        warned = (one_line(str(warning.message)) for warning in caught)
        checks.append(Check(name, verdict, "; ".join([evidence, *warned])))
    count = len(machine.gpus)
    if problem:
        return CudaStatus(False, problem.reason, problem.fix, tuple(checks), count, tuple(machine.gpus))
    reason = f"{machine.gpus[0].name}, {count} device{'s' * (count > 1)}"
    return CudaStatus(True, reason, "", tuple(checks), count, tuple(machine.gpus))
