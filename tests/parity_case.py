"""Training runs that must be the same on every device: nets, data, and what of a run can be compared."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import nn, optim
from nnbackend.backend import Device

DIGITS = nb.data.digits()
IRIS = nb.data.iris()
WORDS = 16  # of an image


class Painter(nn.Module):
    """Grey values (n, l) as words -> scores (n, 17, l) of what comes after each, by those before it: a small GPT."""

    def __init__(self, width: int = 16) -> None:
        self.greys, self.places = nn.Embedding(17, width), nn.Embedding(WORDS, width)
        layer = nn.TransformerEncoderLayer(width, 2, 2 * width, 0.1, "gelu", batch_first=True, norm_first=True)
        self.layers, self.scores = nn.TransformerEncoder(layer, 1, nn.LayerNorm(width)), nn.Linear(width, 17)

    def forward(self, words: Any) -> Any:
        """The mask hides what comes later."""
        mask = nn.Transformer.generate_square_subsequent_mask(WORDS, device=words.device)
        scores = self.scores(self.layers(self.greys(words) + self.places.weight, mask, is_causal=True))
        return nb.permute_dims(scores, (0, 2, 1))


def cnn() -> nn.Module:
    """With all that looks at a batch or draws: batch norm, dropout of channels and of units."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout2d(0.1),
        nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Dropout(0.2), nn.Linear(64, 10),
    )  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A net, its data and how it is trained.

    With these optimizers and rates rounding stays rounding for 200 steps. A ReLU or a maximum that rounding tips over,
    about one in a run of the CNN, moves its losses by 1e-5; Adam at 3e-3 would make 4e-4 of it.
    """

    net: Callable[[], nn.Module]
    data: tuple[Any, Any]
    loss: Callable[..., Any]
    optimizer: Callable[[Any], optim.Optimizer]
    batch_size: int | None


CASES = {
    "xor": Case(
        lambda: nn.MLP([2, 4, 1], "sigmoid", output="sigmoid"),
        nb.data.xor(),
        F.mse_loss,
        lambda parameters: optim.Adam(parameters, lr=0.05),
        None,
    ),
    "iris": Case(
        lambda: nn.MLP([4, 16, 3], "tanh"),
        (IRIS.X / IRIS.X.max(), IRIS.y),
        F.cross_entropy,
        lambda parameters: optim.AdamW(parameters, lr=0.01, weight_decay=0.1),
        16,
    ),
    "digits mlp": Case(
        lambda: nn.MLP([64, 32, 10], "relu", dropout=0.2),
        (DIGITS.X / 16, DIGITS.y),
        F.cross_entropy,
        lambda parameters: optim.SGD(parameters, lr=0.05, momentum=0.9),
        32,
    ),
    "digits cnn": Case(
        cnn,
        (DIGITS.X / 16, DIGITS.y),
        F.cross_entropy,
        lambda parameters: optim.SGD(parameters, lr=0.02, momentum=0.9),
        32,
    ),
    "transformer": Case(
        Painter,
        (DIGITS.X[:, 20 : WORDS + 20].astype("int64"), DIGITS.X[:, 21 : WORDS + 21].astype("int64")),
        F.cross_entropy,
        lambda parameters: optim.AdamW(parameters, lr=3e-3),
        8,
    ),
}


@dataclass(frozen=True)
class Trained:
    """What is compared: all on the host."""

    start: dict[str, Any]  # weights and buffers as drawn
    order: list[Any]  # the numbers of the rows of each batch
    masks: list[Any]  # of each dropout, as the next call after the last step draws it
    losses: Any


def trained(case: Case, device: Device, dtype: str, steps: int, seed: int = 3) -> Trained:
    """So many steps from a seed, compiled as a Trainer's are; nothing is read back before the last."""
    net = case.net().to(dtype).init(seed).to(device)
    start = {name: value.numpy() for name, value in net.state_dict().items()}
    X, y = (part.astype(dtype) if part.dtype.kind == "f" else part for part in case.data)
    loader = nb.data.DataLoader(X, y, np.arange(len(X)), batch_size=case.batch_size, seed=seed, device=device)
    optimizer = case.optimizer(net.parameters())

    @nb.compile
    def step(x: Any, t: Any) -> Any:
        loss = case.loss(net(x), t)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    losses, order = [], []
    while len(losses) < steps:
        for x, t, rows in loader:
            if len(losses) == steps:
                break
            losses.append(step(x, t))
            order.append(rows)
    ones = nb.ones((64, 3, 5, 7), dtype=dtype, device=device)
    masks = [layer(ones).numpy() for layer in net.modules() if isinstance(layer, nn.Dropout)]
    return Trained(start, [rows.numpy() for rows in order], masks, nb.stack(losses).numpy())
