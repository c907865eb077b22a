"""Training steps on a CUDA GPU against PyTorch eager: `python -m benchmarks.gpu_steps`, a part of `ci/gpu`.

For all the same weights, data on the device, float32 without TF32, and for PyTorch its fused Adam. Steps are issued in
bursts, and a burst is over when the device has done them all.
"""

import argparse
import itertools
import math
import sys
import time
from functools import partial
from importlib.util import find_spec

import numpy as np

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import nn, optim

from .measure import ready, table
from .nets import steps_over, training_step

TOLERANCE = 1e-3  # of losses after the steps that `ready` takes
RANDOM = np.random.default_rng(0)


def perceptron(sizes, activation, *last):
    """Linear layers with an activation between them, by a library's own names."""

    def layers(nn):
        found = []
        for n_in, n_out in itertools.pairwise(sizes):
            found += [nn.Linear(n_in, n_out), getattr(nn, activation)()]
        return nn.Sequential(*found[:-1], *(getattr(nn, name)() for name in last))

    return layers


def convnet(nn):
    """Two convolutions, images of 28 x 28."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64 * 7 * 7, 10),
    )  # fmt: skip


def gpt(nn, words=65, width=48, heads=3, layers=3):
    """A small transformer: word numbers (n, t) -> scores (n, t, words)."""
    layer = nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
    encoder = nn.TransformerEncoder(layer, layers)
    return nn.Sequential(nn.Embedding(words, width), encoder, nn.LayerNorm(width), nn.Linear(width, words))


def scores_loss(functions):
    """Cross-entropy of scores (n, t, words)."""
    return lambda scores, y: functions.cross_entropy(scores.reshape((-1, scores.shape[-1])), y.reshape((-1,)))


def cross_entropy(functions):
    return functions.cross_entropy


def normal(*shape):
    return RANDOM.standard_normal(shape, "float32")


def numbers(high, *shape):
    return RANDOM.integers(0, high, shape)


# Name, the net by a library's `nn`, the loss by its functions, and the data.
WORKLOADS = [
    ("XOR 2-4-1, sigmoid, batch 4, Adam", perceptron([2, 4, 1], "Sigmoid", "Sigmoid"),
     lambda functions: functions.mse_loss, [part.astype("float32") for part in nb.data.xor()]),
    ("MLP 784-512-256-10, ReLU, batch 128, Adam", perceptron([784, 512, 256, 10], "ReLU"),
     cross_entropy, [normal(128, 784), numbers(10, 128)]),
    ("two convolutions, 128 of 28x28, Adam", convnet, cross_entropy, [normal(128, 1, 28, 28), numbers(10, 128)]),
    ("transformer, 3 layers, 48 wide, 64 of 128 tokens, Adam", gpt, scores_loss,
     [numbers(65, 64, 128), numbers(65, 64, 128)]),
]  # fmt: skip


def start(layers):
    """The same weights for all, on the host."""
    return {name: value.numpy() for name, value in layers(nn).init(0).state_dict().items()}


def ours(device, layers, loss, data, compiled):
    net = layers(nn)
    net.load_state_dict(start(layers))
    net.to(device)
    step = training_step(net, optim.Adam(net.parameters(), lr=1e-3), loss(F))
    return steps_over(nb.compile(step) if compiled else step, [[nb.tensor(part, device=device) for part in data]])


def in_torch(device, layers, loss, data):
    import torch

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    net = layers(torch.nn)
    net.load_state_dict({name: torch.tensor(value) for name, value in start(layers).items()})
    net.to(device)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)
    step = training_step(net, optimizer, loss(torch.nn.functional))
    return steps_over(step, [[torch.tensor(part, device=device) for part in data]])


def contenders(device, *task):
    """Each makes its step; the base of the ratios first. PyTorch joins where it is here and sees the GPU."""
    makers = {}
    if find_spec("torch"):
        import torch

        if device == "cpu" or torch.cuda.is_available():
            makers["PyTorch, eager"] = partial(in_torch, device, *task)
    makers["nnbackend, eager"] = partial(ours, device, *task, compiled=False)
    makers["nnbackend, compiled"] = partial(ours, device, *task, compiled=True)
    return makers


def burst(step, wait, length):
    """Seconds per call over about `length` seconds, after as long that is not measured."""
    begin, calls = time.perf_counter(), 0
    while time.perf_counter() - begin < length:
        step()
        calls += 1
    wait()
    calls = max(1, math.ceil(calls * length / (time.perf_counter() - begin)))
    begin = time.perf_counter()
    for _ in range(calls):
        step()
    wait()
    return (time.perf_counter() - begin) / calls


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="few rounds, only to see that all runs")
    parser.add_argument("--device", default="cuda", help='"cuda" (default) or "cpu"')
    args = parser.parse_args()
    rounds, length = (1, 0.01) if args.quick else (9, 0.1)
    wait = nb.device(args.device).synchronize  # for all streams of the device, PyTorch's as well
    failed = []
    for name, layers, loss, data in WORKLOADS:
        print(f"### {name}\n", flush=True)
        task = layers, loss, [part[:4] for part in data] if args.quick else data
        try:
            steps = ready(contenders(args.device, *task), TOLERANCE)
        except Exception as error:  # the others are worth their time on a GPU
            failed.append(name)
            print(f"left out: {error!r}\n", flush=True)
            continue
        times = {name: [] for name in steps}
        for i in range(rounds):
            for contender in list(steps)[:: -1 if i % 2 else 1]:
                times[contender].append(burst(steps[contender], wait, length))
        print(table(times), flush=True)
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
