"""Chains of element-wise operations and back: what memory traffic decides."""

from functools import partial

import numpy as np

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import nn

from .nets import import_torch

# -- GELU and layer norm: forward, and backward for every input ------------------------------------------------------


def arrays(*shapes):
    """Random float32 arrays: the inputs of a chain, and last the gradient that comes from above."""
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape, "float32") for shape in shapes]


GELU_SHAPES = [(2048, 1024), (2048, 1024)]
NORM_SHAPES = [(2048, 1024), (1024,), (1024,), (2048, 1024)]


def our_gelu(x):
    return F.gelu(x, approximate="tanh")


def our_norm(x, weight, bias):
    return F.layer_norm(x, x.shape[-1:], weight, bias)


def torch_gelu(torch, x):
    return torch.nn.functional.gelu(x, approximate="tanh")


def torch_norm(torch, x, weight, bias):
    return torch.nn.functional.layer_norm(x, x.shape[-1:], weight, bias)


def jax_gelu(jax, x):
    return jax.nn.gelu(x, approximate=True)


def jax_norm(jax, x, weight, bias):
    centred = x - x.mean(-1, keepdims=True)
    return centred / jax.numpy.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * weight + bias


def flat(gradients):
    return np.concatenate([np.asarray(g).ravel() for g in gradients])


def our_chain(f, shapes, compiled):
    *inputs, g = arrays(*shapes)
    inputs, g = [nn.Parameter(a) for a in inputs], nb.tensor(g)

    def step():
        for p in inputs:
            p.grad = None
        loss = (f(*inputs) * g).sum()
        loss.backward()
        return loss

    return nb.compile(step) if compiled else step, lambda: flat(p.grad.numpy() for p in inputs)


def torch_chain(f, shapes, compiled=False):
    torch = import_torch()
    *inputs, g = [torch.tensor(a) for a in arrays(*shapes)]
    for p in inputs:
        p.requires_grad_()
    f = partial(f, torch)
    f = torch.compile(f) if compiled else f

    def step():
        for p in inputs:
            p.grad = None
        f(*inputs).backward(g)

    return step, lambda: flat(p.grad.numpy() for p in inputs)


def jax_chain(f, shapes):
    import jax

    *inputs, g = [jax.numpy.array(a) for a in arrays(*shapes)]

    @jax.jit
    def forward_and_back(g, *inputs):
        y, back = jax.vjp(partial(f, jax), *inputs)
        return y, back(g)

    def step():
        return jax.block_until_ready(forward_and_back(g, *inputs))

    return step, lambda: flat(step()[1])


GELU = {
    "PyTorch, eager": lambda: torch_chain(torch_gelu, GELU_SHAPES),
    "nnbackend, eager": lambda: our_chain(our_gelu, GELU_SHAPES, False),
    "nnbackend, compiled": lambda: our_chain(our_gelu, GELU_SHAPES, True),
    "torch.compile": lambda: torch_chain(torch_gelu, GELU_SHAPES, True),
    "JAX, jit": lambda: jax_chain(jax_gelu, GELU_SHAPES),
}
NORM = {
    "PyTorch, eager": lambda: torch_chain(torch_norm, NORM_SHAPES),
    "nnbackend, eager": lambda: our_chain(our_norm, NORM_SHAPES, False),
    "nnbackend, compiled": lambda: our_chain(our_norm, NORM_SHAPES, True),
    "torch.compile": lambda: torch_chain(torch_norm, NORM_SHAPES, True),
    "JAX, jit": lambda: jax_chain(jax_norm, NORM_SHAPES),
}
