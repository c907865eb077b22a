"""Numbers and comparisons for the tests of checkpoint."""

import numpy as np

from nnbackend import nn

rng = np.random.default_rng(0)
X, W, V = (rng.standard_normal(shape) for shape in ((8, 5), (5, 5), (5, 5)))


def values(*tensors):
    return [None if t is None else t.to("cpu").numpy() for t in tensors]


def same(a, b):
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


def sequential(*layers):
    return nn.Sequential(*layers).double().init(0)
