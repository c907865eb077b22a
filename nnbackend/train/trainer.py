"""Trainer: a network, a loss and an optimizer, put to work on data."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from operator import index
from typing import Any

from .. import crash, optim
from .. import functional as F
from ..backend import DeviceLike, to_host
from ..backend import device as find_device
from ..data import DataLoader
from ..data.loader import concatenated
from ..errors import IncompatibleCheckpointError, ShapeError
from ..grad_mode import no_grad
from ..io.header import naming
from ..io.model import Content, save
from ..io.safetensors import File
from ..metrics import Metric, metric
from ..nn import Module, evaluating
from ..optim import LRScheduler, Optimizer, ReduceLROnPlateau
from ..program import Compiled, compile
from ..tensor import Tensor
from .callback import callback
from .checkpoints import BEST, Checkpoints, newest, numbered
from .edge import features, targets
from .history import History, Row
from .run import Pair, Path, Run
from .snapshot import PARTS, kept, rebuilt, refusal, restore, snapshot

Loss = Callable[[Any, Any], Any]
LOSSES: dict[str, Loss] = {
    "mse": F.mse_loss,
    "mae": F.l1_loss,
    "huber": F.huber_loss,
    "cross_entropy": F.cross_entropy,
    "nll": F.nll_loss,
    "bce": F.binary_cross_entropy,
    "bce_with_logits": F.binary_cross_entropy_with_logits,
}
NUMERIC = (F.mse_loss, F.l1_loss, F.huber_loss, F.binary_cross_entropy, F.binary_cross_entropy_with_logits)
OPTIMIZERS: dict[str, type[Optimizer]] = {
    rule.__name__.lower(): rule
    for rule in (
        optim.SGD, optim.Lion, optim.Adagrad, optim.RMSprop, optim.Adadelta, optim.Rprop, optim.ASGD, optim.Adam,
        optim.AdamW, optim.Adamax, optim.NAdam, optim.RAdam, optim.Adafactor,
    )
}  # fmt: skip


class Trainer:
    """Trains a module on arrays: `Trainer(net, loss="mse", optimizer=optim.SGD(lr=0.5)).fit(X, y, epochs=100)`.

    `loss` and `metrics` are names or functions of (output, target); `optimizer` is a name, a template such as
    `optim.Adam(lr=1e-3)`, or one that has parameters already. With a `seed`, parameters that nobody has loaded,
    assigned or trained are drawn from it, and so are the shuffles: one seed, one run, on every device.

    `schedule` is called with the optimizer, `lambda opt: optim.CosineAnnealingLR(opt, T_max=30)`, and moves on once an
    epoch, or once a step with `schedule_every="step"`; ReduceLROnPlateau looks at each epoch's val_loss, else its loss.
    """

    def __init__(
        self,
        net: Module,
        loss: str | Loss = "mse",
        optimizer: str | Optimizer = "adam",
        metrics: Sequence[str | Metric] = (),
        device: DeviceLike = "auto",
        seed: int | None = None,
        schedule: Callable[[Optimizer], LRScheduler] | None = None,
        schedule_every: str = "epoch",
    ) -> None:
        if schedule_every not in ("epoch", "step"):
            raise ValueError(f'schedule_every: expected "epoch" or "step", got {schedule_every!r}.')
        self.loss = _named("loss", LOSSES, loss)
        self.metrics = dict(metric(m) for m in metrics)
        if self.loss is F.binary_cross_entropy_with_logits and "accuracy" in self.metrics:
            accuracy = self.metrics["accuracy"]
            self.metrics["accuracy"] = lambda output, target: accuracy(output, target, threshold=0.0)  # type: ignore[call-arg]
        self.device, self.seed = find_device(device), seed
        self.net = net if seed is None else net.init(seed, only_fresh=True)
        self.net.to(self.device)
        template: Any = _named("optimizer", OPTIMIZERS, optimizer)() if isinstance(optimizer, str) else optimizer
        if not isinstance(template, Optimizer):
            got = getattr(optimizer, "__name__", type(optimizer).__name__)
            raise TypeError(f"optimizer: expected a name or a template such as optim.SGD(lr=0.1), got {got}.")
        self.optimizer = template if template.param_groups else template.bind(net.parameters())
        self.schedule = None if schedule is None else _scheduled(self.optimizer, schedule)
        self.schedule_every = "report" if isinstance(self.schedule, ReduceLROnPlateau) else schedule_every
        if self.schedule_every != schedule_every == "step":
            raise ValueError('schedule_every: expected "epoch" for ReduceLROnPlateau, got "step".')
        self.asked = {"metrics": tuple(metrics)}
        self.history = History()
        self.steps, self.interrupted = 0, False
        self._unfinished: Run | dict[str, Any] | None = None  # a fit that was cut short, here or in a checkpoint
        self._override = False
        self._run: Run | None = None  # the fit that is under way
        self._lock = threading.RLock()
        # recorded once, replayed from then on
        self._forward, self._gradients, self._gather, step = (
            compile(f, rehearse=True) for f in (self.net, self.gradients, self._part, self._batch)
        )
        self._step = step if self.optimizer.recordable else self._batch

    @property
    def dtype(self) -> Any:
        """The dtype of the model, which data is cast to."""
        return next((p.dtype for p in self.net.parameters()), "float32")

    def gradients(self, x: Tensor, y: Tensor) -> Tensor:
        """One batch forward and back. Returns the loss, without waiting for it."""
        self.optimizer.zero_grad()
        loss: Tensor = self.loss(self.net(x), y)
        loss.backward()
        return loss

    def step(self, x: Tensor, y: Tensor) -> Tensor:
        """One batch forward, back, and update; some optimizers (SAM, LBFGS) ask for the gradients again."""
        return self.optimizer.step(lambda: self._gradients(x, y))  # type: ignore[no-any-return]

    def _batch(self, x: Tensor, y: Tensor) -> Tensor:
        """What is recorded: `step`, also one that a user has put in its place."""
        return self.step(x, y)

    def _part(self, x: Tensor, y: Tensor, share: float, last: bool) -> Tensor:
        """One of several batches whose gradients add up to one step; `share` of the rows are in it."""
        loss = self.loss(self.net(x), y)
        (loss * share).backward()
        if last:
            self.optimizer.step()
            self.optimizer.zero_grad()
        return loss  # type: ignore[no-any-return]

    def fit(
        self,
        X: Any,
        y: Any,
        epochs: int = 1,
        batch_size: int | None = 32,
        validation_data: tuple[Any, Any] | None = None,
        shuffle: bool = True,
        report_every: int | None = None,
        verbose: bool = True,
        accumulate: int = 1,
        callbacks: Sequence[Any] = (),
        checkpoints: Checkpoints | Path | None = None,
        resume: bool = False,
    ) -> History:
        """Train for `epochs` more passes over the rows; `batch_size=None` is the full batch, 1 is sample by sample.

        With `accumulate=k` the gradients of k batches make one step, as if they were one batch, in the memory of one
        (for losses that are means; layers that look at their whole batch, as batch norm does, still see only theirs).
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
        data = self._pair(X, y)
        if data[0].shape[0] != data[1].shape[0]:
            raise ShapeError(f"fit: expected as many targets as rows, got X {data[0].shape} and y {data[1].shape}")
        held_out = None if validation_data is None else self._pair(*validation_data)
        self._check_best(keeper, held_out)
        loader = DataLoader(*data, batch_size=batch_size, shuffle=shuffle, seed=self.seed)
        run = Run(self, loader, held_out, epochs, accumulate, report_every, list(map(callback, callbacks)), keeper)
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

    def _check_best(self, keeper: Checkpoints | None, held_out: Pair | None) -> None:
        """ValueError if no row will have the value that says which model is the best."""
        names = ["loss", *self.metrics]
        names += [f"val_{name}" for name in names] if held_out is not None else []
        if keeper is not None and keeper.best not in (None, *names):
            raise ValueError(f"checkpoints: expected best to be one of {', '.join(names)}, got {keeper.best!r}.")

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

    def _report(self, data: tuple[Tensor, Tensor], held_out: tuple[Tensor, Tensor] | None) -> Row:
        row: Row = {}
        if self.metrics:
            row.update(self._measure(*data, only_metrics=True))
        if held_out is not None:
            row.update((f"val_{name}", value) for name, value in self._measure(*held_out).items())
        return row

    def evaluate(self, X: Any, y: Any, batch_size: int = 1024) -> Row:
        """Loss and metrics on some data, in evaluation mode."""
        return self._measure(*self._pair(X, y), batch_size=batch_size)

    def _measure(self, x: Tensor, y: Tensor, batch_size: int = 1024, only_metrics: bool = False) -> Row:
        with no_grad():
            output = self._outputs(x, batch_size)
            values = {} if only_metrics else {"loss": self.loss(output, y)}
            values.update((name, measure(output, y)) for name, measure in self.metrics.items())
        return {name: float(value) for name, value in values.items()}

    def predict(self, X: Any, batch_size: int = 1024) -> Any:
        """The outputs for the rows of X, in evaluation mode: a Tensor for a Tensor, else a NumPy array."""
        x = features(X, self.device, self.dtype)
        with no_grad():
            output = self._outputs(x, batch_size)
        return output if isinstance(X, Tensor) else to_host(output.data).copy()

    def _outputs(self, x: Tensor, batch_size: int) -> Tensor:
        with evaluating():
            return concatenated(
                [self._forward(batch) for (batch,) in DataLoader(x, batch_size=batch_size, shuffle=False)]
            )

    def _pair(self, X: Any, y: Any) -> tuple[Tensor, Tensor]:
        """The data on the device; whole numbers are amounts for a numeric loss, and may be classes for any other."""
        x = features(X, self.device, self.dtype)
        return x, targets(y, self.device, self.dtype, classes=self.loss not in NUMERIC)


def _scheduled(optimizer: Optimizer, schedule: Callable[[Optimizer], LRScheduler]) -> LRScheduler:
    made = schedule(optimizer) if callable(schedule) else schedule
    if not isinstance(made, LRScheduler) or made.optimizer is not optimizer:
        raise ValueError(
            f"schedule: expected a function that makes a schedule of the optimizer it is given, got {schedule!r}. "
            "Use schedule=lambda opt: optim.StepLR(opt, 10)."
        )
    return made


def _named(what: str, table: dict[str, Any], spec: Any) -> Any:
    if isinstance(spec, str):
        if spec not in table:
            raise ValueError(f"{what}: expected one of {', '.join(table)}, or an object, got {spec!r}.")
        return table[spec]
    return spec
