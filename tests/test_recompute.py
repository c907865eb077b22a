"""checkpoint: the same values and gradients, to the last bit, in less memory."""

import copy
import itertools

import numpy as np
import pytest
from frozen import PLACES
from recompute_case import V, W, X, same, sequential, values

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import nn, optim
from nnbackend.errors import GraphError, InplaceError

equal = np.testing.assert_array_equal


class Case:
    """A function of x with parameters, buffers and counts: all that a step leaves behind."""

    def __init__(self, f, *state):
        self.f, self.state = f, state

    def after(self, wrap, steps=2, place="cpu"):
        f, state = copy.deepcopy((self.f, self.state))
        for s in state:
            if isinstance(s, nn.Module):
                s.to(place)
        x, found, f = nb.tensor(X, requires_grad=True, device=place), [], wrap(f)
        for _ in range(steps):
            y = f(x, *state)
            y = sum(((t * t).sum() for t in y), start=0.0) if isinstance(y, tuple) else (y * y).sum()
            y.backward()
            found += values(y)
        for s in state:
            found += values(*(p.grad for p in s.parameters()), *s.buffers())
            found += [m.calls.value for m in s.modules() if hasattr(m, "calls")]
        return [*found, *values(x.grad)]


class Power(nn.Module):
    """A buffer is written to and then used, as in spectral normalisation."""

    def __init__(self):
        self.weight = nn.Parameter(nb.tensor(W))
        self.register_buffer("u", nb.ones(5, dtype="float64"))

    def forward(self, x):
        with nb.no_grad():
            v = self.weight @ self.u
            self.u.assign(v / nb.linalg.vector_norm(v))
        return x @ self.weight / (self.u @ self.weight @ self.u)


def call(x, net):
    return net(x)


def lstm(x, net):
    y, (h, c) = net(nb.reshape(x, (2, 4, 5)))
    return y, h * 2.0, c


def two(x, net):
    y = net(x)
    return y * 2.0, nb.tanh(y + x)


CASES = {
    "a deep net": Case(call, sequential(nn.Linear(5, 5), nn.GELU(), nn.Linear(5, 5), nn.Tanh())),
    "dropout": Case(call, sequential(nn.Dropout(0.3), nn.Linear(5, 5), nn.Dropout(0.5))),
    "batch norm": Case(call, sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.ReLU())),
    "averaged batch norm": Case(call, sequential(nn.BatchNorm1d(5, momentum=None))),
    "a buffer that is written and used": Case(call, Power()),
    "one module twice": Case(lambda x, net: net(net(x)), sequential(nn.BatchNorm1d(5), nn.Linear(5, 5), nn.Dropout())),
    "nested results": Case(lstm, nn.LSTM(5, 3).double().init(0)),
    "two results": Case(two, sequential(nn.Linear(5, 5))),
    "attention": Case(
        lambda x, net: net(nb.reshape(x, (2, 4, 5))),
        nn.TransformerEncoderLayer(5, 1, 7, batch_first=True).double().init(0),
    ),
    "items set": Case(lambda x, net: _set(net(x)), sequential(nn.Linear(5, 5))),
    "its argument": Case(lambda x, net: x),
    "no argument's history": Case(lambda x, net: net(nb.ones_like(x)), sequential(nn.Linear(5, 2))),
}


def _set(y):
    y[0, :] = y[1, :] * 3.0
    return y


CASES["its argument"] = Case(lambda x: x)


@pytest.mark.parametrize("place", PLACES, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_values_gradients_and_state_are_the_same(name, place):
    case = CASES[name]
    same(case.after(nb.checkpoint, place=place), case.after(lambda f: f, place=place))


def test_nests_and_keywords_are_arguments():
    def f(pair, *, other, scale=2.0):
        return {"sum": pair[0] * scale + other["y"], "more": [pair[1].exp(), "text"]}

    def run(f):
        a, b, y = (nb.tensor(v, requires_grad=True) for v in (W, V, W + V))
        out = f((a, b), other={"y": y}, scale=3.0)
        assert out["more"][1] == "text"
        (out["sum"].sum() + (out["more"][0] * a).sum()).backward()
        return values(out["sum"], *(t.grad for t in (a, b, y)))

    same(run(nb.checkpoint(f)), run(f))


def test_tensors_from_outside_have_their_gradients():
    def run(wrap):
        w, v, x = (nb.tensor(a, requires_grad=True) for a in (W, V, X))
        h = nb.tanh(x @ w)
        y = wrap(lambda a: nb.sin(a @ v) * h[:, :5])(h)
        (y * h).sum().backward()
        return values(w.grad, v.grad, x.grad)

    a, b = run(nb.checkpoint), run(lambda f: f)
    for x, y in zip(a, b, strict=True):  # h is used thrice: its gradients are summed in another order
        np.testing.assert_allclose(x, y, rtol=1e-13, atol=1e-14)


def test_an_argument_may_change_here_and_there():
    def f(x):
        x[0, :] = x[1, :] * 2.0
        return x * x

    for wants in (True, False):
        x, w = nb.tensor(X, requires_grad=wants), nb.tensor(W, requires_grad=True)
        h = x * 1.0
        y = nb.checkpoint(lambda h: f(h) @ w)(h)  # noqa: B023
        equal(h.numpy(), X)
        h[...] = 0.0
        y.sum().backward()
        x0, w0 = nb.tensor(X, requires_grad=wants), nb.tensor(W, requires_grad=True)
        (f(x0 * 1.0) @ w0).sum().backward()
        same(values(x.grad, w.grad), values(x0.grad, w0.grad))


def test_grad_touches_no_grad():
    net = sequential(nn.Linear(5, 4), nn.Tanh(), nn.BatchNorm1d(4), nn.Linear(4, 1))
    w = net[0].weight

    def f(x, w):
        return (nb.tanh(x @ w) * net(x)).sum()

    for argnums in (0, 1, (0, 1)):
        plain, less = nb.grad(f, argnums)(X, W), nb.grad(nb.checkpoint(f), argnums)(X, W)
        same(plain if argnums == (0, 1) else [plain], less if argnums == (0, 1) else [less])
    assert all(p.grad is None for p in net.parameters())
    assert w.grad is None


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_second_order(place):
    net = sequential(nn.Linear(5, 6), nn.Tanh(), nn.Dropout(0.2), nn.Linear(6, 1)).to(place)

    def penalty(wrap):
        net.init(0)
        x = nb.tensor(X, device=place)
        slope = nb.grad(lambda x: wrap(net)(x).sum())(x)
        loss = (slope**2).sum()
        net.zero_grad()
        loss.backward()
        return values(loss, *(p.grad for p in net.parameters() if p.grad is not None))

    def created(wrap):
        net.init(0)
        net.zero_grad()
        x = nb.tensor(X, requires_grad=True, device=place)
        wrap(net)(x).sum().backward(create_graph=True)
        slope, x.grad = x.grad, None
        net.zero_grad()
        (slope**2).sum().backward()
        return values(slope, x.grad, *(p.grad for p in net.parameters() if p.grad is not None))

    for run in (penalty, created):
        assert len(run(nb.checkpoint)) > 3
        same(run(nb.checkpoint), run(lambda f: f))
    nb.testing.gradcheck(nb.checkpoint(lambda x, w: nb.sin(x @ w) * w[0, :]), X[:2], W, order=2)


class Less(nn.Module):
    def __init__(self):
        self.layers = nn.Sequential(nn.Linear(5, 4), nn.LayerNorm(4), nn.Tanh(), nn.Dropout(0.3), nn.Linear(4, 3))

    def forward(self, x):
        return nb.checkpoint(self.layers)(x)


def test_it_keeps_the_contract_of_layers():
    nb.testing.check_layer(Less, inputs=X)


def test_nested():
    net = sequential(*[nn.Sequential(nn.Linear(5, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Dropout(0.2)) for _ in range(4)])
    inner = Case(lambda x, net: net[1](net[0](x)), net)
    runs = []

    def halves(x, net):
        runs.append(1)
        x = nb.checkpoint(lambda x: net[1](net[0](x)))(x)
        return nb.checkpoint(lambda x: nb.checkpoint(net[3])(net[2](x)))(x)

    same(
        Case(halves, net).after(nb.checkpoint),
        Case(lambda x, net: net(x), net).after(lambda f: f),
    )
    assert len(runs) == 4
    same(inner.after(lambda f: nb.checkpoint(nb.checkpoint(f))), inner.after(lambda f: f))


def test_without_history_it_is_a_plain_call():
    def f(x):
        return x, x * 2.0

    x = nb.tensor(X)
    assert nb.checkpoint(f)(x)[1].node is None
    with nb.no_grad():
        y = nb.checkpoint(f)(x.clone().requires_grad_())[1]
    assert not y.requires_grad
    equal(nb.checkpoint(f)(X)[1], X * 2.0)
    assert nb.checkpoint(f).__name__ == "f"


def test_the_way_back_can_be_gone_twice():
    net = sequential(Power(), nn.BatchNorm1d(5), nn.Dropout())
    y = (nb.checkpoint(net)(nb.tensor(X)) ** 2).sum()
    before = [b.clone() for b in net.buffers()]
    y.backward(retain_graph=True)
    once = net[0].weight.grad.clone()
    y.backward()
    same(values(net[0].weight.grad, *net.buffers()), values(2.0 * once, *before))
    assert (net[1].num_batches_tracked.item(), net[2].calls.value) == (1, 1)
    with pytest.raises(GraphError, match="already freed"):
        y.backward()


def test_gradients_share_no_memory():
    p, q, seed = nn.Parameter(nb.zeros(3)), nn.Parameter(nb.zeros(3)), nb.ones(3)
    nb.checkpoint(lambda: p + q)().backward(seed)
    arrays = [p.grad.data, q.grad.data, seed.data]
    assert not any(np.shares_memory(a, b) for a, b in itertools.combinations(arrays, 2))


# -- random numbers, modes and state --------------------------------------------------------------------------------


def test_fresh_keys_are_drawn_once():
    x = nb.tensor(np.ones((4, 50)), requires_grad=True)
    y = nb.checkpoint(lambda x: F.dropout(nb.checkpoint(lambda x: F.dropout(x, 0.5))(x), 0.5))(x)
    y.sum().backward()
    equal(x.grad.numpy(), y.numpy())
    z = F.dropout(nb.ones((4, 50)), 0.5)
    assert (z.numpy() != y.numpy()).any()


def test_the_mode_is_that_of_the_first_run():
    net = sequential(nn.Linear(5, 5), nn.Dropout(0.9))
    x = nb.tensor(X, requires_grad=True)
    with nn.evaluating():
        y = nb.checkpoint(net)(x)
    y.sum().backward()
    equal(x.grad.numpy(), nb.grad(lambda x: nn.Sequential(net[0])(x).sum())(X))
    y = nb.checkpoint(net)(x)
    net.eval()
    with pytest.raises(GraphError, match="expected 1 in the mode of the first run, got training=False"):
        y.sum().backward()


def test_state_stays_as_it_is_after_an_error():
    net, first = sequential(nn.BatchNorm1d(5), nn.Dropout()), []

    def f(x):
        first.append(1)
        y = net(x)
        if len(first) == 2:
            raise ZeroDivisionError
        return y

    y = nb.checkpoint(f)(nb.tensor(X, requires_grad=True)).sum()
    before = [*values(*net.buffers()), net[1].calls.value, net[0].running_mean.written]
    with pytest.raises(ZeroDivisionError):
        y.backward()
    same([*values(*net.buffers()), net[1].calls.value, net[0].running_mean.written], before)
    assert (nb.checkpoint(net)(nb.tensor(X)).numpy() != 0).any()


def test_changes_in_place_are_found():
    p, b = nn.Parameter(nb.tensor(W)), nn.Buffer(nb.tensor(W))
    outer, fixed = nb.tensor(V, requires_grad=True) * 1.0, nb.tensor(V)
    x = nb.tensor(X, requires_grad=True)

    def change(t):
        with nb.no_grad():
            t[0, 0] = 9.0

    for t in (p, b, outer, fixed):
        y = nb.checkpoint(lambda x: nb.tanh(x @ t))(x)  # noqa: B023
        change(t)
        with pytest.raises(InplaceError, match=r"in place (later|since)"):
            y.sum().backward()
    nb.checkpoint(lambda x: nb.tanh(x @ p))(x).sum().backward()
    y = nb.checkpoint(lambda x: nb.tanh(x @ p))(x)
    optim.SGD([p], 0.1).step()
    with pytest.raises(InplaceError, match="later"):
        y.sum().backward()


def test_what_cannot_be_computed_again():
    p, calls = nn.Parameter(nb.tensor(W)), []

    def moving(x):
        with nb.no_grad():
            p[0, 0] = 1.0
        return x @ p

    def moody(x):
        calls.append(1)
        return x[: len(calls), :] * 2.0

    x = nb.tensor(X, requires_grad=True)
    with pytest.raises(GraphError, match="expected a parameter to stay"):
        nb.checkpoint(moving)(x)
    y = nb.checkpoint(moody)(x).sum()
    with pytest.raises(GraphError, match="got different results"):
        y.backward()
