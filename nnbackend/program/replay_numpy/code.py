"""Text of a function that is made line by line, and the objects that it names."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from ..graph import HOLE


class Code:
    """`lines` of a function and `env`, the names in it. One object has one name."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.env: dict[str, Any] = {}
        self.sources: list[str] = []  # of the loops
        self.calls = 0
        self._names: dict[int, str] = {}
        self._literals: dict[Any, str] = {}
        self._numbers: dict[tuple[str, Any], str] = {}

    def name(self, x: Any) -> str:
        """A name for an object, which is kept."""
        if x is None or x is ... or type(x) in (bool, int, str) or (type(x) is float and math.isfinite(x)):
            return "..." if x is ... else repr(x)
        if id(x) not in self._names:
            hint = getattr(x, "__name__", "")
            name = f"{hint}{len(self.env)}" if str(hint).isidentifier() else f"v{len(self.env)}"
            self.env[name] = x
            self._names[id(x)] = name
        return self._names[id(x)]

    def call(self, fn: Callable[..., Any], *args: str) -> None:
        """A line that calls `fn`."""
        self.lines.append(f"{self.name(fn)}({', '.join(args)})")
        self.calls += 1

    def literal(self, x: Any, dtype: Any) -> str:
        """A number as an array without axes, made once."""
        key = (type(x), x if isinstance(x, int | float) else id(x), dtype)
        if key not in self._literals or x != x:
            self._literals[key] = self.name(np.asarray(x, dtype) if dtype is not None else x)
        return self._literals[key]

    def number(self, text: str, dtype: Any) -> str:
        """A number that changes as an array without axes, filled once in each run."""
        if (text, dtype) not in self._numbers:
            name = self.name(np.empty((), dtype))
            self._numbers[text, dtype] = name
            self.lines.append(f"{name}[()] = {text}")
        return self._numbers[text, dtype]

    def template(self, x: Any, texts: Iterable[str]) -> str:
        """An argument with the texts of arrays in its holes."""
        return self._filled(x, iter(texts))

    def _filled(self, x: Any, texts: Iterator[str]) -> str:
        if x is HOLE:
            return next(texts)
        if isinstance(x, tuple | list):
            parts = [self._filled(part, texts) for part in x]
            return f"({', '.join(parts)},)" if isinstance(x, tuple) and parts else f"[{', '.join(parts)}]"
        return self.name(x)
