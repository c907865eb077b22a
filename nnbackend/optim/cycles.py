"""Schedules that go up and down between learning rates of their own, and momentum against them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..program.number import maximum, minimum
from .limits import below_one, expect, fraction, natural, not_negative, positive
from .optimizer import Optimizer
from .schedule import Each, LRScheduler, annealing, each_of, one_of

__all__ = ["CyclicLR", "OneCycleLR"]


class _Cycle(LRScheduler):
    """Moves momentum, or the first of the betas, against the learning rate."""

    def __init__(
        self,
        optimizer: Optimizer,
        cycle_momentum: bool,
        base_momentum: Each,
        max_momentum: Each,
        last_epoch: int,
        **each: Each,
    ) -> None:
        kind = type(self).__name__
        self.cycle_momentum = cycle_momentum
        if cycle_momentum:
            if isinstance(optimizer, Optimizer) and not {"momentum", "betas"} & optimizer.defaults.keys():
                raise ValueError(
                    f"{kind}: expected an optimizer with momentum or betas, got {type(optimizer).__name__}. "
                    "Use cycle_momentum=False."
                )
            each |= {"base_momentum": base_momentum, "max_momentum": max_momentum}
        for name, value in each.items():
            each_of(f"{kind}: {name}", value, below_one if "momentum" in name else not_negative)
        super().__init__(optimizer, last_epoch, **each)


class CyclicLR(_Cycle):
    """Up and down between `base_lr` and `max_lr` (Smith 2017), whatever the learning rate was.

    The height of the triangles is constant in mode "triangular", halved each time in "triangular2", times gamma**n in
    "exp_range", or times `scale_fn` of the number of the cycle (1, 2, ...), or of n with `scale_mode` "iterations".
    """

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: Each,
        max_lr: Each,
        step_size_up: float = 2000,
        step_size_down: float | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[Any], Any] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: Each = 0.8,
        max_momentum: Each = 0.9,
        last_epoch: int = -1,
    ) -> None:
        step_size_down = step_size_up if step_size_down is None else step_size_down
        expect("CyclicLR: step_size_up", step_size_up, positive)
        expect("CyclicLR: step_size_down", step_size_down, positive)
        expect("CyclicLR: gamma", gamma, not_negative)
        one_of("CyclicLR: scale_mode", scale_mode, ("cycle", "iterations"))
        if scale_fn is None:
            one_of("CyclicLR: mode", mode, ("triangular", "triangular2", "exp_range"))
        self.up, self.down, self.gamma = step_size_up, step_size_down, gamma
        self.mode, self.scale_fn, self.scale_mode = mode, scale_fn, scale_mode
        super().__init__(
            optimizer, cycle_momentum, base_momentum, max_momentum, last_epoch, base_lr=base_lr, max_lr=max_lr
        )

    def value(self, n: Any, base: Any, **own: Any) -> Any:
        """From low to high."""
        return own["base_lr"] + (own["max_lr"] - own["base_lr"]) * self._height(n)

    def momentum(self, n: Any, **own: Any) -> Any:
        """From high to low."""
        if not self.cycle_momentum:
            return None
        return own["max_momentum"] - (own["max_momentum"] - own["base_momentum"]) * self._height(n)

    def _height(self, n: Any) -> Any:
        """Triangles."""
        size = self.up + self.down
        here = n % size
        return minimum(here / self.up, (size - here) / self.down) * self._scale(n, 1 + n // size)

    def _scale(self, n: Any, cycle: Any) -> Any:
        if self.scale_fn is not None:
            return self.scale_fn(cycle if self.scale_mode == "cycle" else n)
        if self.mode == "triangular":
            return 1.0
        return 0.5 ** (cycle - 1) if self.mode == "triangular2" else self.gamma**n


class OneCycleLR(_Cycle):
    """Up from max_lr / div_factor to `max_lr`, then down to far below, in `total_steps` batches (Smith and Topin 2018).

    `three_phase` first goes down as it came up. A step after the last batch changes nothing; the next is a ValueError.
    For other schedules of the optimizer, the learning rate that it had stays the base (in PyTorch not).
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: Each,
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: Each = 0.85,
        max_momentum: Each = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ValueError("OneCycleLR: expected total_steps, or epochs and steps_per_epoch.")
            expect("OneCycleLR: epochs", epochs, natural)
            expect("OneCycleLR: steps_per_epoch", steps_per_epoch, natural)
            total_steps = epochs * steps_per_epoch
        expect("OneCycleLR: total_steps", total_steps, natural)
        expect("OneCycleLR: pct_start", pct_start, half if three_phase else fraction)
        expect("OneCycleLR: div_factor", div_factor, positive)
        expect("OneCycleLR: final_div_factor", final_div_factor, positive)
        self.length, self.anneal = total_steps, annealing("OneCycleLR", anneal_strategy)
        self.div_factor, self.final_div_factor, self.three_phase = div_factor, final_div_factor, three_phase
        rise = pct_start * total_steps - 1
        middle = [2 * rise] if three_phase else []
        self.ends = (0, rise, *middle, total_steps - 1)  # of the phases
        super().__init__(optimizer, cycle_momentum, base_momentum, max_momentum, last_epoch, max_lr=max_lr)

    def value(self, n: Any, base: Any, **own: Any) -> Any:
        """From low to high, and to the lowest."""
        high = own["max_lr"]
        low = high / self.div_factor
        return self._through(n, low, high, *[low] * self.three_phase, low / self.final_div_factor)

    def momentum(self, n: Any, **own: Any) -> Any:
        """From high to low, and back."""
        if not self.cycle_momentum:
            return None
        low, high = own["base_momentum"], own["max_momentum"]
        return self._through(n, high, low, high, *[high] * self.three_phase)

    def _through(self, n: Any, now: Any, *goals: Any) -> Any:
        """From where it is now to each of the goals in turn, one for each phase."""
        for start, end, goal in zip(self.ends, self.ends[1:], goals, strict=False):
            if end > start:
                done = self.anneal(maximum(0.0, minimum((n - start) / (end - start), 1.0)))
            else:
                done = n > end
            now = now * (1.0 - done) + goal * done
        return now


def half(v: Any) -> bool:
    """A number from 0 to 0.5 with three_phase."""
    return bool(0 <= v <= 0.5)
