"""Training that takes minutes reaches known accuracies, from every one of three seeds: `ci/check long`."""

import mnist
import pytest
import sequence
import text
from test_convergence import images

pytestmark = [
    pytest.mark.slow,
    pytest.mark.long,
    pytest.mark.timeout(1800),
    pytest.mark.parametrize("seed", [0, 1, 2]),
]


def test_mnist(seed):
    parts = images("mnist")
    assert [len(y) for _, y in parts] == [4000, 1000]
    assert mnist.run(parts, seed)[1] >= mnist.TARGETS["mnist"]


def test_fashion(seed):
    parts = images("fashion")
    assert [len(y) for _, y in parts] == [60_000, 10_000]
    assert mnist.run(parts, seed, epochs=3)[1] >= mnist.TARGETS["fashion"]


def test_text(seed):
    assert text.run(seed)[1] < 1.9


def test_sequence(seed):
    assert sequence.run(seed)[1][-1] < 0.01
