"""Charts in TensorBoard."""

from __future__ import annotations

import os
import platform
import time
from numbers import Real
from pathlib import Path
from typing import Any

from ..backend import NUMPY, to_host
from ..train.history import Row
from . import events
from .files import Log, prepare


class TensorBoard(Log):
    """Write what the rows say to event files in a folder: `tensorboard --logdir runs`.

    Training and validation are two runs, `train` and `validation`, so that `loss` and `val_loss` share a chart, with
    the epoch as its step; `lr` is the learning rate after the epoch. The settings are under "text". Every
    `histograms` epochs (0: never) there are histograms of the weights, which cost a copy of them to the host. A fit
    that goes on adds files, whose steps take the place of those from there on.
    """

    def __init__(self, folder: str | os.PathLike[str], histograms: int = 0) -> None:
        if not histograms >= 0:
            raise ValueError(f"TensorBoard: expected histograms >= 0 epochs, got {histograms}.")
        self.folder, self.histograms = Path(folder), int(histograms)
        self._files: dict[str, Path] = {}

    def on_fit_begin(self, trainer: Any) -> None:
        """Begin a file, with the settings in it."""
        self._files = {}
        step = len(trainer.history)
        prepare(self._file("train"))
        self._write("train", step, [events.text("settings", _settings(trainer))], begins=step + 1)

    def on_epoch_end(self, trainer: Any, row: Row) -> None:
        """A point in each chart."""
        epoch = int(row["epoch"])
        found: dict[str, list[bytes]] = {"train": [], "validation": []}
        everything: dict[str, Any] = row
        for name, value in everything.items():
            if name != "epoch" and isinstance(value, Real):
                found["validation" if name.startswith("val_") else "train"].append(
                    events.scalar(name.removeprefix("val_"), float(value))
                )
        found["train"].append(events.scalar("lr", trainer.optimizer.param_groups[0]["lr"]))
        if self.histograms and epoch % self.histograms == 0:
            found["train"] += [_histogram(name, p) for name, p in trainer.net.named_parameters() if p.size]
        for run, values in found.items():
            if values:
                self._write(run, epoch, values, begins=None if run in self._files else epoch)

    def _file(self, run: str) -> Path:
        """Where a run of this fit is; names in the order of time, by which readers go."""
        name = f"events.out.tfevents.{time.time():.6f}.{platform.node()}.{os.getpid()}"
        return self._files.setdefault(run, self.folder / run / name)

    def _write(self, run: str, step: int, values: list[bytes], begins: int | None) -> None:
        now = time.time()
        happened = [] if begins is None else [(0, events.version()), (begins, events.start())]
        happened.append((step, events.summary(values)))
        self.append(self._file(run), b"".join(events.record(events.event(now, at, what)) for at, what in happened))


def _settings(trainer: Any) -> str:
    loss = getattr(trainer.loss, "__name__", repr(trainer.loss))
    parts = {"loss": loss, "optimizer": trainer.optimizer, "schedule": trainer.schedule, "seed": trainer.seed}
    lines = [f"{name}: {part}" for name, part in parts.items()]
    return "\n".join(f"    {line}" for line in [*lines, *repr(trainer.net).splitlines()])  # indented: as it is


def _histogram(name: str, parameter: Any) -> bytes:
    xp = NUMPY.xp
    values = to_host(parameter.data).reshape(-1).astype("float64")
    values = values[xp.isfinite(values)]
    if not values.size:
        return events.histogram(name, [0.0], [0.0, 0.0], [0.0])
    counts, edges = xp.histogram(values, bins=30)
    return events.histogram(name, values.tolist(), edges.tolist(), counts.astype("float64").tolist())
