"""The loops of the examples on another device: what they read back does not grow with the steps they take."""

import array_api_strict
import gradient_penalty
import pytest
import restarts
import sequence
import text

import nnbackend as nb
from nnbackend.testing import synchronizations

DEVICE = nb.device(array_api_strict.Device("device1"))
LOOPS = {  # of so many steps
    "gradient_penalty": lambda steps: gradient_penalty.run(0, DEVICE, steps),
    "restarts": lambda steps: restarts.run(range(3), steps=steps, device=DEVICE),
    "sequence": lambda steps: sequence.run(0, DEVICE, epochs=1, batches=steps),
    "text": lambda steps: text.run(0, DEVICE, epochs=1, most=20 * steps),
}


@pytest.fixture
def small(monkeypatch):
    """Short sequences, and nothing is written: array-api-strict is slow."""
    monkeypatch.setattr(sequence, "LENGTH", 6)
    monkeypatch.setattr(text, "CONTEXT", 6)
    monkeypatch.setattr(text, "BATCH", 3)
    monkeypatch.setattr(text, "write", lambda *args: [])


@pytest.mark.parametrize("name", LOOPS)
def test_no_step_waits(name, small):
    counts = []
    for steps in (4, 6):
        with synchronizations() as found:
            LOOPS[name](steps)
        counts.append(len(found))
    assert counts[0] == counts[1]
