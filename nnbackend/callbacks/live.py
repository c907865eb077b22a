"""Pictures that grow while a model trains."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Sequence
from operator import index
from pathlib import Path
from typing import Any

from .. import plots
from ..errors import CheckpointWriteError
from ..io.atomic import replace_file
from ..plots.figure import figure, rendered
from ..train import Callback
from ..train.history import Row
from .files import prepare

KINDS = ("png", "svg", "pdf")
SHARE = 0.1  # of the time may go into drawing


class LivePlot(Callback):
    """Rewrites a picture of the history every so many seconds and at the end: `LivePlot("training.png")`.

    The file is a .png, .svg or .pdf and always whole. In a notebook the picture is shown too and grows there;
    `path=None` writes no file. Drawing takes at most about a tenth of the time. If the disk refuses later on, it warns,
    and training goes on. `names` chooses columns of the history.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = "training.png",
        every_seconds: float = 2.0,
        names: Sequence[str] | None = None,
    ) -> None:
        if not every_seconds >= 0:
            raise ValueError(f"LivePlot: expected every_seconds >= 0, got {every_seconds}.")
        self.path = None if path is None else Path(path)
        self.kind = "png" if self.path is None else self.path.suffix.removeprefix(".").lower()
        if self.kind not in KINDS:
            raise ValueError(f"LivePlot: expected a path that ends in .{', .'.join(KINDS)}, got {str(path)!r}.")
        figure(1, 1)  # is there matplotlib?
        self.every_seconds, self.names = every_seconds, names
        self._due = 0.0
        self._display: Any = None

    def on_fit_begin(self, trainer: Any) -> None:
        """Find out whether the file can be written. CheckpointWriteError if not."""
        if self.path is not None:
            prepare(self.path)
        self._due, self._display = time.monotonic() + self.every_seconds, None

    def on_epoch_end(self, trainer: Any, row: Row) -> None:
        """Draw if it is time."""
        if time.monotonic() >= self._due:
            self._draw(trainer)

    def on_fit_end(self, trainer: Any) -> None:
        """Draw all of it."""
        if len(trainer.history):
            self._draw(trainer)

    def _draw(self, trainer: Any) -> None:
        began = time.monotonic()
        made = plots.history(trainer.history, self.names)
        if self.path is not None:
            try:
                replace_file(self.path, [rendered(made, self.kind)])
            except CheckpointWriteError as error:
                warnings.warn(f"LivePlot: {error}", stacklevel=2)
        self._show(made)
        now = time.monotonic()
        self._due = now + max(self.every_seconds, (now - began) / SHARE)

    def _show(self, made: Any) -> None:
        """In a notebook, in the place of the picture before."""
        ipython: Any = sys.modules.get("IPython")
        if ipython is None or ipython.get_ipython() is None:
            return
        if self._display is None:
            self._display = ipython.display.display(made, display_id=True)
        else:
            self._display.update(made)


class BoundaryAnimation(Callback):
    """Films the decision boundary of a model of two features while it learns: a GIF, written when the fit ends.

    There is a frame before the first epoch, one after every `every` epochs, and one at the end. At `most` frames every
    other one is dropped, and `every` doubles. Checkpoints keep no frames. If the disk refuses at the end, it warns. The
    other arguments are those of `nb.plots.decision_boundary`.
    """

    def __init__(
        self,
        X: Any,
        y: Any,
        path: str | os.PathLike[str] = "boundary.gif",
        every: int = 1,
        most: int = 100,
        classes: bool | None = None,
        labels: Sequence[Any] | None = None,
        features: Sequence[str] = ("feature 0", "feature 1"),
    ) -> None:
        if index(every) < 1 or index(most) < 2:
            raise ValueError(f"BoundaryAnimation: expected every >= 1 and most >= 2, got {every} and {most}.")
        self.path = Path(path)
        if self.path.suffix.lower() != ".gif":
            raise ValueError(f"BoundaryAnimation: expected a path that ends in .gif, got {str(path)!r}.")
        self.frames = plots.BoundaryFrames(X, y, classes, labels, features)
        self.every, self.most = every, most
        self._shown = -1  # the epoch of the last frame

    def on_fit_begin(self, trainer: Any) -> None:
        """The first frame; a new run is a new film. CheckpointWriteError if the file cannot be written."""
        prepare(self.path)
        if not len(trainer.history):
            self.frames.frames.clear()
            self._shown = -1
        self._add(trainer)

    def on_epoch_end(self, trainer: Any, row: Row) -> None:
        """Another frame every now and then."""
        if row["epoch"] % self.every == 0 and len(self.frames) >= self.most:
            del self.frames.frames[1::2]
            self.every *= 2
        if row["epoch"] % self.every == 0:
            self._add(trainer)

    def on_fit_end(self, trainer: Any) -> None:
        """The last frame, and the file."""
        self._add(trainer)
        try:
            self.frames.save(self.path)
        except CheckpointWriteError as error:
            warnings.warn(f"BoundaryAnimation: {error}", stacklevel=2)

    def _add(self, trainer: Any) -> None:
        epoch = len(trainer.history)
        if epoch == self._shown:
            return
        loss = f", loss {trainer.history[-1]['loss']:.4f}" if epoch else ""
        self.frames.add(trainer, f"epoch {epoch}{loss}")
        self._shown = epoch
