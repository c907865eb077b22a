"""`grad(f)`: the gradient of any function written against the array-API standard, as a function."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any

from . import tape
from .backend import FLOATING, backend_of, is_array
from .creation import asarray, tensor, zeros_like
from .errors import DTypeError, GraphError
from .grad_mode import enable_grad, recording
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
    Inside `f` all arrays are Tensors, so that they are of one library.
    """
    wanted = (argnums,) if isinstance(argnums, int) else tuple(argnums)

    @functools.wraps(f)
    def both(*args: Any, **kw: Any) -> tuple[Any, Any]:
        positions = [_position(i, len(args)) for i in wanted]
        outer, token = recording.get(), _depth.set(_depth.get() + 1)
        try:
            with enable_grad():
                variables = {i: _variable(args[i], i, outer) for i in positions}
                made = {i: v.node[0] for i, v in variables.items()}
                y = f(
                    *[variables[i] if i in variables else _constant(a) for i, a in enumerate(args)],
                    **{name: _constant(a) for name, a in kw.items()},
                )
                inputs = [tape.as_of(variables[i], made[i]) for i in positions]  # f may have set items of them
                linked = outer and any(isinstance(args[i], Tensor) and args[i].requires_grad for i in positions)
                y, grads = _gradients(y, inputs, outer, linked)
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


def _position(i: int, n: int) -> int:
    if not -n <= i < n:
        raise IndexError(f"grad: expected positional arguments up to number {i} (argnums), got {n}.")
    return i % n


def _variable(x: Any, i: int, outer: bool) -> Tensor:
    """The argument as a result of `alias`: of itself if it has a history that goes on, else of a new leaf."""
    numbers = isinstance(x, int | float) and not is_array(x)
    t = tensor(x, dtype="float64") if numbers else asarray(x)
    if t.dtype not in FLOATING:
        raise DTypeError(f"grad: expected a floating argument {i}, got {t.dtype}. Use .astype('float32').")
    variable: Tensor = _alias(t if t.requires_grad and outer else Tensor(t.data, True))
    return variable


def _constant(a: Any) -> Any:
    return asarray(a) if is_array(a) and hasattr(a, "__dlpack__") else a  # NumPy's scalars are numbers


def _gradients(y: Any, inputs: list[Tensor], outer: bool, linked: bool) -> tuple[Any, list[Tensor]]:
    """The value and the gradients, with history if there is one `outer` and it leads beyond the inputs."""
    if not (is_array(y) or isinstance(y, int | float)) or (is_array(y) and y.shape):
        got = f"shape {tuple(y.shape)}" if is_array(y) else type(y).__name__
        raise GraphError(f"grad: expected a function that returns a scalar, got {got}. Use .sum() or .mean().")
    if not isinstance(y, Tensor) or not y.requires_grad:
        return y, [zeros_like(x) for x in inputs]  # nothing depends on them
    again = linked or (outer and bool(tape.leaves(y, inputs)))
    seed = tape.seed_of(y)
    grads = tape.gradients(y, Tensor(seed) if again else seed, inputs, Tensor if again else None)
    wrap = _alias if again else Tensor
    found = [zeros_like(x) if g is None else wrap(g) for g, x in zip(grads, inputs, strict=True)]
    return y if again else y.detach(), found


def _like_given(result: Tensor, given: Any) -> Any:
    """Tensors for Tensors; arrays for arrays and numbers for numbers, unless an outer gradient needs the history."""
    if isinstance(given, Tensor) or (_depth.get() and result.requires_grad):
        return result
    if is_array(given):
        return backend_of(result.data).copy(result.data) if result.shape else result.data
    return result.item() if isinstance(given, int | float) else asarray(result).detach()
