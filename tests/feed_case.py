"""Data and trainers for tests of what a fit reads."""

import numpy as np

import nnbackend as nb
from nnbackend import nn, optim

random = np.random.default_rng(0)
X = random.normal(size=(90, 4)).astype("float32")
Y = (X[:, 0] + X[:, 1] > 0).astype("int64")
WEIGHT = random.integers(0, 4, 90)


def trainer(**settings):
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 2))
    return nb.Trainer(net, "cross_entropy", optim.Adam(lr=0.01), ["accuracy"], device="cpu", seed=1, **settings)


def plain(dtype="float64", **settings):
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)).to(dtype)
    return nb.Trainer(net, "cross_entropy", optim.Adam(lr=0.01), device="cpu", seed=1, **settings)


def fitted(run, *data, epochs=3, **settings):
    run.fit(*data, epochs=epochs, verbose=False, **settings)
    return run


def same(a, b):
    assert a.history.rows == b.history.rows
    np.testing.assert_array_equal(a.predict(X), b.predict(X))


def batches(size=25):
    for i in range(0, 90, size):
        yield X[i : i + size], Y[i : i + size]


class Sum(nn.Module):
    def __init__(self):
        self.a, self.b = nn.Linear(4, 2), nn.Linear(4, 2)

    def forward(self, a, b):
        return self.a(a) + self.b(b)
