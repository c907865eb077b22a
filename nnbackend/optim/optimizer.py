"""Optimizer: a rule for one array, lifted once over all parameters."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from typing import Any

from ..backend import Array, is_array
from ..cells import Parameter, Scalar, clear_gradients, gradients_of, structure
from ..creation import asarray
from ..errors import GraphError, IncompatibleCheckpointError
from ..ops.core import NUMBERS
from ..recorder import recorder, unrecorded
from ..tape import clock
from ..tensor import Tensor
from .flat import History, Run, lay_out, runs_of

LIMITS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "lr": (lambda v: 0 <= v < math.inf, "a finite number >= 0"),
    "momentum": (lambda v: 0 <= v < math.inf, "a finite number >= 0"),
    "weight_decay": (lambda v: 0 <= v < math.inf, "a finite number >= 0"),
    "eps": (lambda v: 0 < v < math.inf, "a finite number > 0"),
    "betas": (lambda v: all(0 <= b < 1 for b in v) and len(v) == 2, "two numbers from 0 to below 1"),
}


def _fits(name: str, value: Any) -> bool:
    try:
        return LIMITS[name][0](value)
    except TypeError:
        return False


class ParamGroup(MutableMapping[str, Any]):
    """Parameters and the settings they share: `optimizer.param_groups[0]["lr"] = 0.01`. Any step may change numbers."""

    def __init__(self, params: list[Parameter], settings: dict[str, Any]) -> None:
        self.params = params
        self._settings: dict[str, Any] = {}
        self.update(settings)

    def __getitem__(self, name: str) -> Any:
        value = self.params if name == "params" else self._settings[name]
        return value.value if value.__class__ is Scalar else value

    def __setitem__(self, name: str, value: Any) -> None:
        if name == "params":
            raise TypeError("param_groups: expected the parameters to stay. Use add_param_group.")
        if is_array(value):
            value = value.item()
        number = (isinstance(value, int | float) or type(value) in NUMBERS) and not isinstance(value, bool)
        seen = getattr(value, "value", value) if number else value  # a program need not look again
        if name in LIMITS and (number or isinstance(value, bool | str | tuple | list | None)) and not _fits(name, seen):
            raise ValueError(f"{name}: expected {LIMITS[name][1]}, got {value!r}.")
        old = self._settings.get(name)
        if isinstance(old, Scalar):
            if number and bool(value) != bool(old.value):  # a rule may do without what is 0
                structure.changed()
            old.value = value
        else:
            self._settings[name] = Scalar(value, name) if number else value
            structure.changed()

    def __delitem__(self, name: str) -> None:
        raise TypeError(f"param_groups: expected settings to stay, got del {name!r}.")

    def __iter__(self) -> Iterator[str]:
        return iter(("params", *self._settings))

    def __len__(self) -> int:
        return 1 + len(self._settings)

    def settings(self) -> dict[str, Any]:
        """All but the parameters, as plain values."""
        return {name: self[name] for name in self._settings}


class Optimizer:
    """Base of all optimizers. A subclass names its `slots` and writes `rule` for one array.

    Without parameters it is a template, `optim.SGD(lr=0.5)`, for a Trainer to bind to a model. Parameters without a
    gradient are skipped, as in PyTorch.
    """

    def __init__(self, params: Iterable[Any] | None = None, **defaults: Any) -> None:
        self.defaults = ParamGroup([], defaults).settings()
        self.param_groups: list[ParamGroup] = []
        self._runs: list[tuple[ParamGroup, Run]] = []
        self._version = -1
        self._warned = False
        if params is not None:
            members = list(params)
            if not members:
                raise ValueError(f"{type(self).__name__}: expected parameters, got none. Was the iterator used up?")
            for group in members if isinstance(members[0], dict) else [{"params": members}]:
                self.add_param_group(group)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A copy has copies of the parameters, which are laid out anew."""
        self.__dict__.update(state, _version=-1)

    # -- what a subclass writes
    def slots(self, group: ParamGroup) -> tuple[str, ...]:
        """Names of the arrays to remember for each parameter, PyTorch's names."""
        return ()

    def rule(self, group: ParamGroup, w: Array, g: Array, t: Any, **slots: Array) -> None:
        """Change `w` in place by its gradient `g`, at step t = 1, 2, ...; `slots` may be changed too."""
        raise TypeError(f"{type(self).__name__}: expected a rule method in the class.")

    # -- parameters
    def add_param_group(self, group: dict[str, Any]) -> None:
        """More parameters, with settings of their own where `group` has them."""
        params = group["params"]
        params = [params] if isinstance(params, Tensor) else list(params)
        held = [id(p) for g in self.param_groups for p in g.params]
        for i, p in enumerate(params):
            if not isinstance(p, Parameter):
                raise ValueError(
                    f"{type(self).__name__}: expected nn.Parameter objects, got {type(p).__name__} (number {i})."
                )
            if id(p) in held:
                raise ValueError(f"{type(self).__name__}: expected each parameter once, got {p.name or i} twice.")
            held.append(id(p))
        unknown = group.keys() - self.defaults.keys() - {"params"}
        if unknown:
            raise ValueError(
                f"{type(self).__name__}: expected settings {sorted(self.defaults)}, got {sorted(unknown)} too."
            )
        self.param_groups.append(
            ParamGroup(params, {**self.defaults, **{k: v for k, v in group.items() if k != "params"}})
        )
        structure.changed()

    def bind(self, params: Iterable[Parameter]) -> Optimizer:
        """A copy of this template for these parameters."""
        if self.param_groups:
            raise ValueError(f"{type(self).__name__}: expected a template without parameters, got one in use.")
        twin = copy.copy(self)
        Optimizer.__init__(twin, params, **self.defaults)
        return twin

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for group in self.param_groups:
            clear_gradients(group.params)

    # -- stepping
    def step(self) -> None:
        """Update every parameter that has a gradient. GraphError if none has."""
        r = recorder.get()
        if r is None:
            self._step()
        else:
            with r.scope(self):
                self._step()

    def _step(self) -> None:
        if self._version != structure.version:
            with unrecorded():
                self._lay_out()
        work = self._reached() or self._reached(divide=True)
        if not work:
            raise GraphError(f"{type(self).__name__}.step: expected gradients, got none. Call loss.backward() first.")
        now = clock()
        for group, run, gradients in work:
            t = run.steps.value + 1
            run.steps.value = t
            slots = {name: slot.data for name, slot in run.slots.items()} if run.slots else {}
            self.rule(group, run.weights(), run.gradient(gradients), t, **slots)
            for p in run.parameters:
                p.written = now
        if len(work) < len(self._runs) and not self._warned:
            self._warn(now)

    def _reached(self, divide: bool = False) -> list[tuple[ParamGroup, Run, list[Array]]]:
        """The runs with gradients. A run with some only is divided first; without `divide` the answer is then empty."""
        work = []
        for group, run in self._runs:
            gradients = [g for g in gradients_of(run.parameters) if g is not None]
            if len(gradients) == len(run.parameters):
                work.append((group, run, gradients))
            elif gradients:
                if not divide:
                    return []
                with unrecorded():
                    self._rebuild(self._history(), apart=lambda p: gradients_of([p])[0] is None)
                return self._reached()
        return work

    def _warn(self, now: int) -> None:
        names = [p.name for g in self.param_groups for p in g.params if p.requires_grad and p.written != now]
        if names:
            self._warned = True
            warnings.warn(
                f"{type(self).__name__}.step: no gradient for {', '.join(names)}; they stay as they are. "
                "Freeze them with requires_grad_(False) if that is meant.",
                stacklevel=4,
            )

    def _lay_out(self) -> None:
        """After a change of structure: nothing to do if all parameters are where they were."""
        laid_out = [p for _, run in self._runs for p in run.parameters]
        wanted = [p for group in self.param_groups for p in group.params]
        same = len(laid_out) == len(wanted) and all(p is q for p, q in zip(laid_out, wanted, strict=True))
        if not (same and all(run.intact() and tuple(run.slots) == self.slots(group) for group, run in self._runs)):
            self._rebuild(self._history())
        self._version = structure.version

    def _history(self) -> History:
        return {p: (run.steps.value, run.remembered(p)) for _, run in self._runs for p in run.parameters}

    def _rebuild(self, history: History, apart: Callable[[Parameter], Any] = lambda p: None) -> None:
        lay_out(p for group in self.param_groups for p in group.params)
        self._runs = [
            (group, run)
            for group in self.param_groups
            for run in runs_of(group.params, history, self.slots(group), apart)
        ]
        structure.changed(f"the memory of {type(self).__name__}")
        self._version = structure.version

    # -- saving
    def state_dict(self) -> dict[str, Any]:
        """What PyTorch's has: `state` by the number of the parameter, and `param_groups`."""
        if self._version != structure.version:
            self._lay_out()
        history, state, groups, n = self._history(), {}, [], 0
        for group in self.param_groups:
            for i, p in enumerate(group.params, start=n):
                steps, slots = history[p]
                if steps:
                    state[i] = {"step": steps, **{name: Tensor(slot).clone() for name, slot in slots.items()}}
            groups.append({**group.settings(), "params": list(range(n, n + len(group.params)))})
            n += len(group.params)
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on as the optimizer that gave this state. Nothing changes if it does not fit."""
        params = [p for group in self.param_groups for p in group.params]
        sizes = [len(group["params"]) for group in state["param_groups"]]
        if sizes != [len(group.params) for group in self.param_groups]:
            raise IncompatibleCheckpointError(
                f"load_state_dict: expected groups of {[len(g.params) for g in self.param_groups]} parameters, "
                f"got {sizes}."
            )
        groups = [
            ParamGroup(group.params, {name: saved.get(name, value) for name, value in group.settings().items()})
            for group, saved in zip(self.param_groups, state["param_groups"], strict=True)
        ]
        names = {p: self.slots(group) for group in groups for p in group.params}
        history: History = {}
        for i, entry in state["state"].items():
            if not 0 <= int(i) < len(params):
                raise IncompatibleCheckpointError(
                    f"load_state_dict: expected {len(params)} parameters, got number {i}."
                )
            p = params[int(i)]
            slots = {k: asarray(v).clone().data for k, v in entry.items() if k != "step" and v is not None}
            wrong = [
                f"{k} {tuple(v.shape)}" for k, v in slots.items() if tuple(v.shape) != p.shape or k not in names[p]
            ]
            if wrong:
                raise IncompatibleCheckpointError(
                    f"load_state_dict: expected {names[p]} of shape {p.shape} for parameter {i} ({p.name}), "
                    f"got {', '.join(wrong)}."
                )
            history[p] = (int(entry.get("step", 1)), slots)
        for group, ready in zip(self.param_groups, groups, strict=True):
            group.update(ready.settings())
        self._rebuild(history)

    def __repr__(self) -> str:
        settings = ", ".join(
            f"{k}={v}" for k, v in (self.param_groups[0].settings() if self.param_groups else self.defaults).items()
        )
        return f"{type(self).__name__}({settings})"
