"""What settings may be: tests whose docstrings say, in errors, what they want."""

from __future__ import annotations

import math
from collections.abc import Callable
from operator import index
from typing import Any, TypeAlias

Limit: TypeAlias = Callable[[Any], bool]


def expect(name: str, value: Any, limit: Limit) -> None:
    """ValueError if a setting will not do. Numbers of a recorded step are judged by what they are now."""
    try:
        fits = limit(tuple(map(seen, value)) if isinstance(value, tuple) else seen(value))
    except TypeError:
        fits = False
    if not fits:
        text = (limit.__doc__ or "").strip().rstrip(".")
        raise ValueError(f"{name}: expected {text[:1].lower() + text[1:]}, got {value!r}.")


def seen(value: Any) -> Any:
    """The number behind one that is being recorded: a program need not look again."""
    return getattr(value, "value", value)


def finite(v: Any) -> bool:
    """A finite number."""
    return bool(math.isfinite(v))


def not_negative(v: Any) -> bool:
    """A finite number >= 0."""
    return bool(0 <= v < math.inf)


def positive(v: Any) -> bool:
    """A finite number > 0."""
    return bool(0 < v < math.inf)


def not_positive(v: Any) -> bool:
    """A number <= 0."""
    return bool(v <= 0)


def at_least_one(v: Any) -> bool:
    """A finite number >= 1."""
    return bool(1 <= v < math.inf)


def above_one(v: Any) -> bool:
    """A finite number > 1."""
    return bool(1 < v < math.inf)


def fraction(v: Any) -> bool:
    """A number from 0 to 1."""
    return bool(0 <= v <= 1)


def below_one(v: Any) -> bool:
    """A number from 0 to below 1."""
    return bool(0 <= v < 1)


def positive_fraction(v: Any) -> bool:
    """A number above 0, at most 1."""
    return bool(0 < v <= 1)


def inner_fraction(v: Any) -> bool:
    """A number between 0 and 1."""
    return bool(0 < v < 1)


def whole(v: Any) -> bool:
    """A whole number >= 0."""
    return index(v) >= 0


def natural(v: Any) -> bool:
    """A whole number >= 1."""
    return index(v) >= 1


def whole_or_before(v: Any) -> bool:
    """A whole number >= -1."""
    return index(v) >= -1


def increasing(v: Any) -> bool:
    """Whole numbers >= 0, each larger than the one before."""
    return all(map(whole, v)) and list(v) == sorted(set(v))


def two_fractions(v: Any) -> bool:
    """Two numbers from 0 to below 1."""
    return len(v) == 2 and all(map(below_one, v))


def three_numbers(v: Any) -> bool:
    """Three numbers."""
    return len(v) == 3 and all(map(finite, v))


def shorter_and_longer(v: Any) -> bool:
    """Two numbers, 0 < first < 1 < second."""
    return len(v) == 2 and bool(0.0 < v[0] < 1.0 < v[1])


def smallest_and_largest(v: Any) -> bool:
    """Two numbers, 0 < first <= second."""
    return len(v) == 2 and bool(0.0 < v[0] <= v[1])


def function(v: Any) -> bool:
    """A function."""
    return callable(v)


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
