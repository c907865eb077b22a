"""L-BFGS: steps along directions that remember the curvature, with a strong Wolfe line search."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, NamedTuple

from ..backend import namespace
from ..cells import Parameter, gradients_of
from ..creation import asarray
from ..errors import DeviceMismatchError, DTypeError, GraphError, IncompatibleCheckpointError
from ..grad_mode import enable_grad
from ..tensor import Tensor
from .flat import NARROW
from .group import ParamGroup
from .limits import Limit, natural, not_negative
from .optimizer import Optimizer
from .state import check_state

__all__ = ["LBFGS"]

Memory = dict[str, Any]  # what PyTorch's has, by its names
VECTORS = ("d", "prev_flat_grad")
HISTORIES = ("old_dirs", "old_stps", "ro")  # changes of gradient and of weights, and 1 / their product
NAMES = ("func_evals", "n_iter", "t", "H_diag", "prev_loss", *VECTORS, *HISTORIES)


def _known_search(v: Any) -> bool:
    """None or "strong_wolfe"."""
    return v in (None, "strong_wolfe")


class LBFGS(Optimizer):
    """Steps towards the minimum of a parabola seen in the last `history_size` steps; for losses without noise.

    A step is up to `max_iter` iterations and about `max_eval` (by default 1.25 as many) calls of the closure; it ends
    early where no gradient is above `tolerance_grad` or nothing changes by more than `tolerance_change`. Branching on
    values, it cannot be recorded: `step(nb.compile(closure))` is the fast way. One group, one dtype, one device.
    """

    recordable = False
    limits: ClassVar[Mapping[str, Limit]] = {
        "max_iter": natural,
        "max_eval": natural,
        "tolerance_grad": not_negative,
        "tolerance_change": not_negative,
        "history_size": natural,
        "line_search_fn": _known_search,
    }

    def __init__(
        self,
        params: Iterable[Any] | None = None,
        lr: float = 1.0,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ) -> None:
        self._memory: Memory = {}
        super().__init__(
            params,
            lr=lr,
            max_iter=max_iter,
            max_eval=max(1, max_iter * 5 // 4) if max_eval is None else max_eval,
            tolerance_grad=tolerance_grad,
            tolerance_change=tolerance_change,
            history_size=history_size,
            line_search_fn=line_search_fn,
        )

    def check(self, group: ParamGroup) -> None:
        """One group only."""
        if self.param_groups:
            raise ValueError("LBFGS: expected one parameter group, got another. It takes all parameters as one vector.")

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Minimise the loss that `closure` returns, having computed its gradients; returns the first one.

        A parameter without a gradient stays. After an error in the closure, weights and memory are as before.
        """
        if closure is None:
            raise TypeError(
                "LBFGS.step: expected a closure that computes the loss and its gradients. Use step(closure)."
            )
        params = self._checked()
        first, loss, g = _evaluated(closure, params)
        memory = self._remembered(params[0])
        memory["func_evals"] += 1
        if not _largest(g) <= self.param_groups[0]["tolerance_grad"]:  # also where it is nan: that must be seen
            start = _flat([p.data for p in params])
            try:
                self._iterate(closure, memory, start, loss, g)
            except BaseException:
                _place(params, start)
                raise
        self._memory = memory
        return first

    def _iterate(self, closure: Callable[[], Any], memory: Memory, x: Tensor, loss: float, g: Tensor) -> None:
        """Liu and Nocedal, "On the limited memory BFGS method for large scale optimization", 1989: x -= t H g."""
        group = self.param_groups[0]
        params, small = group.params, group["tolerance_change"]
        last = memory["func_evals"] - 1 + group["max_eval"]

        def at(t: float) -> Point:
            _place(params, x + t * d)
            memory["func_evals"] += 1
            _, loss, g = _evaluated(closure, params)
            return Point(t, loss, g, float(g @ d))

        for n in range(1, group["max_iter"] + 1):
            memory["n_iter"] += 1
            d, t = direction(memory, g, group["history_size"]), group["lr"]
            if memory["n_iter"] == 1:
                t *= min(1.0, 1.0 / float(abs(g).sum()))
            memory.update(d=d, t=t, prev_flat_grad=g, prev_loss=loss)
            here = Point(0.0, loss, g, float(g @ d))
            if here.slope > -small:
                return
            if group["line_search_fn"]:
                here = strong_wolfe(at, here, t, last - memory["func_evals"], _largest(d))
                memory["t"] = t = here.t
            elif n < group["max_iter"]:
                here = at(t)
            x, loss, g = x + t * d, here.loss, here.g
            _place(params, x)
            if (
                memory["func_evals"] >= last
                or _largest(g) <= group["tolerance_grad"]
                or _largest(t * d) <= small
                or abs(loss - memory["prev_loss"]) < small
            ):
                return

    def _checked(self) -> list[Parameter]:
        params = [p for group in self.param_groups for p in group.params]
        if not params:
            raise ValueError("LBFGS.step: expected parameters, got none.")
        if len({p.device for p in params}) > 1:
            raise DeviceMismatchError("LBFGS.step: expected all parameters on one device. Use net.to(device=...).")
        if len(dtypes := {p.dtype for p in params}) > 1 or params[0].dtype in NARROW:
            names = ", ".join(sorted(map(str, dtypes)))
            raise DTypeError(f'LBFGS.step: expected float32 or float64 throughout, got {names}. Use net.to("float32").')
        return params

    def _remembered(self, p: Parameter) -> Memory:
        """A copy of the memory, on the device and in the dtype that the parameters have now."""
        memory = {"func_evals": 0, "n_iter": 0, **self._memory}
        same = "d" not in memory or (memory["d"].device, memory["d"].dtype) == (p.device, p.dtype)
        return memory if same else _copied(memory, p)

    # -- saving
    def state_dict(self, copy: bool = True) -> dict[str, Any]:
        """What PyTorch's has: the memory, always a copy, is that of parameter 0."""
        memory = _copied(self._memory)
        return {**super().state_dict(copy), "state": {0: memory} if memory else {}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on as the optimizer that gave this state. Nothing changes if it does not fit."""
        check_state(self, state)
        saved = {int(i): entry for i, entry in state["state"].items()}
        memory = _copied({k: v for k, v in saved.get(0, {}).items() if k in NAMES and v is not None})
        n = sum(p.size for group in self.param_groups for p in group.params)
        vectors = [memory[k] for k in VECTORS if k in memory] + [v for k in HISTORIES[:2] for v in memory.get(k, [])]
        if saved and (saved.keys() != {0} or memory.keys() != set(NAMES if memory.get("n_iter") else NAMES[:2])):
            raise IncompatibleCheckpointError(
                f"load_state_dict: expected {', '.join(NAMES)} for parameter 0, got "
                f"{ {i: list(entry) for i, entry in saved.items()} }."
            )
        if wrong := [v.shape for v in vectors if v.shape != (n,)]:
            raise IncompatibleCheckpointError(f"load_state_dict: expected arrays of shape ({n},), got {wrong[0]}.")
        super().load_state_dict({**state, "state": {}})
        self._memory = memory


def direction(memory: Memory, g: Any, history_size: int) -> Any:
    """Remember the last step, unless its curvature is not positive; -H g by Nocedal and Wright 2006, algorithm 7.4."""
    if memory["n_iter"] == 1:
        memory.update(old_dirs=[], old_stps=[], ro=[], H_diag=1.0)
        return -g
    y, s = g - memory["prev_flat_grad"], memory["t"] * memory["d"]
    ys = y @ s
    if float(ys) > 1e-10:
        for name, new in zip(HISTORIES, (y, s, 1.0 / ys), strict=True):
            memory[name] = [*memory[name], new][-history_size:]
        memory["H_diag"] = ys / (y @ y)
    pairs, alphas, d = list(zip(*(memory[name] for name in HISTORIES), strict=True)), [], -g
    for y, s, ro in reversed(pairs):
        alphas.append(ro * (s @ d))
        d = d - alphas[-1] * y
    d = memory["H_diag"] * d
    for (y, s, ro), alpha in zip(pairs, reversed(alphas), strict=True):
        d = d + (alpha - ro * (y @ d)) * s
    return d


class Point(NamedTuple):
    """What is known of the loss after a step of `t`: `slope` is its derivative by t."""

    t: float
    loss: float
    g: Tensor
    slope: float


def strong_wolfe(at: Callable[[float], Point], start: Point, t: float, most: int, size: float) -> Point:
    """A step with a lower loss and a much smaller slope: Nocedal and Wright 2006, algorithms 3.5 and 3.6.

    The first trial is `t`, with at most `most` after it; `size` is that of the direction, to tell when to give up.
    """
    c1, c2, tolerance = 1e-4, 0.9, 1e-9
    previous, here, n = start, at(t), 0
    while n < most:  # until a bracket has the step inside
        if here.loss > start.loss + c1 * here.t * start.slope or (n > 1 and here.loss >= previous.loss):
            break
        if abs(here.slope) <= -c2 * start.slope:
            return here
        if here.slope >= 0:
            break
        t = cubic_minimum(previous, here, here.t + 0.01 * (here.t - previous.t), 10 * here.t)
        previous, here, n = here, at(t), n + 1
    else:
        previous = start
    bracket, low, slow = [previous, here], int(not previous.loss <= here.loss), False
    while n < most and abs(bracket[1].t - bracket[0].t) * size >= tolerance:
        left, right = sorted((bracket[0].t, bracket[1].t))
        t, margin = cubic_minimum(bracket[0], bracket[1], left, right), 0.1 * (right - left)
        near = min(right - t, t - left) < margin
        if near and (slow or t >= right or t <= left):
            t, near = right - margin if abs(t - right) < abs(t - left) else left + margin, False
        slow = near
        here, n = at(t), n + 1
        if here.loss > start.loss + c1 * t * start.slope or here.loss >= bracket[low].loss:
            bracket[1 - low] = here
            low = int(not bracket[0].loss <= bracket[1].loss)
            continue
        if abs(here.slope) <= -c2 * start.slope:
            return here
        if here.slope * (bracket[1 - low].t - bracket[low].t) >= 0:
            bracket[1 - low] = bracket[low]
        bracket[low] = here
    return bracket[low]


def cubic_minimum(a: Point, b: Point, low: float, high: float) -> float:
    """Where the cubic through two points with their slopes is least, between `low` and `high`; (3.59) of the book."""
    a, b = (a, b) if a.t <= b.t else (b, a)
    try:
        d1 = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.t - b.t)
        d2 = math.sqrt(d1 * d1 - a.slope * b.slope)
        t = b.t - (b.t - a.t) * ((b.slope + d2 - d1) / (b.slope - a.slope + 2 * d2))
    except (ValueError, ZeroDivisionError):  # no minimum
        t = math.nan
    return (low + high) / 2 if math.isnan(t) else min(max(t, low), high)


def _evaluated(closure: Callable[[], Any], params: list[Parameter]) -> tuple[Any, float, Tensor]:
    """What the closure returns, the loss as a number (infinite if it is none) and the gradient as one vector."""
    with enable_grad():
        result = closure()
    if result is None:
        raise TypeError("LBFGS.step: expected the closure to return the loss, got None.")
    loss = float(result)
    gradients = [g if p.requires_grad else None for p, g in zip(params, gradients_of(params), strict=True)]
    if all(g is None for g in gradients):
        raise GraphError("LBFGS.step: expected gradients, got none. Call loss.backward() in the closure.")
    xp = namespace(params[0].data)
    g = _flat([xp.zeros_like(p.data) if g is None else g for p, g in zip(params, gradients, strict=True)])
    return result, math.inf if math.isnan(loss) else loss, g


def _flat(arrays: list[Any]) -> Tensor:
    """A copy of all, as one vector."""
    return Tensor(namespace(arrays[0]).concat(arrays, axis=None))


def _place(params: list[Parameter], x: Tensor) -> None:
    """Give the parameters these values."""
    offset = 0
    for p in params:
        if p.requires_grad:
            p.assign(x[offset : offset + p.size].reshape(p.shape))
        offset += p.size


def _largest(x: Tensor) -> float:
    return float(abs(x).max())


def _copied(memory: Memory, like: Parameter | None = None) -> Memory:
    """A copy with arrays as Tensors, of the device and dtype of a parameter if one is given."""

    def copied(value: Any) -> Any:
        if isinstance(value, list):
            return [copied(part) for part in value]
        if isinstance(value, int | float):
            return value
        x = asarray(value).clone()
        return x if like is None else x.to(like.device, like.dtype)

    return {name: copied(value) for name, value in memory.items()}
