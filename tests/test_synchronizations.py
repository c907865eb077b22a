"""The guard of tests: what makes the host wait for a device is found, with its line, and nothing else is."""

import contextlib
import sys
import threading
import types

import array_api_strict
import numpy as np
import pytest
from op_run import FAR, HOST

import nnbackend as nb
from nnbackend.backend import Backend, backend_of, cuda_status, to_host
from nnbackend.backend.cupy_backend import CupyBackend
from nnbackend.testing import no_synchronization, synchronizations

STRICT = type(array_api_strict.zeros(()))
on_far_devices = pytest.mark.parametrize("device", FAR, ids=str)
READS = {  # of a Tensor
    "float": lambda t: float(t[0]),
    "int": lambda t: int(t[0]),
    "bool": lambda t: bool(t[0]),
    "condition": lambda t: 1 if t[0] else 2,
    "index": lambda t: [1, 2][nb.argmin(t)],
    "item": lambda t: t[0].item(),
    "tolist": lambda t: t.tolist(),
    "numpy": lambda t: t.numpy(),
    "print": repr,
    "to the host": lambda t: t.to("cpu"),
    "mask": lambda t: t[t > 1.0],
    "float of the array": lambda t: float(t.data[0, ...]),
    "condition on the array": lambda t: 1 if t.data[0, ...] > 0.0 else 2,
    "mask of the array": lambda t: t.data[t.data > 1.0],
    "nonzero": lambda t: backend_of(t.data).xp.nonzero(t.data),
    "to_host": lambda t: to_host(t.data),
    "synchronize": lambda t: t.device.synchronize(),
}


@on_far_devices
@pytest.mark.parametrize("read", READS)
def test_what_is_found(read, device):
    t = nb.tensor([1.0, 2.0], device=device)
    with synchronizations() as found:
        READS[read](t)
    assert len(found) == 1
    assert f"{__file__}:" in found[0]
    assert "lambda" in found[0] or read == "print"  # the text of the line


@on_far_devices
def test_what_is_not(device):
    host = nb.tensor([1.0, 2.0])
    with no_synchronization():
        t = nb.tensor(np.ones((3, 2)), device=device) + host.to(device, "float64")  # uploads
        t[0, ...] = 0.0
        nb.where(t > 1.0, t, 0.0).sum()
        [float(host[0]), host.numpy(), host[host > 1.0], host.device.synchronize(), HOST.device.synchronize()]
        worker = threading.Thread(target=t.numpy)
        worker.start()
        worker.join()


@pytest.mark.parametrize("device", FAR[:1], ids=str)
def test_the_error_names_every_line(device):
    t = nb.tensor([1.0, 2.0], device=device)

    @no_synchronization()
    def step():
        nb.optim.get_total_norm([t], error_if_nonfinite=True)
        return t.tolist()

    here = r"\n  to_host\(\) at .*test_synchronizations.py:\d+: "
    pattern = (
        rf"^no_synchronization: expected none, got 2:{here}nb.optim.get_total_norm.* "
        rf"\(in nnbackend.optim.clip, line \d+\){here}return t.tolist\(\)$"
    )
    with pytest.raises(AssertionError, match=pattern):
        step()
    with pytest.raises(ZeroDivisionError), no_synchronization():
        float(t[0]) / 0.0


@pytest.mark.parametrize("device", FAR[:1], ids=str)
def test_inner_ones_are_found_outside_too(device):
    t = nb.tensor([1.0, 2.0], device=device)
    with synchronizations() as outer:
        float(t[0])
        with synchronizations() as inner:
            float(t[0])
        float(t[0])
    assert (len(outer), len(inner)) == (3, 1)


@pytest.mark.parametrize("device", FAR[:1], ids=str)
def test_two_threads_at_once(device):
    """Each has its own, whoever is first to begin and to end."""
    t, barrier, counts = nb.tensor([1.0, 2.0], device=device), threading.Barrier(2, timeout=20), {}

    def work(turn):
        for _ in range(turn):
            barrier.wait()
        with synchronizations() as found:
            barrier.wait()
            for _ in range(turn + 1):
                float(t[0])
            for _ in range(1 - turn):
                barrier.wait()
        counts[turn] = len(found)

    threads = [threading.Thread(target=work, args=(turn,)) for turn in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == {0: 1, 1: 2}


def test_nothing_stays():
    owners = [STRICT, Backend, CupyBackend, array_api_strict]
    if cuda_status().usable:
        import cupy

        owners += [cupy.ndarray, cupy.cuda.Stream, cupy.cuda.Event]
    before = [dict(vars(owner)) for owner in owners]
    with contextlib.suppress(KeyError), synchronizations():
        assert vars(STRICT)["__float__"] is not before[0]["__float__"]
        raise KeyError
    assert [dict(vars(owner)) for owner in owners] == before


def test_a_broken_cupy_does_no_harm(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", types.ModuleType("cupy"))
    with no_synchronization():
        nb.ones(2).numpy()
