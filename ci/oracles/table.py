"""Counts per module or operator, with what went wrong and why some are left out."""

import argparse
import collections
import sys
import traceback
import warnings
from collections.abc import Callable

import numpy as np

KINDS = ("agree", "fail", "unmapped", "missing")


class Table:
    """`add` each result, then `show`."""

    def __init__(self, what: str) -> None:
        self.what, self.footnote = what, ""
        self.counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
        self.notes: dict[str, list[str]] = collections.defaultdict(list)

    def add(self, name: str, result: str, note: str = "") -> None:
        """`note`: what differs, or the reason for leaving it out."""
        self.counts[name][result] += 1
        if note:
            self.notes[name].append(note)

    def show(self, verbose: bool) -> bool:
        """Print; of the failures only the first, unless `verbose`. Whether nothing failed and nothing was missing."""
        print(f"{self.what:28}" + "".join(f"{kind:>10}" for kind in KINDS))
        for name, count in sorted(self.counts.items()):
            print(f"{name:28}" + "".join(f"{count[kind] or '':>10}" for kind in KINDS).rstrip())
            notes = dict.fromkeys(self.notes[name])
            reasons = [note for note in notes if note.startswith("unmapped")]
            failures = [note for note in notes if not note.startswith("unmapped")]
            for note in [*(failures if verbose else failures[:1]), *reasons]:
                print(f"    {note}")
        if self.footnote:
            print(self.footnote)
        total = sum(self.counts.values(), collections.Counter())
        print(f"{'all':28}" + "".join(f"{total[kind]:>10}" for kind in KINDS))
        some = sum(count["agree"] > 0 for count in self.counts.values())
        print(f"{total['agree']} cases over {some} {self.what}s agree")
        return not total["fail"] and not total["missing"]


def first_line(error: BaseException) -> str:
    """What went wrong, in one line, with the place of an error that is not a difference."""
    text = " ".join(line.strip() for line in str(error).splitlines() if line.strip())[:300]
    if isinstance(error, AssertionError):
        return text
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {text} ({frame.filename.rpartition('nnbackend/')[2]}:{frame.lineno})"


def command(doc: str | None, run: Callable[[list[str]], Table]) -> None:
    """A command line: names of what to look at (all without), and -v for every failing case."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("names", nargs="*")
    parser.add_argument("-v", action="store_true", help="every failing case")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    sys.exit(not run(args.names).show(args.v))
