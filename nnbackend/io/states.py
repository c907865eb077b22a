"""Objects that remember something, such as optimizers: what they remember goes into files, and comes back to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from ..errors import IncompatibleCheckpointError
from ..nn import Module
from ..optim.state import ParameterState
from ..tensor import Tensor
from ..tree import mapped


@runtime_checkable
class Stateful(Protocol):
    """An optimizer, a schedule, an average, a loader, or anything of yours with these two."""

    def state_dict(self) -> dict[str, Any]:
        """What it remembers: tensors, numbers, text, and lists, tuples and dicts of them."""

    def load_state_dict(self, state: dict[str, Any]) -> Any:
        """Go on as the one that gave this state, or raise and stay as it is."""


def remembers(x: Any) -> bool:
    """Whether it is such an object, or a random generator of NumPy's."""
    return (isinstance(x, Stateful) and not isinstance(x, type)) or hasattr(x, "bit_generator")


def state_of(x: Any) -> Any:
    """What it remembers, not copied where that can be helped."""
    if hasattr(x, "bit_generator"):
        return x.bit_generator.state
    return x.state_dict(copy=False) if isinstance(x, ParameterState) else x.state_dict()


def models_in(x: Any, place: str = "") -> dict[str, Module]:
    """The models in nested dicts, lists and tuples by their places."""
    if isinstance(x, Module):
        return {place: x}
    parts = x.items() if isinstance(x, dict) else enumerate(x) if isinstance(x, list | tuple) else ()
    return {
        where: model
        for key, part in parts
        for where, model in models_in(part, f"{place}.{key}" if place else str(key)).items()
    }


def put_back(into: Any, value: Any) -> tuple[Any, Callable[[], None]]:
    """`into` with the plain values of `value`, and how to undo what its objects have been given.

    IncompatibleCheckpointError if something is missing; then, or if an object refuses, all are as they were.
    """
    if not (isinstance(into, dict | list | tuple) or remembers(into)):
        got = f"the class {into.__name__}" if isinstance(into, type) else f"a {type(into).__name__}"
        raise TypeError(f"load: expected into= a model, what has a state_dict, or a dict or list of them, got {got}.")
    pairs: list[tuple[Any, Any]] = []
    result = _paired(into, value, "", pairs)
    undo: list[Callable[[], None]] = []

    def undone() -> None:
        for back in reversed(undo):
            back()

    try:
        for x, state in pairs:
            undo.append(_as_it_is(x))
            give(x, state)
    except BaseException:
        undone()
        raise
    return result, undone


def _paired(into: Any, value: Any, place: str, pairs: list[tuple[Any, Any]]) -> Any:
    """What is asked for beside what there is."""
    if isinstance(into, Module):
        if into is not value:
            raise IncompatibleCheckpointError(f"{place}: expected a model in the file, got a {type(value).__name__}.")
        return into
    if remembers(into):
        if not isinstance(value, dict):
            raise IncompatibleCheckpointError(f"{place}: expected a state in the file, got a {type(value).__name__}.")
        pairs.append((into, value))
        return into
    if isinstance(into, dict):
        there = value if isinstance(value, dict) else {}
        if lost := [str(key) for key in into if key not in there]:
            raise IncompatibleCheckpointError(f"{place or 'load'}: expected {', '.join(lost)} in the file, got none.")
        return {
            key: _paired(into[key], part, f"{place}.{key}" if place else str(key), pairs) if key in into else part
            for key, part in value.items()
        }
    if isinstance(into, list | tuple) and isinstance(value, list | tuple) and len(into) == len(value):
        return type(value)(
            _paired(x, part, f"{place}.{i}" if place else str(i), pairs)
            for i, (x, part) in enumerate(zip(into, value, strict=True))
        )
    return value


def give(x: Any, state: Any) -> None:
    """Let an object go on as the one that gave this state."""
    if hasattr(x, "bit_generator"):
        x.bit_generator.state = mapped(lambda part: part.numpy() if isinstance(part, Tensor) else part, state)
    else:
        x.load_state_dict(state)


def _as_it_is(x: Any) -> Callable[[], None]:
    """How to bring an object back to where it is now."""
    state = x.bit_generator.state if hasattr(x, "bit_generator") else x.state_dict()
    attributes = dict(getattr(x, "__dict__", {}))

    def back() -> None:
        give(x, state)
        if attributes:
            x.__dict__.update(attributes)

    return back
