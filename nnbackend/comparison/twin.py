"""A training step taken apart: what each call of a layer was given, and what it makes of that on any device."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..backend import FLOATING, NUMPY, Device, HostArray, backend_of, is_array, to_host
from ..cells import Scalar
from ..nn import Module
from ..ops.core import joint
from ..random import key_source
from ..tensor import Tensor, lift
from ..train.measure import called
from ..train.objective import Objective
from ..train.updates import optimizer_of
from ..tree import filled, leaves, mapped

Found = dict[tuple[str, str], HostArray]  # by way ("forward", "backward" or "update") and what it is


# -- one call ---------------------------------------------------------------------------------------------------------


@dataclass
class Call:
    """A call in the step on the first device: what went in, and what came out and back."""

    path: str | None  # None for the loss
    number: int
    given: Any  # (args, kw), Tensors without history
    state: tuple[list[HostArray], list[Any]]  # of buffers and counters before
    keeps: bool  # has the layer buffers of its own?
    inner: list[Call] = field(default_factory=list)  # calls of layers inside
    result: Any = None
    slopes: dict[int, Any] = field(default_factory=dict)  # the gradients of outputs, by place
    back: dict[int, Any] = field(default_factory=dict)  # those of inputs
    history: set[int] = field(default_factory=set)  # places of the outputs that want one

    @property
    def works(self) -> bool:
        """Whether it does anything itself, or only hands on what calls inside it make."""
        handed = {id(x.data) for nest in (self.given, *(call.result for call in self.inner)) for x in _tensors(nest)}
        used = {id(x.data) for nest in (self.result, *(call.given for call in self.inner)) for x in _tensors(nest)}
        return not self.inner or self.keeps or not used <= handed

    @property
    def route(self) -> tuple[Any, ...]:
        """Which calls it makes."""
        return (self.path, self.number, *((call.path, call.number) for call in self.inner))

    def arrays(self) -> Iterator[Tensor]:
        """What went in and came out."""
        return _tensors((self.given, self.result))


class _Astray(Exception):
    """A layer calls others than it did on the first device."""


def seen(x: Any, slopes: dict[int, Any], i: int) -> Any:
    """The op between a value and its readers that notes its gradient."""

    def back(dy: Any) -> Any:
        slopes[i] = slopes[i] + dy if i in slopes else backend_of(dy).copy(dy)
        return dy

    return x, (back,)


def standing(*arrays: Any, slopes: list[Any], back: list[Any]) -> Any:
    """The op of a call that is not made: outputs, then inputs. It notes the outputs' `slopes`, inputs get `back`."""
    n = len(arrays) - len(back)

    def fn(dys: Any, needs: tuple[bool, ...]) -> tuple[Any, ...]:
        slopes[:] = [None if dy is None else backend_of(dy).copy(dy) for dy in dys]
        return (*[None] * n, *back)

    return tuple(arrays[:n]), joint(fn)


def meeting(*arrays: Any, slopes: tuple[Any, ...]) -> Any:
    """The op from which the gradients of several results go back together."""
    return arrays[0], joint(lambda dy, needs: slopes)


_see, _stand, _meet = lift(seen), lift(standing), lift(meeting)


def _is_float(x: Any) -> bool:
    return isinstance(x, Tensor) and x.dtype in FLOATING


def _tensors(nest: Any) -> Iterator[Tensor]:
    return (x for x in leaves(nest) if isinstance(x, Tensor))


def _fixed(x: Any) -> Any:
    """The value as it is now."""
    if not isinstance(x, Tensor):
        return Tensor(x) if is_array(x) else x
    return Tensor(x.data).clone() if x.is_cell else x.detach()


# -- one device -------------------------------------------------------------------------------------------------------


class Twin:
    """A copy of the net, its optimizer and its loss on a device. `width` is the dtype of the net."""

    def __init__(self, net: Module, optimizer: Any, objective: Objective, device: Device, width: Any) -> None:
        self.net, optimizer, self.objective = copy.deepcopy((net, optimizer, objective))
        self.device, self.width = device, width
        with device.stream():
            for module in (self.net, *self.objective.losses.values()):
                if isinstance(module, Module):
                    module.to(device=device, dtype=width)
        self.optimizer = optimizer_of(optimizer, self.net) if any(True for _ in net.parameters()) else None
        self.modules: dict[str | None, Module] = dict(self.net.named_modules())
        self.drawn = False  # have random numbers been drawn at no address?

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """On its device; draws at no address find one, the same everywhere. Nothing is said about overflow."""

        def key() -> int:
            self.drawn = True
            return 0

        keys = key_source.set(key)
        try:
            with NUMPY.xp.errstate(all="ignore"), self.device.stream():
                yield
        finally:
            key_source.reset(keys)

    def moved(self, x: Any) -> Any:
        """A value where this net can use it."""
        if not isinstance(x, Tensor):
            return x
        moved: Tensor = x.to(self.device, self.width if _is_float(x) else None).detach()
        return moved

    def state(self, path: str | None) -> tuple[list[Any], list[Scalar]]:
        """Buffers and counters of a layer."""
        if path is None:
            return [], []
        module = self.modules[path]
        numbers = [x for m in module.modules() for x in vars(m).values() if isinstance(x, Scalar)]
        return list(module.buffers()), numbers

    def drew(self, call: Call) -> bool:
        """Whether the call that has just been made drew random numbers."""
        return self.drawn or self.values(call.path)[1] != call.state[1]

    def values(self, path: str | None) -> tuple[list[HostArray], list[Any]]:
        """What these hold now."""
        buffers, numbers = self.state(path)
        return [_host(b.array) for b in buffers], [n.value for n in numbers]

    @contextlib.contextmanager
    def instead(self, work: Callable[[str, Callable[..., Any]], Callable[..., Any]]) -> Iterator[None]:
        """Inside, `work(path, forward)` stands for the forward of each layer."""
        paths = [(path, vars(module)) for path, module in self.modules.items()]
        own = [names.get("forward") for _, names in paths]
        for (path, names), module in zip(paths, self.modules.values(), strict=True):
            names["forward"] = work(str(path), module.forward)
        try:
            yield
        finally:
            for (_, names), forward in zip(paths, own, strict=True):
                names.pop("forward")
                if forward is not None:
                    names["forward"] = forward

    # -- the whole step
    def step(self, x: Any, y: Any) -> tuple[Tensor, list[Call]]:
        """Forward and back as in training: the loss and all calls, each after those inside it."""
        calls: list[Call] = []
        around: list[Call] = []
        counts: dict[str | None, int] = {}

        def watched(path: str | None, work: Callable[..., Any]) -> Callable[..., Any]:
            def forward(*args: Any, **kw: Any) -> Any:
                counts[path] = counts.get(path, 0) + 1
                given = (args, kw)
                keeps = path is not None and any(True for _ in self.modules[path].buffers(recurse=False))
                call = Call(path, counts[path], mapped(_fixed, given), self.values(path), keeps)
                if around:
                    around[-1].inner.append(call)
                around.append(call)
                try:
                    args, kw = _noted(given, call.back)
                    y = mapped(_as_tensor, work(*args, **kw))
                finally:
                    around.pop()
                call.result = mapped(_fixed, y)
                call.history = {i for i, t in enumerate(leaves(y)) if isinstance(t, Tensor) and t.requires_grad}
                calls.append(call)
                return _noted(y, call.slopes)

            return forward

        self.net.zero_grad()
        with self.instead(watched):
            loss = watched(None, self.objective)(called(self.net, x), y)
            if loss.requires_grad:
                loss.backward()
        return loss, calls

    # -- its parts
    def alone(self, call: Call) -> Found:
        """The values that a call makes of its own, by way and what, given those that went in on the first device.

        Layers inside do nothing: what comes out of them, and what they give back, is what it was there.
        """
        found: Found = {}
        self.drawn = False
        module = None if call.path is None else self.modules[call.path]
        buffers, numbers = self.state(call.path)
        for b, value in zip(buffers, call.state[0], strict=True):
            b.assign(self.device.put(value.astype(b.dtype)))
        for n, number in zip(numbers, call.state[1], strict=True):
            n.value = number
        self.net.zero_grad()
        given = mapped(self.moved, call.given)
        inputs = list(leaves(given))
        for i in call.back:
            inputs[i].requires_grad_()
        work: Callable[..., Any] = self.objective if module is None else module.forward
        heard: list[tuple[Call, list[Any]]] = []
        waiting = list(call.inner)

        def stand(path: str, _: Any) -> Callable[..., Any]:
            return lambda *args, **kw: self._stand_in(path, waiting, (args, kw), found, heard)

        try:
            with self.instead(stand):
                y = mapped(_as_tensor, work(*given[0], **given[1]))
        except _Astray:
            return found
        ys = list(leaves(y))
        for i, t in enumerate(ys):
            if isinstance(t, Tensor):
                found["forward", _numbered("output", i, ys)] = _host(t.data)
        if module is not None:
            for name, b in module.named_buffers():
                found["forward", f"buffer {name}"] = _host(b.array)
        back = [
            (ys[i], self._slope(dy))
            for i, dy in call.slopes.items()
            if i < len(ys) and _is_float(ys[i]) and ys[i].requires_grad and ys[i].shape == dy.shape
        ]
        if back:
            one = _meet(*(t for t, _ in back), slopes=tuple(dy for _, dy in back))
            one.backward(one.detach())
        for inner, slopes in heard:
            for i, dy in enumerate(slopes):
                if dy is not None:
                    what = f"gradient of {_numbered(f'output of {inner.path}', i, slopes)}"
                    found["backward", _again(what, inner)] = _host(dy)
        for i, t in enumerate(inputs):
            if isinstance(t, Tensor) and t.grad is not None:
                found["backward", f"gradient of {_numbered('input', i, inputs)}"] = _host(t.grad.data)
        for name, p in () if module is None else module.named_parameters():
            if p.grad is not None:
                found["backward", f"gradient of {name}"] = _host(p.grad.data)
        return found

    def _stand_in(self, path: str, waiting: list[Call], given: Any, found: Any, heard: list[Any]) -> Any:
        """What a call of a layer inside gave on the first device; its inputs are noted."""
        if not waiting or waiting[0].path != path:
            raise _Astray
        call = waiting.pop(0)
        inputs, then = list(leaves(given)), list(leaves(call.given))
        for i, x in enumerate(inputs):
            if isinstance(x, Tensor) and not x.is_cell:
                found["forward", _again(_numbered(f"input of {path}", i, inputs), call)] = _host(x.data)
        if [getattr(x, "shape", None) for x in inputs] != [getattr(x, "shape", None) for x in then]:
            raise _Astray
        ys = [self.moved(t) for t in leaves(call.result)]
        made = sorted(call.history)
        if made:
            back = {i: dx for i, dx in call.back.items() if inputs[i].requires_grad}
            slopes: list[Any] = []
            heard.append((call, slopes))
            ends = [ys[i].requires_grad_() for i in made]
            news = _stand(
                *ends, *(inputs[i] for i in back), slopes=slopes, back=[self._slope(dx) for dx in back.values()]
            )
            for i, t in zip(made, news, strict=True):
                ys[i] = t
        return filled(call.result, iter(ys))

    def gradients(self) -> dict[str, Tensor]:
        """Those of all parameters that have one."""
        return {name: p.grad.clone() for name, p in self.net.named_parameters() if p.grad is not None}

    def line(self, path: str) -> str:
        """The class of a layer, and its settings if it is no layer of layers."""
        module = self.modules[path]
        return type(module).__name__ if any(module.children()) else module._line()

    @property
    def loss_name(self) -> str:
        """The losses by name."""
        fns = self.objective.losses.values()
        return " + ".join(fn._line() if isinstance(fn, Module) else getattr(fn, "__name__", repr(fn)) for fn in fns)

    def _slope(self, dy: Any) -> Any:
        return self.moved(Tensor(dy)).data

    def updated(self, gradients: dict[str, Tensor], loss: float) -> dict[str, HostArray]:
        """The parameters by name, after a step of the optimizer by these gradients."""
        named = dict(self.net.named_parameters())
        for name, p in named.items():
            p.requires_grad_(name in gradients)  # no optimizer needs to warn of the others

        def closure() -> Tensor:
            self.net.zero_grad()
            for name, g in gradients.items():
                named[name].grad = self.moved(g)
            return Tensor(self.device.put(NUMPY.xp.asarray(loss, dtype=self.width)))

        if self.optimizer is not None and gradients:
            self.optimizer.step(closure)
        return {name: _host(p.array) for name, p in named.items()}


def _as_tensor(x: Any) -> Any:
    return Tensor(x) if is_array(x) and not isinstance(x, Tensor) else x


def _noted(nest: Any, slopes: dict[int, Any]) -> Any:
    """The same values; their gradients will be noted, by place."""
    parts = [_see(x, slopes=slopes, i=i) if _is_float(x) and x.requires_grad else x for i, x in enumerate(leaves(nest))]
    return filled(nest, iter(parts))


def _host(x: Any) -> HostArray:
    host: HostArray = NUMPY.copy(to_host(x))
    return host


def _numbered(what: str, i: int, among: Sequence[Any]) -> str:
    return f"{what} {i}" if sum(map(is_array, among)) > 1 else what


def _again(what: str, call: Call) -> str:
    return f"{what}, call {call.number}" if call.number > 1 else what
