"""The doctor's page, its dict, and its command line."""

import json
import os
import subprocess
import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError
from types import SimpleNamespace

import numpy as np
import pytest

import nnbackend
from nnbackend import __main__ as command_line
from nnbackend.backend.detect import CHECKS, Check, CudaStatus, Gpu
from nnbackend.doctor import doctor

module = import_module("nnbackend.doctor")
NO_DRIVER = CudaStatus(
    False,
    "no NVIDIA driver was found",
    "install the NVIDIA driver",
    (Check("import", "ok", "CuPy 14.0.0"), Check("driver", "failed", "version 0"), Check("kernel", "skipped", "-")),
    0,
)
WORKS = (Check("kernel", "ok", "x * 2 is right"),)
USABLE = CudaStatus(True, "NVIDIA Fake 9000, 1 device", "", WORKS, 1, (Gpu("Fake", "9.0", 8),))
FAKE_BACKEND = SimpleNamespace(name="cupy", xp=SimpleNamespace(cuda=SimpleNamespace(Device=int)))


@pytest.fixture
def cuda(monkeypatch):
    """Sets what the detection finds, here and for `nb.device`; a usable device is there as soon as it is named."""

    def found(status):
        monkeypatch.setattr(module, "cuda_status", lambda: status)
        monkeypatch.setattr(sys.modules["nnbackend.backend.device"], "cuda_status", lambda: status)
        monkeypatch.setattr(sys.modules["nnbackend.backend.device"], "library_backend", lambda name: FAKE_BACKEND)

    for name in list(os.environ):
        if name.startswith(module.CUDA_VARIABLES):
            monkeypatch.delenv(name)
    return found


def test_page_without_cuda(cuda, capfd):
    cuda(NO_DRIVER)
    report = doctor()
    assert capfd.readouterr() == ("", "")
    page = str(report).splitlines()
    assert repr(report) == str(report)
    assert page[0].startswith(f"nnbackend  {nnbackend.__version__} on Python {sys.version.split()[0]}")
    assert page[1].startswith(f"NumPy      {np.__version__}, BLAS ")
    assert page[-6:] == [
        "CUDA       not usable: no NVIDIA driver was found",
        "  ok       import     CuPy 14.0.0",
        "  failed   driver     version 0",
        "  skipped  kernel     -",
        "  to mend it: install the NVIDIA driver",
        'device="auto" means cpu: no NVIDIA driver was found',
    ]


def test_page_with_cuda(cuda):
    cuda(USABLE)
    assert str(doctor()).splitlines()[-4:] == [
        "CUDA       usable: NVIDIA Fake 9000, 1 device",
        "  ok       kernel     x * 2 is right",
        "  to see the GPUs at work: nvidia-smi",
        'device="auto" means cuda:0: NVIDIA Fake 9000, 1 device',
    ]


@pytest.mark.parametrize(
    ("wish", "status", "why"),
    [
        ("cpu", USABLE, "NNBACKEND_DEVICE=cpu is set"),
        ("cuda", USABLE, "NNBACKEND_DEVICE=cuda is set"),
        ("cuda:1", USABLE, "NNBACKEND_DEVICE=cuda:1 is set, but cuda:1 requested, 1 device (0..0)"),
        ("gpu", USABLE, 'NNBACKEND_DEVICE=gpu is set, but device: expected one of "auto", "cpu", '),
        ("cuda", NO_DRIVER, "NNBACKEND_DEVICE=cuda is set, but no NVIDIA driver was found"),
    ],
)
def test_auto_as_the_environment_wishes(wish, status, why, cuda, monkeypatch):
    cuda(status)
    monkeypatch.setenv("NNBACKEND_DEVICE", wish)
    assert doctor().auto == wish
    assert doctor().why.startswith(why)
    assert str(doctor()).endswith(f'device="auto" means {wish}: {doctor().why}')


def test_a_backend_that_fails_is_named(cuda, monkeypatch):
    cuda(USABLE)
    error = RuntimeError("line one\nline two")
    monkeypatch.setattr(sys.modules["nnbackend.backend.device"], "library_backend", lambda name: _raise(error))
    assert doctor().why == "NVIDIA Fake 9000, 1 device, but line one line two"


def test_variables_that_matter_to_cuda(cuda, monkeypatch):
    cuda(USABLE)
    assert "variables" not in str(doctor())
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("CUPY_TF32", "1")
    assert doctor().environment == {"CUDA_VISIBLE_DEVICES": "", "CUPY_TF32": "1"}
    assert "variables  CUDA_VISIBLE_DEVICES=, CUPY_TF32=1" in str(doctor())


def test_threads_and_extras(cuda, monkeypatch):
    cuda(NO_DRIVER)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setattr(module, "importable", lambda name: name == "tqdm")
    report = doctor()
    assert report.threads["OMP_NUM_THREADS"] == "3"
    assert report.extras == {"plot": False, "progress": True, "sklearn": False}
    assert f"{os.cpu_count()} CPUs, OMP_NUM_THREADS=3" in str(report)
    assert 'no matplotlib: pip install "nnbackend[plot]"; tqdm is here; no sklearn: ' in str(report)


@pytest.mark.parametrize(("there", "said"), [(True, "of unknown version"), (False, "is missing: pip install")])
def test_a_distribution_without_metadata(there, said, cuda, monkeypatch):
    cuda(NO_DRIVER)
    monkeypatch.setattr("importlib.metadata.distribution", lambda name: _raise(PackageNotFoundError(name)))
    monkeypatch.setattr(module, "importable", lambda name: there)
    assert f"array-api-compat {said}" in str(doctor())


def _raise(error):
    raise error


@pytest.mark.parametrize("status", [NO_DRIVER, USABLE])
def test_dict_is_json(status, cuda):
    cuda(status)
    found = doctor().as_dict()
    assert json.loads(json.dumps(found)) == found
    assert [check["name"] for check in found["cuda"]["checks"]] == [check.name for check in status.checks]
    assert found["cuda"]["gpus"] == [{"name": "Fake", "capability": "9.0", "memory": 8}] * status.devices


def test_command_line(cuda, capsys):
    cuda(NO_DRIVER)
    command_line.main(["doctor"])
    assert capsys.readouterr().out == f"{doctor()}\n"
    command_line.main(["doctor", "--json"])
    assert json.loads(capsys.readouterr().out) == doctor().as_dict()
    command_line.main([])
    assert capsys.readouterr().out.startswith("usage: python -m nnbackend")
    with pytest.raises(SystemExit) as stop:
        command_line.main(["nurse"])
    assert stop.value.code == 2
    assert "nurse" in capsys.readouterr().err


def test_as_a_program():
    environment = {**os.environ, "NNBACKEND_DEVICE": "cpu"}
    command = [sys.executable, "-m", "nnbackend", "doctor", "--json"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found = json.loads(result.stdout)
    assert result.stderr == ""
    assert [check["name"] for check in found["cuda"]["checks"]] == [name for name, _ in CHECKS]
    assert (found["auto"], found["why"]) == ("cpu", "NNBACKEND_DEVICE=cpu is set")
