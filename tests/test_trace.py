"""A recording is a true step, and the program that it leaves repeats it to the last bit."""

import copy
import math
import threading

import array_api_strict
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import nn, optim
from nnbackend.backend import to_host
from nnbackend.cells import Buffer
from nnbackend.errors import LabelError
from nnbackend.program import interpret
from nnbackend.program.record import Recording
from nnbackend.recorder import recorder
from nnbackend.tree import leaves, mapped

DEVICE1 = nb.device(array_api_strict.Device("device1"))


def repeated(program, *args):
    """The program run on these arguments, as a replay does it: gradients from before are brought to their homes."""
    for g in program.gradients:
        p = g.parameter
        if g.enters and p._gradient is not g.home.array:
            g.home.array[...] = p._gradient.data if isinstance(p._gradient, nb.Tensor) else p._gradient
    inputs = [x.data if isinstance(x, nb.Tensor) else x for x in leaves(args)]
    outputs = interpret.run(program, inputs)
    for g in program.gradients:
        g.parameter._gradient = None if g.home is None or not getattr(g, "leaves", True) else g.home.array
    return outputs


def recorded(step, *args):
    recording = Recording(step, args, {})
    assert recording.broken is None
    return recording


def host(nest):
    def leaf(x):
        x = x.data if isinstance(x, nb.Tensor) else x
        return to_host(x).copy() if hasattr(x, "shape") else x

    return mapped(leaf, nest)


def same(got, want):
    np.testing.assert_equal(host(got), host(want))


# -- layers, losses, optimizers -------------------------------------------------------------------------------------


class Running(nn.Module):
    """Centres what comes by a running mean, and counts."""

    def __init__(self, n):
        self.register_buffer("mean", nb.zeros(n))
        self.seen = nn.Scalar(0)

    def forward(self, x):
        if self.training:
            self.seen.value += 1
            self.mean = self.mean * 0.9 + x.detach().mean(0) * 0.1
        return x - self.mean / (1.0 - 0.9**self.seen.value)


LAYERS = [
    nn.ELU(), nn.GELU(), nn.GELU("tanh"), nn.LeakyReLU(), nn.LogSigmoid(), nn.LogSoftmax(), nn.ReLU(), nn.SiLU(),
    nn.Sigmoid(), nn.Softmax(), nn.Softplus(), nn.Tanh(), nn.Identity(), nn.Flatten(), nn.Dropout(0.3), nn.Linear(4, 4),
    nn.Linear(4, 4, bias=False), nn.MLP([4, 6, 4], "tanh", dropout=0.2), Running(4),
]  # fmt: skip


LOSSES = {
    "mse": lambda y, t: F.mse_loss(y, nb.one_hot(t, 3)),
    "l1": lambda y, t: F.l1_loss(y, nb.one_hot(t, 3)),
    "huber": lambda y, t: F.huber_loss(y, nb.one_hot(t, 3), delta=0.5),
    "bce": lambda y, t: F.binary_cross_entropy(F.sigmoid(y), nb.one_hot(t, 3)),
    "bce_logits": lambda y, t: F.binary_cross_entropy_with_logits(y, nb.one_hot(t, 3), reduction="sum"),
    "cross_entropy": F.cross_entropy,
    "soft_labels": lambda y, t: F.cross_entropy(y, nb.one_hot(t, 3)),
    "nll": lambda y, t: F.nll_loss(F.log_softmax(y), t),
}
RULES = {
    "SGD": lambda p: optim.SGD(p, lr=0.1),
    "momentum": lambda p: optim.SGD(p, lr=0.1, momentum=0.9),
    "nesterov": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "Adam": lambda p: optim.Adam(p, lr=0.02, weight_decay=0.01),
    "AdamW": lambda p: optim.AdamW(p, lr=0.02),
}


def trained(layer, loss, rule, how, place="cpu", accumulate=False, clip="norm"):
    """Ten steps, by recordings or by a program or eagerly: everything that has come of them."""
    net = nn.Sequential(nn.Linear(3, 4), copy.deepcopy(layer), nn.Linear(4, 3)).init(0).to(place)
    opt, rng, results = RULES[rule](net.parameters()), np.random.default_rng(0), []

    def step(x, t):
        value = LOSSES[loss](net(x), t)
        if not accumulate:
            opt.zero_grad()
        value.backward()
        if clip == "norm":
            optim.clip_grad_norm(net.parameters(), 0.5)
        elif clip == "value":
            optim.clip_grad_value(net.parameters(), 0.1)
        opt.step()
        return value

    for i in range(10):
        x = nb.tensor(rng.standard_normal((6, 3)).astype("float32"), device=place)
        t = nb.tensor(rng.integers(0, 3, 6), device=place)
        if how == "eager":
            results.append(step(x, t))
        elif how == "recorded" or i < 5:
            recording = Recording(step, (x, t), {})
            assert recording.broken is None
            assert recording.settled or i == 0
            results.append(recording.result)
        else:
            results.append(repeated(recording.program, x, t)[0])
        if accumulate == "looked at":
            results.append([p.grad for p in net.parameters()])
        if i == 7:
            opt.param_groups[0]["lr"] = 0.003
    gradients = [p._gradient.data if isinstance(p._gradient, nb.Tensor) else p._gradient for p in net.parameters()]
    counts = [m.calls.value for m in net.modules() if isinstance(m, nn.RandomModule)]
    return host([results, net.state_dict(), opt.state_dict(), gradients, counts])


@pytest.mark.parametrize("how", ["recorded", "interpreted"])
@pytest.mark.parametrize(
    ("layer", "loss", "rule", "more"),
    [
        *((layer, "cross_entropy", "Adam", {}) for layer in LAYERS),
        *((nn.Tanh(), loss, "momentum", {"clip": "value"}) for loss in LOSSES),
        *((nn.Dropout(0.2), "mse", rule, {}) for rule in RULES),
        *((nn.Tanh(), "mse", "Adam", {"accumulate": a, "clip": None}) for a in (True, "looked at")),
        (nn.Tanh(), "mse", "Adam", {"accumulate": True}),
        *((LAYERS[-2], "cross_entropy", rule, {"place": DEVICE1}) for rule in RULES),
        (Running(4), "bce", "SGD", {"place": DEVICE1}),
    ],
    ids=repr,
)
def test_training_is_the_same(layer, loss, rule, more, how):
    same(trained(layer, loss, rule, how, **more), trained(layer, loss, rule, "eager", **more))


# -- views and writes -----------------------------------------------------------------------------------------------

VIEWS = {
    "rows": lambda a: a[1:],
    "columns": lambda a: a[..., ::2],
    "back": lambda a: a[::-1],
    "row": lambda a: a[0],
    "flat": lambda a: nb.namespace(a).reshape(a, (-1,)),
    "turned": lambda a: nb.namespace(a).permute_dims(a, tuple(range(a.ndim))[::-1]),
    "flipped": lambda a: nb.namespace(a).flip(a),
    "wider": lambda a: nb.namespace(a).expand_dims(a, axis=0),
    "copied": lambda a: a * 1.0,
}
WRITES = {
    "add": lambda v, x: v.__iadd__(x),
    "scale": lambda v, x: v.__imul__(0.5 + x),
    "fill": lambda v, x: v.__setitem__(..., x),
    "first": lambda v, x: v.__setitem__((0,), x),
    "part": lambda v, x: v.__setitem__((slice(None, None, 2),), v[::2] * x),
    "shift": lambda v, x: v.__setitem__((slice(1, None),), v[:-1] + x),
    "rows": lambda v, x: v.__setitem__((np.asarray([0, -1]),), x),
    "masked": lambda v, x: v.__setitem__(v > 0.5, 0.25),
}
moves = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from([*VIEWS, *WRITES]), st.integers(0, 5)), min_size=1, max_size=12
)


@given(moves=moves)
@settings(max_examples=150, deadline=None)
def test_writes_through_views(moves):
    def run(how):
        buffer = Buffer((np.arange(12.0) / 12).reshape(3, 4), "b")

        def step(x):
            held = [buffer.data]
            with nb.no_grad():
                for i, name, j in moves:
                    v = held[i % len(held)]
                    if not v.shape or 0 in v.shape:
                        continue
                    if name in VIEWS:
                        held.append(VIEWS[name](v))
                    else:
                        WRITES[name](v, x.data[j % 3])
            return [nb.Tensor(v * 1.0) for v in held], nb.Tensor(buffer.data * 2.0)

        results = []
        for k in range(3):
            x = nb.Tensor(np.array([0.1, 0.2, 0.3]) * (k + 1))
            if how == "eager":
                results.append(list(leaves(step(x))))
            elif how == "recorded" or k == 0:
                recording = recorded(step, x)
                results.append(list(leaves(recording.result)))
            else:
                results.append(repeated(recording.program, x))
        return [results, buffer.array]

    want = run("eager")
    same(run("recorded"), want)
    same(run("interpreted"), want)


def test_a_scalar_taken_out_of_an_array_does_not_change_with_it():
    def step(x):
        a = x.data * 1.0
        first = other = a[0]
        first += 1.0
        a[0] = 5.0
        return nb.asarray(a), nb.asarray(first + 0.0), nb.asarray(other + 0.0)

    x = nb.tensor([1.0, 2.0])
    same(recorded(step, x).result, step(x))
    same(repeated(recorded(step, x).program, x), list(step(x)))


# -- numbers --------------------------------------------------------------------------------------------------------


def test_numbers_are_inputs():
    def step(x, k, n):
        return x * k + n // 2 - (-k) ** 2, k * 2, abs(n - 5) % 3

    x = nb.tensor([1.0, 2.0])
    recording = recorded(step, x, 0.5, 7)
    assert not recording.trace.pins
    same(recording.result, step(x, 0.5, 7))
    assert [type(n) for n in recording.result[1:]] == [float, int]
    same(repeated(recording.program, x, 0.25, 4), list(step(x, 0.25, 4)))


@pytest.mark.parametrize(
    "use",
    [
        lambda x, k: x[: int(k)], lambda x, k: x[:k], lambda x, k: x if k else -x, lambda x, k: x * (1 if k > 1 else 2),
        lambda x, k: nb.reshape(x, (k, -1)), lambda x, k: x.reshape(-1, k), lambda x, k: x.sum(k - 1),
        lambda x, k: x * math.sqrt(k), lambda x, k: x * {2: 3.0}[k], lambda x, k: x * round(k),
        lambda x, k: x * (k & 3), lambda x, k: nb.grad(lambda v: (v**k).sum())(x), lambda x, k: x * nb.tensor([k, 1.0]),
        lambda x, k: x + nb.full((2,), k).astype(x.dtype), lambda x, k: x * divmod(k, 2)[1],
        lambda x, k: x * float(f"{k}"), lambda x, k: nb.concat([x for _ in range(k)]), lambda x, k: nb.grad(f)(k * 1.0),
        lambda x, k: F.leaky_relu(x, negative_slope=k), lambda x, k: x * nb.arange(k * 1.0),
        lambda x, k: nb.roll(x, shift=k, axis=0), lambda x, k: x * nb.zeros((k, 2)), lambda x, k: x * k.bit_length(),
    ],
)  # fmt: skip
def test_numbers_that_are_looked_at_are_pinned(use):
    x = nb.tensor([[1.0, 2.0], [3.0, 4.0]])
    recording = recorded(use, x, 2)
    same(recording.result, use(x, 2))
    same(repeated(recording.program, x, 2)[0], use(x, 2))
    assert recording.trace.pins


def f(v):
    return v * v


def test_a_learning_rate_may_be_an_argument():
    def run(how):
        net = nn.Linear(2, 1).init(0)
        opt = optim.AdamW(net.parameters(), lr=0.1)

        def step(x, lr):
            opt.param_groups[0]["lr"] = lr
            loss = net(x).sum()
            loss.backward(retain_graph=True)
            loss.backward()
            opt.step()
            opt.zero_grad()

        x = nb.ones((3, 2))
        if how == "eager":
            for lr in (0.1, 0.2, 0.3):
                step(x, lr)
        else:
            recorded(step, x, 0.1)
            recording = recorded(step, x, 0.2)
            repeated(recording.program, x, 0.3)
            assert {how for _, how in recording.trace.pins} == {"bool"}
        return net.state_dict(), opt.state_dict()

    same(run("recorded"), run("eager"))


def test_an_index_may_change_from_step_to_step():
    ring, count = Buffer(np.zeros((3, 2)), "ring"), nn.Scalar(0)

    def step(x):
        ring.data[count.value % 3] = x.data
        count.value += 1
        return x * 1.0

    program = recorded(step, nb.Tensor(np.ones(2))).program
    for k in (2.0, 3.0):
        repeated(program, nb.Tensor(np.full(2, k)))
    assert ring.array[:, 0].tolist() == [1, 2, 3]
    assert count.value == 3


# -- gradients in the step, threads, arrays -------------------------------------------------------------------------


def test_a_gradient_penalty():
    def run(how):
        net = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1, bias=False)).to("float64").init(0)
        opt = optim.SGD(net.parameters(), lr=0.1)

        def step(x):
            g = nb.grad(lambda v: net(v).sum())(x)
            norm, second = nb.value_and_grad(lambda v: (nb.grad(lambda u: nb.sum(u**3))(v) ** 2).sum())(x)
            loss = ((g * g).sum(1) - 1.0).mean() ** 2 + (norm + second.sum()) * 1e-3
            opt.zero_grad()
            loss.backward()
            opt.step()
            return loss

        xs = [nb.Tensor(np.random.default_rng(i).standard_normal((5, 2))) for i in range(4)]
        if how == "eager":
            return [step(x) for x in xs], net.state_dict()
        first, second = (recorded(step, x) for x in xs[:2])
        return [first.result, second.result, *(repeated(second.program, x)[0] for x in xs[2:])], net.state_dict()

    same(run("recorded"), run("eager"))


def test_other_threads_are_not_recorded():
    seen, net = [], nn.Linear(2, 2)

    def step(x):
        thread = threading.Thread(target=lambda: seen.append((recorder.get(), net(nb.ones((1, 2))))))
        thread.start()
        thread.join()
        return net(x).detach()

    recording = recorded(step, nb.ones((1, 2)))
    assert seen[0][0] is None
    same(recording.result, seen[0][1].detach())


def test_plain_arrays(tmp_path):
    def step(a, t, m):
        b = np.exp(a) + np.float64(2) * a - np.maximum(a, 0.5) / (1.0 + np.square(a))
        b[0] *= np.float64(3)
        total = a.T @ b + np.ones(3) * t.data
        return b, total, nb.asarray(np.add(total, m)), nb.namespace(a).sum(b), np.float64(2) * nb.namespace(a).max(m)

    a, t = np.random.default_rng(0).standard_normal((4, 3)), nb.Tensor(np.array([1.0, 2.0, 3.0]))
    m = np.memmap(tmp_path / "m", dtype="float64", mode="w+", shape=(3,))
    recording = recorded(step, a, t, m)
    same(recording.result, step(a, t, m))
    assert [type(r) for r in recording.result] == [type(r) for r in step(a, t, m)]
    for k in (1.0, 2.0):
        same(repeated(recording.program, a * k, t * k, m + k), list(step(a * k, t * k, m + k)))


@pytest.mark.parametrize(
    ("loss", "bad", "error"),
    [
        (F.cross_entropy, np.array([0, 3]), LabelError),
        (lambda y, t: F.binary_cross_entropy_with_logits(y[:, 0], t), np.array([0.0, 1.5], "float32"), ValueError),
    ],
)
def test_bad_labels_are_found_before_anything_changes(loss, bad, error):
    net = nn.Sequential(nn.Linear(2, 3), nn.Dropout()).init(0)
    opt = optim.Adam(net.parameters(), lr=0.1)

    def step(x, t):
        value = loss(net(x), t)
        opt.zero_grad()
        value.backward()
        opt.step()

    x, good = nb.ones((2, 2)), nb.Tensor(bad * 0)
    Recording(step, (x, good), {})
    program = recorded(step, x, good).program
    before = host([net.state_dict(), opt.state_dict(), net[1].calls.value])
    messages = []
    for run in (lambda: repeated(program, x, nb.Tensor(bad)), lambda: step(x, nb.Tensor(bad))):
        with pytest.raises(error) as caught:
            run()
        messages.append(str(caught.value))
        if run.__code__.co_names[0] == "repeated":
            same([net.state_dict(), opt.state_dict(), net[1].calls.value], before)
    assert messages[0] in messages[1]
