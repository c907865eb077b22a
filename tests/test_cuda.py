"""CUDA through CuPy: streams, memory, errors and interchange. On a GPU, or with the stand-in of `tests/standin`."""

import os
import pickle
import subprocess
import sys
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import nn, optim
from nnbackend.backend import PRIMITIVES, Memory, cuda_status, library_backend, to_host
from nnbackend.errors import DeviceError, DeviceMismatchError, DeviceUnavailableError

pytestmark = pytest.mark.skipif(not cuda_status().usable, reason="needs CUDA")
two_gpus = pytest.mark.skipif(cuda_status().devices < 2, reason="needs two GPUs")

X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], "float32")
Y = np.array([[0], [1], [1], [0]], "float32")


@pytest.fixture
def cupy() -> Any:
    import cupy

    return cupy


@pytest.fixture
def backend() -> Any:
    return library_backend("cupy")


def trainer(device: Any = "cuda", **settings: Any) -> nb.Trainer:
    return nb.Trainer(nn.MLP([2, 4, 1], "tanh"), optimizer=optim.SGD(lr=0.5), device=device, seed=1, **settings)


# -- devices and streams --------------------------------------------------------------------------------------------


def test_a_stream_of_ours_on_the_device_asked_for(cupy: Any) -> None:
    place, before = nb.device("cuda"), cupy.cuda.get_current_stream()
    with place.stream():
        first = cupy.cuda.get_current_stream()
        assert first.ptr != before.ptr
        with place.stream():
            assert cupy.cuda.get_current_stream().ptr == first.ptr
    assert cupy.cuda.get_current_stream().ptr == before.ptr
    with pytest.raises(ZeroDivisionError), place.stream():
        raise ZeroDivisionError
    assert cupy.cuda.get_current_stream().ptr == before.ptr
    with place.stream():
        assert cupy.cuda.get_current_stream().ptr == first.ptr


def test_fits_and_predictions_run_on_it(cupy: Any) -> None:
    seen = []

    class Watched(nn.Module):
        def __init__(self) -> None:
            self.inner = nn.Linear(2, 1)

        def forward(self, x: Any) -> Any:
            seen.append(cupy.cuda.get_current_stream().ptr)
            return self.inner(x)

    t = nb.Trainer(Watched(), device="cuda", seed=0)
    t.fit(X, Y, epochs=1, verbose=False)
    t.evaluate(X, Y)
    t.predict(X)
    with nb.device("cuda").stream():
        assert set(seen) == {cupy.cuda.get_current_stream().ptr}


def test_precision_is_a_setting_of_the_device_asked_for(backend: Any) -> None:
    from cupy._core import get_compute_type
    from cupy._core._routines_linalg import COMPUTE_TYPE_FP32, COMPUTE_TYPE_TF32

    place, before = nb.device("cuda", precision="tf32"), get_compute_type(np.float32)
    assert place == nb.device("cuda")
    assert repr(place) == "device('cuda:0', precision='tf32')"
    assert pickle.loads(pickle.dumps(place)).precision == "tf32"
    with place.stream():
        assert get_compute_type(np.float32) == COMPUTE_TYPE_TF32
        with nb.device(place, precision="ieee").stream():
            assert get_compute_type(np.float32) == COMPUTE_TYPE_FP32
        assert get_compute_type(np.float32) == COMPUTE_TYPE_TF32
    assert get_compute_type(np.float32) == before
    with pytest.raises(ValueError, match='expected precision="ieee", "tf32", "bfloat16" or "float16", got'):
        nb.device("cuda", precision="half")


@two_gpus
def test_a_second_gpu() -> None:
    """Trainers go there by themselves, loops of one's own inside `stream`. Fault 77."""
    here, there = (trainer(device).fit(X, Y, epochs=5, batch_size=2, verbose=False) for device in ("cuda", "cuda:1"))
    assert here.rows == there.rows
    net = nn.MLP([2, 4, 1], "tanh").to("cuda:1")
    x = nb.tensor(X, device="cuda:1")
    there = "expected work on cuda:1 inside `with nb.device|the array resides"  # the latter if the GPUs share memory
    with pytest.raises((DeviceError, UserWarning), match=there):
        net(x)
    with nb.device("cuda:1").stream():
        loss = F.mse_loss(net(x), nb.tensor(Y, device="cuda:1"))
        loss.backward()
        optim.Adam(net.parameters()).step()
    assert {p.device for p in net.parameters()} == {nb.device("cuda:1")}
    assert nb.zeros((2, 3), device="cuda:1").device == "cuda:1"
    with pytest.raises(DeviceMismatchError, match=r"add: expected cuda:0, got cuda:1 \(argument 2\)"):
        nb.ones(3, device="cuda") + nb.ones(3, device="cuda:1")


def test_a_gpu_that_is_not_there() -> None:
    """Fault 81."""
    n = cuda_status().devices
    with pytest.raises(DeviceUnavailableError, match=f"cuda:{n + 5} requested, {n} device"):
        nb.device(f"cuda:{n + 5}")


# -- memory ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def little_memory(cupy: Any) -> Any:
    """Room for 16 MiB more than there is in use."""
    pool = cupy.get_default_memory_pool()
    pool.free_all_blocks()
    pool.set_limit(size=pool.total_bytes() + (16 << 20))
    yield
    pool.set_limit(size=0)


def test_memory_is_known(cupy: Any) -> None:
    before = nb.device("cuda").memory()
    x = nb.zeros((1 << 20,), device="cuda")
    after = nb.device("cuda").memory()
    assert isinstance(after, Memory)
    assert after.used - before.used >= x.size * 4
    assert 0 < after.free <= after.total
    assert after.used <= after.reserved


@pytest.mark.usefixtures("little_memory")
def test_out_of_memory_says_what_was_asked_for() -> None:
    """Fault 84."""
    words = r"out of memory on cuda:0: asked for 64.0 MiB, \d+\.\d MiB in use, .* free. Use a smaller batch_size"
    x = nb.ones((1024, 1024), device="cuda")
    with pytest.raises(MemoryError, match=words):
        nb.concat([x] * 16)
    with pytest.raises(MemoryError, match=words):
        nb.device("cuda").put(np.zeros((16, 1024, 1024), "float32"))
    assert float(x.sum()) == 1 << 20


@pytest.mark.usefixtures("little_memory")
def test_a_fit_that_is_too_large_leaves_the_model_usable() -> None:
    t = nb.Trainer(nn.MLP([2, 4096, 1], "tanh"), device="cuda", seed=0)
    t.fit(X, Y, epochs=1, verbose=False, check=False)
    before, rows = t.predict(X), np.ones((4096, 2), "float32")
    with pytest.raises(MemoryError, match=r"out of memory on cuda:0: asked for .* Use a smaller batch_size"):
        t.fit(rows, rows[:, :1], epochs=1, batch_size=None, verbose=False, check=False)
    np.testing.assert_array_equal(t.predict(X), before)
    t.fit(rows[:64], rows[:64, :1], epochs=1, verbose=False, check=False)
    assert t.steps > 1


# -- errors ---------------------------------------------------------------------------------------------------------


def test_arrays_of_two_devices_do_not_mix(cupy: Any) -> None:
    """Faults 77 and 87: nothing is copied behind anybody's back."""
    here, there, raw = nb.ones(3), nb.ones(3, device="cuda"), cupy.ones(3, "float32")
    net = nn.Linear(3, 2)
    for call, got in [
        (lambda: here + there, "add: expected cpu, got cuda:0 (argument 2)"),
        (lambda: there + here, "add: expected cuda:0, got cpu (argument 2)"),
        (lambda: here + raw, "add: expected cpu, got cuda:0 (argument 2)"),
        (lambda: there + np.ones(3, "float32"), "add: expected cuda:0, got cpu (argument 2)"),
        (lambda: net(raw), "linear: expected cpu, got cuda:0 (argument 1)"),
        (lambda: net.to("cuda")(np.ones(3, "float32")), "linear: expected cuda:0, got cpu (argument 1)"),
        (lambda: F.mse_loss(there, here), "expected cuda:0, got cpu"),
    ]:
        with pytest.raises(DeviceMismatchError) as caught:
            call()
        assert got in str(caught.value)
    assert (there + 1.0 + np.float32(1.0)).tolist() == [3.0] * 3


class CUDARuntimeError(RuntimeError):
    """As CuPy's."""


CUDARuntimeError.__module__ = "cupy_backends.cuda.api.runtime"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("cudaErrorIllegalAddress: an illegal memory access", "CUDA reports .*IllegalAddress.*NNBACKEND_SYNC=1 shows"),
        ("cudaErrorInitializationError: initialization error", "before this process was forked; start processes with"),
    ],
)
def test_errors_that_come_late_are_explained(said: str, words: str, backend: Any, monkeypatch: Any) -> None:
    """Faults 85 and 89."""

    def fails(*args: Any, **kw: Any) -> None:
        raise CUDARuntimeError(said)

    x = nb.ones(3, device="cuda")
    with monkeypatch.context() as patch:
        patch.setattr(backend.cupy, "asnumpy", fails)
        with pytest.raises(DeviceError, match=words):
            x.numpy()
    with pytest.raises(DeviceError, match=words), nb.device("cuda").stream():
        fails()
    with pytest.raises(ZeroDivisionError), nb.device("cuda").stream():
        raise ZeroDivisionError
    assert x.tolist() == [1.0] * 3


# -- to and fro -----------------------------------------------------------------------------------------------------


def test_what_comes_in_as_cupy_goes_out_as_cupy(cupy: Any) -> None:
    t = trainer()
    t.fit(cupy.asarray(X), cupy.asarray(Y), epochs=2, verbose=False, check=False)
    for x, kind in ((cupy.asarray(X), cupy.ndarray), (X, np.ndarray), (nb.tensor(X), nb.Tensor)):
        assert type(t.predict(x)) is kind
    labels = cupy.asarray([0, 1, 1, 0])
    for model in (nb.MLPClassifier(epochs=2, random_state=0), nb.MLPRegressor(epochs=2, random_state=0)):
        model.fit(cupy.asarray(X), labels)
        assert model.trainer_.device == "cuda:0"
        assert type(model.predict(cupy.asarray(X))) is cupy.ndarray
        assert isinstance(model.score(cupy.asarray(X), labels), float)
        assert type(model.predict(X)) is np.ndarray
    on_host = nb.Trainer(nn.Linear(2, 1), device="cpu").predict(cupy.asarray(X))
    assert type(on_host) is cupy.ndarray


@pytest.mark.parametrize("host", [np.arange(6.0).reshape(2, 3).T, np.arange(3, dtype=">f4"), np.float64(2.0), X[::-1]])
def test_host_data_comes_over_whole(host: Any, backend: Any) -> None:
    host = np.array(host)
    there = nb.device("cuda").put(host)
    want = host.copy()
    host[...] = 0
    assert there.flags.c_contiguous
    assert there.dtype.isnative
    np.testing.assert_array_equal(to_host(there), want)


def test_files_know_no_device(tmp_path: Any) -> None:
    """Fault 86."""
    t = trainer()
    t.fit(X, Y, epochs=2, batch_size=2, verbose=False)
    t.save_checkpoint(tmp_path / "a.safetensors")
    nb.save(t.net, tmp_path / "net.safetensors")
    for device in ("cpu", "cuda"):
        again = nb.Trainer.resume(tmp_path / "a.safetensors", device=device)
        assert again.device == nb.device(device)
        np.testing.assert_allclose(again.predict(X), t.predict(X), rtol=1e-6)
        net = nb.load(tmp_path / "net.safetensors", device=device)
        for p, q in zip(net.parameters(), t.net.parameters(), strict=True):
            np.testing.assert_array_equal(p.numpy(), q.numpy())
    copied = pickle.loads(pickle.dumps(t))
    assert copied.device == "cuda:0"
    np.testing.assert_array_equal(copied.predict(X), t.predict(X))


@two_gpus
def test_data_of_another_gpu_is_brought_over(cupy: Any) -> None:
    x, y = cupy.asarray(X, dtype="float64"), cupy.asarray(Y, dtype="float64")
    t = trainer("cuda:1")
    t.fit(x, y, sample_weight=cupy.ones(4), epochs=1, verbose=False)
    assert t.history.rows == trainer().fit(X, Y, epochs=1, verbose=False).rows
    assert t.predict(x).device == x.device
    classes, weight = cupy.asarray([0, 1, 1, 0]), {"sample_weight": cupy.ones(4), "class_weight": "balanced"}
    net = nn.MLP([2, 3, 2], "tanh")
    nb.Trainer(net, "cross_entropy", device="cuda:1", seed=0).fit(x, classes, epochs=1, verbose=False, **weight)


def test_subclasses_of_its_arrays_are_cupys(cupy: Any) -> None:
    class Mine(cupy.ndarray):  # type: ignore[misc, name-defined]
        pass

    assert nb.asarray(Mine((3,), "float32")).device == "cuda:0"


def test_memory_is_shared_with_other_libraries(cupy: Any) -> None:
    x = cupy.arange(4, dtype="float32")
    shared = nb.from_dlpack(x)
    assert shared.device == "cuda:0"
    x[0] = 7.0
    assert shared.tolist() == [7.0, 1.0, 2.0, 3.0]
    t = nb.ones(2, device="cuda")
    assert t.__dlpack_device__() == (2, 0)
    if not hasattr(cupy, "is_standin"):
        assert cupy.from_dlpack(t).data.ptr == t.data.data.ptr


INTERCHANGE = {
    "torch": """
there = torch.arange(4.0, device="cuda")
shared = nb.from_dlpack(there)
there[0] = 7.0
torch.cuda.synchronize()
assert (shared.device, shared.tolist()) == ("cuda:0", [7.0, 1.0, 2.0, 3.0])
assert nb.tensor(there).device == "cuda:0"
back = torch.from_dlpack(shared * 2.0)
assert (back.device.type, back.tolist()) == ("cuda", [14.0, 2.0, 4.0, 6.0])
""",
    "jax": """
there = jax.numpy.arange(4.0)
assert there.__dlpack_device__()[0] == 2, "JAX without CUDA"
shared = nb.from_dlpack(there)
assert (shared.device, shared.tolist()) == ("cuda:0", [0.0, 1.0, 2.0, 3.0])
assert jax.dlpack.from_dlpack(nb.ones(3, device="cuda")).tolist() == [1.0] * 3
""",
}


@pytest.mark.parametrize("library", INTERCHANGE)
def test_memory_of_other_libraries(library: str, cupy: Any) -> None:
    """In a process of its own: JAX and PyTorch warn of much that other tests do."""
    if hasattr(cupy, "is_standin") or find_spec(library) is None:
        pytest.skip(f"needs a GPU and {library}")
    script = f"import {library}\nimport nnbackend as nb\n{INTERCHANGE[library]}"
    environment = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    if "JAX without CUDA" in done.stderr:
        pytest.skip("needs JAX with CUDA")
    assert done.returncode == 0, done.stderr


def test_of_several_values_for_one_place_the_last_stays() -> None:
    """As on NumPy, eagerly and in replays, where CuPy alone leaves it open."""
    rng = np.random.default_rng(0)
    x, rows, columns = rng.random((6, 3)), rng.integers(-6, 6, 200), rng.integers(0, 3, 200)
    many, one = rng.random((200, 3)), rng.random(200)
    along = rng.integers(0, 3, (6, 9))

    def step(x: Any, rows: Any, columns: Any, many: Any, one: Any, along: Any) -> Any:
        y = nb.asarray(x, copy=True)
        y[rows] = many
        z = nb.asarray(x, copy=True)
        z[rows, columns] = one
        return y, z, nb.put_along_axis(x, along, many[:6, :1] * along.astype(x.dtype), axis=1)

    given = (x, rows, columns, many, one, along)
    want = step(*map(nb.tensor, given))
    there = [nb.tensor(a, device="cuda") for a in given]
    compiled = nb.compile(step)
    for got in (step(*there), *(compiled(*there) for _ in range(3))):
        for g, w in zip(got, want, strict=True):
            np.testing.assert_array_equal(g.numpy(), w.numpy())


# -- primitives -----------------------------------------------------------------------------------------------------

RNG = np.random.default_rng(0)
CALLS = {
    "product": [(RNG.random((3, 4)), RNG.random((4, 2))), (RNG.random((2, 3, 4)), RNG.random((3, 1, 4, 2)))],
    "affine": [(RNG.random((5, 4)), RNG.random((3, 4)), RNG.random(3)), (RNG.random((5, 4)), RNG.random((3, 4)), None)],
    "gather": [(RNG.random((5, 3)), RNG.integers(-5, 5, (2, 4)))],
    "scatter_add": [
        (RNG.random((2, 4, 3)), RNG.integers(-5, 5, (2, 4)), 5),
        (RNG.random(600), RNG.integers(0, 7, 600), 9),
        (RNG.random((0, 3)), np.zeros(0, int), 4),
        (RNG.random((3, 0)), np.zeros(3, int), 4),
        (RNG.integers(0, 9, (50, 2)), RNG.integers(0, 7, 50).astype("int8"), 8),
    ],
    "erf": [(RNG.standard_normal((3, 4)),)],
    "unfold": [
        (RNG.random((2, 3, 7, 6)), (3, 2), (2, 1), ((1, 1), (0, 1)), (1, 2)),
        (RNG.random((2, 1, 9)), (4,), (1,), ((0, 0),), (1,)),
    ],
    "uniform_like": [(RNG.random((3, 5)), 1 << 100, 2, 3), (RNG.random((0, 5)), 1, 2, 3)],
    "words_like": [(RNG.random((3, 5)), 1 << 100, 2, 3, 4)],
}


@pytest.mark.parametrize("name", CALLS)
def test_overrides_change_speed_only(name: str, backend: Any, monkeypatch: Any) -> None:
    kernels = set(backend.overrides)
    assert not kernels or kernels.issuperset(CALLS)  # the others have files of their own
    put = nb.device("cuda").put
    for args in CALLS[name]:
        for dtype in ("float32", "float64"):
            first = args[0].astype(dtype) if args[0].dtype.kind == "f" else args[0]
            given = [put(a) if isinstance(a, np.ndarray) else a for a in (first, *args[1:])]
            got, again = (to_host(PRIMITIVES[name](*given)) for _ in range(2))
            with monkeypatch.context() as patch:
                patch.setattr(backend, "overrides", {})
                want = to_host(PRIMITIVES[name](*given))
            assert (got.shape, got.dtype) == (want.shape, want.dtype)
            np.testing.assert_allclose(got, want, rtol=1e-5 if dtype == "float32" else 1e-12, atol=1e-6)
            np.testing.assert_array_equal(got, again)
