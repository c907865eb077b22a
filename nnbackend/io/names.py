"""What files may name: our own layers and functions, and classes that users have registered. Nothing is imported."""

from __future__ import annotations

from typing import Any

from .. import array, data, functional, metrics, nn, optim
from ..errors import IncompatibleCheckpointError
from ..nn.utils.parametrizations import _SpectralNorm, _WeightNorm
from ..nn.utils.parametrize import ParametrizationList
from ..recipe import registered

_ROOMS: dict[str, Any] = {
    "nn": nn, "optim": optim, "functional": functional, "array": array, "metrics": metrics, "data": data,
}  # fmt: skip
_PRIVATE = {
    "nn.ParametrizationList": ParametrizationList,
    "nn.SpectralNorm": _SpectralNorm,
    "nn.WeightNorm": _WeightNorm,
}


def name_of(thing: Any) -> str | None:
    """The name by which a file may call for a class or a function; None if it may not."""
    thing = getattr(thing, "unparametrized", thing)
    for name, known in {**_PRIVATE, **registered}.items():
        if known is thing:
            return name
    plain = getattr(thing, "__name__", "")
    for room, module in _ROOMS.items():
        if plain in module.__all__ and getattr(module, plain) is thing:
            return f"{room}.{plain}"
    return None


def named(name: str, base: type = object) -> Any:
    """The class (made from `base`) or the function of that name. IncompatibleCheckpointError if there is none."""
    room, _, plain = name.partition(".")
    if name in registered or name in _PRIVATE:
        found: Any = registered.get(name) or _PRIVATE[name]
    elif room in _ROOMS and plain in _ROOMS[room].__all__:
        found = getattr(_ROOMS[room], plain)
    else:
        raise IncompatibleCheckpointError(
            f"expected layers of nnbackend or registered ones, got {name!r:.80}. "
            "Put @nb.register before the class and import it first, or load the weights with into=net."
        )
    if not (callable(found) if base is object else isinstance(found, type) and issubclass(found, base)):
        raise IncompatibleCheckpointError(f"expected the name of a {base.__name__.lower()}, got {name!r:.80}.")
    return found
