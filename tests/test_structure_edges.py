"""What cannot be built again is named; names are not taken twice; saving is harmless and cheap."""

import copy
import functools
import tracemalloc

import numpy as np
import pytest
from structure_case import DEVICE1, Args, Net, Point, assert_same, back, register_all, small

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import nn, optim
from nnbackend.cells import Buffer
from nnbackend.errors import IncompatibleCheckpointError
from nnbackend.recipe import registered

pytestmark = pytest.mark.usefixtures("few_names")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.safetensors"


# -- what cannot be kept ----------------------------------------------------------------------------------------------


class Unknown(nn.Linear):
    pass


class Holder:
    def __init__(self, inside):
        self.inside = inside


def _closure(layer):
    return lambda x: layer(x)


REFUSED = {
    "unregistered": (lambda: nn.Sequential(nn.ReLU(), Unknown(2, 2)), None, "Unknown is not registered: put @nb.regis"),
    "list": (small, lambda net: setattr(net, "layers", [nn.Linear(1, 1)]), "layers is a list with layers.*ModuleList"),
    "dict": (small, lambda net: setattr(net, "table", {"a": nn.Parameter(nb.ones(1))}), "table is a dict.*ParameterLi"),
    "array": (small, lambda net: setattr(net[0], "mask", np.ones(3)), "0.mask is an array .* use register_buffer"),
    "tensor in a list": (small, lambda net: setattr(net, "masks", [nb.ones(3)]), "masks is an array"),
    "lambda": (lambda: nn.MLP([2, 2, 2], lambda: nn.ReLU()), None, "MLP, argument activation: the function .*lambda"),
    "lambda set": (lambda: Net(3), lambda net: setattr(net, "act", lambda x: x), "act is the function .*lambda"),
    "partial": (lambda: Net(3, act=functools.partial(F.gelu)), None, "Net, argument act"),
    "closure": (lambda: Net(3), lambda net: setattr(net, "helper", _closure(net.e)), "helper is the function"),
    "object": (lambda: Args(Holder(1)), None, "Args, argument args: a Holder"),
    "object set": (small, lambda net: setattr(net, "cfg", Holder(1)), "cfg is a Holder"),
    "named tuple": (small, lambda net: setattr(net, "size", Point(1, 2)), "size is a Point"),
    "forward": (small, lambda net: net.__dict__.update(forward=F.relu), "'forward'"),
    "large": (small, lambda net: setattr(net, "n", 10**90), "n is an integer of 80 digits"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_built_is_named_and_its_weights_are_kept(name, path):
    register_all()
    make, change, reason = REFUSED[name]
    net = make()
    if change is not None:
        change(net)
    nb.save(net, path)
    with pytest.raises(
        IncompatibleCheckpointError, match=f"(?s)net.safetensors: expected a model .*{reason}.*into=net"
    ):
        nb.load(path)
    twin = make()
    assert nb.load(path, into=twin) is twin
    assert {n: v.numpy().tobytes() for n, v in twin.state_dict().items()} == {
        n: v.numpy().tobytes() for n, v in net.state_dict().items()
    }


class Odd(nn.Module):
    def __init__(self, width=2):
        layer = nn.Linear(width, width)
        self.hidden = lambda x: layer(x)
        self.items = Holder(layer)


def test_layers_hidden_in_functions_and_objects_are_not_lost_without_a_word(path):
    nb.register(Odd)
    nb.save(Odd(), path)
    with pytest.raises(IncompatibleCheckpointError, match="hidden is a function with layers or parameters inside"):
        nb.load(path)


def test_an_object_that_changed_is_not_taken_for_the_one_that_the_constructor_makes(path):
    class Config(nn.Module):
        def __init__(self):
            self.holder = Holder([1])

    nb.register(Config)
    net = Config()
    back(net, path)
    net.holder.inside.append(2)
    nb.save(net, path)
    with pytest.raises(IncompatibleCheckpointError, match="holder is a Holder"):
        nb.load(path)


# -- names ------------------------------------------------------------------------------------------------------------


def test_a_class_may_be_registered_again_and_names_are_not_taken_twice(path):
    def make(name="Cell"):
        class Cell(nn.Module):
            def __init__(self, n=2):
                self.fc = nn.Linear(n, n)

        Cell.__module__ = name
        return Cell

    old = nb.register(make())
    net = old()
    new = nb.register(make())
    assert registered["Cell"] is new
    nb.save(new(), path)
    assert type(nb.load(path)) is new
    nb.save(net, path)
    with pytest.raises(IncompatibleCheckpointError, match="Cell is defined again since this one was made: make a new"):
        nb.load(path)
    with pytest.raises(ValueError, match=r"register: expected a name of its own .*nb.register\(\"another name\"\)"):
        nb.register(make("elsewhere"))
    other = nb.register("my.Cell")(make("elsewhere"))
    back(other(3), path)
    for wrong in ("nn.Cell", "nn", "", "functional.relu"):
        with pytest.raises(ValueError, match="register: expected a name"):
            nb.register(wrong)(make())
    for thing in (F.relu, 3):
        with pytest.raises(TypeError, match="register: expected a class"):
            nb.register(thing)


def test_a_required_device_is_the_cpu_for_files(path):
    @nb.register
    class Placed(nn.Module):
        def __init__(self, device, **more):
            self.fc, self.device = nn.Linear(2, 2, device=device, **more), device

    nb.save(Placed(DEVICE1), path)
    assert str(nb.load(path).fc.weight.device) == nb.load(path).device == "cpu"


# -- beside it all ----------------------------------------------------------------------------------------------------


def test_saving_is_harmless_wherever_it_happens(path):
    net = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5), nn.BatchNorm1d(3))
    twin = copy.deepcopy(net)
    x = nb.ones((4, 3))
    made = []

    def run(net, save):
        optimizer = optim.SGD(net.parameters(), lr=0.1)

        def body(x):
            made.append(1)
            optimizer.zero_grad()
            loss = nb.sum(net(x) ** 2)
            loss.backward()
            if save:
                nb.save(net, path)
            optimizer.step()
            return loss.detach()

        made.clear()
        step = nb.compile(body)
        return [step(x).item() for _ in range(6)], len(made)

    assert run(net, True) == run(twin, False)
    assert len(made) < 6
    with nb.no_grad():
        assert_same(net, back(net, path))
        assert all(p.requires_grad for p in nb.load(path).parameters())


def test_a_program_is_not_recorded_again_for_a_save(path):
    net, made = nn.MLP([2, 3, 1]), []

    @nb.compile
    def step(x):
        made.append(1)
        return net(x).detach()

    step(nb.ones((1, 2)))
    step(nb.ones((1, 2)))
    before = len(made)
    nb.save(net, path)
    step(nb.ones((1, 2)))
    assert len(made) == before


def test_saving_copies_no_weights_and_loading_takes_them_once(path):
    net = nn.Sequential(nn.TransformerEncoder(nn.TransformerEncoderLayer(256, 4, 1024), 3), nn.Linear(1024, 2048))
    size = sum(p.numpy().nbytes for p in net.parameters())
    assert size > 15e6
    tracemalloc.start()
    try:
        nb.save(net, path)
        assert tracemalloc.get_traced_memory()[1] < 0.1 * size
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        twin = nb.load(path)
        assert tracemalloc.get_traced_memory()[1] - before < 1.1 * size
    finally:
        tracemalloc.stop()
    assert_same(net, twin)
    for norm in (nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm):
        net = norm(nn.Linear(1000, 1000))
        tracemalloc.start()
        try:
            nb.save(net, path)
            assert tracemalloc.get_traced_memory()[1] < 0.5e6
        finally:
            tracemalloc.stop()
        assert_same(net, nb.load(path))


CONSTANT = nb.zeros(3)


def test_a_buffer_that_was_shared_with_the_program_is_the_nets_own(path):
    @nb.register
    class Counts(nn.Module):
        def __init__(self):
            self.seen = Buffer(CONSTANT, persistent=False)

    net = back(Counts(), path)
    net.seen += 1
    assert CONSTANT.numpy().tolist() == [0.0] * 3
