"""Connectionist temporal classification."""

from __future__ import annotations

import math
from functools import reduce

from ..backend import Array, namespace
from .core import Op, constant


def ctc_loss(emitted: Array, skips: Array, last: Array, running: Array) -> Op:
    """Minus the log-probability of all paths through the states that end in one of the last (Graves et al. 2006).

    `emitted` (t, n, l): the log-probability of what a state emits. Paths begin in the first two states; a step goes on
    by 0 or 1, or by 2 into one of `skips` (n, l). `last` (n, l): where paths end; `running` (t, n): whether a sample
    still has this step. The gradient is minus the probability of the state. Without any path the loss is inf and the
    gradient 0.
    """
    xp = namespace(emitted)
    low = float(xp.finfo(emitted.dtype).min) / 8.0  # for log(0): differences stay finite
    here = xp.maximum(emitted, low)
    steps = [(here[t, ...], xp.expand_dims(running[t, ...], axis=1)) for t in range(emitted.shape[0])]

    def shifted(x: Array, by: int) -> Array:
        gap = xp.full_like(x[:, : abs(by)], low)
        return xp.concat([gap, x[:, :-by]] if by > 0 else [x[:, -by:], gap], axis=1)

    def added(*terms: Array) -> Array:
        top = constant(reduce(xp.maximum, terms))
        rest = [xp.exp(x - top) for x in terms]
        return xp.maximum(top + xp.log(rest[0] + rest[1] + rest[2]), low)

    state = xp.arange(emitted.shape[2], device=emitted.device)
    nowhere = xp.full_like(here[0, ...], low)
    now, runs = steps[0]
    ahead = [xp.where(runs, xp.where(state < 2, now, low), xp.where(state < 1, 0.0, nowhere))]  # the paths up to a step
    for now, runs in steps[1:]:
        before = ahead[-1]
        on = added(before, shifted(before, 1), xp.where(skips, shifted(before, 2), low)) + now
        ahead.append(xp.where(runs, xp.maximum(on, low), before))
    ends = xp.where(last, ahead[-1], low)
    top = constant(xp.max(ends, axis=1, keepdims=True))
    total = top + xp.log(xp.sum(xp.exp(ends - top), axis=1, keepdims=True))
    possible = total > 0.5 * low

    def demitted(dy: Array) -> Array:
        after, shares = xp.where(last, 0.0, nowhere), []  # the paths from a step on
        for (now, runs), before in zip(steps[::-1], ahead[::-1], strict=True):
            shares.append(xp.where(runs & possible, xp.exp(xp.minimum(before + after - total, 0.0)), 0.0))
            on = xp.maximum(after + now, low)
            on = added(on, shifted(on, -1), shifted(xp.where(skips, on, low), -2))
            after = xp.where(runs, on, after)
        return xp.stack(shares[::-1]) * -xp.expand_dims(dy, axis=1)

    return xp.squeeze(xp.where(possible, -total, math.inf), axis=1), (demitted, None, None, None)
