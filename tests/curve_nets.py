"""Small nets of five kinds, how each is trained, and the curve of its loss: the same code for our library and PyTorch.

`ci/make_curves.py` freezes PyTorch's curves in `fixtures/torch_curves.safetensors`; `test_curves.py` repeats them.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import nnbackend as nb

STEPS, BATCHES = 20, 4


def mlp(nn: Any) -> Any:
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))


def cnn(nn: Any) -> Any:
    first = [nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*first, nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5), nn.SiLU(), nn.Flatten(), nn.Linear(20, 3))


def lstm(nn: Any) -> Any:
    class Net(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.LSTM(2, 5, num_layers=2, batch_first=True)
            self.head = nn.Linear(5, 1)

        def forward(self, x: Any) -> Any:
            return self.head(self.body(x)[0][:, -1, :])

    return Net()


def attention(nn: Any) -> Any:
    class Net(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0, activation="gelu", batch_first=True)
            self.head = nn.Linear(6, 3)

        def forward(self, x: Any) -> Any:
            return self.head(self.body(x).mean(1))

    return Net()


def embedding(nn: Any) -> Any:
    """The next of 11 letters from the three before; letter 0 is padding."""
    return nn.Sequential(
        nn.Embedding(11, 4, padding_idx=0), nn.Flatten(), nn.Linear(12, 9), nn.GELU(), nn.Linear(9, 11)
    )


class Course(NamedTuple):
    """How a net is trained: its optimizer and loss, the shape of a batch, and how many classes or letters there are."""

    net: Callable[[Any], Any]
    optimizer: str
    settings: dict[str, Any]
    shape: tuple[int, ...]
    classes: int = 0  # 0: numbers
    letters: int = 0  # 0: numbers


COURSES = {
    "mlp": Course(mlp, "AdamW", {"lr": 0.02}, (16, 4), classes=3),
    "cnn": Course(
        cnn, "SGD", {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-3}, (6, 1, 8, 8), classes=3
    ),
    "lstm": Course(lstm, "RMSprop", {"lr": 0.01, "centered": True, "momentum": 0.5}, (5, 6, 2)),
    "attention": Course(attention, "NAdam", {"lr": 0.02}, (6, 5, 6), classes=3),
    "embedding": Course(embedding, "Adagrad", {"lr": 0.2}, (8, 3), classes=11, letters=11),
}


def curve(lib: Any, course: Course, arrays: Mapping[str, Any], place: Any = "cpu", compiled: bool = False) -> list[Any]:
    """The loss at each step, then that of the last batch when the net only answers."""
    net = course.net(lib.nn)
    net.to(lib.float64)
    net.load_state_dict({k[6:]: lib.tensor(v) for k, v in arrays.items() if k.startswith("start.")})
    net.to(place)
    criterion = lib.nn.CrossEntropyLoss() if course.classes else lib.nn.MSELoss()
    optimizer = getattr(lib.optim, course.optimizer)(net.parameters(), **course.settings)

    def step(x: Any, y: Any) -> Any:
        loss = criterion(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    train = nb.compile(step) if compiled else step
    losses = []
    for n in range(STEPS):
        given = (arrays[k][n % BATCHES] for k in "xy")
        x, y = (lib.tensor(a if a.dtype == "int64" else a.astype("float64"), device=place) for a in given)
        losses.append(train(x, y))
    losses.append(criterion(net.eval()(x), y))
    return [float(loss.detach()) for loss in losses]
