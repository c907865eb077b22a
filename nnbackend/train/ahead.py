"""Many steps in one launch: a GPU is done with a step of a small net before the host has launched the next."""

from __future__ import annotations

from typing import Any

from ..array import take
from ..backend import KERNELS, Array
from ..data.loader import bounded
from ..program import Compiled, compile
from ..tensor import Tensor
from .feed import Rows

STEPS = 64  # in one launch, at most
KERNELS_TOGETHER = 1024  # about as many, so that no launch is long
WORTH = 256  # steps of a fit, for which it is worth recording once more


class Ahead:
    """The steps of a fit whose rows lie on the GPU: each takes its batch there, by the numbers of its rows."""

    def __init__(self, trainer: Any, feed: Rows) -> None:
        self.trainer, self.arrays = trainer, feed.loader.arrays
        self.step = compile(self._step, rehearse=True)

    def _step(self, rows: Tensor) -> Tensor:
        batch = [bounded(take(a, rows, axis=0), a) for a in self.arrays]
        loss: Tensor = self.trainer._batch(*batch).detach()
        return loss

    @property
    def most(self) -> int:
        """How many steps go together."""
        kernels = self.step.kernels
        if kernels is None or self.step.ungraphed:
            return 1
        return max(1, min(STEPS, KERNELS_TOGETHER // max(1, kernels)))

    def steps(self, rows: list[Array]) -> list[Tensor]:
        """Steps by these rows; their losses, without waiting for them."""
        return self.step.several([(Tensor(r),) for r in rows])


def ahead(run: Any, steps: int) -> Ahead | None:
    """What takes the steps of a run, if nobody looks on between them, and it is worth it."""
    trainer, feed = run.trainer, run.feed
    alone = not run.callbacks and run.checkpoints is None and run.accumulate == 1
    still = trainer.schedule is None or trainer.schedule_every != "step"
    here = isinstance(feed, Rows) and feed.plain and trainer.device.backend.captures and KERNELS
    if alone and still and here and steps >= WORTH and isinstance(trainer._step, Compiled):
        return Ahead(trainer, feed)
    return None
