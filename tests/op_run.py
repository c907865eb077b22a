"""How a line of `op_table.py` is run: on which devices, forward, backward, twice backward, by differences."""

import functools
import inspect
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import array_api_strict
import numpy as np
import pytest
from op_line import Case

import nnbackend as nb
from nnbackend.backend import KERNELS, NUMPY, Device, cuda_status
from nnbackend.tensor import Tensor

STANDIN = os.environ.get("NNBACKEND_TEST_CUPY") == "standin"
# Relative and absolute tolerance.
VALUE = {"float64": (1e-10, 1e-12), "float32": (1.3e-6, 1e-5)}
GRADIENT = {"float64": (1e-8, 1e-10), "float32": (1e-4, 1e-5)}  # against the float64 run
DIFFERENCE = {"float64": (1e-6, 1e-7)}

# -- places ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """A device and a float dtype: where a case runs."""

    device: Device
    dtype: str

    def __str__(self) -> str:
        return f"{self.device} {self.dtype}"

    def put(self, host: Any) -> Any:
        return self.device.put(host.astype(self.dtype) if host.dtype.kind == "f" else host)

    @property
    def pretend(self) -> bool:
        """A device of array-api-strict, which has the standard and nothing else."""
        return self.device.backend.name == "array_api_strict"

    @property
    def on_numpy(self) -> bool:
        """NumPy itself: memory can be looked at."""
        return self.device.backend is NUMPY

    def takes(self, case: Case) -> bool:
        if STANDIN and self.device.backend.name != "cupy":  # the others have been run without it
            return False
        if self.pretend and not (case.strict and KERNELS):  # without kernels a run there is the same run again
            return False
        return not ("no_float64" in str(self) and case.dtype == "float64")


def _pretend(name: str) -> Device:
    return nb.device(array_api_strict.Device(name))


PLACES = [Place(nb.device("cpu"), dtype) for dtype in ("float64", "float32")]
PLACES.append(Place(_pretend("device2"), "float64"))  # makes float32 of what nobody gives a dtype,
PLACES.append(Place(_pretend("device1"), "float32"))  # and this float64, so that both would show
PLACES.append(Place(_pretend("no_float64"), "float32"))
if cuda_status().usable:
    PLACES += [Place(nb.device("cuda"), "float64"), Place(nb.device("cuda"), "float32")]
HOST, DEVICE2 = PLACES[0], PLACES[2]
FAR = list(dict.fromkeys(place.device for place in PLACES if place.dtype == "float64" and not place.on_numpy))

SHAPE_FROM_VALUES = {  # boolean masks as an index, and a count for each element: the host must look
    "repeat (2,3) (6,) axis=None", "repeat (2,3,5) (3,) axis=1", "repeat (2,3,5) (1,) axis=-1",
    "getitem (4,3) (4,3)", "getitem (4,3) (4,)", "getitem (4,3) (4,) (2,)", "setitem (4,3) () (4,3)",
    "setitem (4,3) (2,3) (4,)",
}  # fmt: skip


def by_op(points: Iterable[tuple[Any, ...]]) -> Callable[[Callable[..., None]], Callable[[str], None]]:
    """A check of a point, `(case,)` or `(case, place)`, as one test for each op, which names the points where it fails.

    There are tens of thousands of points: a test for each takes longer to begin and to report than to run.
    """
    of: dict[str, list[tuple[Any, ...]]] = {}
    for point in points:
        of.setdefault(point[0].name, []).append(point)

    def decorated(check: Callable[..., None]) -> Callable[[str], None]:
        @pytest.mark.parametrize("name", of)
        @functools.wraps(check)
        def test(name: str) -> None:
            failures = []
            for point in of[name]:
                try:
                    check(*point)
                except Exception as error:
                    error.add_note(" ".join([f"at {point[0].id}", *(f"[{place}]" for place in point[1:])]))
                    failures.append(error)
            if failures:
                ids = "".join(f"\n  {error.__notes__[-1]}" for error in failures)
                raise ExceptionGroup(f"{name}: {len(failures)} of {len(of[name])} points fail{ids}", failures[:3])

        test.__signature__ = inspect.Signature([inspect.Parameter("name", inspect.Parameter.POSITIONAL_OR_KEYWORD)])
        return test

    return decorated


# -- runs -----------------------------------------------------------------------------------------------------------


def is_float(x: Any) -> bool:
    return isinstance(x, np.ndarray) and x.dtype == np.float64


def wrapped(inputs: list[Any], place: Place = HOST, wanted: Callable[[int], bool] = lambda i: True) -> list[Any]:
    """Arrays as Tensors, the floats with gradients; numbers as they are."""
    return [
        Tensor(place.put(x), requires_grad=is_float(x) and wanted(i)) if isinstance(x, np.ndarray) else x
        for i, x in enumerate(inputs)
    ]


def leaves(args: Iterable[Any]) -> list[Tensor]:
    """Those that want a gradient."""
    return [x for x in args if isinstance(x, Tensor) and x.requires_grad]


def like(y: Tensor, host: Any, requires_grad: bool = False) -> Tensor:
    """Host data as a Tensor of the dtype and on the device of `y`."""
    return Tensor(y.device.put(host.astype(y.dtype)), requires_grad)


def rounded(x: Any) -> Any:
    return x.astype(np.float32).astype(np.float64)


@functools.cache
def cotangent(case: Case) -> Any:
    """A random gradient of the result; float32 can hold it."""
    return rounded(case.rng().standard_normal(np.shape(case.reference(*case.draw()))))


def pulled(case: Case, args: list[Any], dy: Any) -> list[Any]:
    """The gradients of the leaves on the host, None where the op says there is none."""
    y = case.op(*args)
    if y.requires_grad:
        y.backward(like(y, dy))
    return [None if x.grad is None else np.array(x.grad.numpy()) for x in leaves(args)]


@functools.cache
def host_gradients(case: Case) -> list[Any]:
    return pulled(case, wrapped(case.draw()), cotangent(case))


@functools.cache
def weights(case: Case) -> list[Any]:
    """Random weights for the gradients of the floats."""
    rng = np.random.default_rng(7)
    return [rounded(rng.standard_normal(x.shape)) for x in case.draw() if is_float(x)]


def second(case: Case, place: Place) -> list[Any]:
    """The gradients, or None, of sum(weights * gradients) for the float inputs and, last, for the cotangent."""
    args = wrapped(case.draw(), place)
    y = case.op(*args)
    seed = like(y, cotangent(case), True)
    if y.requires_grad:
        y.backward(seed, create_graph=True)
    firsts = [(x.grad, w) for x, w in zip(leaves(args), weights(case), strict=True) if x.grad is not None]
    for x in leaves(args):
        x.grad = None
    for g, w in firsts:
        if g.requires_grad:
            nb.sum(g * like(g, w)).backward(retain_graph=True)
    return [x.grad for x in (*leaves(args), seed)]


@functools.cache
def host_second(case: Case) -> list[Any]:
    return [None if g is None else g.numpy() for g in second(case, HOST)]


def made(y: Tensor) -> list[Tensor]:
    """The Tensors that operations have made on the way to `y`."""
    found, stack = {}, [y]
    while stack:
        t = stack.pop()
        if t.node is not None and id(t) not in found:
            found[id(t)] = t
            stack += leaves(t.node[2])
    return list(found.values())


# -- the same values laid out otherwise ------------------------------------------------------------------------------


def _strided(x: Any) -> Any:
    wide = np.zeros((*x.shape, 2), x.dtype)
    wide[..., 0] = x
    return wide[..., 0]


def _read_only(x: Any) -> Any:
    y = x.copy()
    y.flags.writeable = False
    return y


LAYOUTS: list[Callable[[Any], Any]] = [
    lambda x: np.array(x, order="F"),
    lambda x: np.flip(np.flip(x).copy()),
    _strided,
    _read_only,
]


# -- comparisons ----------------------------------------------------------------------------------------------------


def close(got: Any, want: Any, tolerance: tuple[float, float]) -> None:
    assert np.shape(got) == np.shape(want)
    np.testing.assert_allclose(got, want, rtol=tolerance[0], atol=tolerance[1])


def check_slope(f: Callable[[list[Any]], Any], xs: list[Any], i: int, gradient: Any, rng: np.random.Generator) -> None:
    """The gradient of the number `f(xs)` for `xs[i]`, by central differences in a random direction."""
    v = rng.standard_normal(xs[i].shape) * np.maximum(1.0, np.abs(xs[i]))
    eps = 6e-6
    up, down = (f([*xs[:i], np.asarray(xs[i] + step * v), *xs[i + 1 :]]) for step in (eps, -eps))
    close(np.sum(gradient * v), (up - down) / (2 * eps), DIFFERENCE["float64"])
