"""Containers: lists, dicts and sequences of layers and parameters, with PyTorch's names; everyday methods of Module."""

import copy
from collections import OrderedDict

import numpy as np
import pytest

import nnbackend as nb
from nnbackend import nn, optim

equal = np.testing.assert_array_equal


def names(net):
    return list(net.state_dict())


def paths(net):
    return [m.path for m in net.children()]


def test_lists_of_modules_grow_and_shrink_anywhere():
    a, b, c, d = (nn.Linear(2, 2) for _ in range(4))
    some = nn.ModuleList([a])
    assert some.extend([c, d]) is some
    assert some.insert(1, b) is some
    assert (list(some), paths(some), b.weight.name) == ([a, b, c, d], ["0", "1", "2", "3"], "1.weight")
    assert some.pop() is d
    assert some.pop(0) is a
    assert (list(some), paths(some), names(some)[0], c.bias.name) == ([b, c], ["0", "1"], "0.weight", "1.bias")
    del some[0]
    some += [a, b]
    del some[1:]
    assert (list(some), c in some, a in some) == ([c], True, False)
    with pytest.raises(TypeError, match="ModuleList: expected modules, got int"):
        some.extend([a, 3])
    with pytest.raises(TypeError, match="expected modules, got str"):
        some.insert(0, "relu")
    assert list(some) == [c]
    outer = nn.Sequential(nn.ModuleList([nn.Linear(2, 2)]))
    outer[0].insert(0, nn.Dropout())
    assert [m.path for m in outer.modules()] == ["", "0", "0.0", "0.1"]


def test_sequences_by_name():
    net = nn.Sequential(OrderedDict([("first", nn.Linear(3, 4)), ("act", nn.ReLU())]))
    net.append(nn.Linear(4, 2))
    assert names(net) == ["first.weight", "first.bias", "2.weight", "2.bias"]
    assert (net.first.path, type(net[1]), net.act is net[1]) == ("first", nn.ReLU, True)
    assert net(nb.ones((5, 3))).shape == (5, 2)
    assert [name for name, _ in net.named_children()] == ["first", "act", "2"]
    assert type(net[:2]) is nn.Sequential
    assert len(nn.Sequential({})) == 0


def test_modules_by_name():
    net = nn.ModuleDict({"a": nn.Linear(2, 3), "b": nn.ReLU()})
    net["c"] = nn.Linear(3, 1)
    net.update({"d": nn.Tanh()})
    net.update([("b", nn.Sigmoid())])
    assert (list(net), len(net), "c" in net, "z" in net) == (["a", "c", "d", "b"], 4, True, False)
    assert (type(net["b"]), net.a is net["a"], paths(net)) == (nn.Sigmoid, True, ["a", "c", "d", "b"])
    assert names(net) == ["a.weight", "a.bias", "c.weight", "c.bias"]
    assert list(net.values())[1] is net["c"]
    assert [name for name, _ in net.items()] == list(net.keys())
    assert type(net.pop("b")) is nn.Sigmoid
    del net["d"]
    assert list(net) == ["a", "c"]
    assert net != nn.ModuleDict(net)
    assert net in {net}
    for wrong in ("a.b", "", "forward", "training"):
        with pytest.raises(KeyError, match="ModuleDict: expected a name without a dot that is not taken"):
            net[wrong] = nn.ReLU()
    with pytest.raises(TypeError, match="ModuleDict: expected"):
        net["e"] = nn.ReLU
    with pytest.raises(KeyError):
        net["e"]
    net.clear()
    assert (len(net), list(net)) == (0, [])


def test_parameters_in_lists_and_by_name():
    p = nn.Parameter(nb.ones(2))
    some = nn.ParameterList([p, np.zeros(3)]).append(nb.ones((2, 2)))
    assert some.extend([nb.ones(1)]) is some
    assert (some[0] is p, len(some), some[-1].shape) == (True, 4, (1,))
    assert all(isinstance(q, nn.Parameter) for q in some)
    assert names(some) == ["0", "1", "2", "3"]
    some[1] = nb.ones(5)
    assert [q.shape for q in some] == [(2,), (5,), (2, 2), (1,)]
    assert (type(some[1:3]), [q.shape for q in some[1:3]]) == (nn.ParameterList, [(5,), (2, 2)])
    named = nn.ParameterDict({"w": nb.ones((2, 3)), "b": p})
    named["c"] = np.ones(1)
    assert (list(named), named["b"] is p, names(named)) == (["w", "b", "c"], True, ["w", "b", "c"])
    assert (named.pop("b") is p, "b" in named) == (True, False)
    for wrong in (lambda: some.append(3), lambda: named.__setitem__("d", "x")):
        with pytest.raises(TypeError, match="expected parameters, tensors or arrays"):
            wrong()

    class Net(nn.Module):
        def __init__(self):
            self.gains, self.by_name = some, named

        def forward(self, x):
            return x * self.gains[0] + self.by_name["w"].sum()

    net = Net()
    assert names(net)[:2] + names(net)[-2:] == ["gains.0", "gains.1", "by_name.w", "by_name.c"]
    assert (net.gains[1].name, net.by_name["c"].name) == ("gains.1", "by_name.c")
    optimizer = optim.SGD([p, named["w"]], lr=0.5)
    net(nb.ones((1, 2))).sum().backward()
    optimizer.step()
    equal(p.numpy(), [0.5, 0.5])
    assert names(copy.deepcopy(net)) == names(net)


def test_residual():
    inner = nn.Linear(3, 3)
    net, x = nn.Residual(inner), nb.ones((2, 3))
    equal(net(x).numpy(), (x + inner(x)).numpy())
    assert names(net) == ["module.weight", "module.bias"]
    equal(nn.Residual(nn.Identity(1, 2, unused=3))(x).numpy(), 2 * x.numpy())


# -- everyday methods -------------------------------------------------------------------------------------------------


def test_registering_by_name():
    net = nn.Module()
    net.add_module("fc", nn.Linear(2, 3))
    net.register_module("act", nn.ReLU())
    net.register_parameter("gain", nn.Parameter(nb.ones(1)))
    net.register_parameter("bias", None)
    net.register_buffer("mean", nb.zeros(2))
    net.register_buffer("none", None)
    assert (names(net), net.bias, net.none) == (["gain", "mean", "fc.weight", "fc.bias"], None, None)
    net.register_parameter("bias", nn.Parameter(nb.ones(2)))
    net.add_module("fc", nn.Linear(2, 2, bias=False))
    assert names(net) == ["gain", "bias", "mean", "fc.weight"]
    for wrong in (
        lambda: net.add_module("fc.x", nn.ReLU()),
        lambda: net.add_module("gain", nn.ReLU()),
        lambda: net.register_parameter("forward", nn.Parameter(nb.ones(1))),
        lambda: net.register_buffer("fc", nb.ones(1)),
    ):
        with pytest.raises(KeyError, match="expected a name without a dot that is not taken"):
            wrong()
    for wrong in (lambda: net.add_module("x", 3), lambda: net.register_parameter("x", nb.ones(1))):
        with pytest.raises(TypeError, match="Module: expected"):
            wrong()
    assert names(net) == ["gain", "bias", "mean", "fc.weight"]


def test_finding_by_path():
    net = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.Linear(3, 1)))
    net[1].register_buffer("mean", nb.zeros(2))
    assert net.get_submodule("1.0") is net[1][0]
    assert net.get_submodule("") is net
    assert net.get_parameter("1.0.weight") is net[1][0].weight
    assert net.get_buffer("1.mean") is net[1].mean
    for wrong in (
        lambda: net.get_submodule("1.3"),
        lambda: net.get_parameter("1.0"),
        lambda: net.get_buffer("2.mean"),
        lambda: net.get_submodule("0.weight"),
    ):
        with pytest.raises(AttributeError, match=r"Sequential: expected a .* at '.*', got none"):
            wrong()


def test_walking_and_changing():
    net = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.ReLU()))
    seen = []
    assert net.apply(lambda m: seen.append(type(m).__name__)) is net
    assert seen == ["Linear", "ReLU", "Sequential", "Sequential"]
    assert [name for name, _ in net.named_parameters("net")] == ["net.0.weight", "net.0.bias"]
    assert list(net.parameters(recurse=False)) == list(net.buffers(recurse=False)) == []
    assert [name for name, _ in net[0].named_parameters(recurse=False)] == ["weight", "bias"]
    weight = net[0].weight
    for change, dtype in ((net.double, "float64"), (net.half, "float16"), (net.float, "float32")):
        assert change() is net
        assert (net[0].weight is weight, weight.dtype) == (True, dtype)
    assert net.cpu()[0].weight.device == "cpu"
