"""Convolutions 3x3 of images, forward and back, and a training step of a small net of them."""

from functools import partial

import numpy as np

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import nn, optim

from .nets import import_torch, steps_over, training_step

# -- one convolution: forward, and backward for the images and the weights -------------------------------------------


def arrays(channels, size, outputs, batch=64):
    """Images, weights, and the gradient that comes from above."""
    rng = np.random.default_rng(0)
    shapes = (batch, channels, size, size), (outputs, channels, 3, 3), (batch, outputs, size, size)
    return [rng.standard_normal(shape, "float32") for shape in shapes]


def flat(gradients):
    return np.concatenate([np.asarray(g).ravel() for g in gradients])


def ours(shape, compiled):
    x, w, g = arrays(*shape)
    x, w, g = nn.Parameter(x), nn.Parameter(w), nb.tensor(g)

    def step(g):
        x.grad = w.grad = None
        F.conv2d(x, w, padding=1).backward(g)

    return partial(nb.compile(step) if compiled else step, g), lambda: flat((x.grad.numpy(), w.grad.numpy()))


def in_torch(shape, channels_last=False):
    torch = import_torch()
    layout = torch.channels_last if channels_last else torch.contiguous_format
    x, w, g = (torch.tensor(a).contiguous(memory_format=layout) for a in arrays(*shape))
    x.requires_grad_()
    w.requires_grad_()

    def step():
        x.grad = w.grad = None
        torch.nn.functional.conv2d(x, w, padding=1).backward(g)

    return step, lambda: flat((x.grad, w.grad))


def contenders(*shape):
    """Of a convolution from so many channels of so many pixels squared to so many channels."""
    return {
        "PyTorch, eager": partial(in_torch, shape),
        "PyTorch, channels last": partial(in_torch, shape, channels_last=True),
        "nnbackend, eager": partial(ours, shape, False),
        "nnbackend, compiled": partial(ours, shape, True),
    }


SMALL, MIDDLE, LARGE = contenders(1, 28, 32), contenders(32, 14, 64), contenders(64, 32, 64)

# -- two convolutions, digits of 28 x 28, batch 64, cross-entropy, Adam ----------------------------------------------


def digits():
    rng = np.random.default_rng(0)
    return rng.standard_normal((64, 1, 28, 28), "float32"), rng.integers(0, 10, 64)


def layers(nn):
    """The layers by a library's own names."""
    return [
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64 * 7 * 7, 10),
    ]  # fmt: skip


def start():
    """The same weights for all."""
    return nn.Sequential(*layers(nn)).init(0).state_dict()


def our_net(compiled):
    net = nn.Sequential(*layers(nn))
    net.load_state_dict(start())
    step = training_step(net, optim.Adam(net.parameters(), lr=1e-3), F.cross_entropy)
    return steps_over(nb.compile(step) if compiled else step, [tuple(map(nb.tensor, digits()))])


def torch_net(compiled=False, channels_last=False):
    torch = import_torch()
    net = torch.nn.Sequential(*layers(torch.nn))
    net.load_state_dict({name: torch.tensor(value.numpy()) for name, value in start().items()})
    x, labels = map(torch.tensor, digits())
    if channels_last:
        net, x = net.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    run = torch.compile(net) if compiled else net
    return steps_over(training_step(run, optimizer, torch.nn.functional.cross_entropy), [(x, labels)])


NET = {
    "PyTorch, eager": torch_net,
    "PyTorch, channels last": partial(torch_net, channels_last=True),
    "nnbackend, eager": partial(our_net, False),
    "nnbackend, compiled": partial(our_net, True),
    "torch.compile": partial(torch_net, compiled=True),
}
