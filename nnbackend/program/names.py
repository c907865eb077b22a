"""Names for the values of a program, as tutorials have them: W1, b1, z1, a1, loss, dz1, dW1."""

from __future__ import annotations

import keyword
import operator
import re
from collections.abc import Iterable
from typing import Any

from .graph import VIEWS, Node, Program

LINEAR = frozenset({"linear", "bilinear"})
ACTIVATIONS = frozenset({
    "sigmoid", "tanh", "relu", "leaky_relu", "elu", "gelu", "silu", "softplus", "logsigmoid", "softmax", "log_softmax",
    "glu", "hardshrink", "hardsigmoid", "hardswish", "hardtanh", "mish", "prelu", "softshrink", "softsign",
    "tanhshrink", "threshold",
})  # fmt: skip
SYMBOLS = {"weight": "W", "bias": "b"}
UNNAMED = frozenset({
    *dir(operator), "place", "gather", "scatter_add", "one_hot", "masked_fill", "logsumexp", "erf", "moved",
    "to_device",
})  # fmt: skip
TAKEN = frozenset({*keyword.kwlist, "abs", "slice", "np", "math", "Path", "saved"})


def storage(n: Node) -> Node:
    """The value whose memory this one may be a view of: itself, if it is no view."""
    while n.op in VIEWS or n.op in ("part", "unstack", "broadcast_arrays"):
        n = n.inputs[0]
    return n


def of_cell(n: Node) -> bool:
    """Whether it is the contents of a cell: a leaf, or a part of a flat buffer that is called after its parameter."""
    return n.op == "state" or (
        n.op in ("getitem", "reshape") and storage(n).op == "state" and isinstance(n.label, str) and n.label != n.op
    )


def is_loss(label: Any) -> bool:
    """Whether an op is a loss, by its name."""
    return isinstance(label, str) and ("loss" in label or "cross_entropy" in label)


def identifier(text: str) -> str:
    """The text with all that cannot stand in a name replaced."""
    if text.isascii() and text.isidentifier():
        return text
    name = re.sub(r"\W", "_", text, flags=re.ASCII).strip("_") or "value"
    return f"_{name}" if name[0].isdigit() else name


class Names:
    """Gives each value of a program a name of its own. `of` has those that have been given."""

    def __init__(self, program: Program, reserved: Iterable[str] = ()) -> None:
        self.of: dict[Node, str] = {}
        self.taken = {*TAKEN, *reserved}
        self.temporaries = 0
        self.inputs = _input_names(program)
        self.outputs = set(program.outputs)
        self.functions = program.library.xp
        self.layers = _layers(program)
        self.numbers = _numbers(program, self.layers)

    def give(self, n: Node, name: str | None = None) -> str:
        """A name for this value: the one wanted, a speaking one, or else t1, t2, ..."""
        wanted = name or self.wanted(n)
        if wanted is None:
            self.temporaries += 1
            wanted = f"t{self.temporaries}"
        wanted, k = identifier(wanted), 2
        base = wanted
        while wanted in self.taken:
            wanted, k = f"{base}_{k}", k + 1
        self.taken.add(wanted)
        self.of[n] = wanted
        return wanted

    def wanted(self, n: Node) -> str | None:
        """What a value would be called if nothing else were; None for a passing one."""
        if n.op == "input":
            position: int = n.value
            return self.inputs[position]
        if isinstance(n.label, tuple):
            prefix, target = n.label
            name = self.of.get(target) or self.wanted(target)
            return f"{prefix}{name}" if name else None
        if n.op == "concat" and all(isinstance(i.label, tuple) for i in n.inputs):
            return "g"  # the gradients of all parameters
        if n.op == "const":
            return "c"
        if n.op == "scalar" or of_cell(n) or (n.op in VIEWS and isinstance(n.label, str) and "." in n.label):
            return self._cell(n.label or n.op)
        return self._result(n) or ("result" if n in self.outputs else None)

    def _cell(self, label: str) -> str:
        """`0.weight` is W1."""
        if label.endswith(".grad"):
            return "d" + self._cell(label.removesuffix(".grad"))
        path, _, leaf = label.rpartition(".")
        return SYMBOLS.get(leaf, leaf) + self.layers.get(path, "")

    def _result(self, n: Node) -> str | None:
        """The result of an op is called after its kind, or after the op."""
        label = n.label
        if not isinstance(label, str) or label in UNNAMED:
            return None
        if is_loss(label):
            return "loss"
        if label in ACTIVATIONS:
            return "a" + self.numbers[n]
        if label in LINEAR or label.startswith("conv") or label.endswith("_norm"):
            return "z" + self.numbers[n]
        return None if hasattr(self.functions, label) else identifier(label) + self.numbers[n]


def _input_names(program: Program) -> list[str]:
    """What the arguments are called: by their labels; else x, y."""
    usual = ["x", "y"] if len(program.inputs) < 3 else [f"x{i + 1}" for i in range(len(program.inputs))]
    return [n.label if isinstance(n.label, str) else name for n, name in zip(program.inputs, usual, strict=False)]


def _layers(program: Program) -> dict[str, str]:
    """The number of each layer that has parameters, by its path, in the order of first use."""
    numbers: dict[str, str] = {}
    for n in program.nodes:
        if isinstance(n.label, str) and of_cell(n) and "." in n.label:
            path = n.label.removesuffix(".grad").rpartition(".")[0]
            numbers.setdefault(path, str(len(numbers) + 1))
    numbers.pop("", None)
    return numbers


def _numbers(program: Program, layers: dict[str, str]) -> dict[Node, str]:
    """The number of the layer that each value belongs to. What has no parameters belongs to the layer before it."""
    current, numbers = "", {}
    for n in program.nodes:
        if n.scope in layers:
            current = layers[n.scope]
        numbers[n] = current
    return numbers
