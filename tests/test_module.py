"""Modules: finding, naming, saving, moving, copying and drawing parameters; PyTorch's behaviour throughout."""

import copy
import pickle
import re
import threading

import numpy as np
import pytest
from frozen import DEVICE1, PLACES, load

import nnbackend as nb
from nnbackend import nn, optim
from nnbackend.errors import DTypeError, IncompatibleCheckpointError, ShapeError

equal = np.testing.assert_array_equal


class Block(nn.Module):
    def __init__(self):
        self.lift = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
        self.scale = nn.Parameter(nb.ones(3))
        self.register_buffer("mean", nb.zeros(3))
        self.register_buffer("scratch", nb.zeros(2), persistent=False)

    def forward(self, x):
        return self.lift(x) * self.scale


class Net(nn.Module):
    def __init__(self):
        self.encoder = Block()
        self.head = nn.Linear(3, 2, bias=False)
        self.blocks = nn.ModuleList([Block(), nn.Dropout(0.2)])
        self.gain = nn.Parameter(nb.ones(()))
        self.tied = nn.Linear(3, 3)
        self.tied.weight = self.encoder.lift[0].weight
        self.again = self.encoder

    def forward(self, x):
        x = self.tied(self.again(self.encoder(x)))
        return self.head(self.blocks[1](self.blocks[0](x))) * self.gain


def loss_of(net, value=1.0):
    return (net(nb.ones((5, 3), dtype=net.gain.dtype, device=net.gain.device) * value) ** 2).mean()


# -- PyTorch's names ------------------------------------------------------------------------------------------------


def test_names_orders_and_shapes_are_pytorchs():
    frozen, net = load("names")[1], Net()
    assert [[name, list(value.shape)] for name, value in net.state_dict().items()] == frozen["state"]
    assert [name for name, _ in net.named_parameters()] == frozen["parameters"]
    assert [name for name, _ in net.named_buffers()] == frozen["buffers"]
    assert [name for name, _ in net.named_modules()] == frozen["modules"]
    assert len(list(net.modules())) == len(frozen["modules"])
    assert len(list(net.parameters())) == len(frozen["parameters"])
    assert len(list(net.buffers())) == len(frozen["buffers"])
    assert list(net.children()) == [net.encoder, net.head, net.blocks, net.tied, net.again]


def test_the_printed_form_is_pytorchs_but_for_the_settings():
    ours, theirs = repr(Net()).splitlines(), load("names")[1]["repr"].splitlines()
    assert [line.partition(" ")[0] for line in ours] == [line.partition(" ")[0] for line in theirs]
    assert [re.sub(r"\(\S.*\)$", "", line) for line in ours] == [re.sub(r"\(\S.*\)$", "", line) for line in theirs]
    assert ours[:5] == [
        "Net(",
        "  (encoder): Block(",
        "    (lift): Sequential(",
        "      (0): Linear(3, 3)",
        "      (1): ReLU()",
    ]
    assert ours[7] == "  (head): Linear(3, 2, bias=False)"
    assert repr(nn.Sequential()) == "Sequential()"


def test_parameters_are_named_by_their_path_wherever_they_were_made():
    net = Net()
    assert net.encoder.lift[0].weight.name == "encoder.lift.0.weight"  # not by where it is tied
    assert (net.gain.name, net.encoder.mean.name, net.blocks[0].scale.name) == (
        "gain",
        "encoder.mean",
        "blocks.0.scale",
    )
    net.blocks.append(nn.Linear(2, 2))
    net.encoder.late = nn.Parameter(nb.ones(1))
    net.encoder.deep = nn.Sequential(nn.Sequential(nn.Dropout()))
    assert (net.blocks[2].bias.name, net.encoder.late.name) == ("blocks.2.bias", "encoder.late")
    assert [(name, m.path) for name, m in net.named_modules() if name != m.path] == []
    assert net.again.path == "encoder"
    outer = nn.Sequential(net)
    assert [(name, m.path) for name, m in outer.named_modules() if name != m.path] == []
    assert net.encoder.late.name == "0.encoder.late"


# -- attributes -----------------------------------------------------------------------------------------------------


def test_assignment_keeps_identity():
    net = Net().init(0)
    weight, mean = net.head.weight, net.encoder.mean
    optimizer = optim.SGD(net.parameters(), lr=1.0)
    net.head.weight = nb.ones((2, 3)) * 5.0
    net.encoder.mean = net.encoder.mean * 0.5 + nb.ones(3)
    net.head.weight = np.full((2, 3), 7.0)  # the dtype stays
    assert net.head.weight is weight
    assert net.encoder.mean is mean
    equal(weight.numpy(), np.full((2, 3), 7.0, "float32"))
    equal(mean.numpy(), [1.0, 1.0, 1.0])
    loss_of(net).backward()
    optimizer.step()
    assert not np.array_equal(weight.numpy(), np.full((2, 3), 7.0, "float32"))
    for wrong, error in [(nb.ones((3, 2)), ShapeError), (3.0, TypeError), ("x", TypeError), ([1.0], TypeError)]:
        with pytest.raises(error, match=r"^head\.weight: expected"):
            net.head.weight = wrong
        assert net.head.weight is weight
    net.head.weight = None
    assert "head.weight" not in net.state_dict()
    net.head.weight = fresh = nn.Parameter(nb.ones((2, 3)))
    assert net.head.weight is fresh
    del net.head.weight
    with pytest.raises(AttributeError):
        net.head.weight
    net.blocks[1].calls = 3  # a count stays a cell as well
    assert (type(net.blocks[1].calls), net.blocks[1].calls.value) == (nn.Scalar, 3)


def test_properties_of_a_subclass_work():
    class Scaled(nn.Linear):
        @property
        def scale(self):
            return self._scale

        @scale.setter
        def scale(self, value):
            self._scale = 2 * value

    layer = Scaled(2, 2)
    layer.scale = 3
    assert layer.scale == 6


def test_buffers_are_copies_and_may_be_left_out_of_the_state():
    mine = np.zeros(3, "float32")
    net = nn.Module()
    net.register_buffer("mean", mine)
    net.register_buffer("count", [1, 2])
    net.register_buffer("scratch", nb.ones(2), persistent=False)
    net.mean = net.mean + 1.0
    equal(mine, [0, 0, 0])
    assert list(net.state_dict()) == ["mean", "count"]
    assert [name for name, _ in net.named_buffers()] == ["mean", "count", "scratch"]
    assert list(net.parameters()) == []
    net.to("float64")
    assert [str(b.dtype) for b in net.buffers()] == ["float64", "int64", "float64"]
    twin = copy.deepcopy(net)
    assert list(twin.state_dict()) == ["mean", "count"]
    equal(twin.scratch.numpy(), [1.0, 1.0])


def test_forward_must_be_written():
    for module in (nn.Module(), nn.ModuleList([nn.ReLU()])):
        with pytest.raises(TypeError, match=f"^{type(module).__name__}: expected a forward method"):
            module(nb.ones(1))


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_plain_arrays_become_tensors(place):
    x = nb.ones((2, 3), device=place).data
    for module in (nn.Linear(3, 2), nn.ReLU(), nn.Identity(), nn.Flatten(), nn.Dropout(), nn.Sequential(nn.Tanh())):
        y = module.to(device=place)(x)
        assert isinstance(y, nb.Tensor)
        assert y.device == nb.device(place)
    assert isinstance(nn.MSELoss()(x, x), nb.Tensor)


# -- modes ----------------------------------------------------------------------------------------------------------


def test_train_eval_zero_grad_and_freezing():
    net = Net()
    assert net.training
    assert net.eval() is net
    assert not any(m.training for m in net.modules())
    assert net.train() is net
    assert all(m.training for m in net.modules())
    net.blocks.train(False)
    assert (net.training, net.blocks[1].training) == (True, False)
    net.encoder.training = False
    assert (net.encoder.training, net.encoder.lift.training) == (False, True)
    loss_of(net).backward()
    assert net.gain.grad is not None
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())
    assert net.encoder.requires_grad_(False) is net.encoder
    assert not any(p.requires_grad for p in net.encoder.parameters())
    assert net.tied.bias.requires_grad
    loss_of(net).backward()
    assert (net.tied.weight.grad, net.encoder.scale.grad) == (None, None)
    assert net.tied.bias.grad is not None
    assert all(p.requires_grad for p in net.requires_grad_().parameters())


def test_evaluating_holds_in_its_own_thread_only():
    net, seen, inside, leave = Net(), [], threading.Event(), threading.Event()

    def predict():
        with nn.evaluating():
            seen.append([m.training for m in net.modules()])
            with nn.evaluating():
                pass
            seen.append([net.training])
            inside.set()
            leave.wait(5)
        seen.append([net.training])

    thread = threading.Thread(target=predict)
    thread.start()
    assert inside.wait(5)
    assert all(m.training for m in net.modules())
    net.eval()
    net.train()
    leave.set()
    thread.join(5)
    assert (set(seen[0]), seen[1], seen[2]) == ({False}, [False], [True])
    assert all(m.__dict__.get("_training", True) for m in net.modules())
    with nn.evaluating():
        net.eval()  # a flag written inside holds afterwards
    assert not net.training


# -- loading --------------------------------------------------------------------------------------------------------


def snapshot(net):
    return {name: (id(cell), cell.numpy().copy(), cell.dtype) for name, cell in net._stored().items()}


def same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert a[name][0] == b[name][0]
        assert a[name][2] == b[name][2]
        equal(a[name][1], b[name][1])


def test_load_state_dict_copies_into_place():
    net, other = Net().init(1), Net().init(2)
    ids = {name: id(p) for name, p in net.named_parameters()}
    state = other.state_dict()
    result = net.load_state_dict(state)
    assert result == ([], [])
    assert (result.missing_keys, result.unexpected_keys) == ([], [])
    assert {name: id(p) for name, p in net.named_parameters()} == ids
    for name, value in state.items():
        equal(net.state_dict()[name].numpy(), value.numpy())
        assert not np.shares_memory(net._stored()[name].data, value.data)
    assert net.tied.weight is net.encoder.lift[0].weight
    equal(net.state_dict()["tied.weight"].numpy(), net.state_dict()["again.lift.0.weight"].numpy())
    state["tied.weight"] += 1.0  # keys that disagree: the last one counts, as in PyTorch
    state["encoder.lift.0.weight"] += 2.0
    net.load_state_dict({name: state[name] for name in reversed(state)})
    equal(net.encoder.lift[0].weight.numpy(), other.state_dict()["again.lift.0.weight"].numpy())


def test_load_state_dict_lists_all_faults_and_changes_nothing():
    net = Net()
    before = snapshot(net)
    state = {name: value + 1.0 for name, value in net.state_dict().items()}
    del state["gain"], state["head.weight"]
    state.update({"tied.bias": nb.ones(4), "again.scale": nb.ones((3, 1)), "foo": nb.ones(1), "head.bias": nb.ones(2)})
    with pytest.raises(IncompatibleCheckpointError) as caught:
        net.load_state_dict(state)
    text = str(caught.value)
    for fault in (
        "missing: gain, head.weight", "unexpected: foo, head.bias",
        "tied.bias (expected (3,), got (4,))", "again.scale (expected (3,), got (3, 1))",
    ):  # fmt: skip
        assert fault in text
    same(snapshot(net), before)
    with pytest.raises(IncompatibleCheckpointError) as caught:
        net.load_state_dict(state, strict=False)
    assert "missing" not in str(caught.value)
    assert "tied.bias (expected" in str(caught.value)
    same(snapshot(net), before)
    state.update({"tied.bias": nb.ones(3), "again.scale": nb.ones(3)})
    result = net.load_state_dict(state, strict=False)
    assert result.missing_keys == ["gain", "head.weight"]
    assert sorted(result.unexpected_keys) == ["foo", "head.bias"]
    equal(net.tied.bias.numpy(), [1.0, 1.0, 1.0])
    equal(net.gain.numpy(), before["gain"][1])


def test_a_float64_state_makes_the_model_float64():
    wide = Net().init(0).to("float64").state_dict()
    net = Net()
    ids = {name: id(p) for name, p in net.named_parameters()}
    net.load_state_dict(wide)
    assert {str(cell.dtype) for cell in [*net.parameters(), *net.buffers()]} == {"float64"}
    assert {name: id(p) for name, p in net.named_parameters()} == ids
    loss_of(net).backward()
    optim.SGD(net.parameters(), lr=0.1).step()
    mixed = dict(wide, gain=nb.ones(()))
    for state in (mixed, Net().state_dict()):
        net = Net()
        net.load_state_dict(state)
        assert {str(p.dtype) for p in net.parameters()} == {"float32"}
    net = Net().to("float64")
    net.load_state_dict(Net().state_dict())
    assert {str(p.dtype) for p in net.parameters()} == {"float64"}
    net = Net()
    net.load_state_dict({"unknown": nb.ones(1, dtype="float64")}, strict=False)
    assert str(net.gain.dtype) == "float32"


# -- moving and copying ---------------------------------------------------------------------------------------------


def test_to_moves_in_place():
    net = Net().init(0)
    ids, values = {n: id(p) for n, p in net.named_parameters()}, snapshot(net)
    assert net.to(DEVICE1) is net
    assert {str(c.device) for c in [*net.parameters(), *net.buffers()]} == {str(nb.device(DEVICE1))}
    assert loss_of(net).device == nb.device(DEVICE1)
    net.to("float64").to("cpu", "float32").to(device="cpu", dtype="float64").to(dtype=np.float32).to(nb.ones(1))
    same({k: (0, *v[1:]) for k, v in snapshot(net).items()}, {k: (0, *v[1:]) for k, v in values.items()})
    assert {n: id(p) for n, p in net.named_parameters()} == ids
    for bad in ("int64", "bool", "flaot32", "gpu"):
        with pytest.raises(DTypeError):
            net.to(bad)
    same(snapshot(net), {k: (snapshot(net)[k][0], *v[1:]) for k, v in values.items()})


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))], ids=["deepcopy", "pickle"]
)
@pytest.mark.parametrize("used", [False, True], ids=["new", "trained"])
def test_copies_are_whole_and_independent(copied, used):
    net = Net().init(3)
    if used:
        loss_of(net).backward()
        optim.AdamW(net.parameters()).step()
    net.head.requires_grad_(False)
    net.eval()
    twin = copied(net)
    assert repr(twin) == repr(net)
    assert [m.path for m in twin.modules()] == [m.path for m in net.modules()]
    assert [p.name for p in twin.parameters()] == [p.name for p in net.parameters()]
    assert twin.tied.weight is twin.encoder.lift[0].weight
    assert twin.again is twin.encoder
    assert (twin.head.weight.requires_grad, twin.training, twin.gain.grad) == (False, False, None)
    assert list(twin.state_dict()) == list(net.state_dict())
    for (name, value), (_, other) in zip(net.state_dict().items(), twin.state_dict().items(), strict=True):
        equal(value.numpy(), other.numpy(), name)
    for cell in [*twin.parameters(), *twin.buffers()]:
        assert not any(np.shares_memory(cell.data, c.data) for c in [*net.parameters(), *net.buffers()])
    before = snapshot(net)
    loss_of(twin.train()).backward()
    optim.SGD(twin.parameters(), lr=0.5).step()
    same(snapshot(net), before)
    assert not np.array_equal(twin.gain.numpy(), net.gain.numpy())
    equal(twin.init(5).tied.bias.numpy(), net.init(5).tied.bias.numpy())  # initialisers are kept
