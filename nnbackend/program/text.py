"""A program as lines of Python, for people and for scripts."""

from __future__ import annotations

import textwrap
from typing import NamedTuple

from .expressions import ALONE, ATOM, BINARY, HELPER_NAMES, Expressions, dtype_text, literal
from .graph import LEAVES, Node, Program
from .names import Names, of_cell
from .order import Order
from .plain import plain, reached

WIDTH, SHAPES = 92, 60  # of a line; where shapes stand at most
FEW_LAYERS = 4
WRAP = textwrap.TextWrapper(WIDTH, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
SYMBOLS = ("add", "subtract", "multiply", "divide")


class Line(NamedTuple):
    """One statement, the shape of the value it makes, the part of the step, and the layer it belongs to."""

    text: str
    shape: tuple[int, ...]
    section: str  # forward, backward or update
    layer: str


class Listing:
    """A program as Python: `leaves` by their names, `views` of these, the `lines`, the `results`.

    `rebound` are the names of leaves that the lines assign to.
    """

    def __init__(self, program: Program) -> None:
        self.program = plain(program)
        self.sections = _sections(self.program)
        alone: set[Node] = set()
        self._write(alone)
        while self.wide - alone:
            alone |= self.wide
            self._write(alone)

    def _write(self, alone: set[Node]) -> None:
        self.names = Names(self.program, [*HELPER_NAMES.values(), self.program.name])
        self.order = order = Order(self.program, self.names, alone)
        self.text = Expressions(self.program, self.names, order.inlined)
        self.leaves: dict[str, Node] = {}
        self.views: list[str] = []
        self.rebound: list[str] = []
        self.lines: list[Line] = []
        self.wide: set[Node] = set()  # what makes the line of its user too long
        lines = [n for n in self.program.nodes if n not in order.inlined and n not in order.moved]
        for n in lines:
            if n.op in LEAVES:
                self.leaves[self.names.give(n)] = n
        for n in lines:
            if n.op not in LEAVES:
                self._statement(n)
        for cell, n in order.writes:
            if n in order.moved:
                self._update(n, order.states[id(cell)])
            elif order.owner.get(n) is not order.states[id(cell)]:  # kept aside
                self._contents(self.names.of[order.states[id(cell)]], self.text.operand(n), n)
        self.results = [self.text.operand(n) for n in self.program.outputs]

    # -- lines
    def _statement(self, n: Node) -> None:
        if of_cell(n):
            text = self.text.text(n)[0]
            self.views.append(f"{self.names.give(n)} = {text}")
        elif n.op == "set":
            self._set(n)
        elif n in self.order.owner:
            self._update(n, self.order.owner[n])
        else:
            text = self.text.text(n)[0]
            self._add(self.names.give(n), "=", text, n)

    def _set(self, n: Node) -> None:
        """A write to a part: of the old value itself, or of a copy."""
        base = n.inputs[0]
        if n in self.order.owner:
            name = self.names.of[n] = self.names.of[base]
        else:
            copy = f"{self.text.operand(base, ATOM)}.copy()" if n.shape else f"np.array({self.text.operand(base)})"
            name = self.names.give(n)
            self._add(name, "=", copy, n)
        inputs = iter(n.inputs[1:])
        _, value, (op, args, kw) = n.args
        right = self.text.argument(value, inputs, n)
        if op == "getitem":
            target = f"{name}[{self.text.key(args[1], inputs, n)}]"
        else:
            target = f"{self.text.view(name, op, args, kw, len(n.shape))}[...]"
        self._add(target, "=", right, n, False)

    def _update(self, n: Node, state: Node) -> None:
        """New contents, in place."""
        name = self.names.of[n] = self.names.of[state]
        operands = n.operands()
        if n.op in SYMBOLS and operands[0] is state and (n.shape, n.dtype) == (state.shape, state.dtype):
            self._add(name, f"{BINARY[n.op][0]}=", self.text.side(operands[1], ALONE, n), n, False)
            self.rebound.append(name)
        else:
            copied = n.op == "copy" and not n.host
            self._contents(name, self.text.operand(n.inputs[0]) if copied else self.text.text(n)[0], n)

    def _contents(self, name: str, text: str, n: Node) -> None:
        if n.host:
            self.rebound.append(name)
        self._add(name if n.host else f"{name}[...]", "=", text, n, False)

    def _add(self, target: str, sign: str, text: str, n: Node, new: bool = True) -> None:
        line = f"{target} {sign} {text}"
        if len(line) > WIDTH:
            inside = [i for i in n.inputs if i in self.order.inlined and i.op in BINARY]
            self.wide.update(sorted(inside, key=lambda i: -len(self.text.text(i)[0]))[:1])
            line = "\n".join(WRAP.wrap(f"{target} {sign} {text if _enclosed(text) else f'({text})'}"))
        moved = n in self.order.moved
        section = "update" if moved else self.sections.get(n, "update")
        self.lines.append(Line(line, n.shape if new else (), section, n.scope))

    def commented(self) -> list[str]:
        """The lines with the shapes of their values, under headings for the parts of the step.

        Where there are many layers, there are headings for these, too.
        """
        layers = len(self.names.layers) > FEW_LAYERS
        several = layers or len({line.section for line in self.lines}) > 1
        width = max([len(line.text) for line in self.lines if line.shape and "\n" not in line.text], default=0)
        heading, out = "", []
        for line in self.lines:
            now = f"# {line.section}" + f": {line.layer}" * bool(layers and line.layer)
            if several and now != heading:
                heading = now
                out.append(heading)
            comment = f"  # {line.shape}" if line.shape and "\n" not in line.text else ""
            out += f"{line.text:{min(width, SHAPES) if comment else 0}}{comment}".split("\n")
        return out


def _enclosed(text: str) -> bool:
    """Whether all blanks are between brackets, so that the line may be broken there."""
    depth = 0
    for c in text:
        depth += (c in "([") - (c in ")]")
        if c == " " and not depth:
            return False
    return True


def _sections(program: Program) -> dict[Node, str]:
    """Forward, backward or update, by what values are called; one without a name belongs to the next that has one."""
    paths = {n.label.rpartition(".")[0] for n in program.nodes if isinstance(n.label, str) and of_cell(n)}
    updating = reached(n for _, n in program.updates)
    behind = any(isinstance(n.label, tuple) for n in program.nodes)  # the gradients
    sections, now = {}, "update" if behind else "forward"
    for n in reversed(program.nodes):
        if n.inputs:
            if n.scope.isidentifier() and n.scope[0].isupper() and n.scope not in paths:  # the class of an optimizer
                now = "update"
            elif isinstance(n.label, tuple):
                now, behind = "backward", False
            elif isinstance(n.label, str) and not of_cell(n):
                now = "update" if behind and n in updating else "forward"
            sections[n] = now
    return sections


# -- for people -----------------------------------------------------------------------------------------------------


def shown(program: Program) -> str:
    """A program for people to read: what goes in, what is kept, what is computed by which layer, what comes out."""
    listing = Listing(program)
    declared: dict[str, list[str]] = {"input": [], "state": [], "scalar": [], "const": []}
    for name, n in listing.leaves.items():
        declared[n.op].append(_declared(name, n))
    inputs, count = ", ".join(declared.pop("input")), sum(bool(n.inputs) for n in listing.program.nodes)
    head = [f"{program.name}({inputs}): {count} operations"]
    head += [f"{op}: {', '.join(leaves)}" for op, leaves in declared.items() if leaves]
    end = [f"return {', '.join(listing.results)}"] if listing.results else []
    return "\n".join([*head, "", *listing.views, *listing.commented(), *end])


def _declared(name: str, n: Node) -> str:
    """A leaf with its value, if it is a number, or else with its shape and dtype."""
    if n.op == "scalar":
        return f"{name} = {literal(n.value._value)[0]}"
    return name if n.host else f"{name} {n.shape} {dtype_text(n.dtype).removeprefix('np.')}"


class Readable(Program):
    """A program that prints itself."""

    def __str__(self) -> str:
        return shown(self)
