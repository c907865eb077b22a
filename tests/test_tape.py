"""The tape: right sums over any graph, no recursion, nothing left behind, and who may change what meanwhile."""

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import nn, optim
from nnbackend.errors import DTypeError, GraphError, ShapeError
from nnbackend.grad_mode import recording
from nnbackend.ops.core import joint
from nnbackend.tensor import Tensor, lift


def leaf(values):
    return nb.tensor(values, dtype="float64", requires_grad=True)


# -- graphs of any form ----------------------------------------------------------------------------


def test_shared_values_are_summed_once_each():
    x = leaf(3.0)
    y = x * x
    (y * y + y).backward()  # a diamond, the same tensor twice, the leaf on two paths
    assert x.grad.item() == 4 * 27.0 + 6.0
    x.grad = None
    (x + x + x).backward()
    assert x.grad.item() == 3.0


STEPS = [
    lambda a, b, sin, cos: sin(a) * b,
    lambda a, b, sin, cos: a - b / (2.0 + cos(b)),
    lambda a, b, sin, cos: a * b * 0.3 + a,
    lambda a, b, sin, cos: cos(a * 0.5 + b) * 1.0,
]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40), st.integers(0, 40)), max_size=25), st.integers(0, 999))
def test_any_graph_has_the_gradient_of_differences(program, seed):
    start, v = np.random.default_rng(seed).standard_normal((2, 3, 2))

    def run(leaves, sin, cos):
        pool = list(leaves)
        for which, i, j in program:
            pool.append(STEPS[which](pool[i % len(pool)], pool[j % len(pool)], sin, cos))
        return sum((pool[-1 - k] * (k + 1.0)).sum() for k in range(min(3, len(pool))))

    leaves = [leaf(row) for row in start]
    run(leaves, nb.sin, nb.cos).backward()
    numeric = (run(start + 1e-6 * v, np.sin, np.cos) - run(start - 1e-6 * v, np.sin, np.cos)) / 2e-6
    analytic = sum(0.0 if x.grad is None else float((x.grad * d).sum()) for x, d in zip(leaves, v, strict=True))
    np.testing.assert_allclose(analytic, numeric, rtol=1e-5, atol=1e-5)
    again = [leaf(row) for row in start]
    run(again, nb.sin, nb.cos).backward(create_graph=True)
    for x, y in zip(leaves, again, strict=True):
        assert (x.grad is None) == (y.grad is None)
        if x.grad is not None:
            np.testing.assert_allclose(y.grad.numpy(), x.grad.numpy(), rtol=1e-10, atol=1e-10)


def test_pullbacks_run_only_for_what_needs_a_gradient():
    called = []

    def product(a, b):
        return a * b, (lambda dy: (called.append("a"), dy * b)[1], lambda dy: (called.append("b"), dy * a)[1])

    def pair(a, b):
        return a + b, joint(lambda dy, needs: (called.append(needs), (dy, dy))[1])

    x, c = leaf([1.0, 2.0]), nb.tensor([3.0, 4.0], "float64")
    for op in map(lift, (product, pair)):
        op(x, c).sum().backward()
        op(c.data, x).sum().backward()
        op(c, c)
        with nb.no_grad():
            op(x, x)
    assert called == ["a", "b", (True, False), (False, True)]
    op(x, x).sum().backward()
    assert called[-1] == (True, True)
    y = lift(product)(x, x)
    grads = nb.grad(lambda a, b: lift(product)(a, b).sum(), argnums=1)(c, y.detach())
    assert (called[4:], grads.tolist()) == ([(True, True), "b"], [3.0, 4.0])


def test_one_array_for_two_arguments_does_not_tie_their_gradients():
    @lift
    def both(a, b):
        return a + b, joint(lambda dy, needs: ((g := dy * 2.0), g))

    a, b = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    (both(a, b).sum() + both(a, b * 1.0).sum() + (a * 5.0).sum()).backward()
    assert (a.grad.tolist(), b.grad.tolist()) == ([9.0, 9.0], [4.0, 4.0])
    a.grad = b.grad = None
    both(a, b).sum().backward()
    assert not np.shares_memory(a.grad.data, b.grad.data)
    b.sum().backward()
    assert (a.grad.tolist(), b.grad.tolist()) == ([2.0, 2.0], [3.0, 3.0])


def test_several_results_of_which_some_are_unused():
    x = leaf([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    for create_graph in (False, True):
        x.grad = None
        first, _, last = nb.unstack(x)
        (last * last + first).sum().backward(create_graph=create_graph)
        assert x.grad.tolist() == [[1.0, 1.0], [0.0, 0.0], [10.0, 12.0]]
    x.grad.sum().backward()
    assert x.grad.tolist() == [[1.0, 1.0], [0.0, 0.0], [12.0, 14.0]]


def test_gradients_of_gradients_through_backward():
    x, w = leaf([0.5, 1.5]), leaf(2.0)
    y = (nb.exp(x) * w * w + x * x * x).sum()
    y.backward(create_graph=True)
    first = x.grad
    np.testing.assert_allclose(first.numpy(), np.exp([0.5, 1.5]) * 4.0 + 3 * np.array([0.5, 1.5]) ** 2)
    x.grad = w.grad = None
    first.sum().backward()  # the second derivative, with w as well
    np.testing.assert_allclose(x.grad.numpy(), np.exp([0.5, 1.5]) * 4.0 + 6 * np.array([0.5, 1.5]))
    np.testing.assert_allclose(w.grad.item(), np.exp([0.5, 1.5]).sum() * 4.0)
    y = leaf(3.0)
    z = y**3
    with nb.no_grad():
        z.backward(create_graph=True)  # asked for, so recorded whatever surrounds it
    slope = y.grad
    y.grad = None
    slope.backward()
    assert (slope.item(), y.grad.item()) == (27.0, 18.0)


# -- size ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backward", [True, False])
def test_a_chain_of_100_000_needs_no_recursion(backward):
    x = leaf([1.0])
    y, middle = x, None
    for i in range(100_000):
        y = y + 1.0
        if i == 50_000:
            middle = weakref.ref(y)
    if backward:
        y.backward(np.ones(1))
        assert x.grad.tolist() == [1.0]
    else:
        assert middle() is not None
    del y
    assert middle() is None


def test_a_wide_sum_holds_one_gradient_of_a_leaf_at_a_time():
    w, refs, most = leaf(np.ones(1000)), [], 0

    @lift
    def counted(w):
        def back(dy):
            nonlocal most
            g = np.ones(1000) * dy
            refs.append(weakref.ref(g))
            most = max(most, len(alive(refs)))
            return g

        return w.sum(), (back,)

    total = counted(w)
    for _ in range(50):
        total = total + counted(w)
    total.backward()
    assert w.grad.tolist() == [51.0] * 1000
    assert 1 <= most <= 3


# -- nothing stays ---------------------------------------------------------------------------------


@pytest.fixture
def born(monkeypatch):
    """Weak references to every Tensor made, with the garbage collector off."""
    refs, init = [], Tensor.__init__
    gc.collect()
    gc.disable()
    monkeypatch.setattr(
        Tensor, "__init__", lambda self, *a, **kw: (init(self, *a, **kw), refs.append(weakref.ref(self)))[0]
    )
    yield refs
    gc.enable()


def alive(refs):
    return [t for ref in refs if (t := ref()) is not None]


@lift
def failing(x):
    def back(dy):
        raise ZeroDivisionError

    return x * 1.0, (back,)


def plain_step(net, x, y):
    F.mse_loss(net(x), y).backward()


def penalty_step(net, x, y):
    slope = nb.grad(lambda x: net(x).sum())(x)
    (F.mse_loss(net(x), y) + (slope * slope).sum()).backward()


def retained_step(net, x, y):
    loss = F.mse_loss(net(x), y)
    loss.backward(create_graph=True)
    total = sum((p.grad * p.grad).sum() for p in net.parameters())
    net.zero_grad()
    total.backward()


def parts_step(net, x, y):
    a, b = nb.split(net(x), 2)
    nb.sort(nb.concat([b, a]), axis=0)[0].sum().backward()


def forward_fails_step(net, x, y):
    for error, use in (
        (IndexError, lambda h: h[100, 0]),
        (TypeError, lambda h: h & h),  # the library's own error, which nothing explains better
        (ShapeError, lambda h: h + nb.ones((3, 7))),
        (DTypeError, lambda h: h * [1.0]),
    ):
        with pytest.raises(error):
            use(net(x) * 2.0)
    plain_step(net, x, y)


def backward_fails_step(net, x, y):
    for create_graph in (False, True):
        with pytest.raises(ZeroDivisionError):
            (failing(net(x) * 2.0).sum() * 1.0).backward(create_graph=create_graph)
    with pytest.raises(ZeroDivisionError):
        nb.grad(lambda x: failing(net(x)).sum())(x)
    assert recording.get()
    assert all(p.grad is None for p in net.parameters())  # an error leaves them as they were
    plain_step(net, x, y)


def no_backward_step(net, x, y):
    plain_step(net, x, y)
    h = net(x)
    h[0] = y[0]
    h += F.mse_loss(h, y)


@pytest.mark.parametrize(
    "step",
    [plain_step, penalty_step, retained_step, parts_step, forward_fails_step, backward_fails_step, no_backward_step],
)
def test_every_tensor_of_200_steps_dies_without_the_collector(born, step):
    net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
    x, y = nb.tensor(np.random.default_rng(0).standard_normal((4, 2)).astype("f4")), nb.ones((4, 1))
    opt = optim.SGD(net.parameters(), lr=0.01)
    for i in range(200):
        if i == 2:
            born.clear()  # the optimizer's own state is made by now
        opt.zero_grad()
        step(net, x, y)
        opt.step()
    opt.zero_grad()
    assert len(born) >= 198 * 4
    assert alive(born) == []


def test_backward_frees_what_it_has_used():
    x = leaf([1.0])
    inner = weakref.ref(y := nb.exp(x))
    z = (y * y).sum()
    del y
    z.backward(retain_graph=True)
    assert inner() is not None
    z.backward()
    assert inner() is None


def test_an_error_in_backward_can_be_survived():
    x, broken = leaf([1.0, 2.0]), failing(leaf([1.0]))
    y = (x * 2.0).sum() + broken.sum()
    with pytest.raises(ZeroDivisionError):
        y.backward()
    assert x.grad is None
    with pytest.raises(GraphError, match="freed"):
        y.backward()
    (x * 2.0).sum().backward()
    assert x.grad.tolist() == [2.0, 2.0]


# -- threads ---------------------------------------------------------------------------------------


def test_threads_with_graphs_of_their_own():
    def train(seed):
        net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1)).init(seed)
        x = nb.tensor(np.random.default_rng(seed).standard_normal((5, 3)).astype("f4"))
        opt = optim.SGD(net.parameters(), lr=0.1)
        for _ in range(30):
            opt.zero_grad()
            (net(x) ** 2).mean().backward()
            opt.step()
        return [p.tolist() for p in net.parameters()]

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(train, range(4)))
    assert together == [train(seed) for seed in range(4)]


def test_threads_with_a_leaf_in_common_give_the_sum():
    w, calls = nn.Parameter(np.zeros(200_000)), 25
    start = threading.Barrier(4)

    def work(k):
        start.wait(10)
        for _ in range(calls):
            (w * float(k)).sum().backward()

    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(work, k) for k in (1, 10, 100, 1000)]:
            future.result(30)
    np.testing.assert_array_equal(w.grad.numpy(), np.full(200_000, calls * 1111.0))
