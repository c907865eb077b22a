"""Rules about the net and the loss: what the one gives, and what the other takes."""

from __future__ import annotations

import math

from ... import functional as F
from ...backend import INTEGRAL, NUMPY, HostArray
from ...errors import LabelError, ShapeError
from ..objective import LOGITS
from .facts import Facts
from .words import INDEXED, NUMERIC, Said, at, name_of, of

xp = NUMPY.xp

ROWS_A_CLASS = 10  # with as many, classes that do not occur are no accident
SLACK = 0.01
RANGES = {
    "sigmoid": (0.0, 1.0),
    "hardsigmoid": (0.0, 1.0),
    "softmax": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
    "softsign": (-1.0, 1.0),
    "relu": (0.0, math.inf),
    "softplus": (0.0, math.inf),
}


def probabilities(facts: Facts) -> Said:
    """Softmax or sigmoid, or rows that add up to 1, where the loss takes logits."""
    for out in facts.probe.outputs:
        if out.loss in LOGITS:
            end = out.made_by if out.made_by in ("softmax", "sigmoid", "hardsigmoid") else ""
            if end or _sums_to_one(out.values):
                yield (
                    f"{name_of(out.loss)}: expected logits{of(out)}, got {f'the {end}' if end else 'probabilities'}.",
                    f"Leave out the {end or 'softmax'} at the end of the net: the loss has it.",
                )


def logits(facts: Facts) -> Said:
    """Anything but probabilities, or their logarithms, where the loss takes those."""
    for out in facts.probe.outputs:
        v = out.values
        if out.loss is F.binary_cross_entropy and v.size and (v.min() < 0 or v.max() > 1):
            yield (
                f"binary_cross_entropy: expected probabilities{of(out)}, got {v.min():.3g} to {v.max():.3g}.",
                'Use the loss "bce_with_logits", or end the net in a sigmoid.',
            )
        elif out.loss is F.nll_loss and v.ndim > 1:
            total = xp.log(xp.exp(v - v.max(axis=1, keepdims=True)).sum(axis=1)) + v.max(axis=1)
            if not (abs(total) < 0.01).all():
                yield (
                    f"nll_loss: expected logarithms of probabilities{of(out)}, got others.",
                    'Use the loss "cross_entropy", or end the net in LogSoftmax.',
                )


def outputs_and_labels(facts: Facts) -> Said:
    """More outputs than there can be classes, or one output for a choice."""
    for out in facts.probe.outputs:
        if out.loss in INDEXED and out.target.dtype in INTEGRAL and out.values.ndim > 1 and out.bounds:
            outputs, (_, high) = out.values.shape[1], out.bounds
            plain = out.target.ndim == 1 and ROWS_A_CLASS * outputs <= facts.rows
            if outputs == 1 or (plain and outputs >= 2 * (high + 1) > 2):
                yield (
                    f"{name_of(out.loss)}: expected an output for each class{of(out)}, "
                    f"got {outputs} for labels up to {high}.",
                    'Use the loss "bce_with_logits" for one output.' if outputs == 1 else f"Use {high + 1} outputs.",
                )


def row_against_column(facts: Facts) -> Said:
    """A loss of one's own makes (n, n) of outputs (n, 1) and targets (n,)."""
    for out in facts.probe.outputs if facts.probe.outer else ():
        shapes = out.values.shape, out.target.shape
        if sorted(map(len, shapes)) == [1, 2] and out.values.size == out.target.size > 1:
            yield (
                f"loss: expected outputs and targets of one shape{of(out)}, got {shapes[0]} and {shapes[1]}: each "
                "output meets all targets.",
                f"Use y.reshape({(-1, *shapes[0][1:])}).",
            )


def cut_off(facts: Facts) -> Said:
    """The last activation cannot give what the targets ask for."""
    for out in facts.probe.outputs:
        low, high = RANGES.get(out.made_by, (-math.inf, math.inf))
        if out.loss in LOGITS and out.made_by in ("relu", "tanh", "softsign", "softplus"):
            yield (
                f"{name_of(out.loss)}: expected logits of any size and sign{of(out)}, got the {out.made_by}.",
                f"Leave out the {out.made_by} at the end of the net.",
            )
        elif out.loss in NUMERIC and out.target.size and low > -math.inf:
            found = out.target.min(), out.target.max()
            if found[0] < low - SLACK or found[1] > high + SLACK:
                yield (
                    f"y{at(out)}: expected targets from {low:g} to {high:g}, where the {out.made_by} ends, "
                    f"got {found[0]:.4g} to {found[1]:.4g}.",
                    f"Leave out the {out.made_by} at the end of the net, or scale the targets.",
                )


def code_of(error: Exception, facts: Facts) -> str | None:
    """The code of what the loss raises; None if it is none of these."""
    shapes = [(out.values.shape, out.target.shape) for out in facts.probe.outputs]
    if isinstance(error, LabelError):
        return "NB203"
    if any({a, b} == {a[:1], (*a[:1], 1)} for a, b in shapes):
        return "NB204"
    if isinstance(error, ShapeError):
        return "NB203"
    return "NB202" if any(out.loss is F.binary_cross_entropy for out in facts.probe.outputs) else None


def _sums_to_one(v: HostArray) -> bool:
    return bool(v.ndim > 1 and v.shape[1] > 1 and v.size and v.min() >= 0 and (abs(v.sum(axis=1) - 1.0) < 1e-3).all())
