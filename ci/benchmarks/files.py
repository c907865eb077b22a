"""Saving and loading 500 MB of weights, against the same bytes written plainly and brought to the disk."""

import os
import statistics
import tempfile
import time
import tracemalloc
from pathlib import Path

import nnbackend as nb
from nnbackend import nn

from .measure import markdown

WIDTH = 1024  # a matrix is 4 MB


def plain(path, chunks):
    """Write and flush to the disk, then rename: what it takes at least to be safe."""
    with open(f"{path}.tmp", "wb") as file:
        for chunk in chunks:
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    os.replace(f"{path}.tmp", path)


def peak(task):
    """What a task allocates at most, in MB."""
    tracemalloc.start()
    try:
        task()
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


def report(matrices, rounds):
    """Medians of the ratios round by round, and peaks of memory."""
    net = nn.Sequential(*(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(matrices)))
    chunks = [p.numpy().data for p in net.parameters()]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.safetensors"
        tasks = {
            "written plainly, to the disk": lambda: plain(path, chunks),
            "nb.save": lambda: nb.save(net, path),
            "nb.save, bfloat16": lambda: nb.save(net, path, dtype="bfloat16"),
            "read plainly": path.read_bytes,
            "nb.load": lambda: nb.load(path),
            "nb.load(into=net)": lambda: nb.load(path, into=net),
            "nb.weights, one of 4 MB": lambda: nb.weights(path)["0.weight"].numpy().sum(),
        }
        times = {name: [] for name in tasks}
        for _ in range(rounds):
            for name, task in tasks.items():
                if name == "read plainly":
                    nb.save(net, path)
                os.sync()
                start = time.perf_counter()
                task()
                times[name].append(time.perf_counter() - start)
        nb.save(net, path)
        base = times["written plainly, to the disk"]
        rows = [("", "ms", "ratio to plain writing", "peak memory, MB")]
        for name, task in tasks.items():
            ratio = statistics.median(a / b for a, b in zip(times[name], base, strict=True))
            rows.append((name, f"{statistics.median(times[name]) * 1e3:.0f}", f"{ratio:.2f}", f"{peak(task):.1f}"))
            nb.save(net, path)
    return markdown(rows)
