"""Values from JSON and arrays: what `nb.load` reads. Only layers of ours and registered ones are made."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from ..backend import FLOATING, NUMPY
from ..cells import Buffer, Cell, Parameter, Scalar, structure
from ..errors import CheckpointError, IncompatibleCheckpointError, UnsafeFileError
from ..nn import Module, RandomModule
from ..nn.utils.parametrize import ENTRIES, ParametrizationList, reclass
from ..optim import LRScheduler
from ..recipe import Budget, Remembers, hollow, hollow_array, is_tensor
from ..tensor import Tensor
from ..tree import leaves
from .names import Encoder, named

DEPTH, PATHS = 64, 20_000  # how far layers may be inside of each other, and at how many places they may be
INTERNAL = ("_recipe", "_training", "initialiser", "path", "device")  # attributes that are no settings
ROLES: dict[str, Callable[[Any], Any]] = {
    "parameter": Parameter,
    "buffer": Buffer,
    "unsaved buffer": lambda array: Buffer(array, persistent=False),
    "tensor": Tensor,
    "array": lambda array: array,
}


class Builder:
    """Makes values of their descriptions. Layers get no weights: `modules` says what they are to be filled with.

    `layers` is how many layers and tensors may be made at most, `elements` how many numbers an array among their
    arguments may have; `fetch` reads a tensor by its name; `given` are models that need not be made, by their places;
    `optimizer` is the one that schedules are for.
    """

    def __init__(
        self,
        layers: int = 10**9,
        elements: int = 2**62,
        fetch: Callable[[str], Any] | None = None,
        given: Mapping[str, Module] | None = None,
        optimizer: Any = None,
    ) -> None:
        self.budget, self.elements, self.fetch, self.given = Budget(layers), elements, fetch, given or {}
        self.optimizer = optimizer
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
                well_formed(parts)
                module = self.given[place] if place in self.given else self.module(parts)
                self.modules.append((module, parts, place))
                return module
            case {"remembered": state}:
                return self.value(state)
            case {"class": str(name), "state": state}:
                with explained(name):
                    return named(name, Encoder).from_state(self.value(state))
            case {"class": str(name), "arguments": dict(arguments)}:
                return self.instance(name, arguments)
            case {"array": list(shape), "dtype": str(dtype), "role": str(role)} if role in ROLES:
                return self.array(tuple(shape), dtype, role)
            case {"name": str(name)}:
                return named(name)
        raise IncompatibleCheckpointError(
            f"expected values that this version knows, got {text!s:.80}. Upgrade nnbackend, or use another copy."
        )

    def module(self, text: Mapping[str, Any]) -> Module:
        """A module with all that has changed since it was made, without its weights."""
        if "weights_only" in text:
            raise IncompatibleCheckpointError(
                f"expected a model that can be built, got its weights: {text['weights_only']}. "
                "Load them into a model of yours, with into=net."
            )
        with self.making(text["class"]):
            module: Module = self.instance(text["class"], text["arguments"])
            for place, new in text.get("changes", {}).items():
                self.change(module, place, new)
            finish(module, text)
        return module

    def instance(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """What the class of that name makes of arguments, which are made first: inside of a module, another."""
        kind = named(name, Remembers if hollow.get() is None else Module)
        if hollow.get() is None and issubclass(kind, Module):
            raise IncompatibleCheckpointError(f"expected a layer with its weights, got {name!r:.80} alone.")
        with self.making(name) if issubclass(kind, Module) else explained(name):
            if unknown := [key for key in arguments if key not in signature(kind).parameters]:
                raise TypeError(f"unexpected arguments {', '.join(unknown)}"[:200])
            bound = signature(kind).bind_partial()
            if issubclass(kind, LRScheduler):
                bound.arguments["optimizer"] = self.optimizer
            bound.arguments.update({key: self.value(part) for key, part in arguments.items()})
            return kind(*bound.args, **bound.kwargs)

    def array(self, shape: tuple[int, ...], dtype: str, role: str) -> Any:
        """What stands for an array among the arguments of a layer."""
        if hollow.get() is None:
            raise IncompatibleCheckpointError("expected arrays with their values, got one alone.")
        if any(type(size) is not int or size < 0 for size in shape) or math.prod(shape) > self.elements:
            raise UnsafeFileError(f"expected arrays as large as those in the file, got one of shape {shape!s:.80}.")
        return ROLES[role](hollow_array(shape, dtype))

    def change(self, module: Module, place: str, new: Any) -> None:
        """Set an attribute somewhere below the module to what is described, or to what is at another place."""
        self.budget.spend()
        owner, name = _attribute(module, place)
        match new:
            case {"same": str(other)}:
                value = reached(module, other)
                owner.__dict__[name] = value  # it keeps the path that it has
            case _:
                value = self.value(new)
                if any(is_tensor(part) and not isinstance(part, Cell) for part in leaves(value)):
                    raise UnsafeFileError(f"expected no array at {place!r:.80}, got one.")
                setattr(owner, name, value)

    @contextmanager
    def making(self, what: str) -> Iterator[None]:
        """Without weights; whatever goes wrong is an error of ours."""
        token = hollow.set(self.budget)
        try:
            with NUMPY.xp.errstate(all="ignore"), explained(what):
                yield
        finally:
            hollow.reset(token)


signature = lru_cache(1000)(inspect.signature)  # of a class


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Whatever goes wrong while `what` is made is an error of ours."""
    try:
        yield
    except (CheckpointError, MemoryError, OSError):  # not the file's fault
        raise
    except Exception as error:
        raise IncompatibleCheckpointError(
            f"expected what {what:.80} can be made of, got {type(error).__name__}: {error!s:.400}"
        ) from error


# -- descriptions of modules ------------------------------------------------------------------------------------------


def _is_texts(x: Any) -> bool:
    return isinstance(x, list) and all(isinstance(part, str) for part in x)


def _maps_to(kind: Any) -> Callable[[Any], bool]:
    return lambda x: (
        isinstance(x, dict)
        and all(isinstance(part, kind) if isinstance(kind, type) else kind(part) for part in x.values())
    )


_FORMS: dict[str, Callable[[Any], bool]] = {
    "class": lambda x: isinstance(x, str), "arguments": _maps_to(object), "changes": _maps_to(object),
    "removed": _is_texts, "order": _maps_to(_is_texts), "weights_only": lambda x: isinstance(x, str),
    "evaluating": _is_texts, "requires_grad": _maps_to(bool), "paths": _maps_to(str),
    "keys": _maps_to(lambda x: isinstance(x, str) and re.fullmatch("[0-9a-f]{32}", x) is not None),
    "numbers": _maps_to(lambda x: type(x) in (int, float)),
    "settings": _maps_to(lambda x: isinstance(x, bool | int | float | str)),
    "extra": _is_texts, "renamed": _maps_to(str), "tied": _maps_to(str),
}  # fmt: skip


def well_formed(text: Mapping[str, Any]) -> None:
    """UnsafeFileError unless the parts of a module's description are of their kinds."""
    for key, part in text.items():
        if key not in _FORMS or not _FORMS[key](part):
            raise UnsafeFileError(f"expected a description of a layer, got {key!r:.40}: {part!s:.80}.")
    if not ("weights_only" in text or ("class" in text and "arguments" in text)):
        raise UnsafeFileError("expected a class and its arguments in the description of a layer, got none.")


def reached(module: Module, place: str, kind: Any = (Module, Cell)) -> Any:
    """A module, or what else is of this kind, at a dotted path from here."""
    found: Any = module
    for name in place.split(".") if place else ():
        found = found.__dict__.get(name) if isinstance(found, Module) else None
    if not isinstance(found, kind):
        raise IncompatibleCheckpointError(f"expected a layer or a tensor at {place!r:.80}, got none.")
    return found


def _attribute(module: Module, place: str) -> tuple[Module, str]:
    """The owner and the name of an attribute that files may set. UnsafeFileError for methods, properties and ours."""
    path, _, name = place.rpartition(".")
    owner = reached(module, path, Module)
    if unparametrized := getattr(owner, "unparametrized", None):  # `finish` looks again what is
        object.__setattr__(owner, "__class__", unparametrized)
    inherited = next((vars(base)[name] for base in type(owner).__mro__ if name in vars(base)), None)
    ours = (*INTERNAL, "key") if isinstance(owner, RandomModule) else INTERNAL
    if not name or name.startswith("__") or name in ours or hasattr(type(inherited), "__get__"):
        raise UnsafeFileError(f"expected a setting or a layer of {type(owner).__name__}, got {place!r:.80}.")
    return owner, name


def finish(module: Module, text: Mapping[str, Any]) -> None:
    """Take away what is not there any more, and put all in its order."""
    for place in text.get("removed", ()):
        owner, name = _attribute(module, place)
        owner.__dict__.pop(name, None)
    for path, names in text.get("order", {}).items():
        attributes = reached(module, path, Module).__dict__
        for name in names:
            attributes[name] = attributes.pop(name)
    _measured(module, {})
    for m in list(module.modules()):
        if ENTRIES in m.__dict__:
            _parametrize(m)


def _measured(module: Module, known: dict[int, tuple[int, int]], depth: int = 0) -> tuple[int, int]:
    """How many paths there are to modules below, and the longest. UnsafeFileError if endless, or more than allowed."""
    if id(module) not in known and depth <= DEPTH:
        below = [_measured(child, known, depth + 1) for child in module.children()]
        known[id(module)] = 1 + sum(n for n, _ in below), 1 + max((height for _, height in below), default=0)
    paths, height = known.get(id(module), (0, DEPTH))
    if depth + height > DEPTH:
        raise UnsafeFileError(f"expected layers at most {DEPTH} deep inside of each other, got more.")
    if paths > PATHS:
        raise UnsafeFileError(f"expected at most {PATHS} places of layers, got more.")
    return paths, height


def _parametrize(module: Module) -> None:
    """Let the tensors be computed that are, if that takes nothing else away."""
    base = getattr(module, "unparametrized", type(module))
    for name, entry in reached(module, ENTRIES, Module).named_children():
        if not isinstance(entry, ParametrizationList) or not name.isidentifier() or hasattr(base, name):
            raise UnsafeFileError(f"expected a tensor of {base.__name__} to compute, got {name!r:.80}.")
    reclass(module)


# -- where a module stands --------------------------------------------------------------------------------------------


def stand(module: Module, text: Mapping[str, Any]) -> None:
    """Modes, frozen parameters, random addresses and counters as `describe.standing` notes them."""
    modes, trained = set(text.get("evaluating", ())), text.get("requires_grad", {})
    for name, m in module.named_modules():
        m.training = name not in modes
    for name, p in module.named_parameters():
        p.requires_grad_(trained.get(name, p.dtype in FLOATING))
    modules, paths = dict(module.named_modules()), text.get("paths", {})
    for name, m in modules.items():
        path = paths.get(name, usual_path(modules, name))
        if m.path != path:
            m.__dict__["path"] = path
    randomness(module, text)


def settle(module: Module, text: Mapping[str, Any]) -> None:
    """Plain settings of a model that was not built, but given, as they were."""
    modules, plain = dict(module.named_modules()), (bool, int, float, str)
    for place, value in {**text.get("changes", {}), **text.get("settings", {})}.items():
        path, _, name = place.rpartition(".")
        now = vars(modules[path]).get(name) if path in modules else None
        if type(value) in plain and type(now) in plain and now != value and name not in (*INTERNAL, "key"):
            setattr(modules[path], name, value)


def usual_path(modules: Mapping[str, Module], name: str) -> str:
    """What a module's path is to the owner's: random layers draw at theirs."""
    owner, _, last = name.rpartition(".")
    above = modules[owner].path if name and owner in modules else ""
    return f"{above}.{last}" if above else last


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
