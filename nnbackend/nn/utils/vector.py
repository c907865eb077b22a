"""All parameters as one vector."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ...array import concat, reshape
from ...cells import Parameter
from ...errors import ShapeError
from ...grad_mode import no_grad


def parameters_to_vector(parameters: Iterable[Parameter]) -> Any:
    """Their elements one after the other, with history."""
    return concat([reshape(p, (-1,)) for p in parameters])


def vector_to_parameters(vec: Any, parameters: Iterable[Parameter]) -> None:
    """The way back: the elements of `vec` become those of the parameters. ShapeError unless they are as many."""
    parameters, start = list(parameters), 0
    if (n := sum(p.size for p in parameters)) != vec.shape[0]:
        raise ShapeError(f"vector_to_parameters: expected {n} elements, got {vec.shape}.")
    with no_grad():
        for p in parameters:
            p.assign(reshape(vec[start : start + p.size], p.shape))
            start += p.size
