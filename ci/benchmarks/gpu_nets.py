"""The nets of `gpu_steps`: one text for nnbackend and PyTorch, by what both call the same."""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import nn, optim

from .nets import training_step


class Workload(NamedTuple):
    """`layers(nn, functions)` makes the net, `loss(functions)` its loss, `data(tiny)` inputs and targets.

    `targets` are the issue's, for our time over that of a contender. `together` steps go into one launch.
    """

    title: str
    layers: Callable[[Any, Any], Any]
    loss: Callable[[Any], Any]
    data: Callable[[bool], list[Any]]
    targets: dict[str, float]
    together: int
    precision: str = "ieee"
    tolerance: float = 1e-3  # of the losses, relatively
    with_cudnn: dict[str, float] | None = None  # targets with cuDNN, where it makes a difference


def perceptron(sizes, activation, *last):
    """Linear layers with an activation between them."""

    def layers(nn, functions):
        found = []
        for n_in, n_out in itertools.pairwise(sizes):
            found += [nn.Linear(n_in, n_out), getattr(nn, activation)()]
        return nn.Sequential(*found[:-1], *(getattr(nn, name)() for name in last))

    return layers


def convnet(nn, functions):
    """Two convolutions, images of 28 x 28."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64 * 7 * 7, 10),
    )  # fmt: skip


def block(nn, functions, width, heads):
    """A block of GPT-2, the norms first: (n, t, width) -> (n, t, width). Each token sees those before it."""
    unstack = nb.unstack if functions is F else lambda x: x.unbind(0)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
            self.packed, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def forward(self, x):
            n, t, _ = x.shape
            packed = self.packed(self.before(x)).reshape(n, t, 3, heads, width // heads)
            q, k, v = unstack(packed.permute(2, 0, 3, 1, 4))
            y = functions.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(y.permute(0, 2, 1, 3).reshape(n, t, width))
            return x + self.down(functions.gelu(self.up(self.between(x)), approximate="tanh"))

    return Block()


def gpt(nn, functions, words=65, width=48, heads=3, layers=3):
    """A small one: word numbers (n, t) -> scores (n, t, words)."""
    blocks = [block(nn, functions, width, heads) for _ in range(layers)]
    return nn.Sequential(nn.Embedding(words, width), *blocks, nn.LayerNorm(width), nn.Linear(width, words))


def of_tokens(functions):
    """Cross-entropy of scores (n, t, words) and word numbers (n * t,)."""
    return lambda scores, y: functions.cross_entropy(scores.reshape((-1, scores.shape[-1])), y)


def normal(*shape):
    return np.random.default_rng(0).standard_normal(shape, "float32")


def numbers(high, *shape):
    return np.random.default_rng(1).integers(0, high, shape)


WORKLOADS = {
    "xor": Workload(
        "XOR 2-4-1, sigmoid, batch 4",
        perceptron([2, 4, 1], "Sigmoid", "Sigmoid"),
        lambda functions: functions.mse_loss,
        lambda tiny: [part.astype("float32") for part in nb.data.xor()],
        {"PyTorch, eager": 0.15, "torch.compile": 0.7},
        together=32,
    ),
    "mlp": Workload(
        "MLP 784-512-256-10, ReLU, batch 128",
        perceptron([784, 512, 256, 10], "ReLU"),
        lambda functions: functions.cross_entropy,
        lambda tiny: [normal(4 if tiny else 128, 784), numbers(10, 4 if tiny else 128)],
        {"PyTorch, eager": 0.2, "torch.compile": 0.7},
        together=32,
    ),
    "convnet": Workload(
        "two convolutions, batch 128 of 28x28",
        convnet,
        lambda functions: functions.cross_entropy,
        lambda tiny: [normal(4 if tiny else 128, 1, 28, 28), numbers(10, 4 if tiny else 128)],
        {"PyTorch, eager": 0.5},
        together=16,
        with_cudnn={"PyTorch, eager": 0.5},
    ),
    "gpt": Workload(
        "small GPT, 3 layers, 48 wide, batch 64 of 128 tokens",
        gpt,
        of_tokens,
        lambda tiny: [numbers(65, *(2, 16) if tiny else (64, 128)), numbers(65, 32 if tiny else 64 * 128)],
        {"PyTorch, eager": 0.35},
        together=8,
        with_cudnn={"PyTorch, eager": 0.35},
    ),
    "block": Workload(
        "block of GPT-2 small, 768 wide, batch 16 of 1024 tokens, bfloat16",
        lambda nn, functions: block(nn, functions, 768, 12),
        lambda functions: functions.mse_loss,
        lambda tiny: [normal(*(1, 16, 768) if tiny else (16, 1024, 768))] * 2,
        {"PyTorch, eager": 1.2},
        together=1,
        precision="bfloat16",
        tolerance=2e-2,
        with_cudnn={"PyTorch, eager": 0.9},
    ),
}


def start(workload):
    """The same weights for all, on the host."""
    return {name: value.numpy() for name, value in workload.layers(nn, F).init(0).state_dict().items()}


def our_step(workload, device, tiny=False):
    """A training step of nnbackend's and its data."""
    net = workload.layers(nn, F)
    net.load_state_dict(start(workload))
    net.to(device)
    step = training_step(net, optim.Adam(net.parameters(), lr=1e-3), workload.loss(F))
    return step, [nb.tensor(part, device=device) for part in workload.data(tiny)]
