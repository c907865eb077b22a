"""How objects were made, so that a file can say how to make them again; and making them without their weights."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeVar

from .backend import NUMPY, Array, dtype_name, is_array
from .errors import DTypeError, UnsafeFileError

Class = TypeVar("Class", bound=type)


class Given(NamedTuple):
    """Stands for an array among the arguments. Its values are not kept: what a layer needs of them is in its state."""

    shape: tuple[int, ...]
    dtype: str
    role: str  # "parameter", "buffer", "unsaved buffer", "tensor" or "array"


class Lost(NamedTuple):
    """Stands for an argument that no file can hold."""

    what: str


class Recipe(NamedTuple):
    """A class and the arguments of its constructor, in which recipes, Given and Lost stand for what is not plain."""

    kind: type
    args: tuple[Any, ...]
    kw: dict[str, Any]

    def without(self, name: str) -> Recipe:
        """The same but for an argument."""
        given = inspect.signature(self.kind).bind_partial(*self.args, **self.kw).arguments
        return Recipe(self.kind, (), {key: x for key, x in given.items() if key != name})

    def __deepcopy__(self, memo: dict[int, Any]) -> Recipe:
        return self


class Remembers:
    """Base of what can be made again: an object remembers its arguments, but holds on to no array and no module."""

    _recipe: Recipe

    def __new__(cls, *args: Any, **kw: Any) -> Any:
        """Note the arguments."""
        if (budget := hollow.get()) is not None:
            budget.spend()
        make = super().__new__  # object's, or that of another base
        self = make(cls) if make is object.__new__ else make(cls, *args, **kw)
        self.__dict__["_recipe"] = Recipe(cls, tuple(map(light, args)), {name: light(x) for name, x in kw.items()})
        return self

    def _own_recipe(self) -> Recipe:
        """How to make it again."""
        return self._recipe


def light(value: Any) -> Any:
    """What a recipe keeps of an argument."""
    if value is None or (isinstance(value, bool | int | float | str | Recipe) and not is_number(value)):
        return value
    if isinstance(value, Remembers):
        return value._own_recipe()
    if isinstance(value, tuple | list):
        return [light(part) for part in value] if isinstance(value, list) else tuple(map(light, value))
    if isinstance(value, Mapping):
        return {name: light(part) for name, part in value.items()}
    if is_tensor(value):
        return Given(tuple(value.shape), dtype_name(value.dtype), _role(value))
    if is_number(value):
        return light(value.item())
    if isinstance(value, type) or hasattr(value, "itemsize"):
        with suppress(DTypeError):
            return dtype_name(value)
    if callable(value):
        return value if findable(value) else Lost(f"the function {getattr(value, '__qualname__', value)}")
    return Lost(f"a {type(value).__name__}")


def is_tensor(value: Any) -> bool:
    """Whether it is an array or a tensor, with no dimensions too, but not a scalar of NumPy's."""
    return is_array(value) and hasattr(type(value), "__setitem__")


def is_number(value: Any) -> bool:
    """Whether it is a scalar of NumPy's."""
    return hasattr(type(value), "dtype") and hasattr(value, "item") and not hasattr(type(value), "__setitem__")


def _role(array: Any) -> str:
    """What an array is in our eyes."""
    if hasattr(array, "initialiser"):
        return "parameter"
    if hasattr(array, "persistent"):
        return "buffer" if array.persistent else "unsaved buffer"
    return "tensor" if hasattr(array, "requires_grad") else "array"


def findable(value: Any) -> bool:
    """Whether a function or class is what its module has by its name, or is one of ours."""
    module, name = getattr(value, "__module__", None) or "", getattr(value, "__qualname__", "")
    ours = module.partition(".")[0] == __name__.partition(".")[0] and name.isidentifier()
    return ours or (name != "" and getattr(sys.modules.get(module), name, None) is value)


# -- classes that files may name ------------------------------------------------------------------------------------

registered: dict[str, type] = {}


def register(name: str | Class) -> Any:
    """Let `nb.load` build layers of this class: `@nb.register`, or with a name to go by, `@nb.register("my.Net")`.

    The constructor is then called with arguments from files: numbers, text, layers, and lists, tuples and dicts of
    these, or arrays of the right shape and no meaning. ValueError if the name is taken by another class, or reserved.
    """
    if isinstance(name, str):
        return lambda kind: _registered(name, kind)
    return _registered(getattr(name, "__name__", ""), name)


def _registered(name: str, kind: Class) -> Class:
    if not isinstance(kind, type):
        raise TypeError(f"register: expected a class, got {kind!r}. Put @nb.register before a class.")
    if name.partition(".")[0] in ROOMS or not name:
        rooms = ", ".join(ROOMS)
        raise ValueError(f"register: expected a name that does not begin with {rooms}, got {name!r}. Choose another.")
    known = registered.get(name, kind)
    if (known.__module__, known.__qualname__) != (kind.__module__, kind.__qualname__):  # a notebook's cell runs twice
        raise ValueError(
            f"register: expected a name of its own for {kind.__module__}.{kind.__qualname__}, got {name!r}, which is "
            f'{known.__module__}.{known.__qualname__}. Use @nb.register("another name").'
        )
    registered[name] = kind
    return kind


ROOMS = ("nn", "optim", "functional", "array", "metrics", "data")  # names that begin with one of these are ours


# -- making without weights -----------------------------------------------------------------------------------------


class Budget:
    """How many layers and tensors may be made: a file cannot ask for more than it could have weights for."""

    def __init__(self, limit: int) -> None:
        self.limit, self.spent = limit, 0

    def spend(self) -> None:
        """UnsafeFileError if there is none left."""
        self.spent += 1
        if self.spent > self.limit:
            raise UnsafeFileError(f"expected at most {self.limit} layers and tensors, got more. Do not trust the file.")


# Inside, new parameters are as large as they should be, and take no memory: there is one number in them.
hollow: ContextVar[Budget | None] = ContextVar("nnbackend.hollow", default=None)


def hollow_array(shape: tuple[int, ...], dtype: Any) -> Array:
    """A zero that looks like an array of this shape. It counts."""
    if (budget := hollow.get()) is not None:
        budget.spend()
    return NUMPY.xp.broadcast_to(NUMPY.xp.zeros((), dtype=dtype_name(dtype)), shape)


def is_hollow(array: Array) -> bool:
    """Whether it is one that cannot be written to."""
    return isinstance(array, NUMPY.xp.ndarray) and not array.flags.writeable
