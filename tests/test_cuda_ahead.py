"""Many steps of a fit in one launch: the same bits as one by one, and nobody who looks on is left out."""

import numpy as np
import pytest

import nnbackend as nb
from nnbackend import nn, optim
from nnbackend.backend import KERNELS, SYNC, cuda_status
from nnbackend.errors import NonFiniteError
from nnbackend.program import Compiled
from nnbackend.train import ahead

pytestmark = [
    pytest.mark.skipif(not cuda_status().usable, reason="needs CUDA"),
    pytest.mark.skipif(not KERNELS or SYNC, reason="without kernels nothing is captured"),
]
rng = np.random.default_rng(0)
X, Y = rng.standard_normal((83, 5)).astype("float32"), rng.integers(0, 3, 83)


@pytest.fixture
def together(monkeypatch):
    """How many steps each launch of a fit has taken."""
    taken, several = [], Compiled.several

    def counted(self, calls):
        taken.append(len(calls))
        return several(self, calls)

    monkeypatch.setattr(ahead, "WORTH", 16)
    monkeypatch.setattr(Compiled, "several", counted)
    return taken


def trainer(**settings):
    net = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3))
    return nb.Trainer(net, "cross_entropy", optim.AdamW(lr=0.01), ["accuracy"], device="cuda", seed=0, **settings)


def told(t):
    """All that a fit leaves."""
    memory = [value for state in t.optimizer.state_dict()["state"].values() for value in state.values()]
    arrays = [np.asarray(nb.asarray(x).numpy()).tobytes() for x in [*t.net.state_dict().values(), *memory]]
    return t.history.rows, arrays, t.steps


@pytest.mark.parametrize(
    "how",
    [{"shuffle": True}, {"shuffle": False}, {"sample_weight": np.linspace(0.5, 1.5, 83)}, {"validation_split": 0.2}],
    ids=lambda how: next(iter(how)),
)
def test_the_same_bits(how, together, monkeypatch):
    settings = {"epochs": 5, "batch_size": 8, "verbose": False, **how}
    a = trainer()
    a.fit(X, Y, **settings)
    assert max(together) > 4
    assert sum(together) == a.steps
    monkeypatch.setattr(ahead, "WORTH", 10**9)
    together.clear()
    b = trainer()
    b.fit(X, Y, **settings)
    assert not together
    assert told(a) == told(b)


def test_fits_one_after_the_other(together):
    a, b = trainer(), trainer()
    for epochs in (2, 3):
        a.fit(X, Y, epochs=epochs, batch_size=8, verbose=False)
    b.fit(X, Y, epochs=5, batch_size=8, verbose=False)
    assert told(a)[1:] == told(b)[1:]


def test_nobody_looks_on(together, tmp_path):
    """Callbacks, checkpoints, schedules by steps and accumulated gradients see each step."""
    seen = []

    class Watch(nb.Callback):
        def on_step_end(self, trainer):
            seen.append(trainer.steps)

    trainer().fit(X, Y, epochs=2, batch_size=8, verbose=False, callbacks=[Watch()])
    assert seen == list(range(1, 23))
    trainer().fit(X, Y, epochs=2, batch_size=8, verbose=False, checkpoints=tmp_path)
    trainer().fit(X, Y, epochs=4, batch_size=8, verbose=False, accumulate=2)
    by_step = {"schedule": lambda opt: optim.StepLR(opt, 10), "schedule_every": "step"}
    trainer(**by_step).fit(X, Y, epochs=2, batch_size=8, verbose=False)
    assert not together
    trainer(schedule=lambda opt: optim.StepLR(opt, 1)).fit(X, Y, epochs=2, batch_size=8, verbose=False)
    assert together


def test_a_loss_that_is_not_finite_is_told_as_ever(together, monkeypatch):
    def message(worth):
        monkeypatch.setattr(ahead, "WORTH", worth)
        t = nb.Trainer(nn.Linear(5, 1), "mse", optim.SGD(lr=1e30), device="cuda", seed=0)
        with pytest.raises(NonFiniteError) as error:
            t.fit(X, X[:, :1], epochs=4, batch_size=8, verbose=False, check=False)
        return str(error.value), t.steps

    assert message(16) == message(10**9)
