"""One seed, one run, on every device: training on the CPU and elsewhere from the same bits, in the same order.

What is drawn must be the same to the bit. Sums may be rounded in another order, so losses agree to rounding only. Seen
over 200 steps: weights of float32 changed by an ulp, or sums in another order, move a loss by at most 1e-5, relatively.
"""

import functools

import array_api_strict
import numpy as np
import pytest
from op_run import STANDIN
from parity_case import CASES, trained

import nnbackend as nb
from nnbackend.backend import cuda_status

# A device, and how many steps: pretended devices are slow, and round as NumPy does.
PLACES = {"strict": (nb.device(array_api_strict.Device("device1")), 10)}
if cuda_status().usable:
    PLACES["cuda"] = (nb.device("cuda"), 10 if STANDIN else 200)
TOLERANCE = {"float32": 1e-4, "float64": 1e-9}


@functools.cache
def here(name, dtype, steps):
    return trained(CASES[name], nb.device("cpu"), dtype, steps)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("place", PLACES)
def test_training_is_the_same_elsewhere(place, name, dtype):
    device, steps = PLACES[place]
    far, near = trained(CASES[name], device, dtype, steps), here(name, dtype, steps)
    assert far.start.keys() == near.start.keys()
    for key, value in near.start.items():
        np.testing.assert_array_equal(far.start[key], value, err_msg=key, strict=True)
    np.testing.assert_equal(far.order, near.order)
    np.testing.assert_equal(far.masks, near.masks)
    np.testing.assert_allclose(far.losses, near.losses, rtol=TOLERANCE[dtype], atol=0.0, strict=True)


def test_these_nets_learn_and_draw():
    for name in CASES:
        run = here(name, "float32", 20)
        assert run.losses[-1] < run.losses[0]
        assert len(run.order) == len(run.losses) == 20
        assert any((mask == 0).any() for mask in run.masks) == (name not in ("xor", "iris"))
