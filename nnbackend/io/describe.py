"""Values as JSON and arrays: what `nb.save` writes. `build` is the way back.

A layer is described by its recipe, and by what has changed since. To find that, it is made once more from the
description, without weights: so what has been saved can be built.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from types import FunctionType, MethodType
from typing import Any

from ..backend import dtype_name, is_array, namespace
from ..cells import Buffer, Cell, Scalar
from ..errors import DataError, DTypeError, NNBackendError
from ..nn import Module, RandomModule
from ..recipe import Given, Lost, Recipe, is_hollow, is_number, is_tensor, light, registered
from ..recorder import unrecorded
from ..tensor import Tensor
from ..tree import leaves
from .build import INTERNAL, Builder, finish, reached, signature, usual_path
from .header import require_sane
from .names import Encoder, name_of
from .states import remembers, state_of

STORED = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "bool": "BOOL",
    "int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8",
    "uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8",
}  # fmt: skip
_LARGEST = 10**79  # integers that readers take
_MISSING = object()


class CannotBeBuilt(Exception):
    """Why a file can hold the weights of a layer, but not how to make it."""


class Description:
    """A value as JSON, `text`, and the arrays in it by name; `made` is how many layers and tensors the JSON makes."""

    def __init__(self, value: Any) -> None:
        self.arrays: dict[str, Any] = {}
        self.made = 0
        with unrecorded():
            try:
                self.text = self.value(value, "")
            except RecursionError:
                raise DataError("save: expected values inside of each other, got endless ones. Flatten them.") from None

    def value(self, x: Any, place: str) -> Any:
        """A value at a dotted place. TypeError if it is not of a kind that files can hold."""
        if x is None or isinstance(x, bool | int | float | str):
            return _json(x, place)
        if isinstance(x, Module):
            return {"module": self.module(x, place), "at": place}
        if is_tensor(x):
            return {"tensor": self.keep(x.data if isinstance(x, Tensor) else x, place)}
        if isinstance(x, list):
            return [self.value(part, _below(place, i)) for i, part in enumerate(x)]
        if isinstance(x, tuple):
            return {"tuple": [self.value(part, _below(place, i)) for i, part in enumerate(x)]}
        if isinstance(x, dict):
            if all(isinstance(key, str) for key in x):
                return {"dict": {key: self.value(part, _below(place, key)) for key, part in x.items()}}
            return {"pairs": [[_json(key, place), self.value(part, _below(place, key))] for key, part in x.items()]}
        if isinstance(x, Encoder) and (name := name_of(type(x))):
            return {"class": name, "state": self.value(x.state(), place)}
        if remembers(x):
            return {"remembered": self.value(state_of(x), place)}
        return _json(x, place)

    def keep(self, array: Any, place: str) -> str:
        """Note an array; returns its name."""
        try:
            known = dtype_name(array.dtype) in STORED
        except DTypeError:
            known = False
        if not known:
            raise DTypeError(f"{place or 'save'}: expected numbers, got an array of {array.dtype}. Convert it first.")
        first = sane(place or "tensor")
        name, n = first, 2
        while name in self.arrays:
            name, n = f"{first}#{n}", n + 1
        self.arrays[name] = array
        return name

    def module(self, module: Module, place: str) -> dict[str, Any]:
        """How to build a module. If nobody can, its weights are kept, and the reason."""
        extra: dict[str, Cell] = {}
        builder = Builder()
        try:
            text = described(module, builder, extra)
            self.made += builder.budget.spent
        except (CannotBeBuilt, RecursionError) as error:
            extra = {name: cell for name, cell in module._named_cells(Buffer) if not cell.persistent}
            text = {"weights_only": str(error), "extra": list(extra), **standing(module)}
        seen: dict[int, str] = {}
        for name, cell in {**module._stored(), **extra}.items():
            first = seen.setdefault(id(cell), name)
            if first == name:
                kept = self.keep(cell.array, _below(place, name))
                text.setdefault("renamed", {}).update({name: kept} if kept != _below(place, name) else {})
            else:
                text.setdefault("tied", {})[name] = first
        return {key: part for key, part in text.items() if part or key in ("class", "arguments")}


def sane(place: str) -> str:
    """A name for a tensor: the place, or something like it that everybody's reader takes."""
    try:
        require_sane(place, (), DataError)
    except DataError:
        return "tensor." + re.sub(r"[\0\ud800-\udfff/\\]", "_", place)
    return place


# -- modules ----------------------------------------------------------------------------------------------------------


def described(module: Module, builder: Builder, extra: dict[str, Cell]) -> dict[str, Any]:
    """How to build a module; notes what is to be kept beside its state. CannotBeBuilt says why that is impossible."""
    text: dict[str, Any] = plain(module._own_recipe())
    try:
        twin = builder.module(text)
        text["changes"] = _changed(module, twin, builder, extra)
        text["removed"] = _removed(module, twin)
        with builder.making(text["class"]):
            finish(twin, text)
        text["order"] = {
            path: names
            for path, m in twin.named_modules()
            if (names := _contents(reached(module, path))) != _contents(m)
        }
        with builder.making(text["class"]):
            finish(twin, {"order": text["order"]})
    except NNBackendError as error:
        raise CannotBeBuilt(f"{type(module).__name__} could not be made again: {error}") from error
    return text | {"extra": list(extra)} | standing(module, twin)


def _changed(module: Module, twin: Module, builder: Builder, extra: dict[str, Cell]) -> dict[str, Any]:
    """What is not as in the twin, by place, and makes it so."""
    changes: dict[str, Any] = {}
    known: dict[int, tuple[str, Any]] = {}  # layers and cells: their first place, and those of the twin
    used: set[int] = set()  # those of the twin
    for path, name, value in _attributes(module):
        place, owner = _below(path, name), reached(twin, path)
        old = owner.__dict__.get(name, _MISSING)
        if id(value) in known:
            other, same = known[id(value)]
            if same is not old:
                changes[place] = {"same": other}
        elif id(old) in used or not _alike(value, old, place):
            changes[place] = _new(value, place)
        if place in changes:
            with builder.making(place):
                builder.change(twin, place, changes[place])
        now = owner.__dict__[name]
        if isinstance(value, Module | Cell):
            known.setdefault(id(value), (place, now))
            used.add(id(now))
        elif not isinstance(value, Scalar) and not _equal(value, now):
            raise CannotBeBuilt(f"{place} is a {type(value).__name__}, which files cannot hold")
        if isinstance(value, Buffer) and not value.persistent and not _same(value, now):
            extra[place] = value
    return changes


def _removed(module: Module, twin: Module) -> list[str]:
    """Places that the constructor fills, and that are not there any more."""
    removed: list[str] = []
    for path, m in twin.named_modules():
        if not any(f"{path}.".startswith(f"{place}.") for place in removed):
            here = reached(module, path).__dict__
            removed += [_below(path, name) for name in m.__dict__ if name not in here and name not in INTERNAL]
    return removed


def _contents(module: Module) -> list[str]:
    return [name for name, x in module.__dict__.items() if isinstance(x, Module | Cell)]


def standing(module: Module, twin: Module | None = None) -> dict[str, Any]:
    """Modes, frozen parameters, random addresses and counters: what a module has beside its structure and its state."""
    trained = {} if twin is None else {name: p.requires_grad for name, p in twin.named_parameters()}
    modules = dict(module.named_modules())
    return {
        "evaluating": [name for name, m in modules.items() if not m._training],
        "requires_grad": {
            name: p.requires_grad
            for name, p in module.named_parameters()
            if not (p.requires_grad and trained.get(name, True))
        },
        "paths": {name: m.path for name, m in modules.items() if m.path != usual_path(modules, name)},
        "keys": {name: f"{m.key:032x}" for name, m in modules.items() if isinstance(m, RandomModule)},
        "numbers": {
            _below(path, name): plain(light(x._value))
            for path, m in modules.items()
            for name, x in m.__dict__.items()
            if isinstance(x, Scalar)
        },
        "settings": {}
        if twin is not None
        else {  # else they are in the recipe, or in the changes
            _below(path, name): x for path, name, x in _attributes(module) if type(x) in (bool, int, float, str)
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
    try:
        return _equal(value, old)
    except CannotBeBuilt as error:
        raise CannotBeBuilt(f"{place} is a {type(value).__name__} with {error}: make them attributes") from None


def _new(value: Any, place: str) -> Any:
    """A new value of an attribute as JSON."""
    if any(is_tensor(part) and not isinstance(part, Cell) for part in leaves(value)):
        raise CannotBeBuilt(f"{place} is an array that the constructor does not make: use register_buffer")
    try:
        return plain(light(value))
    except CannotBeBuilt as error:
        raise CannotBeBuilt(f"{place} is {error}") from error


def _equal(a: Any, b: Any) -> bool:
    """Whether settings are the same, as far as can be seen."""
    a, b = _simple(a), _simple(b)
    if a is b:
        return True
    if isinstance(a, Module | Cell | Scalar):
        raise CannotBeBuilt("layers or parameters inside")
    if is_array(a) and is_array(b):
        return _same(a, b)
    if type(a) is not type(b):
        return False
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(_equal, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(_equal(part, b[key]) for key, part in a.items())
    if isinstance(a, float):
        return repr(a) == repr(b)
    if isinstance(a, FunctionType):
        return a.__code__ is b.__code__ and _equal(_inside(a), _inside(b))
    if isinstance(a, MethodType):
        return a.__func__ is b.__func__ and (isinstance(a.__self__, Module) or _equal(a.__self__, b.__self__))
    kind: Any = type(a)
    if kind.__eq__ is not object.__eq__:
        with suppress(Exception):  # such as that of a dataclass with arrays
            return bool(a == b)
        return False
    return _equal(_made_of(a), _made_of(b))


def _simple(x: Any) -> Any:
    """A scalar of NumPy's as Python's, a dtype by its name."""
    return light(x) if is_number(x) or (hasattr(x, "itemsize") and not is_array(x)) else x


def _made_of(x: Any) -> Any:
    """What a copy of an object would be made of; slots and the insides of a `functools.partial` are part of it."""
    try:
        return x.__reduce_ex__(2)
    except Exception:  # such as a lock
        return getattr(x, "__dict__", None)


def _inside(function: FunctionType) -> list[Any]:
    """What a function has of its surroundings."""
    return [
        function.__defaults__,
        function.__kwdefaults__,
        *(cell.cell_contents for cell in function.__closure__ or ()),
    ]


def _same(array: Any, old: Any) -> bool:
    raw, twin = (x.data if isinstance(x, Tensor) else x for x in (array, old))
    return (
        not is_hollow(twin)
        and namespace(raw) is namespace(twin)
        and (raw.shape, raw.dtype) == (twin.shape, twin.dtype)
        and bool(namespace(raw).all((raw == twin) | ((raw != raw) & (twin != twin))))
    )


def _kind(module: Module) -> Any:
    return getattr(module, "unparametrized", type(module))


def _persists(cell: Cell) -> bool:
    return getattr(cell, "persistent", True)


# -- plain values -----------------------------------------------------------------------------------------------------


def _json(x: Any, place: str) -> Any:
    """A value at a place, which has neither arrays nor layers. TypeError if files cannot hold it."""
    try:
        return plain(x)
    except CannotBeBuilt as error:
        raise TypeError(
            f"{place or 'save'}: expected models, tensors, encoders, numbers, text, and lists, tuples and dicts of "
            f"them, got {error}. Leave it out, or convert it."
        ) from None


def plain(x: Any) -> Any:
    """A value without arrays as JSON. CannotBeBuilt if files cannot hold it."""
    if is_number(x):
        return plain(x.item())
    if isinstance(x, int) and abs(x) >= _LARGEST:
        raise CannotBeBuilt("an integer of 80 digits or more")
    if x is None or isinstance(x, bool | str | int | float):
        return x
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
    if callable(x):
        if name := name_of(x):
            return {"name": name}
        raise CannotBeBuilt(f"{getattr(x, '__qualname__', x)}, which files cannot name")
    raise CannotBeBuilt(f"a {type(x).__name__}")


def _recipe(recipe: Recipe) -> dict[str, Any]:
    """A recipe with its arguments by name, but for where it is to be made."""
    kind = recipe.kind
    name = name_of(kind)
    if name is None:
        again = registered.get(kind.__name__)
        is_old = again is not None and (again.__module__, again.__qualname__) == (kind.__module__, kind.__qualname__)
        fix = "defined again since this one was made: make a new one" if is_old else "not registered"
        raise CannotBeBuilt(f"{kind.__name__} is {fix}{'' if is_old else ': put @nb.register before the class'}")
    given = signature(kind).bind_partial(*recipe.args, **recipe.kw).arguments
    for key, parameter in signature(kind).parameters.items():
        if key == "device" and given.pop(key, None) is not None and parameter.default is parameter.empty:
            given[key] = "cpu"
        elif parameter.kind is parameter.VAR_KEYWORD and key in given:
            given[key] = {word: x for word, x in given[key].items() if word != "device"}
    return {"class": name, "arguments": {key: _argument(recipe, key, x) for key, x in given.items()}}


def _argument(recipe: Recipe, name: str, x: Any) -> Any:
    try:
        return plain(x)
    except CannotBeBuilt as error:
        raise CannotBeBuilt(f"{recipe.kind.__name__}, argument {name}: {error}") from error


def _below(place: str, name: Any) -> str:
    return f"{place}.{name}" if place else str(name)
