"""ParamGroup: parameters and the settings they share."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from ..backend import is_array
from ..cells import Parameter, Scalar, structure
from ..ops.core import NUMBERS
from ..tensor import Tensor
from .limits import LIMITS, Limit, expect, seen


class ParamGroup(MutableMapping[str, Any]):
    """Parameters and the settings they share: `optimizer.param_groups[0]["lr"] = 0.01`. Any step may change numbers."""

    def __init__(
        self, params: list[Parameter], settings: Mapping[str, Any], limits: Mapping[str, Limit] = LIMITS
    ) -> None:
        self.params, self.limits = params, limits
        self._settings: dict[str, Any] = {}
        self.update(settings)

    def __getitem__(self, name: str) -> Any:
        value: Any = self.params if name == "params" else self._settings[name]
        kind = value.__class__
        if kind is tuple:
            return tuple([part.value if part.__class__ is Scalar else part for part in value])
        return value.value if kind is Scalar else value

    def __setitem__(self, name: str, value: Any) -> None:
        if name == "params":
            raise TypeError("param_groups: expected the parameters to stay. Use add_param_group.")
        value = _plain(name, value)
        if name in self.limits:
            expect(name, value, self.limits[name])
        old = self._settings.get(name)
        if isinstance(old, Scalar) and _is_number(value):
            if name != "lr" and bool(seen(value)) != bool(seen(old.value)):  # a rule may do without what is 0
                structure.changed()
            old.value = value
        elif isinstance(old, tuple) and isinstance(value, tuple) and _kinds(old) == _kinds(value):
            for cell, part in zip(old, value, strict=True):
                if isinstance(cell, Scalar):
                    cell.value = part
        else:
            self._settings[name] = _stored(name, value)
            structure.changed()

    def __delitem__(self, name: str) -> None:
        raise TypeError(f"param_groups: expected settings to stay, got del {name!r}.")

    def __iter__(self) -> Iterator[str]:
        return iter(("params", *self._settings))

    def __len__(self) -> int:
        return 1 + len(self._settings)

    def settings(self) -> dict[str, Any]:
        """All but the parameters, as plain values."""
        return {name: self[name] for name in self._settings}


def _plain(name: str, value: Any) -> Any:
    """Lists as tuples, and arrays of one element as the number they hold."""
    if type(value) in NUMBERS:
        return value
    if isinstance(value, list | tuple):
        return tuple([_plain(name, part) for part in value])
    if not is_array(value) and not isinstance(value, Tensor):
        return value
    if math.prod(value.shape) != 1:
        raise ValueError(f"{name}: expected a number, got an array of shape {tuple(value.shape)}.")
    return value.item()


def _is_number(value: Any) -> bool:
    return (isinstance(value, int | float) or type(value) in NUMBERS) and not isinstance(value, bool)


def _kinds(values: tuple[Any, ...]) -> list[bool]:
    return [isinstance(v, Scalar) or _is_number(v) for v in values]


def _stored(name: str, value: Any) -> Any:
    """Numbers, also those in a tuple, go to cells: programs see them change."""
    if isinstance(value, tuple):
        return tuple([_stored(f"{name.removesuffix('s')}{i}", part) for i, part in enumerate(value, start=1)])
    return Scalar(value, name) if _is_number(value) else value
