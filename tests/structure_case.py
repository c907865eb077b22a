"""Nets that are saved and loaded, and what is then the same."""

import json
from typing import Any, NamedTuple

import array_api_strict

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import nn
from nnbackend.cells import Cell
from nnbackend.io import safetensors
from nnbackend.recipe import is_hollow

DEVICE1 = array_api_strict.Device("device1")


def described(path) -> dict[str, Any]:
    with safetensors.File(path) as file:
        return json.loads(file.metadata["nnbackend"])["value"]


def bits(net) -> dict[str, bytes]:
    return {name: cell.to("cpu").numpy().tobytes() for name, cell in net._named_cells(Cell)}


def assert_same(net, twin) -> None:
    assert type(twin) is type(net)
    assert repr(twin) == repr(net).replace("np.int64(3), np.int32(2)", "3, 2")
    assert list(twin.state_dict()) == list(net.state_dict())
    assert bits(twin) == bits(net)
    assert {n: t.dtype for n, t in twin.state_dict().items()} == {n: t.dtype for n, t in net.state_dict().items()}
    pairs = list(zip(net.named_modules(), twin.named_modules(), strict=True))
    assert all(a == b and type(m) is type(n) for (a, m), (b, n) in pairs)
    assert [m._training for _, m in net.named_modules()] == [m._training for _, m in twin.named_modules()]
    assert [m.path for m in net.modules()] == [m.path for m in twin.modules()]
    trained = [[(n, p.requires_grad) for n, p in x.named_parameters()] for x in (net, twin)]
    assert trained[0] == trained[1]
    for _, cell in twin._named_cells(Cell):
        assert not is_hollow(cell.array)
        assert all(cell is not other for _, other in net._named_cells(Cell))


def back(net, path, **how):
    """A net that was saved and loaded, and is the same; as it is when it is saved once more."""
    nb.save(net, path, **how)
    twin = nb.load(path)
    assert_same(net, twin)
    first = described(path)
    nb.save(twin, path, **how)
    assert described(path) == first
    assert_same(net, nb.load(path))
    return twin


class Point(NamedTuple):
    x: int
    y: int


class Net(nn.Module):
    def __init__(self, vocab, width=3, *sizes, act=F.relu, tie=True, **more):
        self.e = nn.Embedding(vocab, width)
        self.o = nn.Linear(width, vocab, bias=False)
        if tie:
            self.o.weight = self.e.weight
        self.act, self.more, self.sizes = act, more, sizes
        self.helper = lambda x: x + width
        self.method = self.forward

    def forward(self, x):
        return self.o(self.act(self.e(x)))


class Args(nn.Module):
    def __init__(self, *args, **kw):
        self.args, self.kw = args, kw
        for i, x in enumerate(args):
            if isinstance(x, nn.Module | nn.Parameter):
                setattr(self, f"part{i}", x)
        self.args = tuple(x for x in args if not isinstance(x, nn.Module | nn.Parameter))


class Weighed(nn.Module):
    def __init__(self, weight, scale, offset=None):
        self.weight = nn.Parameter(weight)
        self.register_buffer("scale", scale)
        self.register_buffer("offset", offset, persistent=False)


class Stack(nn.Sequential):
    def __init__(self, n, device="cpu"):
        super().__init__(*(nn.Linear(n, n, device=device) for _ in range(n)))
        self.n = n


class Nested(nn.Module):
    def __init__(self, inner, heads):
        self.inner, self.heads = inner, nn.ModuleList(heads)


def register_all() -> None:
    for kind in (Net, Args, Weighed, Stack, Nested):
        nb.register(kind)


def small() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5), nn.Linear(3, 3))
