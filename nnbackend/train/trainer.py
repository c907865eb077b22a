"""Trainer: a network, a loss and an optimizer, put to work on data."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from operator import index
from typing import Any

from .. import crash, optim
from ..backend import DeviceLike, on_its_device
from ..backend import device as find_device
from ..errors import IncompatibleCheckpointError, LintWarning
from ..io.header import naming
from ..io.model import Content, save
from ..io.safetensors import File
from ..nn import Module
from ..optim import LRScheduler, Optimizer, ReduceLROnPlateau
from ..program import Compiled, compile
from ..tensor import Tensor
from .callback import listed
from .checkpoints import BEST, Checkpoints, newest, numbered
from .edge import Edge
from .feed import Rows, Stream
from .history import History, Row
from .intake import Intake
from .lint import Finding, lint
from .measure import Feed, called, measured, metrics_of, predicted, several
from .objective import Objective
from .run import Path, Run
from .snapshot import PARTS, kept, rebuilt, refusal, restore, snapshot
from .updates import optimizer_of, scheduled


class Trainer:
    """Trains a module: `Trainer(net, loss="mse", optimizer=optim.SGD(lr=0.5)).fit(X, y, epochs=100)`.

    `loss` and `metrics` are names or functions of (output, target); `optimizer` is a name, a template such as
    `optim.Adam(lr=1e-3)`, or one that has parameters already. With a `seed`, parameters that nobody has loaded,
    assigned or trained are drawn from it, and so are the shuffles: one seed, one run, on every device.

    `schedule` is called with the optimizer, `lambda opt: optim.CosineAnnealingLR(opt, T_max=30)`, and moves on once an
    epoch, or once a step with `schedule_every="step"`; ReduceLROnPlateau looks at each epoch's val_loss, else its loss.

    For a net of several outputs, in a tuple or dict, losses and metrics may be given by place or name of the output,
    `loss={"kind": "cross_entropy", "box": "huber"}, loss_weights={"box": 0.5}, metrics={"kind": ["accuracy"]}`; the
    losses are added up. `clip_norm` and `clip_value` bound the gradients of each step. `ignore` silences warnings of
    `check` by their codes.
    """

    def __init__(
        self,
        net: Module,
        loss: Any = "mse",
        optimizer: str | Optimizer = "adam",
        metrics: Any = (),
        device: DeviceLike = "auto",
        seed: int | None = None,
        schedule: Callable[[Optimizer], LRScheduler] | None = None,
        schedule_every: str = "epoch",
        loss_weights: Any = None,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        ignore: Sequence[str] = (),
    ) -> None:
        if schedule_every not in ("epoch", "step"):
            raise ValueError(f'schedule_every: expected "epoch" or "step", got {schedule_every!r}.')
        for name, bound in (("clip_norm", clip_norm), ("clip_value", clip_value)):
            if bound is not None and not bound > 0:
                raise ValueError(f"{name}: expected a number > 0 or None, got {bound!r}.")
        self.objective = Objective(loss, loss_weights)
        self.loss = self.objective.losses if self.objective.only is None else self.objective.only
        self.clip_norm, self.clip_value = clip_norm, clip_value
        self.asked = {
            "metrics": metrics if isinstance(metrics, dict) else several(metrics),
            "loss_weights": loss_weights, "clip_norm": clip_norm, "clip_value": clip_value,
        }  # fmt: skip
        self.metrics = metrics_of(metrics, self.objective)
        self.device, self.seed = find_device(device), seed
        self.net = net if seed is None else net.init(seed, only_fresh=True)
        self.net.to(self.device)
        self.optimizer = optimizer_of(optimizer, net)
        self.schedule = None if schedule is None else scheduled(self.optimizer, schedule)
        self.schedule_every = "report" if isinstance(self.schedule, ReduceLROnPlateau) else schedule_every
        if self.schedule_every != schedule_every == "step":
            raise ValueError('schedule_every: expected "epoch" for ReduceLROnPlateau, got "step".')
        self.ignore, self._checked = tuple(ignore), False
        self.history = History()
        self.steps, self.interrupted = 0, False
        self._unfinished: Run | dict[str, Any] | None = None  # a fit that was cut short, here or in a checkpoint
        self._override = False
        self._prepare()

    def _prepare(self) -> None:
        """What works for this trainer alone, and is not copied with it. Steps are recorded once, then replayed."""
        self._run: Run | None = None  # the fit that is under way
        self._lock = threading.RLock()
        self._forward, self._gradients, self._gather, step = (
            compile(f, rehearse=True) for f in (self.net, self.gradients, self._part, self._batch)
        )
        self._step = step if self.optimizer.recordable else self._batch

    def __getstate__(self) -> dict[str, Any]:
        self._check_idle("copy")
        own = {"_run", "_lock", "_forward", "_gradients", "_gather", "_step"}
        state = {name: value for name, value in vars(self).items() if name not in own}
        before = self._unfinished
        return {**state, "_unfinished": before.state() if isinstance(before, Run) else before}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._prepare()

    @property
    def dtype(self) -> Any:
        """The dtype of the model, which data is cast to."""
        return next((p.dtype for p in self.net.parameters()), "float32")

    def gradients(self, x: Any, y: Any, weight: Tensor | None = None) -> Tensor:
        """One batch forward and back. Returns the loss, without waiting for it."""
        self.optimizer.zero_grad()
        loss: Tensor = self.objective(called(self.net, x), y, weight)
        loss.backward()
        self._clip()
        return loss

    def step(self, x: Any, y: Any, *weight: Tensor) -> Tensor:
        """One batch forward, back, and update; some optimizers (SAM, LBFGS) ask for the gradients again."""
        return self.optimizer.step(lambda: self._gradients(x, y, *weight))  # type: ignore[no-any-return]

    def _batch(self, *batch: Any) -> Tensor:
        """What is recorded: `step`, also one that a user has put in its place."""
        return self.step(*batch)

    def _part(self, share: float, last: bool, x: Any, y: Any, *weight: Tensor) -> Tensor:
        """One of several batches whose gradients add up to one step; `share` of the rows are in it."""
        loss = self.objective(called(self.net, x), y, *weight)
        (loss * share).backward()
        if last:
            self._clip()
            self.optimizer.step()
            self.optimizer.zero_grad()
        return loss  # type: ignore[no-any-return]

    def _clip(self) -> None:
        """Bound the gradients."""
        if self.clip_norm is not None or self.clip_value is not None:
            parameters = [p for group in self.optimizer.param_groups for p in group.params]
            if self.clip_value is not None:
                optim.clip_grad_value(parameters, self.clip_value)
            if self.clip_norm is not None:
                optim.clip_grad_norm(parameters, self.clip_norm)

    @on_its_device
    def fit(
        self,
        X: Any,
        y: Any = None,
        epochs: int = 1,
        batch_size: int | None = 32,
        validation_data: Any = None,
        shuffle: bool = True,
        report_every: int | None = None,
        verbose: bool = True,
        accumulate: int = 1,
        callbacks: Sequence[Any] = (),
        checkpoints: Checkpoints | Path | None = None,
        resume: bool = False,
        sample_weight: Any = None,
        class_weight: Any = None,
        validation_split: float | None = None,
        check: bool = True,
    ) -> History:
        """Train for `epochs` more passes over the rows; `batch_size=None` is the full batch, 1 is sample by sample.

        X and y are arrays, or tuples or dicts of arrays for a net of several inputs or outputs; memory-mapped ones, and
        those too large for the device, come in batches. Or X alone gives batches (inputs, targets[, weights]): a
        loader, any iterable, or a function that returns one. Validation data is a pair, with or without weights, or a
        loader; or take `validation_split` of the rows at random. Weights of rows, or of classes (a dict or "balanced"),
        are scaled to a mean of 1; the loss is the mean of weight * loss.

        With `accumulate=k` the gradients of k batches make one step, as if they were one batch, in the memory of one
        (for losses that are means; layers that look at their whole batch, as batch norm does, still see only theirs).
        The first fit warns of what `check` finds, unless it is told not to.
        Every `report_every` epochs (by default about 20 times) metrics and validation are computed and printed.
        Returns the history of all fits. NonFiniteError if the loss turns NaN or infinite; DataError names bad rows.

        `checkpoints` is a folder, or `nb.Checkpoints` for more say; with `resume` the run goes on from the newest one
        there, if there is any. Ctrl-C and SIGTERM end the fit after the step: `trainer.interrupted` is then True, and
        the same call goes on from there; so does that after `Trainer.resume`. IncompatibleCheckpointError if it is
        another run.
        """
        if epochs < 0:
            raise ValueError(f"fit: expected epochs >= 0, got {epochs}.")
        self._check_idle("fit")
        self._check_accumulate(accumulate)
        keeper = checkpoints if isinstance(checkpoints, Checkpoints | None) else Checkpoints(checkpoints)
        if resume and keeper is None:
            raise ValueError("fit: expected checkpoints= with resume=True, got none.")
        intake = Intake(self._edge, self.objective, epochs, batch_size, shuffle, self.seed)
        if validation_split is not None:
            parts = intake.split(X, y, sample_weight, class_weight, validation_split, validation_data)
            feed: Feed = parts[0]
            held_out: Feed | None = parts[1]
        else:
            feed = intake.training(X, y, sample_weight, class_weight)
            held_out = None if validation_data is None else intake.validation(validation_data)
        if keeper is not None:
            keeper.check_best(["loss", *self.metrics], held_out is not None)
        if check and not self._checked:
            self._warn(feed, batch_size)
        run = Run(self, feed, held_out, epochs, accumulate, report_every, listed(callbacks), keeper)
        with nullcontext() if keeper is None else keeper.held():
            if keeper is not None:
                if resume and any(numbered(keeper.folder)):
                    self._load(keeper.folder, differs=run.differs)
                keeper.prepare(self.steps, resumed=resume)
                if self.steps and keeper.best is not None and keeper.best_value is None:  # of an earlier fit
                    keeper.load_state_dict(kept(keeper.folder / BEST) or keeper.state_dict())
            self._go_on(run, finished=resume)
            run.train(1 if self.schedule_every == "report" else report_every or max(1, epochs // 20), verbose)
        return self.history

    @on_its_device
    def check(self, X: Any, y: Any = None, batch_size: int | None = 32, sample_weight: Any = None) -> list[Finding]:
        """What is probably a mistake in this set-up for this data, each with a code and a cure: see docs/lint.md.

        Looks at few rows and takes two steps with copies: nothing changes.
        """
        return self._lint(Intake(self._edge, self.objective).feed(X, y, sample_weight), batch_size)

    def _lint(self, feed: Feed, batch_size: int | None) -> list[Finding]:
        X, y, weight = (feed.source, None, None) if isinstance(feed, Stream) else (*feed.form, None)[:3]
        return lint(self, X, y, batch_size, weight, self.ignore)

    def _warn(self, feed: Feed, batch_size: int | None) -> None:
        """Once a trainer; what training itself refuses is left to it."""
        self._checked = True
        for finding in self._lint(feed, batch_size):
            if not finding.fatal:
                warnings.warn(str(finding), LintWarning, stacklevel=4)

    def stop(self, why: str = "", final: bool = True) -> None:
        """End the fit that is under way, after this step: for callbacks and other threads. ValueError if none is.

        Unless that is `final`, the same call, or one that resumes, goes on from there.
        """
        run = self._run
        if run is None:
            raise ValueError("stop: expected a fit to be under way, got none.")
        run.stopped, run.final = why or "trainer.stop()", final

    def _check_idle(self, what: str) -> None:
        """ValueError if a fit is under way."""
        if self._run is not None:
            raise ValueError(f"{what}: expected the fit to be over, got it under way. Do it after the fit.")

    def _check_accumulate(self, accumulate: int) -> None:
        """ValueError if the gradients of so many batches cannot be added up."""
        if index(accumulate) < 1:
            raise ValueError(f"fit: expected accumulate >= 1, got {accumulate}.")
        if accumulate > 1 and type(self.optimizer).step is not Optimizer.step:
            raise ValueError(f"fit: expected accumulate=1 for {type(self.optimizer).__name__}, got {accumulate}.")
        if accumulate > 1 and (own := self._own()):
            raise ValueError(f"fit: expected accumulate=1 for a trainer with a {own[0]} of its own, got {accumulate}.")

    def _own(self) -> list[str]:
        """What it does in a way of its own."""
        names = ("step", "gradients")
        return [n for n in names if n in vars(self) or getattr(type(self), n) is not getattr(Trainer, n)]

    def _go_on(self, run: Run, finished: bool) -> None:
        """If a fit was cut short, and this is the same, go on from there; after a `finished` one nothing is left."""
        run.begin(len(self.history))
        before, self._unfinished = self._unfinished, None
        here = isinstance(before, Run)
        state = before.state() if isinstance(before, Run) else before
        if state is None or not (here or finished or state["goal"] > len(self.history)):
            return
        found = run.differs(state)
        if here and (asked := run.epochs) != (epochs := state["goal"] - state["start"]):
            found["epochs"] = f"epochs was {epochs}, is {asked}"
        try:
            if found and not here and not self._override:
                raise IncompatibleCheckpointError(f"fit: {refusal(found)}")
            if not (found and here):  # in this process it may well be another fit
                run.go_on(state, found)
                run.unseen = isinstance(before, Run) and before.unseen
        except BaseException:
            self._unfinished = before
            raise

    # -- checkpoints
    def save_checkpoint(self, path: Path) -> None:
        """Write all that it takes to go on exactly from here, for `Trainer.resume`: whole or not at all.

        Any thread may ask for it: it is written between two steps. What is asked for in a step, or by a callback, is
        written when the step is over and all callbacks have run. CheckpointWriteError if the disk refuses,
        NonFiniteError if the losses since the last look were not finite.
        """
        with self._lock:  # no fit begins or ends meanwhile
            answer = None if self._run is None else self._run.ask(path)
            if self._run is None:
                self._write(path)
        if answer is not None and (error := answer.get()) is not None:
            raise error

    def load_checkpoint(self, path: Path, override: bool = False) -> None:
        """Go on from a checkpoint, or from the newest sound one in a folder, with a trainer made as that one was.

        The same `fit` then goes on where it was, to the bit on the same machine, versions and number of threads.
        IncompatibleCheckpointError lists what is different, here or in `fit`, unless `override`; nothing has changed
        then. Errors as in `nb.load`.
        """
        self._load(path, override)

    def _load(self, path: Path, override: bool = False, differs: Any = None) -> None:
        self._check_idle("load_checkpoint")
        with self._lock:
            self._unfinished = newest(path, lambda file: restore(self, file, override, differs))
        for step in (self._step, self._gather):
            if isinstance(step, Compiled):  # its programs hold the old memory of the optimizer
                step.forget()
        self._override = override

    @classmethod
    def resume(
        cls, path: Path, net: Module | None = None, device: DeviceLike = "auto", override: bool = False, **given: Any
    ) -> Any:
        """A trainer that goes on from a checkpoint, or from the newest sound one in a folder, on any device.

        What files cannot hold (functions of yours, classes that were not registered with `nb.register`) must be given:
        `net`, `loss`, `metrics`, `optimizer`, `schedule`, as for a new trainer; the error lists what is missing. See
        `load_checkpoint`.
        """
        if unknown := given.keys() - PARTS:
            raise TypeError(f"resume: expected net, {', '.join(PARTS)}, got {', '.join(sorted(unknown))}.")
        if not isinstance(net, Module | None):
            raise TypeError(f"resume: expected a model as net, got a {type(net).__name__}.")

        def made(file: Path) -> Any:
            with naming(file), File(file) as opened:
                model, arguments = rebuilt(Content(opened), {"net": net, **given} if net is not None else given)
            trainer = cls(model, **arguments, device=device)
            trainer._unfinished, trainer._override = restore(trainer, file, override), override
            return trainer

        return newest(path, made)

    def _write(self, path: Path) -> None:
        """Between two steps."""
        value = snapshot(self, None if self._run is None else self._run.state())
        crash.point("checkpoint.snapshot")
        save(value, path)

    def _advance(self, what: str, *metric: float) -> None:
        """The schedule moves on if that is what it counts."""
        if self.schedule is not None and self.schedule_every == what:
            self.schedule.step(*metric)

    def _report(self, feed: Feed, held_out: Feed | None) -> Row:
        row: Row = {}
        if self.metrics and not (isinstance(feed, Stream) and feed.once):
            row.update(self._measure(feed, loss=False))
        if held_out is not None:
            row.update((f"val_{name}", value) for name, value in self._measure(held_out).items())
        return row

    @on_its_device
    def evaluate(self, X: Any, y: Any = None, batch_size: int = 1024, sample_weight: Any = None) -> Row:
        """Loss and metrics on some data, in evaluation mode; X and y as in `fit`."""
        return self._measure(Intake(self._edge, self.objective).feed(X, y, sample_weight), batch_size)

    def _measure(self, feed: Feed, batch_size: int = 1024, loss: bool = True) -> Row:
        return measured(self._forward, self.objective, self.metrics, feed, batch_size, loss)

    @on_its_device
    def predict(self, X: Any, batch_size: int = 1024) -> Any:
        """The outputs for the rows of X, in evaluation mode: Tensors for Tensors, else arrays of the kind of X.

        A tuple or dict of outputs if the net has several.
        """
        edge = self._edge
        return predicted(self._forward, Rows(edge, (edge.inputs(X, stay=True),), batch_size), X)

    # -- data on its way in
    @property
    def _edge(self) -> Edge:
        whole = any(module.whole_inputs for module in self.net.modules())
        return Edge(self.device, self.dtype, whole, self.objective.classes)
