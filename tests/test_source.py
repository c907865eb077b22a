"""A recorded step or model as a plain NumPy script, which runs where there is no nnbackend."""

import subprocess
import sys

import array_api_strict
import digits as digits_example
import iris as iris_example
import numpy as np
import pytest
import xor as xor_example

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import nn, optim
from nnbackend.errors import CheckpointWriteError, GraphError
from nnbackend.io.source import to_source
from nnbackend.program.record import Recording
from nnbackend.tensor import lift

# -- running a script ------------------------------------------------------------------------------------------------

ALONE = """
import runpy, sys
import numpy as np
sys.modules["nnbackend"] = None
script, function, times, given, results = sys.argv[1:]
with np.load(given) as file:
    inputs = [file[name] for name in file.files]
names = runpy.run_path(script)
outputs = [np.asarray(names[function](*inputs)) for _ in range(int(times))]
np.savez(results, *outputs)
"""


def alone(script, function, *inputs, times=1):
    """What the function of a script returns, in a Python of its own that cannot import nnbackend."""
    given, results = script.with_suffix(".in.npz"), script.with_suffix(".out.npz")
    np.savez(given, *inputs)
    flags = ["-I", "-W", "error", "-c", ALONE]
    done = subprocess.run(
        [sys.executable, *flags, script, function, str(times), given, results],
        capture_output=True, text=True, cwd=script.parent, timeout=50,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    with np.load(results) as file:
        return [file[name] for name in file.files]


def here(text):
    """The names of a script that is run here."""
    names = {}
    exec(compile(text, "script", "exec"), names)
    return names


def training(net, optimizer, loss=F.mse_loss):
    def step(x, y):
        value = loss(net(x), y)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        return value

    return step


def xor(optimizer):
    """The tutorial's network and a step."""
    net = xor_example.network()
    X, y = nb.data.xor()
    return net, training(net, optimizer(net.parameters())), nb.tensor(X), nb.tensor(y)


def agree(step, args, times=3):
    """The script and the step return the same, again and again. Returns the names of the script."""
    names = here(to_source(step, args))
    raw = [x.numpy() if isinstance(x, nb.Tensor) else x for x in args]
    for _ in range(times):
        want, got = step(*args), names[step.__name__](*raw)
        want, got = (x if isinstance(x, tuple) else (x,) for x in (want, got))
        for w, g in zip(want, got, strict=True):
            np.testing.assert_array_equal(g, w.numpy() if isinstance(w, nb.Tensor) else w)
    return names


# -- the tutorials ----------------------------------------------------------------------------------------------------

OPTIMIZERS = {
    "sgd": lambda p: optim.SGD(p, lr=0.5),
    "momentum": lambda p: optim.SGD(p, lr=0.5, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "adam": lambda p: optim.Adam(p, lr=0.1, weight_decay=1e-3),
    "adamw": lambda p: optim.AdamW(p, lr=0.1),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_xor_alone_gives_the_librarys_numbers(optimizer, tmp_path):
    _, step, x, y = xor(optimizer)
    to_source(step, (x, y), tmp_path / "step.py")
    losses = alone(tmp_path / "step.py", "step", x.numpy(), y.numpy(), times=10)
    assert [float(v) for v in losses] == [step(x, y).item() for _ in range(10)]


def test_xor_reads_like_the_tutorial():
    _, step, x, y = xor(OPTIMIZERS["sgd"])
    text = to_source(step, (x, y))
    for line in (
        "z1 = x @ W1.T + b1", "a1 = sigmoid(z1)", "z2 = a1 @ W2.T + b2", "a2 = sigmoid(z2)", "dW2 = dz2.T @ a1",
        "da1 = dz2 @ W2", "dz1 = da1 * ((1.0 - a1) * a1)", "db1 = dz1.sum(axis=0)", "W1 -= lr * dW1", "b2 -= lr * db2",
        "return loss", "# forward", "# backward", "# update",
    ):  # fmt: skip
        assert f"\n    {line}" in text
    assert "\nlr = 0.5\n" in text
    assert "def step(x, y):\n    global W1, b1, W2, b2\n" in text
    assert max(len(line) for line in text.splitlines()) < 102
    assert [line for line in text.splitlines() if "import" in line] == ["import math", "import numpy as np"]


def test_iris_predicts_alone(tmp_path):
    for recipe, epochs in (("tutorial", 2), ("modern", 3)):
        trainer, _ = iris_example.run(recipe, 42, epochs=epochs)
        X = np.random.default_rng(0).uniform(0, 5, (12, 4)).astype("float64" if recipe == "tutorial" else "float32")
        trainer.net.train()
        to_source(trainer.net, nb.tensor(X), tmp_path / f"{recipe}.py")
        with nb.no_grad():
            want = trainer.net.eval()(nb.tensor(X)).numpy()
        np.testing.assert_array_equal(alone(tmp_path / f"{recipe}.py", "predict", X)[0], want)


def test_digits_predict_alone_with_their_weights_beside(tmp_path):
    trainer, _, _ = digits_example.run(0, epochs=1)
    X = (nb.data.digits().X[:50] / 16.0).astype("float32")
    text = to_source(trainer.net, X, tmp_path / "digits.py")
    with np.load(tmp_path / "digits.npz") as saved:
        assert sorted(saved.files) == ["W1", "W2", "b1", "b2"]
        assert all(f'{name} = saved["{name}"]' in text for name in saved.files)
    assert 'np.load(Path(__file__).with_suffix(".npz"), allow_pickle=False)' in text
    with nb.no_grad():
        want = trainer.net(nb.tensor(X)).numpy()
    np.testing.assert_array_equal(alone(tmp_path / "digits.py", "predict", X)[0], want)


def test_dropout_and_adamw_alone(tmp_path):
    rng = np.random.default_rng(0)
    net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 3)).init(0)
    step = training(net, optim.AdamW(net.parameters(), lr=0.01), F.cross_entropy)
    x, y = nb.tensor(rng.standard_normal((5, 4)).astype("float32")), nb.tensor(rng.integers(0, 3, 5))
    step(x, y)
    text = to_source(step, (x, y), tmp_path / "train.py")
    assert "exp_avg[...] = exp_avg * beta1 + " in text
    assert "parameters[...] = " in text
    assert 'parameters = saved["parameters"]' in text
    assert "W1 = parameters[0:64].reshape(16, 4)" in text
    losses = alone(tmp_path / "train.py", "step", x.numpy(), y.numpy(), times=5)
    assert [float(v) for v in losses] == [step(x, y).item() for _ in range(5)]


# -- what users write -------------------------------------------------------------------------------------------------


@lift
def swish(x, beta):
    xp = nb.namespace(x)
    s = 1.0 / (1.0 + xp.exp(-x * beta))
    return x * s, (lambda dy: dy * (s + x * beta * s * (1.0 - s)), None)


class Gain(nn.Module):
    """A layer of a user: a factor for each column, and a running mean."""

    def __init__(self, n):
        self.gain = nn.Parameter(nb.tensor(np.ones(n)))
        self.register_buffer("running_mean", nb.tensor(np.zeros(n)))

    def forward(self, x):
        if self.training:
            with nb.no_grad():
                self.running_mean.assign(0.9 * self.running_mean + 0.1 * nb.mean(x, axis=0))
        return swish((x - self.running_mean) * self.gain, 1.5)


def own_net():
    rng = np.random.default_rng(1)
    net = nn.Sequential(nn.Linear(2, 3), Gain(3), nn.Linear(3, 1)).to("float64").init(1)
    return net, nb.tensor(rng.standard_normal((4, 2))), nb.tensor(rng.standard_normal((4, 1)))


def test_layers_and_ops_of_the_user():
    net, x, y = own_net()
    step = training(net, optim.SGD(net.parameters(), lr=0.1))
    text = to_source(step, (x, y))
    for line in ("running_mean2[...] = ", "swish2 = ", "gain2 -= lr * dgain2", "z3 = swish2 @ W3.T + b3"):
        assert f"\n    {line}" in text
    agree(step, (x, y))
    np.testing.assert_array_equal(here(to_source(net.eval(), x))["predict"](x.numpy()), net(x).numpy())


def test_a_loop_of_ones_own():
    net, x, y = own_net()

    def descend(x, y):
        loss = F.mse_loss(net(x), y)
        loss.backward()
        with nb.no_grad():
            for p in net.parameters():
                p -= 0.1 * p.grad
        net.zero_grad()
        return loss

    assert "\n    W1 -= 0.1 * dW1" in to_source(descend, (x, y))
    agree(descend, (x, y))


def test_gradients_that_add_up():
    net, x, y = own_net()
    sgd = optim.SGD(net.parameters(), lr=0.1)

    def step(x, y):
        loss = F.mse_loss(net(x), y)
        loss.backward()
        sgd.step()
        return loss

    assert "\n    dW1 += dW1_2" in to_source(step, (x, y))
    assert all(p.grad is None for p in net.parameters())
    agree(step, (x, y))


def test_arguments_and_results():
    def both(pair, scale, shift):
        a, b = pair
        return a @ b * scale, (scale + shift, a), {"sum": [nb.sum(b), None, "done"]}

    a, b = np.ones((2, 3)), np.full((3, 2), 2.0)
    text = to_source(both, ((a, b), 2.0, 3))
    assert "def both(pair_1, pair_2, scale, shift):" in text
    product, (number, same), rest = here(text)["both"](a, b, 2.0, 3)
    np.testing.assert_array_equal(product, a @ b * 2.0)
    assert (number, same is a, rest) == (5.0, True, {"sum": [12.0, None, "done"]})
    assert "def step(x1):" in to_source(lambda *xs: xs[0] + 1.0, a)
    assert "\n    pass\n" in to_source(lambda x: None, a)


def test_a_compiled_step_is_its_step():
    _, step, x, y = xor(OPTIMIZERS["sgd"])

    def compiled(*args):
        raise AssertionError

    compiled.step = step
    assert to_source(compiled, (x, y)) == to_source(step, (x, y))


def test_names_are_valid_and_unique():
    def sigmoid(np, x, W1):
        return F.sigmoid(np * x + W1)

    text = to_source(sigmoid, (np.ones(2), np.ones(2), np.ones(2)))
    assert "def sigmoid_step(np_2, x, W1):" in text
    np.testing.assert_array_equal(
        here(text)["sigmoid_step"](np.ones(2), np.ones(2), np.ones(2)), F.sigmoid(np.full(2, 2.0))
    )


def test_values_that_are_hard_to_write():
    values = np.array([np.nan, np.inf, -np.inf, -0.0, 0.1, 1e300, 5e-324])
    odd = [
        values,
        values[3:4],
        np.float32([0.1, 1 / 3]),
        np.array([True, False]),
        np.array([], "int64"),
        np.zeros((0, 3)),
    ]

    def step(x):
        return tuple(nb.reshape(nb.asarray(v), v.shape) if v.dtype == bool else nb.asarray(v) * x for v in odd)

    with np.errstate(over="ignore"):
        got = here(to_source(step, (1,)))["step"](1)
    for g, v in zip(got, odd, strict=True):
        assert (g.shape, g.dtype) == (v.shape, v.dtype)
        assert g.tobytes() == (v * 1 if v.dtype != bool else v).tobytes()


# -- nothing is left behind -------------------------------------------------------------------------------------------


def snapshot(net, optimizer):
    return (
        {n: (t.numpy().tobytes(), t.written) for n, t in net.named_parameters()},
        [b.numpy().tobytes() for b in net.buffers()],
        {n: None if p.grad is None else p.grad.numpy().tobytes() for n, p in net.named_parameters()},
        [(s["step"], *[v.numpy().tobytes() for k, v in s.items() if k != "step"])
         for s in optimizer.state_dict()["state"].values()],
        [m.calls.value for m in net.modules() if hasattr(m, "calls")],
    )  # fmt: skip


@pytest.mark.parametrize("warm", [0, 2])
def test_net_optimizer_and_gradients_stay_as_they_are(warm):
    net, x, y = own_net()
    net = nn.Sequential(net, nn.Dropout(0.5))
    adam = optim.Adam(net.parameters())
    step = training(net, adam)
    for _ in range(warm):
        step(x, y)
    before = snapshot(net, adam)
    to_source(step, (x, y))
    to_source(net, x)
    assert snapshot(net, adam) == before


def test_a_step_that_fails_leaves_nothing_either():
    net, x, y = own_net()
    sgd = optim.SGD(net.parameters(), lr=0.1)

    def step(x, y):
        training(net, sgd)(x, y)
        raise KeyError("late")

    before = snapshot(net, sgd)
    with pytest.raises(KeyError, match="late"):
        to_source(step, (x, y))
    assert snapshot(net, sgd) == before


def test_what_cannot_be_recorded_is_said_with_its_line():
    net, x, y = own_net()

    def step(x, y):
        loss = F.mse_loss(net(x), y)
        if loss > 1:
            loss = loss * 2.0
        return loss.detach()

    line = step.__code__.co_firstlineno + 2
    with pytest.raises(
        GraphError, match=rf"to_source: expected a step that can be recorded, got .*line {line} of .*test_source"
    ):
        to_source(step, (x, y))


def test_no_file_is_left_where_none_can_be_written(tmp_path):
    net, x, _ = own_net()
    with pytest.raises(CheckpointWriteError, match="missing"):
        to_source(net, x, tmp_path / "missing" / "net.py")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("inline", "beside"), [(64, False), (3, True)])
def test_small_weights_stand_in_the_script(inline, beside, tmp_path):
    net, x, _ = own_net()
    path = tmp_path / "net.py"
    assert path.write_text("old") == 3
    text = to_source(net.eval(), x, path, inline=inline)
    assert path.read_text() == text
    assert path.with_suffix(".npz").exists() == beside == ("saved" in text)
    np.testing.assert_array_equal(alone(path, "predict", x.numpy())[0], net(x).numpy())


def test_what_numpy_does_not_have_is_said(monkeypatch):
    recorded = Recording(lambda x: F.sigmoid(x), (np.ones(2),), {})
    recorded.program.nodes[-1].op = "expit"
    monkeypatch.setattr("nnbackend.io.source.Recording", lambda *args: recorded)
    with pytest.raises(GraphError, match="to_source: expected functions of NumPy, got expit"):
        to_source(lambda x: F.sigmoid(x), np.ones(2))


def test_a_model_on_another_library_becomes_numpy():
    def script(device):
        net, x, y = own_net()
        step = training(net.to(device), optim.SGD(net.parameters(), lr=0.1))
        return to_source(step, (x.to(device), y.to(device)))

    _, x, y = own_net()
    want, got = script(nb.device("cpu")), script(nb.device(array_api_strict.Device("device1")))
    assert [line for line in got.splitlines() if " = np.array(" in line] == [
        line for line in want.splitlines() if " = np.array(" in line
    ]
    first, second = (here(text)["step"](x.numpy(), y.numpy()) for text in (got, want))
    np.testing.assert_allclose(first, second, rtol=1e-12)
