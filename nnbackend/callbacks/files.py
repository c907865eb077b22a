"""Files that callbacks write, and models in files."""

from __future__ import annotations

import os
import string
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import CheckpointWriteError, NNBackendError
from ..io import save
from ..io.atomic import check_writable
from ..train import Callback
from ..train.history import Row
from .monitor import Monitor


def prepare(path: Path) -> None:
    """Make the folder of a file that is to be written. CheckpointWriteError if neither can be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointWriteError(
            f"{path.parent}: expected to make this folder, got {error.strerror}. Choose another."
        ) from error
    check_writable(path)


class Log(Callback):
    """Base of what writes a row an epoch. If the disk refuses later on, it warns once, and training goes on."""

    every_epoch = True
    _warned = False

    def warn(self, path: Path, error: Exception) -> None:
        """Say so, once."""
        if not self._warned:
            self._warned = True
            said = str(error) if isinstance(error, NNBackendError) else f"{path}: {getattr(error, 'strerror', error)}."
            warnings.warn(f"{type(self).__name__}: expected to write a row. {said} Training goes on.", stacklevel=2)

    def append(self, path: Path, data: bytes) -> None:
        """Add to the end of a file: all of it, or nothing."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "ab", buffering=0) as file:
                end, rest = file.seek(0, os.SEEK_END), memoryview(data)
                try:
                    while rest:
                        rest = rest[file.write(rest) :]
                except OSError:
                    with suppress(OSError):
                        file.truncate(end)
                    raise
        except OSError as error:
            self.warn(path, error)


class ModelCheckpoint(Monitor):
    """Save the model every so many epochs: `ModelCheckpoint("runs/{epoch}-{val_loss:.3f}.safetensors")`, for `nb.load`.

    The fields of the path are filled in from the row of the epoch. With a `monitor`, or with `save_best_only`
    (`val_loss`, unless there is a monitor), it does so only when that is better than ever before. If the disk refuses,
    there is a warning, and training goes on. To go on with training from files, use `fit(checkpoints=...)`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        monitor: str | None = None,
        save_best_only: bool = False,
        mode: str = "auto",
        every: int = 1,
    ) -> None:
        super().__init__(monitor or "val_loss", mode)
        if not every >= 1:
            raise ValueError(f"ModelCheckpoint: expected every >= 1 epochs, got {every}.")
        self.path, self.best_only, self.every = os.fspath(path), save_best_only or monitor is not None, every
        self.best: float | None = None
        fields = [field for _, field, _, _ in string.Formatter().parse(self.path) if field is not None]
        if "" in fields:
            raise ValueError(f"ModelCheckpoint: expected named fields such as {{epoch}}, got {self.path!r}.")
        self.every_epoch = self.best_only or any(field != "epoch" for field in fields)

    def on_fit_begin(self, trainer: Any) -> None:
        """A trial, as far as the path is known. A new run knows no best value."""
        if not len(trainer.history):
            self.best = None
        known = list(Path(self.path).parts)
        while any("{" in part for part in known):
            known.pop()
        path = Path(*known)
        prepare(path if str(path) == str(Path(self.path)) else path / "model.safetensors")

    def on_epoch_end(self, trainer: Any, row: Row) -> None:
        """Save it, if it is time."""
        if int(row["epoch"]) % self.every:
            return
        value = self.value(row) if self.best_only else None
        if value is not None and not self.better(value, self.best):
            return
        path = self._filled(row)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            save(trainer.net, path)
        except OSError as error:
            warnings.warn(f"ModelCheckpoint: {error} Training goes on.", stacklevel=2)
        else:
            self.best = value

    def _filled(self, row: Row) -> Path:
        try:
            return Path(self.path.format(**row))
        except (KeyError, IndexError, AttributeError, TypeError, ValueError) as error:
            raise ValueError(
                f"ModelCheckpoint: expected fields of {', '.join(row)} in the path, got {self.path!r} ({error})."
            ) from error

    def state_dict(self) -> dict[str, Any]:
        """The best value so far."""
        return {"best": self.best} if self.best_only else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.best = state["best"]
