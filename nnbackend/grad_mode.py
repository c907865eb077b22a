"""Is history being recorded? Asked of the context, so threads and async tasks do not disturb each other."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextvars import ContextVar, Token
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])
recording: ContextVar[bool] = ContextVar("nnbackend.grad_mode", default=True)


class _GradMode:
    """A context manager and decorator; one object may be entered many times, one inside the other."""

    mode = True

    def __init__(self) -> None:
        self._tokens: list[Token[bool]] = []

    def __enter__(self) -> None:
        self._tokens.append(recording.set(self.mode))

    def __exit__(self, *error: object) -> None:
        recording.reset(self._tokens.pop())

    def __call__(self, fn: F) -> F:
        """Also for generators and coroutines: the mode holds while they run and never while they wait for a caller."""
        kind = type(self)
        wrapper: Any
        if inspect.isgeneratorfunction(fn):

            @functools.wraps(fn)
            def wrapper(*args: Any, **kw: Any) -> Any:
                return (yield from _stepped(kind, fn(*args, **kw)))

        elif inspect.isasyncgenfunction(fn):

            @functools.wraps(fn)
            async def wrapper(*args: Any, **kw: Any) -> Any:
                items = fn(*args, **kw)
                while True:
                    with kind():
                        try:
                            item = await anext(items)
                        except StopAsyncIteration:
                            return
                    yield item

        elif inspect.iscoroutinefunction(fn):

            @functools.wraps(fn)
            async def wrapper(*args: Any, **kw: Any) -> Any:
                with kind():
                    return await fn(*args, **kw)

        else:

            @functools.wraps(fn)
            def wrapper(*args: Any, **kw: Any) -> Any:
                with kind():
                    return fn(*args, **kw)

        return wrapper  # type: ignore[no-any-return]


def _stepped(kind: type[_GradMode], generator: Any) -> Any:
    """Run a generator in a mode that its caller does not see."""
    act, value = generator.send, None
    while True:
        try:
            with kind():
                item = act(value)
        except StopIteration as stop:
            return stop.value
        try:
            act, value = generator.send, (yield item)
        except GeneratorExit:
            generator.close()
            raise
        except BaseException as error:
            act, value = generator.throw, error


class no_grad(_GradMode):
    """Inside, results have no history and leaves may be changed in place. Use as `with nb.no_grad():` or `@nb.no_grad()`."""

    mode = False


class enable_grad(_GradMode):
    """Inside, history is kept again, whatever surrounds it."""
