"""Modules: drawing weights from a seed, and errors that name the layer."""

import copy
import pickle

import numpy as np
import pytest
from frozen import DEVICE1, PLACES

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import nn, optim
from nnbackend.errors import DeviceMismatchError, DTypeError, NNBackendError, ShapeError

equal = np.testing.assert_array_equal


def weights(net):
    return {name: p.numpy().copy() for name, p in net.named_parameters()}


def same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        equal(a[name], b[name], name)


# -- init -----------------------------------------------------------------------------------------------------------


class Pair(nn.Module):
    def __init__(self, first):
        for name in (first, {"a": "b", "b": "a"}[first]):
            setattr(self, name, nn.MLP([3, 4, 2], dropout=0.5))


def test_one_seed_is_one_set_of_weights():
    one, other = weights(Pair("a").init(7)), weights(Pair("b").init(7))
    same(dict(sorted(one.items())), dict(sorted(other.items())))
    assert not np.array_equal(one["a.0.weight"], one["b.0.weight"])
    assert not np.array_equal(one["a.0.weight"], weights(Pair("a").init(8))["a.0.weight"])
    same(weights(Pair("a").init(7).init(8).init(7)), one)
    late = Pair("a").to("float64").init(7)
    for name, value in weights(late).items():
        np.testing.assert_allclose(value, one[name], 1e-6)
    moved = Pair("a").to(DEVICE1).init(7)
    same(weights(moved), one)
    assert {p.device for p in moved.parameters()} == {nb.device(DEVICE1)}
    optimizer = optim.SGD(moved.parameters(), lr=1.0)  # laid out or not
    for p in moved.parameters():
        p.grad = nb.ones(p.shape, device=DEVICE1)
    optimizer.step()
    same(weights(moved.init(7)), one)


def test_without_a_seed_every_net_is_another():
    same_net, other = nn.Linear(3, 2), nn.Linear(3, 2)
    assert not np.array_equal(same_net.weight.numpy(), other.weight.numpy())
    assert nn.Dropout().key != nn.Dropout().key
    before = np.random.get_state()[1].copy()
    nn.MLP([2, 3, 1], dropout=0.5).init(0)(np.ones((2, 2), "float32"))
    equal(np.random.get_state()[1], before)


def test_only_fresh_spares_what_somebody_has_set():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))
    net[0].load_state_dict({"weight": nb.ones((2, 2)), "bias": nb.ones(2)})
    net[1].weight = nb.ones((2, 2)) * 2.0
    with nb.no_grad():
        net[1].bias += 1.0
    optimizer = optim.SGD(net[2].parameters(), lr=1.0)
    net[2].weight.grad = nb.ones((2, 2))
    net[2].bias.grad = nb.ones(2)
    optimizer.step()
    net[3].bias = nn.Parameter(nb.ones(2))  # made from values: it has no initialiser
    before = weights(net)
    twin = copy.deepcopy(net)
    for n in (net, twin):
        n.init(0, only_fresh=True)
        after = weights(n)
        kept = [name for name in before if np.array_equal(before[name], after[name])]
        assert kept == ["0.weight", "0.bias", "1.weight", "1.bias", "2.weight", "2.bias", "3.bias"]
    full = weights(nn.Sequential(*(nn.Linear(2, 2) for _ in range(5))).init(0))
    equal(after["4.weight"], full["4.weight"])
    same(weights(net.init(1, only_fresh=True)), weights(twin.init(1)) | {k: before[k] for k in kept})
    same({**weights(net.init(0)), "3.bias": 0}, {**full, "3.bias": 0})


def test_init_is_bounded_as_in_pytorch_and_restarts_dropout():
    net = nn.Linear(16, 1000).init(0)
    assert 0.249 < np.abs(net.weight.numpy()).max() <= 0.25
    assert 0.249 < np.abs(net.bias.numpy()).max() <= 0.25
    np.testing.assert_allclose(net.weight.numpy().std(), 0.5 / np.sqrt(12), rtol=0.02)
    drop = nn.Sequential(nn.Dropout()).init(3)
    x = np.ones((4, 4), "float32")
    first, second = drop(x).numpy(), drop(x).numpy()
    assert not np.array_equal(first, second)
    drop.init(3)
    equal(drop(x).numpy(), first)


def test_initialisers():
    g = np.random.default_rng(0)
    shape, fan_in, fan_out = (40, 30, 5), 150, 200
    for draw, std in [
        (nn.init.uniform(-1.0, 3.0), 4 / np.sqrt(12)),
        (nn.init.normal(2.0, 0.5), 0.5),
        (nn.init.xavier_uniform(2.0), 2 * np.sqrt(2 / (fan_in + fan_out))),
        (nn.init.xavier_normal(), np.sqrt(2 / (fan_in + fan_out))),
        (nn.init.kaiming_uniform(), np.sqrt(2 / fan_in)),
        (nn.init.kaiming_normal(1.0), np.sqrt(1 / fan_in)),
    ]:
        values = draw(g, shape)
        assert (values.shape, values.dtype) == (shape, "float64")
        np.testing.assert_allclose(values.std(), std, rtol=0.03)
        assert pickle.loads(pickle.dumps(draw))(np.random.default_rng(1), (2, 2)).shape == (2, 2)
    np.testing.assert_allclose(np.abs(nn.init.xavier_uniform()(g, shape)).max(), np.sqrt(6 / 350), rtol=0.01)
    equal(nn.init.zeros(g, (2, 3)), np.zeros((2, 3)))
    equal(nn.init.ones(g, ()), 1.0)
    equal(nn.init.constant(0.5)(g, (2,)), [0.5, 0.5])
    with pytest.raises(ShapeError, match=r"at least 2 axes, got shape \(3,\)"):
        nn.init.xavier_normal()(g, (3,))
    net = nn.Linear(3, 2)
    net.weight.initialiser = nn.init.constant(2.0)
    equal(net.init(0).weight.numpy(), np.full((2, 3), 2.0))
    p = nn.Parameter.drawn(nn.init.normal(), (3,), dtype="float64")
    assert (p.fresh, str(p.dtype), p.requires_grad) == (True, "float64", True)


# -- errors ---------------------------------------------------------------------------------------------------------


class Encoder(nn.Module):
    def __init__(self):
        self.fc1, self.act = nn.Linear(4, 2), nn.ReLU()

    def forward(self, x):
        return self.act(self.fc1(x))


class Attention(nn.Module):
    """A layer of somebody's own."""

    def __init__(self):
        self.w = nn.Parameter(nb.ones((2, 3)))

    def forward(self, x):
        return x @ self.w @ x

    def extra_repr(self):
        return "heads=1"


class Net(nn.Module):
    def __init__(self):
        self.encoder = Encoder()
        self.blocks = nn.ModuleList([nn.Sequential(nn.Identity(), Attention())])

    def forward(self, x):
        return self.blocks[0](self.encoder(x))


def message(net, x, error):
    with pytest.raises(error) as caught:
        net(x)
    assert isinstance(caught.value, NNBackendError)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), type(again)) == (str(caught.value), type(caught.value))
    return str(caught.value)


def test_errors_name_the_layer():
    net, bad = Net(), np.ones((5, 3), "float32")
    expected = "Linear(4, 2): expected input (..., 4), got (5, 3)"
    assert message(net.encoder.fc1, bad, ShapeError) == expected
    assert message(net.encoder, bad, ShapeError) == f"fc1 = {expected}"
    assert message(net, bad, ShapeError) == f"encoder.fc1 = {expected}"
    assert message(nn.Sequential(net), bad, ShapeError) == f"0.encoder.fc1 = {expected}"
    assert message(net, nb.tensor(1.0), ShapeError) == f"encoder.fc1 = {expected.replace('(5, 3)', '()')}"
    own = message(net, np.ones((5, 4), "float32"), ShapeError)
    assert own.startswith(
        "blocks.0.1 = Attention(heads=1): matmul: expected shapes that fit together, got (5, 3) and (5, 2)"
    )
    assert message(nn.Flatten(), nb.ones(3), ShapeError).startswith("Flatten(): flatten: expected axes from -1 to 0")
    net.encoder.fc1.bias = nn.Parameter(nb.ones(3))
    assert "encoder.fc1 = Linear(4, 2): linear: expected shapes" in message(net, nb.ones((5, 4)), ShapeError)
    with pytest.raises(ShapeError) as caught:  # nobody's layer
        F.linear(bad, np.ones((2, 4), "float32"))
    assert str(caught.value) == "expected input (..., 4), got (5, 3)"


def test_errors_name_dtypes():
    for dtype in ("int64", "float64", "float16"):
        text = message(Net(), np.ones((5, 4), dtype), DTypeError)
        assert text.startswith("encoder.fc1 = Linear(4, 2): linear: expected")
        assert dtype in text
        assert "float32" in text
        assert "astype" in text


def test_errors_name_both_devices():
    here = nb.device(DEVICE1)
    for net, x in [(Net(), nb.ones((5, 4), device=DEVICE1)), (Net().to(DEVICE1), np.ones((5, 4), "float32"))]:
        text = message(net, x, DeviceMismatchError)
        assert text.startswith("encoder.fc1 = Linear(4, 2): linear: expected ")
        assert "cpu" in text
        assert str(here) in text
        assert ".to(" in text
    half = Net()
    half.blocks.to(DEVICE1)
    text = message(half, nb.ones((5, 4)), DeviceMismatchError)
    assert text.startswith("blocks.0.1 = Attention(heads=1): matmul: expected cpu, got array_api_strict:device1")


def test_assigning_values_from_elsewhere():
    net = Net()
    net.encoder.to(DEVICE1)
    before = weights(net)
    with pytest.raises(DeviceMismatchError) as caught:
        net.encoder.fc1.bias = nb.ones(2)
    assert "encoder.fc1.bias: expected array_api_strict:device1, got cpu" in str(caught.value)
    with pytest.raises(DeviceMismatchError):
        net.blocks[0][1].w = nb.ones((2, 3), device=DEVICE1)
    same(weights(net), before)


def test_an_error_leaves_the_net_usable():
    net = nn.Sequential(Encoder(), nn.Linear(2, 1))
    before = weights(net)
    for _ in range(2):
        with pytest.raises(ShapeError):
            net(nb.ones((2, 3)))
        net(nb.ones((2, 4))).sum().backward()
    same(weights(net), before)
    assert net[1].bias.grad is not None
    equal(net[1].bias.grad.numpy(), [4.0])


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_layers_are_made_where_they_are_wanted(place):
    for layer in (nn.Linear(3, 2, device=place, dtype="float64"), nn.MLP([3, 2], device=place, dtype="float64")):
        assert {(p.device, str(p.dtype)) for p in layer.parameters()} == {(nb.device(place), "float64")}
        assert layer(nb.ones((1, 3), device=place, dtype="float64")).shape == (1, 2)
    for bad in ((0, 2), (2, 0), (-1, 1)):
        with pytest.raises(ValueError, match="at least 1 feature"):
            nn.Linear(*bad)
    with pytest.raises(DTypeError):
        nn.Linear(2, 2, dtype="int64")
    assert repr(nn.Linear(3, 2, bias=False)) == "Linear(3, 2, bias=False)"
