"""The doctor's page, its dict, and its command line."""

import json
import os
import subprocess
import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest

import nnbackend
from nnbackend import __main__ as command_line
from nnbackend.backend.detect import CHECKS, Check, CudaStatus
from nnbackend.doctor import doctor

module = import_module("nnbackend.doctor")
NO_DRIVER = CudaStatus(
    False,
    "no NVIDIA driver was found",
    "install the NVIDIA driver",
    (Check("import", "ok", "CuPy 14.0.0"), Check("driver", "failed", "version 0"), Check("kernel", "skipped", "-")),
    0,
)
USABLE = CudaStatus(True, "NVIDIA Fake 9000, 1 device", "", (Check("kernel", "ok", "x * 2 is right"),), 1)


@pytest.fixture(autouse=True)
def _no_wish(monkeypatch):
    monkeypatch.delenv("NNBACKEND_DEVICE", raising=False)


@pytest.fixture
def cuda(monkeypatch):
    return lambda status: monkeypatch.setattr(module, "cuda_status", lambda: status)


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
    assert str(doctor()).splitlines()[-3:] == [
        "CUDA       usable: NVIDIA Fake 9000, 1 device",
        "  ok       kernel     x * 2 is right",
        'device="auto" means cuda:0: NVIDIA Fake 9000, 1 device',
    ]


@pytest.mark.parametrize(
    ("wish", "status", "why"),
    [
        ("cpu", USABLE, "NNBACKEND_DEVICE=cpu is set"),
        ("cuda:1", USABLE, "NNBACKEND_DEVICE=cuda:1 is set"),
        ("cuda", NO_DRIVER, "NNBACKEND_DEVICE=cuda is set, but no NVIDIA driver was found"),
    ],
)
def test_auto_as_the_environment_wishes(wish, status, why, cuda, monkeypatch):
    cuda(status)
    monkeypatch.setenv("NNBACKEND_DEVICE", wish)
    assert (doctor().auto, doctor().why) == (wish, why)
    assert str(doctor()).endswith(f'device="auto" means {wish}: {why}')


def test_threads_and_extras(cuda, monkeypatch):
    cuda(NO_DRIVER)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setattr(module, "importable", lambda name: name == "tqdm")
    report = doctor()
    assert report.threads["OMP_NUM_THREADS"] == "3"
    assert report.extras == {"plot": False, "progress": True}
    assert f"{os.cpu_count()} CPUs, OMP_NUM_THREADS=3" in str(report)
    assert 'no matplotlib: pip install "nnbackend[plot]"; tqdm is here' in str(report)


@pytest.mark.parametrize(("there", "said"), [(True, "of unknown version"), (False, "is missing: pip install")])
def test_a_distribution_without_metadata(there, said, cuda, monkeypatch):
    cuda(NO_DRIVER)
    monkeypatch.setattr("importlib.metadata.distribution", lambda name: _raise(PackageNotFoundError(name)))
    monkeypatch.setattr(module, "importable", lambda name: there)
    assert f"array-api-compat {said}" in str(doctor())


def _raise(error):
    raise error


def test_dict_is_json(cuda):
    cuda(NO_DRIVER)
    found = doctor().as_dict()
    assert json.loads(json.dumps(found)) == found
    assert found["cuda"]["checks"][1] == {"name": "driver", "verdict": "failed", "evidence": "version 0"}


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
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "NNBACKEND_DEVICE": "cpu"}
    command = [sys.executable, "-m", "nnbackend", "doctor", "--json"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found = json.loads(result.stdout)
    assert result.stderr == ""
    assert [check["name"] for check in found["cuda"]["checks"]] == [name for name, _ in CHECKS]
    assert (found["auto"], found["why"]) == ("cpu", "NNBACKEND_DEVICE=cpu is set")
