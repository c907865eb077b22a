"""Detection of CUDA against fake CuPy packages that fail in every way we know of, and one that works."""

import json
import os
import subprocess
import sys
from importlib import util
from pathlib import Path

import pytest

from nnbackend.backend import detect
from nnbackend.backend.cuda_faults import install_command
from nnbackend.backend.detect import CHECKS, cuda_status

# A CuPy in miniature. Faults are text appended to it, or put in its place if the import is to fail.
WORKING = """
import numpy
__version__ = "14.0.0"

class runtime:
    driverGetVersion = staticmethod(lambda: 13000)
    runtimeGetVersion = staticmethod(lambda: 13020)
    getDeviceCount = staticmethod(lambda: 2)
    getDeviceProperties = staticmethod(lambda index: {"name": b"NVIDIA Fake 9000"})
    memGetInfo = staticmethod(lambda: (70 * 2**30, 80 * 2**30))

class cuda:
    runtime = runtime

class array(numpy.ndarray):
    pass

def asarray(x, dtype):
    return numpy.asarray(x, dtype).view(array)

class DynamicLibNotFoundError(RuntimeError):
    pass

def fails(text, kind=RuntimeError, cause=None):
    def call(*args):
        raise kind(text) from cause
    return call
"""
GET_DRIVER = "install the NVIDIA driver"
CUDA12, REPAIR = 'pip install "nnbackend[cuda12]"', "pip install --force-reinstall --no-deps cupy-cuda12x"
COUNT, MEMORY, KERNEL, MATMUL = "runtime.getDeviceCount", "runtime.memGetInfo", "array.__mul__", "array.__matmul__"
LIBCUDA = "raise ImportError('=====\\nFailed to import CuPy.\\n=====') from ImportError('libcuda.so.1: cannot open')"

# fault, the check that fails, words of the reason, words of the fix
FAULTS = [
    ("raise ImportError('no _core')", "import", "import check: ImportError: no _core", REPAIR),
    ("raise RuntimeError('bad wheel')", "import", "import check: RuntimeError: bad wheel", REPAIR),
    ("raise OSError('libfoo.so: cannot open shared object')", "import", "missing: OSError: libfoo.so", CUDA12),
    (LIBCUDA, "import", "libcuda was not found", GET_DRIVER),
    ("x = 1", "import", "it is not CuPy", f"then {REPAIR}"),
    ("runtime.driverGetVersion = lambda: 0", "driver", "no NVIDIA driver was found", GET_DRIVER),
    ("runtime.driverGetVersion = lambda: 12040", "runtime", "driver for CUDA 12.4, CuPy for CUDA 13.2", CUDA12),
    ("runtime.driverGetVersion = lambda: 11040", "runtime", "driver for CUDA 11.4", GET_DRIVER),
    (f"{COUNT} = lambda: 0", "devices", "sees no GPU", "CUDA_VISIBLE_DEVICES"),
    (f"{COUNT} = fails('cudaErrorNoDevice: no device')", "devices", "sees no GPU", "CUDA_VISIBLE_DEVICES"),
    (f"{COUNT} = fails('cudaErrorInsufficientDriver: x')", "devices", "driver is too old", GET_DRIVER),
    (f"{COUNT} = fails('cudaErrorInitializationError: x')", "devices", "child forked after its start", "spawn"),
    (f"{COUNT} = fails('odd')", "devices", "CuPy fails at the devices check: RuntimeError: odd", REPAIR),
    (f"{MEMORY} = fails('cudaErrorMemoryAllocation: out of memory')", "memory", "memory is full", "nvidia-smi"),
    (f"{KERNEL} = fails('cannot open source file \"vector_types.h\"')", "kernel", "headers are missing", CUDA12),
    (f"{KERNEL} = fails('libnvrtc', DynamicLibNotFoundError)", "kernel", "missing: DynamicLib", CUDA12),
    (f"{KERNEL} = lambda x, y: x", "kernel", "x * 2 is [1.0, 2.0], expected [2.0, 4.0]", REPAIR),
    (f"e = OSError('odd'); {KERNEL} = fails('x', lambda x: e, e)", "kernel", "OSError: odd", REPAIR),  # its own cause
    (f"{MATMUL} = fails('libcublas.so.12: cannot open shared object', ImportError)", "matmul", "libcublas", CUDA12),
    (f"{MATMUL} = fails('CUBLAS_STATUS_ALLOC_FAILED')", "matmul", "CUDA reports RuntimeError: CUBLAS_", "restart"),
]


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Puts a package `cupy` of the given text first on the path, as if the named wheels had brought it."""

    def loaded():
        return [name for name in sys.modules if name.split(".")[0] == "cupy"]

    def write(text, wheels=("cupy-cuda12x",)):
        (tmp_path / "cupy").mkdir()
        (tmp_path / "cupy" / "__init__.py").write_text(text)
        for name in wheels:
            info = tmp_path / f"{name.replace('-', '_')}-14.0.0.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 14.0.0\n")
        monkeypatch.setattr(detect, "WHEELS", wheels)  # a real one may be installed besides
        monkeypatch.syspath_prepend(tmp_path)

    for name in ("NNBACKEND_DEVICE", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(detect, "_started", False)
    for name in loaded():
        monkeypatch.delitem(sys.modules, name)  # comes back after the test
    cuda_status.cache_clear()
    yield write
    for name in loaded():
        del sys.modules[name]
    cuda_status.cache_clear()


def seen(status, name):
    return next((check.verdict, check.evidence) for check in status.checks if check.name == name)


def assert_fails(status, failing, reason, fix):
    assert (status.usable, "\n" in status.reason) == (False, False)
    assert reason in status.reason
    assert fix in status.fix
    order = [name for name, _ in CHECKS]
    place = order.index(failing)
    assert [check.name for check in status.checks] == order
    assert [check.verdict for check in status.checks] == ["ok"] * place + ["failed"] + ["skipped"] * (11 - place - 1)


@pytest.mark.parametrize(("text", "failing", "reason", "fix"), FAULTS)
def test_fault(text, failing, reason, fix, fake, capfd):
    fake(text if failing == "import" else WORKING + text)
    assert "cupy" not in sys.modules
    assert_fails(cuda_status(), failing, reason, fix)
    assert cuda_status() is cuda_status()
    assert capfd.readouterr() == ("", "")


def test_working(fake, capfd):
    fake(WORKING)
    status = cuda_status()
    assert status.usable
    assert (status.reason, status.fix, status.devices) == ("NVIDIA Fake 9000, 2 devices", "", 2)
    assert {check.verdict for check in status.checks} == {"ok"}
    assert seen(status, "memory") == ("ok", "70.0 of 80.0 GiB free")
    assert capfd.readouterr() == ("", "")


def test_empty_folder(fake, tmp_path, monkeypatch):
    fake("")
    (tmp_path / "cupy" / "__init__.py").unlink()
    others = [place for place in sys.path if not Path(place, "cupy").is_dir()]
    monkeypatch.setattr(sys, "path", [str(tmp_path), *others])
    assert_fails(cuda_status(), "import", f"{tmp_path / 'cupy'} is imported as cupy, but", f"then {REPAIR}")


def test_two_wheels_are_a_warning(fake):
    fake(WORKING, wheels=("cupy-cuda12x", "cupy-cuda13x"))
    verdict, evidence = seen(cuda_status(), "wheels")
    assert (cuda_status().usable, verdict) == (True, "warning")
    assert evidence.startswith("cupy-cuda12x, cupy-cuda13x; these overwrite each other's files")
    assert evidence.endswith("pip uninstall -y cupy-cuda12x && pip install --force-reinstall --no-deps cupy-cuda13x")


def test_warnings_become_evidence(fake):
    fake("import warnings; warnings.warn('no CUDA path')" + WORKING + f"{MEMORY} = lambda: (2**29 - 1, 2**33)")
    assert cuda_status().usable
    assert seen(cuda_status(), "import") == ("warning", "CuPy 14.0.0; no CUDA path")
    assert seen(cuda_status(), "memory")[0] == "warning"


def test_evidence_keeps_the_causes(fake):
    fake(WORKING + f"{COUNT} = fails('outer', cause=OSError('inner'))")
    assert cuda_status().reason == "CuPy fails at the devices check: OSError: inner"
    assert seen(cuda_status(), "devices") == ("failed", "RuntimeError: outer; caused by OSError: inner")


def test_kernel_cache_that_cannot_be_written(fake, tmp_path, monkeypatch):
    fake(WORKING)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path / "file" / "cache"))
    assert_fails(cuda_status(), "cache", "cannot write its kernel cache", "CUPY_CACHE_DIR")


def test_environment_rules_out_cuda(fake, monkeypatch):
    fake(WORKING)
    monkeypatch.setenv("NNBACKEND_DEVICE", "cpu")
    status = cuda_status()
    assert (status.usable, status.reason) == (False, "NNBACKEND_DEVICE=cpu is set")
    assert {check.verdict for check in status.checks} == {"skipped"}
    assert "cupy" not in sys.modules


def test_cupy_not_installed(fake, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert_fails(cuda_status(), "installed", "CuPy is not installed", 'pip install "nnbackend[cuda13]"')


@pytest.mark.parametrize(
    ("wheels", "driver", "repair", "command"),
    [
        ([], 0, True, 'pip install "nnbackend[cuda13]"'),
        ([], 12040, False, CUDA12),
        (["cupy-cuda12x"], 13000, False, CUDA12),
        (["cupy-cuda13x"], 12040, False, f"pip uninstall -y cupy-cuda13x && {CUDA12}"),
        (["cupy"], 0, True, 'pip uninstall -y cupy && pip install "nnbackend[cuda13]"'),
        (["cupy-cuda12x"], 0, True, REPAIR),
    ],
)
def test_install_command(wheels, driver, repair, command):
    assert install_command(wheels, driver, repair=repair) == command


def run(script, *folders):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*folders, str(Path(__file__).parents[1])])}
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script]  # Python 3.12 warns of fork
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    return json.loads(result.stdout)


FORK = """
import json, os, sys
import nnbackend
from nnbackend.backend.detect import cuda_status

def in_child():
    read, write = os.pipe()
    if os.fork() == 0:
        os.write(write, json.dumps([cuda_status().usable, cuda_status().reason]).encode())
        os._exit(0)
    os.wait()
    return json.loads(os.read(read, 10_000))

print(json.dumps(["cupy" in sys.modules, in_child(), cuda_status().usable, in_child()]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_fork_after_the_start_of_cuda(fake, tmp_path):
    fake(WORKING)
    usable, forked = [True, "NVIDIA Fake 9000, 2 devices"], [False, "CUDA was started before fork; use spawn"]
    assert run(FORK, str(tmp_path)) == [False, usable, True, forked]


REAL = """
import json
from nnbackend.backend.detect import cuda_status
print(json.dumps([cuda_status().reason, cuda_status().fix, __import__("cupy").cuda.runtime.driverGetVersion()]))
"""


@pytest.mark.skipif(util.find_spec("cupy") is None, reason="needs CuPy's wheel")
def test_real_cupy_without_a_driver(monkeypatch):
    monkeypatch.delenv("NNBACKEND_DEVICE", raising=False)
    reason, fix, driver = run(REAL)
    if driver:
        pytest.skip("this machine has an NVIDIA driver")
    assert reason == "no NVIDIA driver was found"
    assert GET_DRIVER in fix
