"""Recording: one true run of a step that leaves a program behind."""

from __future__ import annotations

import gc
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .. import tape
from ..backend import BACKENDS, NUMPY, Backend, backend_of, is_array
from ..cells import Cell, Scalar, gradient_home, structure
from ..errors import GraphError
from ..recorder import recorder
from ..tensor import Tensor
from ..tree import leaves, mapped
from .graph import Gradient, Node, Program
from .number import Number
from .text import Readable
from .trace import OUTSIDE, SHARED, Trace, checksum
from .traced import Traced, concrete, freed

ARGUMENT = "a change in place of an argument (return it instead)"
GRADIENT = "a gradient left in .grad of an argument (return it instead, see nb.grad)"


class Recording:
    """What one run of `step(*args, **kw)` gave: its `result`, and the `program` unless it is `broken`.

    `settled` is False if the step changed the structure of what it works on, as the first one does.
    """

    def __init__(self, step: Callable[..., Any], args: tuple[Any, ...], kw: dict[str, Any], name: str = "step") -> None:
        self.changes, self.step = structure.changes_here, step
        self.trace = trace = Trace(_library(args, kw))
        inputs: list[Node] = []
        self.handles: list[Traced] = []
        self.given: list[tuple[Tensor, Tensor]] = []  # Tensors that were handed in, and what stood for them
        self.nests: list[tuple[Any, Any, Any]] = []  # lists and dicts that were handed in, the same for a twin of each
        token = recorder.set(trace)
        try:
            args, kw = self._arguments(args, kw, inputs)
            result = step(*args, **kw)
            recorder.reset(token)
            self._restore()
            self.form = mapped(_form, result)
            outputs = [self._output(x) for x in leaves(result)]
            self.program = self._program(name, inputs, [n for n in outputs if n is not None])
            self.result = mapped(self._real, result)
            self.settled = trace.settled and structure.changes_here == self.changes
            del args, kw, result
            self._release(finished=True)
            if not self.broken:
                mapped(_over, self.result)
        except BaseException:
            if recorder.get() is trace:
                recorder.reset(token)
                self._restore()
            self._release(finished=False)
            raise

    @property
    def broken(self) -> str | None:
        """Why it cannot be replayed."""
        return self.trace.broken

    def _breaks(self, why: str) -> None:
        """The step as a whole is to blame."""
        code = getattr(inspect.unwrap(self.step), "__code__", None)
        self.trace.open = True
        self.trace.breaks(why, code and (code.co_firstlineno, code.co_filename))
        self.trace.open = False

    def _arguments(self, args: Any, kw: Any, inputs: list[Node]) -> Any:
        """What stands for all arguments; each input is called after its own."""
        given = [*zip(_names(self.step, len(args)), args, strict=True), *kw.items()]
        bound = []
        for name, x in given:
            start = len(inputs)
            bound.append(self._bound(x, inputs))
            for i, node in enumerate(inputs[start:], start=1):
                node.label = name if len(inputs) == start + 1 else f"{name}_{i}"
        return bound[: len(args)], dict(zip(kw, bound[len(args) :], strict=True))

    def _bound(self, x: Any, inputs: list[Node]) -> Any:
        """What stands for arguments, in lists and dicts of their own."""
        if isinstance(x, tuple):
            parts = [self._bound(part, inputs) for part in x]
            return type(x)(*parts) if hasattr(x, "_fields") else tuple(parts)
        if not isinstance(x, list | dict):
            return self._input(x, inputs)
        if isinstance(x, list):
            twin: Any = [self._bound(part, inputs) for part in x]
        else:
            twin = {name: self._bound(part, inputs) for name, part in x.items()}
        if all(a is b for a, b in zip(_parts(x), _parts(twin), strict=True)):
            return x  # nothing to stand for
        self.nests.append((x, twin, twin.copy()))
        return twin

    def _input(self, x: Any, inputs: list[Node]) -> Any:
        """What stands for an argument; anything but arrays and numbers is itself."""
        trace, position = self.trace, len(inputs)
        if type(x) in (int, float):
            inputs.append(trace.emit("input", (), (), {}, x, host=True, held=position))
            trace.numbers[inputs[-1]] = x
            return Number(trace, x, inputs[-1])
        raw = x.data if isinstance(x, Tensor) else x
        if isinstance(x, Cell) or not is_array(raw):
            return x
        if not hasattr(type(raw), "__setitem__"):  # a scalar of NumPy's
            if not isinstance(x, Tensor):
                return self._input(raw.item(), inputs)
            raw = trace.backend.xp.asarray(raw)
        if not _known(raw) or backend_of(raw) is not trace.backend:
            trace.breaks("an argument of another array library than the first")
            return x
        inputs.append(trace.emit("input", (), (), {}, raw, held=position))
        handle = trace.from_outside(raw, inputs[-1], ARGUMENT)
        self.handles.append(handle)
        if not isinstance(x, Tensor):
            return handle
        t = Tensor(handle, x.requires_grad, x.node)
        t._grad, t.written = x._grad, x.written
        if hasattr(x, "bounds"):
            t.bounds = x.bounds
        self.given.append((x, t))
        trace.given.add(id(t))
        return t

    def _restore(self) -> None:
        """Whoever was handed in, or changed in place, is left as eager execution would leave it."""
        trace = self.trace
        for x, t in self.given:
            if t._grad is not x._grad:
                self._breaks(GRADIENT)
                x._grad = _plain(t._grad)
            if x.node is not None:
                x.node = t.node
            if not isinstance(t.data, Traced) or t.data.value is not x.data:
                self._breaks(ARGUMENT)
                x.data, x.node, x.requires_grad, x.written = concrete(t.data), t.node, t.requires_grad, t.written
                if not hasattr(t, "bounds") and hasattr(x, "bounds"):
                    del x.bounds
        for nest, twin, before in self.nests:
            if len(twin) != len(before) or any(a is not b for a, b in zip(_parts(twin), _parts(before), strict=True)):
                self._breaks("a list or dict that is an argument and gets new contents")
                back = {id(p): q for p, q in zip(_parts(before), _parts(nest), strict=True)}
                nest.clear()
                if isinstance(nest, list):
                    nest.extend(back.get(id(p), concrete(p)) for p in twin)
                else:
                    nest.update({name: back.get(id(p), concrete(p)) for name, p in twin.items()})
        for t in trace.changed:
            t.data = concrete(t.data)
        if any(checksum(array) != before for array, before in trace.checksums):
            self._breaks(OUTSIDE)
        fixed = [handle.value for handle, why in trace.fixed.values() if why != SHARED]
        for cell, stands, array in trace.contents.values():
            changed = array is not None and stands.node.op != "state" and cell.home is None
            if changed and any(trace.backend.shares(x, array) for x in fixed):
                self._breaks(f"an array that shares memory with {cell.name or 'a buffer'}, which the step changes")
        trace.open = False

    def _release(self, finished: bool) -> None:
        """What has outlived the step holds plain arrays from now on, and nothing that remembers the recording."""
        trace = self.trace
        trace.fixed.clear()
        trace.changed.clear()
        for table in (self.handles, self.given, self.nests):
            table.clear()
        trace.captured = {k: (x, trace.kind(trace, h.value, h.latest)) for k, (x, h) in trace.captured.items()}
        trace.contents, trace.gradients, held = {}, {}, {id(h) for _, h in trace.captured.values()}
        alive = [h for ref in trace.handles if (h := ref()) is not None and id(h) not in held]
        if alive and finished and not trace.broken:
            del alive[:]
            gc.collect()  # a cycle is no reason
            alive = [h for ref in trace.handles if (h := ref()) is not None and id(h) not in held]
            if alive:
                self._breaks("a tensor that is made in the step and outlives it without being returned")
        if alive:
            freed(alive)
        trace.handles.clear()

    def _output(self, x: Any) -> Node | None:
        """The node of a result. A Tensor whose graph is alive cannot be replayed."""
        if isinstance(x, Tensor):
            if not isinstance(x.data, Traced):
                return None  # one from outside, the same every time
            if _alive(x):
                self._breaks("a result with history (call backward inside, or return .detach() of it)")
            x = x.data
        if isinstance(x, Number):
            return x.node
        if isinstance(x, Traced):
            return x.node if x.trace is self.trace else None
        if is_array(x):
            self._breaks("a result that is no result of the step, but an array from outside")
        return None

    def _real(self, x: Any) -> Any:
        """A result without handles."""
        if isinstance(x, Tensor) and isinstance(x.data, Traced):
            original = next((given for given, t in self.given if t is x), None)
            if original is not None:
                return original
            x.data = x.data.value
            if x.node is not None and not _alive(x):
                x.node = tape.FREED  # as good as that, and holds nothing
        return concrete(x)

    def _program(self, name: str, inputs: list[Node], outputs: list[Node]) -> Program:
        trace = self.trace
        program = Readable(name, trace.backend)
        trace.open = True  # views of what has changed are derived once more
        for cell, stands, _ in list(trace.contents.values()):
            if type(cell) is Scalar:
                if stands.node.value is not cell:
                    program.numbers.append((cell, stands.node))
            elif cell.home is None and stands.node.op != "state":
                program.updates.append((cell, stands.node))
        for p, (value, entered) in trace.gradients.items():
            enters = None if entered is False else entered is not None
            if value is None:
                program.gradients.append(Gradient(p, enters, entered if enters else None, False))
                continue
            handle = value.data if isinstance(value, Tensor) else value
            if not isinstance(handle, Traced):
                self._breaks("a gradient that is an array from outside")
                continue
            home = gradient_home(p, handle.value)
            program.gradients.append(Gradient(p, enters, home, True))
            known = trace.contents.get(id(home))
            if known is None or known[1] is not handle:
                program.updates = [(cell, n) for cell, n in program.updates if cell is not home]
                program.updates.append((home, handle.node))
        changed = {id(cell) for cell, _ in program.updates}  # by this step; other threads may be at work on others
        program.written = [
            c
            for c, before in trace.marks.items()
            if type(c) is not Scalar and c.written != before and id(c if c.home is None else c.home) in changed
        ]
        program.nodes, program.inputs, program.outputs = trace.nodes, inputs, outputs
        trace.open = False
        return program


def _over(x: Any) -> None:
    """The history of a result is over, as that of a replay."""
    if isinstance(x, Tensor) and x.node is tape.FREED:
        x.requires_grad = False


def _parts(nest: Any) -> Iterable[Any]:
    return nest.values() if isinstance(nest, dict) else nest


def _plain(g: Any) -> Any:
    """A gradient without handles."""
    return Tensor(concrete(g.data)) if isinstance(g, Tensor) and isinstance(g.data, Traced) else concrete(g)


def _names(step: Callable[..., Any], n: int) -> list[str]:
    """What the step calls its positional arguments."""
    try:
        parameters = inspect.signature(getattr(step, "forward", step)).parameters.values()  # a module's, or its own
    except (TypeError, ValueError):
        parameters = ()  # type: ignore[assignment]
    known = [p.name for p in parameters if p.kind is not p.VAR_POSITIONAL][:n]
    return known + [f"x{i + 1}" for i in range(len(known), n)]


def _library(args: Any, kw: Any) -> Backend | None:
    """The library of the first array among the arguments, if there is one."""
    for x in leaves((args, kw)):
        if is_array(x) and _known(x):
            return backend_of(x.data if isinstance(x, Tensor) else x)
    return None


def _known(x: Any) -> bool:
    """Whether it is an array of a library, and not of a class of somebody else's that has NumPy's for its base."""
    return type(x) in BACKENDS or not isinstance(x, NUMPY.xp.ndarray)


def _alive(t: Tensor) -> bool:
    """Whether somebody could still call backward on it."""
    if not t.requires_grad or t.node is None:
        return False
    try:
        return bool(tape.leaves(t, ()))
    except GraphError:
        return False


def built(form: Any, outputs: Sequence[Any]) -> Any:
    """A result of this form from the outputs of a program."""
    values = iter(outputs)

    def leaf(kind: Any) -> Any:
        if isinstance(kind, Fixed):
            return kind.value
        return Tensor(next(values)) if kind == TENSOR else next(values)

    return mapped(leaf, form)


def _form(x: Any) -> Any:
    """How a result is made of an output: `Tensor`, `array` or `number`; anything else is itself, every time."""
    if isinstance(x, Tensor):
        return TENSOR if isinstance(x.data, Traced) else Fixed(x)
    return ARRAY if isinstance(x, Traced) else NUMBER if isinstance(x, Number) else Fixed(x)


class Fixed:
    """A result that does not come from arrays."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fixed) and (self.value is other.value or self.value == other.value)

    __hash__ = None  # type: ignore[assignment]


TENSOR, ARRAY, NUMBER = "Tensor", "array", "number"
