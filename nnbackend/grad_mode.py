"""Is history being recorded? Asked of the context, so threads and async tasks do not disturb each other."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])
recording: ContextVar[bool] = ContextVar("nnbackend.grad_mode", default=True)
_outer: ContextVar[tuple[bool, ...]] = ContextVar("nnbackend.outer_grad_modes", default=())


class _GradMode:
    """A context manager and decorator; one object may be entered many times, by many threads, one inside the other."""

    mode = True

    def __enter__(self) -> None:
        _outer.set((*_outer.get(), recording.get()))
        recording.set(self.mode)

    def __exit__(self, *error: object) -> None:
        outer = _outer.get()
        _outer.set(outer[:-1])
        recording.set(outer[-1])

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
                act, value = items.asend, None
                try:
                    while True:
                        with kind():
                            item = await act(value)
                        try:
                            act, value = items.asend, (yield item)
                        except GeneratorExit:
                            with kind():
                                await items.aclose()
                            raise
                        except BaseException as error:
                            act, value = items.athrow, error
                except StopAsyncIteration:
                    return
                finally:
                    del value  # an error here would hold this frame, and this frame the error

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
    try:
        while True:
            try:
                with kind():
                    item = act(value)
            except StopIteration as stop:
                return stop.value
            try:
                act, value = generator.send, (yield item)
            except GeneratorExit:
                with kind():
                    generator.close()
                raise
            except BaseException as error:
                act, value = generator.throw, error
    finally:
        del value  # an error here would hold this frame, and this frame the error


class no_grad(_GradMode):
    """Inside, results have no history and leaves may change in place: `with nb.no_grad():` or `@nb.no_grad()`."""

    mode = False


class enable_grad(_GradMode):
    """Inside, history is kept again, whatever surrounds it."""
