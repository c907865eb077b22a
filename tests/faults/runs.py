"""The run that the faults meet, alike in all processes: `python tests/faults/runs.py kill runs/x` is one of them.

Batch norm, dropout, Adam, a schedule by steps, shuffles, validation, a metric and a callback that remembers.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import nnbackend as nb
from nnbackend import crash, nn, optim
from nnbackend.errors import CheckpointWriteError
from nnbackend.io import safetensors

if os.name == "posix":
    import resource

ROOT = Path(nb.__file__).parents[1]
BATCHES = 4  # in an epoch
random = np.random.default_rng(0)
X, Y = random.normal(size=(50, 6)).astype("float32"), random.integers(3, size=50)


class Seen(nb.Callback):
    """Counts, and a loss that it has seen."""

    def __init__(self) -> None:
        self.steps, self.epochs, self.sum = 0, 0, 0.0

    def on_step_end(self, trainer: nb.Trainer) -> None:
        self.steps += 1

    def on_epoch_end(self, trainer: nb.Trainer, row: dict[str, Any]) -> None:
        self.epochs, self.sum = self.epochs + 1, self.sum + row["loss"]

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "epochs": self.epochs, "sum": self.sum}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps, self.epochs, self.sum = state["steps"], state["epochs"], state["sum"]


class Digests(nb.Callback):
    """What the trainer was after each step."""

    def __init__(self) -> None:
        self.after: dict[int, dict[str, Any]] = {}

    def on_step_end(self, trainer: nb.Trainer) -> None:
        self.after[trainer.steps] = standing(trainer)


class Here(nb.Callback):
    """Calls a function at one step."""

    def __init__(self, step: int, act: Callable[[], Any]) -> None:
        self.step, self.act = step, act

    def on_step_end(self, trainer: nb.Trainer) -> None:
        if trainer.steps == self.step:
            self.act()


def make(**changed: Any) -> nb.Trainer:
    net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))
    settings = {
        "net": net,
        "loss": "cross_entropy",
        "optimizer": optim.Adam(lr=0.02),
        "metrics": ["accuracy"],
        "schedule": lambda opt: optim.CosineAnnealingLR(opt, 150),
        "schedule_every": "step",
        "seed": 1,
        "device": "cpu",
    }
    return nb.Trainer(**{**settings, **changed})


def keeper(folder: str | os.PathLike[str], every: int = 2, **changed: Any) -> nb.Checkpoints:
    return nb.Checkpoints(folder, **{"every": every, "keep": 2, "best": "val_loss", **changed})


def fit(trainer: nb.Trainer, epochs: int = 3, callbacks: Any = (), **changed: Any) -> nb.History:
    settings = {"batch_size": 16, "validation_data": (X[:20], Y[:20]), "report_every": 1, "verbose": False}
    return trainer.fit(X, Y, epochs=epochs, callbacks=callbacks, **{**settings, **changed})


# -- what must be equal ----------------------------------------------------------------------------------------------


def folded(x: Any) -> Any:
    """Values that can be compared exactly, and written as JSON."""
    if isinstance(x, dict):
        return {str(name): folded(part) for name, part in x.items()}
    if isinstance(x, list | tuple):
        return [folded(part) for part in x]
    if hasattr(x, "shape"):
        array = np.asarray(x.numpy() if hasattr(x, "numpy") else x)
        return f"{array.dtype}{array.shape} {hashlib.sha256(array.tobytes()).hexdigest()}"
    return repr(x)


def standing(trainer: nb.Trainer) -> dict[str, Any]:
    """Where a trainer stands."""
    return {
        "steps": trainer.steps,
        "weights": folded(dict(trainer.net.named_parameters())),
        "buffers": folded(dict(trainer.net.named_buffers())),
        "calls": folded([m.calls.value for m in trainer.net.modules() if hasattr(m, "calls")]),
        "optimizer": folded(trainer.optimizer.state_dict()),
        "schedule": folded(trainer.schedule and trainer.schedule.state_dict()),
        "history": folded(trainer.history.rows),
    }


def facts(trainer: nb.Trainer, folder: Path, seen: Seen, kept: nb.Checkpoints) -> dict[str, Any]:
    """All that must be as it would have been: where the trainer stands, and every byte of its files."""
    files = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in sorted(os.listdir(folder))}
    return {**standing(trainer), "seen": folded(seen.state_dict()), "best": repr(kept.best_value), "files": files}


def content(path: Path) -> dict[str, Any]:
    """Where the trainer in a checkpoint stood, but for its optimizer."""
    found = nb.load(path)
    net, table = found["net"], found["history"]
    rows: list[dict[str, Any]] = [{} for _ in range(table["length"])]
    for name, column in table["columns"].items():
        for i, value in zip(column["rows"].numpy().tolist(), column["values"].numpy().tolist(), strict=True):
            rows[i][name] = value
    return {
        "steps": found["steps"],
        "weights": folded(dict(net.named_parameters())),
        "buffers": folded(dict(net.named_buffers())),
        "calls": folded([m.calls.value for m in net.modules() if hasattr(m, "calls")]),
        "schedule": folded(found["schedule"]),
        "history": folded(rows),
    }


def steps(folder: Path) -> list[int]:
    """Of which steps there are checkpoints."""
    return sorted(int(path.stem[5:]) for path in folder.glob("step-*.safetensors"))


def differing(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    """What is not equal in two of these, for messages."""
    found = {}
    for name in {**a, **b}:
        x, y = a.get(name), b.get(name)
        if isinstance(x, dict) and isinstance(y, dict):
            found |= {f"{name}.{inner}": pair for inner, pair in differing(x, y).items()}
        elif x != y:
            found[name] = (x, y)
    return found


# -- processes -------------------------------------------------------------------------------------------------------


def start(name: str, *arguments: Any, **options: Any) -> subprocess.Popen[str]:
    """A process that does one of the jobs below."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONWARNINGS": "error"}
    command = [sys.executable, __file__, name, *map(str, arguments)]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, env=environment, text=True, **{**pipes, **options})


def finish(child: subprocess.Popen[str], code: int = 0, timeout: float = 50) -> tuple[Any, str]:
    """What it has said, as JSON if it ended well, and its errors."""
    try:
        out, errors = child.communicate(timeout=timeout)
    finally:
        child.kill()
    assert child.returncode == code, f"expected exit code {code}, got {child.returncode}:\n{out}\n{errors}"
    return json.loads(out.splitlines()[-1]) if code == 0 else out, errors


def kill(folder: str, epochs: str) -> None:
    """A run that goes on from where it was killed."""
    trainer, seen, kept = make(), Seen(), keeper(folder)
    fit(trainer, int(epochs), [seen], checkpoints=kept, resume=True)
    print(json.dumps(facts(trainer, Path(folder), seen, kept)))


def interrupted(folder: str, epochs: str) -> None:
    """A run that is called again as often as it is interrupted; it says when it begins, and where it stands."""

    class Ready(nb.Callback):
        def on_fit_begin(self, trainer: nb.Trainer) -> None:
            print("ready", flush=True)

    trainer, seen, kept = make(), Seen(), keeper(folder, 3)
    while True:
        fit(trainer, int(epochs), [Ready(), seen], checkpoints=kept)
        print(json.dumps([trainer.interrupted, standing(trainer)]), flush=True)
        if not trainer.interrupted:
            break
    print(json.dumps(facts(trainer, Path(folder), seen, kept)))


def slow(folder: str, verbose: str) -> None:
    """A run with a first step that takes long."""

    def loss(output: Any, target: Any) -> Any:
        print("ready", flush=True)
        time.sleep(30)  # a signal may come a little before
        return ((output - target) ** 2).mean()

    make(loss=loss, metrics=()).fit(X, X[:, :3], verbose=bool(verbose), checkpoints=folder or None, check=False)


def ended(folder: str) -> None:
    """A run that goes on until somebody ends it."""

    class Ready(nb.Callback):
        def on_step_end(self, trainer: nb.Trainer) -> None:
            if trainer.steps == 5:
                print("ready", flush=True)

    fit(make(), 100_000, [Ready()], checkpoints=nb.Checkpoints(folder, keep=1, every=100_000), report_every=100_000)


def armed(point: str, act: Callable[[], Any], skip: int = 0) -> None:
    """Do this at that point, after so many times of nothing."""
    times = iter(range(1_000_000))
    crash.armed[point] = lambda: act() if next(times) == skip else None


def crashes(folder: str, skip: str, *points: str) -> None:
    """For each point a process that ends there, and one that goes on; says how they ended."""
    codes: dict[str, list[int]] = {}
    for point in points:
        here = Path(folder, point)
        for first in (True, False):
            if (child := os.fork()) == 0:
                code = 1
                try:
                    if first:
                        armed(point, lambda: os._exit(9), int(skip))
                    trainer, seen, kept = make(), Seen(), keeper(here)
                    fit(trainer, 3, [seen], checkpoints=kept, resume=True)
                    Path(folder, f"{point}.json").write_text(json.dumps(facts(trainer, here, seen, kept)))
                    code = 0
                finally:
                    os._exit(code)
            codes.setdefault(point, []).append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    print(json.dumps(codes))


def limited(folder: str) -> None:
    """Runs that meet a disk that refuses files of some size, from step 5 to step 9 or to the end."""
    found: dict[str, Any] = {}

    def limit(size: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    for name, on_error, end in (("passing", "warn", 9), ("lasting", "warn", 99), ("stop", "stop", 99)):
        trainer, here, error = make(), Path(folder, name), None
        faults = [Here(5, lambda: limit(1000)), Here(end, lambda: limit(resource.RLIM_INFINITY))]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                fit(trainer, 3, faults, checkpoints=keeper(here, on_error=on_error))
            except CheckpointWriteError as raised:
                error = raised
        limit(resource.RLIM_INFINITY)
        found[name] = {
            "steps": trainer.steps,
            "error": error and str(error),
            "errno": error and error.__cause__ and error.__cause__.errno,
            "warnings": [str(w.message) for w in caught],
            "files": sorted(os.listdir(here)),
            "standing": standing(trainer),
        }
    print(json.dumps(found))


def memory(folder: str) -> None:
    """Saves and loads in so many MB more than are in use: what came of them, and what is not whole afterwards."""

    def wide(epochs: int) -> nb.Trainer:
        net = nn.Sequential(nn.Linear(6, 1000), nn.ReLU(), nn.Linear(1000, 3000), nn.Linear(3000, 3))
        trainer = make(net=net)
        trainer.fit(X, Y, epochs=epochs, batch_size=None, verbose=False, check=False)
        return trainer

    safetensors._SMALL = 1 << 60  # Thread.start() of CPython 3.11 may wait for ever when there is no memory
    path, found = Path(folder, "x.safetensors"), []
    trainer, other = wide(1), wide(1)
    trainer.save_checkpoint(path)
    other.load_checkpoint(path)  # what is needed once is there
    other = wide(2)
    saved = standing(trainer)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    for job in ("save", "load"):
        for room in (0, 14, 40, 200):  # the model has 12 MB
            before = standing(trainer if job == "save" else other)
            resource.setrlimit(resource.RLIMIT_AS, (used + (room << 20), resource.RLIM_INFINITY))
            try:
                trainer.save_checkpoint(path) if job == "save" else other.load_checkpoint(path)
                outcome = "done"
            except MemoryError:
                outcome = "MemoryError"
            finally:
                resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
            there, after = content(path), standing(trainer if job == "save" else other)
            torn = [*differing(after, saved if outcome == "done" else before)]
            found.append([job, room, outcome, [*torn, *differing(there, {each: saved[each] for each in there})]])
    print(json.dumps(found))


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
