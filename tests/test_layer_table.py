"""Every line of `layer_table.py` keeps the layer contract, which is `testing.check_layer`, on every backend."""

import copy
import inspect

import numpy as np
import pytest
from layer_line import Line
from layer_table import LAYERS
from op_run import FAR, PLACES

import nnbackend as nb
from nnbackend import nn, optim, tree

CONTAINERS = {"Module", "RandomModule", "ModuleDict", "ModuleList", "ParameterDict", "ParameterList", "Sequential"}
DEVICES = list(dict.fromkeys(place.device for place in PLACES if place.dtype == "float64"))

each_line = pytest.mark.parametrize("line", LAYERS, ids=lambda line: line.id)


@pytest.mark.parametrize("device", DEVICES, ids=str)
@each_line
def test_contract(line: Line, device: nb.device) -> None:
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        nb.testing.check_layer(line.make, inputs=line.draw(), device=device, smooth=line.smooth, batch=line.batch)


@pytest.mark.parametrize("device", FAR, ids=str)
@each_line
def test_a_training_step_reads_nothing_back(line: Line, device: nb.device) -> None:
    net = line.make().to(device, "float64")
    inputs = tree.mapped(lambda x: nb.tensor(device.put(x)) if isinstance(x, np.ndarray) else x, line.draw())
    optimizer = optim.SGD(net.parameters(), lr=1e-3) if list(net.parameters()) else None
    with nb.testing.no_synchronization():
        outputs = [y for y in tree.leaves(net(*inputs)) if isinstance(y, nb.Tensor) and y.requires_grad]
        for y in outputs:
            nb.sum(y * y).backward(retain_graph=True)
        if optimizer:
            optimizer.step()


def test_every_layer_has_a_line() -> None:
    layers = {name for name in nn.__all__ if inspect.isclass(cls := getattr(nn, name)) and issubclass(cls, nn.Module)}
    run = {type(module).__name__ for line in LAYERS for module in line.make().modules()}
    assert sorted(layers - CONTAINERS - run) == []
    assert len({line.id for line in LAYERS}) == len(LAYERS)


# -- the contract finds what is wrong ---------------------------------------------------------------------------------


class Scale(nn.Module):
    """A layer that keeps the contract, and what its heirs do wrong."""

    def __init__(self) -> None:
        self.weight = nn.Parameter(nb.tensor([1.0, 2.0, 3.0]))

    def forward(self, x: nb.Tensor) -> nb.Tensor:
        return x * self.weight


class Cut(Scale):
    def forward(self, x: nb.Tensor) -> nb.Tensor:
        return x.detach() * self.weight


class Wide(Scale):
    def forward(self, x: nb.Tensor) -> nb.Tensor:
        return super().forward(x).to("float64")


class Baked(Scale):
    def forward(self, x: nb.Tensor) -> nb.Tensor:
        return super().forward(x) * float(x.sum())


class Counting(Scale):
    n = 0

    def forward(self, x: nb.Tensor) -> nb.Tensor:
        type(self).n += 1
        return super().forward(x) * (1.0 + type(self).n)


class Settled(Scale):
    def forward(self, x: nb.Tensor) -> nb.Tensor:
        return super().forward(x.reshape((4, 3)))


class Unseen(Scale):
    def __init__(self) -> None:
        super().__init__()
        self.hidden = nb.tensor(np.random.default_rng().standard_normal())

    def forward(self, x: nb.Tensor) -> nb.Tensor:
        return super().forward(x) * self.hidden.to(x.device, x.dtype)


class Loud(Scale):
    __repr__ = object.__repr__


@pytest.mark.parametrize(
    ("layer", "part"),
    [
        (Cut, "gradients by differences"), (Wide, "results and gradients"), (Baked, "a recorded step"),
        (Counting, "results and gradients"), (Settled, "an empty batch"), (Unseen, "the state in a second layer"),
        (Loud, "printing and copying"),
    ],
)  # fmt: skip
def test_the_contract_finds(layer: type[Scale], part: str) -> None:
    x = np.random.default_rng(0).standard_normal((4, 3))
    nb.testing.check_layer(Scale, inputs=x)
    with pytest.raises(AssertionError, match=rf"^check_layer: .*: {part}: "):
        nb.testing.check_layer(layer, inputs=x)


def test_the_contract_leaves_its_arguments_alone() -> None:
    x = nb.tensor([[1.0, 2.0, 3.0]], requires_grad=True)
    kept = copy.deepcopy(x.numpy())
    nb.testing.check_layer(nn.Linear, 3, 2, bias=False, inputs=x)
    assert x.grad is None
    np.testing.assert_array_equal(x.numpy(), kept)
