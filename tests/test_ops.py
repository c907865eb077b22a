"""The op contract: every line of `op_table.py`, on every backend."""

import gc
import inspect
import operator
import pkgutil
import weakref
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes
from op_line import Case
from op_run import (
    DEVICE2,
    GRADIENT,
    LAYOUTS,
    PLACES,
    SHAPE_FROM_VALUES,
    VALUE,
    Place,
    by_op,
    check_slope,
    close,
    cotangent,
    host_gradients,
    host_second,
    is_float,
    leaves,
    like,
    made,
    pulled,
    second,
    weights,
    wrapped,
)
from op_table import TABLE

import nnbackend as nb
import nnbackend.ops
from nnbackend import functional as F
from nnbackend import tape
from nnbackend.backend import KERNELS, NUMPY, backend_of, to_host
from nnbackend.errors import ShapeError
from nnbackend.ops import index, pool, transfer
from nnbackend.ops.core import joint
from nnbackend.tensor import Tensor

each_case = by_op((case,) for case in TABLE)
each_case_and_place = by_op((case, place) for case in TABLE for place in PLACES if place.takes(case))


@pytest.fixture(autouse=True)
def strict_arithmetic() -> Iterator[None]:
    """Nothing may overflow, divide by zero or make NaN on the way."""
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        yield


# -- values and gradients -------------------------------------------------------------------------------------------


@each_case_and_place
def test_value(case: Case, place: Place) -> None:
    inputs = case.draw()
    args = wrapped(inputs, place)
    y = case.op(*args)
    assert isinstance(y, Tensor)
    assert (y.dtype, y.device) == (np.dtype(case.dtype or place.dtype), place.device)
    assert backend_of(y.data) is place.device.backend
    close(y.numpy(), case.reference(*inputs), VALUE[place.dtype])
    assert case.view or not place.on_numpy or not any(np.shares_memory(x.data, y.data) for x in leaves(args))
    raw = case.op(*(x.data if isinstance(x, Tensor) else x for x in args))
    assert backend_of(raw) is place.device.backend
    np.testing.assert_array_equal(to_host(raw), y.numpy())


@each_case_and_place
def test_gradient(case: Case, place: Place) -> None:
    inputs, dy = case.draw(), cotangent(case)
    args = wrapped(inputs, place)
    with nb.testing.synchronizations() as reads:
        y = case.op(*args)
        if not y.requires_grad:
            return
        seed = like(y, dy)
        y.backward(seed, retain_graph=True)
        firsts = [x.grad for x in leaves(args)]
        for x in leaves(args):
            x.grad = None
        y.backward(seed)
    assert not reads or case.id in SHAPE_FROM_VALUES
    np.testing.assert_array_equal(seed.numpy(), dy)
    for x, old in zip(args, inputs, strict=True):
        np.testing.assert_array_equal(x.numpy() if isinstance(x, Tensor) else x, old)
    for x, g, want in zip(leaves(args), firsts, host_gradients(case), strict=True):
        assert (g is None) == (want is None)
        if g is not None:
            assert (g.shape, g.dtype, g.device) == (x.shape, x.dtype, x.device)
            close(g.numpy(), want, GRADIENT[place.dtype])
            np.testing.assert_array_equal(g.numpy(), x.grad.numpy())  # backward twice is bit-equal


@each_case
def test_first_and_second_gradient_by_differences(case: Case) -> None:
    xs, rng = [*case.draw(), cotangent(case)], np.random.default_rng(1)
    floats = [i for i, x in enumerate(xs) if is_float(x)]
    for i, g in zip(floats, host_gradients(case), strict=False):
        check_slope(lambda xs: np.sum(xs[-1] * case.op(*xs[:-1])), xs, i, 0.0 if g is None else g, rng)

    def weighed(xs: list[Any]) -> Any:
        firsts = pulled(case, wrapped(xs[:-1]), xs[-1])
        return sum(np.sum(w * g) for w, g in zip(weights(case), firsts, strict=True) if g is not None)

    for i, g in zip(floats, host_second(case), strict=True):
        check_slope(weighed, xs, i, 0.0 if g is None else g, rng)


@by_op((case,) for case in TABLE if DEVICE2.takes(case))
def test_second_gradient_on_a_device(case: Case) -> None:
    with nb.testing.synchronizations() as reads:
        gradients = second(case, DEVICE2)
    assert not reads or case.id in SHAPE_FROM_VALUES
    for got, want in zip(gradients, host_second(case), strict=True):
        assert (got is None) == (want is None)
        if got is not None:
            close(got.numpy(), want, GRADIENT["float64"])


@by_op((case,) for case in TABLE if KERNELS)
def test_overrides_change_speed_only(case: Case) -> None:
    want = [*host_gradients(case), case.op(*case.draw())]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NUMPY, "overrides", {})
        plain = [*pulled(case, wrapped(case.draw()), cotangent(case)), case.op(*case.draw())]
    for got, w in zip(plain, want, strict=True):
        assert (got is None) == (w is None)
        if w is not None:
            close(got, w, VALUE["float64"])


# -- what is left alone ---------------------------------------------------------------------------------------------


def _unwanted(dy: Any) -> Any:
    raise AssertionError("a pullback was called for an input that needs no gradient")


def _arm(y: Tensor) -> None:
    """Let pullbacks that nobody asked for fail."""
    for t in made(y):
        node, pulls = t.node, t.node[4]
        wanted = {i for i, p in enumerate(node[2]) if leaves([p])}
        if isinstance(pulls, joint):

            def fn(dy: Any, needs: Any, wanted: Any = wanted, fn: Any = pulls.fn) -> Any:
                dxs = fn(dy, needs)
                assert [i for i, dx in enumerate(dxs) if dx is not None] == sorted(wanted)
                return dxs

            t.node = (*node[:4], joint(fn))
        else:
            t.node = (*node[:4], tuple(p if i in wanted else _unwanted for i, p in enumerate(pulls)))


@each_case
def test_inputs_that_need_no_gradient_cost_none(case: Case) -> None:
    inputs = case.draw()
    floats = [i for i, x in enumerate(inputs) if is_float(x)]
    for i, want in zip(floats, host_gradients(case), strict=True):
        args = wrapped(inputs, wanted=i.__eq__)
        y = case.op(*args)
        if y.requires_grad:
            _arm(y)
            y.backward(like(y, cotangent(case)))
        assert [k for k, x in enumerate(args) if isinstance(x, Tensor) and x.grad is not None] == [i] * (
            want is not None
        )
        if want is not None:
            np.testing.assert_array_equal(args[i].grad.numpy(), want)
    assert not case.op(*wrapped(inputs, wanted=lambda i: False)).requires_grad


@each_case
def test_gradients_share_memory_with_nothing(case: Case) -> None:
    args = wrapped(case.draw())
    y = case.op(*args)
    if y.requires_grad:
        seed = like(y, cotangent(case))
        y.backward(seed)
        gradients = [x.grad.data for x in leaves(args) if x.grad is not None]
        others = [y.data, seed.data, *(x.data for x in args if isinstance(x, Tensor))]
        for i, g in enumerate(gradients):
            assert not any(np.shares_memory(g, other) for other in (*others, *gradients[:i]))


@each_case
def test_the_graph_dies_without_the_collector(case: Case) -> None:
    def run(backward: bool) -> list[Any]:
        args = wrapped(case.draw())
        y = case.op(*args)
        tensors = [y, *(x for x in args if isinstance(x, Tensor)), *made(y)]
        if backward and y.requires_grad:
            y.backward(like(y, cotangent(case)))
            assert all(t.node is tape.FREED for t in tensors if t.node is not None)
        return [weakref.ref(o) for t in tensors for o in (t, t.data) if isinstance(o, Tensor | np.ndarray)]

    gc.disable()
    try:
        for backward in (False, True):
            assert not [ref for ref in run(backward) if ref() is not None]
    finally:
        gc.enable()


# -- inputs of all kinds --------------------------------------------------------------------------------------------


@each_case
def test_memory_layout_does_not_matter(case: Case) -> None:
    inputs, dy = case.draw(), cotangent(case)
    one_value = [np.full(x.shape, x.flat[0]) if is_float(x) and x.size else x for x in inputs]
    for xs, layout in [
        *((inputs, layout) for layout in LAYOUTS),
        *([(one_value, lambda x: np.broadcast_to(x.flat[0], x.shape))] if case.equal else []),
    ]:
        plain = wrapped(xs)
        args = [
            Tensor(layout(x), x.dtype == np.float64) if is_float(x) and x.size else a
            for x, a in zip(xs, plain, strict=True)
        ]
        y, want = case.op(*args), case.op(*plain)
        close(y.numpy(), want.numpy(), VALUE["float64"])
        if y.requires_grad:
            y.backward(Tensor(layout(dy) if xs is inputs else dy))
            want.backward(Tensor(dy))
        for x, other in zip(leaves(args), leaves(plain), strict=True):
            assert (x.grad is None) == (other.grad is None)
            if x.grad is not None:
                close(x.grad.numpy(), other.grad.numpy(), VALUE["float64"])


TWINS = [c for c in TABLE if len(s := [x.shape for x in c.draw() if is_float(x)]) == 2 and s[0] == s[1]]
TWINS = [c for c in TWINS if c.name != "binary_cross_entropy_with_logits"]  # its two arguments have no domain in common


@by_op((case,) for case in TWINS)
def test_the_same_input_twice_gets_both_gradients(case: Case) -> None:
    inputs = case.draw()
    first, again = (i for i, x in enumerate(inputs) if is_float(x))
    inputs[again] = inputs[first]
    both = [g for g in pulled(case, wrapped(inputs), cotangent(case)) if g is not None]
    args = wrapped(inputs)
    args[again] = args[first]
    y = case.op(*args)
    y.backward(like(y, cotangent(case)))
    close(args[first].grad.numpy(), sum(both), VALUE["float64"])


def _where(a: Any, b: Any) -> Any:
    device = (a if isinstance(a, Tensor) else b).device
    return nb.where(Tensor(device.put(np.array([True, False, True]))), a, b)


BINARY = [
    operator.add,
    operator.sub,
    operator.mul,
    operator.truediv,
    operator.pow,
    operator.mod,
    nb.maximum,
    nb.minimum,
]
BINARY += [nb.hypot, nb.copysign, nb.logaddexp, nb.atan2, _where]


@pytest.mark.parametrize("place", [place for place in PLACES if place.dtype == "float32"], ids=str)
@pytest.mark.parametrize(
    "scalar", [2, 2.0, np.float64(2.0), np.float32(2.0), np.int64(2)], ids=lambda s: type(s).__name__
)
@pytest.mark.parametrize("f", BINARY, ids=lambda f: f.__name__)
def test_numbers_do_not_promote(f: Any, scalar: Any, place: Place) -> None:
    x = np.array([0.5, 1.25, 2.75])
    for call in (lambda t, s: f(t, s), lambda t, s: f(s, t)):
        t, full = Tensor(place.put(x), True), Tensor(x, True)
        y, want = call(t, scalar), call(full, Tensor(np.full(3, 2.0)))
        assert (y.dtype, y.device) == (np.float32, place.device)
        close(y.numpy(), want.numpy(), VALUE["float32"])
        nb.sum(y).backward()
        nb.sum(want).backward()
        if t.grad is None:  # the sign that copysign takes
            assert full.grad is None
        else:
            assert t.grad.dtype == np.float32
            close(t.grad.numpy(), full.grad.numpy(), GRADIENT["float32"])


@given(mutually_broadcastable_shapes(num_shapes=2, min_side=0, max_side=3, max_dims=4), st.integers(0, 99))
def test_any_shapes_that_broadcast(shapes: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = (Tensor(rng.standard_normal(s), True) for s in shapes.input_shapes)
    y = a * b
    dy, v = rng.standard_normal(y.shape), rng.standard_normal(a.shape)
    y.backward(Tensor(dy))
    assert (y.shape, a.grad.shape, b.grad.shape) == (shapes.result_shape, a.shape, b.shape)
    close(np.sum(a.grad.numpy() * v), np.sum(dy * (v * b.numpy())), VALUE["float64"])


@pytest.mark.parametrize("axis", [3, -4])
@pytest.mark.parametrize(
    "f",
    [
        nb.sum, nb.mean, nb.max, nb.prod, nb.var, nb.std, nb.logsumexp, nb.cumulative_sum, nb.flip, nb.sort, nb.unstack,
        lambda x, axis: nb.split(x, 1, axis=axis), lambda x, axis: nb.repeat(x, 2, axis=axis),
        lambda x, axis: nb.take(x, nb.tensor([0]), axis=axis), lambda x, axis: nb.roll(x, 1, axis=axis),
        lambda x, axis: nb.take_along_axis(x, nb.zeros((2, 3, 5), dtype="int64"), axis=axis),
        lambda x, axis: nb.concat([x, x], axis=axis), lambda x, axis: F.softmax(x, axis),
        lambda x, axis: nb.tensordot(x, x, axes=((axis,), (0,))), lambda x, axis: nb.moveaxis(x, axis, 0),
    ],
)  # fmt: skip
def test_an_axis_that_is_not_there(f: Any, axis: int) -> None:
    with pytest.raises(ShapeError):
        f(nb.ones((2, 3, 5)), axis=axis)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: nb.take(nb.ones((3, 5)), nb.tensor([[0, 1], [1, 2]]), axis=1),
            r"take: expected 1-D indices, got shape \(2, 2\)",
        ),
        (lambda: nb.split(nb.ones((2, 5)), (2, 2), axis=1), r"split: expected lengths that add up to 5"),
        (
            lambda: nb.add(nb.ones((2, 3)), nb.ones(4)),
            r"add: expected shapes that fit together, got \(2, 3\) and \(4,\)",
        ),
        (lambda: nb.sum(nb.ones((2, 3)), axis=(0, 0)), r"sum: .*duplicate value in 'axis'"),
        (lambda: nb.max(nb.ones((0, 3)), axis=0), r"max: .*zero-size"),
        (lambda: nb.argmax(nb.ones((0, 3)), axis=0), r"argmax: .*empty sequence"),
        (lambda: nb.pad(nb.ones((3,)), widths=((0, -1),)), r"pad: expected 1 pairs of widths >= 0"),
        (lambda: nb.pad(nb.ones((3, 2)), widths=((0, 1),)), r"pad: expected 2 pairs"),
        (lambda: nb.cumulative_sum(nb.ones((2, 3))), r"axis: expected a number for an array of shape \(2, 3\)"),
        (lambda: nb.tensordot(nb.ones((2, 3)), nb.ones((2, 3)), axes=1), r"tensordot: expected equal lengths"),
        (
            lambda: nb.einsum("ij,jk->ik", nb.ones((2, 3)), nb.ones((2, 3))),
            r"einsum: expected shapes that fit 'ij,jk->ik'",
        ),
        (lambda: nb.einsum("ij->ij", nb.ones((2,))), r"einsum: expected shapes that fit"),
        (lambda: nb.einsum("ij,jk", nb.ones((2, 3))), r"einsum: expected 2 operands"),
        (lambda: nb.einsum("ij->ik", nb.ones((2, 3))), r"einsum: expected distinct letters of the inputs"),
        (lambda: nb.einsum("i+j->i", nb.ones((2, 3))), r"einsum: expected letters"),
        (lambda: F.linear(nb.ones((5, 3)), nb.ones((2, 4))), r"expected input \(\.\.\., 4\), got \(5, 3\)"),
        (lambda: F.gelu(nb.ones((3,)), approximate="erf"), r'gelu: expected approximate="none" or "tanh"'),
    ],
)
def test_bad_arguments_are_named(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("place", PLACES[1:], ids=str)
def test_gradients_find_their_way_home(place: Place) -> None:
    x = Tensor(np.array([1.5, -2.0], place.dtype), True)
    far = x.to(place.device)
    assert far.device == place.device
    y = (far * far).to("cpu")
    y.backward(Tensor(np.array([1.0, 10.0], place.dtype)), create_graph=True)
    assert (x.grad.device, x.grad.tolist()) == ("cpu", [3.0, -40.0])
    g, x.grad = x.grad, None
    nb.sum(g).backward()
    assert x.grad.tolist() == [2.0, 20.0]


# -- the table itself -----------------------------------------------------------------------------------------------

OPS = {
    f
    for room in pkgutil.iter_modules(nnbackend.ops.__path__)
    for _, f in inspect.getmembers(import_module(f"nnbackend.ops.{room.name}"), inspect.isfunction)
    if not f.__name__.startswith("_") and f.__annotations__.get("return") == "Op"
}
ELSEWHERE = {index.one_hot, index.argsort, pool.max_pool_indices, transfer.to_device}  # without a gradient


def test_every_op_has_a_line_that_runs_it() -> None:
    run = set()
    for case in TABLE:
        y = case.op(*wrapped(case.draw(), PLACES[1]))  # float32, so that casts to float64 are casts
        run |= {t.node[1] for t in made(y)}
    assert {f"{f.__module__}.{f.__name__}" for f in OPS - ELSEWHERE - run} == set()
    assert len({case.id for case in TABLE}) == len(TABLE)
