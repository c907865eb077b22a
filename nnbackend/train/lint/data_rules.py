"""Rules about the data: columns, scales, classes."""

from __future__ import annotations

from collections.abc import Iterator

from ...backend import FLOATING, NUMPY, HostArray
from .facts import Facts
from .words import BINARY, INDEXED, NUMERIC, Said, at, some

xp = NUMPY.xp

NARROW = 64  # columns: in wider tables, of pixels or of words, some that are constant do not matter
LARGE, SMALL, AWAY = 50.0, 1e-3, 50.0  # of values, and of means in spreads
TIMES = 100.0
WEIGHING = ("linear", "matmul", "conv", "conv_transpose", "rnn", "gru", "lstm", "einsum", "tensordot")


def constant_columns(facts: Facts) -> Said:
    """In narrow tables only; all rows that were looked at must agree."""
    for name, x in _tables(facts):
        if x.shape[0] < 4 or x.shape[1] >= NARROW:
            continue
        found = xp.flatnonzero(x.max(axis=0) == x.min(axis=0))
        if found.size and not (facts.rows > x.shape[0] and (x[0, found] == 0).all()):  # what is rare may be elsewhere
            yield (
                f"{name}: expected columns that differ from row to row, got column {some(found.tolist(), 5)} constant.",
                "Leave out what is constant; it says nothing.",
            )


def unscaled_features(facts: Facts) -> Said:
    """Columns whose spreads differ 100 times, values far from 1, or a mean far from 0, unless the net scales them."""
    for name, x in facts.inputs.items():
        readers = facts.probe.readers.get(name, set(WEIGHING))
        if x.dtype not in FLOATING or x.shape[0] < 4 or not x.size or not readers.intersection(WEIGHING):
            continue
        if found := _scale(x):
            yield (
                f"{name}: expected features of about the size 1, got {found}.",
                "Scale them: pixels by / 255, columns of a table with data.StandardScaler.",
            )


def leaked_target(facts: Facts) -> Said:
    """A feature that is the target."""
    columns = [t.reshape(-1) for t in facts.targets if t.size == t.shape[0] >= 20 and t.min() != t.max()]
    for name, x in _tables(facts):
        for y in columns if x.shape[1] > 1 else ():
            same = xp.flatnonzero((x == y.astype(x.dtype)[:, None]).all(axis=0))
            if same.size:
                yield f"{name}: expected features, got the target itself as column {same[0]}.", "Leave it out."


def unscaled_targets(facts: Facts) -> Said:
    """Amounts that a new net would take long to reach."""
    for out in facts.probe.outputs:
        if out.loss in NUMERIC and out.target.size:
            size, own = _size(out.target), _size(out.values)
            if size > TIMES * max(1.0, own):
                yield (
                    f"y{at(out)}: expected targets of about the size of the outputs ({own:.2g}), got {size:.4g}.",
                    "Scale them with data.StandardScaler, and what is predicted back.",
                )


def one_class(facts: Facts) -> Said:
    """99 of 100 targets are of one class."""
    for out in facts.probe.outputs if not facts.weighted else ():
        single = out.target.size == out.target.shape[0]
        if len(facts.targets) == 1 and single and out.loss in (*INDEXED, *BINARY):
            y = facts.targets[0].reshape(-1)
            values, counts = xp.unique(y, return_counts=True)
            if y.size >= 20 and (share := counts.max() / y.size) >= 0.99:
                yield (
                    f"y{at(out)}: expected several classes, got {share:.1%} of class {values[counts.argmax()]:g}.",
                    "Add rows of others" + (', or use class_weight="balanced".' if share < 1 else "."),
                )


def _tables(facts: Facts) -> Iterator[tuple[str, HostArray]]:
    return ((name, x) for name, x in facts.inputs.items() if x.ndim == 2 and x.dtype in FLOATING and x.shape[1])


def _size(x: HostArray) -> float:
    """The root of the mean square."""
    return float(xp.sqrt(xp.mean(xp.square(x.astype(xp.float64)))))


def _scale(x: HostArray) -> str:
    """What is wrong with the scale of features, if anything is."""
    wide = x.astype(xp.float64)
    sizes = xp.sqrt(xp.square(wide).mean(axis=0 if x.ndim == 2 else None)).reshape(-1)
    if sizes.size and (sizes.max() > LARGE or 0.0 < sizes.max() < SMALL):
        column = f" (column {sizes.argmax()})" if x.ndim == 2 else ""
        return f"{sizes.max():.3g}{column}"
    if x.ndim != 2:
        return ""
    low, high, spread = x.min(axis=0), x.max(axis=0), wide.std(axis=0)
    ends = xp.maximum((x == low).mean(axis=0), (x == high).mean(axis=0))
    told = xp.flatnonzero((ends < 0.8) & (spread > 0))  # not what is 0 for most rows: rare words, pixels at the border
    if not told.size:
        return ""
    widest, least = told[spread[told].argmax()], told[spread[told].argmin()]
    if spread[widest] > TIMES * spread[least]:
        return f"spreads from {spread[least]:.2g} (column {least}) to {spread[widest]:.4g} (column {widest})"
    away = abs(x.mean(axis=0)[told]) / spread[told]
    if away.max() > AWAY:
        return f"a mean {away.max():.3g} times as far from 0 as the spread (column {told[away.argmax()]})"
    return ""
