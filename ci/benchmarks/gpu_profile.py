"""Where the time of a compiled step on a GPU goes: `python -m benchmarks.gpu_profile mlp` prints its units.

A unit of its replay is a kernel, or a few that are called together. Beside its time stands its floor: the bytes that it
must move, or the operations that it must do, at the speed of an H100 SXM. `profile(step, call)` does it for any
compiled step.
"""

import argparse
import contextlib
import itertools
import math
import threading
from statistics import median
from typing import NamedTuple

import nnbackend as nb
from nnbackend.program.graph import VIEWS, is_view

from .gpu_nets import WORKLOADS, our_step
from .measure import markdown

BANDWIDTH = 3.35e12  # bytes a second
PLAIN = 67e12  # operations a second, in float32
TENSOR = {"ieee": PLAIN, "tf32": 495e12, "bfloat16": 990e12, "float16": 990e12}  # and in products, by precision
SHOWN = 25  # units
EVENT = 0.1  # seconds for which the device is held while the host issues a step


class Row(NamedTuple):
    """A unit: what it does, seconds, bytes that it moves, operations, and the seconds that these must take."""

    name: str
    seconds: float
    bytes: int
    operations: int
    floor: float


def profile(step, call, repeats=10):
    """The rows of a compiled step, whose `call` has been replayed before. On its stream, without a graph."""
    replay = step._latest.replay
    work, library = replay.work, replay.library
    cuda, tasks, graphs, ungraphed = library.cupy.cuda, work.tasks, replay._graphs, replay.ungraphed
    events = [cuda.Event() for _ in range(len(tasks) + 2)]

    def marked(task, before, after):
        def run(values):
            if task is tasks[0]:
                before.record()
            task(values)
            after.record()

        return run

    runs = []
    work.tasks = [marked(task, *events[i : i + 2]) for i, task in enumerate(tasks)]
    replay._graphs, replay.ungraphed = {}, "it is profiled"
    try:
        for _ in range(repeats):
            with _held(cuda.get_current_stream()):
                call()
                events[-1].record()
            events[-1].synchronize()
            runs.append([cuda.get_elapsed_time(a, b) / 1e3 for a, b in itertools.pairwise(events)])
    finally:
        work.tasks, replay._graphs, replay.ungraphed = tasks, graphs, ungraphed
    seconds = [median(some) for some in zip(*runs, strict=True)]
    rows = [_row(work, k, t, library.precision()) for k, t in enumerate(seconds[:-1]) if _launches(work, k)]
    moved = 2 * sum(_size(n) for n in work.program.outputs if not n.host)
    return [*rows, Row("copies of results", seconds[-1], moved, 0, moved / BANDWIDTH)]


@contextlib.contextmanager
def _held(stream):
    """The device begins when all has been issued, so that no unit waits for the host."""
    gate = threading.Event()
    stream.launch_host_func(lambda _: gate.wait(EVENT), None)
    try:
        yield
    finally:
        gate.set()


def _launches(work, k):
    """Whether a unit is more than another look at memory."""
    unit = work.units[k]
    return unit.fused or not (unit.node in work.joined or unit.node.op == "part" or is_view(unit.node))


def _row(work, k, seconds, precision):
    unit, places = work.units[k], work.places
    stored = [*places.stored[k], *(n for n in unit.ends if n not in places.stored[k])]
    made = [part for n in stored for part in ([n] if n.dtype else places.readers.get(n, ()))]
    moved = sum(map(_size, unit.inputs())) + sum(math.prod(n.shape) * n.dtype.itemsize for n in made)
    counts = [_operations(n) for n in unit.nodes]
    operations = sum(count for count, _ in counts)
    busy = sum(count / (TENSOR[precision] if product else PLAIN) for count, product in counts)
    names = list(dict.fromkeys(n.op for n in unit.nodes))
    shape = "x".join(map(str, unit.shape if unit.fused else max((n.shape for n in made), key=math.prod, default=())))
    name = f"{' '.join(names[:6])}{' ...' * (len(names) > 6)} {shape}"
    return Row(name, seconds, moved, operations, max(moved / BANDWIDTH, busy))


def _size(n):
    """Bytes that are read of a value: of one that is broadcast those that there are."""
    count = math.prod(n.shape)
    while n.op in VIEWS:
        n = n.inputs[0]
        count = min(count, math.prod(n.shape))
    return count * n.dtype.itemsize if n.dtype else 0


def _operations(n):
    """How many, and whether tensor cores can do them."""
    shapes, size = [i.shape for i in n.inputs if not i.host], math.prod(n.shape)
    if n.op in ("matmul", "affine"):
        return 2 * size * shapes[0][-1], True
    if n.op == "conv":
        return 2 * size * math.prod(shapes[1][1:]), True
    if n.op == "conv_transpose":
        return 2 * math.prod(shapes[0]) * math.prod(shapes[1][1:]), True
    if n.op == "conv_weight":
        return 2 * math.prod(shapes[0]) * math.prod(n.shape[1:]), True
    if n.op in ("attention", "attention_back"):
        products, causal = (2, n.operands()[5]) if n.op == "attention" else (5, n.operands()[8])
        q, k = shapes[:2]
        return products * 2 * math.prod(q) * k[-2] // (1 + bool(causal)), True
    return max([size, *map(math.prod, shapes)]), False


def text(rows):
    """The longest ones and what all come to, as Markdown."""
    total = sum(row.seconds for row in rows)
    lines = [["unit", "µs", "share", "MB", "GFLOP", "floor, µs", "times its floor"]]
    longest = sorted(rows, key=lambda row: -row.seconds)[:SHOWN]
    rest = [row for row in rows if row not in longest]
    rest = [Row(f"{len(rest)} others", *map(sum, list(zip(*rest, strict=True))[1:]))] if rest else []
    for row in (*longest, *rest, Row("all", *map(sum, list(zip(*rows, strict=True))[1:]))):
        times = f"{row.seconds / row.floor:.3g}" if row.floor else ""
        figures = f"{row.seconds * 1e6:.1f}", f"{row.seconds / total:.0%}", f"{row.bytes / 1e6:.3g}"
        lines.append([row.name, *figures, f"{row.operations / 1e9:.3g}", f"{row.floor * 1e6:.2g}", times])
    return markdown(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("--precision", help="that of the workload unless given")
    parser.add_argument("--quick", action="store_true", help="little data, only to see that it runs")
    args = parser.parse_args()
    workload = WORKLOADS[args.workload]
    place = nb.device("cuda", precision=args.precision or workload.precision)
    with place.stream():
        step, data = our_step(workload, place, args.quick)
        step = nb.compile(step)
        for _ in range(6):
            step(*data)
        rows = profile(step, lambda: step(*data))
    print(f"{workload.title}, {place.precision}: {step.kernels} units\n")
    print(text(rows))


if __name__ == "__main__":
    main()
