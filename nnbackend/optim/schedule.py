"""What a schedule is: settings of an optimizer as a function of how often it has stepped. And how schedules compose."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, TypeAlias

from ..cells import Scalar, structure
from ..errors import IncompatibleCheckpointError
from ..program.number import cos, maximum, minimum
from ..recipe import Recipe, Remembers
from ..recorder import at_work, unrecorded
from .group import ParamGroup
from .limits import Limit, expect, increasing, not_negative, whole_or_before
from .optimizer import Optimizer

__all__ = ["ChainedScheduler", "LRScheduler", "SequentialLR"]

Each: TypeAlias = float | Sequence[float]  # a setting: one for all groups, or one for each


class LRScheduler(Remembers):
    """Base of all schedules. A subclass writes `value(n, base)`: the learning rate after n calls of `step()`.

    Call `step()` after each batch or each epoch, inside a recorded step or outside. n is all that a schedule remembers.
    Several schedules of one optimizer take effect in the order in which they were made, each on the learning rate that
    the one before gives. A learning rate set by hand lasts until the next `step()`; that under all schedules is
    `optimizer.param_groups[0]["initial_lr"]`. A schedule made after a change by hand starts from there, alone.
    """

    length: float = math.inf  # how often it may step
    parts: tuple[LRScheduler, ...] = ()  # the schedules that it is made of
    memory: Mapping[str, float] = {}  # numbers that it remembers besides n, and how they start
    measures: ClassVar[bool] = False  # whether `step` wants a metric

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1, **each: Any) -> None:
        """`last_epoch` + 1 is n. `each` are settings of the schedule, which may be lists with one for each group."""
        kind = type(self).__name__
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{kind}: expected an optimizer, got {type(optimizer).__name__}.")
        if not optimizer.param_groups:
            raise ValueError(f"{kind}: expected an optimizer with parameters, got a template.")
        expect(f"{kind}: last_epoch", last_epoch, whole_or_before)
        if last_epoch >= self.length:
            raise ValueError(f"{kind}: expected last_epoch below {self.length}, got {last_epoch}.")
        self.optimizer, self.each = optimizer, {k: tuple(x) if isinstance(x, list) else x for k, x in each.items()}
        self._numbers = {name: Scalar(x, name) for name, x in {"last_epoch": last_epoch + 1, **self.memory}.items()}
        self._over = Scalar(False, "over")  # of its own: a program depends on its truth alone
        attached: list[LRScheduler] = optimizer.schedules
        if attached and attached[0]._overruled():
            attached.clear()
            for group in optimizer.param_groups:
                group["initial_lr"] = group["lr"]
        together = [s for s in attached if s not in self.parts] + [self]
        settings = self._settings(last_epoch + 1, together)
        attached[:] = together
        self._go_to(last_epoch + 1, settings)

    def __setattr__(self, name: str, value: Any) -> None:
        """Programs that have recorded this schedule hold no longer."""
        object.__setattr__(self, name, value)
        structure.changed(f"a setting of {type(self).__name__}")

    def _own_recipe(self) -> Recipe:
        """How to make one like it, for any optimizer."""
        return super()._own_recipe().without("optimizer")

    # -- what a subclass writes
    def value(self, n: Any, base: Any, **own: Any) -> Any:
        """The learning rate after n steps where it would be `base` without this schedule.

        `own` are the settings of the group. Plain arithmetic can be recorded, with `cos`, `minimum`, ... of
        `nnbackend.program.number` for what Python's own functions do.
        """
        raise TypeError(f"{type(self).__name__}: expected a value method in the class.")

    def momentum(self, n: Any, **own: Any) -> Any:
        """What momentum, or the first of the betas, is after n steps; None leaves it alone."""
        return None

    # -- what it is for all groups
    def values(self, n: Any, bases: Sequence[Any]) -> list[Any]:
        """The learning rates of all groups."""
        return [self.value(n, base, **own) for base, own in zip(bases, self._own(len(bases)), strict=True)]

    def momenta(self, n: Any, count: int) -> list[Any]:
        """The momenta of all groups."""
        return [self.momentum(n, **own) for own in self._own(count)]

    def _own(self, count: int) -> Iterator[dict[str, Any]]:
        """The settings of each group."""
        for name, x in self.each.items():
            if isinstance(x, tuple) and len(x) != count:
                raise ValueError(f"{type(self).__name__}: expected {name} for {count} groups, got {len(x)}.")
        for i in range(count):
            yield {name: x[i] if isinstance(x, tuple) else x for name, x in self.each.items()}

    # -- stepping
    @property
    def last_epoch(self) -> int:
        """How often it has stepped: n."""
        return self._numbers["last_epoch"].value  # type: ignore[no-any-return]

    @property
    def base_lrs(self) -> list[float]:
        """The learning rates of the groups without schedules."""
        return [group.get("initial_lr", group["lr"]) for group in self.optimizer.param_groups]

    def step(self) -> None:
        """Go on by one. ValueError at the end of the schedule."""
        at_work(self, self._step)

    def _step(self) -> None:
        if self not in self.optimizer.schedules:
            raise ValueError(f"{type(self).__name__}.step: expected a step of the schedule that it is a part of.")
        if self.length < math.inf and self._over.value:
            raise ValueError(f"{type(self).__name__}.step: expected at most {self.length} steps, got one more.")
        n = self._numbers["last_epoch"].value + 1
        self._go_to(n, self._settings(n, self.optimizer.schedules))

    def _go_to(self, n: Any, settings: list[dict[str, Any]]) -> None:
        for group in self.optimizer.param_groups:
            if "initial_lr" not in group:
                with unrecorded():
                    group["initial_lr"] = group["lr"]
        self._numbers["last_epoch"].value = n
        if self.length < math.inf:
            self._over.value = n >= self.length
        for group, new in zip(self.optimizer.param_groups, settings, strict=True):
            for name, value in new.items():
                group[name] = value

    def _settings(self, n: Any, schedules: list[LRScheduler]) -> list[dict[str, Any]]:
        """What all schedules together give each group if this one is at n. ValueError if a group cannot take it."""
        groups = self.optimizer.param_groups
        lrs = self.base_lrs
        momenta: list[Any] = [None] * len(groups)
        for schedule in schedules:
            now = n if schedule is self else schedule.last_epoch
            lrs = schedule.values(now, lrs)
            momenta = _latest(momenta, schedule.momenta(now, len(groups)))
        settings = [_changes(group, lr, m) for group, lr, m in zip(groups, lrs, momenta, strict=True)]
        for group, new in zip(groups, settings, strict=True):
            for name, value in new.items():
                expect(f"{type(self).__name__}: {name}", value, group.limits.get(name, not_negative))
        return settings

    def _overruled(self) -> bool:
        """Whether the settings are not what the schedules gave."""
        settings = self._settings(self.last_epoch, self.optimizer.schedules)
        groups = self.optimizer.param_groups
        return any(group[k] != v for group, new in zip(groups, settings, strict=True) for k, v in new.items())

    # -- reading and saving
    def get_last_lr(self) -> list[float]:
        """The learning rates of the groups."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def __repr__(self) -> str:
        return f"{type(self).__name__}(last_epoch={self.last_epoch}, lr={self.get_last_lr()})"

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers, by PyTorch's names."""
        return {name: cell.value for name, cell in self._numbers.items()} | {"base_lrs": self.base_lrs}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on as the schedule that gave this state. A learning rate set by hand, or loaded before, stays."""
        kind, groups = type(self).__name__, self.optimizer.param_groups
        if missing := [name for name in (*self._numbers, "base_lrs") if name not in state]:
            raise IncompatibleCheckpointError(f"{kind}.load_state_dict: expected {missing} in the state.")
        if len(state["base_lrs"]) != len(groups):
            raise IncompatibleCheckpointError(
                f"{kind}.load_state_dict: expected base_lrs of {len(groups)} groups, got {len(state['base_lrs'])}."
            )
        if not 0 <= state["last_epoch"] <= self.length:
            raise IncompatibleCheckpointError(
                f"{kind}.load_state_dict: expected last_epoch from 0 to {self.length}, got {state['last_epoch']}."
            )
        overruled = self._overruled()
        for group, base in zip(groups, state["base_lrs"], strict=True):
            group["initial_lr"] = base
        for name, cell in self._numbers.items():
            cell.value = state[name]
        n, schedules = state["last_epoch"], self.optimizer.schedules
        self._go_to(n, [{} for _ in groups] if overruled else self._settings(n, schedules))


# -- for the schedules ----------------------------------------------------------------------------------------------


def each_of(what: str, value: Any, limit: Limit) -> None:
    """ValueError unless a setting, or each in a list with one for each group, will do."""
    for x in value if isinstance(value, list | tuple) else [value]:
        expect(what, x, limit)


def one_of(what: str, value: str, known: Sequence[str]) -> None:
    """ValueError if it is not among those known."""
    if value not in known:
        raise ValueError(f"{what}: expected one of {', '.join(known)}, got {value!r}.")


def annealing(what: str, strategy: str) -> Callable[[Any], Any]:
    """The way from 0 to 1 of that name. ValueError if there is none."""
    one_of(f"{what}: anneal_strategy", strategy, tuple(ANNEALING))
    return ANNEALING[strategy]


def _cosine(t: Any) -> Any:
    return (1.0 - cos(math.pi * t)) / 2.0


def _linear(t: Any) -> Any:
    return t


ANNEALING = {"cos": _cosine, "linear": _linear}


def chosen(test: Any, yes: Any, no: Any) -> Any:
    """`yes` where the test is true, else `no`: arithmetic, since an `if` on a recorded number cannot be replayed."""
    return yes * test + no * (1 - test)


def _latest(momenta: list[Any], new: list[Any]) -> list[Any]:
    return [m if later is None else later for m, later in zip(momenta, new, strict=True)]


def _changes(group: ParamGroup, lr: Any, momentum: Any) -> dict[str, Any]:
    """The settings of a group for these."""
    if momentum is None:
        return {"lr": lr}
    return {"lr": lr, **({"betas": (momentum, *group["betas"][1:])} if "betas" in group else {"momentum": momentum})}


# -- composition ----------------------------------------------------------------------------------------------------


class _Composed(LRScheduler):
    """Takes over schedules that have been made for the same optimizer, and have not stepped."""

    def __init__(self, optimizer: Any, schedulers: Sequence[LRScheduler], last_epoch: int = -1) -> None:
        kind = type(self).__name__
        if not schedulers:
            raise ValueError(f"{kind}: expected schedules, got none.")
        for i, part in enumerate(schedulers):
            if not isinstance(part, LRScheduler):
                raise TypeError(f"{kind}: expected schedules, got {type(part).__name__} (number {i}).")
            if part.measures:
                raise ValueError(f"{kind}: expected schedules that step without a metric, got {type(part).__name__}.")
            if part.optimizer is not optimizer:
                raise ValueError(f"{kind}: expected schedules of this optimizer, got one of another (number {i}).")
            if part in schedulers[:i] or part not in optimizer.schedules or part.last_epoch:
                raise ValueError(f"{kind}: expected new schedules, got one in use (number {i}).")
        self.parts = tuple(schedulers)
        self.length = self._length()
        super().__init__(optimizer, last_epoch)

    def _length(self) -> float:
        """How often it may step. ValueError if the parts do not allow for it."""
        return min(part.length for part in self.parts)


class ChainedScheduler(_Composed):
    """All of the schedules at once, each on the learning rate that the one before gives.

    Their effects multiply. PyTorch's lambda, warm restarts, cyclic and one-cycle undo at each step what the others did
    before, and its cosine annealing does so where it turns.
    """

    def __init__(self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None) -> None:
        super().__init__(optimizer or getattr(next(iter(schedulers), None), "optimizer", None), schedulers)

    def values(self, n: Any, bases: Sequence[Any]) -> list[Any]:
        """One after the other."""
        lrs = list(bases)
        for part in self.parts:
            lrs = part.values(n, lrs)
        return lrs

    def momenta(self, n: Any, count: int) -> list[Any]:
        """The last one's."""
        momenta: list[Any] = [None] * count
        for part in self.parts:
            momenta = _latest(momenta, part.momenta(n, count))
        return momenta


class SequentialLR(_Composed):
    """One schedule after the other, such as a warm-up and then any: the next begins, from its start, at a milestone."""

    def __init__(
        self, optimizer: Optimizer, schedulers: Sequence[LRScheduler], milestones: Sequence[int], last_epoch: int = -1
    ) -> None:
        if len(milestones) != len(schedulers) - 1:
            raise ValueError(
                f"SequentialLR: expected a milestone between any two schedules, got {len(milestones)} for "
                f"{len(schedulers)} schedules."
            )
        expect("SequentialLR: milestones", tuple(milestones), increasing)
        self.spans = tuple(zip((0, *milestones), (*milestones, math.inf), strict=True))
        super().__init__(optimizer, schedulers, last_epoch)

    def _length(self) -> float:
        for part, (start, end) in zip(self.parts[:-1], self.spans[:-1], strict=True):
            if end - start > part.length + 1:
                raise ValueError(
                    f"SequentialLR: expected at most {part.length} steps of {type(part).__name__}, got {end - start}."
                )
        return self.spans[-1][0] + self.parts[-1].length

    def values(self, n: Any, bases: Sequence[Any]) -> list[Any]:
        """Those of the part at work."""
        return self._in_turn(n, [part.values(now, bases) for part, now in self._parts(n)])

    def momenta(self, n: Any, count: int) -> list[Any]:
        """Those of the part at work, or of the latest that has some."""
        return self._in_turn(n, [part.momenta(now, count) for part, now in self._parts(n)])

    def _parts(self, n: Any) -> Iterator[tuple[LRScheduler, Any]]:
        """Each part, and how far it is: before its time at 0, afterwards at its last step."""
        for part, (start, end) in zip(self.parts, self.spans, strict=True):
            here = n - start if start else n
            yield part, maximum(0, here if end == math.inf else minimum(here, end - start - 1))

    def _in_turn(self, n: Any, of_parts: list[list[Any]]) -> list[Any]:
        now = of_parts[0]
        for later, (start, _) in zip(of_parts[1:], self.spans[1:], strict=True):
            now = [_then(n >= start, a, b) for a, b in zip(now, later, strict=True)]
        return now


def _then(begun: Any, before: Any, after: Any) -> Any:
    """What there is; if there are both, `after` once that has begun."""
    if before is None or after is None:
        return after if before is None else before
    return chosen(begun, after, before)
