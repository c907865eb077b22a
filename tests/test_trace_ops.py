"""Every line of the op table in a recorded step: the recording, and the program it leaves, agree with eager exactly."""

import zlib
from typing import Any

import numpy as np
import pytest
from op_line import Case, Draw
from op_run import DEVICE2, PLACES, SHAPE_FROM_VALUES, Place, by_op, cotangent, is_float, leaves, like, weights
from op_table import TABLE

import nnbackend as nb
from nnbackend.backend import to_host
from nnbackend.program import interpret
from nnbackend.program.record import Recording
from nnbackend.tensor import Tensor

ARRAY = object()
RECORDED = [
    (case, place)
    for case in TABLE
    for place in (*PLACES[:2], DEVICE2)
    if place.takes(case) and case.id not in SHAPE_FROM_VALUES
]


def drawn(case: Case, place: Place, seed: int) -> list[Any]:
    """The inputs of a case as Tensors without history, numbers as they are; other values for another seed."""
    rng = np.random.default_rng((zlib.crc32(case.id.encode()), seed))
    inputs = [x(rng) if isinstance(x, Draw) else x for x in case.inputs] if seed else case.draw()
    return [Tensor(place.put(x)) if isinstance(x, np.ndarray) else x for x in inputs]


def split(args: list[Any]) -> tuple[list[Tensor], list[Any]]:
    """Tensors apart from the settings, which a step does not take as arguments."""
    return [x for x in args if isinstance(x, Tensor)], [ARRAY if isinstance(x, Tensor) else x for x in args]


def joined(case: Case, tensors: list[Tensor], settings: list[Any]) -> list[Any]:
    """The arguments of a case again; leaves that want a gradient where they are floats."""
    rest = iter(tensors)
    args = [next(rest) if x is ARRAY else x for x in settings]
    return [Tensor(x.data, True) if is_float(old) else x for x, old in zip(args, case.draw(), strict=True)]


def of(case: Case, settings: list[Any]) -> Any:
    """A step that gives the value and the gradients, where there are any."""

    def step(tensors: list[Tensor], dy: Tensor) -> list[Any]:
        args = joined(case, tensors, settings)
        y = case.op(*args)
        if y.requires_grad:
            y.backward(dy)
        return [y.detach(), *(x.grad for x in leaves(args))]

    return step


def twice(case: Case, settings: list[Any], ws: list[Tensor]) -> Any:
    """A step that gives the gradients of a weighted sum of the gradients."""

    def step(tensors: list[Tensor], dy: Tensor) -> list[Any]:
        args, seed = joined(case, tensors, settings), Tensor(dy.data, True)
        y = case.op(*args)
        if y.requires_grad:
            y.backward(seed, create_graph=True)
        firsts = [(x.grad, w) for x, w in zip(leaves(args), ws, strict=True) if x.grad is not None]
        for x in leaves(args):
            x.grad = None
        for g, w in firsts:
            if g.requires_grad:
                nb.sum(g * w).backward(retain_graph=True)
        return [x.grad if x.grad is None else x.grad.detach() for x in (*leaves(args), seed)]

    return step


def same(got: list[Any], want: list[Any]) -> None:
    for a, b in zip(got, want, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            a, b = (to_host(x.data if isinstance(x, Tensor) else x) for x in (a, b))
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


def agrees(step: Any, place: Place, first: list[Any], second: list[Any]) -> None:
    """Recorded with the `first` arguments, and interpreted with them and with the `second`."""
    want = step(*first)
    with nb.testing.synchronizations() as reads:
        recording = Recording(step, tuple(first), {})
    assert not reads
    assert recording.broken is None
    same(recording.result, want)
    for (tensors, dy), eager in ((first, want), (second, step(*second))):
        raw = [x.data for x in (*tensors, dy)]
        same(interpret.run(recording.program, raw), [x for x in eager if x is not None])


@by_op(RECORDED)
def test_values_and_gradients(case: Case, place: Place) -> None:
    tensors, settings = split(drawn(case, place, 0))
    dy = like(case.op(*drawn(case, place, 0)), cotangent(case))
    agrees(of(case, settings), place, [tensors, dy], [split(drawn(case, place, 1))[0], dy])


@by_op((case, place) for case, place in RECORDED if place in (PLACES[0], DEVICE2))
def test_second_gradients(case: Case, place: Place) -> None:
    tensors, settings = split(drawn(case, place, 0))
    dy = like(case.op(*drawn(case, place, 0)), cotangent(case))
    ws = [Tensor(place.put(w)) for w in weights(case)]
    agrees(twice(case, settings, ws), place, [tensors, dy], [split(drawn(case, place, 1))[0], dy])


@pytest.mark.parametrize("place", [PLACES[0], DEVICE2], ids=str)
@pytest.mark.parametrize("name", sorted(SHAPE_FROM_VALUES))
def test_a_shape_that_depends_on_values_breaks_the_recording(name: str, place: Place) -> None:
    case = next(case for case in TABLE if case.id == name)
    if not place.takes(case):
        pytest.skip("not on this device")
    tensors, settings = split(drawn(case, place, 0))
    dy, step = like(case.op(*drawn(case, place, 0)), cotangent(case)), of(case, settings)
    recording = Recording(step, (tensors, dy), {})
    assert "has a shape that depends on values" in str(recording.broken)
    same(recording.result, step(tensors, dy))
