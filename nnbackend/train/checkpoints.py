"""Where checkpoints go, how often, and how many are kept."""

from __future__ import annotations

import math
import os
import re
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from operator import index
from pathlib import Path
from typing import Any, TypeVar

from .. import crash
from ..errors import CheckpointWriteError, CorruptCheckpointError
from ..io.atomic import check_writable, held, remove_stale
from .history import Row

Result = TypeVar("Result")
NAME = "step-{:010d}.safetensors"
PATTERN = re.compile(r"step-(\d{10,})\.safetensors")
BEST = "best.safetensors"
POLICIES = ("warn", "stop")


class Checkpoints:
    """A folder for the checkpoints of one run: `fit(..., checkpoints=nb.Checkpoints("runs/iris", keep=3))`.

    One is written every so many steps (`every`), or else every so many `seconds`, when the fit ends, and when it is
    interrupted; the last `keep` stay. With `best="val_loss"` the model with the lowest value (`mode="max"`: the
    highest) in a reported epoch is in best.safetensors, `nb.load(path)["net"]`. If the disk refuses, `on_error` says
    whether to "warn" and go on training, or to "stop"; the last write of a fit always raises. A folder that cannot be
    written to, or that another run writes to, raises CheckpointWriteError before training begins.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        every: int | None = None,
        seconds: float = 60.0,
        keep: int = 3,
        best: str | None = None,
        mode: str = "min",
        on_error: str = "warn",
    ) -> None:
        if every is not None and index(every) < 1:
            raise ValueError(f"Checkpoints: expected every >= 1 steps or None, got {every}.")
        if index(keep) < 1 or not seconds >= 0:
            raise ValueError(f"Checkpoints: expected keep >= 1 and seconds >= 0, got {keep} and {seconds}.")
        if mode not in ("min", "max"):
            raise ValueError(f'Checkpoints: expected mode "min" or "max", got {mode!r}.')
        if on_error not in POLICIES:
            raise ValueError(f"Checkpoints: expected on_error of {', '.join(POLICIES)}, got {on_error!r}.")
        self.folder, self.every, self.seconds, self.keep = Path(folder), every, seconds, keep
        self.best, self.mode, self.on_error = best, mode, on_error
        self.best_value: float | None = None
        self._before: float | None = None  # the best value so far when it was improved last
        self._damaged: set[int] = set()  # the steps of files that this run could not go on from
        self._written = time.monotonic()

    def check_best(self, names: Sequence[str], held_out: bool) -> None:
        """ValueError if no row will have the value that says which model is the best."""
        known = [*names, *(f"val_{name}" for name in names if held_out)]
        if self.best not in (None, *known):
            raise ValueError(f"checkpoints: expected best to be one of {', '.join(known)}, got {self.best!r}.")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Inside, no other run writes there. CheckpointWriteError if one does, or if there can be no such folder."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointWriteError(
                f"{self.folder}: expected to make this folder, got {error.strerror}. Choose another."
            ) from error
        with ExitStack() as stack:
            try:
                stack.enter_context(held(self.folder))
            except BlockingIOError as error:
                raise CheckpointWriteError(
                    f"{self.folder}: expected no other run to write here, got one. Wait, or choose another folder."
                ) from error
            yield

    def prepare(self, steps: int, resumed: bool = False) -> None:
        """A trial before training starts. CheckpointWriteError if nothing can be written there.

        ValueError if checkpoints of another run are there; when `resumed`, those of later steps are known as damaged.
        """
        check_writable(self.folder / NAME.format(steps))
        remove_stale(self.folder)
        self._damaged = {n for n, _ in numbered(self.folder) if n > steps}
        if self._damaged and not resumed:
            newest = max(self._damaged)
            raise ValueError(
                f"{self.folder}: expected checkpoints of this run, which is at step {steps}, got one of step {newest}. "
                "Go on from there with resume=True, or choose another folder."
            )
        self._written = time.monotonic()

    def due(self, steps: int) -> bool:
        """Whether it is time to write one."""
        if self.every is not None:
            return steps % self.every == 0
        return time.monotonic() - self._written >= self.seconds

    def improved(self, row: Row) -> bool:
        """Whether this row is better than all before; it is then remembered."""
        if self.best is None:
            return False
        value = row[self.best]
        sign = 1 if self.mode == "min" else -1
        if math.isnan(value) or (self.best_value is not None and sign * value >= sign * self.best_value):
            return False
        self._before, self.best_value = self.best_value, value
        return True

    def write(self, save: Callable[[Path], None], steps: int, best: bool = False, last: bool = False) -> Path | None:
        """Write one, then take away what is too old; returns the path, or None if that failed and is no matter."""
        path = self.folder / (BEST if best else NAME.format(steps))
        try:
            save(path)
        except BaseException as error:
            if best:  # what is in the file stays the one to beat
                self.best_value = self._before
            if not isinstance(error, CheckpointWriteError) or last or self.on_error == "stop":
                raise
            warnings.warn(f"{error} Training goes on.", stacklevel=2)
            self._written = time.monotonic()
            return None
        self._written = time.monotonic()
        crash.point("checkpoint.written")
        if not best:
            self._damaged.discard(steps)
            self._prune(steps)
        return path

    def _prune(self, steps: int) -> None:
        """Take away all but the last `keep`, and damaged ones, which do not count, once their steps are passed."""
        passed = [(n in self._damaged, path) for n, path in numbered(self.folder) if n <= steps]
        sound = [path for damaged, path in passed if not damaged]
        for path in sound[self.keep :] + [path for damaged, path in passed if damaged]:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                warnings.warn(f"{path}: expected to take away an old checkpoint, got {error.strerror}.", stacklevel=3)
        crash.point("checkpoint.pruned")

    def state_dict(self) -> dict[str, Any]:
        """The best value so far."""
        return {"best": self.best, "best_value": self.best_value}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there, if the same value is asked for."""
        if state["best"] == self.best:
            self.best_value = state["best_value"]


def numbered(folder: Path) -> Iterator[tuple[int, Path]]:
    """The checkpoints in a folder with their steps, newest first."""
    names = os.listdir(folder) if folder.is_dir() else []
    found = [(int(match[1]), folder / name) for name in names if (match := PATTERN.fullmatch(name))]
    return iter(sorted(found, reverse=True))


def newest(path: str | os.PathLike[str], read: Callable[[Path], Result]) -> Result:
    """What `read` makes of a checkpoint: of this file, or of the newest one in this folder that is not damaged."""
    place = Path(path)
    if not place.is_dir():
        return read(place)
    candidates = [path for _, path in numbered(place)]
    if not candidates:
        raise FileNotFoundError(f"{place}: expected checkpoints (step-*.safetensors), got none.")
    for candidate in candidates[:-1]:
        try:
            return read(candidate)
        except CorruptCheckpointError as error:
            warnings.warn(f"{error} Going on with the one before.", stacklevel=2)
    return read(candidates[-1])
