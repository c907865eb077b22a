"""NNBACKEND_SYNC=1: errors come where they are made. In a process of its own, because it is read at import."""

import os
import subprocess
import sys

SCRIPT = """
import json, sys
import array_api_strict, numpy as np
import nnbackend as nb
from nnbackend import functional as F, nn, optim
from nnbackend.backend import Backend, cuda_status

waits = []
Backend.synchronize = lambda self, raw: waits.append(str(raw))
places = ["cpu", array_api_strict.Device("device1")] + ["cuda"] * cuda_status().usable
bad = []
for place in places:
    x, i = nb.ones((4, 3), device=place), nb.tensor([0, 4], device=place)
    for call in (
        lambda: nb.gather(x, i), lambda: nb.take(x, i, axis=0), lambda: nb.scatter_add(x[:2, ...], i, 4),
        lambda: nb.take_along_axis(x, nb.tensor([[3], [0], [0], [0]], device=place), axis=1),
        lambda: x[i, nb.tensor([0, 0], device=place)], lambda: x[None, ..., nb.tensor([-4], device=place)],
    ):
        try:
            call()
        except IndexError as error:
            bad.append(str(error).partition(":")[0])
    assert nb.take(x, nb.tensor([0, -4], device=place), axis=0).shape == (2, 3)
    net = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2)).to(place)
    before = len(waits)
    loss = F.cross_entropy(net(x), nb.tensor([0, 1, 1, 0], device=place))
    loss.backward()
    optim.Adam(net.parameters()).step()
    assert place == "cuda" or len(waits) > before
    assert place != "cpu" or x[True, i[:1], i[:1]].shape == (1,)
    trainer = nb.Trainer(nn.Sequential(nn.Embedding(3, 4), nn.Flatten(), nn.Linear(8, 1)), device=place)
    X, y, epochs = np.zeros((4, 2), "int64"), np.zeros((4, 1), "float32"), []
    for _ in range(4):
        before = len(waits)
        trainer.fit(X, y, epochs=1, verbose=False, check=False)  # each op, each time: replays make no ops
        epochs.append(len(waits) - before)
    assert epochs[1] == epochs[2] == epochs[3], epochs
print(json.dumps([len(places), bad]))
"""


def test_indices_are_checked_and_devices_waited_for() -> None:
    """Faults 85 and 91."""
    environment = {**os.environ, "NNBACKEND_SYNC": "1"}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True)
    assert done.stderr == ""
    calls = ["gather", "take", "scatter_add", "take_along_axis", "getitem", "getitem"]
    n = int(done.stdout[1 : done.stdout.index(",")])
    assert done.stdout == f"[{n}, {calls * n}]\n".replace("'", '"')
