"""The names CuPy 14.2 has and what they take, as `ci/make_cupy_signatures.py` froze them."""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

FROZEN: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent.parent / "cupy_signatures.json").read_text())


@functools.cache
def _maker(name: str, signature: str) -> Callable[..., Any]:
    """Makes functions of this signature, so that Python itself refuses what CuPy lacks."""
    plain: dict[str, Any] = {}
    exec(f"def read{signature}: pass", plain)
    code = plain["read"].__code__
    positional, keyword = code.co_argcount, code.co_kwonlyargcount
    names = code.co_varnames
    required = positional - len(plain["read"].__defaults__ or ())
    rest = list(names[positional + keyword :])
    given = [*names[:required], *(f"*{rest.pop(0)}" for _ in range(bool(code.co_flags & 4)))]
    options = [f"{each}={each}" for each in names[required : positional + keyword]]
    options += [f"**{each}" for each in rest[:1] if code.co_flags & 8]
    exec(
        f"def make(__call, __defaults):\n def {name}{signature}:\n  return __call({', '.join([*given, *options])})\n"
        f" __defaults.update(zip({list(names[required:positional])!r}, {name}.__defaults__ or ()))\n"
        f" __defaults.update({name}.__kwdefaults__ or {{}})\n return {name}",
        plain,
    )
    return plain["make"]


def bound(place: str, name: str, function: Callable[..., Any], *, drop: bool = False) -> Callable[..., Any]:
    """`function` behind CuPy's own signature. `drop` leaves out the options that the caller did not set."""
    defaults: dict[str, Any] = {}

    def call(*args: Any, **options: Any) -> Any:
        if drop:
            options = {key: value for key, value in options.items() if value is not defaults.get(key, function)}
        return function(*args, **options)

    made = _maker(name, FROZEN[place][name])(call, defaults)
    made.__module__, made.__qualname__ = place, name
    return made
