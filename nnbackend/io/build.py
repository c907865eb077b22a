"""Values from JSON and arrays: what `nb.load` reads. Only layers of ours and registered ones are made."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ..backend import NUMPY
from ..cells import Buffer, Cell, Parameter, Scalar, structure
from ..errors import IncompatibleCheckpointError, NNBackendError, UnsafeFileError
from ..nn import Module, RandomModule
from ..nn.utils.parametrize import ENTRIES, reclass
from ..recipe import Budget, Given, Recipe, Remembers, hollow, hollow_array
from ..tensor import Tensor
from .names import named

ROLES: dict[str, Callable[[Any], Any]] = {
    "parameter": Parameter,
    "buffer": Buffer,
    "unsaved buffer": lambda array: Buffer(array, persistent=False),
    "tensor": Tensor,
    "array": lambda array: array,
}


class Builder:
    """Makes values of their descriptions. Layers get no weights: `filled` says where they are.

    `layers` is how many layers and tensors may be made at most, `elements` how many numbers an array among their
    arguments may have; `fetch` reads a tensor by its name; `given` are models that need not be made, by their places.
    """

    def __init__(
        self,
        layers: int = 10**9,
        elements: int = 2**62,
        fetch: Callable[[str], Any] | None = None,
        given: Mapping[str, Module] | None = None,
    ) -> None:
        self.budget, self.elements, self.fetch, self.given = Budget(layers), elements, fetch, given or {}
        self.modules: list[tuple[Module, dict[str, Any], str]] = []  # each with its description and its place

    def value(self, text: Any) -> Any:
        """What is described. IncompatibleCheckpointError or UnsafeFileError if that cannot be, or should not."""
        match text:
            case None | bool() | int() | float() | str():
                return text
            case list():
                return [self.value(part) for part in text]
            case {"tuple": list(parts)}:
                return tuple(self.value(part) for part in parts)
            case {"dict": dict(parts)}:
                return {name: self.value(part) for name, part in parts.items()}
            case {"pairs": list(pairs)}:
                return {self.value(key): self.value(part) for key, part in pairs}
            case {"tensor": str(name)} if self.fetch is not None:
                return self.fetch(name)
            case {"module": dict(parts), "at": str(place)}:
                module = self.given[place] if place in self.given else self.module(parts)
                self.modules.append((module, parts, place))
                return module
            case {"class": str(name), "state": state}:
                return named(name, object).from_state(self.value(state))
            case {"class": str(name), "arguments": dict(arguments)}:
                with self.making(name):
                    return self.made(self.recipe(name, arguments))
            case {"array": list(shape), "dtype": str(dtype), "role": str(role)} if role in ROLES:
                return Given(tuple(shape), dtype, role)
            case {"name": str(name)}:
                return named(name)
        raise IncompatibleCheckpointError(f"expected values that this version knows, got {text!s:.80}.")

    def module(self, text: Mapping[str, Any]) -> Module:
        """A module with all that has changed since it was made, without its weights."""
        if "weights_only" in text:
            raise IncompatibleCheckpointError(
                f"expected a model that can be built, got its weights: {text['weights_only']}. "
                "Load them into a model of yours, with into=net."
            )
        with self.making(str(text.get("class"))):
            module = self.made(self.recipe(text["class"], text["arguments"]))
            if not isinstance(module, Module):
                raise IncompatibleCheckpointError(f"expected a layer, got {text['class']!r:.80}.")
            for place, new in text.get("changes", {}).items():
                self.change(module, place, new)
            finish(module, text)
        return module

    def change(self, module: Module, place: str, new: Any) -> None:
        """Set an attribute somewhere below the module to what is described, or to what is at another place."""
        path, _, name = place.rpartition(".")
        if name.startswith("__") or not name:
            raise UnsafeFileError(f"expected names of attributes, got {place!r:.80}.")
        match new:
            case {"same": str(other)}:
                value = reached(module, other)
            case _:
                value = self.made(self.value(new))
        setattr(reached(module, path), name, value)

    def recipe(self, name: str, arguments: Mapping[str, Any]) -> Recipe:
        """The class of that name with arguments, which are made first."""
        kind = named(name, Remembers)
        bound = inspect.signature(kind).bind_partial()
        bound.arguments.update({key: self.made(self.value(part)) for key, part in arguments.items()})
        return Recipe(kind, bound.args, bound.kwargs)

    def made(self, x: Any) -> Any:
        """What a recipe, or what stands for an array, makes; also in lists, tuples and dicts."""
        if isinstance(x, Recipe):
            return x.kind(*x.args, **x.kw)
        if isinstance(x, Given):
            if NUMPY.xp.prod(x.shape, dtype="float64") > self.elements:
                raise UnsafeFileError(f"expected arrays that are in the file, got one of shape {x.shape}.")
            return ROLES[x.role](hollow_array(x.shape, x.dtype))
        if isinstance(x, list):
            return [self.made(part) for part in x]
        if isinstance(x, tuple):
            return tuple(self.made(part) for part in x)
        return {name: self.made(part) for name, part in x.items()} if isinstance(x, dict) else x

    @contextmanager
    def making(self, what: str) -> Iterator[None]:
        """Without weights; whatever goes wrong is an error of ours."""
        token = hollow.set(self.budget)
        try:
            with NUMPY.xp.errstate(all="ignore"):
                yield
        except (NNBackendError, RecursionError):
            raise
        except Exception as error:
            raise IncompatibleCheckpointError(
                f"expected what {what} can be made of, got {type(error).__name__}: {error}"
            ) from error
        finally:
            hollow.reset(token)


def finish(module: Module, text: Mapping[str, Any]) -> None:
    """Take away what is not there any more, and put all in its order."""
    for place in text.get("removed", ()):
        path, _, name = place.rpartition(".")
        reached(module, path).__dict__.pop(name, None)
    for path, names in text.get("order", {}).items():
        attributes = reached(module, path).__dict__
        for name in names:
            attributes[name] = attributes.pop(name)
    for m in list(module.modules()):
        if ENTRIES in m.__dict__:
            reclass(m)
    structure.changed()


def reached(module: Module, place: str) -> Any:
    """A module or a cell at a dotted path from here."""
    found: Any = module
    for name in place.split(".") if place else ():
        found = found.__dict__.get(name) if isinstance(found, Module) else None
        if not isinstance(found, Module | Cell):
            raise IncompatibleCheckpointError(f"expected a layer or a tensor at {place!r:.80}, got none.")
    return found


def stand(module: Module, text: Mapping[str, Any]) -> None:
    """Modes, frozen parameters, random addresses and counters as `describe.standing` notes them."""
    modes, trained = set(text.get("evaluating", ())), text.get("requires_grad", {})
    for name, m in module.named_modules():
        m.training = name not in modes
    for name, p in module.named_parameters():
        p.requires_grad_(trained.get(name, True) if name in trained else p.requires_grad)
    randomness(module, text)


def randomness(module: Module, text: Mapping[str, Any]) -> None:
    """Random addresses and counters, where the module has such layers."""
    modules = dict(module.named_modules())
    for name, key in text.get("keys", {}).items():
        if isinstance(modules.get(name), RandomModule):
            modules[name].__dict__["key"] = int(key, 16)
    for place, value in text.get("numbers", {}).items():
        path, _, name = place.rpartition(".")
        cell = modules[path].__dict__.get(name) if path in modules else None
        if isinstance(cell, Scalar):
            cell.value = value
    structure.changed()
