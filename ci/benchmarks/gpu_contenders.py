"""The contenders of `gpu_steps`: steps of nnbackend's and of PyTorch's, each with a clock on its own stream."""

import contextlib
import os
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any, NamedTuple

import nnbackend as nb
from nnbackend.backend import KERNELS, library_backend
from nnbackend.backend.cupy_primitives import overrides
from nnbackend.program import replay_cuda

from .gpu_nets import our_step, start

CHECKED = 6  # steps before losses are compared: recording and replaying are both among them


class Contender(NamedTuple):
    """`step()` makes one call, of `each` steps, and gives the loss of the first; events are marked on its stream."""

    step: Callable[[], Any]
    here: Callable[[], contextlib.AbstractContextManager[Any]]
    mark: Callable[[], Any]
    between: Callable[[Any, Any], float]  # seconds, after waiting for the second
    each: int = 1
    compiled: Any = None

    def graphless(self):
        """Why a compiled step is no graph of `each` steps, if it is not."""
        if self.compiled is None or self.compiled.why:
            return self.compiled and self.compiled.why
        replay = self.compiled._latest.replay
        if not isinstance(replay, replay_cuda.Replay):
            return "replayed without a graph"
        counts = {count for _, count in replay._graphs}
        return replay.ungraphed or (None if self.each in counts else f"no graph of {self.each} steps was made")


# -- ours ------------------------------------------------------------------------------------------------------------


def ours(workload, device, tiny, how="eager", table=None):
    """How: "eager", "compiled", or "several" steps in a launch. `table` is that of overrides, if not the usual one."""
    place = nb.device(device, precision=workload.precision)
    backend = place.backend
    table = backend.overrides if table is None else table
    with place.stream():
        step, data = our_step(workload, place, tiny)
    run = step if how == "eager" else nb.compile(step)
    each, call = 1, lambda: run(*data)
    if how == "several":
        each = workload.together
        calls = batches(place, data, each)
        first = iter(range(CHECKED))
        call = lambda: run(*data) if next(first, None) is not None else run.several(calls)[0]  # noqa: E731

    def stepped():
        backend.overrides = table
        return call()

    mark, between = clock(place)
    return Contender(stepped, place.stream, mark, between, each, None if how == "eager" else run)


def batches(place, data, count):
    """So many batches like this one, side by side in memory, as those of a loader with all data on the device are."""
    with place.stream():
        parts = [nb.concat([part] * count, axis=0).data for part in data]
        lengths = [len(part) for part in data]
        return [
            tuple(nb.Tensor(part[i * n : (i + 1) * n]) for part, n in zip(parts, lengths, strict=True))
            for i in range(count)
        ]


def clock(place):
    """Two functions: what marks a moment on the current stream, and what gives the seconds between two."""
    if place.backend.name != "cupy":
        return time.perf_counter, lambda a, b: b - a
    cuda = place.backend.cupy.cuda

    def mark():
        event = cuda.Event()
        event.record()
        return event

    def between(a, b):
        b.synchronize()
        return cuda.get_elapsed_time(a, b) / 1e3

    return mark, between


# -- PyTorch ---------------------------------------------------------------------------------------------------------


def in_torch(workload, device, tiny, how="eager"):
    """How: "eager", "compile", its mode "reduce-overhead", or the whole step as a "graph" by hand."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    functions = torch.nn.functional
    net, loss_of = workload.layers(torch.nn, functions), workload.loss(functions)
    net.load_state_dict({name: torch.tensor(value) for name, value in start(workload).items()})
    net.to(device)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True, capturable=how == "graph")
    data = [torch.tensor(part, device=device) for part in workload.data(tiny)]
    narrow = workload.precision == "bfloat16"

    def objective(x, y):
        with torch.autocast(device.partition(":")[0], torch.bfloat16, enabled=narrow):
            return loss_of(net(x), y)

    if how in ("compile", "reduce-overhead"):
        objective = torch.compile(objective, mode="default" if how == "compile" else how, dynamic=False)

    def step(x, y):
        if how == "reduce-overhead":
            torch.compiler.cudagraph_mark_step_begin()
        loss = objective(x, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    call, here = partial(step, *data), contextlib.nullcontext
    if device == "cpu":
        return Contender(call, here, time.perf_counter, lambda a, b: b - a)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())

    def mark():
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def between(a, b):
        b.synchronize()
        return a.elapsed_time(b) / 1e3

    if how == "graph":
        call = graphed(torch, stream, step, data)
    return Contender(call, lambda: torch.cuda.stream(stream), mark, between)


def graphed(torch, stream, step, data):
    """Calls of a step: the first run it, one captures it, and from then on batches are copied to where it has them."""
    places, steps = [part.clone() for part in data], iter(range(CHECKED - 1))
    graph = torch.cuda.CUDAGraph()
    captured = []

    def call():
        if next(steps, None) is not None:
            return step(*places)
        if not captured:
            with torch.cuda.graph(graph, stream=stream):
                captured.append(step(*places))
        for place, part in zip(places, data, strict=True):
            place.copy_(part)
        graph.replay()
        return captured[0]

    return call


# -- all -------------------------------------------------------------------------------------------------------------


def contenders(workload, device, tiny):
    """What makes each of them. PyTorch joins where it is here and sees the GPU, cuDNN where its frontend is."""
    task, cuda = (workload, device, tiny), device != "cpu"
    makers, late = {}, {}
    if find_spec("torch"):
        import torch

        sees = cuda and torch.cuda.is_available()
        if sees or not cuda or getattr(library_backend("cupy").cupy, "is_standin", False):
            makers["PyTorch, eager"] = partial(in_torch, workload, device if sees else "cpu", tiny)
        if sees:  # what takes long comes last
            late["PyTorch, CUDA graph by hand"] = partial(in_torch, *task, how="graph")
            late["torch.compile"] = partial(in_torch, *task, how="compile")
            late["torch.compile, reduce-overhead"] = partial(in_torch, *task, how="reduce-overhead")
    makers["nnbackend, eager"] = partial(ours, *task)
    makers["nnbackend, compiled"] = partial(ours, *task, how="compiled")
    if cuda and workload.together > 1:
        makers[f"nnbackend, compiled, {workload.together} steps in a launch"] = partial(ours, *task, how="several")
    if cuda and workload.with_cudnn and (table := cudnn_table()):
        makers["nnbackend, eager, cuDNN"] = partial(ours, *task, table=table)
        makers["nnbackend, compiled, cuDNN"] = partial(ours, *task, how="compiled", table=table)
    return makers | late


def cudnn_table():
    """The overrides with cuDNN's; nothing where it cannot be used."""
    backend = library_backend("cupy")
    os.environ["NNBACKEND_CUDNN"] = "1"
    try:
        table = overrides(backend.cupy) if KERNELS else {}
    finally:
        os.environ["NNBACKEND_CUDNN"] = "0"
    return table if table.get("conv") is not backend.overrides.get("conv") else {}
