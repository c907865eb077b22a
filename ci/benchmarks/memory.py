"""Peak memory of one contender in a process of its own, and what a compiled step still allocates. Linux only."""

import json
import subprocess
import sys
import tracemalloc
from importlib import import_module
from pathlib import Path

import numpy as np

from .measure import markdown, needs

COMPILED = "nnbackend, compiled"


def resident(field):
    """VmRSS or VmHWM (the highest so far) of this process in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def forget_peak():
    """Let VmHWM start again from what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")


def peak(contender, build, steps):
    """Print, as JSON, how far resident memory rose above that after import; for our compiled step, new bytes too."""
    for package in needs(contender):
        import_module("torch._dynamo" if package == "torch" else package)  # torch's optimizers import it late
    before = resident("VmRSS")
    step, _ = build()
    forget_peak()
    for _ in range(steps):
        step()
    print(json.dumps([resident("VmHWM") - before, *(new_bytes(step) if contender == COMPILED else ())]))


def new_bytes(step, steps=5):
    """What a step in steady state allocates: bytes of arrays it leaves behind, and the most in use during one.

    The second counts all of Python's memory: tracemalloc knows no peak of NumPy's domain alone.
    """

    def arrays():
        in_numpy = tracemalloc.DomainFilter(True, np.lib.tracemalloc_domain)
        return sum(trace.size for trace in tracemalloc.take_snapshot().filter_traces([in_numpy]).traces)

    tracemalloc.start()
    step()
    before, results = arrays(), [step() for _ in range(steps)]
    left = (arrays() - before) // steps
    del results
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    step()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return left, most - before


def report(workloads, steps):
    """The table over these workloads: each one's base and our compiled step."""
    rows = [("", "peak, MB", "ratio to base", "left by a step, bytes", "most in a step, bytes")]
    for workload, contenders in workloads.items():
        base = None
        for name in dict.fromkeys((next(iter(contenders)), COMPILED)):
            highest, *new = in_own_process(workload, name, steps)
            base = base or highest
            figures = f"{highest / 1e6:.1f}", f"{highest / base:.2f}", *(f"{n:,}" for n in new)
            rows.append((f"{workload}: {name}", *figures, *[""] * (4 - len(figures))))
    return markdown(rows)


def in_own_process(workload, contender, steps):
    """What `peak` says of it."""
    command = [sys.executable, "-m", "benchmarks", workload, "--peak", contender, "--steps", str(steps)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
