"""What files may name: our own layers and functions, and classes that users have registered. Nothing is imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, Self, runtime_checkable

from .. import array, data, functional, metrics, nn, optim
from ..errors import IncompatibleCheckpointError
from ..nn.utils.parametrizations import _SpectralNorm, _WeightNorm
from ..nn.utils.parametrize import ParametrizationList
from ..recipe import registered

_ROOMS: dict[str, Any] = {
    "nn": nn, "optim": optim, "functional": functional, "array": array, "metrics": metrics, "data": data,
}  # fmt: skip
_CLASSES_ONLY = ("optim", "data")  # their functions do things, such as reading files
_PRIVATE = {
    "nn.ParametrizationList": ParametrizationList,
    "nn.SpectralNorm": _SpectralNorm,
    "nn.WeightNorm": _WeightNorm,
}


@runtime_checkable
class Encoder(Protocol):
    """What says by itself what it is, as plain values: LabelEncoder, StandardScaler and registered classes."""

    def state(self) -> Any:
        """What `from_state` needs."""

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """One that is as `state` says."""
        ...


def name_of(thing: Any) -> str | None:
    """The name by which a file may call for a class or a function; None if it may not."""
    thing = getattr(thing, "unparametrized", thing)
    for name, known in {**_PRIVATE, **registered}.items():
        if known is thing:
            return name
    plain = getattr(thing, "__name__", "")
    return next((f"{room}.{plain}" for room in _ROOMS if _found(room, plain) is thing), None)


def named(name: str, base: type = object) -> Any:
    """The class (made from `base`) or the function of that name. IncompatibleCheckpointError if there is none."""
    room, _, plain = name.partition(".")
    found = registered.get(name) or _PRIVATE.get(name) or _found(room, plain)
    if found is None:
        raise IncompatibleCheckpointError(
            f"expected layers of nnbackend or registered ones, got {name!r:.80}. "
            "Put @nb.register before the class and import it first, or load the weights with into=net."
        )
    if base is not object and not (isinstance(found, type) and issubclass(found, base)):
        raise IncompatibleCheckpointError(
            f"expected the name of a {base.__name__.lower()}, got {name!r:.80}. Use another copy of the file."
        )
    return found


def _found(room: str, plain: str) -> Any:
    """What a room shows by this name, if files may name it; otherwise None."""
    if room not in _ROOMS or plain not in _ROOMS[room].__all__:
        return None
    found = getattr(_ROOMS[room], plain)
    return found if isinstance(found, type) or (callable(found) and room not in _CLASSES_ONLY) else None
