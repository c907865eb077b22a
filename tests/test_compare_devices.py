"""nb.compare_devices: two devices that agree; nothing is left behind. Faults are in test_compare_devices_faults.py."""

import copy

import array_api_strict as strict
import numpy as np
import pytest

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import nn, optim
from nnbackend.backend import cuda_status
from nnbackend.errors import DataError, DeviceUnavailableError
from nnbackend.tensor import lift

DEVICE1 = strict.Device("device1")
OTHER = [DEVICE1, *(["cuda"] if cuda_status().usable else [])]
RNG = np.random.default_rng(0)


# -- all the same -----------------------------------------------------------------------------------------------------


class Words(nn.Module):
    """Several inputs by name, a layer with two calls, a tuple of outputs, functions between layers."""

    def __init__(self):
        self.table = nn.Embedding(20, 8)
        self.rnn = nn.LSTM(8, 6, 2, dropout=0.2, bidirectional=True)
        self.fc = nn.Linear(12, 3)

    def forward(self, words, more):
        x, (h, _) = self.rnn(self.table(words) + self.table(more))
        return self.fc(x.mean(axis=0) * 2 + F.tanh(h[0, ...]).sum())


def mlp():
    return nn.MLP([5, 20, 20, 3], "gelu", dropout=0.2), RNG.standard_normal((16, 5)), RNG.integers(0, 3, 16)


def cnn():
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.3), nn.Flatten(),
        nn.Linear(36, 3),
    )  # fmt: skip
    return net, RNG.standard_normal((16, 1, 8, 8)), RNG.integers(0, 3, 16)


def words():
    X = {"words": RNG.integers(0, 20, (7, 5)), "more": RNG.integers(0, 20, (7, 5))}
    return Words(), X, RNG.integers(0, 3, 5)


def transformer():
    layer = nn.TransformerEncoderLayer(12, 3, 24, batch_first=True)
    return nn.Sequential(layer, nn.Flatten(), nn.Linear(48, 3)), RNG.standard_normal((6, 4, 12)), RNG.integers(0, 3, 6)


@pytest.mark.parametrize("other", OTHER, ids=str)
@pytest.mark.parametrize(
    ("case", "dtype"),
    [(mlp, None), (cnn, None), (cnn, "float64"), (words, None), (words, "float64"), (transformer, None)],
)
def test_devices_agree(case, dtype, other):
    net, X, y = case()
    r = nb.compare_devices(net, X, y, "cross_entropy", ("cpu", other), "adam", dtype)
    assert r
    assert r.first is None
    assert r.losses[0] == pytest.approx(r.losses[1], rel=1e-5 if dtype is None else 1e-12)
    assert {row.way for row in r.rows} == {"forward", "backward", "update"}
    named = {f"{row.path}.{row.what.removeprefix('updated ')}" for row in r.rows if row.way == "update"}
    assert named == {name for name, _ in net.named_parameters()}
    gradients = {row.what for row in r.rows if row.way == "backward" and row.path == net_path(net)}
    assert {"gradient of input", "gradient of weight", "gradient of bias"} <= gradients


def net_path(net):
    """That of the last linear layer."""
    return [path for path, m in net.named_modules() if isinstance(m, nn.Linear)][-1]


def test_either_device_may_come_first():
    net, X, y = mlp()
    assert nb.compare_devices(net, X, y, "cross_entropy", (DEVICE1, "cpu"))
    assert nb.compare_devices(net, X, y, "cross_entropy", (DEVICE1, strict.Device("no_float64")))


def test_rows():
    net, X, y = words()
    r = nb.compare_devices(net, X, y, "cross_entropy", ("cpu", DEVICE1))
    forward = [(row.path, row.call, row.calls, row.what) for row in r.rows if row.way == "forward"]
    assert forward == [
        ("table", 1, 2, "output"),
        ("table", 2, 2, "output"),
        *(("rnn", 1, 1, f"output {i}") for i in range(3)),
        ("fc", 1, 1, "output"),
        ("", 1, 1, "input of table"),
        ("", 1, 1, "input of table, call 2"),
        ("", 1, 1, "input of rnn"),
        ("", 1, 1, "input of fc"),
        ("", 1, 1, "output"),
        ("loss", 1, 1, "output"),
    ]
    backward = [row.path for row in r.rows if row.way == "backward"]
    assert list(dict.fromkeys(backward)) == ["loss", "", "fc", "rnn", "table"]


def test_layers_of_layers_that_only_hand_on_are_left_out():
    net = nn.Sequential(nn.Sequential(nn.Linear(3, 3), nn.ReLU()), nn.Residual(nn.Linear(3, 1)))
    r = nb.compare_devices(net, RNG.standard_normal((4, 3)), RNG.standard_normal((4, 3)), devices=("cpu", DEVICE1))
    assert list(dict.fromkeys(row.path for row in r.rows)) == ["0.0", "0.1", "1.module", "1", "loss"]


def test_a_gradient_that_is_all_rounding_is_no_difference():
    """A bias before batch norm has the gradient 0: what is left of it is another number on each device."""

    class Linear(nn.Linear):
        def forward(self, x):
            return lift(_biased)(x @ self.weight.T, self.bias)

    net = nn.Sequential(Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))
    r = nb.compare_devices(net, RNG.standard_normal((500, 6)), RNG.standard_normal((500, 1)), devices=("cpu", DEVICE1))
    (row,) = [row for row in r.rows if (row.path, row.what) == ("0", "gradient of bias")]
    assert r
    assert row.share[0] > 0.01


def _biased(y, b):
    def sums(dy):  # on the pretend device in another order
        xp = nb.namespace(dy)
        if isinstance(dy, np.ndarray):
            return xp.sum(dy, axis=0)
        return xp.sum(dy[:250, :], axis=0) + xp.sum(dy[250:, :], axis=0)

    return y + b, (lambda dy: dy, sums)


def test_a_net_without_parameters():
    r = nb.compare_devices(nn.ReLU(), RNG.random((4, 3)), RNG.random((4, 3)), devices=("cpu", DEVICE1))
    assert r
    assert [(row.path, row.what) for row in r.rows] == [("", "output"), ("loss", "output")]


# -- nothing changes --------------------------------------------------------------------------------------------------


def test_the_net_stays_as_it_is():
    net, X, y = cnn()
    net[1].eval()
    opt = optim.Adam(net.parameters(), lr=0.1)
    F.cross_entropy(net(nb.tensor(X, "float32")), nb.tensor(y)).backward()
    opt.step()
    before = {name: x.numpy().copy() for name, x in net.state_dict().items()}
    gradients = [p.grad.numpy().copy() for p in net.parameters()]
    moments = copy.deepcopy(opt.state_dict())
    attributes = [sorted(vars(m)) for m in net.modules()]
    assert nb.compare_devices(net, X, y, nn.CrossEntropyLoss(weight=nb.ones(3)), ("cpu", DEVICE1), opt)
    assert [m.training for m in net] == [True, False, *[True] * 5]
    assert net[4].calls.value == 1
    assert all(np.array_equal(x.numpy(), before[name]) for name, x in net.state_dict().items())
    assert all(np.array_equal(p.grad.numpy(), g) for p, g in zip(net.parameters(), gradients, strict=True))
    assert str(opt.state_dict()) == str(moments)
    assert [sorted(vars(m)) for m in net.modules()] == attributes
    assert net[0].weight.device == "cpu"


def test_errors():
    X, y, net = RNG.random((4, 3)), RNG.random((4, 1)), nn.Linear(3, 1)
    with pytest.raises(DeviceUnavailableError, match="cuda"):
        nb.compare_devices(net, "never looked at", y, devices=("cpu", "cuda:99"))
    with pytest.raises(ValueError, match="expected two devices"):
        nb.compare_devices(net, X, y, devices="cpu")
    with pytest.raises(TypeError, match="expected a module, got str"):
        nb.compare_devices("net", X, y)
    with pytest.raises(ValueError, match="loss: expected one of"):
        nb.compare_devices(net, X, y, "most", ("cpu", DEVICE1))
    with pytest.raises(DataError, match="NaN"):
        nb.compare_devices(net, X * np.nan, y, devices=("cpu", DEVICE1))
