"""The op contract: every line of `op_table.py`, on every backend."""

import gc
import inspect
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import array_api_strict
import numpy as np
import pytest
from op_line import Case
from op_table import TABLE

import nnbackend.array as nb
from nnbackend import functional as F
from nnbackend import tape
from nnbackend.backend import NUMPY, Backend, Device, backend_of, cuda_status, device, to_host
from nnbackend.errors import ShapeError
from nnbackend.ops import activation, elementwise, index, linear, loss, reduce, shape
from nnbackend.ops.core import joint
from nnbackend.tensor import Tensor

StrictArray = type(array_api_strict.ones(()))
SYNCS = ("__float__", "__int__", "__bool__", "__index__", "__complex__")


@dataclass(frozen=True)
class Place:
    """A device and a float dtype: where a case runs."""

    device: Device
    dtype: str

    def put(self, host: Any) -> Any:
        return self.device.put(host.astype(self.dtype) if host.dtype.kind == "f" else host)

    def takes(self, case: Case) -> bool:
        strict = self.device.backend is not NUMPY and not str(self.device).startswith("cuda")
        return (case.strict or not strict) and not (case.dtype == "float64" and "no_float64" in str(self.device))


def _places() -> Iterator[Place]:
    names: list[tuple[Any, str]] = [("cpu", "float64"), ("cpu", "float32")]
    names += [(array_api_strict.Device("device1"), "float64"), (array_api_strict.Device("device1"), "float32")]
    names += [(array_api_strict.Device("no_float64"), "float32")]
    if cuda_status().usable:
        names += [("cuda", "float64"), ("cuda", "float32")]
    for spec, dtype in names:
        yield Place(device(spec), dtype)


PLACES = list(_places())
HOST, HOST32 = PLACES[:2]
each_case = pytest.mark.parametrize("case", TABLE, ids=lambda case: case.id)
each_case_and_place = pytest.mark.parametrize(
    ("case", "place"),
    [pytest.param(case, place, id=f"{case.id} [{place.device} {place.dtype}]") for case in TABLE for place in PLACES if place.takes(case)],
)


@pytest.fixture(autouse=True)
def strict_arithmetic() -> Iterator[None]:
    """Nothing may overflow, divide by zero or make NaN on the way."""
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        yield


@contextmanager
def host_reads() -> Iterator[list[str]]:
    """What is read back to the host meanwhile."""
    seen: list[str] = []

    def counted(kind: type, name: str) -> Callable[..., Any]:
        original = getattr(kind, name)

        def read(self: Any, *args: Any) -> Any:
            seen.append(name)
            return original(self, *args)

        return read

    with pytest.MonkeyPatch.context() as patch:
        for name in SYNCS:
            patch.setattr(StrictArray, name, counted(StrictArray, name))
        patch.setattr(Backend, "to_host", counted(Backend, "to_host"))
        yield seen


# -- running a case -------------------------------------------------------------------------------------------------


def is_float(x: Any) -> bool:
    return isinstance(x, np.ndarray) and x.dtype == np.float64


def wrapped(inputs: list[Any], place: Place) -> list[Any]:
    """Arrays as Tensors, the floats with gradients; numbers as they are."""
    return [Tensor(place.put(x), requires_grad=is_float(x)) if isinstance(x, np.ndarray) else x for x in inputs]


def cotangent(case: Case) -> Any:
    """A random gradient for the result; float32 can hold it."""
    shape = np.shape(case.reference(*case.draw()))
    return case.rng().standard_normal(shape).astype(np.float32).astype(np.float64)


def leaves(args: list[Any]) -> list[Tensor]:
    return [x for x in args if isinstance(x, Tensor) and x.requires_grad]


def with_seed(y: Tensor, dy: Any, place: Place) -> Tensor:
    return Tensor(y.device.put(dy.astype(y.dtype)))


def pulled(case: Case, place: Place, inputs: list[Any], dy: Any) -> list[Any]:
    """The gradients of the float inputs on the host, None where the op says there is none."""
    args = wrapped(inputs, place)
    y = case.op(*args)
    if y.requires_grad:
        y.backward(with_seed(y, dy, place))
    return [None if x.grad is None else np.array(x.grad.numpy()) for x in leaves(args)]


def second(case: Case, place: Place, inputs: list[Any], dy: Any, weights: list[Any]) -> list[Any]:
    """The gradients of sum(weights * gradients) for the float inputs and for `dy`."""
    args = wrapped(inputs, place)
    y = case.op(*args)
    seed = with_seed(y, dy, place).requires_grad_()
    y.backward(seed, create_graph=True)
    terms = [nb.sum(x.grad * Tensor(place.put(w))) for x, w in zip(leaves(args), weights, strict=True) if x.grad is not None]
    for x in leaves(args):
        x.grad = None
    for term in terms:
        if term.requires_grad:
            term.backward(retain_graph=True)
    return [np.zeros(x.shape) if x.grad is None else np.array(x.grad.numpy()) for x in (*leaves(args), seed)]


def weights_of(case: Case) -> list[Any]:
    rng = np.random.default_rng(7)
    return [rng.standard_normal(x.shape).astype(np.float32).astype(np.float64) for x in case.draw() if is_float(x)]


@cache
def host_gradients(case: Case) -> list[Any]:
    return pulled(case, HOST, case.draw(), cotangent(case))


@cache
def host_second(case: Case) -> list[Any]:
    return second(case, HOST, case.draw(), cotangent(case), weights_of(case))


def close(got: Any, want: Any, dtype: str, tolerances: dict[str, tuple[float, float]]) -> None:
    rtol, atol = tolerances[dtype]
    assert np.shape(got) == np.shape(want)
    np.testing.assert_allclose(got, want, rtol=rtol, atol=atol)


VALUE = {"float64": (1e-10, 1e-12), "float32": (1.3e-6, 1e-5)}
GRADIENT = {"float64": (1e-8, 1e-10), "float32": (1e-4, 1e-5)}
DIFFERENCE = {"float64": (1e-6, 1e-7)}


def directional(f: Callable[[list[Any]], Any], inputs: list[Any], i: int, rng: np.random.Generator) -> tuple[Any, float]:
    """A direction for input i, and the derivative of the number `f(inputs)` along it, by central differences."""
    x = inputs[i]
    v = rng.standard_normal(x.shape) * np.maximum(1.0, np.abs(x))
    eps = 6e-6
    up, down = (f([*inputs[:i], x + s * eps * v, *inputs[i + 1 :]]) for s in (1, -1))
    return v, (up - down) / (2 * eps)


# -- the contract ---------------------------------------------------------------------------------------------------


@each_case_and_place
def test_value(case: Case, place: Place) -> None:
    inputs = case.draw()
    args = wrapped(inputs, place)
    before = [np.array(to_host(x.data)) if isinstance(x, Tensor) else x for x in args]
    want = case.reference(*inputs)
    y = case.op(*args)
    expected = "float64" if case.dtype == "float64" else place.dtype
    assert isinstance(y, Tensor)
    assert (y.dtype, y.device) == (np.dtype(case.dtype or place.dtype), place.device)
    assert backend_of(y.data) is place.device.backend
    close(y.numpy(), want, place.dtype, VALUE)
    for x, old in zip(args, before, strict=True):
        if isinstance(x, Tensor):
            np.testing.assert_array_equal(x.numpy(), old)
            assert place.device.backend is not NUMPY or case.view or not np.shares_memory(x.data, y.data)
    raw = case.op(*(x.data if isinstance(x, Tensor) else x for x in args))
    assert backend_of(raw) is place.device.backend
    np.testing.assert_array_equal(to_host(raw), y.numpy())


@each_case_and_place
def test_gradient(case: Case, place: Place) -> None:
    inputs, dy = case.draw(), cotangent(case)
    args = wrapped(inputs, place)
    seed = Tensor(place.device.put(dy.astype(case.dtype or place.dtype)))
    with host_reads() as reads:
        y = case.op(*args)
        if y.requires_grad:
            y.backward(seed, retain_graph=True)
    assert not reads or str(place.device) == "cpu"
    np.testing.assert_array_equal(seed.numpy(), dy)
    for x, old in zip(args, inputs, strict=True):
        if isinstance(x, Tensor):
            np.testing.assert_array_equal(x.numpy(), old)
    firsts = [x.grad for x in leaves(args)]
    for x, g, want in zip(leaves(args), firsts, host_gradients(case), strict=True):
        assert (g is None) == (want is None)
        if g is not None:
            assert (g.shape, g.dtype, g.device) == (x.shape, x.dtype, x.device)
            close(g.numpy(), want, place.dtype, GRADIENT)
            x.grad = None
    if y.requires_grad:
        y.backward(seed)
    for x, g in zip(leaves(args), firsts, strict=True):
        if g is not None:
            np.testing.assert_array_equal(x.grad.numpy(), g.numpy())
