"""A run that is checkpointed at every step, gone on with from some of them, and compared bit for bit."""

import warnings

import numpy as np

import nnbackend as nb
from nnbackend import nn
from nnbackend.cells import Cell, Scalar
from nnbackend.nn import Module, RandomModule

RNG = np.random.default_rng(0)
X = RNG.standard_normal((15, 6)).astype("float32")
LABELS = RNG.integers(3, size=15)
VALUES = (X[:, :2] * 0.5 + X[:, 2:4]).astype("float32")
SECOND = X[::-1].copy(), LABELS[::-1].copy()


def small(dtype="float32"):
    """Two layers."""
    return nn.Sequential(nn.Linear(6, 4, dtype=dtype), nn.Tanh(), nn.Linear(4, 3, dtype=dtype))


def images():
    """Convolution, batch norm, and randomness of all kinds."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 2, 3)), nn.Conv2d(1, 4, 2, padding=1), nn.BatchNorm2d(4), nn.Dropout2d(0.2), nn.SiLU(),
        nn.Flatten(), nn.AlphaDropout(0.1), nn.FeatureAlphaDropout(0.1), nn.RReLU(), nn.Linear(48, 3),
    )  # fmt: skip


def maker(net=small, loss="cross_entropy", optimizer="adam", metrics=(), seed=1, **kw):
    """What makes a trainer: `net()` and `optimizer(net)` are called anew where they are functions."""

    def make():
        made = net()
        ready = optimizer(made) if callable(optimizer) else optimizer
        return nb.Trainer(made, loss, ready, metrics, device="cpu", seed=seed, **kw)

    return make


def bits(x):
    """A value with every array as its bytes."""
    if isinstance(x, dict):
        return {key: bits(part) for key, part in x.items()}
    if isinstance(x, list | tuple):
        return [bits(part) for part in x]
    if isinstance(x, nb.Tensor):
        host = x.detach().numpy()
        return host.dtype.name, host.shape, host.tobytes()
    return repr(x)


def standing(module):
    """All that a module is between two steps, whether a file keeps it or not."""
    cells = {name: (bits(cell), cell.requires_grad) for name, cell in module._named_cells(Cell)}
    rest = {
        path: [
            (m.training, m.path, m.key if isinstance(m, RandomModule) else None),
            *((name, x._value) for name, x in vars(m).items() if isinstance(x, Scalar)),
        ]
        for path, m in module.named_modules()
    }
    return cells, rest


def everything(trainer):
    """All that a trainer is between two steps."""
    return {
        "net": standing(trainer.net),
        "loss": standing(trainer.loss) if isinstance(trainer.loss, Module) else trainer.loss,
        "optimizer": bits(trainer.optimizer.state_dict()),
        "schedule": None if trainer.schedule is None else bits(trainer.schedule.state_dict()),
        "history": bits(trainer.history.rows),
        "steps": trainer.steps,
    }


def written(folder):
    """What the checkpoints in a folder say, by step."""
    return {int(path.stem.partition("-")[2]): path.read_bytes() for path in sorted(folder.glob("step-*"))}


def exact(folder, make, fit, at=None, given=None, callbacks=list):
    """Assert that a run goes on from its checkpoints as if nothing had happened; returns the uninterrupted one.

    `make()` is the trainer, `fit(trainer, **kw)` the call, `given()` what `Trainer.resume` is to be given. The files
    that are written after going on are those of the uninterrupted run: they hold the loader's place, the losses of the
    epoch and the state of callbacks too.
    """
    quiet, whole = make(), make()
    fit(whole, checkpoints=nb.Checkpoints(folder / "whole", every=1, keep=10**6), callbacks=callbacks())
    if quiet.seed is not None:
        fit(quiet, callbacks=callbacks())
        assert everything(quiet) == everything(whole)  # checkpoints change nothing
    end, files = everything(whole), written(folder / "whole")
    assert sorted(files) == list(range(1, whole.steps + 1))
    for step in [n for n in at or files if n < whole.steps]:
        path = folder / "whole" / f"step-{step:010d}.safetensors"
        trainer = nb.Trainer.resume(path, device="cpu", **(given() if given else {}))
        here = folder / f"from-{step}"
        fit(trainer, checkpoints=nb.Checkpoints(here, every=1, keep=10**6), callbacks=callbacks())
        assert everything(trainer) == end, step
        assert written(here) == {n: file for n, file in files.items() if n > step}, step
    return whole


def fit_quietly(X=X, y=LABELS, epochs=2, batch_size=5, **settings):
    """A call of `fit`, to be made of several trainers."""

    def fit(trainer, **kw):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", nb.errors.RecordingWarning)
            return trainer.fit(
                X, y, verbose=False, check=False, **{"epochs": epochs, "batch_size": batch_size, **settings, **kw}
            )

    return fit
