"""Write the golden checkpoint of the present format into tests/fixtures/golden, with the losses that come next.

As in `make_golden.py`: run this once for a new format, never for an old one.
"""

import json
import sys
from pathlib import Path

import numpy as np

import nnbackend as nb
from nnbackend import nn, optim
from nnbackend.io.model import FORMAT

GOLDEN = Path(__file__).parent.parent / "tests" / "fixtures" / "golden"
X = np.arange(30.0, dtype="float32").reshape(10, 3) % 7 / 7
Y = np.arange(10) % 2


class Stop(nb.Callback):
    """Saves in mid-epoch, and remembers what the loss was after each step."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.losses: list[float] = []

    def on_step_end(self, trainer: nb.Trainer) -> None:
        """Step 4 is the second of three in its epoch."""
        self.losses.append(trainer.evaluate(X, Y)["loss"])
        if trainer.steps == 4:
            trainer.save_checkpoint(self.path)


def main() -> None:
    """Write it, but never over an old one."""
    path = GOLDEN / f"checkpoint_{FORMAT}.safetensors"
    if path.exists():
        sys.exit(f"{path} exists: golden files are never written again.")
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Dropout(0.25), nn.Linear(4, 2))
    trainer = nb.Trainer(
        net, "cross_entropy", optim.Adam(lr=0.05), ["accuracy"], "cpu", 0,
        lambda opt: optim.CosineAnnealingLR(opt, 12), "step",
    )  # fmt: skip
    stop = Stop(path)
    trainer.fit(X, Y, epochs=3, batch_size=4, verbose=False, validation_data=(X, Y), callbacks=[stop])
    expected = {"losses": stop.losses[4:7], "history": trainer.history.rows}
    path.with_suffix(".json").write_text(json.dumps(expected) + "\n")


if __name__ == "__main__":
    main()
