"""Trainer: a network, a loss and an optimizer, put to work on data."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import index
from typing import Any

from .. import functional as F
from .. import optim
from ..array import stack
from ..backend import DeviceLike, to_host
from ..backend import device as find_device
from ..data import DataLoader
from ..data.loader import concatenated
from ..errors import NonFiniteError, ShapeError
from ..grad_mode import no_grad
from ..metrics import Metric, metric
from ..nn import Module, evaluating
from ..optim import LRScheduler, Optimizer, ReduceLROnPlateau
from ..program import compile
from ..tensor import Tensor
from .edge import features, targets
from .history import History, Row, line

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
        template: Optimizer = _named("optimizer", OPTIMIZERS, optimizer)() if isinstance(optimizer, str) else optimizer
        self.optimizer = template if template.param_groups else template.bind(net.parameters())
        self.schedule = None if schedule is None else _scheduled(self.optimizer, schedule)
        self.schedule_every = "report" if isinstance(self.schedule, ReduceLROnPlateau) else schedule_every
        if self.schedule_every != schedule_every == "step":
            raise ValueError('schedule_every: expected "epoch" for ReduceLROnPlateau, got "step".')
        self.history = History()
        self.steps = 0
        # recorded once, replayed from then on
        self._forward, self._gradients, self._gather = compile(self.net), compile(self.gradients), compile(self._part)
        self._step = compile(self._batch) if self.optimizer.recordable else self._batch

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
    ) -> History:
        """Train for `epochs` more passes over the rows; `batch_size=None` is the full batch, 1 is sample by sample.

        With `accumulate=k` the gradients of k batches make one step, as if they were one batch, in the memory of one
        (for losses that are means; layers that look at their whole batch, as batch norm does, still see only theirs).
        Every `report_every` epochs (by default about 20 times) metrics and validation are computed and printed.
        Returns the history of all fits. NonFiniteError if the loss turns NaN or infinite; DataError names bad rows.
        """
        if epochs < 0:
            raise ValueError(f"fit: expected epochs >= 0, got {epochs}.")
        self._check_accumulate(accumulate)
        data = self._pair(X, y)
        if data[0].shape[0] != data[1].shape[0]:
            raise ShapeError(f"fit: expected as many targets as rows, got X {data[0].shape} and y {data[1].shape}")
        held_out = None if validation_data is None else self._pair(*validation_data)
        loader = DataLoader(*data, batch_size=batch_size, shuffle=shuffle, seed=self.seed)
        loader.epoch = done = len(self.history)
        every = 1 if self.schedule_every == "report" else report_every or max(1, epochs // 20)
        unread: list[Tensor] = []  # losses still on the device
        with self._progress(range(done + 1, done + epochs + 1), verbose) as passes:
            for epoch in passes:
                unread.append(self._epoch(loader, accumulate))
                if epoch % every == 0 or epoch == done + epochs:
                    self._read(unread, epoch)
                    self.history[-1].update(self._report(data, held_out))
                    self._advance("report", self.history[-1].get("val_loss", self.history[-1]["loss"]))
                    if verbose:
                        passes.write(line(self.history[-1]))
        return self.history

    def _check_accumulate(self, accumulate: int) -> None:
        """ValueError if the gradients of so many batches cannot be added up."""
        if index(accumulate) < 1:
            raise ValueError(f"fit: expected accumulate >= 1, got {accumulate}.")
        if accumulate > 1 and type(self.optimizer).step is not Optimizer.step:
            raise ValueError(f"fit: expected accumulate=1 for {type(self.optimizer).__name__}, got {accumulate}.")
        for name in ("step", "gradients"):
            if accumulate > 1 and (name in vars(self) or getattr(type(self), name) is not getattr(Trainer, name)):
                raise ValueError(
                    f"fit: expected accumulate=1 for a trainer with a {name} of its own, got {accumulate}."
                )

    def _epoch(self, loader: DataLoader, accumulate: int) -> Tensor:
        """One pass over the data; the mean loss, still on the device."""
        losses, weights, together = [], [], accumulate * loader.batch_size
        if accumulate > 1:
            self.optimizer.zero_grad()
        for i, (x, y) in enumerate(loader, start=1):
            last = i % accumulate == 0 or i == len(loader)
            if accumulate == 1:
                loss = self._step(x, y)
            else:
                rows = min(together, loader.rows - (i - 1) // accumulate * together)
                loss = self._gather(x, y, x.shape[0] / rows, last)
            losses.append(loss.detach())
            weights.append(x.shape[0])
            if last:
                self.steps += 1
                self._advance("step")
        self._advance("epoch")
        if len(losses) == 1:
            return losses[0]  # type: ignore[no-any-return]
        total: Tensor = stack(losses[:-1]).sum() * weights[0] + losses[-1] * weights[-1]
        mean: Tensor = total / sum(weights)
        return mean

    def _advance(self, what: str, *metric: float) -> None:
        """The schedule moves on if that is what it counts."""
        if self.schedule is not None and self.schedule_every == what:
            self.schedule.step(*metric)

    def _read(self, unread: list[Tensor], epoch: int) -> None:
        """Bring the losses of the last epochs to the host, in one go."""
        for i, value in enumerate(to_host(stack(unread).data).tolist(), start=epoch - len(unread) + 1):
            if not math.isfinite(value):
                lr = self.optimizer.param_groups[0]["lr"]
                error = NonFiniteError(
                    f"fit: expected a finite loss, got {value} in epoch {i} (step {self.steps}, lr {lr:g}). "
                    "Lower the learning rate, or scale the features with data.StandardScaler."
                )
                error.step = self.steps
                raise error
            self.history.append({"epoch": i, "loss": value})
        unread.clear()

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

    def _progress(self, epochs: Iterable[int], verbose: bool) -> _Progress:
        return _Progress(epochs, verbose and sys.stderr.isatty())


class _Progress:
    """Epochs with a bar from tqdm where that is installed and somebody is looking, plain lines otherwise."""

    def __init__(self, epochs: Iterable[int], bar: bool) -> None:
        self.epochs: Iterable[int] = epochs
        self.bar: Any = None
        if bar:
            try:
                from tqdm import tqdm
            except ImportError:
                return
            self.epochs = self.bar = tqdm(epochs, unit="epoch", leave=False, mininterval=0.5)

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def __iter__(self) -> Iterator[int]:
        return iter(self.epochs)

    def write(self, text: str) -> None:
        """A line, above the bar if there is one."""
        if self.bar is None:
            print(text, flush=True)
        else:
            self.bar.write(text)


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
