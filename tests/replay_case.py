"""Nets and their steps for tests of replays on a GPU."""

import numpy as np

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import nn, optim


class Sentence(nn.Module):
    """Embedding, a transformer layer with dropout, and a mean over the words."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(11, 16)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True)
        self.out = nn.Linear(16, 4)

    def forward(self, x):
        return self.out(self.layer(self.words(x)).mean(axis=1))


class Sequence(nn.Module):
    """The last state of an LSTM."""

    def __init__(self):
        super().__init__()
        self.lstm, self.out = nn.LSTM(5, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, x):
        return self.out(self.lstm(x)[0][:, -1, :])


def mlp():
    return nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3))


def images():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3), nn.GELU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(6, 3),
    )  # fmt: skip


def norms():
    return nn.Sequential(
        nn.Linear(5, 16), nn.LayerNorm(16), nn.SiLU(), nn.Linear(16, 16), nn.RMSNorm(16), nn.Tanh(), nn.Linear(16, 3)
    )


_rng = np.random.default_rng(0)


def _data(*shape, classes=3):
    return _rng.standard_normal(shape).astype("float32"), _rng.integers(0, classes, shape[0])


NETS = {  # what makes the net, inputs and labels, what makes the optimizer, kernels of a step at most
    "xor": (lambda: nn.MLP([2, 4, 2], "sigmoid"), _data(4, 2, classes=2), "SGD", {"lr": 0.5, "momentum": 0.9}, 13),
    "mlp": (mlp, _data(32, 5), "AdamW", {"lr": 0.01}, 13),
    "images": (images, _data(8, 1, 8, 8), "Adam", {"lr": 0.01}, 40),
    "norms": (norms, _data(32, 5), "Lion", {"lr": 0.01}, 26),
    "sentence": (Sentence, (_rng.integers(0, 11, (4, 6)), _rng.integers(0, 4, 4)), "NAdam", {"lr": 0.01}, 44),
    "sequence": (Sequence, _data(4, 7, 5), "RMSprop", {"lr": 0.01, "momentum": 0.9}, 22),
}


class Case:
    """A net on a device with its data, and a step by hand."""

    def __init__(self, name, device="cuda"):
        make, (x, y), rule, settings, self.kernels = NETS[name]
        self.net = make().init(seed=0).to(device)
        self.optimizer = getattr(optim, rule)(self.net.parameters(), **settings)
        self.x, self.y = nb.tensor(x, device=device), nb.tensor(y, device=device)

    def step(self, x, y):
        self.optimizer.zero_grad()
        loss = F.cross_entropy(self.net(x), y)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def weights(self):
        """All that lives on: parameters, buffers, and what the optimizer remembers."""
        memory = [value for state in self.optimizer.state_dict()["state"].values() for value in state.values()]
        return [np.asarray(nb.asarray(x).numpy()) for x in [*self.net.state_dict().values(), *memory]]
