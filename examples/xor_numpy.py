"""The first tutorial: XOR by a network in plain NumPy. `xor.py` is its twin with nnbackend, weight by weight."""

import sys

import numpy as np


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def train(steps=10_000, seed=42, learning_rate=1.0):
    """Gradient descent on all four rows. Its gradient is half the true one of the mean square, so 1.0 means 0.5."""
    X = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    y = np.array([[0.0], [1.0], [1.0], [0.0]])
    rng = np.random.RandomState(seed)
    W1, b1 = rng.randn(2, 4) * 0.5, np.zeros((1, 4))
    W2, b2 = rng.randn(4, 1) * 0.5, np.zeros((1, 1))
    for _ in range(steps):
        a1 = sigmoid(X @ W1 + b1)  # forward
        a2 = sigmoid(a1 @ W2 + b2)
        dz2 = (a2 - y) * a2 * (1 - a2)  # back, by the chain rule
        dz1 = (dz2 @ W2.T) * a1 * (1 - a1)
        W2 -= learning_rate * a1.T @ dz2 / 4  # update
        b2 -= learning_rate * dz2.sum(axis=0, keepdims=True) / 4
        W1 -= learning_rate * X.T @ dz1 / 4
        b1 -= learning_rate * dz1.sum(axis=0, keepdims=True) / 4
    return W1, b1, W2, b2, sigmoid(sigmoid(X @ W1 + b1) @ W2 + b2)


if __name__ == "__main__":
    outputs = train()[-1]
    print(outputs.round(2).ravel())
    sys.exit(0 if np.abs(outputs.ravel() - [0, 1, 1, 0]).max() < 0.1 else 1)
