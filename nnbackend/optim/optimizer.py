"""Optimizer: a rule for one array, lifted once over all parameters."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ..backend import Array, backend_of, dtype_name, namespace
from ..backend.threads import spread
from ..cells import Parameter, Scalar, clear_gradients, gradients_of
from ..errors import GraphError
from ..grad_mode import enable_grad
from ..recorder import at_work, recorder, unrecorded
from ..tape import clock
from .flat import NARROW, RESIDUAL, Run, Start
from .group import ParamGroup
from .state import ParameterState


class Optimizer(ParameterState):
    """Base of all optimizers. A subclass names its `slots` and writes `rule` for one array.

    A rule is element by element, and sees many parameters as one flat array; one that needs them in their own shapes
    sets `elementwise = False`. It does not write to the gradient, and settings say which slots count.

    Without parameters it is a template, `optim.SGD(lr=0.5)`, for a Trainer to bind to a model. Parameters without a
    gradient are skipped, as in PyTorch. Weights in float16 are updated in float32: what rounding takes from them is
    remembered.
    """

    recordable = True  # nothing in a step hangs on values, so that `nb.compile` can record it

    def __init__(self, params: Iterable[Any] | None = None, **defaults: Any) -> None:
        self.schedules: list[Any] = []  # in the order in which they take effect
        self._warned = False
        super().__init__(params, **defaults)

    # -- what a subclass writes, besides `slots` and `numbers`
    def rule(self, group: ParamGroup, w: Array, g: Array, t: Any, **memory: Any) -> None:
        """Change `w` in place by its gradient `g`, at step t = 1, 2, ...

        `memory` has the arrays of `slots`, which may be changed too, and the `numbers` as Scalars.
        """
        raise TypeError(f"{type(self).__name__}: expected a rule method in the class.")

    def decay(self, group: ParamGroup, w: Array, g: Array) -> Array:
        """The gradient with weight decay; a decoupled one shrinks the weights at once and leaves the gradient alone."""
        if group.get("decoupled_weight_decay"):
            w *= 1.0 - group["lr"] * group["weight_decay"]
            return g
        return g + group["weight_decay"] * w

    def bind(self, params: Iterable[Parameter]) -> Optimizer:
        """A copy of this template for these parameters."""
        if self.param_groups:
            raise ValueError(f"{type(self).__name__}: expected a template without parameters, got one in use.")
        twin = copy.copy(self)
        Optimizer.__init__(twin, params, **self.defaults)
        return twin

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters, or make them 0."""
        params = [p for group in self.param_groups for p in group.params]
        gradients = [] if set_to_none else gradients_of(params)
        clear_gradients(params)
        for p, g in zip(params, gradients, strict=False):
            if g is not None:
                p._grad = namespace(g).zeros_like(g)

    # -- stepping
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient. GraphError if none has.

        `closure` computes the loss and its gradients first; its result is returned.
        """
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        at_work(self, self._step)
        return loss

    def _step(self) -> None:
        self._ready()
        work = self._reached() or self._reached(divide=True)
        if not work:
            raise GraphError(f"{type(self).__name__}.step: expected gradients, got none. Call loss.backward() first.")
        now = clock()
        for group, run, gradients in work:
            t = run.steps.value + 1
            run.steps.value = t
            slots = {name: slot.data for name, slot in run.slots.items()} if run.slots else {}
            if run.block and recorder.get() is None and RESIDUAL not in slots:
                self._in_blocks(group, run, gradients, t, slots)
            else:
                self._at_once(group, run, gradients, t, slots)
            for p in run.parameters:
                p.written = now
        if len(work) < len(self._runs) and not self._warned:
            self._warn(now)

    def _at_once(self, group: ParamGroup, run: Run, gradients: list[Array], t: Any, slots: dict[str, Array]) -> None:
        """A step over all weights of a run; on a GPU one kernel, if the rule is element by element."""
        before: dict[str, float] = {}
        how = self._narrow if RESIDUAL in slots else self._apply

        def step(w: Array, g: Array, *memory: Array) -> None:
            for name, cell in run.numbers.items():
                if name in before:  # the second time
                    cell.value = before[name]
                else:
                    before[name] = cell.value
            how(group, w, g, t, {**dict(zip(slots, memory, strict=True)), **run.numbers})

        w, g = run.weights(), run.gradient(gradients)
        if self.elementwise:
            backend_of(w).together(step, w, g, *slots.values())
        else:
            step(w, g, *slots.values())

    def _apply(self, group: ParamGroup, w: Array, g: Array, t: Any, memory: dict[str, Any]) -> None:
        if group.get("maximize"):
            g = -g
        if group.get("weight_decay"):
            g = self.decay(group, w, g)
        self.rule(group, w, g, t, **memory)

    def _in_blocks(self, group: ParamGroup, run: Run, gradients: list[Array], t: Any, slots: dict[str, Array]) -> None:
        """A step over many weights, so many at a time that they stay in the cache, on all cores."""
        w, numbers = run.weights(), {name: cell.value for name, cell in run.numbers.items()}

        def some(parts: Sequence[tuple[slice, list[Array]]]) -> None:
            for here, pieces in parts:
                g = pieces[0] if len(pieces) == 1 else namespace(w).concat(pieces, axis=None)
                cells = {name: Scalar(value, name) for name, value in numbers.items()}
                self._apply(group, w[here], g, t, {**{name: s[here] for name, s in slots.items()}, **cells})
                after.update(cells)

        after: dict[str, Scalar] = {}
        spread(some, run.blocks(gradients))
        for name, cell in after.items():
            run.numbers[name].value = cell.value

    def _narrow(self, group: ParamGroup, narrow: Array, g: Array, t: Any, memory: dict[str, Any]) -> None:
        """A step in float32 for weights in float16."""
        residual = memory.pop(RESIDUAL)
        xp = namespace(narrow)
        kept = xp.astype(narrow, residual.dtype)
        w = kept + residual
        w = xp.where(xp.astype(w, narrow.dtype) == narrow, w, kept)  # unless the weights have been replaced
        self._apply(group, w, xp.astype(g, w.dtype), t, memory)
        narrow[...] = xp.astype(w, narrow.dtype)
        residual[...] = w - xp.astype(narrow, w.dtype)

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
        params = [p for group in self.param_groups for p in group.params]
        names = [p.name or f"number {i}" for i, p in enumerate(params) if p.requires_grad and p.written != now]
        if names:
            self._warned = True
            warnings.warn(
                f"{type(self).__name__}.step: no gradient for {', '.join(names)}; they stay as they are. "
                "Freeze them with requires_grad_(False) if that is meant.",
                stacklevel=5,
            )

    def _slots(self, group: ParamGroup, p: Parameter) -> Mapping[str, Start]:
        slots = super()._slots(group, p)
        return {**slots, RESIDUAL: 0.0} if dtype_name(p.dtype) in NARROW else slots
