"""The primitives of the backend in plain NumPy, for scripts: the same numbers to the last bit."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from typing import Any

from ..backend import numpy_backend
from ..backend.primitive import LARGE_P, LARGE_Q, SMALL_P, SMALL_Q

_WRITTEN = {
    "logistic": '''
def sigmoid(x):
    """1 / (1 + exp(-x)), without overflow for any x."""
    lowest = 0.5 - math.log(np.finfo(x.dtype).max)
    return 1.0 / (np.exp(-np.maximum(x, lowest)) + 1.0)
''',
    "uniform_like": '''
def uniform(shape, dtype, key, site, step, rank=0):
    """Random numbers in [0, 1): the same ones for the same key, site, step and rank."""
    counter = np.array([0, site, step, rank], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter)).random(shape, dtype)
''',
    "erf": '''
def erf(x):
    """The error function (W. J. Cody, "Rational Chebyshev approximation for the error function", 1969)."""

    def polynomial(x, coefficients):
        y = x * coefficients[0] + coefficients[1]
        for c in coefficients[2:]:
            y = y * x + c
        return y

    a = np.minimum(np.abs(x), 6.0)
    s = np.minimum(a, 0.5) * np.minimum(a, 0.5)
    small = x * (polynomial(s, SMALL_P) / polynomial(s, SMALL_Q))
    large = np.sign(x) * (1.0 - np.exp(-a * a) * polynomial(a, LARGE_P) / polynomial(a, LARGE_Q))
    return np.where(a <= 0.46875, small, large)
''',
}

# What the NumPy backend says in plain NumPy already.
_OWN: dict[str, Callable[..., Any]] = {
    "scatter_add": numpy_backend.scatter_add,
    "one_hot": numpy_backend.one_hot,
    "place": numpy_backend.place,
}
HELPERS = frozenset(_WRITTEN) | frozenset(_OWN)


def helper(op: str) -> str:
    """The text of the function that stands for a primitive."""
    if op in _OWN:
        return f"\n{_without_types(_OWN[op])}\n"
    if op == "erf":
        tables = {"SMALL_P": SMALL_P, "SMALL_Q": SMALL_Q, "LARGE_P": LARGE_P, "LARGE_Q": LARGE_Q}
        return "\n".join(f"{name} = {table}" for name, table in tables.items()) + f"\n\n{_WRITTEN[op]}"
    return _WRITTEN[op]


def _without_types(fn: Callable[..., Any]) -> str:
    """A function of ours as others would write it."""
    (definition,) = ast.parse(inspect.getsource(fn)).body
    assert isinstance(definition, ast.FunctionDef)
    definition.returns = None
    for argument in definition.args.args:
        argument.annotation = None
    return ast.unparse(definition)
