"""`nb.device`: names, diagnoses, and the one line that `"auto"` writes."""

import logging
import pickle
import sys

import array_api_strict
import numpy as np
import pytest

import nnbackend as nb
from nnbackend.backend import CPU, Backend, backend_of, namespace
from nnbackend.backend import device as find_device
from nnbackend.backend.detect import CudaStatus
from nnbackend.errors import DeviceUnavailableError, DTypeError

module = sys.modules["nnbackend.backend.device"]
DEVICE1 = array_api_strict.Device("device1")


@pytest.fixture
def cuda(monkeypatch):
    """Sets what the detection finds, and forgets what `"auto"` has decided."""

    def found(usable, reason="no NVIDIA driver was found", fix="install the driver", devices=0):
        monkeypatch.setattr(module, "cuda_status", lambda: CudaStatus(usable, reason, fix, (), devices))

    monkeypatch.delenv("NNBACKEND_DEVICE", raising=False)
    module._auto.cache_clear()
    yield found
    module._auto.cache_clear()


def test_auto_falls_back_and_says_why_once(cuda, caplog):
    cuda(False)
    with caplog.at_level(logging.INFO, logger="nnbackend"):
        assert [str(nb.device("auto")) for _ in range(3)] == ["cpu"] * 3
    assert [record.getMessage() for record in caplog.records] == ["device auto: cpu (no NVIDIA driver was found)"]


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:3"])
def test_cuda_raises_with_the_diagnosis_and_the_fix(cuda, name):
    cuda(False)
    with pytest.raises(DeviceUnavailableError, match=r"no NVIDIA driver was found\. install the driver") as error:
        nb.device(name)
    assert error.value.reason == "no NVIDIA driver was found"
    assert pickle.loads(pickle.dumps(error.value)).reason == error.value.reason


def test_a_gpu_that_is_not_there_is_counted(cuda):
    cuda(True, "one GPU", "", 1)
    with pytest.raises(DeviceUnavailableError, match=r"cuda:7 requested, 1 device \(0\.\.0\)"):
        nb.device("cuda:7")


def test_the_environment_says_what_auto_means(cuda, monkeypatch):
    cuda(False)
    monkeypatch.setenv("NNBACKEND_DEVICE", "gpu")
    with pytest.raises(ValueError, match=r'NNBACKEND_DEVICE: device: expected one of "auto", .*, got \'gpu\''):
        nb.device("auto")
    monkeypatch.setenv("NNBACKEND_DEVICE", "")
    assert nb.device("auto") == "cpu"
    module._auto.cache_clear()
    cuda(True, "one GPU", "", 1)
    monkeypatch.setenv("NNBACKEND_DEVICE", "cpu")
    assert nb.device("auto") == "cpu"


@pytest.mark.parametrize("name", ["gpu", "CUDA", "cpu:1", "cuda:-1", "cuda:", "", -1, None, 1.5])
def test_unknown_names_list_the_valid_ones(name):
    with pytest.raises(ValueError, match='"auto", "cpu", "cuda", "cuda:N"'):
        nb.device(name)


def test_devices_of_arrays_and_of_other_libraries():
    assert find_device(np.zeros(2)) is CPU
    there = find_device(DEVICE1)
    assert str(there) == "array_api_strict:device1"
    assert repr(there) == "device('array_api_strict:device1')"
    assert find_device(there) is there
    assert there == find_device(nb.zeros(2, device=DEVICE1)) != CPU
    assert {there: 1}[find_device(DEVICE1)] == 1
    assert there != array_api_strict.Device("device2")
    assert (CPU == "cpu", CPU != "cuda:0") == (True, True)


def test_namespaces_are_found_by_type():
    assert nb.namespace(np.zeros(2)) is np
    assert nb.namespace(np.float32(2)) is np
    assert nb.namespace(array_api_strict.zeros(2)) is array_api_strict
    assert nb.namespace(nb.zeros(2)) is nb.nn.Parameter(nb.zeros(2)).__array_namespace__()
    assert isinstance(backend_of(array_api_strict.zeros(2)), Backend)
    for wrong in (3.0, [1], "x", None, np.ma.zeros(2)):
        with pytest.raises(DTypeError, match="expected an array, got"):
            namespace(wrong)
