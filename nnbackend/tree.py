"""Arguments and results may be nested: taken apart into leaves and put together again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any


def leaves(x: Any) -> Iterator[Any]:
    """What is inside of tuples, lists and dicts, in order."""
    if isinstance(x, tuple | list):
        for part in x:
            yield from leaves(part)
    elif isinstance(x, dict):
        for part in x.values():
            yield from leaves(part)
    else:
        yield x


def mapped(fn: Callable[[Any], Any], x: Any) -> Any:
    """The same nest with `fn` of each leaf; named tuples stay what they are."""
    if isinstance(x, tuple):
        parts = [mapped(fn, part) for part in x]
        return type(x)(*parts) if hasattr(x, "_fields") else tuple(parts)
    if isinstance(x, list):
        return [mapped(fn, part) for part in x]
    if isinstance(x, dict):
        return {name: mapped(fn, part) for name, part in x.items()}
    return fn(x)


def filled(form: Any, values: Iterator[Any]) -> Any:
    """The same nest with other leaves, in order."""
    return mapped(lambda _: next(values), form)
