"""Replays on a GPU where values lie in the same memory, programs share gradients, and numbers change their kind."""

import itertools

import numpy as np
import pytest

import nnbackend as nb
from nnbackend import nn, optim
from nnbackend.backend import KERNELS, SYNC, cuda_status
from nnbackend.program.replay_cuda import groups

pytestmark = [
    pytest.mark.skipif(not cuda_status().usable, reason="needs CUDA"),
    pytest.mark.skipif(not KERNELS or SYNC, reason="without kernels nothing is captured"),
]
rng = np.random.default_rng(0)
XS = [rng.integers(-4, 5, (4, 3)).astype("float32") for _ in range(9)]


class Two(nn.Module):
    """Two arrays that steps change."""

    def __init__(self):
        super().__init__()
        self.a, self.b = (nn.Buffer(nb.tensor(x, device="cuda")) for x in XS[:2])


def old(m, x):
    """Contents before the step, all of them or a part."""
    a, part = m.a.clone(), m.a.clone()[1:3]
    m.a += x
    return a, part.mT, x


def new(m, x):
    m.a += x
    return m.a.clone(), m.a.clone()[0], m.a.clone()


def swapped(m, x):
    a = m.a.clone()
    m.a.assign(m.b * 2)
    m.b.assign(a + x)
    return a, (m.a - a).sum()


def moved_down(m, x):
    m.a[1:] = m.a[:-1].clone()
    m.a[0] = x[0]
    return m.a.clone()


def shared(m, x):
    """One value in two places."""
    y = m.a + x
    m.a.assign(y)
    m.b.assign(y)
    return y


def same(a, b):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(nb.asarray(x).numpy(), nb.asarray(y).numpy())


@pytest.mark.parametrize("reuse", [False, True])
@pytest.mark.parametrize("what", [old, new, swapped, moved_down, shared], ids=lambda f: f.__name__)
def test_results_that_lie_in_what_the_step_changes(what, reuse):
    eager, replayed = Two(), Two()
    step = nb.compile(lambda x: what(replayed, x), reuse_outputs=reuse)
    inputs = [nb.tensor(x, device="cuda") for x in XS]
    for x in inputs[:5]:
        same(flat(step(x)), flat(what(eager, x)))
    for got, x in zip(step.several([(x,) for x in inputs[5:]]), inputs[5:], strict=True):
        same(flat(got), flat(what(eager, x)))
    same(replayed.state_dict().values(), eager.state_dict().values())
    assert (step.why, step.ungraphed) == (None, None)


def flat(results):
    return results if isinstance(results, tuple) else (results,)


def test_numbers_of_the_host_are_results():
    step = nb.compile(lambda x, k: (x * k, k * 2, k))
    x = nb.tensor(XS[0], device="cuda")
    for k in range(6):
        y, *rest = step(x, k + 0.5)
        np.testing.assert_array_equal(y.numpy(), XS[0] * np.float32(k + 0.5))
        assert rest == [2 * k + 1, k + 0.5]


def test_a_whole_number_may_become_a_fraction():
    step = nb.compile(lambda x, k: x * 2**k)
    x = nb.tensor(XS[0], device="cuda")
    for k in (3, 2, 1, 0, -1, -2, 3, -3):
        np.testing.assert_array_equal(step(x, k).numpy(), XS[0] * np.float32(2.0**k))
    got = step.several([(x, k) for k in (1, 2, -1)])
    same(got, [x * 2.0, x * 4.0, x * 0.5])
    assert (step.why, step.ungraphed) == (None, None)


class Sum(nn.Module):
    """The gradients of `a` and `b` are the same value."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.d = (nn.Parameter(nb.tensor(x, device="cuda")) for x in XS[:4])

    def forward(self, x):
        return (x * (self.a + self.b) + x * self.c * self.d).sum()


def test_sums_of_values_of_other_dtypes_are_added_up_as_alone():
    def sums(x):
        y = x * 0.37 + 1.0
        return y.sum(), y.astype("float64").sum(), y.astype("float16").sum()

    step = nb.compile(sums)
    for _ in range(4):
        x = nb.tensor(rng.standard_normal((64, 64)).astype("float32"), device="cuda")
        same(step(x), sums(x))


@pytest.mark.parametrize("orders", [("ac", "bd"), ("a", "b", "cd")])
def test_a_gradient_of_two_parameters_has_two_homes(orders):
    def run(compiled):
        net, x = Sum(), nb.tensor(XS[5], device="cuda")
        optimizers = [optim.SGD([getattr(net, k) for k in names], lr=0.01, momentum=0.9) for names in orders]

        def step(x):
            net.zero_grad()
            loss = net(x)
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()
            return loss.detach()

        step = nb.compile(step) if compiled else step
        found = [step(x) for _ in range(6)]
        return [*found, *net.state_dict().values(), *(p.grad for p in net.parameters())]

    same(run(True), run(False))


def test_programs_share_the_homes_of_gradients():
    """One program gathers, one ends the step, one does both: in any order, also while they are being planned."""

    def run(compiled, order):
        net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).init(0).to("cuda")
        optimizer = optim.Adam(net.parameters(), lr=0.05)

        def gather(x):
            loss = (net(x) ** 2).sum()
            loss.backward()
            return loss.detach()

        def finish(x):
            optim.clip_grad_norm_(list(net.parameters()), 0.1)
            optimizer.step()

        def both(x):
            optimizer.zero_grad()
            loss = gather(x)
            optimizer.step()
            return loss

        steps = {"g": gather, "f": finish, "b": both}
        if compiled:
            steps = {name: nb.compile(step) for name, step in steps.items()}
        found = []
        for name, x in zip(order, itertools.cycle(XS)):
            steps[name](nb.tensor(x, device="cuda"))
            found += [p.grad.numpy() for p in net.parameters()]
        return found

    for order in ("bggffg", "gggffggffgfgg"):
        same(run(True, order), run(False, order))


def test_a_step_without_arguments_finds_gradients_on_the_gpu():
    net = nn.Linear(3, 2).init(0).to("cuda")
    x = nb.tensor(XS[0], device="cuda")
    clip = nb.compile(lambda: optim.clip_grad_norm_(list(net.parameters()), 0.1).detach())
    for _ in range(5):
        net.zero_grad()
        net(x).sum().backward()
        assert float(clip()) > 0.1
        norm = sum(float((p.grad * p.grad).sum()) for p in net.parameters()) ** 0.5
        assert norm == pytest.approx(0.1, rel=1e-4)


def test_long_chains_are_some_kernels():
    """Thousands of neighbours as one kernel would take minutes to plan and to compile."""

    def chain(x):
        y = x
        for _ in range(100):
            x, y = y * 0.5 + x, x * 0.5 - y
        return x + y

    step, x = nb.compile(chain), nb.tensor(XS[0], device="cuda")
    got = [step(x) for _ in range(4)]
    same(got, [chain(x)] * 4)
    assert 401 / groups.LONGEST < step.kernels < 8


def test_several_calls_that_reuse_outputs_have_results_of_their_own():
    x = nb.tensor(np.arange(4.0), device="cuda")
    step = nb.compile(lambda x, k: x * k, reuse_outputs=True)
    got = step.several([(x, k) for k in range(1, 7)])  # recorded on the way
    for k, y in enumerate(got, start=1):
        np.testing.assert_array_equal(y.numpy(), np.arange(4.0) * k)


def test_whole_numbers_of_any_size():
    x, step = nb.ones(3, device="cuda"), nb.compile(lambda x, k: x * k)
    for k in (1, 2, 3, 4, 2**62, 2**63, -(2**70), 5):
        np.testing.assert_array_equal(step(x, k).numpy(), np.full(3, k, "float32"))


def test_a_number_of_numpys_goes_to_the_device():
    assert float(nb.tensor(np.float32(1.5), device="cuda")) == 1.5
