"""Twenty steps of training, from the same weights and batches as PyTorch: the same losses."""

import numpy as np
import pytest
from curve_nets import COURSES, STEPS, curve
from frozen import PLACES, load

import nnbackend as nb


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("place", PLACES, ids=str)
@pytest.mark.parametrize("name", COURSES)
def test_training_goes_as_in_pytorch(name, place, compiled):
    arrays, names = load("curves")
    assert names == list(COURSES)
    given = {k.partition(".")[2]: a for k, a in arrays.items() if k.startswith(f"{name}.")}
    ours = curve(nb, COURSES[name], given, place, compiled)
    assert len(ours) == STEPS + 1
    assert np.mean(ours[-5:]) < np.mean(ours[:4])
    np.testing.assert_allclose(ours, given["curve"], 1e-8)
