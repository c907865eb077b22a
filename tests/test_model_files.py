"""Weights in files."""

import array_api_strict
import numpy as np
import pytest
from safetensors.numpy import load_file

import nnbackend as nb
from nnbackend import nn
from nnbackend.errors import CorruptCheckpointError, IncompatibleCheckpointError

DEVICE1 = array_api_strict.Device("device1")


@pytest.mark.parametrize("device", ["cpu", DEVICE1])
def test_a_model_comes_back_on_any_device(tmp_path, device):
    path = tmp_path / "net.safetensors"
    net = nn.MLP([3, 4, 2], device=device)
    nb.save(net, path)
    twin = nn.MLP([3, 4, 2])
    assert twin.load_state_dict(nb.load(path)) == ([], [])
    for (name, p), q in zip(net.named_parameters(), twin.parameters(), strict=True):
        np.testing.assert_array_equal(p.to("cpu").numpy(), q.numpy(), err_msg=name)
    assert {str(t.device) for t in nb.load(path, device=DEVICE1).parameters()} == {"array_api_strict:device1"}


def test_others_can_read_the_file(tmp_path):
    path = tmp_path / "net.safetensors"
    net = nn.Linear(3, 2)
    nb.save(net, path)
    theirs = load_file(path)
    assert theirs.keys() == {"weight", "bias"}
    np.testing.assert_array_equal(theirs["weight"], net.weight.numpy())


def test_state_dicts_and_transposed_weights(tmp_path):
    path = tmp_path / "state.safetensors"
    weight = np.arange(6.0).reshape(2, 3).T
    nb.save({"w": weight, "n": nb.tensor(3)}, path)
    back = nb.load(path)
    np.testing.assert_array_equal(back["w"].numpy(), weight)
    assert (back["n"].item(), back["n"].shape) == (3, ())


def test_a_file_that_does_not_fit_changes_nothing(tmp_path):
    path = tmp_path / "net.safetensors"
    nb.save(nn.MLP([3, 4, 2]), path)
    net = nn.MLP([3, 5, 2])
    before = net.state_dict()
    with pytest.raises(IncompatibleCheckpointError, match=r"0\.weight \(expected \(5, 3\), got \(4, 3\)\)"):
        net.load_state_dict(nb.load(path))
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name].numpy())
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CorruptCheckpointError):
        nb.load(path)


def test_what_a_class_unknown_to_files_keeps_beside_its_state_goes_along(tmp_path):
    class Counting(nn.Module):
        def __init__(self):
            self.fc = nn.Linear(2, 2)
            self.register_buffer("seen", nb.zeros(2), persistent=False)

        def forward(self, x):
            self.seen = self.seen + 1
            return self.fc(x)

    net, other = Counting(), Counting()
    net(nb.ones((1, 2)))
    nb.save(net, tmp_path / "net.safetensors")
    nb.load(tmp_path / "net.safetensors", into=other)
    assert other.seen.numpy().tolist() == [1, 1]
