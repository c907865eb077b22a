"""A group: element-wise work over one shape, with reductions at its end, which becomes one CUDA kernel.

Its values are numbered: first the inputs, then the numbers, then what the steps make.
"""

from __future__ import annotations

from typing import Literal, NamedTuple


class Input(NamedTuple):
    """An array as it is handed in: its dtype, and by how many elements a place on each axis of the group moves on.

    That is 0 where it broadcasts.
    """

    dtype: str
    strides: tuple[int, ...]


class Constant(NamedTuple):
    """A Python number in place of a value: it takes the dtype that it meets."""

    value: float | bool


class Step(NamedTuple):
    """One function of the standard, or `logistic`, `erf`, `uniform_like`, on values and constants; its result's dtype.

    `uniform_like` has constants and numbers for operands: key, site, step, rank.
    """

    op: str
    operands: tuple[int | Constant, ...]
    dtype: str


class Reduction(NamedTuple):
    """A value reduced along some axes: its result has the other ones, in C order."""

    value: int
    op: Literal["sum", "mean", "prod", "max", "min"]
    axes: tuple[int, ...]


class Group(NamedTuple):
    """Work over `shape`. `numbers` says of each number from the host whether it is "float" or "int".

    `outputs` are values that are stored, contiguous and in this shape; `reductions` are stored after these.
    """

    shape: tuple[int, ...]
    inputs: tuple[Input, ...]
    numbers: tuple[Literal["float", "int"], ...]
    steps: tuple[Step, ...]
    outputs: tuple[int, ...]
    reductions: tuple[Reduction, ...] = ()

    def dtype(self, value: int) -> str:
        """That of a value; "float" or "int" for a number."""
        if value < len(self.inputs):
            return self.inputs[value].dtype
        value -= len(self.inputs)
        return self.numbers[value] if value < len(self.numbers) else self.steps[value - len(self.numbers)].dtype

    def result(self, r: Reduction) -> str:
        """The dtype that the standard gives a reduction's result."""
        dtype = self.dtype(r.value)
        if r.op in ("max", "min") or dtype.startswith("float"):
            return dtype
        return "uint64" if dtype.startswith("uint") else "int64"
