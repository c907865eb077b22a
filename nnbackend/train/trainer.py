"""Trainer: a network, a loss and an optimizer, put to work on data."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from .. import functional as F
from ..array import stack
from ..backend import DeviceLike, to_host
from ..backend import device as find_device
from ..data import DataLoader
from ..data.loader import concatenated
from ..errors import NonFiniteError, ShapeError
from ..grad_mode import no_grad
from ..metrics import Metric, metric
from ..nn import Module, evaluating
from ..optim import SGD, Adam, AdamW, Optimizer
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
OPTIMIZERS: dict[str, type[Optimizer]] = {"sgd": SGD, "adam": Adam, "adamw": AdamW}


class Trainer:
    """Trains a module on arrays: `Trainer(net, loss="mse", optimizer=optim.SGD(lr=0.5)).fit(X, y, epochs=100)`.

    `loss` and `metrics` are names or functions of (output, target); `optimizer` is a name, a template such as
    `optim.Adam(lr=1e-3)`, or one that has parameters already. With a `seed`, parameters that nobody has loaded,
    assigned or trained are drawn from it, and so are the shuffles: one seed, one run, on every device.
    """

    def __init__(
        self,
        net: Module,
        loss: str | Loss = "mse",
        optimizer: str | Optimizer = "adam",
        metrics: Sequence[str | Metric] = (),
        device: DeviceLike = "auto",
        seed: int | None = None,
    ) -> None:
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
        self.history = History()
        self.steps = 0
        self._step, self._forward = compile(self._batch), compile(self.net)  # recorded once, replayed from then on

    @property
    def dtype(self) -> Any:
        """The dtype of the model, which data is cast to."""
        return next((p.dtype for p in self.net.parameters()), "float32")

    def step(self, x: Tensor, y: Tensor) -> Tensor:
        """One batch forward, back, and update. Returns the loss, without waiting for it."""
        loss = self.loss(self.net(x), y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss  # type: ignore[no-any-return]

    def _batch(self, x: Tensor, y: Tensor) -> Tensor:
        """What is recorded: `step`, also one that a user has put in its place."""
        return self.step(x, y)

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
    ) -> History:
        """Train for `epochs` more passes over the rows; `batch_size=None` is the full batch, 1 is sample by sample.

        Every `report_every` epochs (by default about 20 times) metrics and validation are computed and printed.
        Returns the history of all fits. NonFiniteError if the loss turns NaN or infinite; DataError names bad rows.
        """
        if epochs < 0:
            raise ValueError(f"fit: expected epochs >= 0, got {epochs}.")
        data = self._pair(X, y)
        if data[0].shape[0] != data[1].shape[0]:
            raise ShapeError(f"fit: expected as many targets as rows, got X {data[0].shape} and y {data[1].shape}")
        held_out = None if validation_data is None else self._pair(*validation_data)
        loader = DataLoader(*data, batch_size=batch_size, shuffle=shuffle, seed=self.seed)
        loader.epoch = done = len(self.history)
        every = report_every or max(1, epochs // 20)
        unread: list[Tensor] = []  # losses still on the device
        with self._progress(range(done + 1, done + epochs + 1), verbose) as passes:
            for epoch in passes:
                unread.append(self._epoch(loader))
                if epoch % every == 0 or epoch == done + epochs:
                    self._read(unread, epoch)
                    self.history[-1].update(self._report(data, held_out))
                    if verbose:
                        passes.write(line(self.history[-1]))
        return self.history

    def _epoch(self, loader: DataLoader) -> Tensor:
        """One pass over the data; the mean loss, still on the device."""
        losses, weights = [], []
        for x, y in loader:
            losses.append(self._step(x, y).detach())
            weights.append(x.shape[0])
        self.steps += len(losses)
        if len(losses) == 1:
            return losses[0]  # type: ignore[no-any-return]
        total: Tensor = stack(losses[:-1]).sum() * weights[0] + losses[-1] * weights[-1]
        mean: Tensor = total / sum(weights)
        return mean

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


def _named(what: str, table: dict[str, Any], spec: Any) -> Any:
    if isinstance(spec, str):
        if spec not in table:
            raise ValueError(f"{what}: expected one of {', '.join(table)}, or an object, got {spec!r}.")
        return table[spec]
    return spec
