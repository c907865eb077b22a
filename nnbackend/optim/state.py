"""ParameterState: parameters in groups, laid out flat, and what is remembered of each; saved and loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, ClassVar

from ..cells import Parameter, structure
from ..creation import asarray
from ..errors import IncompatibleCheckpointError
from ..recipe import Recipe, Remembers
from ..recorder import unrecorded
from ..tensor import Tensor
from .flat import RESIDUAL, History, Memory, Run, Start, lay_out, runs_of
from .group import ParamGroup
from .limits import LIMITS, Limit


class ParameterState(Remembers):
    """Base of optimizers and averages: parameters in groups with settings, laid out flat.

    Arrays and numbers are remembered of each parameter, whatever becomes of it.
    """

    optional: ClassVar[tuple[str, ...]] = ()  # slots that only some settings need
    elementwise = True  # what is done may see many parameters as one flat array; if not, each in its own shape
    limits: ClassVar[Mapping[str, Limit]] = {}  # what settings must be, beyond LIMITS

    def __init__(self, params: Iterable[Any] | None = None, **defaults: Any) -> None:
        self.defaults = ParamGroup([], defaults, {**LIMITS, **self.limits}).settings()
        self.param_groups: list[ParamGroup] = []
        self._runs: list[tuple[ParamGroup, Run]] = []
        self._version = -1
        self._named: bool | None = None
        if isinstance(params, Tensor):
            raise TypeError(f"{type(self).__name__}: expected a list of parameters, got a single one. Use [p].")
        if params is not None:
            if not isinstance(params, Iterable):
                raise TypeError(
                    f"{type(self).__name__}: expected parameters, got {type(params).__name__}. Use net.parameters()."
                )
            members = list(params)
            if not members:
                raise ValueError(
                    f"{type(self).__name__}: expected parameters, got none. Was the iterator used up? Are layers in a "
                    "plain list, and not in nn.ModuleList?"
                )
            for group in members if isinstance(members[0], dict) else [{"params": members}]:
                self.add_param_group(group)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A copy has copies of the parameters, which are laid out anew."""
        self.__dict__.update(state, _version=-1)

    def _own_recipe(self) -> Recipe:
        """How to make one like it, for any parameters."""
        return super()._own_recipe().without("params")

    # -- what a subclass writes
    def slots(self, group: ParamGroup, p: Parameter) -> Mapping[str, Start]:
        """The arrays to remember for each parameter, by PyTorch's names, and how they start. See `Start`."""
        return {}

    def numbers(self, group: ParamGroup) -> Mapping[str, float]:
        """The numbers to remember, by PyTorch's names, and how they start."""
        return {}

    # -- parameters
    def add_param_group(self, group: dict[str, Any]) -> None:
        """More parameters, with settings of their own where `group` has them. Pairs of (name, parameter) will do."""
        kind, params = type(self).__name__, group["params"]
        params = [params] if isinstance(params, Tensor) else list(params)
        named = {isinstance(p, tuple) for p in params}
        if len(named | ({self._named} - {None})) > 1:
            raise ValueError(f"{kind}: expected all parameters with names or all without, got both.")
        params = [p[1] if isinstance(p, tuple) else p for p in params]
        held = [id(p) for g in self.param_groups for p in g.params]
        for i, p in enumerate(params):
            if not isinstance(p, Parameter):
                raise ValueError(f"{kind}: expected nn.Parameter objects, got {type(p).__name__} (number {i}).")
            if id(p) in held:
                raise ValueError(f"{kind}: expected each parameter once, got {p.name or i} twice.")
            held.append(id(p))
        settings = {k: v for k, v in group.items() if k != "params"}
        if unknown := settings.keys() - self.defaults.keys():
            raise ValueError(f"{kind}: expected settings {sorted(self.defaults)}, got {sorted(unknown)} too.")
        ready = ParamGroup(params, {**self.defaults, **settings}, {**LIMITS, **self.limits})
        self.check(ready)
        self.param_groups.append(ready)
        self._named = named.pop() if named else self._named
        structure.changed()

    def check(self, group: ParamGroup) -> None:
        """Raise if a new group does not suit this optimizer."""

    # -- the layout
    def prepare(self) -> None:
        """Lay the parameters out now and not in the first step, which then is recorded once less."""
        self._ready()

    def _ready(self) -> None:
        """Look again after a change of structure, outside of any recording."""
        if self._version != structure.version:
            with unrecorded():
                self._lay_out()

    def _lay_out(self) -> None:
        """Nothing to do if all parameters are where they were."""
        laid_out = [p for _, run in self._runs for p in run.parameters]
        wanted = [p for group in self.param_groups for p in group.params]
        same = len(laid_out) == len(wanted) and all(p is q for p, q in zip(laid_out, wanted, strict=True))
        if not (same and all(run.intact() and set(run.slots) >= self._names(group, run) for group, run in self._runs)):
            self._rebuild(self._history())
        self._version = structure.version

    def _history(self) -> History:
        return _remembered(self._runs)

    def _names(self, group: ParamGroup, run: Run) -> set[str]:
        return set(self._slots(group, run.parameters[0]))

    def _slots(self, group: ParamGroup, p: Parameter) -> Mapping[str, Start]:
        return self.slots(group, p)

    def _rebuild(self, history: History, apart: Callable[[Parameter], Any] = lambda p: None) -> None:
        lay_out(p for group in self.param_groups for p in group.params)
        self._runs = [
            (group, run)
            for group in self.param_groups
            for run in runs_of(
                group.params, history, self.elementwise, partial(self._slots, group), self.numbers(group), apart
            )
        ]
        structure.changed(f"the memory of {type(self).__name__}")
        self._version = structure.version

    def returning(self) -> Callable[[], None]:
        """How to remember again what is remembered now, once the arrays of the present layout have been put back."""
        runs = self._runs

        def back() -> None:
            if self._runs is not runs:
                place = {p: i for i, (_, run) in enumerate(self._runs) for p in run.parameters}
                self._rebuild(_remembered(runs), apart=place.get)

        return back

    # -- saving
    def state_dict(self, copy: bool = True) -> dict[str, Any]:
        """What PyTorch's has: `state` by the number of the parameter, and `param_groups`.

        Without `copy` the arrays are those at work, which the next step changes.
        """
        self._ready()
        history, state, groups, n = self._history(), {}, [], 0
        for group in self.param_groups:
            for i, p in enumerate(group.params, start=n):
                known = history[p]
                if known.steps:
                    slots = {k: Tensor(slot).clone() if copy else Tensor(slot) for k, slot in known.slots.items()}
                    state[i] = {"step": known.steps, **slots, **known.numbers}
            groups.append({**group.settings(), "params": list(range(n, n + len(group.params)))})
            n += len(group.params)
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on as the optimizer that gave this state. Nothing changes if it does not fit."""
        check_state(self, state)
        params = [p for group in self.param_groups for p in group.params]
        sizes = [len(group["params"]) for group in state["param_groups"]]
        if sizes != [len(group.params) for group in self.param_groups]:
            raise IncompatibleCheckpointError(
                f"load_state_dict: expected groups of {[len(g.params) for g in self.param_groups]} parameters, "
                f"got {sizes}."
            )
        groups = [
            ParamGroup(group.params, _restored(group.settings(), saved), group.limits)
            for group, saved in zip(self.param_groups, state["param_groups"], strict=True)
        ]
        homes = {p: group for group in groups for p in group.params}
        history: History = {}
        for i, entry in state["state"].items():
            if not 0 <= int(i) < len(params):
                raise IncompatibleCheckpointError(
                    f"load_state_dict: expected {len(params)} parameters, got number {i}."
                )
            p = params[int(i)]
            history[p] = self._loaded(homes[p], p, entry, int(i))
        for group, ready in zip(self.param_groups, groups, strict=True):
            group.update(ready.settings())
        self._rebuild(history)

    def _loaded(self, group: ParamGroup, p: Parameter, entry: dict[str, Any], i: int) -> Memory:
        """What is remembered of one parameter. IncompatibleCheckpointError if it does not fit."""
        numbers = {name: _number(entry[name]) for name in self.numbers(group) if name in entry}
        slots = {
            name: asarray(value).clone().data
            for name, value in entry.items()
            if name != "step" and name not in numbers and value is not None
        }
        wanted = {name: s if isinstance(s, tuple) else p.shape for name, s in self._slots(group, p).items()}
        if RESIDUAL not in wanted:
            slots.pop(RESIDUAL, None)
        wanted = {name: p.shape for name in self.optional if name in slots} | wanted
        wrong = [f"{k} {tuple(v.shape)}" for k, v in slots.items() if wanted.get(k) != tuple(v.shape)]
        missing = (wanted.keys() | self.numbers(group).keys()) - slots.keys() - numbers.keys() - {RESIDUAL}
        wrong += [f"no {name}" for name in sorted(missing)]
        if wrong:
            raise IncompatibleCheckpointError(
                f"load_state_dict: expected {wanted or 'nothing'} for parameter {i} ({p.name}), got {', '.join(wrong)}."
            )
        return Memory(int(_number(entry.get("step", 1))), slots, numbers)

    def __repr__(self) -> str:
        settings = ", ".join(
            f"{k}={v}" for k, v in (self.param_groups[0].settings() if self.param_groups else self.defaults).items()
        )
        return f"{type(self).__name__}({settings})"


def _remembered(runs: list[tuple[ParamGroup, Run]]) -> History:
    return {p: memory for _, run in runs for p, memory in run.remembered().items()}


def check_state(owner: ParameterState, state: Any) -> None:
    """IncompatibleCheckpointError unless it looks like a state."""
    if not isinstance(state, Mapping) or not {"state", "param_groups"} <= state.keys():
        got = ", ".join(map(str, state)) if isinstance(state, Mapping) else f"a {type(state).__name__}"
        raise IncompatibleCheckpointError(
            f"{type(owner).__name__}.load_state_dict: expected state and param_groups, got {got}."
        )


def _restored(settings: dict[str, Any], saved: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as they were saved, with what schedules start from."""
    return {**settings, **{name: saved[name] for name in (*settings, "initial_lr") if name in saved}}


def _number(value: Any) -> float:
    return value.item() if hasattr(value, "item") else value  # type: ignore[no-any-return]
