"""Write the golden files of the present format into tests/fixtures/golden, and a state dict with torch's names.

Golden files of every format stay, and load for ever: run this once for a new format, never for an old one.
`python ci/make_golden.py` needs nothing but nnbackend; with `--torch` it needs torch, too.
"""

import sys
from pathlib import Path

import numpy as np

import nnbackend as nb
from nnbackend import nn
from nnbackend.io.model import FORMAT

GOLDEN = Path(__file__).parent.parent / "tests" / "fixtures" / "golden"


def model() -> nn.Sequential:
    """One with changes of every kind."""
    net = nn.Sequential(nn.Linear(2, 3), nn.GELU("tanh"), nn.Dropout(0.5), nn.BatchNorm1d(3), nn.Linear(3, 1)).init(0)
    net[0].weight.assign(nb.tensor(np.arange(6, dtype="float32").reshape(3, 2) / 4))
    net[0].bias, net[2].p, net[3].eps = None, 0.25, 0.001
    net[2].key, net[2].calls.value = 7, 3
    net[2].eval()
    net[3].num_batches_tracked.assign(nb.tensor(5))
    net[4].weight.requires_grad_(False)
    return net


def torch_model(path: Path) -> None:
    """A small state dict as torch writes it."""
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(8, 3),
        torch.nn.LSTM(3, 2, num_layers=2), torch.nn.MultiheadAttention(2, 1), torch.nn.LayerNorm(2),
    )  # fmt: skip
    save_file(net.state_dict(), path)


def main() -> None:
    """Write them, but never over old ones."""
    wanted = GOLDEN / f"model_{FORMAT}.safetensors"
    if wanted.exists():
        sys.exit(f"{wanted} exists: golden files are never written again.")
    value = {
        "net": model(),
        "labels": nb.data.LabelEncoder().fit(["yes", "no"]),
        "scaler": nb.data.StandardScaler().fit(np.array([[0.0, 1.0], [1.0, 2.0]])),
        "more": {1: (2.5, None), "x": [True, 2**100]},
        "x": np.array([[1, 2], [3, 4]]),
    }
    nb.save(value, wanted)
    small = nn.Linear(2, 2, bias=False)
    small.weight.assign(nb.tensor([[0.0, 0.25], [0.5, 0.75]]))
    nb.save(small, GOLDEN / f"model_{FORMAT}_rounded.safetensors", dtype="bfloat16")
    tied = nn.ModuleDict({"0": nn.Embedding(1, 2), "1": nn.Linear(2, 1)})
    tied["0"].weight.assign(nb.tensor([[1.0, 2.0]]))
    tied["1"].weight = tied["0"].weight
    nb.save(tied, GOLDEN / f"model_{FORMAT}_tied.safetensors")
    if "--torch" in sys.argv:
        torch_model(GOLDEN / "torch_state.safetensors")


if __name__ == "__main__":
    main()
