"""ParamGroup: parameters and the settings they share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any, TypeAlias

from ..backend import is_array
from ..cells import Parameter, Scalar, structure
from ..ops.core import NUMBERS
from ..tensor import Tensor

Limit: TypeAlias = Callable[[Any], bool]  # whether a setting will do; its docstring says what will


def not_negative(v: Any) -> bool:
    """A finite number >= 0."""
    return bool(0 <= v < math.inf)


def positive(v: Any) -> bool:
    """A finite number > 0."""
    return bool(0 < v < math.inf)


def finite(v: Any) -> bool:
    """A finite number."""
    return bool(math.isfinite(v))


def fraction(v: Any) -> bool:
    """A number from 0 to 1."""
    return bool(0 <= v <= 1)


def two_fractions(v: Any) -> bool:
    """Two numbers from 0 to below 1."""
    return len(v) == 2 and all(0 <= beta < 1 for beta in v)


def shorter_and_longer(v: Any) -> bool:
    """Two numbers, 0 < first < 1 < second."""
    return len(v) == 2 and bool(0.0 < v[0] < 1.0 < v[1])


def smallest_and_largest(v: Any) -> bool:
    """Two numbers, 0 < first <= second."""
    return len(v) == 2 and bool(0.0 < v[0] <= v[1])


LIMITS: dict[str, Limit] = {  # for all optimizers; each may have limits of its own
    **dict.fromkeys(("lr", "lr_decay", "weight_decay", "momentum", "momentum_decay", "alpha"), not_negative),
    **dict.fromkeys(("dampening", "lambd", "t0"), finite),
    "initial_accumulator_value": not_negative,
    "eps": positive,
    "rho": fraction,
    "betas": two_fractions,
    "etas": shorter_and_longer,
    "step_sizes": smallest_and_largest,
}


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
            if name != "lr" and bool(_seen(value)) != bool(_seen(old.value)):  # a rule may do without what is 0
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


def expect(name: str, value: Any, limit: Limit) -> None:
    """ValueError if a setting will not do. Numbers of a recorded step are judged by what they are now."""
    try:
        fits = limit(tuple(map(_seen, value)) if isinstance(value, tuple) else _seen(value))
    except TypeError:
        fits = False
    if not fits:
        raise ValueError(f"{name}: expected {_said(limit)}, got {value!r}.")


def _said(limit: Limit) -> str:
    text = (limit.__doc__ or "").strip().rstrip(".")
    return text[:1].lower() + text[1:]


def _plain(name: str, value: Any) -> Any:
    """Lists as tuples, and arrays of one element as the number they hold."""
    if isinstance(value, list | tuple):
        return tuple([_plain(name, part) for part in value])
    if not is_array(value) and not isinstance(value, Tensor):
        return value
    if math.prod(value.shape) != 1:
        raise ValueError(f"{name}: expected a number, got an array of shape {tuple(value.shape)}.")
    return value.item()


def _is_number(value: Any) -> bool:
    return (isinstance(value, int | float) or type(value) in NUMBERS) and not isinstance(value, bool)


def _seen(value: Any) -> Any:
    """The number behind one that is being recorded: a program need not look again."""
    return getattr(value, "value", value) if _is_number(value) else value


def _kinds(values: tuple[Any, ...]) -> list[bool]:
    return [isinstance(v, Scalar) or _is_number(v) for v in values]


def _stored(name: str, value: Any) -> Any:
    """Numbers, also those in a tuple, go to cells: programs see them change."""
    if isinstance(value, tuple):
        return tuple([_stored(f"{name.removesuffix('s')}{i}", part) for i, part in enumerate(value, start=1)])
    return Scalar(value, name) if _is_number(value) else value
