"""Where a NaN was born: the steps since the last sound state once more, the spoiling one operation by operation."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from ..backend import NUMPY, to_host
from ..cells import gradients_of
from ..errors import NonFiniteError
from ..optim import get_total_norm
from ..program.watch import Birth, Place, Range, Watch, sound
from ..tensor import Tensor
from ..tree import leaves
from .feed import Batch, Rows
from .sound import Copy, LastGood, set_rates

SHOWN = 5  # rows and names in a message
GROWTH = 1e3  # from which on a gradient has exploded
LARGE = 1e6  # from which on it is the size of an input that matters, not where it lies
LOGARITHMS, ROOTS, DIVISIONS = ("log", "log2", "log10"), ("sqrt", "pow"), ("divide", "remainder", "reciprocal")
EXPONENTIALS = ("exp", "expm1", "sinh", "cosh")


class Retrial:
    """The steps of a run from its last sound state on, once more; afterwards trainer and run are in that state."""

    def __init__(self, last: LastGood, signals: Any) -> None:
        self.last, self.run, self.trainer = last, last.run, last.run.trainer
        self.stopping = signals
        self.until, self.rows = self.trainer.steps, list(self.run.history)
        self.norms: list[float] = []  # of the gradients of the steps that were good
        self.birth: Birth | None = None
        self.step, self.lr = self.until, self.trainer.optimizer.param_groups[0]["lr"]
        self.size = 0  # of the batch
        self.given = 0.0  # the largest number in it
        self.numbers: list[int] | None = None  # of the bad rows in the data
        self.why = ""  # there is no birth

    def search(self) -> None:
        """Find the first step that spoils loss or parameters, and the operation in it."""
        feed = self.run.feed
        try:
            if not isinstance(feed, Rows) and feed.once:
                self.why = f"batches of a {type(feed.source).__name__} cannot be read again"
            else:
                with NUMPY.xp.errstate(all="ignore"):
                    self._search()
        except Exception as error:
            self.why = f"the steps could not be done again ({type(error).__name__}: {error})"
        finally:
            self.last.restore()

    def _search(self) -> None:
        self.last.restore()
        for group, sizes, first in self._groups():
            before = Copy(self.trainer)
            losses = self.run.step(group, sizes)
            if all(map(sound, (*losses, *self._parameters()))):
                self.norms += self._norm()
                continue
            before.restore(self.trainer)
            self.step, self.lr = before.steps + 1, self.trainer.optimizer.param_groups[0]["lr"]
            self._watch(group, sizes, first)
            return
        left_out = " without callbacks" if self.run.callbacks else ""
        self.why = self.why or f"the same steps stayed finite when they were done again{left_out}"

    def _groups(self) -> Iterator[tuple[list[Batch], list[int], int]]:
        """The batches of each step, their rows, and how many rows of the epoch came before them."""
        run, trainer = self.run, self.trainer
        epoch, first = self.last.epochs, sum(run.sizes)
        while trainer.steps < self.until:
            if run.accumulate > 1:
                trainer.optimizer.zero_grad()
            for group, sizes, _ in run.feed.groups(run.accumulate):
                if self.stopping.caught is not None:
                    self.why = "it was interrupted"
                    return
                if rates := self.last.rates.get(trainer.steps):
                    set_rates(trainer.optimizer, rates)
                yield group, sizes, first
                first += sum(sizes)
                if trainer.steps >= self.until:
                    return
            trainer._advance("epoch")
            if epoch < len(self.rows):
                trainer._advance("report", self.rows[epoch].get("val_loss", self.rows[epoch]["loss"]))
            epoch, first = epoch + 1, 0

    def _watch(self, group: list[Batch], sizes: list[int], first: int) -> None:
        """The spoiling step, seen operation by operation."""
        self.size = sum(sizes)
        self.given = max(Range.of("", t.data).largest for batch in group for t in leaves(batch))
        feed, named = self.run.feed, dict(self.trainer.net.named_parameters())
        weights = {name: Range.of(name, p.array) for name, p in named.items()}
        watch = Watch([_named(batch) for batch in group])
        with watch:
            losses = self.run.step(group, sizes)
        seen = [watch.of(x) for x in losses if not sound(x)] or [
            watch.of(p) for p in named.values() if not sound(Tensor(p.array))
        ]
        found = next((birth for birth in seen if birth is not None), None)
        if found is not None:
            self.birth = found.origin
            if isinstance(feed, Rows) and self.birth.rows:
                self.numbers = feed.numbers([first + row for row in self.birth.rows])
        elif any(map(sound, losses)) and seen:
            self._blame_update(named, weights)
        else:
            why = "no operation on Tensors did" if seen else "the same step stayed finite operation by operation"
            self.why = why

    def _blame_update(self, named: dict[str, Any], weights: dict[str, Range]) -> None:
        """The loss was finite, and so was all on the way back that could be seen."""
        bad = [name for name, p in named.items() if not sound(Tensor(p.array))]
        gradients = gradients_of([named[name] for name in bad])
        spoilt = [name for name, g in zip(bad, gradients, strict=True) if not sound(g)]
        if spoilt:
            self.why = f"the gradient of {_some(spoilt)} came from no operation that could be watched"
            return
        inputs = [weights[bad[0]]] + [Range.of("gradient", g) for g in gradients[:1] if g is not None]
        p, place = named[bad[0]], Place(self.trainer.optimizer, "", None)
        self.birth = Birth("update", "update", place, tuple(inputs), Range.of(_some(bad), p.array), str(p.dtype))

    def _parameters(self) -> list[Tensor]:
        """All of them, in as few arrays as there are."""
        cells = {id(c): c for p in self.trainer.net.parameters() for c in (p if p.home is None else p.home,)}
        return [Tensor(c.array) for c in cells.values()]

    def _norm(self) -> list[float]:
        """That of the gradients of the last step, if they are still there."""
        gradients = [g for g in gradients_of(self.trainer.net.parameters()) if g is not None]
        norm = float(to_host(get_total_norm(gradients).data)) if gradients else math.inf
        return [norm] if math.isfinite(norm) else []

    # -- in words
    def error(self, expected: str) -> NonFiniteError:
        """What has been found."""
        birth = self.birth
        if birth is None:
            found = f"Which operation made it is not known: {self.why}."
        else:
            found = f"{_told(birth, self.trainer)}{self._place()}."
        parts = [f"fit: expected {expected} (step {self.step}, lr {self.lr:g}).", found, self._grown(), self._cure()]
        parts.append(f"The model is as it was after step {self.trainer.steps}.")
        error = NonFiniteError(" ".join(filter(None, parts)))
        error.step = self.step
        if birth is not None:
            error.op, error.way, error.line = birth.op, birth.way, birth.place.line
            error.layer, error.rows, error.data_rows = birth.layer, birth.rows, tuple(self.numbers or ())
        return error

    def _place(self) -> str:
        """The rows of a birth."""
        rows = self.birth.rows if self.birth is not None else ()
        if not rows:
            return ""
        if len(rows) == self.size > 1:
            return f"; all {self.size} rows of the batch"
        numbers = "" if self.numbers is None else f", {_some(self.numbers)} of X"
        return f"; {'row' if len(rows) == 1 else 'rows'} {_some(rows)} of the batch{numbers}"

    def _grown(self) -> str:
        """How the gradient has changed meanwhile."""
        if not self.norms:
            return ""
        a, b, n = self.norms[0], self.norms[-1], len(self.norms)
        return f"The gradient norm was {b:.3g} one step before" + (f", {a:.3g} {n} steps before." if n > 1 else ".")

    @property
    def _exploding(self) -> bool:
        """Whether the steps are what made the numbers large."""
        norms, inputs = self.norms, self.birth.inputs if self.birth is not None else ()
        grown = len(norms) > 1 and norms[-1] > GROWTH * norms[0]
        return grown or (self.step > 1 and any(x.largest > max(LARGE, self.given) for x in inputs))

    def _cure(self) -> str:
        """What most likely helps."""
        birth = self.birth
        clip = "" if self.trainer.clip_norm else ", or bound the gradients with clip_norm=1"
        if birth is None:
            return "Lower the learning rate, or scale the features with data.StandardScaler."
        singular = cure_of(birth)
        if birth.way == "data" and not (birth.dtype == "float16" and birth.output.infinities):
            return "Drop those rows or fill them in."
        if singular and not any(x.largest > LARGE for x in birth.inputs):
            return singular
        if birth.dtype == "float16":
            return NARROW[birth.way == "backward"]
        if self._exploding or birth.way == "update":
            return f"The steps are too long: lower the learning rate{clip}."
        if not singular and self.given > LARGE:
            return f"The data has numbers up to {self.given:.3g}: scale it, as with data.StandardScaler."
        return singular or "Lower the learning rate, or scale the features with data.StandardScaler."


NARROW = (
    "float16 ends at 65504: keep this layer in float32, or scale its inputs down.",
    "float16 ends at 65504: keep this layer in float32, or scale the loss with optim.GradScaler.",
)


def cure_of(birth: Birth) -> str:
    """What helps where an operation met values at which it, or its slope, is not finite; empty for all others."""
    op, slope = birth.op, birth.way == "backward"
    if birth.spilled:
        return f"The result was left out, as by where, but not its slope: give {op} inputs where both are finite."
    if not birth.inputs:
        return ""
    first, last = birth.inputs[0], birth.inputs[-1]
    if op in LOGARITHMS and first.low <= 0:
        return f"Keep the input of {op} above 0: {op}(clip(x, 1e-7, None))."
    if op in ROOTS and (slope or birth.output.nans):
        return f"Keep the input of {op} {'above 0, as by a small number added' if slope else 'at 0 or above'}."
    if op in DIVISIONS and last.zeros:
        return "Add a small number to what is divided by."
    if op in EXPONENTIALS:
        return f"Keep the input of {op} small: use log_softmax or a loss on logits, or subtract the largest value."
    return ""


def _told(birth: Birth, trainer: Any) -> str:
    """A birth in words."""
    if birth.way == "data":
        return f"It came with the data: {birth.op} has {birth.output}"
    if birth.way == "state":
        return f"It was in {birth.op or 'a buffer'} before: {birth.output}"
    inside = birth.layer or ("a step of its own" if trainer._own() else "the loss")
    line = f" ({birth.place.line})" if birth.place.line else ""
    inputs = f"; {', '.join(map(str, birth.inputs))}" if birth.inputs else ""
    if birth.way == "update" and birth.op == "update":
        return f"The update of {birth.output.name} by {birth.layer} overflowed{inputs}"
    return f"First bad operation: {birth.op} in {inside}{line}, {birth.way}{inputs}"


def _some(parts: Any) -> str:
    """The first of many."""
    shown = ", ".join(map(str, parts[:SHOWN]))
    return shown if len(parts) <= SHOWN else f"{shown} and {len(parts) - SHOWN} more"


def _named(batch: Batch) -> dict[str, Any]:
    """The arrays of a batch by what they are."""
    named = {}
    for name, nest in zip(("X", "y", "weight"), batch, strict=False):
        parts = list(leaves(nest))
        named.update({name if len(parts) == 1 else f"{name}[{i}]": t for i, t in enumerate(parts)})
    return named
