"""checkpoint: what a function computes on the way is forgotten, and computed again in the backward pass.

One node on the tape stands for a whole call. Its way back is a second run, with history, and the way back through that.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

from . import tape
from .backend import backend_of
from .calculus import alias
from .errors import GraphError
from .grad_mode import enable_grad, recording
from .ops.core import joint
from .repeat import First, Second
from .tape import TENSORS, clock
from .tensor import Tensor, lift, parts
from .tree import leaves, mapped


def checkpoint(f: Callable[..., Any]) -> Callable[..., Any]:
    """The function or module `f` with a backward pass that computes it again, instead of keeping what it needs.

    Results, which may be nested, and gradients stay the same (those of a value that is used outside of `f`, too, are
    added up in another order). Dropout draws the same zeros twice, running statistics move once. With each sqrt(n) of n
    layers in a checkpoint memory is needed for 2 sqrt(n) of them (Chen et al. 2016); in a compiled step as well, for
    what depends on the arguments. InplaceError in the backward pass if what `f` used has changed in place since,
    GraphError if `f` changes a parameter or returns something else the second time. It must depend on nothing but its
    arguments, parameters and buffers: other numbers that have changed meanwhile would give wrong gradients.
    """

    @functools.wraps(f, updated=())
    def checkpointed(*args: Any, **kw: Any) -> Any:
        return _Call(f, args, kw).first() if recording.get() else f(*args, **kw)

    return checkpointed


class _Call:
    """A call of `f` that can be made again."""

    def __init__(self, f: Callable[..., Any], args: tuple[Any, ...], kw: dict[str, Any]) -> None:
        self.f, self.given = f, mapped(lambda x: x if _inert(x) or x.requires_grad else x.detach(), (args, kw))

    def first(self) -> Any:
        """The results, which have their history from one node."""
        self.context = copy_context()  # training or evaluating, and the like
        self.run = run = First({id(x): x for x in leaves(self.given) if not _inert(x) and x.requires_grad})
        args, kw = self._given(lambda x: _alias(x) if x.requires_grad else x.detach())
        with run:
            result = self.f(*args, **kw)
        results = list(leaves(result))
        self.places = run.history(results)
        if self.places:
            self.time = run.over()
            node: tape.Node = self.time, self.checkpoint, tuple(run.used.values()), {}, joint(self._back)
            for i, y in zip(self.places, parts(tuple(results[i].data for i in self.places), node), strict=True):
                results[i] = y
        rest = iter(results)
        return mapped(lambda _: next(rest), result)

    def checkpoint(self, *used: Any) -> Any:
        """The call as an op, for the gradient of a gradient."""
        return None, joint(self._back)

    def _given(self, how: Callable[[Any], Any]) -> Any:
        """The arguments, each Tensor as a value of its own: `f` may set items of it."""
        return mapped(lambda x: x if _inert(x) else how(x), self.given)

    def _back(self, dys: tuple[Any, ...], needs: tuple[bool, ...]) -> tuple[Any, ...]:
        return self.context.copy().run(self._again, Second(self.run, self.time), dys)

    def _again(self, run: Second, dys: tuple[Any, ...]) -> tuple[Any, ...]:
        args, kw = self._given(lambda x: _another(tape.as_of(x, self.time)))
        used = [tape.as_of(x, self.time) for x in self.run.used.values()]
        wrap = Tensor if any(dy.__class__ in TENSORS for dy in dys) else None
        with enable_grad(), run:
            results = list(leaves(self.f(*args, **kw)))
            if run.history(results) != self.places:
                raise GraphError("checkpoint: expected a function that does the same twice, got different results.")
            ys = tuple(results[i] for i in self.places)
            whole = Tensor(tuple(y.data for y in ys), True, (clock(), _together, ys, {}, _together(*ys)[1]))
            dxs = tape.gradients(whole, dys, used, wrap)
        return tuple(backend_of(dx).copy(dx) if wrap is None and any(dx is dy for dy in dys) else dx for dx in dxs)


def _inert(x: Any) -> bool:
    """Whether `f` is given it as it is: all but Tensors, and cells."""
    return x.__class__ not in TENSORS or x.is_cell


def _another(x: Any) -> Any:
    """The same, but to a program: it would compute things that look alike only once, and keep them until then."""
    y = _alias(x) if x.requires_grad else x.detach()
    y.data = y.data[...]
    return y


def _together(*ys: Any) -> Any:
    """Several Tensors as one."""
    return ys, tuple((lambda dys, i=i: dys[i]) for i in range(len(ys)))


_alias = lift(alias)

__all__ = ["checkpoint"]
