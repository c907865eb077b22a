"""Faults of export: what cannot be written as a NumPy script is named, and no file is made or changed."""

import numpy as np
import pytest

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import nn, optim
from nnbackend.errors import GraphError
from nnbackend.io.helpers import HELPERS

X, Y = nb.tensor(np.ones((4, 30), np.float32)), nb.tensor(np.ones((4, 20), np.float32))


def training(net, stop=lambda loss: None):
    """A step of training, whose weights are too many to stand in the script."""
    optimizer = optim.SGD(net.parameters(), lr=0.1)

    def step(x, y):
        loss = F.mse_loss(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        stop(loss)
        optimizer.step()
        return loss

    return step


def branching(loss):
    if float(loss) > 1.0:
        loss.detach()


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(30, 20)

    def forward(self, x):
        y = self.fc(x)
        return y if float(y.sum()) > 0.0 else -y


UNSUPPORTED = {
    "training that looks at its loss": (lambda: training(nn.Linear(30, 20), branching), (X, Y), r"float.*line \d+ of"),
    "a model that branches": (Branching, X, r"float.*line \d+ of"),
    "an op without a text": (lambda: nn.Sequential(nn.Linear(30, 20), nn.GELU()), X, "functions of NumPy, got erf"),
}


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("name", UNSUPPORTED)
def test_what_cannot_be_exported_is_named_and_leaves_no_file(name, existing, tmp_path, monkeypatch):
    """Line 115: control flow by values, in training or not, and ops that NumPy alone does not have.

    Training mode itself, dropout included, can be exported: see tests/test_source.py.
    """
    monkeypatch.setattr("nnbackend.io.source.HELPERS", HELPERS - {"erf"})
    make, example, message = UNSUPPORTED[name]
    step = make()
    if existing:
        nb.to_source(training(nn.Linear(30, 20)), (X, Y), tmp_path / "step.py")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert before.keys() == ({"step.py", "step.npz"} if existing else set())
    with pytest.raises(GraphError, match=f"to_source: expected .*{message}"):
        nb.to_source(step, example, tmp_path / "step.py")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
