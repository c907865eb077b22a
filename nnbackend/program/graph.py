"""A program: what one run of a step did to its arrays, as a flat list of operations.

Every operation is pure: it makes a new value from others. A write, `x[key] = v` or `x += v`, makes a new version of
`x`: the node `set` is its first input with the second put in at a view. What outlives a step, parameters and buffers
and counters, comes in through leaves and leaves through `updates`; nothing else changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple


class _Hole:
    """Where an input stands among the arguments of a node."""

    def __repr__(self) -> str:
        return "_"


HOLE: Any = _Hole()
LEAVES = frozenset({"input", "state", "scalar", "const"})
VIEWS = frozenset({
    "getitem", "reshape", "permute_dims", "matrix_transpose", "broadcast_to", "expand_dims", "squeeze", "flip",
    "moveaxis",
})  # fmt: skip


def function(library: Any, op: str) -> Any:
    """The library's function of that name, such as `exp` or `linalg.solve`; None if it has none."""
    for name in op.split("."):
        library = getattr(library, name, None)
    return library


class Node:
    """One value: the function `op` of the standard (or `getitem`, `set`, a primitive) applied to `inputs`.

    `args` and `kw` are its arguments, with HOLE where an input stands, in order. Leaves have a `value` instead: an
    `input` its position, a `state` its cell, a `scalar` its Scalar, a `const` the array. A `check` raises if its
    input has bad values. `host` nodes are Python numbers. `scope` is the path of the layer at work; `label` says what
    the value is: the name of the cell or of the op, or ("d", node) for the gradient of a node.
    """

    __slots__ = ("args", "dtype", "host", "inputs", "kw", "label", "op", "scope", "shape", "value")

    def __init__(
        self,
        op: str,
        inputs: Iterable[Node] = (),
        args: tuple[Any, ...] = (),
        kw: dict[str, Any] | None = None,
        shape: tuple[int, ...] = (),
        dtype: Any = None,
        host: bool = False,
        scope: str = "",
        value: Any = None,
        label: Any = None,
    ) -> None:
        self.op, self.inputs, self.args, self.kw = op, tuple(inputs), args, kw or {}
        self.shape, self.dtype, self.host, self.scope, self.value, self.label = shape, dtype, host, scope, value, label

    def replaced(self, op: str, inputs: Iterable[Node], args: tuple[Any, ...], **kw: Any) -> Node:
        """Another operation that gives the same value."""
        return Node(op, inputs, args, kw, self.shape, self.dtype, self.host, self.scope, None, self.label)

    def operands(self) -> list[Any]:
        """The positional arguments, inputs and literals alike."""
        inputs = iter(self.inputs)
        return [next(inputs) if a is HOLE else a for a in self.args]

    def __repr__(self) -> str:
        return f"<{self.op} {self.shape} {self.dtype}>"


def plain_key(key: Any) -> bool:
    """Whether an index is made of slices, numbers, `...` and new axes only: the result is then a view."""
    return all(
        part is None or part is ... or (isinstance(part, slice | int) and not isinstance(part, bool))
        for part in (key if isinstance(key, tuple) else (key,))
    )


def is_view(n: Node) -> bool:
    """Whether a value is a part of its input, or its input in another shape: it needs no memory of its own."""
    return n.op in VIEWS and len(n.inputs) == 1 and (n.op != "getitem" or plain_key(n.args[1]))


def fill(template: Any, inputs: Iterator[Any]) -> Any:
    """A template of arguments with the inputs in their places."""
    if template is HOLE:
        return next(inputs)
    if isinstance(template, tuple):
        return tuple([fill(part, inputs) for part in template])
    if isinstance(template, list):
        return [fill(part, inputs) for part in template]
    return template


def called(node: Node, inputs: Iterable[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a node for these inputs."""
    values = iter(inputs)
    if node.op == "set":  # the HOLE in its view stands for the array that is written to
        base, value, (op, how, kw) = node.args
        return (fill(base, values), fill(value, values), (op, (HOLE, *fill(how[1:], values)), kw)), {}
    args = fill(node.args, values)
    return args, {name: fill(value, values) for name, value in node.kw.items()}


class Gradient(NamedTuple):
    """A parameter whose gradient a program touches: had it one on entry, and where it has one on leaving."""

    parameter: Any
    enters: bool | None  # None: it does not matter
    home: Any  # the cell where it is; None if it never has one
    leaves: bool


class Program:
    """One recorded run of a step: print it, replay it, or write it out as plain NumPy.

    `nodes` are in order; `inputs` are leaves by position, `outputs` what the step returned, `updates` the new contents
    of cells, `numbers` those of scalars.
    """

    def __init__(self, name: str, library: Any) -> None:
        self.name, self.library = name, library  # library: the backend whose arrays were recorded
        self.nodes: list[Node] = []
        self.inputs: list[Node] = []
        self.outputs: list[Node] = []
        self.updates: list[tuple[Any, Node]] = []
        self.numbers: list[tuple[Any, Node]] = []
        self.gradients: list[Gradient] = []
        self.written: list[Any] = []  # parameters that an optimizer has changed

    def copy(self) -> Program:
        """The same program with nodes of its own, for passes that change them."""
        twin = Program(self.name, self.library)
        new: dict[Node, Node] = {}
        for n in self.nodes:
            inputs = [new[i] for i in n.inputs]
            new[n] = Node(n.op, inputs, n.args, n.kw, n.shape, n.dtype, n.host, n.scope, n.value, n.label)
        for n in self.nodes:
            if isinstance(n.label, tuple) and n.label[1] in new:
                new[n].label = (n.label[0], new[n.label[1]])
        twin.nodes = list(new.values())
        twin.inputs, twin.outputs = [new[n] for n in self.inputs], [new[n] for n in self.outputs]
        twin.updates = [(cell, new[n]) for cell, n in self.updates]
        twin.numbers = [(scalar, new[n]) for scalar, n in self.numbers]
        twin.gradients, twin.written = self.gradients, self.written
        return twin

    def results(self) -> list[Node]:
        """What must be computed."""
        return [*self.outputs, *(n for _, n in self.updates), *(n for _, n in self.numbers)]

    def rewire(self, new: Callable[[Node], Node]) -> None:
        """Replace what results stand for."""
        self.outputs = [new(n) for n in self.outputs]
        self.updates = [(cell, new(n)) for cell, n in self.updates]
        self.numbers = [(scalar, new(n)) for scalar, n in self.numbers]

    def uses(self) -> dict[Node, int]:
        """How often each value is needed."""
        count: dict[Node, int] = dict.fromkeys(self.nodes, 0)
        for n in self.nodes:
            for i in n.inputs:
                count[i] += 1
        for n in self.results():
            count[n] += 1
        return count


def ancestors(node: Node) -> set[Node]:
    """A node and what it comes from."""
    found, stack = {node}, [node]
    while stack:
        new = set(stack.pop().inputs) - found
        found |= new
        stack += new
    return found
