"""Layers of layers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, overload

from ..backend import DeviceLike
from .activation import activation as make_activation
from .dropout import Dropout
from .linear import Linear
from .module import Module


class ModuleList(Module):
    """A list of modules, named by their place. It has no forward of its own."""

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        for module in modules:
            self.append(module)

    def append(self, module: Module) -> ModuleList:
        """Add one at the end; returns the list."""
        self._place(str(len(self)), module)
        return self

    def _place(self, name: str, module: Module) -> None:
        if not isinstance(module, Module):
            raise TypeError(f"{type(self).__name__}: expected modules, got {type(module).__name__}.")
        setattr(self, name, module)

    def __len__(self) -> int:
        return len(self._children())

    def __iter__(self) -> Iterator[Module]:
        return self.children()

    @overload
    def __getitem__(self, i: int) -> Module: ...
    @overload
    def __getitem__(self, i: slice) -> ModuleList: ...
    def __getitem__(self, i: int | slice) -> Module:
        """One module, or some of them as a list of the same kind; they keep their paths."""
        items = list(self._children().values())
        if not isinstance(i, slice):
            return items[i]
        part = Sequential() if isinstance(self, Sequential) else ModuleList()
        part.__dict__.update((str(n), module) for n, module in enumerate(items[i]))
        return part

    def __setitem__(self, i: int, module: Module) -> None:
        self._place(list(self._children())[i], module)


class Sequential(ModuleList):
    """Modules one after the other: `Sequential(Linear(2, 4), Sigmoid())`."""

    def __init__(self, *modules: Module) -> None:
        super().__init__(modules)

    def forward(self, x: Any) -> Any:
        """The output of each is the input of the next."""
        for module in tuple(self.__dict__.values()):  # another thread may set the training flag meanwhile
            if isinstance(module, Module):
                x = module(x)
        return x


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
        super().__init__()
        last = len(sizes) - 2
        for i, (n_in, n_out) in enumerate(itertools.pairwise(sizes)):
            self.append(Linear(n_in, n_out, device=device, dtype=dtype))
            after = activation if i < last else output
            if after is not None:
                self.append(make_activation(after))
            if dropout and i < last:
                self.append(Dropout(dropout))


__all__ = ["MLP", "ModuleList", "Sequential"]
