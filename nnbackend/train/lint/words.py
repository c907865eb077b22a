"""What rules have in common: the losses they know, and how they say what they have found."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

from ... import functional as F
from .probe import Output

Said: TypeAlias = Iterator[tuple[str, str]]  # what was expected and found, and the cure

NUMERIC = (F.mse_loss, F.l1_loss, F.huber_loss, F.smooth_l1_loss, F.quantile_loss)
INDEXED = (F.cross_entropy, F.focal_loss, F.nll_loss)
BINARY = (F.binary_cross_entropy, F.binary_cross_entropy_with_logits)


def name_of(loss: Any) -> str:
    """Its name in `functional`."""
    return getattr(loss, "__name__", "loss")


def at(out: Output) -> str:
    """Where the targets of an output are, behind "y"."""
    return "" if out.key is None else f"[{out.key!r}]"


def of(out: Output) -> str:
    """Which output, if there are several."""
    return "" if out.key is None else f" for output {out.key!r}"


def some(things: Iterable[Any], most: int = 3) -> str:
    """The first of them, and how many more there are."""
    names = [str(thing) for thing in things]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
