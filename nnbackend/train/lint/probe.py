"""A copy of a net takes two steps, and is watched: which ops made what, and which units are stuck."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ...backend import HostArray, is_array, namespace, to_host
from ...cells import Parameter, gradients_of
from ...grad_mode import no_grad
from ...recorder import Between
from ...tape import TENSORS
from ...tensor import Tensor
from ...tree import leaves, mapped
from ..measure import called
from ..objective import LOGITS, function_of

VIEWS = ("reshape", "permute_dims", "matrix_transpose", "moveaxis", "expand_dims", "squeeze", "getitem")
SATURATED = 0.01  # a sigmoid closer to its end has less than 4 % of its slope


@dataclass
class Output:
    """One output of the net with its target and loss."""

    key: Any  # its name or place; None if there is one
    loss: Any  # the function behind it
    made_by: str  # the op, but for views
    values: HostArray
    target: HostArray
    bounds: tuple[int, int] | None  # of whole numbers


@dataclass
class Layer:
    """How many units of a ReLU are dead, or values of a sigmoid or tanh are saturated: before the steps, and after."""

    path: str
    op: str
    before: float = math.nan
    after: float = math.nan


@dataclass
class Probe:
    """What has been seen, up to the error if there was one."""

    readers: dict[str, set[str]] = field(default_factory=dict)  # the ops that take each input as it is
    outputs: list[Output] = field(default_factory=list)
    layers: list[Layer] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)  # before the steps, after one, after two
    missing: list[str] = field(default_factory=list)  # parameters that the loss does not depend on
    still: list[str] = field(default_factory=list)  # weights whose gradients are 0 in both steps
    outer: bool = False  # did the loss of n rows make an array (n, n)?
    alone: str = ""  # what the net says to a single row
    error: Exception | None = None  # what training would raise, too
    where: str = ""  # in the net, the loss or the step


class Listener(Between):
    """Sees every op, and in which layer."""

    def __init__(self, inputs: dict[str, Tensor] | None = None) -> None:
        super().__init__()
        self.path, self.given = [""], list[Any]()
        self.makers: dict[int, tuple[str, Any, list[Any]]] = {}  # op, result and arguments by the id of the result
        self.inputs = {id(t.data): (name, t.data) for name, t in (inputs or {}).items()}
        self.readers: dict[str, set[str]] = {name: set() for name in inputs or {}}
        self.stuck: list[tuple[str, str, Any, Any]] = []  # layer, op, share, result

    @contextmanager
    def scope(self, owner: Any) -> Iterator[Any]:
        """In a layer."""
        with self.behind.scope(owner) as inside:
            self.path.append(getattr(owner, "path", ""))
            try:
                yield inside
            finally:
                self.path.pop()

    def operands(self, args: tuple[Any, ...], raw: list[Any]) -> list[Any]:
        """Of the op that is about to run, unless it is inside of another."""
        raw = self.behind.operands(args, raw)
        if any(a.__class__ in TENSORS for a in args):
            self.given = [x for x in raw if is_array(x)]
        return raw

    def result(self, op: Any, y: Any) -> None:
        """What came of it."""
        self.behind.result(op, y)
        name, given = op.__name__, self.given
        for x in given:
            if (known := self.inputs.get(id(x))) is not None:
                if name in VIEWS:
                    self.inputs[id(y)] = known[0], y
                else:
                    self.readers[known[0]].add(name)
        if is_array(y):
            self.makers[id(y)] = name, y, given
            if (share := _stuck(name, y)) is not None:
                self.stuck.append((self.path[-1], name, share, y))

    def maker(self, t: Tensor) -> tuple[str, Any]:
        """The op that made a result, but for views, and what it made."""
        name, y, given = self.makers.get(id(t.data), ("", t.data, []))
        while name in VIEWS and given:
            name, y, given = self.makers.get(id(given[0]), ("", y, []))
        return name, y


def _stuck(op: str, y: Any) -> Any:
    """The share of dead units or saturated values, on the device; None for other ops."""
    if op not in ("relu", "sigmoid", "tanh") or len(y.shape) < 2 or 0 in y.shape:
        return None
    xp = namespace(y)
    if op == "relu":
        unit = 1 if len(y.shape) > 3 else len(y.shape) - 1  # channels of images, else the last axis
        flat = xp.all(y <= 0, axis=tuple(i for i in range(len(y.shape)) if i != unit))
    elif op == "sigmoid":
        flat = (y < SATURATED) | (y > 1.0 - SATURATED)
    else:
        flat = xp.abs(y) > 1.0 - 2.0 * SATURATED
    return xp.mean(xp.astype(flat, y.dtype))


def probed(trainer: Any, x: Any, y: Any, weights: tuple[Tensor, ...], inputs: dict[str, Tensor], alone: bool) -> Probe:
    """Two steps on some rows, taken by copies, and a look at one row `alone` if there will be such batches.

    Gradients of the trainer's own net stay, too, if its loss knows it.
    """
    probe = Probe()
    own = [(p, p._gradient) for p in trainer.net.parameters()]
    try:
        twin = object.__new__(type(trainer))
        net, optimizer, objective = copy.deepcopy((trainer.net, trainer.optimizer, trainer.objective))
    except Exception:  # what cannot be copied cannot be tried
        return probe
    try:
        for p, _ in own:
            p._gradient = None
        vars(twin).update(vars(trainer), net=net, optimizer=optimizer, objective=objective, schedule=None)
        twin._gradients = twin.gradients  # not recorded
        for each in (optimizer, getattr(optimizer, "base", optimizer)):
            each._warned = True
        _run(probe, twin, x, y, weights, inputs)
        probe.alone = _refused(twin.net, x) if alone else ""
    except MemoryError:  # there is no room for copies
        return Probe()
    except Exception as error:
        probe.error = error.with_traceback(None)  # its frames hold the probe
    finally:
        vars(twin).clear()  # it holds a method of its own
        for p, g in own:
            p._gradient = g
    return probe


def _refused(net: Any, x: Any) -> str:
    """What a net that has taken several rows says to one of them."""
    try:
        with no_grad():
            called(net, mapped(lambda t: t[(slice(0, 1), ...)], x))
    except Exception as error:
        return str(error)
    return ""


def _run(probe: Probe, twin: Any, x: Any, y: Any, weights: tuple[Tensor, ...], inputs: dict[str, Tensor]) -> None:
    probe.where = "net"
    with no_grad(), (watch := Listener(inputs)):
        output = called(twin.net, x)
    probe.where, probe.readers, ends = "loss", watch.readers, set()
    for key, loss in twin.objective.losses.items():
        part, target = (output, y) if key is None else (output[key], y[key])
        if isinstance(part, Tensor) and isinstance(target, Tensor):
            op, made = watch.maker(part)
            ends.add(id(made))
            values, host = to_host(part.data), to_host(target.data)
            bounds = getattr(target, "bounds", None) or ((int(host.min()), int(host.max())) if host.size else None)
            probe.outputs.append(Output(key, function_of(loss), op, values, host, bounds))
    n = next(leaves(x)).shape[0]
    with no_grad(), (of_loss := Listener()):
        twin.objective(output, y, *weights)
    probe.outer = any(tuple(made.shape[:2]) == (n, n) for _, made, _ in of_loss.makers.values())
    probe.where = "step"
    inner = [i for i, (*_, made) in enumerate(watch.stuck) if id(made) not in ends]
    probe.layers = [Layer(*watch.stuck[i][:2]) for i in inner]
    numbers = {"before": [watch.stuck[i][2] for i in inner]}
    try:
        if not any(o.loss in LOGITS and o.made_by in ("softmax", "sigmoid") for o in probe.outputs):  # it would warn
            later = _steps(probe, twin, (x, y, *weights), numbers)
            numbers["after"] = [later[i][2] for i in inner] if len(later) == len(watch.stuck) else []
    finally:
        _read(probe, numbers)


def _steps(probe: Probe, twin: Any, batch: tuple[Any, ...], numbers: dict[str, list[Any]]) -> list[Any]:
    """Two steps, or one look if the optimizer seeks the length of its steps itself; what is stuck after them."""
    named = [(name, p) for name, p in twin.net.named_parameters() if p.requires_grad]
    searching = not twin.optimizer.recordable
    losses = numbers["losses"] = [(twin.gradients if searching else twin.step)(*batch).data]
    gradients = gradients_of(p for _, p in named)
    probe.missing = [name for (name, _), g in zip(named, gradients, strict=True) if g is None]
    probe.still = [name for (name, p), g in zip(named, gradients, strict=True) if g is not None and len(p.shape) > 1]
    numbers["first"] = _moved(named, probe.still)
    if searching:
        return []
    try:
        losses.append(twin.step(*batch).data)
        numbers["second"] = _moved(named, probe.still)
        with no_grad(), (watch := Listener()):
            losses.append(twin.objective(called(twin.net, batch[0]), *batch[1:]).data)
    except Exception:  # checks of values meet what is not finite any more
        numbers["sound"] = [namespace(p.data).all(namespace(p.data).isfinite(p.data)) for _, p in named]
        return []
    return watch.stuck


def _moved(named: list[tuple[str, Parameter]], names: list[str]) -> list[Any]:
    """Whether the gradients of these are not 0 everywhere, on the device."""
    found = gradients_of(p for name, p in named if name in names)
    return [namespace(g).any(g != 0) for g in found if g is not None]


def _read(probe: Probe, numbers: dict[str, list[Any]]) -> None:
    """All numbers, from the device in one go."""
    arrays = [a for part in numbers.values() for a in part]
    if not arrays:
        return
    xp = namespace(arrays[0])
    values = iter(to_host(xp.stack([xp.astype(a, xp.float32) for a in arrays])).tolist())
    read = {name: [next(values) for _ in part] for name, part in numbers.items()}
    for when in ("before", "after"):
        for layer, share in zip(probe.layers, read.get(when, []), strict=False):
            setattr(layer, when, share)
    probe.losses = read.get("losses", [])
    if not all(read.get("sound", [])):
        probe.losses.append(math.nan)
    moved = zip(probe.still, read.get("first", []), read.get("second", []), strict=False)
    probe.still = [name for name, first, second in moved if not first and not second]
