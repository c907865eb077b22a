"""Chains of element-wise operations and back, and an optimizer's step alone: what memory traffic decides."""

from functools import partial

import numpy as np

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import nn, optim

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

# -- Adam: the update of ten million parameters, the gradient fixed --------------------------------------------------

MANY = (10_000_000,)


def our_adam(compiled):
    w, g = arrays(MANY, MANY)
    p = nn.Parameter(w)
    p.grad = nb.tensor(g)
    adam = optim.Adam([p])

    def step():
        adam.step()

    return nb.compile(step) if compiled else step, lambda: p.numpy().copy()


def torch_adam(compiled=False, **settings):
    torch = import_torch()
    w, p_grad = (torch.tensor(a) for a in arrays(MANY, MANY))
    p = torch.nn.Parameter(w)
    p.grad = p_grad
    adam = torch.optim.Adam([p], **settings)
    step = torch.compile(adam.step) if compiled else adam.step
    return step, lambda: p.detach().numpy().copy()


def jax_adam():
    import jax
    import optax

    p, g = (jax.numpy.array(a) for a in arrays(MANY, MANY))
    adam = optax.adam(1e-3)
    slots = adam.init(p)

    @partial(jax.jit, donate_argnums=(0, 1))
    def update(p, slots, g):
        updates, slots = adam.update(g, slots)
        return optax.apply_updates(p, updates), slots

    def step():
        nonlocal p, slots
        p, slots = jax.block_until_ready(update(p, slots, g))

    return step, lambda: np.array(p)


ADAM = {
    "PyTorch, default Adam": torch_adam,
    "nnbackend, eager": lambda: our_adam(False),
    "nnbackend, compiled": lambda: our_adam(True),
    "PyTorch, fused Adam": lambda: torch_adam(fused=True),
    "torch.compile, default Adam": lambda: torch_adam(True),
    "JAX, jit": jax_adam,
}
