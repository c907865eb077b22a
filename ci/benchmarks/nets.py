"""One training step of a multilayer perceptron, by the same description in each library."""

import itertools
import os
from functools import partial
from types import SimpleNamespace

import numpy as np

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import nn, optim


def linears(sizes, draw, dtype):
    """Weights by state-dict keys, of linear layers with an activation after each: {"0.weight": (out, in), ...}."""
    state = {}
    for i, (n_in, n_out) in enumerate(itertools.pairwise(sizes)):
        state[f"{2 * i}.weight"] = draw(n_in, (n_out, n_in)).astype(dtype)
        state[f"{2 * i}.bias"] = draw(n_in, (n_out,)).astype(dtype)
    return state


def steps_over(step, batches):
    """The contender that trains on the batches in turn; what came of it is the loss of one more step."""
    turns = itertools.cycle(batches)

    def call():
        return step(*next(turns))

    return call, lambda: call().item()


def training_step(net, optimizer, loss_of):
    """A training step as people write it: the same text for nnbackend and for PyTorch."""

    def step(x, y):
        loss = loss_of(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step


def ours(task, compiled):
    net = nn.MLP(task.sizes, task.activation, output=task.output, dtype=str(task.batches[0][0].dtype))
    net.load_state_dict(task.state)
    optimizer = getattr(optim, task.optimizer)(net.parameters(), lr=task.lr)
    step = training_step(net, optimizer, task.loss(F))
    batches = [(nb.tensor(x), nb.tensor(y)) for x, y in task.batches]
    return steps_over(nb.compile(step) if compiled else step, batches)


def import_torch():
    """PyTorch with as many threads as NumPy has."""
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    return torch


def in_torch(task, compiled=False, **settings):
    torch = import_torch()
    activations = {"relu": torch.nn.ReLU, "sigmoid": torch.nn.Sigmoid}
    layers = []
    for n_in, n_out in itertools.pairwise(task.sizes):
        layers += [torch.nn.Linear(n_in, n_out), activations[task.activation]()]
    if task.output is None:
        del layers[-1]
    net = torch.nn.Sequential(*layers).to(getattr(torch, str(task.batches[0][0].dtype)))
    net.load_state_dict({name: torch.tensor(value) for name, value in task.state.items()})
    optimizer = getattr(torch.optim, task.optimizer)(net.parameters(), lr=task.lr, **settings)
    batches = [(torch.tensor(x), torch.tensor(y)) for x, y in task.batches]
    net = torch.compile(net) if compiled else net
    step = training_step(net, optimizer, task.loss(torch.nn.functional))
    return steps_over(step, batches)


def in_jax(task):
    """One jitted function, its state donated; the call waits for the loss, as a loop that reads it does."""
    import jax
    import optax

    functions = SimpleNamespace(
        mse_loss=lambda output, target: ((output - target) ** 2).mean(),
        cross_entropy=lambda z, labels: optax.softmax_cross_entropy_with_integer_labels(z, labels).mean(),
    )
    loss_of, last = task.loss(functions), len(task.sizes) - 2
    optimizer = getattr(optax, task.optimizer.lower())(task.lr)

    def objective(params, x, y):
        for i in range(last + 1):
            x = x @ params[f"{2 * i}.weight"].T + params[f"{2 * i}.bias"]
            activation = task.activation if i < last else task.output
            x = getattr(jax.nn, activation)(x) if activation else x
        return loss_of(x, y)

    @partial(jax.jit, donate_argnums=(0, 1))
    def update(params, slots, x, y):
        loss, gradients = jax.value_and_grad(objective)(params, x, y)
        updates, slots = optimizer.update(gradients, slots, params)
        return optax.apply_updates(params, updates), slots, loss

    params = {name: jax.numpy.array(value) for name, value in task.state.items()}
    slots = optimizer.init(params)

    def step(x, y):
        nonlocal params, slots
        params, slots, loss = update(params, slots, x, y)
        return loss.block_until_ready()

    return steps_over(step, [(jax.numpy.array(x), jax.numpy.array(y)) for x, y in task.batches])


def in_sklearn(task):
    """`partial_fit` on one batch. Its first call makes the net; then it gets the same weights as the others."""
    from sklearn.neural_network import MLPClassifier

    [(x, y)] = task.batches
    model = MLPClassifier(
        task.sizes[1:-1],
        task.activation,
        solver=task.optimizer.lower(),
        learning_rate_init=task.lr,
        epsilon=5e-10,  # not scaled by the bias correction here: in the first steps this is the others' 1e-8
        batch_size=len(x),
        alpha=0.0,
        shuffle=False,
    )
    model.partial_fit(x, y, classes=np.arange(task.sizes[-1]))
    del model._optimizer  # it would go on with the moments of the first call
    model.coefs_ = [value.T.copy() for name, value in task.state.items() if name.endswith("weight")]
    model.intercepts_ = [value.copy() for name, value in task.state.items() if name.endswith("bias")]
    return partial(model.partial_fit, x, y), lambda: model.partial_fit(x, y).loss_
