"""Detection of CUDA against fake CuPy packages that fail in every way we know of, and one that works."""

import json
import os
import re
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from importlib import util
from pathlib import Path
from types import SimpleNamespace

import pytest

from nnbackend.backend import cuda_faults, detect
from nnbackend.backend.cuda_faults import KNOWN, OWN_CACHE, get_driver, install_command
from nnbackend.backend.detect import CHECKS, Gpu, cuda_status

# A CuPy in miniature. Faults are text appended to it, or put in its place if the import is to fail.
WORKING = """
import numpy
__version__ = "14.0.0"

class runtime:
    driverGetVersion = staticmethod(lambda: 13000)
    runtimeGetVersion = staticmethod(lambda: 13020)
    getDeviceCount = staticmethod(lambda: 2)
    getDeviceProperties = staticmethod(
        lambda index: {"name": b"NVIDIA Fake 9000", "major": 9, "minor": 0, "totalGlobalMem": 80 * 2**30}
    )
    memGetInfo = staticmethod(lambda: (70 * 2**30, 80 * 2**30))

class cuda:
    runtime = runtime

class array(numpy.ndarray):
    pass

def asarray(x, dtype):
    return numpy.asarray(x, dtype).view(array)

class DynamicLibNotFoundError(RuntimeError):
    pass

class CompileException(Exception):
    pass

def fails(text, kind=RuntimeError, cause=None):
    def call(*args):
        raise kind(text) from cause
    return call
"""
GET_DRIVER = "install the NVIDIA driver"
CUDA12, REPAIR = 'pip install "nnbackend[cuda12]"', 'pip install --force-reinstall --no-deps "cupy-cuda12x>=14,<15"'
NEWER = 'pip install -U --upgrade-strategy eager "cupy-cuda12x[ctk]>=14,<15"'
COUNT, MEMORY, KERNEL, MATMUL = "runtime.getDeviceCount", "runtime.memGetInfo", "array.__mul__", "array.__matmul__"
LIBCUDA = "raise ImportError('=====\\nFailed to import CuPy.\\n=====') from ImportError('libcuda.so.1: cannot open')"
OLD_GPU = "runtime.getDeviceProperties = lambda index: {'name': b'Old', 'major': %d, 'minor': 1, 'totalGlobalMem': 8}"

# fault, the check that fails, words of the reason, words of the fix
FAULTS = [
    ("raise ImportError('no _core')", "import", "import check: ImportError: no _core", REPAIR),
    ("raise RuntimeError('bad wheel')", "import", "import check: RuntimeError: bad wheel", REPAIR),
    ("raise ModuleNotFoundError(\"No module named 'cupy._x'\")", "import", "named 'cupy._x'", REPAIR),
    ("raise ModuleNotFoundError(\"No module named 'cuda'\")", "import", "a package is missing", CUDA12),
    ("raise ImportError('numpy.core.multiarray failed to import')", "import", "this NumPy do not fit", CUDA12),
    ("raise OSError('libfoo.so: cannot open shared object')", "import", "missing: OSError: libfoo.so", CUDA12),
    ("raise ImportError('libfoo.so: undefined symbol: f')", "import", "versions are mixed", f"CUDA_PATH; {NEWER}"),
    (LIBCUDA, "import", "libcuda was not found", GET_DRIVER),
    ("x = 1", "import", "it is not CuPy", f"then {REPAIR}"),
    (WORKING + "runtime.is_hip = True", "import", "this CuPy is for AMD's GPUs", CUDA12),
    ("runtime.driverGetVersion = lambda: 0", "driver", "no NVIDIA driver was found", GET_DRIVER),
    ("runtime.driverGetVersion = fails('cudaErrorStubLibrary: x')", "driver", "stub of libcuda", "LD_LIBRARY_PATH"),
    ("__version__ = '13.6.0'", "version", "CuPy 13.6.0 is too old: 14 is needed", CUDA12),
    ("runtime.driverGetVersion = lambda: 12040", "runtime", "driver for CUDA 12.4, CuPy for CUDA 13.2", CUDA12),
    ("runtime.driverGetVersion = lambda: 11040", "runtime", "driver for CUDA 11.4", GET_DRIVER),
    (f"{COUNT} = lambda: 0", "devices", "sees no GPU", "CUDA_VISIBLE_DEVICES"),
    (f"{COUNT} = fails('cudaErrorNoDevice: no device')", "devices", "sees no GPU", "CUDA_VISIBLE_DEVICES"),
    (f"{COUNT} = fails('cudaErrorInsufficientDriver: x')", "devices", "driver is too old", GET_DRIVER),
    (f"{COUNT} = fails('cudaErrorInitializationError: x')", "devices", "child forked after its start", "spawn"),
    (f"{COUNT} = fails('cudaErrorCompatNotSupportedOnDevice: x')", "devices", "forward compat", "cuda-compat"),
    (f"{COUNT} = fails('cudaErrorSystemDriverMismatch: x')", "devices", "the old one still runs", "restart"),
    (f"{COUNT} = fails('cudaErrorSystemNotReady: x')", "devices", "fabric manager", "start nvidia-fabricmanager"),
    (f"{COUNT} = fails('cudaErrorUnknown: unknown error')", "devices", "machine slept", "modprobe nvidia_uvm"),
    (f"{COUNT} = fails('odd')", "devices", "CuPy fails at the devices check: RuntimeError: odd", REPAIR),
    (OLD_GPU % 6, "devices", "Old is too old for CUDA 13 (compute capability 6.1)", CUDA12),  # cupy#9475
    (OLD_GPU % 3, "devices", "Old is too old for CUDA 13 (compute capability 3.1)", 'device="cpu"'),
    (f"{MEMORY} = fails('cudaErrorMemoryAllocation: out of memory')", "memory", "memory is full", "nvidia-smi"),
    (f"{MEMORY} = fails('cudaErrorDevicesUnavailable: x')", "memory", "the GPU for itself", "nvidia-smi -c DEFAULT"),
    (f"{KERNEL} = fails('cannot open source file \"vector_types.h\"')", "kernel", "headers are missing", CUDA12),
    (f"{KERNEL} = fails('libnvrtc', DynamicLibNotFoundError)", "kernel", "missing: DynamicLib", CUDA12),
    (f"{KERNEL} = fails('nvrtc: error: invalid value for --gpu-architecture')", "kernel", "GPU is newer", NEWER),
    (f"{KERNEL} = fails('CUDA_ERROR_NO_BINARY_FOR_GPU: x')", "kernel", "GPU is newer", NEWER),
    (f"{KERNEL} = fails('incomplete type', CompileException)", "kernel", "Exception: incomplete type", NEWER),
    (f"{KERNEL} = fails('CUDA_ERROR_UNSUPPORTED_PTX_VERSION: x')", "kernel", "driver is older", GET_DRIVER),
    (f"{KERNEL} = fails('CUDA_ERROR_INVALID_IMAGE: x')", "kernel", "is damaged", "rm -r ~/.cupy/kernel_cache"),
    (f"{KERNEL} = fails('x.cubin', PermissionError)", "kernel", "use its kernel cache", "CUPY_CACHE_DIR"),
    (f"{KERNEL} = fails('Disk quota exceeded', OSError)", "kernel", "cache is full: OSError", "CUPY_CACHE_DIR"),
    (f"{KERNEL} = fails('cudaErrorIllegalAddress: x')", "kernel", "CUDA reports RuntimeError: cudaErrorIll", "restart"),
    (f"{KERNEL} = lambda x, y: x", "kernel", "x * 2 is [1.0, 2.0], expected [2.0, 4.0]", REPAIR),
    (f"e = OSError('odd'); {KERNEL} = fails('x', lambda x: e, e)", "kernel", "OSError: odd", REPAIR),  # its own cause
    (f"{MATMUL} = fails('libcublas.so.12: cannot open shared object', ImportError)", "matmul", "libcublas", CUDA12),
    (f"{MATMUL} = fails('CUBLAS_STATUS_NOT_INITIALIZED')", "matmul", "memory is full", "nvidia-smi"),
    (f"{MATMUL} = fails('CUBLAS_STATUS_ARCH_MISMATCH')", "matmul", "GPU is newer", NEWER),
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
    assert not status.usable
    assert "\n" not in status.reason + status.fix
    assert reason in status.reason
    assert fix in status.fix
    order = [name for name, _ in CHECKS]
    place = order.index(failing)
    verdicts = ["ok"] * place + ["failed"] + ["skipped"] * (len(order) - place - 1)
    assert [(check.name, check.verdict) for check in status.checks] == list(zip(order, verdicts, strict=True))


@pytest.mark.parametrize(("text", "failing", "reason", "fix"), FAULTS)
def test_fault(text, failing, reason, fix, fake, capfd):
    fake(text if failing == "import" else WORKING + text)
    assert "cupy" not in sys.modules
    assert_fails(cuda_status(), failing, reason, fix)
    assert cuda_status() is cuda_status()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("known", KNOWN[:-1], ids=lambda known: known.said[:20])
def test_every_known_fault_is_faked(known):
    assert any(re.search(known.said, text) or words in known.reason for text, _, words, _ in FAULTS)
    assert (known.seen, "\n" in known.fix) != ("", True)


def test_working(fake, capfd):
    fake(WORKING)
    status = cuda_status()
    assert status.usable
    assert (status.reason, status.fix, status.devices) == ("NVIDIA Fake 9000, 2 devices", "", 2)
    assert status.gpus == (Gpu("NVIDIA Fake 9000", "9.0", 80 * 2**30),) * 2
    gpu = "NVIDIA Fake 9000, compute capability 9.0, 80.0 GiB"
    assert seen(status, "devices") == ("ok", f"cuda:0 {gpu}; cuda:1 {gpu}")
    assert {check.verdict for check in status.checks} == {"ok"}
    assert seen(status, "memory") == ("ok", "70.0 of 80.0 GiB free")
    assert capfd.readouterr() == ("", "")


def test_the_number_of_the_driver(fake, tmp_path, monkeypatch):
    fake(WORKING)
    (tmp_path / "version").write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun Jul 27 2025\nGCC")
    monkeypatch.setattr(detect, "DRIVER_VERSION", tmp_path / "version")
    assert seen(cuda_status(), "driver") == ("ok", "580.65.06, for CUDA 13.0")


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
    assert evidence.endswith(f"pip uninstall -y cupy-cuda12x && {REPAIR.replace('12x', '13x')}")


def test_warnings_become_evidence(fake):
    fake("import warnings; warnings.warn('no CUDA path')" + WORKING + f"{MEMORY} = lambda: (2**29 - 1, 2**33)")
    assert cuda_status().usable
    assert seen(cuda_status(), "import") == ("warning", "CuPy 14.0.0; no CUDA path")
    assert seen(cuda_status(), "memory")[0] == "warning"


def test_a_newer_cupy_is_a_warning(fake):
    fake(WORKING + "__version__ = '15.0.0rc1'")
    assert cuda_status().usable
    assert seen(cuda_status(), "version") == ("warning", "CuPy 15.0.0rc1; nnbackend is made for 14")


@pytest.mark.parametrize(
    ("module", "reason", "fix"),
    [
        (None, "a package is missing: ModuleNotFoundError: import of array_api_compat halted", CUDA12),
        (SimpleNamespace(__version__="1.9.1"), "array-api-compat 1.9.1 is too old: 1.13 is needed", "pip install -U"),
    ],
)
def test_array_api_compat_missing_or_old(module, reason, fix, fake, monkeypatch):
    fake(WORKING)
    monkeypatch.setitem(sys.modules, "array_api_compat", module)
    assert_fails(cuda_status(), "array-api", reason, fix)


def test_versions_are_those_of_the_package():
    wanted = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    extras = wanted["optional-dependencies"]
    for cuda in (12, 13):
        assert extras[f"cuda{cuda}"] == [f"cupy-cuda{cuda}x[ctk]>={detect.CUPY},<{detect.CUPY + 1}"]
        assert extras[f"cuda{cuda}"][0] in install_command([], cuda * 1000, newer=True)
    assert "array-api-compat>={}.{},<2".format(*detect.ARRAY_API_COMPAT) in wanted["dependencies"]


def test_evidence_keeps_the_causes(fake):
    fake(WORKING + f"{COUNT} = fails('outer', cause=OSError('inner'))")
    assert cuda_status().reason == "CuPy fails at the devices check: OSError: inner"
    assert seen(cuda_status(), "devices") == ("failed", "RuntimeError: outer; caused by OSError: inner")


def test_kernel_cache_that_cannot_be_written(fake, tmp_path, monkeypatch):
    fake(WORKING)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path / "file" / "cache"))
    assert_fails(cuda_status(), "cache", "cannot write its kernel cache", "CUPY_CACHE_DIR")
    assert "cupy" not in sys.modules  # whose import would fail, too


def test_where_the_driver_comes_from(fake, monkeypatch):
    fake(WORKING + "runtime.driverGetVersion = lambda: 0")
    monkeypatch.setattr(cuda_faults.platform, "release", lambda: "5.15.0-microsoft-standard-WSL2")
    assert_fails(cuda_status(), "driver", "no NVIDIA driver was found", "in Windows and none in WSL")
    monkeypatch.setattr(detect.sys, "platform", "darwin")
    cuda_status.cache_clear()
    assert_fails(cuda_status(), "installed", "macOS has no CUDA", 'device="cpu"')


def test_threads_find_the_same(fake):
    fake(WORKING)
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: cuda_status(), range(8)))) == 1


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
        (["cupy-rocm-7-0"], 12040, False, f"pip uninstall -y cupy-rocm-7-0 && {CUDA12}"),
    ],
)
def test_install_command(wheels, driver, repair, command):
    assert install_command(wheels, driver, repair=repair) == command


def test_what_conda_installed_conda_mends(tmp_path, monkeypatch):
    monkeypatch.setattr(cuda_faults.sys, "prefix", str(tmp_path))
    (tmp_path / "conda-meta").mkdir()
    assert install_command(["cupy"], 12040) == 'conda install -c conda-forge "cupy>=14,<15" cuda-version=12'
    assert install_command(["cupy"], repair=True).startswith("conda install -c conda-forge --force-reinstall ")
    assert install_command(["cupy-cuda12x"]) == CUDA12


def run(script, *folders):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*folders, os.environ["PYTHONPATH"]])}
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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_fork_where_cuda_did_not_start(fake, tmp_path):
    fake(WORKING + f"{COUNT} = fails('cudaErrorNoDevice: no device')")
    nothing = [False, "the NVIDIA driver sees no GPU"]
    assert run(FORK, str(tmp_path)) == [False, nothing, False, nothing]


REAL_CUPY = pytest.mark.skipif(util.find_spec("cupy_backends") is None, reason="needs CuPy's wheel")
REAL = """
import json, os, sys
from nnbackend.backend.detect import cuda_status
status = cuda_status()
if os.path.isdir(os.environ["CUPY_CACHE_DIR"]):
    import cupy
    from cupy_backends.cuda.libs import nvrtc
    from nnbackend.backend.cuda_faults import recognise
    said = []
    for call in (cupy.cuda.runtime.getDeviceCount, nvrtc.getVersion):
        try:
            said.append(str(call()))
        except Exception as error:
            said.append(recognise(error, "kernel", ["cupy-cuda13x"], 13000).reason)
    print(json.dumps([status.reason, status.fix, cupy.cuda.runtime.driverGetVersion(), *said]))
else:
    print(json.dumps([status.reason, status.fix, "cupy" in sys.modules]))
"""


@REAL_CUPY
def test_real_cupy_without_a_driver(tmp_path, monkeypatch):
    monkeypatch.delenv("NNBACKEND_DEVICE", raising=False)
    monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path))
    reason, fix, driver, count, compiler = run(REAL)
    if driver:
        pytest.skip("this machine has an NVIDIA driver")
    assert (reason, fix) == ("no NVIDIA driver was found", get_driver())
    assert count == "the NVIDIA driver is too old for this CuPy"
    assert compiler[0] == "(" or compiler.startswith("a CUDA library is missing: DynamicLibNotFoundError: ")


@REAL_CUPY
def test_real_cupy_with_a_home_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.delenv("NNBACKEND_DEVICE", raising=False)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path / "file" / "cache"))
    reason, fix, imported = run(REAL)
    assert reason == f"CuPy cannot write its kernel cache {tmp_path / 'file' / 'cache'}"
    assert (fix, imported) == (OWN_CACHE, False)
