"""Steps that no program can repeat: each says why, with the user's line, and is one true step all the same."""

import gc
import inspect
import types
import weakref

import array_api_strict
import numpy as np
import pytest

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import nn, optim
from nnbackend.backend import to_host
from nnbackend.errors import ShapeError
from nnbackend.program import interpret
from nnbackend.program.record import Recording
from nnbackend.program.traced import Traced
from nnbackend.recorder import recorder

DEVICE1 = nb.device(array_api_strict.Device("device1"))


class Running(nn.Module):
    """Centres what comes by a running mean."""

    def __init__(self, n):
        self.register_buffer("mean", nb.zeros(n))

    def forward(self, x):
        if self.training:
            self.mean = self.mean * 0.9 + x.detach().mean(0) * 0.1
        return x - self.mean


def world():
    """A net in the middle of its training, and what else a step may know of."""
    net = nn.Sequential(nn.Linear(3, 4), Running(4), nn.Tanh(), nn.Dropout(0.4), nn.Linear(4, 2)).init(0)
    rng = np.random.default_rng(0)
    w = types.SimpleNamespace(
        net=net,
        opt=optim.Adam(net.parameters(), lr=0.05),
        x=nb.tensor(rng.standard_normal((8, 3)).astype("float32")),
        y=nb.tensor(np.arange(8) % 2),
        raw=rng.standard_normal((8, 3)).astype("float32"),
        kept=nb.tensor([1.0, 2.0]),
        leaf=nb.tensor([1.0, 2.0], requires_grad=True),
        noted=[],
    )
    train(w, w.x, w.y)
    w.older = (net[0].weight * 2.0).sum()
    return w


def train(w, x, y):
    loss = F.cross_entropy(w.net(x), y)
    w.opt.zero_grad()
    loss.backward()
    w.opt.step()
    return loss


def by_bool(w, x, y):
    loss = train(w, x, y)
    return loss if loss.data > 0 else -loss  # here


def by_tensor_bool(w, x, y):
    loss = train(w, x, y)
    if loss > 100:  # here
        return None
    return loss


def by_float(w, x, y):
    return train(w, x, y) * float(w.net[0].weight.sum())  # here


def by_int(w, x, y):
    return train(w, x, y), int(w.net[0].weight.sum())  # here


def by_item(w, x, y):
    w.noted.append(train(w, x, y).item())  # here
    return x * w.noted[-1]


def by_numpy(w, x, y):
    return nb.asarray(train(w, x, y).numpy() * np.float32(2))  # here


def by_tolist(w, x, y):
    return train(w, x, y), w.net[4].bias.tolist()  # here


def by_text(w, x, y):
    loss = train(w, x, y)
    w.noted.append(f"{loss}")  # here
    return loss


def by_out(w, x, y):
    np.multiply(x.data, 2.0, out=w.raw)  # here
    return train(w, nb.asarray(w.raw), y)


def by_numpy_function(w, x, y):
    return train(w, x, y), nb.asarray(np.cumsum(x.data, axis=0))  # here


def by_linalg(w, x, y):
    return train(w, x, y), nb.asarray(np.linalg.norm(x.data))  # here


def by_a_list_of_arrays(w, x, y):
    return train(w, x, y), nb.asarray(nb.namespace(x.data).asarray([x.data[0, 0], x.data[1, 1]]))  # here


def by_nonzero(w, x, y):
    rows = nb.namespace(x.data).nonzero(x.data[:, 0] > 0)[0]  # here
    return train(w, x[rows], y[rows])


def by_unique(w, x, y):
    return train(w, x, y), nb.asarray(nb.namespace(y.data).unique_all(y.data).counts)  # here


def by_mask(w, x, y):
    keep = x[:, 0] > 0
    return train(w, x[keep], y)[()] if False else train(w, x[keep], y[keep])  # here


def by_device(w, x, y):
    far = x.to(DEVICE1)  # here
    return train(w, (far * 2.0).to("cpu"), y), far


def by_item_of_an_argument(w, x, y):
    x[0] = 1.0  # here
    return train(w, x, y)


def by_change_of_an_argument(w, x, y):
    x.data[0] += 1.0  # here
    return train(w, x, y)


def by_item_of_a_tensor(w, x, y):
    w.kept[0] = train(w, x, y)  # here
    return w.kept * 2.0


def by_gradient_of_a_leaf(w, x, y):
    (w.leaf * train(w, x, y).detach()).sum().backward()  # here
    return w.leaf * 1.0


def by_gradient_with_history(w, x, y):
    w.opt.zero_grad()
    F.cross_entropy(w.net(x), y).backward(create_graph=True)  # here
    penalty = sum(((p.grad * p.grad).sum() for p in w.net.parameters()), start=nb.zeros(()))
    penalty.backward()
    for p in w.net.parameters():
        p.grad = p.grad.detach()
    w.opt.step()
    return penalty


def by_older_graph(w, x, y):
    w.older.backward()  # here
    w.opt.step()
    return x * 1.0


def by_schedule(w, x, y):
    group = w.opt.param_groups[0]
    if w.net[3].calls.value > 1:  # here
        group["lr"] = 0.01
    return train(w, x, y)


def by_two_names_for_one_memory(w, x, y):
    a = x.data * 1.0
    row = nb.namespace(a).unstack(a)[0]
    row += 1.0  # here
    return train(w, nb.asarray(a), y)


AT_A_LINE = [f for name, f in list(globals().items()) if name.startswith("by_")]


def by_a_name_bound_again(w, x, y):
    loss = train(w, x, y)
    with nb.no_grad():
        x += 1.0  # a new tensor under an old name: the argument itself stays
    w.kept += x.sum()
    return loss


def by_history(w, x, y):
    train(w, x, y)
    return (w.leaf * w.leaf).sum() * x[0, 0] + (w.net[0].weight * 3.0).sum()


def by_attribute(w, x, y):
    w.net.features = w.net[0](x).detach()
    return train(w, x, y)


def by_collection(w, x, y):
    loss = train(w, x, y)
    w.noted.append(loss)
    w.noted.append({"array": loss.data, "deep": [loss * 2.0]})
    return loss


def by_array_of_the_outside(w, x, y):
    first = x * nb.asarray(w.raw)
    w.raw += 1.0
    return train(w, first * nb.asarray(w.raw), y)


def by_shared_memory(w, x, y):
    held = nb.Tensor(next(w.net.buffers()).array)
    before = held * 1.0
    return train(w, x, y), before, held * 1.0


def by_gradient_assigned(w, x, y):
    w.leaf.grad = nb.ones(2) * x[0, :2]
    return train(w, x, y)


def by_number_kept(w, x, y):
    w.noted.append(w.net[3].calls.value * 2)
    return train(w, x, y)


WITHOUT_A_LINE = [f for name, f in list(globals().items()) if name.startswith("by_") and f not in AT_A_LINE]


def plain(value):
    """Everything that can be reached, as NumPy arrays and numbers; nothing recorded is left."""
    assert not isinstance(value, Traced)
    assert type(value).__name__ != "Number"
    if isinstance(value, nb.Tensor):
        return [plain(value.data), plain(value._grad), value.requires_grad]
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return to_host(value).copy() if hasattr(value, "shape") else value


def everything(w, result):
    extras = {k: v for k, v in vars(w).items() if k not in ("net", "opt", "older")}
    features = [plain(vars(m).get("features")) for m in w.net.modules()]
    gradients = [
        plain(p._gradient.data if isinstance(p._gradient, nb.Tensor) else p._gradient) for p in w.net.parameters()
    ]
    calls, state = w.net[3].calls.value, w.opt.state_dict()
    lr = w.opt.param_groups[0]["lr"]
    return [plain(result), plain(extras), features, gradients, calls, plain(w.net.state_dict()), plain(state), lr]


@pytest.mark.parametrize("step", AT_A_LINE + WITHOUT_A_LINE, ids=lambda f: f.__name__)
def test_it_says_why_and_is_a_true_step(step):
    w, twin = world(), world()
    want = step(twin, twin.x, twin.y)
    recording = Recording(lambda x, y: step(w, x, y), (w.x, w.y), {})
    assert recorder.get() is None
    np.testing.assert_equal(everything(w, recording.result), everything(twin, want))
    lines, first = inspect.getsourcelines(step)
    here = [first + i for i, text in enumerate(lines) if text.rstrip().endswith("# here")]
    assert __file__ in recording.broken
    if here:
        assert f"(line {here[0]} of {__file__})" in recording.broken
    np.testing.assert_equal(  # and so is what follows
        everything(w, train(w, w.x, w.y)), everything(twin, train(twin, twin.x, twin.y))
    )


def test_a_result_with_history_can_be_called_backward_on():
    w, twin = world(), world()
    recording = Recording(lambda x, y: by_history(w, x, y), (w.x, w.y), {})
    assert "a result with history" in recording.broken
    recording.result.backward()
    by_history(twin, twin.x, twin.y).backward()
    np.testing.assert_array_equal(w.leaf.grad.numpy(), twin.leaf.grad.numpy())
    np.testing.assert_array_equal(w.net[0].weight.grad.numpy(), twin.net[0].weight.grad.numpy())


@pytest.mark.parametrize("place", ["cpu", DEVICE1], ids=str)
def test_a_graph_that_outlives_the_step_works_on(place):
    def run(record):
        x = nb.tensor([[0.5, -1.0, 2.0]], device=place, requires_grad=True)
        net = nn.Sequential(nn.Linear(3, 3), nn.GELU(), nn.Softmax()).init(0).to(place)

        def step(a):
            y = net(x * a)
            return (nb.where(y > 0.3, y, y * y).max(1) + nb.sort(y, axis=1)[:, 0]).sum()

        a = nb.tensor([[1.0, 2.0, 3.0]], device=place)
        y = Recording(step, (a,), {}).result if record else step(a)
        y.backward()
        return [y, x.grad, *(p.grad for p in net.parameters())]

    for got, want in zip(run(True), run(False), strict=True):
        np.testing.assert_array_equal(got.numpy(), want.numpy())


def test_arguments_with_gradients_and_in_lists_are_as_after_a_step():
    def step(xs, named):
        (xs[0] * xs[1]).sum().backward()
        xs.append(xs[0] * 2.0)
        named["sum"] = named.pop("a") + 1
        return xs[0] * 1.0

    def given():
        x = nb.tensor([1.0, 2.0], requires_grad=True)
        x.grad = nb.ones(2)
        return [x, np.float32([3, 4])], {"a": 1, "b": "text"}

    (xs, named), (ys, others) = given(), given()
    recording, want = Recording(step, (xs, named), {}), step(ys, others)
    assert "a gradient left in .grad" in recording.broken
    np.testing.assert_equal(plain([xs, named, recording.result]), plain([ys, others, want]))


def test_an_argument_that_comes_back_is_the_same_object():
    x = nb.tensor([1.0])
    assert Recording(lambda x: {"x": x}, (x,), {}).result["x"] is x


def test_an_array_of_an_older_recording_is_an_array_from_outside():
    kept = []

    def keep(x):
        kept.append((x.data * 2.0,))  # in a tuple, which cannot be changed
        return x

    def use(x):
        (h,) = kept[0]
        return [
            nb.asarray(v) for v in (h * x.data, x.data - h, nb.namespace(h).exp(h), np.add(h, x.data), h[:1] + h[1:])
        ]

    x = nb.Tensor(np.array([1.0, 2.0]))
    Recording(keep, (x,), {})
    recording = Recording(use, (x,), {})
    assert recording.broken is None
    for k in (1.0, 3.0):
        got, want = interpret.run(recording.program, [x.data * k]), use(x * k)
        np.testing.assert_equal(got, plain([to_host(v.data) for v in want]))


def test_a_recording_ends_with_its_last_reference():
    recording = Recording(lambda x: (x * x).sum(), (nb.ones(3),), {})
    trace, node = weakref.ref(recording.trace), recording.program.nodes[-1]
    assert node.shape == ()
    gc.disable()
    try:
        del recording
        assert trace() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt()])
def test_an_error_leaves_what_eager_leaves(error):
    def step(w, x, y):
        w.noted.append(train(w, x, y))
        raise error

    w, twin = world(), world()
    with pytest.raises(type(error)) as caught:
        Recording(lambda x, y: step(w, x, y), (w.x, w.y), {})
    assert caught.value is error
    with pytest.raises(type(error)):
        step(twin, twin.x, twin.y)
    assert recorder.get() is None
    np.testing.assert_equal(everything(w, None), everything(twin, None))


def test_an_error_of_the_library_is_the_same():
    w, messages = world(), []
    for run in (lambda f, x: Recording(f, (x,), {}), lambda f, x: f(x)):
        with pytest.raises(ShapeError) as caught:
            run(w.net, nb.ones((2, 5)))
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert "Linear" in messages[0]
