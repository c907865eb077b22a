"""A look at net, loss, optimizer and data before training: what is probably a mistake has a code and a cure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from ...backend import NUMPY
from ...data import DataLoader
from .facts import gathered
from .finding import Finding
from .rules import FAILS, RULES, code_of


def lint(
    trainer: Any, X: Any, y: Any = None, batch_size: int | None = 32, weight: Any = None, ignore: Iterable[str] = ()
) -> list[Finding]:
    """What is probably wrong with a fit to this data; empty if nothing is. docs/lint.md explains the codes.

    Looks at no more than 1,000 rows, and takes two steps on at most 128 with copies: nothing here changes. What
    training would raise is a finding that is `fatal`. X is data as in `fit`, but batches from elsewhere than a
    DataLoader are not looked at.
    """
    ignored = {ignore} if isinstance(ignore, str) else set(ignore)
    if unknown := ignored - {FAILS[0], *(rule.code for rule in RULES)}:
        raise ValueError(f"ignore: expected codes such as {RULES[0].code}, got {', '.join(sorted(unknown))}.")
    if isinstance(X, DataLoader):
        seen = len(X) * X.batch_size
        batch_size, (X, *rest) = X.batch_size, [a[:seen] if seen < X.rows else a for a in X.arrays]
        y, weight = (*rest, None, None)[:2]
    with NUMPY.xp.errstate(all="ignore"):
        facts = gathered(trainer, X, y, batch_size, weight)
        found = {rule.code: [Finding(rule.code, *said) for said in rule.look(facts)] for rule in RULES}
        if (error := facts.probe.error) is not None:
            code = code_of(error, facts)
            said = found.get(code) or [Finding(code, str(error))]
            found[code] = [replace(finding, fatal=True) for finding in said]
    return [finding for code in sorted(found.keys() - ignored) for finding in found[code]]


__all__ = ["FAILS", "RULES", "Finding", "lint"]
