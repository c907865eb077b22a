"""The trace: writes down, in order, what a step does to its arrays and to the cells. It is a recording's recorder."""

from __future__ import annotations

import contextlib
import math
import sys
import weakref
import zlib
from collections.abc import Callable, Iterable, Iterator
from operator import index
from typing import Any

from ..backend import NUMPY, Array, Backend, backend_of, is_array
from ..cells import Cell, Parameter, Scalar, gradient_home
from ..recorder import writer
from ..tape import TENSORS, clock
from ..tensor import Tensor
from ..tree import mapped
from .graph import HOLE, Node, ancestors, plain_key
from .handles import handles_of
from .number import Number
from .traced import How, Traced, concrete

OURS = frozenset({"nnbackend", "numpy", "array_api_strict", "array_api_compat", "cupy", "contextlib"})  # not the user's
NUMERIC = frozenset({
    "add", "subtract", "multiply", "divide", "floor_divide", "remainder", "pow", "less", "less_equal", "greater",
    "greater_equal", "equal", "not_equal", "bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_left_shift",
    "bitwise_right_shift", "maximum", "minimum", "where", "clip", "atan2", "hypot", "logaddexp", "copysign",
    "nextafter", "full", "words_like", "uniform_like", "integers_like", "attention", "attention_back",
})  # fmt: skip
OUTSIDE = "a change in place of an array that outlives the step (use a buffer of a module)"
SHARED = "a write to one of several arrays that share memory"


class Trace:
    """One recording. `broken` says why it cannot be replayed, if it cannot; the step goes on all the same."""

    def __init__(self, backend: Backend | None) -> None:
        self.decided, self.backend = backend is not None, backend or NUMPY
        self.kind, self.namespace = handles_of(self.backend)
        self.began, self.path, self.before = clock(), "", ""
        self.nodes: list[Node] = []
        self.open = True
        self.broken: str | None = None
        self.settled = True  # False if the homes of cells changed meanwhile: record again
        self.contents: dict[int, tuple[Any, Any, Any]] = {}  # by id: the cell, what stands for it, its array
        self.gradients: dict[Parameter, list[Any]] = {}  # parameter: [what stands for its gradient, leaf on entry]
        self.marks: dict[Any, int] = {}  # when each cell was last written, before
        self.captured: dict[int, tuple[Any, Traced]] = {}  # by id: arrays of the outside, or the Tensors that hold them
        self.modes: dict[int, tuple[Any, bool]] = {}  # by id: modules that were asked for their mode, and their flags
        self.pins: dict[tuple[Node, str], Any] = {}
        self.changed: list[Any] = []  # Tensors of the outside that got new contents
        self.fixed: dict[int, tuple[Traced, str]] = {}  # by id: handles not to be written to, and why
        self.handles: list[weakref.ref[Any]] = []  # also of numbers: to see which outlive the step
        self.numbers: dict[Node, Any] = {}  # what arguments are numbers
        self.given: set[int] = set()  # ids of the Tensors that stand for arguments
        self.checksums: list[tuple[Array, int]] = []  # of arrays from outside
        self.owners: dict[int, Any] = {}  # modules and optimizers that have been at work

    def breaks(self, why: str, place: tuple[int, str] | None = None) -> None:
        """It cannot be replayed. The first reason counts, with the user's line."""
        if self.broken is not None or not self.open:
            return
        if place is not None:
            self.broken = f"{why} (line {place[0]} of {place[1]})"
        else:
            frame: Any = sys._getframe(1)
            asked = ""
            while frame.f_back and ours(frame):
                asked, frame = frame.f_code.co_name.strip("_"), frame.f_back
            why = why.replace("{}", asked)
            self.broken = f"{why} (line {frame.f_lineno} of {frame.f_code.co_filename})"

    # -- writing down
    def emit(
        self,
        op: str,
        inputs: Iterable[Node],
        args: tuple[Any, ...],
        kw: dict[str, Any],
        value: Any,
        host: bool = False,
        label: Any = None,
        held: Any = None,
    ) -> Node:
        """A new node for a value that has been computed; a leaf holds something."""
        shape, dtype = tuple(getattr(value, "shape", ())), getattr(value, "dtype", None)
        node = Node(op, inputs, args, kw, shape, dtype, host, self.path, held, label)
        self.nodes.append(node)
        return node

    def call(self, op: str, fn: Callable[..., Any], args: tuple[Any, ...], kw: dict[str, Any]) -> Any:
        """Run `fn` on the real arrays and write it down as `op`."""
        if not self.open:
            later = self._later()
            return fn(*concrete(args), **concrete(kw)) if later is None else later.call(op, fn, args, kw)
        inputs: list[Node] = []
        template = tuple([self._operand_of(op, a, inputs) for a in args])
        named = self._template(kw, inputs)
        value = fn(*concrete(args), **concrete(kw))
        node = self.emit(op, inputs, template, named, value)
        if not isinstance(value, tuple | list):
            return self._apart(self.kind(self, value, node), args)
        node.shape = (len(value),)
        made = [self.kind(self, v, self.emit("part", (node,), (HOLE, i), {}, v)) for i, v in enumerate(value)]
        parts: list[Any] = [None if part.value is None else self._apart(part, args) for part in made]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)

    def _later(self) -> Trace | None:
        """The recording of the same library that is on now, if a handle has outlived its own."""
        now = writer()
        return now if isinstance(now, Trace) and now.kind is self.kind else None

    def _apart(self, y: Traced, args: tuple[Any, ...]) -> Traced:
        """If the result shares memory with an argument in a way that is not followed, neither may be written to."""
        if args and type(args[0]) is self.kind and args[0].value is y.value:
            return y  # `x += y`, which is followed
        for x in args:
            if type(x) is self.kind and x.value is not y.value and self.backend.shares(y.value, x.value):
                self.fixed[id(y)] = y, SHARED
                self.fixed.setdefault(id(x.root), (x.root, SHARED))
        return y

    def written(self, x: Traced) -> None:
        """A handle has been written to."""
        if x.base is None and id(x) in self.fixed:
            self.breaks(self.fixed[id(x)][1])

    def known(self, x: Any) -> Any:
        """The same with plain numbers, which the program then depends on."""
        if type(x) is Number:
            return x.known() if x.trace is self else x.value
        return mapped(self.known, x) if isinstance(x, tuple | list | dict) else x

    def _operand_of(self, op: str, x: Any, inputs: list[Node]) -> Any:
        """A recorded number as an operand may change from step to step; as a setting it may not."""
        if type(x) is Number and x.trace is self and op in NUMERIC:
            inputs.append(x.node)
            return HOLE
        return self._template(x, inputs)

    def _template(self, x: Any, inputs: list[Node]) -> Any:
        """Arguments with a HOLE for each array, whose nodes go to `inputs`."""
        if type(x) is self.kind:
            inputs.append((x if x.trace is self else self.handle(x.value)).node)
            return HOLE
        if type(x) is Number:
            return self.known(x)
        if isinstance(x, tuple):
            return tuple([self._template(part, inputs) for part in x])
        if isinstance(x, list):
            return [self._template(part, inputs) for part in x]
        if isinstance(x, dict):
            return {name: self._template(part, inputs) for name, part in x.items()}
        if isinstance(x, slice):
            return slice(*[p if p is None else index(p) for p in (x.start, x.stop, x.step)])
        if is_array(x):
            inputs.append(self.handle(x).node)
            return HOLE
        return x

    def handle(self, array: Array, owner: Any = None) -> Any:
        """What stands for an array from outside; `owner` is the Tensor that holds it."""
        key = id(array if owner is None else owner)
        if key not in self.captured:
            node = self.emit("const", (), (), {}, array, held=array)
            handle = self.from_outside(array, node, OUTSIDE)
            self.captured[key] = (array if owner is None else owner, handle)
        return self.captured[key][1]

    def from_outside(self, array: Array, node: Node, why: str) -> Traced:
        """A handle that a step may only read."""
        handle = self.kind(self, array, node)
        self.fixed[id(handle)] = handle, why
        if self.backend is NUMPY:
            self.checksums.append((array, checksum(array)))
        return handle

    # -- arrays
    def getitem(self, x: Traced, key: Any) -> Any:
        """`x[key]`: a view for plain keys."""
        if not self.open:
            later = self._later()
            return x.value[concrete(key)] if later is None else later.getitem(later.handle(x.value), key)
        if self._masked(key):
            self.breaks("a mask as index, whose result has a shape that depends on values,")
        inputs = [x.node]
        template = self._key(key, inputs)
        value = x.value[concrete(key)]
        if len(inputs) == 1 and plain_key(template):
            return x.view("getitem", (HOLE, template), {}, value)
        return self._apart(self.kind(self, value, self.emit("getitem", inputs, (HOLE, template), {}, value)), (x,))

    def _key(self, key: Any, inputs: list[Node]) -> Any:
        """An index may be a number that changes from step to step."""
        if isinstance(key, tuple):
            return tuple([self._operand_of("full", part, inputs) for part in key])
        return self._operand_of("full", key, inputs)

    def setitem(self, x: Traced, key: Any, value: Any) -> None:
        """`x[key] = value`: a new version of `x`."""
        if self.open:
            if self._masked(key) and hasattr(value, "shape") and value.shape:
                self.breaks("a mask as index, whose result has a shape that depends on values,")
            inputs: list[Node] = [x.node]
            filled = self._operand_of("full", value, inputs)
            how: How = ("getitem", (HOLE, self._key(key, inputs)), {})
        self.backend.assign(x.value, concrete(key), concrete(value))
        if self.open:
            x.becomes(self.emit("set", inputs, (HOLE, filled, how), {}, x.value))

    def _masked(self, key: Any) -> bool:
        parts: tuple[Any, ...] = key if isinstance(key, tuple) else (key,)
        return any(is_array(p) and p.shape and self.backend.xp.isdtype(p.dtype, "bool") for p in parts)

    # -- what ops and cells ask (see `Recorder`)
    def operands(self, args: tuple[Any, ...], raw: list[Any]) -> list[Any]:
        """Handles for the arrays among them; NumPy's scalars stay the numbers they are."""
        return [self._operand(args[i] if args else None, value) for i, value in enumerate(raw)]

    def _operand(self, owner: Any, value: Any) -> Any:
        if type(value) is self.kind:
            return value if value.trace is self else self.handle(value.value)
        if isinstance(value, tuple | list):
            return self.known(value)
        if not is_array(value) or not hasattr(type(value), "__setitem__"):
            return value
        return value if self._foreign(value) else self.handle(value, owner if type(owner) in TENSORS else None)

    def _foreign(self, array: Array) -> bool:
        """Whether it is of another library than the arguments, or without those the first array that is read."""
        if not self.decided:
            self.decided, self.backend = True, backend_of(array)
            self.kind, self.namespace = handles_of(self.backend)
        if backend_of(array) is self.backend:
            return False
        self.breaks("an array of another library or device")
        return True

    def result(self, op: Callable[..., Any], y: Any) -> None:
        """Values are called after the op that made them."""
        if type(y) is self.kind and y.node.label is None:
            y.node.label = op.__name__

    def going_back(self, t: Any) -> None:
        """What happens now belongs to the layer that made `t`."""
        if t is None:
            self.path = self.before
        elif t.node[0] < self.began:
            self.breaks("a backward pass through what was computed before the step")
        elif type(t.data) is self.kind:
            self.path = t.data.node.scope

    def gradient(self, t: Any, dx: Any) -> None:
        """Gradients are called after what they are the gradient of. Those of parameters only may stay in `.grad`."""
        made_here = type(t.data) is self.kind and id(t) not in self.given and not t.is_cell
        if t.node is None and not made_here and not isinstance(t, Parameter):
            self.breaks("a gradient left in .grad of a tensor that is no parameter (return it instead, see nb.grad)")
        if type(dx) is self.kind and type(t.data) is self.kind and dx.node.label is None:
            dx.node.label = ("d", t.data.node)

    def made(self, array: Array) -> Any:
        """What stands for an array that the step has just made from nothing."""
        if self._foreign(array):
            return array
        node = self.emit("const", (), (), {}, array, held=self.backend.copy(array))
        return self.kind(self, array, node)

    def replaced(self, t: Any) -> None:
        """The Tensor `t` gets new contents; one from outside cannot be recorded."""
        if id(t) in self.given:
            self.breaks("a change in place of an argument (return it instead)")
        elif type(t.data) is not self.kind:
            self.changed.append(t)
            self.breaks("a change of a tensor that outlives the step (use a buffer of a module)")

    def check(self, test: Callable[..., None], x: Any, *settings: Any) -> None:
        """A node without a value, which the program runs first."""
        data = self._operand(x, x.data if isinstance(x, Tensor) else x)
        seen = Tensor(concrete(data))
        if hasattr(x, "bounds"):
            seen.bounds = x.bounds
        test(seen, *settings)
        if type(data) is self.kind:
            self.emit("check", (data.node,), (HOLE, *settings), {}, None, held=test)

    @contextlib.contextmanager
    def scope(self, owner: Any) -> Iterator[None]:
        """A layer at work, or an optimizer."""
        self.owners[id(owner)], outer = owner, (self.path, self.before)
        self.path = self.before = getattr(owner, "path", type(owner).__name__)
        try:
            yield
        finally:
            self.path, self.before = outer

    def called(self, *told: Any) -> None:
        """Nothing to write down."""

    def watch(self, module: Any) -> None:
        """The program depends on the mode of this module."""
        self.modes[id(module)] = (module, module._training)

    def pin(self, node: Node, how: str, value: Any) -> None:
        """The program holds only while this number has this value (or, for "bool", is as true as now)."""
        if node.op in ("scalar", "input"):
            self.pins[node, "bool" if how == "bool" else "value"] = value
            return
        comes_from = ancestors(node)
        if any(n.op == "scalar" for n in comes_from):
            self.breaks("the value of a number that is computed in the step")
        for n in comes_from:
            if n.op == "input":
                self.pins[n, "value"] = self.numbers[n]

    # -- cells
    def read(self, cell: Any) -> Any:
        """A handle on the contents; parameters laid out in a flat buffer are views of its handle."""
        known = self.contents.get(id(cell))
        array: Any = None if type(cell) is Scalar else cell.array
        if known is not None and known[2] is array:
            return known[1]
        if known is not None:
            self.settled = False  # it has moved since
        if self.broken is not None and array is None:
            return cell._value
        if array is not None and self._foreign(array):
            return array
        self.marks.setdefault(cell, 0 if array is None else cell.written)
        if type(cell) is Scalar:
            value = cell._value
            stands: Any = Number(
                self, value, self.emit("scalar", (), (), {}, value, host=True, label=cell.name, held=cell)
            )
        elif cell.home is None:
            stands = self.kind(self, array, self._leaf(cell))
        else:
            flat = self.read(cell.home)
            key, n = slice(cell.offset, cell.offset + math.prod(array.shape)), cell.home.array
            part = flat.view("getitem", (HOLE, key), {}, n[key])
            stands = part.view("reshape", (HOLE, tuple(array.shape)), {}, array)
            stands.latest.label = cell.name
        self.contents[id(cell)] = (cell, stands, array)
        return stands

    def _leaf(self, cell: Cell) -> Node:
        return self.emit("state", (), (), {}, cell.array, label=cell.name or "state", held=cell)

    def write(self, cell: Scalar, value: Any) -> None:
        """A new number."""
        self.read(cell)
        cell._value = concrete(value)
        if type(value) is not Number:
            node = self.emit("number", (), (value,), {}, value, host=True)
            value = Number(self, value, node)
        self.contents[id(cell)] = (cell, value, None)

    def read_grad(self, parameter: Parameter) -> Any:
        """A gradient from before the step is brought into its home and is a state like any other."""
        entry = self.gradients.get(parameter)
        if entry is None:
            entry = self.gradients[parameter] = [None, None]
            g = parameter._gradient
            if g is not None:
                raw = g.data if type(g) in TENSORS else g
                home = gradient_home(parameter, raw)
                if home.array is None:
                    home.array = backend_of(raw).copy(raw)
                elif raw is not home.array:
                    home.array[...] = raw
                if type(g) not in TENSORS:
                    parameter._gradient = home.array
                stands = self.read(home)
                if type(g) in TENSORS:  # somebody holds it: it is what may be written to
                    stands = Tensor(self.kind(self, raw, stands.node))
                entry[:] = [stands, home]
        return entry[0]

    def write_grad(self, parameter: Parameter, value: Any) -> None:
        """The gradient is this from now on."""
        entry = self.gradients.setdefault(parameter, [None, False])
        entry[0] = value
        real = value.data if type(value) in TENSORS else value
        if type(value) in TENSORS and value.requires_grad:
            self.breaks("a gradient with history left in .grad (use nb.grad, or .detach() it)")
        real = concrete(real)
        parameter._gradient = Tensor(real) if type(value) in TENSORS else real


def ours(frame: Any) -> bool:
    """Whether a line of code is not the user's."""
    name = str(frame.f_globals.get("__name__"))
    return name.partition(".")[0] in OURS or frame.f_code.co_filename.startswith("<frozen")


def checksum(array: Array) -> int:
    """Of the values of an array of NumPy's."""
    return zlib.crc32(array if array.flags.c_contiguous else array.tobytes())
