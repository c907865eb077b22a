"""Recurrent layers: forward, and backward for inputs and weights, over (steps, batch, inputs) float32."""

import numpy as np

import nnbackend as nb
from nnbackend import nn

from .elementwise import flat
from .nets import import_torch

SMALL, LARGE = (32, 16, 32, 64), (64, 32, 128, 256)  # steps, batch, inputs, hidden


def arrays(kind, sizes):
    """Weights by name, the sequences, and the gradient that comes from above."""
    steps, batch, inputs, hidden = sizes
    net, rng = getattr(nn, kind)(inputs, hidden).init(0), np.random.default_rng(0)
    state = {name: p.numpy() for name, p in net.named_parameters()}
    x, g = (rng.standard_normal((steps, batch, size), "float32") for size in (inputs, hidden))
    return state, x, g


def ours(kind, sizes, compiled):
    state, x, g = arrays(kind, sizes)
    net = getattr(nn, kind)(*sizes[2:])
    net.load_state_dict(state)
    x, g = nn.Parameter(x), nb.tensor(g)
    parameters = [x, *net.parameters()]

    def step():
        for p in parameters:
            p.grad = None
        loss = (net(x)[0] * g).sum()
        loss.backward()
        return loss

    return nb.compile(step) if compiled else step, lambda: flat(p.grad.numpy() for p in parameters)


def in_torch(kind, sizes):
    torch = import_torch()
    state, x, g = arrays(kind, sizes)
    net = getattr(torch.nn, kind)(*sizes[2:])
    net.load_state_dict({name: torch.tensor(value) for name, value in state.items()})
    x, g = torch.tensor(x, requires_grad=True), torch.tensor(g)
    parameters = [x, *net.parameters()]

    def step():
        for p in parameters:
            p.grad = None
        net(x)[0].backward(g)

    return step, lambda: flat(p.grad.numpy() for p in parameters)


def contenders(kind, sizes):
    return {
        "PyTorch, eager": lambda: in_torch(kind, sizes),
        "nnbackend, eager": lambda: ours(kind, sizes, False),
        "nnbackend, compiled": lambda: ours(kind, sizes, True),
    }


LSTM, LSTM_SMALL = contenders("LSTM", LARGE), contenders("LSTM", SMALL)
GRU, GRU_SMALL = contenders("GRU", LARGE), contenders("GRU", SMALL)
