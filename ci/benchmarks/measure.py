"""Times side by side: short bursts of each contender in turn, round after round, and ratios of what was measured."""

import contextlib
import math
import signal
import statistics
import time
from importlib.util import find_spec

import numpy as np

NEEDS = {"PyTorch": ["torch"], "torch.compile": ["torch"], "JAX": ["jax", "optax"], "scikit-learn": ["sklearn"]}
CHECKED = 6  # steps before results are compared: recording and replaying are both among them
COMPILE_LIMIT = 120  # seconds for torch.compile


def needs(contender):
    """The packages a contender is made of, by the first word of its name."""
    return NEEDS.get(contender.split(",")[0], [])


def chosen(contenders, torch_compile):
    """The contenders that are installed; torch.compile only where it is asked for."""
    return {
        name: build
        for name, build in contenders.items()
        if all(map(find_spec, needs(name))) and (torch_compile or not name.startswith("torch.compile"))
    }


@contextlib.contextmanager
def time_limit(limit):
    """TimeoutError in what takes longer."""

    def stop(signum, frame):
        raise TimeoutError(f"more than {limit} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(limit)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def ready(contenders, tolerance):
    """The step of each contender, once all have done the same: from the same start, the same results to rounding."""
    steps, expected = {}, None
    for name, build in contenders.items():
        guarded = name.startswith("torch.compile")
        try:
            with time_limit(COMPILE_LIMIT) if guarded else contextlib.nullcontext():
                step, outcome = build()
                for _ in range(CHECKED):
                    step()
                result = np.asarray(outcome(), "float64")
        except Exception as error:
            if not guarded:
                raise
            print(f"{name} left out: {error!r:.100}\n")
            continue
        expected = result if expected is None else expected
        difference = np.abs(result - expected).max() / np.abs(expected).max()
        assert difference <= tolerance, f"{name}: expected the results of the first contender, got {difference:.1e} off"
        steps[name] = step
    return steps


def seconds(step, calls):
    """Seconds per call over so many calls."""
    start = time.perf_counter()
    for _ in range(calls):
        step()
    return (time.perf_counter() - start) / calls


def burst(step, lead, length):
    """Seconds per call over about `length` seconds, after `lead` seconds that are not measured.

    In the lead caches warm up. With two threads it must be long: the workers of the contender before, OpenBLAS's or
    OpenMP's, spin on for some 30 ms, and until the scheduler has sorted them out PyTorch can take three times as long.
    """
    calls, start = 0, time.perf_counter()
    while (led := time.perf_counter() - start) < lead:
        step()
        calls += 1
    return seconds(step, math.ceil(calls * length / led))


def rounds_of(steps, rounds, lead, length):
    """Seconds per call of each step, one figure a round. In a round each has a burst; every other round goes back."""
    times = {name: [] for name in steps}
    for i in range(rounds):
        for name in list(steps)[:: -1 if i % 2 else 1]:
            times[name].append(burst(steps[name], lead, length))
    return times


def table(times):
    """Markdown: each contender against the first. Ratios are times by the base's: below 1 is faster."""
    base = next(iter(times.values()))
    unit, scale = ("ms", 1e3) if statistics.median(base) >= 1e-3 else ("µs", 1e6)
    rows = [("contender", f"median, {unit}", f"min, {unit}", "ratio to base", "ratio of minima")]
    for name, ts in times.items():
        ratio = statistics.median(t / b for t, b in zip(ts, base, strict=True))
        figures = (statistics.median(ts) * scale, min(ts) * scale, ratio, min(ts) / min(base))
        rows.append((name, *(f"{figure:.2f}" for figure in figures)))
    return markdown(rows)


def markdown(rows):
    """Rows of text as an aligned table: the first row names the columns, the first column is on the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        " | ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    lines.insert(1, " | ".join("-" * (width - 1) + (":" if i else "-") for i, width in enumerate(widths)))
    return "\n".join(f"| {line} |" for line in lines) + "\n"
