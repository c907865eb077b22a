"""Training steps: XOR and Iris beside the tutorials' own loops in NumPy, and an MLP of the size of MNIST's."""

import itertools
from types import SimpleNamespace

import numpy as np

import nnbackend as nb

from .nets import in_jax, in_sklearn, in_torch, linears, ours

# -- XOR ------------------------------------------------------------------------------------------------------------

X, Y = nb.data.xor()


def xor_start():
    """The first tutorial's weights."""
    rng = np.random.RandomState(42)
    return rng.randn(2, 4) * 0.5, np.zeros((1, 4)), rng.randn(4, 1) * 0.5, np.zeros((1, 1))


def tutorial():
    """The first tutorial's loop body, as it stands there."""
    W1, b1, W2, b2 = xor_start()

    def sigmoid(z):
        return 1 / (1 + np.exp(-z))

    def slope(z):
        s = sigmoid(z)
        return s * (1 - s)

    def step():
        z1 = X @ W1 + b1
        a1 = sigmoid(z1)
        z2 = a1 @ W2 + b2
        a2 = sigmoid(z2)
        loss = np.mean((a2 - Y) ** 2)
        dz2 = (a2 - Y) * slope(z2)
        dW2, db2 = a1.T @ dz2 / 4, np.sum(dz2, axis=0, keepdims=True) / 4
        dz1 = (dz2 @ W2.T) * slope(z1)
        dW1, db1 = X.T @ dz1 / 4, np.sum(dz1, axis=0, keepdims=True) / 4
        for w, dw in ((W2, dW2), (b2, db2), (W1, dW1), (b1, db1)):
            w -= 1.0 * dw
        return loss

    return step, step


def xor():
    W1, b1, W2, b2 = xor_start()
    return SimpleNamespace(
        sizes=[2, 4, 1],
        activation="sigmoid",
        output="sigmoid",
        state={"0.weight": W1.T, "0.bias": b1[0], "2.weight": W2.T, "2.bias": b2[0]},
        optimizer="SGD",
        lr=0.5,  # the tutorial's gradient is half the true one
        loss=lambda functions: functions.mse_loss,
        batches=[(X, Y)],
    )


XOR = {
    "the tutorial's loop in NumPy": tutorial,
    "nnbackend, eager": lambda: ours(xor(), False),
    "nnbackend, compiled": lambda: ours(xor(), True),
    "PyTorch, eager": lambda: in_torch(xor()),
    "torch.compile": lambda: in_torch(xor(), True),
    "JAX, jit": lambda: in_jax(xor()),
}

# -- Iris -----------------------------------------------------------------------------------------------------------


def iris():
    """The second tutorial's recipe, flower by flower: half the sum of squares of one-hot labels."""
    flowers = nb.data.iris()
    order = np.random.default_rng(0).permutation(len(flowers.X))
    rng, labels = np.random.default_rng(1), nb.data.one_hot(flowers.y, 3).astype("float64")
    return SimpleNamespace(
        sizes=[4, 5, 10, 3],
        activation="sigmoid",
        output="sigmoid",
        state=linears([4, 5, 10, 3], lambda n_in, shape: rng.uniform(-1, 1, shape), "float64"),
        optimizer="SGD",
        lr=0.15,
        loss=lambda functions: lambda output, target: 1.5 * functions.mse_loss(output, target),
        batches=[(flowers.X[i : i + 1], labels[i : i + 1]) for i in order],
    )


def iris_by_hand():
    """The second tutorial's loop body: forward, deltas from the last layer to the first, update."""
    task = iris()
    weights = [value.T.copy() for name, value in task.state.items() if name.endswith("weight")]
    biases = [value.copy() for name, value in task.state.items() if name.endswith("bias")]
    flowers = itertools.cycle(task.batches)

    def step():
        x, y = next(flowers)
        outputs = [x]
        for W, b in zip(weights, biases, strict=True):
            outputs.append(1 / (1 + np.exp(-(outputs[-1] @ W + b))))
        error = outputs[-1] - y
        loss = 0.5 * np.sum(error**2)
        delta = error * outputs[-1] * (1 - outputs[-1])
        for i in reversed(range(3)):
            dW, db = outputs[i].T @ delta, delta.sum(axis=0)
            if i:
                delta = (delta @ weights[i].T) * outputs[i] * (1 - outputs[i])
            weights[i] -= task.lr * dW
            biases[i] -= task.lr * db
        return loss

    return step, step


IRIS = {
    "the tutorial's loop in NumPy": iris_by_hand,
    "nnbackend, eager": lambda: ours(iris(), False),
    "nnbackend, compiled": lambda: ours(iris(), True),
    "PyTorch, eager": lambda: in_torch(iris()),
    "torch.compile": lambda: in_torch(iris(), True),
    "JAX, jit": lambda: in_jax(iris()),
}

# -- MLP ------------------------------------------------------------------------------------------------------------


def mlp():
    rng = np.random.default_rng(0)
    sizes = [784, 512, 256, 10]
    return SimpleNamespace(
        sizes=sizes,
        activation="relu",
        output=None,
        state=linears(sizes, lambda n_in, shape: rng.uniform(-1, 1, shape) / n_in**0.5, "float32"),
        optimizer="Adam",
        lr=1e-3,
        loss=lambda functions: functions.cross_entropy,
        batches=[(rng.standard_normal((128, 784), "float32"), np.arange(128) % 10)],
    )


MLP = {
    "PyTorch, fused Adam": lambda: in_torch(mlp(), fused=True),
    "nnbackend, eager": lambda: ours(mlp(), False),
    "nnbackend, compiled": lambda: ours(mlp(), True),
    "PyTorch, default Adam": lambda: in_torch(mlp()),
    "torch.compile, fused Adam": lambda: in_torch(mlp(), True, fused=True),
    "JAX, jit": lambda: in_jax(mlp()),
    "scikit-learn": lambda: in_sklearn(mlp()),
}
