"""grad, value_and_grad and gradcheck: functions in, gradients out, nested as deep as one likes."""

import inspect
import itertools
import math

import array_api_compat
import array_api_strict as strict
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import nn, optim
from nnbackend.errors import DTypeError, GraphError
from nnbackend.grad_mode import recording
from nnbackend.tensor import lift
from nnbackend.testing import gradcheck

D1 = strict.Device("device1")
RNG = np.random.default_rng(0)


def on(device, values, dtype=strict.float64):
    return strict.asarray(values, dtype=dtype, device=device)


def slope_of(f, x, v, h=1e-6):
    """Central difference of f along v."""
    return (float(f(x + h * v)) - float(f(x - h * v))) / (2.0 * h)


# -- what goes in comes out ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "kind", "dtype"),
    [
        (3.0, float, None),
        (3, float, None),
        (np.float64(3.0), np.float64, "float64"),
        (np.array(3.0, np.float32), (np.ndarray, np.float32), "float32"),
        (np.full((2, 3), 3.0), np.ndarray, "float64"),
        (np.full(2, 3.0, np.float32)[::-1], np.ndarray, "float32"),
        (on(D1, [3.0, 3.0]), type(on(D1, 0.0)), "float64"),
        (nb.tensor([3.0, 3.0]), nb.Tensor, "float32"),
        (nb.tensor([3.0], "float64", D1), nb.Tensor, "float64"),
        (nb.tensor(3.0, requires_grad=True), nb.Tensor, "float32"),
        (nn.Parameter(np.array([3.0, 3.0])), nb.Tensor, "float64"),
        ([3.0, 3.0], nb.Tensor, "float32"),
    ],
)
@pytest.mark.parametrize("quiet", [False, True], ids=["recording", "no_grad"])
def test_kinds(x, kind, dtype, quiet):
    def cube(x):
        return (x * x * x).sum()

    with nb.no_grad() if quiet else nb.enable_grad():
        value, slope = nb.value_and_grad(cube)(x)
        assert recording.get() != quiet
        alone = nb.grad(cube)(x)
    for g in (slope, alone):
        assert isinstance(g, kind)
        host = nb.asarray(g).numpy()
        np.testing.assert_array_equal(host, np.full(np.shape(x) if not hasattr(x, "shape") else x.shape, 27.0))
        assert dtype is None or host.dtype == dtype
        assert nb.asarray(g).device == (x.device if isinstance(x, nb.Tensor) else nb.asarray(x).device)
    assert float(value) == 27.0 * host.size
    assert isinstance(value, nb.Tensor) == isinstance(slope, nb.Tensor)
    if isinstance(x, nb.Tensor):
        assert x.grad is None
        assert slope.requires_grad == value.requires_grad == (x.requires_grad and not quiet)
        assert value.requires_grad or value.node is None  # no graph is kept alive by a value


def test_results_are_ones_own():
    a = np.ones(3)
    ga, gb = nb.grad(lambda a, b: nb.sum(a + b), argnums=(0, 1))(a, a)
    ga += 1.0
    assert (ga.tolist(), gb.tolist(), a.tolist()) == ([2.0] * 3, [1.0] * 3, [1.0] * 3)
    x, y = nb.tensor([1.0], requires_grad=True), nb.tensor([1.0], requires_grad=True)
    gx, gy = nb.grad(lambda a, b: (a + b).sum(), argnums=(0, 1))(x, y)
    gx[0] = 5.0
    assert gy.tolist() == [1.0]


def test_argnums():
    def f(a, b, *, c=2.0):
        return a * b**2 * c

    assert nb.grad(f)(3.0, 5.0) == 50.0
    assert nb.grad(f, 1)(3.0, 5.0, c=1.0) == 30.0
    assert nb.grad(f, (1, 0))(3.0, 5.0) == (60.0, 50.0)
    assert nb.grad(f, -1)(3.0, 5.0) == 60.0
    assert nb.grad(f, (0, 0, -2))(3.0, 5.0) == (50.0, 50.0, 50.0)
    assert nb.value_and_grad(f, (0,))(3.0, 5.0) == (150.0, (50.0,))
    mixed = nb.grad(lambda n, x, w: (x * w * n).sum(), (1, 2))(
        2, np.array([1.0, 2.0]), nb.tensor([3.0, 4.0], "float64")
    )
    assert [type(g) for g in mixed] == [np.ndarray, nb.Tensor]
    assert [g.tolist() for g in mixed] == [[6.0, 8.0], [2.0, 4.0]]
    for argnums, args in ((2, (1.0, 2.0)), (-3, (1.0, 2.0)), (0, ())):
        with pytest.raises(IndexError, match=f"number {argnums} .*got {len(args)}"):
            nb.grad(f, argnums)(*args)
    assert (nb.grad(f).__name__, inspect.signature(nb.grad(f))) == ("f", inspect.signature(f))


@pytest.mark.parametrize("x", [np.arange(3), nb.tensor([1, 2]), [1, 2], np.array([True]), on(D1, [1], strict.int64)])
def test_only_floats_have_gradients(x):
    with pytest.raises(DTypeError, match=r"floating argument 0, got (int64|bool)"):
        nb.grad(lambda x: (x * 1.0).sum())(x)


def test_functions_that_ignore_their_input_have_gradient_zero():
    x = np.ones((2, 3), np.float32)
    for f in (
        lambda x: 5.0,
        lambda x: 3,
        lambda x: nb.tensor(1.0),
        lambda x: np.float32(2.0),
        lambda x: x.detach().sum(),
    ):
        value, g = nb.value_and_grad(f)(x)
        assert float(value) == float(f(nb.tensor(x)))
        np.testing.assert_array_equal(g, np.zeros((2, 3), np.float32), strict=True)
    assert nb.grad(lambda a, b: b * 2.0, (0, 1))(1.0, 1.0) == (0.0, 2.0)
    assert nb.grad(lambda x: nb.floor(x) * 3.0)(1.5) == 0.0


@pytest.mark.parametrize("f", [lambda x: x * 2.0, lambda x: np.ones(3), lambda x: (x.sum(), x.sum()), lambda x: None])
def test_only_scalars_have_gradients(f):
    with pytest.raises(GraphError, match=r"scalar, got (shape \((2|3),\)|tuple|NoneType).*\.sum\(\)"):
        nb.grad(f)(np.ones(2))


def test_functions_may_change_their_argument():
    def centred(x):
        x -= nb.mean(x)
        x[0] = 0.0
        return nb.sum(x * x * x) + x[0] * 5.0

    for x in (np.array([1.0, 2.0, 6.0]), nb.tensor([1.0, 2.0, 6.0], requires_grad=True)):
        before = x.tolist()
        g = nb.grad(centred)(x)
        expected = [-(3 * 1.0 + 3 * 9.0) / 3 + extra for extra in (0.0, 3.0, 27.0)]
        np.testing.assert_allclose(np.asarray(g), expected)
        assert x.tolist() == before
    assert nb.grad(lambda x: x.__setitem__(0, 0.0) or (x * x + x).sum())(np.array([3.0, 4.0])).tolist() == [0.0, 9.0]


def test_grad_of_nobody_is_touched():
    net, x = nn.Linear(2, 1), nb.tensor([[1.0, 2.0]], requires_grad=True)
    nb.grad(lambda x: net(x).sum())(x)
    nb.grad(nb.grad(lambda a: (net(a * x) ** 2).sum()))(nb.tensor(2.0))
    assert [p.grad for p in (*net.parameters(), x)] == [None] * 3


# -- nesting ---------------------------------------------------------------------------------------


def nth(f, n):
    for _ in range(n):
        f = nb.grad(f)
    return f


@pytest.mark.parametrize("make", [float, np.float64, nb.tensor, lambda v: nb.tensor(v, "float64", D1)])
def test_higher_derivatives(make):
    x = 0.7
    for n, expected in enumerate((math.exp(-x * x), -2 * x, 4 * x * x - 2, -8 * x**3 + 12 * x)):
        got = nth(lambda x: nb.exp(-x * x), n)(make(x)) if n else nb.exp(-nb.tensor(x) * x)
        np.testing.assert_allclose(float(got), expected * (math.exp(-x * x) if n else 1.0), rtol=1e-5)
    assert [float(nth(lambda x: x**4, n)(make(2.0))) for n in (1, 2, 3, 4, 5)] == [32.0, 48.0, 48.0, 24.0, 0.0]


KINDS = {
    "float": float,
    "0-d array": np.float64,
    "tensor": lambda v: nb.tensor(v, "float64"),
    "leaf": lambda v: nb.tensor(v, "float64", requires_grad=True),
    "parameter": lambda v: nn.Parameter(np.float64(v)),
    "device1": lambda v: on(D1, v),
}


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_variables_are_not_confused(make):
    """Siskind and Pearlmutter, "Perturbation confusion and referential transparency", 2005, and its relatives."""
    d = nb.grad
    x = make(3.0)
    assert float(d(lambda x: x * d(lambda y: x + y)(make(1.0)))(x)) == 1.0
    assert float(d(lambda x: x * d(lambda y: x + y)(x))(x)) == 1.0
    assert float(d(lambda x: x * d(lambda y: x * y)(make(2.0)))(x)) == 6.0
    assert float(d(lambda x: d(lambda y: x * y * y)(x))(x)) == 12.0
    assert float(d(lambda x: d(lambda x: x * x)(x) * x)(x)) == 12.0
    assert float(d(lambda x: d(lambda y: x**3 + 0.0 * y)(make(1.0)))(x)) == 0.0
    assert float(d(lambda x: d(lambda y: y)(x) + x)(x)) == 1.0
    assert float(d(lambda x: d(lambda y: d(lambda z: x * y * z)(y) * x)(x))(x)) == 6.0
    assert float(d(lambda x: d(lambda y: x * y)(x) + d(lambda y: x * y**2)(x))(x)) == 1.0 + 12.0


@given(st.lists(st.floats(0.3, 1.5), min_size=2, max_size=2))
def test_mixed_second_derivatives_commute(point):
    x, y = map(np.float64, point)

    def f(x, y):
        return nb.sin(x * x * y) + x / y

    xy, yx = nb.grad(nb.grad(f, 0), 1)(x, y), nb.grad(nb.grad(f, 1), 0)(x, y)
    expected = 2 * x * math.cos(x * x * y) - 2 * x**3 * y * math.sin(x * x * y) - 1.0 / y**2
    np.testing.assert_allclose([xy, yx], [expected] * 2, rtol=1e-10)


def test_arrays_and_parameters_around_an_inner_gradient():
    a, w = np.array([1.0, 2.0, 3.0]), nn.Parameter(np.array([0.5, -1.0, 2.0]))

    def outer(x):
        inner = nb.grad(lambda y: nb.sum(x * y * y * w))(a)  # 2 a x w: a raw array in, but x and w still matter
        assert isinstance(inner, nb.Tensor)
        return nb.sum(inner * x)

    np.testing.assert_allclose(nb.grad(outer)(a), 4.0 * a * a * w.numpy())
    slope = nb.grad(lambda x: nb.sum(x * x * w * w))(nb.tensor(a))
    slope.sum().backward()  # the gradient still knows of w
    np.testing.assert_allclose(w.grad.numpy(), 4.0 * a * w.numpy())
    w.grad = None
    value, _ = nb.value_and_grad(lambda x: nb.sum(x * w))(nb.tensor(a))
    value.backward()
    assert w.grad.tolist() == a.tolist()
    assert isinstance(nb.grad(lambda x: nb.sum(x * w))(a), np.ndarray)


def test_hidden_history_ends_under_no_grad():
    w = nn.Parameter(np.array(2.0))
    with nb.no_grad():
        assert nb.grad(lambda x: x * w)(nb.tensor(1.0, "float64")).requires_grad is False
        assert nb.grad(nb.grad(lambda x: x**3 * w))(3.0) == 36.0
        assert nb.grad(lambda w: w**2)(w).item() == 4.0


# -- functions written against the standard, which know nothing of us ------------------------------


def log_likelihood(theta, data, labels):
    """Robust logistic regression."""
    xp = array_api_compat.array_namespace(theta, data)
    z = xp.matmul(data, theta[:-1]) + theta[-1]
    log_p = -xp.where(z > 0, xp.log1p(xp.exp(-xp.abs(z))), xp.log1p(xp.exp(-xp.abs(z))) - z)
    log_q = log_p - z
    per = labels * xp.log(0.95 * xp.exp(log_p) + 0.025) + (1.0 - labels) * xp.log(0.95 * xp.exp(log_q) + 0.025)
    prior = xp.sum(xp.square(theta)) / xp.asarray(2.0 * theta.shape[0], dtype=theta.dtype, device=theta.device)
    return xp.sum(per) - prior


def springs(state, data, labels):
    """Energy after some steps of masses on a ring of springs."""
    xp = array_api_compat.array_namespace(state)
    x, v = state[:2], xp.concat([state[2:], xp.zeros(1, dtype=state.dtype, device=state.device)])
    energies = []
    for _ in range(5):
        stretch = xp.roll(x, 1) - x
        v = v + 0.1 * (stretch - 0.3 * x**3)
        x = x + 0.1 * v
        both = xp.stack([x, v], axis=0)
        energies.append(xp.sum(both[0, :] ** 2) * 0.5 + xp.max(both[1, :]))
    path = xp.stack(energies)
    path[0] = 0.0
    return xp.mean(path[1:] * xp.linspace(1.0, 2.0, 4, dtype=state.dtype, device=state.device)) + path[-1]


def least_squares(theta, data, labels):
    """Ridge regression by one step of Newton in a rotated basis."""
    xp = array_api_compat.array_namespace(theta, data)
    features = xp.concat([data, xp.ones((data.shape[0], 1), dtype=data.dtype, device=data.device)], axis=1)
    gram = xp.matmul(xp.permute_dims(features, (1, 0)), features) + xp.eye(3, dtype=data.dtype, device=data.device)
    residual = xp.matmul(features, xp.expand_dims(theta, axis=1))[:, 0] - labels
    step = xp.matmul(gram, theta) - features.T @ residual
    return xp.sum(residual**2) + xp.sqrt(xp.vecdot(step, step)) * xp.std(xp.reshape(step, (3, 1)), axis=0)[0]


@pytest.mark.parametrize("f", [log_likelihood, springs, least_squares])
@pytest.mark.parametrize("device", ["numpy", "device1", "tensor"])
def test_unmodified_functions(f, device):
    theta, v = RNG.standard_normal((2, 3))
    data, labels = RNG.standard_normal((6, 2)), (RNG.standard_normal(6) > 0).astype(float)
    move = {"numpy": np.asarray, "device1": lambda a: on(D1, a), "tensor": nb.tensor}[device]
    x, *rest = map(move, (theta, data, labels))
    value, g = nb.value_and_grad(f)(x, *rest)
    assert type(g) is type(x)
    np.testing.assert_allclose(float(value), float(f(theta, data, labels)), rtol=1e-12)
    along = float((nb.asarray(g).to("cpu") * v).sum())
    np.testing.assert_allclose(along, slope_of(lambda t: f(t, data, labels), theta, v), rtol=1e-6)
    assert gradcheck(f, x, *rest, order=2, rtol=1e-5)


# -- a penalty on gradients ------------------------------------------------------------------------


def test_a_gradient_penalty_trains():
    rng = np.random.default_rng(1)
    net = nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 1)).init(0).to("float64")
    x, y = nb.tensor(rng.standard_normal((8, 2))), nb.tensor(rng.standard_normal((8, 1)))

    def loss_of():
        slopes = nb.grad(lambda x: net(x).sum())(x)
        return F.mse_loss(net(x), y) + ((nb.sqrt((slopes * slopes).sum(axis=1)) - 1.0) ** 2).mean()

    opt = optim.Adam(net.parameters(), lr=0.03)
    loss_of().backward()
    for p in net.parameters():
        v, start = rng.standard_normal(p.shape), p.numpy().copy()

        def at(moved, p=p):
            p.assign(moved)
            return loss_of()

        numeric = slope_of(at, start, v)
        p.assign(start)
        np.testing.assert_allclose(float((p.grad * v).sum()), numeric, rtol=1e-6, atol=1e-8)
    losses = []
    for _ in range(30):
        opt.zero_grad()
        loss = loss_of()
        loss.backward()
        opt.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
    assert sum(b < a for a, b in itertools.pairwise(losses)) >= 25


# -- gradcheck -------------------------------------------------------------------------------------


@lift
def wrong_first(x):
    return x * x, (lambda dy: dy * 3.0 * x,)


@lift
def wrong_second(x):
    return x * x * x, (lambda dy: dy * (3.0 * (x.detach() if isinstance(x, nb.Tensor) else x) * x),)


@lift
def right(a, b):
    return a * b * b, (lambda dy: dy * b * b, lambda dy: dy * (2.0 * a * b))


X = np.array([0.5, -1.5, 2.0])


@pytest.mark.parametrize("order", [1, 2, 3])
def test_gradcheck_passes_what_is_right(order):
    for f, args in (
        (right, (X, X[::-1])),
        (lambda x: 2.0 * x, (nb.tensor(X),)),
        (lambda x: (nb.sin(x), x.sum(), x > 0), (X.astype(np.float32),)),
        (lambda x, n, w: x**n * w, (X, 3, [1.0, 2.0, 3.0])),
        (lambda x, i: nb.take(x, i) ** 2, (on(D1, X), on(D1, [0, 0, 2], strict.int64))),
        (lambda x: nb.sum(x) * 1.0, (np.zeros((0, 2)),)),
        (lambda x: nb.exp(x), (1.5,)),
    ):
        assert gradcheck(f, *args, order=order) is True
        with nb.no_grad():
            assert gradcheck(f, *args, order=order)


def test_gradcheck_fails_what_is_wrong():
    for order in (1, 2):
        with pytest.raises(AssertionError, match=r"argument 0: expected a slope of .*, got"):
            gradcheck(wrong_first, X, order=order)
        with pytest.raises(AssertionError, match="argument 1"):
            gradcheck(lambda a, b: a * 1.0 + wrong_first(b), X, X, order=order)
    assert gradcheck(wrong_second, X)
    with pytest.raises(AssertionError, match="argument 0"):
        gradcheck(wrong_second, X, order=2)
    with pytest.raises(AssertionError, match="argument 0"):  # a part of the way is cut
        gradcheck(lambda x: x * x.detach(), X)


def test_gradcheck_says_when_the_function_leaves_the_graph():
    for f in (lambda x: nb.tensor(x.numpy() ** 2), lambda x: x.numpy(), lambda x: float(x.sum()), lambda x: x.detach()):
        with pytest.raises(GraphError, match="with history, got none"):
            gradcheck(f, X)
    for args in ((), (3, "x"), (np.arange(3),)):
        with pytest.raises(GraphError, match="at least one floating argument"):
            gradcheck(lambda *a: nb.tensor(1.0), *args)
