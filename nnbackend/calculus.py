"""`grad(f)`: the gradient of any function written against the array-API standard, as a function."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any

from . import tape
from .backend import FLOATING, is_array
from .creation import asarray, tensor, zeros_like
from .errors import DTypeError, GraphError
from .grad_mode import enable_grad
from .tensor import Tensor, lift

_depth: ContextVar[int] = ContextVar("nnbackend.grad_depth", default=0)


def alias(x: Any) -> Any:
    """The same value as a node of its own, so that nested gradients do not take one variable for another."""
    return x, (lambda dy: dy,)


_alias = lift(alias)


def value_and_grad(f: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """A function that gives `(f(...), gradient)` for the arguments `argnums`; `f` must return a scalar.

    Numbers give numbers, plain arrays give arrays of their library, Tensors give Tensors. `.grad` of nobody is touched,
    and the gradient has gradients: `grad(grad(f))` works, also where an inner function uses an outer's variable.
    """
    positions = (argnums,) if isinstance(argnums, int) else tuple(argnums)

    @functools.wraps(f)
    def both(*args: Any, **kw: Any) -> tuple[Any, Any]:
        inputs = [_variable(args[i], i) for i in positions]
        variables = dict(zip(positions, inputs, strict=True))
        token = _depth.set(_depth.get() + 1)
        try:
            with enable_grad():
                y = f(*[variables.get(i, a) for i, a in enumerate(args)], **kw)
                grads = _gradients(y, inputs)
        finally:
            _depth.reset(token)
        results = [_like_given(g, args[i]) for i, g in zip(positions, grads, strict=True)]
        value = _like_given(y, args[positions[0]]) if isinstance(y, Tensor) else y
        return value, results[0] if isinstance(argnums, int) else tuple(results)

    return both


def grad(f: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """The gradient of the scalar function `f` for the arguments `argnums`, as a function of the same arguments."""
    both = value_and_grad(f, argnums)

    @functools.wraps(f)
    def gradient(*args: Any, **kw: Any) -> Any:
        return both(*args, **kw)[1]

    return gradient


def _variable(x: Any, i: int) -> Tensor:
    if isinstance(x, Tensor):
        if x.dtype not in FLOATING:
            raise DTypeError(f"grad: expected a floating argument {i}, got {x.dtype}. Use .astype('float32').")
        if x.requires_grad:
            linked: Tensor = _alias(x)
            return linked
        return Tensor(x.data, True)
    t = Tensor(x) if is_array(x) else tensor(x, dtype="float64" if isinstance(x, int | float) else None)
    return t.requires_grad_()


def _gradients(y: Any, inputs: list[Tensor]) -> list[Any]:
    if not isinstance(y, Tensor) or not y.requires_grad:
        return [zeros_like(x) for x in inputs]  # nothing depends on them
    if y.shape:
        raise GraphError(f"grad: expected a function that returns a scalar, got shape {y.shape}. Use .sum() or .mean().")
    again = _depth.get() > 1 or any(x.node is not None for x in inputs) or bool(tape.leaves(y, inputs))
    seed = tape.seed_of(y)
    grads = tape.gradients(y, Tensor(seed) if again else seed, inputs, Tensor if again else None)
    return [zeros_like(x) if g is None else g if isinstance(g, Tensor) else Tensor(g) for g, x in zip(grads, inputs, strict=True)]


def _like_given(result: Tensor, given: Any) -> Any:
    """Tensors for Tensors; arrays for arrays and numbers for numbers, unless an outer gradient still needs the history."""
    if isinstance(given, Tensor) or (_depth.get() and result.requires_grad):
        return result
    if is_array(given):
        return result.data
    return result.item() if isinstance(given, int | float) else asarray(result).detach()
