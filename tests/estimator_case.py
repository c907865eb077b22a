"""Data and small estimators for their tests."""

import numpy as np

import nnbackend as nb
from nnbackend import nn

rng = np.random.default_rng(0)
X = rng.normal(size=(60, 3))
AMOUNTS = X @ [1.0, -2.0, 0.5]
Y = (AMOUNTS > 0).astype(int)


def classifier(**given):
    return nb.MLPClassifier(**{"hidden": (8,), "epochs": 5, "random_state": 0, "lr": 0.05, **given})


def regressor(**given):
    return nb.MLPRegressor(**{"hidden": (8,), "epochs": 5, "random_state": 0, "lr": 0.05, **given})


def net(n_features, n_outputs):
    return nn.MLP([n_features, 8, n_outputs], "tanh")
