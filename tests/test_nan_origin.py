"""Where a NaN was born: the operation, its layer and line, the rows, the cure; and the model as it last was sound."""

import pickle

import array_api_strict
import numpy as np
import pytest

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import nn, optim
from nnbackend.backend import to_host
from nnbackend.errors import DataError, NonFiniteError
from nnbackend.program.watch import Range
from nnbackend.train import sound

DRAW = np.random.default_rng(0)
X = DRAW.standard_normal((100, 3)).astype("float32")
Y = X[:, :1] - X[:, 1:2]


@pytest.fixture(autouse=True)
def _quiet():
    with np.errstate(all="ignore"):
        yield


class Log(nn.Module):
    def forward(self, x):
        return nb.log(x)  # planted


class Masked(nn.Module):
    def forward(self, x):
        return nb.where(x > 0, nb.log(x), 0.0)  # planted


class Softmax(nn.Module):
    def forward(self, x):
        e = nb.exp(100.0 * x)  # planted
        return e / nb.sum(e, axis=1, keepdims=True)


class Standardised(nn.Module):
    def forward(self, x):
        return (x - nb.mean(x, axis=0)) / nb.std(x, axis=0)  # planted


def line_of(kind):
    """The planted line of a layer above, as messages have it."""
    code = kind.forward.__code__
    with open(code.co_filename) as file:
        lines = file.readlines()
    first = code.co_firstlineno
    return f"test_nan_origin.py:{next(n for n in range(first, first + 5) if 'planted' in lines[n - 1])}"


def trainer(*layers, optimizer=None, loss="mse", device="cpu", **kw):
    return nb.Trainer(nn.Sequential(*layers), loss, optimizer or optim.SGD(lr=0.1), device=device, seed=0, **kw)


def failing(t, x=X, y=Y, **kw):
    """The error of a fit."""
    with pytest.raises(NonFiniteError) as caught:
        t.fit(x, y, **{"batch_size": 20, "verbose": False, "check": False, **kw})
    return caught.value


def values(t):
    """All that a trainer has learned."""
    state = t.optimizer.state_dict()["state"]
    slots = {f"{i}.{name}": np.asarray(x) for i, entry in state.items() for name, x in entry.items()}
    return {**weights(t), **slots, "steps": t.steps}


def weights(t):
    return {name: to_host(x.data) for name, x in t.net.state_dict().items()}


def same(a, b):
    assert a.keys() == b.keys()
    for name, x in a.items():
        np.testing.assert_array_equal(x, b[name], err_msg=name)


# -- it is named ----------------------------------------------------------------------------------------------------


def test_log_of_zero_in_a_layer():
    """Issue 7, line 4; faults.md 33."""
    t = trainer(nn.Linear(3, 4), nn.ReLU(), Log(), nn.Linear(4, 1))
    before = values(t)
    hidden = t.net[1](t.net[0](X)).data
    error = failing(t, shuffle=False)
    assert (error.op, error.way, error.layer, error.line) == ("log", "forward", "2 = Log()", line_of(Log))
    bad = (hidden[:20] == 0).any(axis=1).nonzero()[0]
    assert error.rows == error.data_rows == tuple(bad)
    assert error.step == 1
    message = str(error)
    assert message.startswith("fit: expected a finite loss, got nan in epoch 1 (step 1, lr 0.1). First bad operation: ")
    assert f"log in 2 = Log() ({line_of(Log)}), forward; input from 0 to {hidden[:20].max():.4g} " in message
    assert f"({(hidden[:20] == 0).sum()} zeros)" in message
    assert "log(clip(x, 1e-7, None))" in message
    assert message.endswith("The model is as it was after step 0.")
    same(values(t), before)
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.op, again.rows) == (message, "log", error.rows)


def test_rows_of_shuffled_data():
    """The rows are those of X, also where some are left out for validation."""
    x = np.abs(X) + 0.1
    x[::10] = 0.0
    t = trainer(Log(), nn.Linear(3, 1), optimizer=optim.SGD(lr=1e-3))
    error = failing(t, x)
    assert set(error.data_rows) <= set(range(0, 100, 10))
    assert len(error.rows) == len(error.data_rows) > 0
    assert all(0 <= row < 20 for row in error.rows)
    assert f"{error.data_rows[0]}" in str(error).partition("of the batch, ")[2].partition(" of X")[0]
    error = failing(trainer(Log(), nn.Linear(3, 1)), x, validation_split=0.3)
    assert error.data_rows
    assert set(error.data_rows) <= set(range(0, 100, 10))


@pytest.mark.parametrize("rate", [5.0, 1e30])
def test_exploding_learning_rate(rate):
    """faults.md 50; and the cures that are named help."""
    t = trainer(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 1), optimizer=optim.SGD(lr=rate))
    error = failing(t, epochs=60)
    assert "The steps are too long: lower the learning rate, or bound the gradients with clip_norm=1." in str(error)
    assert f"(step {error.step}, lr {rate:g})" in str(error)
    assert "The gradient norm was" in str(error)
    assert error.op in ("linear", "mse_loss")
    t.clip_norm = 1.0
    t.optimizer.param_groups[0]["lr"] = 0.05
    assert t.fit(X, Y, epochs=20, verbose=False)[-1]["loss"] < 0.3  # it goes on from where it was sound
    assert [row["epoch"] for row in t.history] == list(range(1, len(t.history) + 1))


@pytest.mark.parametrize("hook", ["on_step_end", "on_epoch_end"])
def test_a_callback_that_sets_the_learning_rate(hook):
    def explode(t, *row):
        t.optimizer.param_groups[0]["lr"] = 0.1 if t.steps < 15 else 1e15

    error = failing(
        trainer(nn.Linear(3, 1)), epochs=40, report_every=40, callbacks=[nb.callbacks.Lambda(**{hook: explode})]
    )
    assert (error.op, error.step > 15) == ("mse_loss", True)
    assert "lr 1e+15" in str(error)
    assert "The steps are too long" in str(error)


def test_what_a_callback_spoils_is_not_blamed_on_an_operation():
    def spoil(t):
        if t.steps == 6:
            t.net[0].weight.assign(t.net[0].weight * np.nan)

    error = failing(trainer(nn.Linear(3, 1)), epochs=40, callbacks=[nb.callbacks.Lambda(on_step_end=spoil)])
    assert "the same steps stayed finite when they were done again without callbacks" in str(error)


def test_a_large_number_in_the_data_is_not_blamed_on_the_steps():
    large = Y.copy()
    large[-1] = 1e30
    error = failing(trainer(nn.Linear(3, 1)), X, large, batch_size=10, shuffle=False)
    assert (error.step, error.data_rows) == (10, ())
    assert "The data has numbers up to 1e+30: scale it, as with data.StandardScaler." in str(error)


def test_a_row_of_the_data_that_turns_nan():
    """Past the check at the beginning: somebody writes into the array while it is trained on."""
    x = X.copy()

    class Spoil(nb.Callback):
        def on_epoch_end(self, trainer, row):
            if row["epoch"] == 2:
                x[77, 1] = np.nan

    t = trainer(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    error = failing(t, x, epochs=6, callbacks=[Spoil()])
    assert (error.op, error.way, error.layer, error.data_rows) == ("X", "data", "", (77,))
    assert 11 <= error.step <= 15
    assert (t.steps, len(t.history)) == (10, 2)
    assert "It came with the data: X has values from " in str(error)
    assert f"row {error.rows[0]} of the batch, 77 of X. " in str(error)
    assert "Drop those rows or fill them in." in str(error)


def test_a_transformation_that_makes_nan():
    x = X.copy()
    x[:, 2] = 1.0
    error = failing(trainer(Standardised(), nn.Linear(3, 1)), x)
    assert (error.op, error.layer, error.line) == ("divide", "0 = Standardised()", line_of(Standardised))
    assert "all 20 rows of the batch" in str(error)
    assert "Add a small number to what is divided by." in str(error)


def test_slope_of_what_where_leaves_out():
    """faults.md 34: the loss is finite, the gradient is not."""
    x = X.copy()
    x[33] = 0.0
    t = trainer(nn.Linear(3, 4, bias=False), Masked(), nn.Linear(4, 1), optimizer=optim.SGD(lr=1e-3))
    error = failing(t, x, shuffle=False)
    assert (error.op, error.way, error.line) == ("log", "backward", line_of(Masked))
    assert (error.layer, error.rows, error.data_rows, error.step) == ("1 = Masked()", (13,), (33,), 2)
    assert "give log inputs where both are finite" in str(error)


def test_exponentials_that_overflow():
    error = failing(trainer(nn.Linear(3, 4), Softmax(), nn.Linear(4, 1)), 3.0 * X)
    assert (error.op, error.way, error.layer, error.line) == ("exp", "forward", "1 = Softmax()", line_of(Softmax))
    assert "log_softmax" in str(error)


def test_float16_names_the_first_layer():
    """faults.md 19."""
    t = trainer(nn.Linear(3, 8), nn.Linear(8, 8), nn.Linear(8, 1))
    t.net.half()
    for layer in t.net:
        layer.weight.assign(np.ones(layer.weight.shape, "float32"))
    error = failing(t, np.full((40, 3), 2.0**13), Y[:40])  # 24576 in the first layer, 8 times that in the second
    assert (error.op, error.way, error.layer) == ("linear", "forward", "1 = Linear(8, 8)")
    assert "float16 ends at 65504: keep this layer in float32, or scale its inputs down." in str(error)
    with pytest.raises(DataError, match="X in float16 contains infinity"):
        t.fit(1e5 * X, Y, verbose=False)


def test_given_infinities_are_not_to_blame():
    """A mask of -inf is meant; a row that is masked out whole is not."""

    class Attend(nn.Module):
        def __init__(self, shut):
            super().__init__()
            self.register_buffer("open", np.arange(3) >= shut)

        def forward(self, x):
            return F.softmax(nb.where(self.open, x, -np.inf), -1)

    error = failing(trainer(nn.Linear(3, 3), Attend(1), Log(), nn.Linear(3, 1)))
    assert (error.op, error.layer) == ("log", "2 = Log()")
    error = failing(trainer(nn.Linear(3, 3), Attend(3), nn.Linear(3, 1)))
    assert error.op == "softmax"
    assert error.layer.startswith("1 = Attend")


def test_an_update_that_overflows():
    error = failing(trainer(nn.Linear(3, 1), optimizer=optim.SGD(lr=3e38)), y=100.0 * Y)
    assert (error.op, error.way, error.layer) == ("update", "update", "SGD")
    assert "The update of 0.weight, 0.bias by SGD overflowed; 0.weight from" in str(error)
    assert ", gradient from" in str(error)


def test_several_inputs_weights_and_batches_a_step():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.log, self.fc = Log(), nn.Linear(6, 1)

        def forward(self, a, b):
            return self.fc(nb.concat([a, self.log(b)], axis=1))

    positive = np.abs(X) + 0.5
    positive[45] = 0.0
    t = nb.Trainer(Two(), "mse", optim.SGD(lr=0.01), device="cpu", seed=0)
    error = failing(t, (X, positive), accumulate=3, batch_size=10, shuffle=False, sample_weight=np.ones(100))
    assert (error.op, error.layer, error.step) == ("log", "log = Log()", 2)
    assert (error.rows, error.data_rows) == ((15,), (45,))  # of the batches 30 to 60


@pytest.mark.parametrize("optimizer", [optim.SAM(optim.SGD(lr=0.01)), optim.LBFGS(lr=0.1, max_iter=2)])
def test_optimizers_that_ask_twice(optimizer):
    x = np.abs(X) + 0.1
    x[50] = 0.0
    error = failing(trainer(Log(), nn.Linear(3, 1), optimizer=optimizer), x, shuffle=False)
    assert (error.op, error.data_rows, error.step) == ("log", (50,), 3)


def test_on_a_device():
    device = array_api_strict.Device("device1")
    t = trainer(nn.Linear(3, 4), nn.ReLU(), Log(), nn.Linear(4, 1), device=device)
    before = weights(t)
    error = failing(t, epochs=2)
    assert (error.op, error.layer, error.line) == ("log", "2 = Log()", line_of(Log))
    same(weights(t), before)
    assert t.net[0].weight.device == t.device


# -- where it cannot be ---------------------------------------------------------------------------------------------


def test_batches_that_come_once():
    t = trainer(nn.Linear(3, 4), nn.ReLU(), Log(), nn.Linear(4, 1))
    before = values(t)
    error = failing(t, ((X[i : i + 20], Y[i : i + 20]) for i in (0, 20)), None, batch_size=32)
    assert "Which operation made it is not known: batches of a generator cannot be read again." in str(error)
    assert (error.op, error.step, error.rows) == ("", 2, ())
    same(values(t), before)


def test_batches_that_are_others_the_second_time():
    passes = []

    def batches(more=True):
        passes.append(1)
        if not more and len(passes) > 1:
            raise OSError("no more")
        yield X, Y * (1e30 if len(passes) == 1 else 1.0)

    t = trainer(nn.Linear(3, 1))
    assert "the same steps stayed finite when they were done again" in str(failing(t, batches, None))
    passes.clear()
    error = failing(t, lambda: batches(more=False), None)
    assert "the steps could not be done again (OSError: no more)" in str(error)


# -- the last sound state -------------------------------------------------------------------------------------------


def explosive(**kw):
    """A trainer with all kinds of state, whose rate explodes in epoch 6."""
    layers = nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 1)
    return trainer(
        *layers,
        optimizer=optim.Adam(lr=0.01),
        schedule=lambda opt: optim.LambdaLR(opt, lambda epoch: 1.0 if epoch < 5 else 1e38),
        **kw,
    )


def test_all_is_as_it_was(tmp_path):
    """To the bit as after the last report, and what is done from there too; files of before stay."""
    t, twin = explosive(), explosive()
    twin.fit(X, Y, epochs=5, batch_size=20, verbose=False)
    error = failing(t, epochs=8, checkpoints=nb.Checkpoints(tmp_path, every=10, best="loss"))
    assert error.step > 25
    same(values(t), values(twin))
    assert t.history.rows == twin.history.rows
    assert len(t.history) == 5
    assert t.schedule.state_dict() == twin.schedule.state_dict()
    assert t.optimizer.param_groups[0]["lr"] == twin.optimizer.param_groups[0]["lr"]
    names = ["best.safetensors", "step-0000000010.safetensors", "step-0000000020.safetensors"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    for each in (t, twin):
        each.optimizer.param_groups[0]["lr"] = 0.01
        each.schedule, each.schedule_every = None, "epoch"
        each.fit(X, Y, epochs=2, batch_size=20, verbose=False)
    same(values(t), values(twin))


def test_the_step_is_the_first_that_spoils():
    """With dropout and shuffles: the same step as a look at every one of them finds."""

    class Spot(nb.Callback):
        step = 0

        def on_step_end(self, trainer):
            if not self.step and not all(np.isfinite(p.data).all() for p in trainer.net.parameters()):
                self.step = trainer.steps

    class Sum(nn.Module):
        def forward(self, x):
            return nb.log(nb.sum(abs(x), axis=1, keepdims=True))

    spot = Spot()
    t = trainer(nn.Linear(3, 7), nn.Dropout(0.4), Sum(), nn.Linear(1, 1), optimizer=optim.Adam(lr=1e-3))
    error = failing(t, epochs=8, callbacks=[spot], report_every=3)
    assert error.step == spot.step > 1
    assert error.op == "log"
    assert len(error.rows) == 1


def test_copies_cost_little(monkeypatch):
    """After the first ones, at most a 40th of the time."""
    t, made = trainer(nn.Linear(3, 1)), []
    monkeypatch.setattr(sound, "Copy", lambda trainer: made.append(trainer.steps))
    monkeypatch.setattr(sound, "FREE", 3)
    now = iter(np.arange(0.0, 1000.0, 1.0))
    monkeypatch.setattr(sound.time, "perf_counter", lambda: float(next(now)))
    t.fit(X, Y, epochs=90, batch_size=None, report_every=1, verbose=False)
    assert made[:3] == [0, 1, 2]
    assert 40 <= made[3] <= 45


def test_ranges_in_words():
    assert str(Range.of("x", np.array([1.0, 0.0, np.nan, np.inf]))) == "x from 0 to 1 (1 zero, 1 NaN, 1 infinite)"
    assert str(Range.of("x", np.array([np.nan, np.nan]))) == "x (2 NaN)"
    assert str(Range.of("x", 0.0)) == "x 0"
    assert Range.of("x", np.array([-3.0, 2.0])).largest == 3.0
