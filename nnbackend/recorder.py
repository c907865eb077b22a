"""The door to recording: who asks a recorder, and what it is asked. Eager code pays one look at a context variable.

A program that is being recorded must see every array that goes into an op and every read and write of state. Ops,
layers and optimizers do not know of it: `lift` hands it the operands of ops, cells hand it their contents.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any, Protocol


class Recorder(Protocol):
    """Whoever records: gives stand-ins for arrays and numbers, and is told of changes."""

    def operands(self, args: tuple[Any, ...], raw: list[Any]) -> list[Any]:
        """What stands for the arrays `raw` of an op's arguments."""

    def known(self, x: Any) -> Any:
        """The same with plain numbers, for what a program cannot do with changing ones."""

    def result(self, op: Callable[..., Any], y: Any) -> None:
        """`y` is the value of `op`."""

    def going_back(self, t: Any) -> None:
        """The way back through the op that made the Tensor `t` begins; None when a backward pass is over."""

    def gradient(self, t: Any, dx: Any) -> None:
        """`dx` is (a part of) the gradient of the Tensor `t`."""

    def made(self, array: Any) -> Any:
        """What stands for an array that has just been made from nothing."""

    def replaced(self, t: Any) -> None:
        """The Tensor `t` is about to get new contents."""

    def read(self, cell: Any) -> Any:
        """What stands for the contents of `cell`."""

    def write(self, cell: Any, value: Any) -> None:
        """The contents of `cell` are `value` from now on."""

    def read_grad(self, parameter: Any) -> Any:
        """What stands for its gradient."""

    def write_grad(self, parameter: Any, value: Any) -> None:
        """Its gradient is `value` from now on."""

    def scope(self, owner: Any) -> AbstractContextManager[Any]:
        """Around a call of a module or a step of an optimizer, whose plain settings the program depends on."""

    def called(self, module: Any, given: Any, y: Any) -> None:
        """At the end of its scope: `module` made `y` of the arguments `given`."""

    def watch(self, module: Any) -> None:
        """Somebody asks whether `module` is in training."""

    def check(self, test: Callable[..., None], x: Any, *settings: Any) -> None:
        """Run `test(x, *settings)` now and at every replay; it raises if the values are bad."""


class _Nobody:
    """Answers for a recorder where nothing is recorded. A cell's own contents are `cell.array`, or `cell._value`."""

    def _nothing(self, *told: Any) -> None: ...

    def _itself(self, x: Any) -> Any:
        return x

    result = going_back = gradient = replaced = called = watch = _nothing
    known = made = _itself

    def operands(self, args: tuple[Any, ...], raw: list[Any]) -> list[Any]:
        return raw

    def read(self, cell: Any) -> Any:
        return cell.array if hasattr(cell, "array") else cell._value

    def write(self, cell: Any, value: Any) -> None:
        cell._value = value

    def read_grad(self, parameter: Any) -> Any:
        return parameter._gradient

    def write_grad(self, parameter: Any, value: Any) -> None:
        parameter._gradient = value

    def scope(self, owner: Any) -> AbstractContextManager[Any]:
        return contextlib.nullcontext()

    def check(self, test: Callable[..., None], x: Any, *settings: Any) -> None:
        test(x, *settings)


class Between:
    """Stands between those who ask and the recorder that is on: a subclass may listen, or answer itself."""

    def __init__(self) -> None:
        self.behind: Any = recorder.get() or _Nobody()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.behind, name)

    def __enter__(self) -> None:
        self._token = recorder.set(self)

    def __exit__(self, *error: object) -> None:
        recorder.reset(self._token)


class Unfit(Exception):
    """Raised by a check at a replay: the values are fine, but not what the program was made for. Record again."""


recorder: ContextVar[Recorder | None] = ContextVar("nnbackend.recorder", default=None)


def writer() -> Any:
    """The recorder that writes down what is done, whoever stands before it; None if there is none."""
    r: Any = recorder.get()
    while isinstance(r, Between):
        r = r.behind
    return r


def at_work(owner: Any, work: Callable[[], None]) -> None:
    """Do the work of an optimizer, an average or a schedule, whose settings a program then depends on."""
    r = recorder.get()
    if r is None:
        work()
    else:
        with r.scope(owner):
            work()


def made(array: Any) -> Any:
    """An array just made from nothing, or what stands for it."""
    r = recorder.get()
    return array if r is None else r.made(array)


def known(x: Any) -> Any:
    """Settings as plain numbers: a program that is being recorded depends on them."""
    r = recorder.get()
    return x if r is None else r.known(x)


@contextlib.contextmanager
def unrecorded() -> Iterator[None]:
    """Inside, nothing is written down: for bookkeeping that a program must not repeat."""
    token = recorder.set(None)
    try:
        yield
    finally:
        recorder.reset(token)


def checked(test: Callable[..., None], x: Any, *settings: Any) -> None:
    """Run `test(x, *settings)`, which looks at values; replays of a recorded step run it again."""
    r = recorder.get()
    if r is None:
        test(x, *settings)
    else:
        r.check(test, x, *settings)
