"""Stable forms and kinks. The numbers are PyTorch 2.13's (float64, CPU), written down."""

import math
from math import inf, nan
from typing import Any

import numpy as np
import pytest
from op_run import PLACES, Place

import nnbackend as nb
from nnbackend import functional as F
from nnbackend.backend import erf
from nnbackend.ops import index
from nnbackend.tensor import Tensor, lift

each_place = pytest.mark.parametrize("place", PLACES, ids=str)
EPS = {"float64": 4e-16, "float32": 2e-7}


def run(f: Any, *inputs: Any, place: Place = PLACES[0]) -> tuple[Any, list[Any]]:
    """The value and, of its sum, the gradients; floats as lists are wrapped, anything else is passed on."""
    args = [Tensor(place.put(np.array(x, np.float64)), True) if isinstance(x, list) else x for x in inputs]
    y = f(*args)
    assert y.dtype == place.dtype
    nb.sum(y).backward()
    return y.numpy(), [None if x.grad is None else x.grad.numpy() for x in args if isinstance(x, Tensor)]


def check(
    f: Any, inputs: tuple[Any, ...], value: Any, gradients: tuple[Any, ...], place: Place, rtol: float | None = None
) -> None:
    y, grads = run(f, *inputs, place=place)
    rtol = 10 * EPS[place.dtype] if rtol is None else rtol
    np.testing.assert_allclose(y, value, rtol=rtol, atol=1e-30)
    assert len(grads) == len(gradients)
    for g, want in zip(grads, gradients, strict=True):
        np.testing.assert_allclose(g, want, rtol=rtol, atol=1e-30)


# -- kinks ----------------------------------------------------------------------------------------------------------

KINKS: list[tuple[str, Any, tuple[Any, ...], Any, tuple[Any, ...]]] = [
    ("relu", F.relu, ([0.0, -inf, inf, -0.0],), [0, 0, inf, 0], ([0, 0, 1, 0],)),
    ("abs", nb.abs, ([0.0, -0.0, -inf],), [0, 0, inf], ([0, 0, -1],)),
    ("leaky_relu", F.leaky_relu, ([0.0, -2.0, inf],), [0, -0.02, inf], ([0.01, 0.01, 1],)),
    ("elu", F.elu, ([0.0, -inf, inf, -1.0],), [0, -1, inf, -0.6321205588285577], ([1, 0, 1, 0.36787944117144233],)),
    ("elu 2", lambda x: F.elu(x, alpha=2.0), ([0.0, 1.0],), [0, 1], ([2, 1],)),
    ("clip", lambda x: nb.clip(x, 0, 1), ([0.0, 1.0, -1.0, 2.0],), [0, 1, 0, 1], ([1, 1, 0, 0],)),
    ("clip to arrays", nb.clip, ([0.0, 0.5, 2.0, 0.0], [0.0, 1.0, 0.0, 1.0], [1.0, 2.0, 1.0, 1.0]), [0, 1, 1, 1],
     ([1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0])),
    ("maximum", nb.maximum, ([1.0, 2.0, 3.0], [1.0, 3.0, 2.0]), [1, 3, 3], ([0.5, 0, 1], [0.5, 1, 0])),
    ("minimum", nb.minimum, ([1.0, 2.0, 3.0], [1.0, 3.0, 2.0]), [1, 2, 2], ([0.5, 1, 0], [0.5, 0, 1])),
    ("max", nb.max, ([2.0, 1.0, 2.0],), 2, ([0.5, 0, 0.5],)),
    ("max of rows", lambda x: nb.max(x, axis=1), ([[2.0, 2.0, 2.0], [1.0, 0.0, 1.0]],), [2, 1],
     ([[1 / 3] * 3, [0.5, 0, 0.5]],)),
    ("min", nb.min, ([2.0, 1.0, 1.0],), 1, ([0, 0.5, 0.5],)),
    ("x ** 0", lambda x: x**0, ([0.0],), [1], ([0],)),
    ("x ** 1", lambda x: x**1, ([0.0],), [0], ([1],)),
    ("x ** 2", lambda x: x**2, ([0.0],), [0], ([0],)),
    ("pow", nb.pow, ([0.0, 0.0, 2.0], [0.0, 2.0, 0.0]), [1, 0, 1], ([0, 0, 0], [0, 0, math.log(2)])),
    ("0 ** b", lambda b: 0.0**b, ([0.0, 2.0],), [1, 0], ([0, 0],)),
    ("prod, one zero", nb.prod, ([2.0, 0.0, 3.0],), 0, ([0, 6, 0],)),
    ("prod, two zeros", nb.prod, ([0.0, 0.0, 3.0],), 0, ([0, 0, 0],)),
    ("prod of one", lambda x: nb.prod(x, axis=0), ([[inf, 2.0]],), [inf, 2], ([[1, 1]],)),
    ("l1", lambda x: F.l1_loss(x, nb.ones_like(x), reduction="none"), ([1.0, 2.0],), [0, 1], ([0, 1],)),
    ("huber", lambda x: F.huber_loss(x, nb.zeros_like(x), reduction="none"), ([1.0, -1.0, 2.0, 0.0],),
     [0.5, 0.5, 1.5, 0], ([1, -1, 1, 0],)),
    ("floor", nb.floor, ([0.0, 0.5, -0.5],), [0, 0, -1], ([0, 0, 0],)),
    ("ceil", nb.ceil, ([0.0, 0.5, -0.5],), [0, 1, 0], ([0, 0, 0],)),
    ("round", nb.round, ([0.5, 1.5, -0.5],), [0, 2, 0], ([0, 0, 0],)),
    ("trunc", nb.trunc, ([1.0, 0.5, -1.5],), [1, 0, -1], ([0, 0, 0],)),
    ("sign", nb.sign, ([0.0, 2.0, -0.5],), [0, 1, -1], ([0, 0, 0],)),
    ("std of constants", nb.std, ([3.0, 3.0, 3.0],), 0, ([0, 0, 0],)),
    ("var of constants", nb.var, ([3.0, 3.0, 3.0],), 0, ([0, 0, 0],)),
    ("atan2 at the origin", nb.atan2, ([0.0], [0.0]), [0], ([0], [0])),
    ("copysign", lambda a: nb.copysign(a, -1.0), ([0.0, 2.0, -2.0],), [0, -2, -2], ([0, -1, 1],)),
    ("remainder", nb.remainder, ([-1.0, 5.0], [3.0, -3.0]), [2, -1], ([1, 1], [1, 2])),
    ("stable sort", lambda x: nb.sort(x) * Tensor(x.device.put(np.arange(3, dtype=x.dtype))), ([2.0, 1.0, 2.0],),
     [0, 2, 4], ([1, 0, 2],)),
    # far out
    ("sigmoid", F.sigmoid, ([1000.0, -1000.0],), [1, 0], ([0, 0],)),
    ("softplus", F.softplus, ([1000.0, -1000.0, 0.0],), [1000, 0, math.log(2)], ([1, 0, 0.5],)),
    ("logsigmoid", F.logsigmoid, ([1000.0, -1000.0, 0.0],), [0, -1000, -math.log(2)], ([0, 1, 0.5],)),
    ("silu", F.silu, ([1000.0, -1000.0],), [1000, 0], ([1, 0],)),
    ("gelu", F.gelu, ([1000.0, -1000.0, 0.0],), [1000, 0, 0], ([1, 0, 0.5],)),
    ("gelu tanh", lambda x: F.gelu(x, approximate="tanh"), ([1000.0, -1000.0, 0.0],), [1000, 0, 0], ([1, 0, 0.5],)),
    ("tanh", nb.tanh, ([1000.0, -1000.0],), [1, -1], ([0, 0],)),
    ("elu, far", F.elu, ([1e4, -1e4],), [1e4, -1], ([1, 0],)),
    ("logaddexp", nb.logaddexp, ([1e4, -inf, 0.0], [-1e4, 0.0, 0.0]), [1e4, 0, math.log(2)],
     ([1, 0, 0.5], [0, 1, 0.5])),
    ("softmax", F.softmax, ([[1e4, -1e4, 1e4]],), [[0.5, 0, 0.5]], ([[0, 0, 0]],)),
    ("softmax, one -inf", lambda x: F.softmax(x)[..., 1], ([[-inf, 0.0, 0.0]],), [0.5], ([[0, 0.25, -0.25]],)),
    ("log_softmax", F.log_softmax, ([[1e4, -1e4]],), [[0, -2e4]], ([[-1, 1]],)),
    ("log_softmax, one -inf", lambda x: F.log_softmax(x)[..., 1], ([[-inf, 0.0, 0.0]],), [-math.log(2)],
     ([[0, 0.5, -0.5]],)),
    ("logsumexp", nb.logsumexp, ([1e4, 1e4],), 1e4 + math.log(2), ([0.5, 0.5],)),
    ("logsumexp, below", nb.logsumexp, ([-1e4, -1e4],), -1e4 + math.log(2), ([0.5, 0.5],)),
    ("logsumexp, one -inf", nb.logsumexp, ([-inf, 0.0],), 0, ([0, 1],)),
    ("bce with logits", lambda z, t: F.binary_cross_entropy_with_logits(z, t, reduction="none"),
     ([1e3, -1e3, 1e3, 0.0], [0.0, 1.0, 1.0, 0.5]), [1e3, 1e3, 0, math.log(2)], ([1, -1, 0, 0], [-1e3, 1e3, -1e3, 0])),
    ("bce",
     lambda p: F.binary_cross_entropy(p, Tensor(p.device.put(np.array([1, 0, 0, 1], p.dtype))), reduction="none"),
     ([0.0, 1.0, 0.0, 1.0],), [100, 100, 0, 0], ([-1e12, 1e12, 0, 0],)),
]  # fmt: skip


@each_place
@pytest.mark.parametrize("row", KINKS, ids=lambda row: row[0])
def test_kinks_and_extremes(row: Any, place: Place) -> None:
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        check(*row[1:], place=place)


INFINITE: list[tuple[str, Any, tuple[Any, ...], Any, tuple[Any, ...]]] = [
    ("sqrt", nb.sqrt, ([0.0],), [0], ([inf],)),
    ("x ** 0.5", lambda x: x**0.5, ([0.0],), [0], ([inf],)),
    ("reciprocal", nb.reciprocal, ([0.0],), [inf], ([-inf],)),
    ("log", nb.log, ([0.0, 1.0],), [-inf, 0], ([inf, 1],)),
    ("-2 ** b", lambda b: (-2.0) ** b, ([2.0, 3.0],), [4, -8], ([nan, nan],)),
    ("-2 ** b, arrays", nb.pow, ([-2.0], [3.0]), [-8], ([12], [nan])),
    ("hypot", nb.hypot, ([0.0], [0.0]), [0], ([nan], [nan])),
    ("logsumexp, all -inf", nb.logsumexp, ([-inf, -inf],), -inf, ([nan, nan],)),
    ("logsumexp, inf", nb.logsumexp, ([inf, 0.0],), inf, ([nan, 0],)),
    ("softmax, all -inf", F.softmax, ([[-inf, -inf]],), [[nan, nan]], ([[nan, nan]],)),
    ("mean of nothing", nb.mean, ([],), nan, ([],)),
    ("std of one", lambda x: nb.std(x, correction=1), ([3.0],), nan, ([nan],)),
    ("where with a pole", lambda x: nb.where(x > 0.0, nb.log(x), 0.0), ([0.0, 1.0],), [0, 0], ([nan, 1],)),
    ("max of nan", nb.max, ([nan, 1.0],), nan, ([nan, nan],)),
    ("sums with nan", nb.cumulative_sum, ([1.0, nan, 2.0],), [1, nan, nan], ([3, 2, 1],)),
]


@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:.*encountered in:RuntimeWarning")
@pytest.mark.parametrize("row", INFINITE, ids=lambda row: row[0])
def test_infinities(row: Any) -> None:
    check(*row[1:], place=PLACES[0])


# -- functions with more to say --------------------------------------------------------------------------------------


@each_place
def test_softmax_does_not_see_a_shift(place: Place) -> None:
    x = np.array([[0.5, -1.25, 2.0], [3.0, 0.0, -2.5]])
    for f in (F.softmax, F.log_softmax, lambda x: nb.logsumexp(x, axis=-1, keepdims=True) - x):
        (y, (g,)), (far, (far_g,)) = run(f, x.tolist(), place=place), run(f, (x + 4096.0).tolist(), place=place)
        np.testing.assert_allclose(far, y, rtol=0, atol=2000 * EPS[place.dtype])
        np.testing.assert_allclose(far_g, g, rtol=0, atol=2000 * EPS[place.dtype])


@each_place
def test_cross_entropy_of_extreme_logits(place: Place) -> None:
    labels = Tensor(place.put(np.array([1, 0])))
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        y, (g,) = run(
            lambda z: F.cross_entropy(z, labels, reduction="none"), [[-inf, 1.0, 2.0], [1e4, -1e4, 0.0]], place=place
        )
    np.testing.assert_allclose(y, [1.3132616875182228, 0.0], rtol=10 * EPS[place.dtype])
    want = [[0.0, -0.7310585786300049, 0.7310585786300049], [0.0, 0.0, 0.0]]
    np.testing.assert_allclose(g, want, rtol=10 * EPS[place.dtype])


@pytest.mark.parametrize("mean", [0.0, 1e3, 1e4, 1e5, 1e6])
@pytest.mark.parametrize("shape", [(1000,), (1000, 2), (10000, 2)])
def test_variance_far_from_zero(mean: float, shape: tuple[int, ...]) -> None:
    x = (np.random.default_rng(0).standard_normal(shape) + mean).astype(np.float32)
    exact = x.astype(np.float64)
    for f, want, slope in (
        (nb.var, np.var(exact, axis=0), 2 * (exact - exact.mean(0)) / len(x)),
        (nb.std, np.std(exact, axis=0), (exact - exact.mean(0)) / len(x) / np.std(exact, axis=0)),
    ):
        t = Tensor(x, True)
        y = f(t, axis=0)
        nb.sum(y).backward()
        assert y.dtype == np.float32
        np.testing.assert_allclose(y.numpy(), want, rtol=2e-5)
        np.testing.assert_allclose(t.grad.numpy(), slope, rtol=2e-5, atol=1e-5 * np.max(np.abs(slope)))


def test_erf_is_right_to_rounding() -> None:
    tiny = 10.0 ** np.arange(-308, 0, 4)
    x = np.concatenate([np.linspace(-7, 7, 20001), tiny, -tiny, [5e-324, 0.46875, np.nextafter(0.46875, 1)]])
    want = np.array([math.erf(v) for v in x])
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        np.testing.assert_allclose(erf(x), want, rtol=2e-15, atol=0)
        np.testing.assert_allclose(erf(x), want, rtol=0, atol=2e-15)
        np.testing.assert_allclose(
            erf(x.astype(np.float32)), [math.erf(v) for v in x.astype(np.float32)], rtol=1e-6, atol=1e-45
        )
        np.testing.assert_array_equal(erf(np.array([1e300, -3e38, inf, -inf, nan])), [1, -1, 1, -1, nan])
    np.testing.assert_array_equal(np.signbit(erf(np.array([0.0, -0.0]))), [False, True])


@each_place
def test_small_numbers_keep_their_digits(place: Place) -> None:
    x = [1e-20, -1e-20]
    for f in (nb.expm1, nb.log1p, nb.sin, nb.tanh, nb.asinh, nb.atan, nb.sinh):
        check(f, (x,), x, ([1, 1],), place)


@pytest.mark.parametrize("f", [
    F.relu, F.leaky_relu, F.elu, F.sigmoid, F.gelu, F.silu, F.softplus, F.logsigmoid, F.softmax, nb.abs, nb.sign,
    nb.max, nb.logsumexp, nb.erf, nb.std, lambda x: nb.clip(x, 0.0, 1.0), lambda x: nb.maximum(x, 0.0),
    lambda x: nb.minimum(0.0, x),
])  # fmt: skip
def test_nan_stays_nan(f: Any) -> None:
    assert np.all(np.isnan(f(Tensor(np.array([nan]))).numpy()))


def test_subnormal_numbers_and_signs_of_zero() -> None:
    odd = (nb.sin, nb.tan, nb.asin, nb.atan, nb.sinh, nb.tanh, nb.asinh, nb.atanh, nb.expm1, nb.log1p, nb.trunc, nb.erf)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        for f in (*odd, nb.negative, nb.abs, nb.square, F.relu, F.gelu, F.silu, F.elu, F.leaky_relu):
            run(f, [5e-324, -5e-324])
    for f in odd:
        np.testing.assert_array_equal(np.signbit(run(f, [0.0, -0.0])[0]), [False, True])


@each_place
def test_equal_elements_keep_their_order_when_sorted_downwards(place: Place) -> None:
    x = Tensor(place.put(np.array([2.0, 1.0, 2.0, 1.0, 3.0])))
    order = lift(index.argsort, differentiable=False)
    assert order(x, descending=True).tolist() == [4, 0, 2, 1, 3]
    assert order(x).tolist() == [1, 3, 0, 2, 4]
