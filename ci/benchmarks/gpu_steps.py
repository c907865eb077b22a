"""Training steps on a CUDA GPU against PyTorch: `python -m benchmarks.gpu_steps [xor mlp ...]`, a part of `ci/gpu`.

For all the same weights, data on the device, the same precision (float32 without TF32; PyTorch's autocast to bfloat16
where it is ours), Adam, PyTorch's fused, and a loss that agrees. Each workload has a process, and what a contender
cannot do leaves the others. They are made ready side by side, for torch.compile takes long, and measured one at a time:
bursts in turn, round after round, each between two CUDA events on the contender's own stream.
"""

import argparse
import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from statistics import median

os.environ["NNBACKEND_CUDNN"] = "0"  # but for contenders that are said to have it

from . import gpu_profile
from .gpu_contenders import CHECKED, contenders
from .gpu_nets import WORKLOADS
from .measure import markdown, time_limit

MOST = 500  # calls in a burst: a GPU's queue holds about a thousand
LIMIT = 100  # seconds for a contender to be made ready
SPARE = 10  # seconds to be told that no time was left
BASES = ("PyTorch, eager", "torch.compile")


def ready(workload, makers, end):
    """Those that can do it, with losses that agree after the same steps; and what is to be said of these and others."""
    found, why, expected = {}, {}, None
    for name, make in makers.items():
        tell(begun=name)
        try:
            with time_limit(max(1, min(LIMIT, int(end - time.monotonic())))):
                contender = make()
                with contender.here():
                    for _ in range(CHECKED):
                        contender.step()
                    loss = float(contender.step())
                    for _ in range(2):
                        contender.step()
                    contender.between(contender.mark(), contender.mark())
            expected = loss if expected is None else expected
            if not abs(loss - expected) <= workload.tolerance * abs(expected):
                why[name] = f"left out: its loss is {loss:.6g}, that of the first {expected:.6g}"
                continue
            found[name] = contender
            if reason := contender.graphless():
                why[name] = reason
        except Exception as error:
            why[name] = "left out: " + " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return found, why


def burst(contender, length):
    """Seconds per step, on the device and to issue it on the host, over about `length` seconds of calls."""
    with contender.here():
        begin = contender.mark()
        contender.step()
        once = contender.between(begin, contender.mark())
        calls = max(1, min(MOST, math.ceil(length / max(once, 1e-6))))
        for _ in range(calls // 4):
            contender.step()
        begin, clock = contender.mark(), time.perf_counter()
        for _ in range(calls):
            contender.step()
        host, end = time.perf_counter() - clock, contender.mark()
        return contender.between(begin, end) / calls / contender.each, host / calls / contender.each


def measured(found, rounds, length):
    """For each contender a pair of lists, of seconds on the device and on the host. Every other round goes back."""
    times = {name: ([], []) for name in found}
    for i in range(rounds):
        for name in list(found)[:: -1 if i % 2 else 1]:
            for series, value in zip(times[name], burst(found[name], length), strict=True):
                series.append(value)
    return times


def report(workload, times, why):
    """Markdown: a row for each contender, with ratios to eager PyTorch and to the better torch.compile."""
    medians = {name: median(device) for name, (device, _) in times.items()}
    bases = base_times(medians)
    head = ["contender", "median, µs", "min, µs", "host, µs", *(f"over {base}" for base in bases), "target"]
    rows = [head]
    for name, (device, host) in times.items():
        ratios = [f"{medians[name] / base:.2f}" for base in bases.values()]
        goals = ", ".join(f"{goal:g} over {base}" for base, goal in targets(workload, name).items() if base in bases)
        rows.append([name, *(f"{t * 1e6:.1f}" for t in (medians[name], min(device), median(host))), *ratios, goals])
    lines = [markdown(rows), *(f"- {name}: {said}" for name, said in why.items())]
    return "\n".join(lines) + "\n"


def base_times(medians):
    """What ratios are over: of the two modes of torch.compile the faster."""
    of = {base: [t for name, t in medians.items() if name == base or name.startswith(base + ",")] for base in BASES}
    return {base: min(found) for base, found in of.items() if found}


def targets(workload, name):
    """Those of a contender."""
    if not name.startswith("nnbackend, compiled"):
        return {}
    return (workload.with_cudnn or {}) if name.endswith("cuDNN") else workload.targets


def missed(workload, times):
    """Contenders that miss a target: of ours without cuDNN, and with it, the best counts."""
    medians = {name: median(device) for name, (device, _) in times.items()}
    bases, best = base_times(medians), {}
    for name in sorted(medians, key=medians.__getitem__):
        if goals := targets(workload, name):
            best.setdefault(name.endswith("cuDNN"), (name, goals))
    return [
        name
        for name, goals in best.values()
        if any(base in bases and medians[name] > goal * bases[base] for base, goal in goals.items())
    ]


# -- processes -------------------------------------------------------------------------------------------------------


def work(args):
    """One workload: make ready, wait for the word, measure, and tell the parent."""
    workload, end = WORKLOADS[args.work], time.monotonic() + args.limit
    makers = contenders(workload, args.device, args.quick)
    makers = {name: make for name, make in makers.items() if name not in args.without}
    found, why = ready(workload, makers, end)
    tell(ready=True)
    sys.stdin.readline()
    times = measured(found, *(1, 0.01) if args.quick else (7, 0.05))
    tell(text=report(workload, times, why | dict.fromkeys(args.without, "it ended its process, or took too long")))
    for name in missed(workload, times):
        alone = found[name.partition(f", {workload.together} steps")[0]]
        if alone.graphless():
            continue
        with alone.here():
            rows = gpu_profile.profile(alone.compiled, alone.step)
        tell(text=f"Where the time of {name} goes, which misses its target:\n\n{gpu_profile.text(rows)}")
    sys.exit(0 if any(name.startswith("nnbackend") for name in times) else "none of ours is among them")


def tell(**what):
    print(json.dumps(what), flush=True)


class Process:
    """One of `work`. A contender that ends it, or takes too long, is left out, and it begins anew."""

    def __init__(self, name, flags, end):
        self.name, self.flags, self.without, self.deadline = name, flags, [], end  # by when it must be ready
        self._begin()

    def _begin(self):
        limit = max(1, int(self.deadline - time.monotonic() - SPARE))
        command = [sys.executable, "-m", "benchmarks.gpu_steps", *self.flags, "--work", self.name, f"--limit={limit}"]
        command += [part for name in self.without for part in ("--without", name)]
        self.texts, self.last, self.begun, self.able = [], deque(maxlen=3), "", False
        self.settled, self.ended = threading.Event(), False  # settled: ready, or it has ended
        how = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        self.process = subprocess.Popen(command, start_new_session=True, **how)
        self.thread = threading.Thread(target=self._listen, args=(self.process,), daemon=True)
        self.thread.start()

    def _listen(self, process):
        for line in process.stdout:
            if not line.startswith('{"'):
                self.last.append(line.strip())
                continue
            said = json.loads(line)
            self.begun = said.get("begun", self.begun)
            self.texts += [said["text"]] if "text" in said else []
            if "ready" in said:
                self.able = True
                self.settled.set()
        self.settled.set()

    def prepare(self):
        """Wait until it is ready to measure, or cannot be."""
        self.settled.wait(max(0.0, self.deadline - time.monotonic()))
        while not self.able and self.begun and len(self.without) < 4 and time.monotonic() < self.deadline:
            self.end()
            self.without.append(self.begun)
            self._begin()
            self.settled.wait(max(0.0, self.deadline - time.monotonic()))

    def measured(self, limit):
        """What it has to say, after measuring if it can; whether it did all that it should."""
        if self.able:
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                self.process.stdin.write("go\n")
                self.process.stdin.close()
                self.process.wait(limit)
        self.end()
        return self.able and self.texts and self.process.returncode == 0

    def end(self):
        """With the workers of torch.compile, which would keep the pipe open."""
        if self.ended:
            return
        self.ended = True
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.thread.join(5)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("workloads", nargs="*", metavar="workload", help=f"of {', '.join(WORKLOADS)}; all")
    parser.add_argument("--quick", action="store_true", help="few rounds on little data, only to see that all runs")
    parser.add_argument("--device", default="cuda", help='"cuda" (default) or "cpu"')
    parser.add_argument("--limit", type=float, default=400, help="seconds for all together")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--without", action="append", default=[], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if unknown := set(args.workloads) - set(WORKLOADS):
        parser.error(f"expected workloads of {', '.join(WORKLOADS)}, got {', '.join(sorted(unknown))}")
    if args.work:
        work(args)
    flags = ["--device", args.device, *["--quick"] * args.quick]
    end = time.monotonic() + 0.7 * args.limit  # the rest is for measuring
    processes = [Process(name, flags, end) for name in args.workloads or WORKLOADS]
    try:
        failed = run(processes, 0.3 * args.limit / len(processes))
    finally:
        for process in processes:
            process.end()
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


def run(processes, limit):
    """All are made ready, then measured in so many seconds each; the names of those that failed."""
    failed = []
    for process in processes:
        process.prepare()
    for process in processes:
        print(f"### {WORKLOADS[process.name].title}\n")
        if not process.measured(limit):
            failed.append(process.name)
            process.texts.append(f"failed at {process.begun}: {' '.join(process.last)[-400:]}\n")
        print("\n".join(process.texts), flush=True)
    return failed


if __name__ == "__main__":
    main()
