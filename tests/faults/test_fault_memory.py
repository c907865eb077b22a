"""Data larger than memory: what lies in a file is read batch by batch, and does not stay."""

import subprocess
import sys

import numpy as np
import pytest

ROWS, COLUMNS = 65_536, 16_384  # of float32: 4 GB
CHILD = """
import resource, sys
import numpy as np
import nnbackend as nb
from nnbackend import nn, optim

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

def trainer():
    net = nn.Sequential(nn.Linear(X.shape[1], 8), nn.ReLU(), nn.Linear(8, 2))
    return nb.Trainer(net, "cross_entropy", optim.SGD(lr=1e-3), ["accuracy"], device="cpu", seed=0)

X, y = (np.load(path, mmap_mode="r") for path in sys.argv[1:])
trainer().fit(X[:64].copy(), y[:64].copy(), batch_size=16, verbose=False)
before, run = peak(), trainer()
run.fit(X, y, epochs=1, batch_size=256, verbose=False, validation_data=(X[-4096:], y[-4096:]))
print(peak() - before, run.steps, run.history["loss"][0])
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_4_gb_train_in_little_memory(tmp_path):
    """faults.md 126: shuffled, checked, measured and validated, within 500 MB."""
    X = np.lib.format.open_memmap(tmp_path / "X.npy", mode="w+", dtype=np.float32, shape=(ROWS, COLUMNS))
    y = np.arange(ROWS) % 2
    block = np.random.default_rng(0).normal(size=(128, COLUMNS)).astype(np.float32)
    for start in range(0, ROWS, 2048):  # the rest of the file stays zeros
        X[start : start + 128] = block
    del X
    np.save(tmp_path / "y.npy", y)
    assert (tmp_path / "X.npy").stat().st_size > 4e9
    try:
        command = [sys.executable, "-c", CHILD, str(tmp_path / "X.npy"), str(tmp_path / "y.npy")]
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    finally:
        (tmp_path / "X.npy").unlink()
    more, steps, loss = map(float, out.split())
    assert more < 500
    assert steps == ROWS / 256
    assert 0 < loss < 5
