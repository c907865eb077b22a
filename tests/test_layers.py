"""Layers, containers, activations and losses: PyTorch's numbers, the address of every mask, labels that are wrong."""

import copy

import numpy as np
import pytest
from frozen import DEVICE1, PLACES, load

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import nn
from nnbackend.errors import DataError, DTypeError, LabelError, ShapeError
from nnbackend.random import generator, key_of, site_of

close = np.testing.assert_allclose
equal = np.testing.assert_array_equal


def cases_of(name):
    return [pytest.param(n, *case, id=f"{n}-{case[0]}") for n, case in enumerate(load(name)[1])]


# -- PyTorch's numbers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", PLACES, ids=str)
@pytest.mark.parametrize(("n", "name", "settings"), cases_of("activations"))
def test_activations(n, name, settings, place):
    arrays, _ = load("activations")
    x = nb.tensor(arrays["x"], device=place, requires_grad=True)
    weight = nb.tensor(arrays["weight"], device=place)
    with nb.testing.no_synchronization(), np.errstate(over="raise", invalid="raise", divide="raise"):
        y = getattr(nn, name)(**settings)(x)
        y.backward(weight.reshape(y.shape))
    assert (y.dtype, y.device, x.grad.device) == ("float64", nb.device(place), nb.device(place))
    close(y.numpy(), arrays[f"value.{n}"], 1e-10, 1e-14)
    close(x.grad.numpy(), arrays[f"grad.{n}"], 1e-9, 1e-14)


@pytest.mark.parametrize("place", PLACES, ids=str)
@pytest.mark.parametrize(("n", "name", "settings", "kind"), cases_of("losses"))
def test_losses(n, name, settings, kind, place):
    arrays, _ = load("losses")
    x = nb.tensor(arrays[f"input.{kind}"], device=place, requires_grad=True)
    target = nb.tensor(arrays[f"target.{kind}"]).to(nb.device(place))
    with nb.testing.no_synchronization(), np.errstate(over="raise", invalid="raise", divide="raise"):
        value = getattr(nn, name)(**settings)(x, target)
        value.backward(nb.tensor(arrays[f"weight.{n}"], device=place))
    assert (value.shape, value.dtype) == (arrays[f"value.{n}"].shape, "float64")
    close(value.numpy(), arrays[f"value.{n}"], 1e-10, 1e-14)
    close(x.grad.numpy(), arrays[f"grad.{n}"], 1e-8 if name == "BCELoss" else 1e-10, 1e-14)  # its 1e-12 is a float32
    if settings == {"reduction": "mean"}:  # raw arrays in, raw array out; the function's default
        function = {"BCELoss": F.binary_cross_entropy, "BCEWithLogitsLoss": F.binary_cross_entropy_with_logits,
                    "MSELoss": F.mse_loss, "L1Loss": F.l1_loss, "HuberLoss": F.huber_loss, "NLLLoss": F.nll_loss,
                    "CrossEntropyLoss": F.cross_entropy}[name]  # fmt: skip
        raw = function(x.data, target.data)
        assert not isinstance(raw, nb.Tensor)
        equal(nb.asarray(raw).numpy(), value.numpy())


# -- layers and containers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3,), (5, 3), (2, 5, 3), (0, 3), (2, 0, 3)])
@pytest.mark.parametrize("place", PLACES, ids=str)
def test_linear(shape, place):
    layer = nn.Linear(3, 2, device=place, dtype="float64")
    w, b, x = layer.weight.numpy(), layer.bias.numpy(), np.random.default_rng(0).standard_normal(shape)
    y = layer(nb.tensor(x, device=place))
    close(y.numpy(), x @ w.T + b, 1e-12)
    (y * y).sum().backward()
    dy = 2 * (x @ w.T + b).reshape(-1, 2)
    close(layer.weight.grad.numpy(), dy.T @ x.reshape(-1, 3), 1e-12, 1e-15)
    close(layer.bias.grad.numpy(), dy.sum(0), 1e-12, 1e-15)
    bare = nn.Linear(3, 2, bias=False, device=place, dtype="float64")
    assert (bare.bias, list(bare.state_dict())) == (None, ["weight"])
    close(bare(nb.tensor(x, device=place)).numpy(), x @ bare.weight.numpy().T, 1e-12)


def test_mlp():
    def kinds(*args, **kw):
        return [type(m).__name__ for m in nn.MLP(*args, **kw)]

    assert kinds([4, 5, 10, 3], "sigmoid") == ["Linear", "Sigmoid", "Linear", "Sigmoid", "Linear"]
    assert kinds([2, 1]) == ["Linear"]
    assert kinds([2, 3, 1], output="sigmoid") == ["Linear", "ReLU", "Linear", "Sigmoid"]
    assert kinds([2, 3, 3, 1], "tanh", dropout=0.1) == ["Linear", "Tanh", "Dropout"] * 2 + ["Linear"]
    assert kinds((2, 3, 1), lambda: nn.LeakyReLU(0.2), output=nn.Softmax) == [
        "Linear",
        "LeakyReLU",
        "Linear",
        "Softmax",
    ]
    net = nn.MLP([4, 5, 10, 3], "sigmoid")
    assert [p.shape for p in net.parameters()] == [(5, 4), (5,), (10, 5), (10,), (3, 10), (3,)]
    assert list(net.state_dict())[:3] == ["0.weight", "0.bias", "2.weight"]
    assert net(nb.ones((7, 4))).shape == (7, 3)
    assert net[1] is not net[3]
    with pytest.raises(ValueError, match="input and output"):
        nn.MLP([3])
    with pytest.raises(ValueError, match=r"one of sigmoid, .*got 'swish'"):
        nn.MLP([2, 3, 1], "swish")
    for name in (
        "sigmoid",
        "tanh",
        "relu",
        "leaky_relu",
        "elu",
        "gelu",
        "silu",
        "softplus",
        "logsigmoid",
        "log_softmax",
    ):
        assert nn.activation(name)(nb.ones((2, 2))).shape == (2, 2)


def test_sequential_and_module_list():
    layers = [nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)]
    net, x = nn.Sequential(*layers), nb.ones((5, 3))
    equal(net(x).numpy(), layers[2](layers[1](layers[0](x))).numpy())
    assert (len(net), list(net), net[-1], net[1]) == (3, layers, layers[2], layers[1])
    head = net[:2]
    assert (type(head), list(head), [m.path for m in net]) == (nn.Sequential, layers[:2], ["0", "1", "2"])
    equal(head(x).numpy(), layers[1](layers[0](x)).numpy())
    assert type(nn.MLP([2, 3, 1])[1:]) is nn.Sequential
    assert type(nn.ModuleList(layers)[1:]) is nn.ModuleList
    assert net.append(nn.Tanh()) is net
    net[0] = nn.Linear(3, 4, bias=False)
    net[-1] = nn.Sigmoid()
    assert [type(m).__name__ for m in net] == ["Linear", "ReLU", "Linear", "Sigmoid"]
    assert list(net.state_dict()) == ["0.weight", "2.weight", "2.bias"]
    assert net(x).shape == (5, 2)
    setattr(net, "1", nn.Identity())  # the attribute is the place
    assert [m.path for m in net] == ["0", "1", "2", "3"]
    equal(net(x).numpy(), net[3](net[2](net[0](x))).numpy())
    with pytest.raises(IndexError):
        net[4]
    for change in (lambda: net.append(nn.ReLU), lambda: net.__setitem__(0, 3), lambda: nn.ModuleList([1])):
        with pytest.raises(TypeError, match="expected modules"):
            change()
    twice = nn.Sequential(layers[1], layers[1])
    assert (len(twice), len(list(twice.children())), len(list(twice.modules()))) == (2, 2, 2)
    equal(nn.Sequential()(x).numpy(), x.numpy())

    class Flip(nn.Module):
        def forward(self, x):
            flipped.eval()  # as another thread may, between two layers
            return x

    flipped = nn.Sequential(Flip(), nn.ReLU())
    equal(flipped(x).numpy(), x.numpy())


def test_flatten_and_identity():
    x = nb.asarray(np.arange(24.0).reshape(2, 3, 4))
    assert nn.Flatten()(x).shape == (2, 12)
    assert nn.Flatten(0, 1)(x).shape == (6, 4)
    assert nn.Flatten(-2)(x).shape == (2, 12)
    assert nn.Flatten()(nb.ones((0, 3, 4))).shape == (0, 12)
    assert F.flatten(nb.tensor(1.0)).shape == (1,)
    equal(nn.Flatten()(x).numpy(), x.numpy().reshape(2, -1))
    assert nn.Identity()(x) is x
    for start, end in ((3, -1), (0, 3), (-4, -1), (2, 1)):
        with pytest.raises(ShapeError, match="axes from -3 to 2"):
            nn.Flatten(start, end)(x)
    assert (repr(nn.Flatten()), repr(nn.Flatten(0, 1))) == ("Flatten()", "Flatten(start_dim=0, end_dim=1)")


# -- dropout --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("place", PLACES, ids=str)
def test_a_mask_is_given_by_its_address(place, dtype):
    net = nn.Sequential(nn.Identity(), nn.Sequential(nn.Dropout(0.3))).init(5)
    x = nb.ones((40, 50), dtype=dtype, device=place)
    for n in range(3):
        u = generator(key_of(5), site_of("1.0"), n).random((40, 50), dtype)
        with nb.testing.no_synchronization():
            y = net(x)
        close(y.numpy(), (u >= 0.3) / 0.7, 1e-6)
    assert (type(net[1][0].calls), net[1][0].calls.value) == (nn.Scalar, 3)
    assert abs(float(y.mean()) - 1.0) < 0.05
    again = nn.Sequential(nn.Identity(), nn.Sequential(nn.Dropout(0.3))).init(5)
    again[1][0].calls = 2
    equal(again(x).numpy(), y.numpy())


def test_masks_differ_wherever_they_should():
    x = nb.ones((8, 16))
    layer = nn.Dropout()
    net = nn.Sequential(layer, nn.Dropout(), copy.deepcopy(layer)).init(0)
    blocks = nn.ModuleList()
    outer = nn.Sequential(net, blocks)
    for _ in range(2):  # put in place one by one, as copies of one block
        blocks.append(copy.deepcopy(net[:1]))
        blocks[-1].late = nn.Dropout()
        blocks[-1].late.key = key_of(0)
    drops = [m for m in outer.modules() if isinstance(m, nn.Dropout)]
    assert (len(drops), len({m.key for m in drops})) == (7, 1)
    masks = [drop(x).numpy() for drop in drops] + [layer(x).numpy()]
    assert len({mask.tobytes() for mask in masks}) == 8
    for mask in masks:
        assert set(mask.ravel()) == {0.0, 2.0}
    one, other = nn.Dropout(), nn.Dropout()  # without a seed: keys of their own
    assert not np.array_equal(one(x).numpy(), other(x).numpy())


def test_dropout_in_other_modes():
    x = nb.ones((50, 20)).requires_grad_()
    layer = nn.Dropout(0.25)
    assert layer.eval()(x) is x
    with nn.evaluating():
        assert layer.train()(x) is x
    assert nn.Dropout(0.0)(x) is x
    assert layer.calls.value == 0
    y = layer(x)
    y.sum().backward()
    equal(x.grad.numpy(), y.numpy())
    x.grad = None
    gone = nn.Dropout(1.0)(x)
    gone.sum().backward()
    equal(gone.numpy(), np.zeros((50, 20)))
    equal(x.grad.numpy(), np.zeros((50, 20)))
    assert F.dropout(x, 0.5, training=False) is x
    assert not np.array_equal(F.dropout(x).numpy(), F.dropout(x).numpy())
    for p in (-0.1, 1.1, np.nan):
        with pytest.raises(ValueError, match="probability from 0 to 1"):
            nn.Dropout(p)
        with pytest.raises(ValueError, match="probability from 0 to 1"):
            F.dropout(x, p)
    with pytest.raises(DTypeError, match=r"Dropout\(p=0.25\): dropout: expected a floating dtype, got int64"):
        layer(nb.tensor([1, 2]))


# -- what losses refuse ---------------------------------------------------------------------------------------------

CLASSES = [F.cross_entropy, F.nll_loss]
PAIRS = [F.mse_loss, F.l1_loss, F.huber_loss, F.binary_cross_entropy, F.binary_cross_entropy_with_logits]


@pytest.mark.parametrize("loss", CLASSES)
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_labels_out_of_range(loss, reduction):
    z, labels = nb.zeros((64, 3)), np.arange(64) % 3
    labels[[17, 40]] = 5, -7

    def message(labels, z=z):
        with pytest.raises(LabelError) as caught:
            loss(z, labels, reduction=reduction)
        return str(caught.value)

    expected = "2 of 64 labels outside 0..2 (first: row 17 = 5)"
    for dtype in ("int64", "int32", "int8"):
        assert expected in message(nb.tensor(labels.astype(dtype)))
    assert expected in message(nb.asarray(labels))
    assert expected in message(nb.tensor(labels).to(nb.device(DEVICE1)), z.to(nb.device(DEVICE1)))
    assert "1 of 4 labels outside 0..2 (first: row 3 = -1)" in message(nb.tensor([0, 1, 2, -1]), z[:4])
    overflown = np.array([0.0, np.nan])
    with np.errstate(invalid="ignore"):
        assert "row 1 = -9223372036854775808" in message(nb.tensor(overflown.astype("int64")), z[:2])
    deep = np.zeros((4, 5), "int64")
    deep[2, 3] = 9
    assert "1 of 20 labels outside 0..2 (first: row 2 = 9)" in message(nb.tensor(deep), nb.zeros((4, 3, 5)))
    one_based = message(nb.tensor(labels % 3 + 1))
    assert one_based.endswith("The labels look 1-based: subtract 1.")
    assert "1-based" not in message(nb.tensor(labels))
    ((batch,),) = nb.data.DataLoader(nb.tensor([0, 1, 3]), batch_size=2, shuffle=False, drop_last=True)
    assert "a batch of data with labels from 0 to 3" in message(batch, z[:2])  # known before the bad row comes
    assert loss(z, nb.tensor(np.arange(64) % 3), reduction=reduction).shape == (() if reduction == "mean" else (64,))


@pytest.mark.parametrize("loss", CLASSES)
def test_labels_of_the_wrong_kind(loss):
    z = nb.zeros((4, 3))
    for target, error, text in [
        (nb.tensor([0.0, 1.0, 2.0, 0.0]), LabelError, "got float32 of shape (4,). Cast indices with .astype('int64')"),
        (nb.one_hot(nb.tensor([0, 1, 2, 0]), 3, dtype="int64"), LabelError, "one-hot? Use target.argmax(1)."),
        (nb.tensor([[0], [1], [2], [0]]), ShapeError, "expected classes of shape (4,), got int64 (4, 1)"),
        (nb.tensor([0, 1]), ShapeError, "expected classes of shape (4,), got int64 (2,)"),
        (nb.tensor([True, False, True, True]), ShapeError, "got bool (4,)"),
    ]:
        with pytest.raises(error) as caught:
            loss(z, target)
        assert text in str(caught.value)
    with pytest.raises(ShapeError, match=r"input \(n, classes\), got \(4,\)"):
        loss(nb.zeros(4), nb.tensor([0, 1, 2, 0]))
    soft = nb.ones((4, 3)) / 3.0
    if loss is F.nll_loss:
        with pytest.raises(LabelError):
            loss(z, soft)
    else:
        close(float(loss(z, soft)), np.log(3), 1e-6)


@pytest.mark.parametrize("loss", PAIRS)
def test_shapes_must_be_equal(loss):
    for a, b in ((3, (3, 1)), ((3, 1), 3)):
        with pytest.raises(ShapeError) as caught:
            loss(nb.ones(a) * 0.5, nb.ones(b))
        assert f"Reshape one: target.reshape({nb.ones(a).shape})." in str(caught.value)
    with pytest.raises(ShapeError, match="expected input and target of one shape"):
        loss(nb.ones((3, 2)) * 0.5, nb.ones((1, 2)))
    with pytest.raises(LabelError, match=r"class indices \(4,\). Use one_hot\(target, 3\)"):
        loss(nb.ones((4, 3)) * 0.5, nb.tensor([0, 1, 2, 0]))
    if loss in PAIRS[:3]:
        assert loss(nb.ones((3, 2)), nb.ones((1, 2)) * 2.0, allow_broadcast=True).shape == ()


@pytest.mark.parametrize("loss", PAIRS + CLASSES)
def test_empty_batches_and_reductions(loss):
    target = (lambda n: nb.zeros(n, dtype="int64")) if loss in CLASSES else (lambda n: nb.ones((n, 3)))
    with pytest.raises(DataError, match=r"at least one sample, got an empty batch of shape \(0, 3\)"):
        loss(nb.ones((0, 3)), target(0))
    assert float(loss(nb.ones((0, 3)), target(0), reduction="sum")) == 0.0
    assert loss(nb.ones((0, 3)), target(0), reduction="none").shape[0] == 0
    with pytest.raises(ValueError, match='reduction="mean", "sum" or "none", got \'avg\''):
        loss(nb.ones((2, 3)), target(2), reduction="avg")


def test_ranges_of_probabilities():
    half, two = nb.tensor([0.5, 0.5]), nb.tensor([0.5, 2.0])
    for args, text in [
        ((two, half), "input in [0, 1], got 0.5 to 2. For logits use binary_cross_entropy_with_logits."),
        ((half, two), "target in [0, 1], got 0.5 to 2."),
        ((half, -two), "target in [0, 1], got -2 to -0.5."),
        ((nb.tensor([0.5, np.nan]), half), "input in [0, 1], got nan to nan"),
    ]:
        with pytest.raises(ValueError) as caught:
            F.binary_cross_entropy(*args)
        assert text in str(caught.value)
    with pytest.raises(ValueError, match=r"with_logits: expected target in \[0, 1\], got 0.5 to 2"):
        F.binary_cross_entropy_with_logits(two * 9.0, two)
    with pytest.raises(ValueError, match="delta > 0"):
        F.huber_loss(half, half, delta=0.0)
    x = nb.ones((4, 3)).requires_grad_()
    for squash in (nn.Softmax(), nn.Sigmoid()):
        with pytest.warns(UserWarning, match="expected logits, got probabilities"):
            F.cross_entropy(squash(x), nb.tensor([0, 1, 2, 0]))
    F.cross_entropy(nn.LogSoftmax()(x), nb.tensor([0, 1, 2, 0]))
