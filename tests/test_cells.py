"""Cells: state that moves, changes in place, and never by accident."""

import array_api_strict
import numpy as np
import pytest

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import nn
from nnbackend.cells import Buffer
from nnbackend.errors import DTypeError, LabelError
from nnbackend.functional import arguments

DEVICE1 = array_api_strict.Device("device1")


def test_gradients_move_with_their_parameters():
    net = nn.Linear(2, 1)
    net(nb.ones((3, 2))).sum().backward()
    before, weight = net.weight.grad.numpy().copy(), net.weight
    net.to(DEVICE1).to("float64")
    assert net.weight is weight
    assert (str(weight.grad.device), str(weight.grad.dtype)) == ("array_api_strict:device1", "float64")
    np.testing.assert_array_equal(weight.grad.to("cpu").numpy(), before)
    frozen = nn.Linear(2, 1).to("cpu")
    assert frozen.weight.grad is None


def test_a_buffer_has_memory_of_its_own():
    mine = np.zeros(3)
    buffer = Buffer(mine)
    buffer += 1.0
    assert mine.tolist() == [0, 0, 0]
    assert buffer.tolist() == [1, 1, 1]


@pytest.mark.parametrize("device", ["cpu", DEVICE1])
def test_labels_from_the_host_know_their_range_on_any_device(device):
    labels = nb.tensor([0, 5, 1], device=device)
    assert labels.bounds == (0, 5)
    with pytest.raises(LabelError, match=r"1 of 3 labels outside 0\.\.2 \(first: row 1 = 5\)"):
        F.cross_entropy(nb.zeros((3, 3), device=device), labels)


def test_labels_of_unknown_range_are_looked_at_only_when_asked(monkeypatch):
    """NNBACKEND_SYNC=1 waits for the device and checks; without it nothing is read back."""
    reads, to_host = [], arguments.to_host
    monkeypatch.setattr(arguments, "to_host", lambda x: (reads.append(x), to_host(x))[1])
    scores, labels = nb.zeros((3, 3), device=DEVICE1), nb.tensor([0, 2, 1], device=DEVICE1)
    wrong = nb.tensor([0, 5, 1], device=DEVICE1)
    del labels.bounds, wrong.bounds
    F.cross_entropy(scores, labels)
    assert reads == []
    monkeypatch.setattr(arguments, "SYNC", True)
    F.cross_entropy(scores, labels)
    assert len(reads) == 1
    with pytest.raises(LabelError, match=r"1 of 3 labels outside 0\.\.2"):
        F.cross_entropy(scores, wrong)


@pytest.mark.parametrize("function", [F.relu, nb.exp, nb.mean, lambda x: x / 2, lambda x: x * 0.5])
@pytest.mark.parametrize("given", [[1, 2], [True, False]])
def test_integers_do_not_become_floats_by_themselves(function, given):
    with pytest.raises(
        DTypeError, match=r"expected a floating dtype, got (int64|bool)\. Cast with \.astype\('float32'\)"
    ):
        function(nb.tensor(given))
    assert nb.astype(nb.tensor(given), "float32").dtype == "float32"
    assert nb.one_hot(nb.tensor([0, 1]), 2).dtype == "float32"


def test_a_model_says_which_dtype_it_expects():
    with pytest.raises(DTypeError, match=r"Linear\(2, 1\): linear: expected float32, got float64 \(argument 1\)"):
        nn.Linear(2, 1)(np.ones((3, 2)))
