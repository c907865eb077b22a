"""Tensors of a layer that are computed from others: `layer.weight` becomes a function of what is trained instead.

The layer gets a class of its own, a subclass in which such a tensor is a property. What it is computed from lives in
`layer.parametrizations.<name>`: the originals, and the module that makes the tensor of them.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from ...cells import Buffer, Cell, Parameter
from ...grad_mode import no_grad
from ...random import generator, site_of
from ...tensor import Tensor
from ..module import Module

ENTRIES = "parametrizations"


class ParametrizationList(Module):
    """The originals of one tensor, `original` or `original0`, `original1`, ..., and the module `0` that uses them."""

    def __init__(self, parametrization: Module, cell: Cell) -> None:
        setattr(self, "0", parametrization)
        values = self._inverse(Tensor(cell.data))
        self.names = [f"original{i}" for i in range(len(values))] if len(values) > 1 else ["original"]
        self.shape, self.initialiser = cell.shape, getattr(cell, "initialiser", None)
        for name, value in zip(self.names, values, strict=True):
            original = _like(cell, value)
            if isinstance(cell, Parameter) and cell.fresh:
                original.drawn_at = original.written
            setattr(self, name, original)

    @property
    def originals(self) -> list[Any]:
        """What the tensor is computed from."""
        return [getattr(self, name) for name in self.names]

    def forward(self) -> Any:
        """The tensor."""
        return getattr(self, "0")(*self.originals)

    def assign(self, value: Any) -> None:
        """Change the originals so that the tensor is `value`."""
        for original, new in zip(self.originals, self._inverse(value), strict=True):
            original.assign(new)

    def start_over(self, key: int, only_fresh: bool = False) -> None:
        """Draw the tensor as its layer would."""
        originals = self.originals
        if self.initialiser is not None and not (only_fresh and any(not p.fresh for p in originals)):
            host = self.initialiser(generator(key, site_of(self.path.replace(f"{ENTRIES}.", ""))), self.shape)
            self.assign(Tensor(originals[0].device.put(host.astype(originals[0].dtype))))
            for p in originals:
                p.drawn_at = p.written

    def _inverse(self, value: Any) -> tuple[Any, ...]:
        inverse = getattr(getattr(self, "0"), "right_inverse", lambda value: value)
        with no_grad():
            values = inverse(value)
        return values if isinstance(values, tuple) else (values,)


def register_parametrization(module: Module, tensor_name: str, parametrization: Module) -> Module:
    """From now on `module.<tensor_name>` is what `parametrization` makes of its original; returns the module.

    `parametrization.right_inverse(value)`, if there is one, says which original, or tuple of them, gives a value.
    """
    cell = module.__dict__.get(tensor_name)
    if not isinstance(cell, Cell):
        again = " again" * is_parametrized(module, tensor_name)
        raise ValueError(f"{type(module).__name__}: expected the name of a parameter, got {tensor_name!r}{again}.")
    entry = ParametrizationList(parametrization, cell)
    delattr(module, tensor_name)
    if not is_parametrized(module):
        setattr(module, ENTRIES, Module())
    setattr(getattr(module, ENTRIES), tensor_name, entry)
    reclass(module)
    return module


def is_parametrized(module: Module, tensor_name: str | None = None) -> bool:
    """Whether this tensor of it, or any, is computed from others."""
    names = _names(module)
    return bool(names) if tensor_name is None else tensor_name in names


def remove_parametrizations(module: Module, tensor_name: str, leave_parametrized: bool = True) -> Module:
    """Make the tensor a parameter again, with its present value; otherwise with that of its only original."""
    if not is_parametrized(module, tensor_name):
        raise ValueError(f"{type(module).__name__}: expected a parametrized tensor, got {tensor_name!r}.")
    entries = getattr(module, ENTRIES)
    entry: ParametrizationList = getattr(entries, tensor_name)
    first = entry.originals[0]
    if not leave_parametrized and len(entry.names) > 1:
        raise ValueError("remove_parametrizations: expected leave_parametrized=True where there are several originals.")
    with no_grad():
        value = entry() if leave_parametrized else first
    delattr(entries, tensor_name)
    if not is_parametrized(module):
        delattr(module, ENTRIES)
    reclass(module)
    tensor = _like(first, value)
    if entry.initialiser is not None:
        tensor.initialiser = entry.initialiser
    setattr(module, tensor_name, tensor)
    return module


def _like(cell: Cell, value: Any) -> Any:
    """A cell of the same kind."""
    return Parameter(value, requires_grad=cell.requires_grad) if isinstance(cell, Parameter) else Buffer(value)


def _names(module: Module) -> tuple[str, ...]:
    """What is parametrized."""
    entries = module.__dict__.get(ENTRIES)
    return () if entries is None else tuple(name for name, _ in entries.named_children())


def reclass(module: Module) -> None:
    """Give the module the class with a property for each of its parametrized tensors."""
    base: Any = getattr(module, "unparametrized", type(module))
    object.__setattr__(module, "__class__", _class(base, _names(module)))


@cache
def _class(base: Any, names: tuple[str, ...]) -> Any:
    if not names:
        return base
    members = {"unparametrized": base, "__reduce__": _reduced, "__doc__": base.__doc__, "__module__": base.__module__}
    return type(f"Parametrized{base.__name__}", (base,), {**members, **{name: _computed(name) for name in names}})


def _computed(name: str) -> property:
    return property(
        lambda self: getattr(getattr(self, ENTRIES), name)(),
        lambda self, value: getattr(getattr(self, ENTRIES), name).assign(value),
    )


def _reduced(self: Any) -> Any:
    """Copies and pickles find the class by what it is made of."""
    return _new, (self.unparametrized, _names(self)), self.__dict__


def _new(base: Any, names: tuple[str, ...]) -> Any:
    cls = _class(base, names)
    return cls.__new__(cls)


__all__ = ["ParametrizationList", "is_parametrized", "register_parametrization", "remove_parametrizations"]
