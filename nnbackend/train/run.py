"""One call of `fit`: its data, its settings, how far it has come, and the loop itself."""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from queue import SimpleQueue
from typing import Any

from .. import crash
from ..array import stack
from ..backend import FLOATING, namespace, to_host
from ..errors import CheckpointWriteError, IncompatibleCheckpointError, LabelError, NonFiniteError
from ..io.build import explained
from ..tensor import Tensor
from .ahead import ahead
from .callback import Callback, named
from .checkpoints import Checkpoints
from .feed import Batch, Rows, Stream
from .history import line
from .interrupts import Interrupts
from .origin import Retrial
from .progress import Progress, summary
from .snapshot import differences
from .sound import LastGood, rates_of

Feed = Rows | Stream
Path = str | os.PathLike[str]


class Run:
    """Between two steps a run can be told in plain values, and another one can go on from there."""

    def __init__(
        self,
        trainer: Any,
        feed: Feed,
        held_out: Feed | None,
        epochs: int,
        accumulate: int,
        report_every: int | None,
        callbacks: list[Callback],
        checkpoints: Checkpoints | None,
    ) -> None:
        if report_every is not None and report_every < 1:
            raise ValueError(f"fit: expected report_every >= 1 or None, got {report_every}.")
        self.trainer, self.history = trainer, trainer.history
        self.feed, self.held_out, self.accumulate = feed, held_out, accumulate
        self.epochs, self.report_every = epochs, report_every
        self.callbacks, self.checkpoints = callbacks, checkpoints
        self.losses: list[Tensor] = []  # of the batches of this epoch, still on the device
        self.sizes: list[int] = []  # how many rows there are in each
        self.stopped, self.final = "", True  # why somebody wants to stop, if so, and whether for good
        self.unread: list[Tensor] = []  # of epochs, still on the device
        self.written = -1  # the step of the last checkpoint
        self.unseen = False  # is the last row still to be compared with the best?
        # who is at work here, and what has been asked for; others wait for an answer
        self.thread: int | None = None
        self.asked: deque[tuple[Path, SimpleQueue[BaseException | None] | None]] = deque()
        self.ahead: Any = None  # what takes several steps at once
        self.last = LastGood(self)
        self.begin(len(self.history))

    def begin(self, start: int) -> None:
        """With the epoch after `start` others."""
        self.start, self.goal = start, start + self.epochs
        self.feed.begin(start)

    # -- as plain values ---------------------------------------------------------------------------------------------

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What must be the same for the same run. The data is looked at once."""
        held_out = {} if self.held_out is None else self.held_out.prints()
        return {
            **self.feed.settings(),
            "accumulate": self.accumulate,
            "report_every": self.report_every,
            **self.feed.prints(),
            **{f"{name}_val": said for name, said in held_out.items()},
        }

    def state(self) -> dict[str, Any]:
        """How far it has come. NonFiniteError if a parameter, or a loss since the last look, is not finite."""
        self.read()
        losses = self.losses[: len(self.losses) // self.accumulate * self.accumulate]  # of whole steps
        self._numbers(losses, len(self.history) + 1, 0)
        self._check_parameters()
        return {
            "start": self.start,
            "goal": self.goal,
            "settings": self.settings,
            "loader": {
                **self.feed.state_dict(), "epoch": len(self.history) + bool(losses), "batch": len(losses),
            },
            "losses": stack(losses) if losses else None,
            "sizes": self.sizes[: len(losses)],
            "stopped": self.stopped if self.final else "",
            "callbacks": {name: callback.state_dict() for name, callback in named(self.callbacks).items()},
            "checkpoints": None if self.checkpoints is None else self.checkpoints.state_dict(),
        }  # fmt: skip

    def differs(self, state: Mapping[str, Any]) -> dict[str, str]:
        """In what this is not the run that gave the state, in words. Callbacks that remember nothing do not matter."""
        with explained("the checkpoint"):
            found = differences(state["settings"], self.settings)
        needed = [name for name, remembered in state["callbacks"].items() if remembered]
        if lost := [name for name in needed if name not in named(self.callbacks)]:
            found["callbacks"] = f"callbacks were {', '.join(needed)}, without {', '.join(lost)} now"
        return found

    def go_on(self, state: Mapping[str, Any], found: Mapping[str, str]) -> None:
        """Be where that run was, but for what was found to differ: an epoch of other batches begins anew."""
        position = state["loader"]
        if any(not name.endswith("_val") for name in found.keys() & self.settings.keys() - {"report_every"}):
            position = {**position, "epoch": position["epoch"] - bool(position["batch"]), "batch": 0}
        with explained("the checkpoint"):
            losses = state["losses"].to(self.trainer.device) if position["batch"] else []
        if len(losses) != position["batch"]:
            raise IncompatibleCheckpointError(f"fit: expected {position['batch']} losses, got {len(losses)}.")
        self.begin(state["start"])
        self.stopped = state.get("stopped", "")
        self.feed.load_state_dict(position)
        self.losses = [losses[i] for i in range(len(losses))]
        self.sizes = list(state.get("sizes", [])) if self.losses else []
        if isinstance(self.feed, Rows):  # files of before did not say
            self.sizes = [self.feed.batch_size] * len(self.losses)
        for name, callback in named(self.callbacks).items():
            if remembered := state["callbacks"].get(name):
                callback.load_state_dict(remembered)
        if self.checkpoints is not None and state["checkpoints"] is not None:
            self.checkpoints.load_state_dict(state["checkpoints"])

    # -- the loop ----------------------------------------------------------------------------------------------------

    def train(self, every: int, verbose: bool) -> None:
        """Up to the goal, or until somebody wants to stop; report every so many epochs. SystemExit after SIGTERM."""
        began, before, start = time.monotonic(), self.trainer.steps, len(self.history)
        batches = self.feed.count
        steps, done = batches and -(-batches // self.accumulate), len(self.losses) // self.accumulate
        passes = Progress(range(start + 1, self.goal + 1), verbose and sys.stderr.isatty(), steps, done, shown=verbose)
        self.trainer.optimizer.prepare()
        self.ahead = ahead(self, (batches or 0) * (self.goal - start))
        with Interrupts(say=verbose) as signals, self._at_work(signals):
            with self._told(signals):
                with passes:
                    for callback in self.callbacks:
                        callback.on_fit_begin(self.trainer)
                    self._keep_best()  # an error may have come in between
                    self._serve()
                    self.last.keep()
                    for epoch in passes:
                        if self.stopped or not self._epoch(epoch, every, verbose, passes, signals):
                            break
                self.read()
                self._check_parameters()
            for callback in self.callbacks:
                callback.on_fit_end(self.trainer)
            if self.checkpoints is not None and self.written != self.trainer.steps:
                self._keep(self.checkpoints, last=True)
            self._serve()
        if verbose:
            told = summary(
                self.history.rows[start:], self.trainer.steps - before, time.monotonic() - began, self.stopped
            )
            with suppress(OSError):  # nobody reads it any more
                print(told, flush=True)
        if signals.caught is not None:
            kept = "" if self.checkpoints is None else f", checkpoint in {self.checkpoints.folder}"
            message = f"fit: interrupted at step {self.trainer.steps}{kept}; the same call goes on from here"
            with suppress(OSError):  # nobody reads it any more
                print(message, file=sys.stderr, flush=True)
        if signals.caught == signal.SIGTERM:
            raise SystemExit(128 + signal.SIGTERM)

    def _epoch(self, epoch: int, every: int, verbose: bool, passes: Progress, signals: Interrupts) -> bool:
        """One pass over the data, or what is left of it. False if somebody wants to stop."""
        watched = bool(self.callbacks) or self.checkpoints is not None
        if self.accumulate > 1:
            self.trainer.optimizer.zero_grad()
        for losses, sizes, closed in self._steps():
            self.losses += losses
            self.sizes += sizes
            passes.step(len(losses) // self.accumulate or 1)
            reported = closed and self._close(epoch, every, passes.write if verbose else None)
            if watched or self.asked or self.stopped or signals.caught is not None:
                self._between(closed)
                if self.stopped or signals.caught is not None:
                    return False
            if reported:
                self.last.keep()
        return True

    def _steps(self) -> Iterator[tuple[list[Tensor], list[int], bool]]:
        """What is left of an epoch: losses of a step or of several, how many rows, and whether they are the last."""
        if self.ahead is None or not isinstance(self.feed, Rows):
            for group, sizes, closed in self.feed.groups(self.accumulate):
                yield self.step(group, sizes), sizes, closed
            return
        for rows, sizes, closed in self.feed.numbered(lambda: self.ahead.most):
            losses = self.ahead.steps(rows)
            self.trainer.steps += len(losses)
            yield losses, sizes, closed

    def step(self, group: list[Batch], sizes: list[int]) -> list[Tensor]:
        """One step by the gradients of some batches of these sizes; their losses, without waiting for them."""
        trainer = self.trainer
        if self.accumulate == 1:
            losses = [trainer._step(*group[0]).detach()]
        else:
            shares = [n / sum(sizes) for n in sizes]
            losses = [
                trainer._gather(share, i == len(group), *batch).detach()
                for i, (share, batch) in enumerate(zip(shares, group, strict=True), start=1)
            ]
        trainer.steps += 1
        trainer._advance("step")
        return losses

    def _close(self, epoch: int, every: int, write: Callable[[str], None] | None) -> bool:
        """The end of an epoch: its mean loss, and a report every now and then. Whether there was one."""
        losses, sizes = self.losses, self.sizes
        mean = losses[0]
        if len(set(sizes[:-1])) > 1:
            mean = sum(loss * (n / sum(sizes)) for loss, n in zip(losses, sizes, strict=True))
        elif len(losses) > 1:
            mean = (stack(losses[:-1]).sum() * sizes[0] + losses[-1] * sizes[-1]) / sum(sizes)
        self.unread.append(mean)
        self.losses, self.sizes = [], []
        self.trainer._advance("epoch")
        printed = epoch % every == 0 or epoch == self.goal or bool(self.stopped)
        reported = printed or any(callback.every_epoch for callback in self.callbacks)
        if reported or self.callbacks:
            self.read()
        if reported:
            row = self.history[-1]
            row.update(self.trainer._report(self.feed, self.held_out))
            self.trainer._advance("report", row.get("val_loss", row["loss"]))
            self.unseen = True
            if write is not None and printed:
                write(line(row))
        crash.point("epoch.closed")
        return reported

    def read(self) -> None:
        """Bring the losses of the last epochs to the host, in one go. NonFiniteError if one is not finite."""
        values = self._numbers(self.unread, len(self.history) + 1, 1)
        for epoch, value in enumerate(values, start=len(self.history) + 1):
            self.history.append({"epoch": epoch, "loss": value})
        self.unread.clear()

    def _numbers(self, losses: list[Tensor], epoch: int, stride: int) -> list[float]:
        values = _on_host(losses)
        for i, value in enumerate(values):
            if not math.isfinite(value):
                raise self._not_finite(f"a finite loss, got {value} in epoch {epoch + i * stride}")
        return values

    def _check_parameters(self) -> None:
        """NonFiniteError names those that are not finite: a step with a finite loss can do that."""
        named = [(name, p.data) for name, p in self.trainer.net.named_parameters() if p.dtype in FLOATING]
        finite = [Tensor(namespace(x).all(namespace(x).isfinite(x))) for _, x in named]
        if bad := [name for (name, _), sound in zip(named, _on_host(finite), strict=True) if not sound]:
            raise self._not_finite(f"finite parameters, got NaN or infinity in {', '.join(bad)}")

    def _not_finite(self, what: str) -> NonFiniteError:
        step, lr = self.trainer.steps, self.trainer.optimizer.param_groups[0]["lr"]
        error = NonFiniteError(
            f"fit: expected {what} (step {step}, lr {lr:g}). "
            "Lower the learning rate, or scale the features with data.StandardScaler."
        )
        error.step, error.expected = step, what
        return error

    @contextmanager
    def _told(self, signals: Interrupts) -> Iterator[None]:
        """What turns NaN inside is looked for, and the last sound state is restored."""
        try:
            yield
        except LabelError as error:
            self.feed.recount(error)
            raise
        except NonFiniteError as error:
            if not error.expected or self.last.copy is None:  # not from here
                raise
            retrial, expected = Retrial(self.last, signals), error.expected
        else:
            return
        retrial.search()
        raise retrial.error(expected) from None

    # -- between two steps -------------------------------------------------------------------------------------------

    def ask(self, path: Path) -> SimpleQueue[BaseException | None] | None:
        """A checkpoint between this step and the next, when all callbacks have run; what others then wait for."""
        answer = None if self.thread == threading.get_ident() else SimpleQueue[BaseException | None]()
        self.asked.append((path, answer))
        return answer

    @contextmanager
    def _at_work(self, signals: Interrupts) -> Iterator[None]:
        """While this thread is at work here, others ask it. What is cut short can be gone on with."""
        trainer = self.trainer
        with trainer._lock:  # others may be writing what is there
            self.thread, trainer._run = threading.get_ident(), self
        error: BaseException | None = None
        try:
            yield
        except BaseException as raised:
            error = raised
            raise
        finally:
            with trainer._lock:
                try:
                    self._serve(error)
                finally:
                    trainer._run, trainer.interrupted = None, signals.caught is not None
            if (error is not None or trainer.interrupted or not self.final) and not isinstance(error, NonFiniteError):
                trainer._unfinished = self

    def _between(self, closed: bool) -> None:
        """Callbacks, then checkpoints that are due, and those that have been asked for: they hold all of the step."""
        crash.point("step.done")
        before = rates_of(self.trainer.optimizer)
        for callback in self.callbacks:
            callback.on_step_end(self.trainer)
            if closed:
                callback.on_epoch_end(self.trainer, self.history[-1])
        if (rates := rates_of(self.trainer.optimizer)) != before:
            self.last.rates[self.trainer.steps] = rates
        self._keep_best()
        if self.checkpoints is not None and self.checkpoints.due(self.trainer.steps):
            self._keep(self.checkpoints)
        self._serve()

    def _keep_best(self) -> None:
        if self.unseen and self.checkpoints is not None and self.checkpoints.improved(self.history[-1]):
            self.checkpoints.write(self.trainer._write, self.trainer.steps, best=True)
        self.unseen = False

    def _keep(self, keeper: Checkpoints, last: bool = False) -> None:
        if keeper.write(self.trainer._write, self.trainer.steps, last=last) is not None:
            self.written = self.trainer.steps

    def _serve(self, torn: BaseException | None = None) -> None:
        """Write what has been asked for, unless an error has torn a step."""
        for _ in range(len(self.asked)):  # not those who ask again at once
            path, answer = self.asked.popleft()
            error: BaseException | None = None
            try:
                if torn is None:
                    self.trainer._write(path)
                else:
                    error = CheckpointWriteError(f"{path}: expected to write between two steps, got an error in one.")
            except BaseException as raised:
                error = raised
                if answer is None or not isinstance(raised, Exception):
                    raise
            finally:
                if answer is not None:
                    answer.put(error)


def _on_host(scalars: list[Tensor]) -> list[Any]:
    """What they are, in one go."""
    return to_host(stack(scalars).data).tolist() if scalars else []
