"""The schedules, from simple to less so. Each says what the learning rate is after n steps; `step()` is the base's."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

from ..program.number import cos, log, maximum, minimum
from .limits import (
    below_one,
    expect,
    finite,
    fraction,
    function,
    natural,
    not_negative,
    positive,
    positive_fraction,
    whole,
)
from .optimizer import Optimizer
from .schedule import Each, LRScheduler, annealing, chosen, each_of, one_of

__all__ = [
    "SWALR",
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "ExponentialLR",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "MultiplicativeLR",
    "PolynomialLR",
    "ReduceLROnPlateau",
    "StepLR",
]


class LambdaLR(LRScheduler):
    """base * lr_lambda(n). What the function does to n is recorded as arithmetic is; with an `if`, step outside."""

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        each_of(f"{type(self).__name__}: lr_lambda", lr_lambda, function)
        super().__init__(optimizer, last_epoch, lr_lambda=lr_lambda)

    def value(self, n: Any, base: Any, **own: Any) -> Any:
        """Proportional to the function."""
        return base * own["lr_lambda"](n)


class MultiplicativeLR(LRScheduler):
    """base * lr_lambda(1) * ... * lr_lambda(n). As it needs all of these, it cannot step inside a recorded step."""

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        each_of(f"{type(self).__name__}: lr_lambda", lr_lambda, function)
        self._products: dict[Callable[[int], float], list[float]] = {}  # a cache
        super().__init__(optimizer, last_epoch, lr_lambda=lr_lambda)

    def value(self, n: Any, base: Any, **own: Any) -> Any:
        """Proportional to the product."""
        factor = own["lr_lambda"]
        products = self._products.setdefault(factor, [1.0])
        while len(products) <= n:
            products.append(products[-1] * factor(len(products)))
        return base * products[n]


class StepLR(LRScheduler):
    """Times gamma every `step_size` steps."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1) -> None:
        expect("StepLR: step_size", step_size, natural)
        expect("StepLR: gamma", gamma, not_negative)
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer, last_epoch)

    def value(self, n: Any, base: Any, **own: Any) -> Any:
        """A staircase."""
        return base * self.gamma ** (n // self.step_size)


class MultiStepLR(LRScheduler):
    """Times gamma at each of the milestones; twice where one is given twice."""

    def __init__(
        self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.milestones, self.gamma = tuple(milestones), gamma
        for milestone in self.milestones:
            expect("MultiStepLR: milestones", milestone, whole)
        expect("MultiStepLR: gamma", gamma, not_negative)
        super().__init__(optimizer, last_epoch)

    def value(self, n: Any, base: Any, **own: Any) -> Any:
        """A staircase."""
        return base * self.gamma ** sum(n >= milestone for milestone in self.milestones)


class ConstantLR(LRScheduler):
    """Times `factor` for the first `total_iters` steps."""

    def __init__(
        self, optimizer: Optimizer, factor: float = 1.0 / 3, total_iters: int = 5, last_epoch: int = -1
    ) -> None:
        expect("ConstantLR: factor", factor, fraction)
        expect("ConstantLR: total_iters", total_iters, whole)
        self.factor, self.total_iters = factor, total_iters
        super().__init__(optimizer, last_epoch)

    def value(self, n: Any, base: Any, **own: Any) -> Any:
        """One stair."""
        return base * self.factor ** (n < self.total_iters)


class LinearLR(LRScheduler):
    """Times a factor that goes from `start_factor` to `end_factor` in `total_iters` steps: a warm-up."""

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        expect("LinearLR: start_factor", start_factor, positive_fraction)
        expect("LinearLR: end_factor", end_factor, fraction)
        expect("LinearLR: total_iters", total_iters, natural)
        self.start_factor, self.end_factor, self.total_iters = start_factor, end_factor, total_iters
        super().__init__(optimizer, last_epoch)

    def value(self, n: Any, base: Any, **own: Any) -> Any:
        """A ramp."""
        done = minimum(n / self.total_iters, 1.0)
        return base * (self.start_factor * (1.0 - done) + self.end_factor * done)


class ExponentialLR(LRScheduler):
    """Times gamma at every step."""

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        expect("ExponentialLR: gamma", gamma, not_negative)
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def value(self, n: Any, base: Any, **own: Any) -> Any:
        """A decay."""
        return base * self.gamma**n


class PolynomialLR(LRScheduler):
    """To 0 in `total_iters` steps, as the power of what is left of them."""

    def __init__(self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1) -> None:
        expect("PolynomialLR: total_iters", total_iters, natural)
        expect("PolynomialLR: power", power, not_negative)
        self.total_iters, self.power = total_iters, power
        super().__init__(optimizer, last_epoch)

    def value(self, n: Any, base: Any, **own: Any) -> Any:
        """A decay that ends."""
        return base * (1.0 - minimum(n / self.total_iters, 1.0)) ** self.power


class CosineAnnealingLR(LRScheduler):
    """Half a cosine down to `eta_min` in T_max steps, then up again (Loshchilov and Hutter 2017, without restarts)."""

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        expect("CosineAnnealingLR: T_max", T_max, positive)
        expect("CosineAnnealingLR: eta_min", eta_min, not_negative)
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer, last_epoch)

    def value(self, n: Any, base: Any, **own: Any) -> Any:
        """A wave."""
        return self.eta_min + (base - self.eta_min) * (1.0 + cos(math.pi * n / self.T_max)) / 2.0


class CosineAnnealingWarmRestarts(LRScheduler):
    """Half a cosine down to `eta_min`, again and again: in T_0 steps, then T_0 * T_mult, ... (SGDR)."""

    def __init__(
        self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        expect("CosineAnnealingWarmRestarts: T_0", T_0, natural)
        expect("CosineAnnealingWarmRestarts: T_mult", T_mult, natural)
        expect("CosineAnnealingWarmRestarts: eta_min", eta_min, not_negative)
        self.T_0, self.T_mult, self.eta_min = T_0, T_mult, eta_min
        super().__init__(optimizer, last_epoch)

    def value(self, n: Any, base: Any, **own: Any) -> Any:
        """The share of the present cycle that is over, as a cosine."""
        if self.T_mult == 1:
            done = n % self.T_0 / self.T_0
        else:
            more = self.T_mult - 1  # restart k comes after T_0 * (T_mult**k - 1) / more steps; 0.5 is for rounding
            stretch = self.T_mult ** (log((n + 0.5) * more / self.T_0 + 1.0) / math.log(self.T_mult) // 1)
            done = (n - self.T_0 * (stretch - 1.0) / more) / (self.T_0 * stretch)
        return self.eta_min + (base - self.eta_min) * (1.0 + cos(math.pi * done)) / 2.0


class SWALR(LRScheduler):
    """To a constant `swa_lr` in `anneal_epochs` steps, from whatever the other schedules say.

    For the end of training, while weights are averaged (Izmailov et al. 2018). It begins with its first step.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        swa_lr: Each,
        anneal_epochs: int = 10,
        anneal_strategy: str = "cos",
        last_epoch: int = -1,
    ) -> None:
        each_of("SWALR: swa_lr", swa_lr, not_negative)
        expect("SWALR: anneal_epochs", anneal_epochs, whole)
        self.anneal_epochs, self.anneal = anneal_epochs, annealing("SWALR", anneal_strategy)
        super().__init__(optimizer, last_epoch, swa_lr=swa_lr)

    def value(self, n: Any, base: Any, **own: Any) -> Any:
        """From one to the other."""
        done = self.anneal(minimum(n / max(1, self.anneal_epochs), 1.0))
        return base * (1.0 - done) + own["swa_lr"] * done


class ReduceLROnPlateau(LRScheduler):
    """Times `factor` whenever a metric has not improved for more than `patience` steps. `step` wants the metric.

    Better is lower in mode "min", higher in "max", by more than `threshold`: a share of the best so far, or with
    `threshold_mode` "abs" a difference. After each cut, `cooldown` steps do not count. No cut goes below `min_lr`; one
    of less than `eps` is not made.
    """

    measures: ClassVar[bool] = True

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: Each = 0.0,
        eps: float = 1e-8,
    ) -> None:
        one_of("ReduceLROnPlateau: mode", mode, ("min", "max"))
        one_of("ReduceLROnPlateau: threshold_mode", threshold_mode, ("rel", "abs"))
        each_of("ReduceLROnPlateau: min_lr", min_lr, not_negative)
        expect("ReduceLROnPlateau: factor", factor, below_one)
        expect("ReduceLROnPlateau: patience", patience, whole)
        expect("ReduceLROnPlateau: threshold", threshold, finite)
        expect("ReduceLROnPlateau: cooldown", cooldown, whole)
        expect("ReduceLROnPlateau: eps", eps, not_negative)
        self.mode, self.factor, self.patience, self.eps = mode, factor, patience, eps
        self.threshold, self.threshold_mode, self.cooldown = threshold, threshold_mode, cooldown
        worst = math.inf if mode == "min" else -math.inf
        self.memory: Mapping[str, float] = {"best": worst, "num_bad_epochs": 0, "cooldown_counter": 0, "cuts": 0}
        super().__init__(optimizer, min_lr=min_lr)

    def value(self, n: Any, base: Any, **own: Any) -> Any:
        """With all cuts so far."""
        for _ in range(self._numbers["cuts"].value):
            cut = maximum(base * self.factor, own["min_lr"])
            base = chosen(base - cut > self.eps, cut, base)
        return base

    def step(self, metrics: Any) -> None:  # type: ignore[override]
        """One number, on whatever device it is: it is read."""
        best, bad, cooldown, cuts = (self._numbers[name] for name in self.memory)
        metric = float(metrics)
        if self._better(metric, best.value):
            best.value, bad.value = metric, 0
        else:
            bad.value += 1
        if cooldown.value > 0:
            cooldown.value, bad.value = cooldown.value - 1, 0
        if bad.value > self.patience:
            cuts.value, cooldown.value, bad.value = cuts.value + 1, self.cooldown, 0
        super().step()

    def _better(self, metric: float, best: float) -> bool:
        relative = self.threshold_mode == "rel" and math.isfinite(best)
        margin = self.threshold * (abs(best) if relative else 1.0)
        return metric < best - margin if self.mode == "min" else metric > best + margin
