"""Layers of layers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any, TypeVar

from ..backend import DeviceLike, is_array
from ..cells import Parameter
from ..recipe import Recipe, light
from .activation import activation as make_activation
from .dropout import Dropout
from .linear import Linear
from .module import Module

Items = TypeVar("Items", bound="_List")


class _Holder(Module):
    """Values of one kind, which are its attributes."""

    _kind: type

    def _items(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if isinstance(value, self._kind)}

    def __len__(self) -> int:
        return len(self._items())

    def _own_recipe(self) -> Recipe:
        """One of the classes below is made of what it holds now."""
        kind, items = type(self), {name: light(value) for name, value in self._items().items()}
        if kind not in (Sequential, ModuleList, ModuleDict, ParameterList, ParameterDict):
            return super()._own_recipe()
        if not isinstance(self, _List) or list(items) != [str(i) for i in range(len(items))]:
            return Recipe(kind, (items,), {})
        return Recipe(kind, (*items.values(),) if kind is Sequential else ([*items.values()],), {})


class _List(_Holder):
    """Values in order, named by their place."""

    _what: str

    def _take(self, value: Any) -> Any:
        """The value as it is held. TypeError if it cannot be."""
        if not isinstance(value, self._kind):
            raise TypeError(f"{type(self).__name__}: expected {self._what}, got {type(value).__name__}.")
        return value

    def _refill(self, values: Iterable[Any]) -> None:
        """Hold these instead, each at its place."""
        ready = [self._take(value) for value in values]
        for name in self._items():
            delattr(self, name)
        for i, value in enumerate(ready):
            setattr(self, str(i), value)

    def _name(self, i: int) -> str:
        return list(self._items())[i]

    def append(self: Items, value: Any) -> Items:
        """Add one at the end; returns the list."""
        setattr(self, str(len(self)), self._take(value))
        return self

    def extend(self: Items, values: Iterable[Any]) -> Items:
        """Add some at the end; returns the list."""
        for i, value in enumerate([self._take(value) for value in values], len(self)):
            setattr(self, str(i), value)
        return self

    def __iadd__(self: Items, values: Iterable[Any]) -> Items:
        return self.extend(values)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items().values())

    def __getitem__(self, i: int | slice) -> Any:
        """One, or some of them as a list of the same kind; they keep their paths."""
        items = list(self._items().values())
        if not isinstance(i, slice):
            return items[i]
        part = self._empty()
        part.__dict__.update((str(n), value) for n, value in enumerate(items[i]))
        return part

    def __setitem__(self, i: int, value: Any) -> None:
        setattr(self, self._name(i), self._take(value))

    def _empty(self) -> _List:
        return type(self)()


class ModuleList(_List):
    """A list of modules, named by their place. It has no forward of its own."""

    _kind, _what = Module, "modules"

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        self.extend(modules)

    def insert(self: Items, i: int, module: Module) -> Items:
        """Add one before place `i`; those behind it move up. Returns the list."""
        modules = list(self)
        modules.insert(i, module)
        self._refill(modules)
        return self

    def pop(self, i: int = -1) -> Module:
        """Take one out; those behind it move down."""
        modules = list(self)
        module: Module = modules.pop(i)
        self._refill(modules)
        return module

    def __delitem__(self, i: int | slice) -> None:
        modules = list(self)
        del modules[i]
        self._refill(modules)

    def _empty(self) -> ModuleList:
        return ModuleList()


class Sequential(ModuleList):
    """Modules one after the other: `Sequential(Linear(2, 4), Sigmoid())`, or by name: `Sequential({"fc": ...})`."""

    def __init__(self, *modules: Module | Mapping[str, Module]) -> None:
        first = modules[0] if len(modules) == 1 else None
        if isinstance(first, Mapping) and not isinstance(first, Module):
            for name, module in first.items():
                self.add_module(name, module)
        else:
            self.extend(modules)

    def forward(self, x: Any) -> Any:
        """The output of each is the input of the next."""
        for module in tuple(self.__dict__.values()):  # another thread may set the training flag meanwhile
            if isinstance(module, Module):
                x = module(x)
        return x

    def _empty(self) -> Sequential:
        return Sequential()


class ParameterList(_List):
    """A list of parameters, named by their place. Tensors and arrays become parameters."""

    _kind, _what = Parameter, "parameters, tensors or arrays"

    def __init__(self, values: Iterable[Any] = ()) -> None:
        self.extend(values)

    def _take(self, value: Any) -> Any:
        return _parameter(self, value)


class _Dict(_Holder, MutableMapping[str, Any]):
    """Values by name, in the order in which they came."""

    def __getitem__(self, name: str) -> Any:
        return self._items()[name]

    def __delitem__(self, name: str) -> None:
        self[name]  # KeyError if it is not there
        delattr(self, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._items())

    def __contains__(self, name: object) -> bool:
        return name in self._items()

    __eq__, __hash__ = object.__eq__, object.__hash__


class ModuleDict(_Dict):
    """Modules by name. It has no forward of its own."""

    _kind = Module

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] = ()) -> None:
        self.update(modules)

    def __setitem__(self, name: str, module: Module) -> None:
        self.add_module(name, module)


class ParameterDict(_Dict):
    """Parameters by name. Tensors and arrays become parameters."""

    _kind = Parameter

    def __init__(self, parameters: Mapping[str, Any] | Iterable[tuple[str, Any]] = ()) -> None:
        self.update(parameters)

    def __setitem__(self, name: str, value: Any) -> None:
        self.register_parameter(name, _parameter(self, value))


class Residual(Module):
    """x + module(x) (He et al. 2015)."""

    def __init__(self, module: Module) -> None:
        self.module = module

    def forward(self, x: Any) -> Any:
        """A shape that the module keeps."""
        return x + self.module(x)


def _parameter(owner: Module, value: Any) -> Parameter:
    if not isinstance(value, Parameter) and not is_array(value):
        name = type(owner).__name__
        raise TypeError(f"{name}: expected parameters, tensors or arrays, got {type(value).__name__}.")
    return value if isinstance(value, Parameter) else Parameter(value)


class MLP(Sequential):
    """Linear layers of these `sizes` with an activation between them: `MLP([4, 5, 10, 3], "sigmoid")`.

    `output` names an activation after the last layer (none by default: losses take logits); `dropout` is a probability
    after each hidden activation.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        activation: str | Callable[[], Module] = "relu",
        output: str | Callable[[], Module] | None = None,
        dropout: float = 0.0,
        device: DeviceLike = "cpu",
        dtype: Any = "float32",
    ) -> None:
        if len(sizes) < 2:
            raise ValueError(f"MLP: expected at least the sizes of input and output, got {list(sizes)}.")
        layers: list[Module] = []
        last = len(sizes) - 2
        for i, (n_in, n_out) in enumerate(itertools.pairwise(sizes)):
            layers.append(Linear(n_in, n_out, device=device, dtype=dtype))
            after = activation if i < last else output
            if after is not None:
                layers.append(make_activation(after))
            if dropout and i < last:
                layers.append(Dropout(dropout))
        super().__init__(*layers)


__all__ = ["MLP", "ModuleDict", "ModuleList", "ParameterDict", "ParameterList", "Residual", "Sequential"]
