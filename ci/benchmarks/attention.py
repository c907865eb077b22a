"""Attention: a transformer layer, and 2,048 tokens, whose weights in all heads would take 134 MB."""

import numpy as np

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import nn

from .elementwise import flat
from .nets import import_torch

# -- a transformer layer: forward, and backward for all parameters --------------------------------------------------

LAYER = {"d_model": 256, "nhead": 4, "dim_feedforward": 1024, "dropout": 0.0, "activation": "gelu", "batch_first": True}


def layer_task():
    """PyTorch's state dict with random values, an input of 16 x 128 tokens, and the gradient that comes from above."""
    rng = np.random.default_rng(0)
    start = nn.TransformerEncoderLayer(**LAYER).init(0).state_dict()
    x, g = rng.standard_normal((2, 16, 128, 256), "float32")
    return {name: value.numpy() for name, value in start.items()}, x, g


def our_layer(compiled):
    state, x, g = layer_task()
    net, x, g = nn.TransformerEncoderLayer(**LAYER), nb.tensor(x), nb.tensor(g)
    net.load_state_dict(state)

    def step():
        net.zero_grad()
        loss = (net(x) * g).sum()
        loss.backward()
        return loss

    return nb.compile(step) if compiled else step, lambda: flat(p.grad.numpy() for p in net.parameters())


def torch_layer(compiled=False):
    torch = import_torch()
    state, x, g = layer_task()
    net, x, g = torch.nn.TransformerEncoderLayer(**LAYER), torch.tensor(x), torch.tensor(g)
    net.load_state_dict({name: torch.tensor(value) for name, value in state.items()})
    run = torch.compile(net) if compiled else net

    def step():
        net.zero_grad()
        run(x).backward(g)

    return step, lambda: flat(p.grad.numpy() for p in net.parameters())


TRANSFORMER = {
    "PyTorch, eager": torch_layer,
    "nnbackend, eager": lambda: our_layer(False),
    "nnbackend, compiled": lambda: our_layer(True),
    "torch.compile": lambda: torch_layer(True),
}

# -- 2,048 tokens in 8 heads of width 64: forward, and backward for queries, keys and values ------------------------


def tokens():
    return np.random.default_rng(0).standard_normal((4, 1, 8, 2048, 64), "float32")


def our_attention(compiled):
    *inputs, g = tokens()
    inputs, g = [nn.Parameter(a) for a in inputs], nb.tensor(g)

    def step():
        for p in inputs:
            p.grad = None
        loss = (F.scaled_dot_product_attention(*inputs) * g).sum()
        loss.backward()
        return loss

    return nb.compile(step) if compiled else step, lambda: flat(p.grad.numpy() for p in inputs)


def torch_attention():
    torch = import_torch()
    *inputs, g = (torch.tensor(a) for a in tokens())
    for p in inputs:
        p.requires_grad_()

    def step():
        for p in inputs:
            p.grad = None
        torch.nn.functional.scaled_dot_product_attention(*inputs).backward(g)

    return step, lambda: flat(p.grad.numpy() for p in inputs)


ATTENTION = {
    "PyTorch, eager": torch_attention,
    "nnbackend, eager": lambda: our_attention(False),
    "nnbackend, compiled": lambda: our_attention(True),
}
