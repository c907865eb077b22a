"""Values as JSON and arrays: what `nb.save` writes. `build` is the way back.

A layer is described by its recipe, and by what has changed since. To find that, it is made once more from the
description, without weights: so what has been saved can be built.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import FunctionType
from typing import Any

from ..backend import is_array, namespace
from ..cells import Buffer, Cell, Scalar
from ..errors import NNBackendError
from ..nn import Module, RandomModule
from ..recipe import Given, Lost, Recipe, is_hollow, light
from ..tensor import Tensor
from ..tree import leaves
from .build import Builder, finish, reached
from .names import name_of

INTERNAL = ("_recipe", "_training", "initialiser", "path")  # attributes that are no settings


class CannotBeBuilt(Exception):
    """Why a file can hold the weights of a layer, but not how to make it."""


class Description:
    """A value as JSON, `text`, and the arrays in it by name."""

    def __init__(self, value: Any) -> None:
        self.arrays: dict[str, Any] = {}
        self.text = self.value(value, "")

    def value(self, x: Any, place: str) -> Any:
        """A value at a dotted place. TypeError if it is not of a kind that files can hold."""
        if isinstance(x, Module):
            return {"module": self.module(x, place), "at": place}
        if is_array(x) and (isinstance(x, Tensor) or hasattr(type(x), "__setitem__")):
            return {"tensor": self.keep(x.data if isinstance(x, Tensor) else x, place)}
        if isinstance(x, list):
            return [self.value(part, _below(place, i)) for i, part in enumerate(x)]
        if isinstance(x, tuple):
            return {"tuple": [self.value(part, _below(place, i)) for i, part in enumerate(x)]}
        if isinstance(x, dict):
            if all(isinstance(key, str) for key in x):
                return {"dict": {key: self.value(part, _below(place, key)) for key, part in x.items()}}
            return {"pairs": [[plain(key), self.value(part, _below(place, key))] for key, part in x.items()]}
        if hasattr(x, "state") and hasattr(type(x), "from_state") and (name := name_of(type(x))):
            return {"class": name, "state": self.value(x.state(), place)}
        try:
            return plain(x)
        except CannotBeBuilt as error:
            raise TypeError(
                f"{place or 'save'}: expected models, tensors, encoders, numbers, text, and lists, tuples and dicts of "
                f"them, got {error}."
            ) from None

    def keep(self, array: Any, place: str) -> str:
        """Note an array; returns its name."""
        name, n = place or "tensor", 2
        while name in self.arrays:
            name, n = f"{place}#{n}", n + 1
        self.arrays[name] = array
        return name

    def module(self, module: Module, place: str) -> dict[str, Any]:
        """How to build a module. If nobody can, its weights are kept, and the reason."""
        try:
            text, extra = described(module)
        except CannotBeBuilt as error:
            text, extra = {"weights_only": str(error), **standing(module)}, {}
        seen: dict[int, str] = {}
        for name, cell in {**module._stored(), **extra}.items():
            first = seen.setdefault(id(cell), name)
            if first == name:
                kept = self.keep(cell.array, _below(place, name))
                text.setdefault("renamed", {}).update({name: kept} if kept != _below(place, name) else {})
            else:
                text.setdefault("tied", {})[name] = first
        return {key: part for key, part in text.items() if part or key in ("class", "arguments")}


def described(module: Module) -> tuple[dict[str, Any], dict[str, Cell]]:
    """How to build a module, and what is to be kept beside its state. CannotBeBuilt says why that is impossible."""
    builder = Builder()
    changes: dict[str, Any] = {}
    extra: dict[str, Cell] = {}
    text: dict[str, Any] = plain(module.recipe())
    try:
        twin = builder.module(text)
        seen: dict[int, tuple[str, Any]] = {}
        for path, name, value in _attributes(module):
            place, owner = _below(path, name), reached(twin, path)
            old = owner.__dict__.get(name, owner)
            if id(value) in seen:
                other, same = seen[id(value)]
                new = None if same is old else {"same": other}
            else:
                new = None if _alike(value, old, place) else {"new": plain(light(value))}
            if new is not None:
                changes[place] = new.get("new", new)
                with builder.making(place):
                    builder.change(twin, place, changes[place])
            if isinstance(value, Module | Cell):
                seen.setdefault(id(value), (place, owner.__dict__[name]))
            if isinstance(value, Buffer) and not value.persistent and not _same(value, owner.__dict__[name]):
                extra[place] = value
        text |= {"changes": changes, "removed": _removed(module, twin)}
        finish(twin, text)
    except NNBackendError as error:
        raise CannotBeBuilt(f"{type(module).__name__} could not be made again: {error}") from error
    text["order"] = {
        path: names for path, m in twin.named_modules() if (names := _contents(reached(module, path))) != _contents(m)
    }
    return text | {"extra": list(extra)} | standing(module, twin), extra


def _removed(module: Module, twin: Module) -> list[str]:
    """Places that the constructor fills, and that are not there any more."""
    removed: list[str] = []
    for path, m in twin.named_modules():
        if not any(f"{path}.".startswith(f"{place}.") for place in removed):
            here = reached(module, path).__dict__
            removed += [_below(path, name) for name in m.__dict__ if name not in here]
    return removed


def _contents(module: Module) -> list[str]:
    return [name for name, x in module.__dict__.items() if isinstance(x, Module | Cell)]


def standing(module: Module, twin: Module | None = None) -> dict[str, Any]:
    """Modes, frozen parameters, random addresses and counters: what a module has beside its structure and its state."""
    trained = {} if twin is None else {name: p.requires_grad for name, p in twin.named_parameters()}
    return {
        "evaluating": [name for name, m in module.named_modules() if not m._training],
        "requires_grad": {
            name: p.requires_grad for name, p in module.named_parameters() if p.requires_grad != trained.get(name, True)
        },
        "keys": {name: f"{m.key:032x}" for name, m in module.named_modules() if isinstance(m, RandomModule)},
        "numbers": {
            _below(path, name): x._value
            for path, m in module.named_modules()
            for name, x in m.__dict__.items()
            if isinstance(x, Scalar)
        },
    }


def _attributes(module: Module) -> Iterator[tuple[str, str, Any]]:
    """The path of a module below, an attribute of it and its value; parents come first."""
    for path, m in module.named_modules():
        for name, value in list(m.__dict__.items()):
            if name not in INTERNAL and not (name == "key" and isinstance(m, RandomModule)):
                yield path, name, value


def _alike(value: Any, old: Any, place: str) -> bool:
    """Whether an attribute is what the constructor makes."""
    if isinstance(value, Module):
        return isinstance(old, Module) and _kind(old) is _kind(value)
    if isinstance(value, Cell):
        return type(old) is type(value) and old.shape == value.shape and _persists(old) == _persists(value)
    if isinstance(value, Scalar):
        return isinstance(old, Scalar)
    if any(isinstance(part, Module | Cell) for part in leaves(value)):
        kind = "ModuleList" if any(isinstance(part, Module) for part in leaves(value)) else "ParameterList"
        raise CannotBeBuilt(f"{place} is a {type(value).__name__} with layers or parameters: use nn.{kind}")
    if is_array(value) and hasattr(type(value), "__setitem__"):
        if is_array(old) and _same(value, old):
            return True
        raise CannotBeBuilt(f"{place} is an array that the constructor does not make: use register_buffer")
    if isinstance(value, FunctionType):
        return isinstance(old, FunctionType) and old.__code__ is value.__code__
    try:
        plain(light(value))
    except CannotBeBuilt:
        return type(value) is type(old)
    return type(value) is type(old) and bool(value == old)


def _same(array: Any, old: Any) -> bool:
    raw, twin = (x.data if isinstance(x, Tensor) else x for x in (array, old))
    return (
        not is_hollow(twin)
        and namespace(raw) is namespace(twin)
        and (raw.shape, raw.dtype) == (twin.shape, twin.dtype)
        and bool(namespace(raw).all(raw == twin))
    )


def _kind(module: Module) -> Any:
    return getattr(module, "unparametrized", type(module))


def _persists(cell: Cell) -> bool:
    return getattr(cell, "persistent", True)


def plain(x: Any) -> Any:
    """A value without arrays as JSON. CannotBeBuilt if files cannot hold it."""
    if x is None or isinstance(x, bool | str):
        return x
    if isinstance(x, int | float):
        return x.item() if hasattr(x, "item") else x
    if isinstance(x, Recipe):
        return _recipe(x)
    if isinstance(x, Given):
        return {"array": list(x.shape), "dtype": x.dtype, "role": x.role}
    if isinstance(x, Lost):
        raise CannotBeBuilt(x.what)
    if isinstance(x, list):
        return [plain(part) for part in x]
    if isinstance(x, tuple):
        return {"tuple": [plain(part) for part in x]}
    if isinstance(x, dict):
        if all(isinstance(key, str) for key in x):
            return {"dict": {key: plain(part) for key, part in x.items()}}
        return {"pairs": [[plain(key), plain(part)] for key, part in x.items()]}
    if hasattr(x, "item") and not hasattr(type(x), "__setitem__"):  # a scalar of NumPy's
        return plain(x.item())
    if callable(x):
        if name := name_of(x):
            return {"name": name}
        raise CannotBeBuilt(f"{getattr(x, '__qualname__', x)}, which files cannot name")
    raise CannotBeBuilt(f"a {type(x).__name__}")


def _recipe(recipe: Recipe) -> dict[str, Any]:
    """A recipe with its arguments by name, but for where and for whom it is to be made."""
    without = ("device",) if issubclass(recipe.kind, Module) else ("params", "optimizer")
    name = name_of(recipe.kind)
    if name is None:
        raise CannotBeBuilt(f"{recipe.kind.__name__} is not registered: put @nb.register before the class")
    bound = inspect.signature(recipe.kind).bind(*recipe.args, **recipe.kw)
    return {
        "class": name,
        "arguments": {key: _argument(recipe, key, x) for key, x in bound.arguments.items() if key not in without},
    }


def _argument(recipe: Recipe, name: str, x: Any) -> Any:
    try:
        return plain(x)
    except CannotBeBuilt as error:
        raise CannotBeBuilt(f"{recipe.kind.__name__}, argument {name}: {error}") from error


def _below(place: str, name: Any) -> str:
    return f"{place}.{name}" if place else str(name)
