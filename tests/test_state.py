"""All state lives in cells: a spy at their door sees everything that a training step changes."""

import ast
import contextlib
import types
from pathlib import Path

import numpy as np
import pytest
from frozen import PLACES

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import nn, optim
from nnbackend.backend import to_host
from nnbackend.cells import Cell, Parameter, Scalar, structure
from nnbackend.recorder import recorder

PACKAGE = Path(nb.__file__).parent
BOOKKEEPING = {"written"}  # when the array of a cell changed


class Spy:
    """A recorder that hands out the contents themselves and notes who was asked for what."""

    def __init__(self):
        self.reads, self.writes, self.read_grads, self.write_grads, self.scopes = [], [], [], [], []

    def read(self, cell):
        self.reads.append(cell)
        return cell._value if isinstance(cell, Scalar) else cell.array

    def write(self, cell, value):
        self.writes.append(cell)
        cell._value = value

    def read_grad(self, parameter):
        self.read_grads.append(parameter)
        return parameter._gradient

    def write_grad(self, parameter, value):
        self.write_grads.append(parameter)
        parameter._gradient = value

    @contextlib.contextmanager
    def scope(self, owner):
        self.scopes.append(owner.path if isinstance(owner, nn.Module) else type(owner).__name__)
        yield

    def operands(self, args, raw):
        return raw

    def known(self, x):
        return x

    def made(self, array):
        return array

    def check(self, test, x, *settings):
        test(x, *settings)

    def result(self, op, y):
        pass

    gradient = result

    def going_back(self, t):
        pass

    replaced = watch = going_back

    def called(self, module, given, y):
        pass

    @contextlib.contextmanager
    def watching(self):
        token = recorder.set(self)
        try:
            yield self
        finally:
            recorder.reset(token)


def contents(value, path, found, seen, owner=None):
    """Every array and number that can be reached: path -> (owning cell, value, a copy of it)."""
    if isinstance(value, nb.Tensor | Scalar):
        owner = value
    if isinstance(value, np.ndarray | np.generic) or (
        hasattr(value, "__array_namespace__") and not isinstance(value, nb.Tensor)
    ):
        found[path] = owner, to_host(value).copy()
    elif isinstance(value, int | float | complex | str | bytes | type(None) | type | types.FunctionType):
        found[path] = owner, value
    elif id(value) not in seen:
        seen[id(value)] = value
        if isinstance(value, dict):
            for key, item in value.items():
                contents(item, f"{path}[{key if isinstance(key, str) else id(key)}]", found, seen, owner)
        elif isinstance(value, list | tuple | set):
            found[f"{path}.len"] = owner, len(value)
            for i, item in enumerate(value):
                contents(item, f"{path}[{i}]", found, seen, owner)
        else:
            names = {n for kind in type(value).__mro__ for n in getattr(kind, "__slots__", ()) if n != "__weakref__"}
            for name in sorted(names | set(getattr(value, "__dict__", {}))):
                if isinstance(value, nb.Tensor) and name in ("node", "initialiser"):
                    continue
                if isinstance(item := getattr(value, name, None), types.ModuleType):
                    continue
                inside = item if not isinstance(value, Cell) or name != "home" else None
                contents(inside, f"{path}.{name}", found, seen, owner)
    return found


def snapshot(**roots):
    found, seen = {}, {}
    for name, root in roots.items():
        contents(root, name, found, seen)
    return found


def differing(before, after):
    assert before.keys() == after.keys()
    return {
        path: after[path][0]
        for path in before
        if not np.array_equal(before[path][1], after[path][1]) and path.rpartition(".")[2] not in BOOKKEEPING
    }


class Running(nn.Module):
    """Like batch norm: a running mean, and a learned gain used twice."""

    def __init__(self, n):
        self.gain = nn.Parameter(nb.ones(n))
        self.register_buffer("mean", nb.zeros(n))

    def forward(self, x):
        if self.training:
            self.mean = self.mean * 0.9 + x.detach().mean(0) * 0.1
        return (x - self.mean) * self.gain * self.gain


def ready(place, make):
    net = nn.Sequential(nn.MLP([4, 6, 5, 3], "tanh", dropout=0.4), Running(3), nn.Dropout(0.2)).init(0).to(device=place)
    optimizer = make(net.parameters())
    x = nb.tensor(np.random.default_rng(0).standard_normal((16, 4)).astype("float32"), device=place)
    y = nb.tensor(np.arange(16) % 3).to(nb.device(place))

    def step():
        loss = F.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optim.clip_grad_norm(net.parameters(), 0.5)
        optim.clip_grad_value(net.parameters(), 0.2)
        optimizer.step()
        return loss

    return net, optimizer, step


RULES = {
    "AdamW": lambda params: optim.AdamW(params, lr=0.05),
    "SGD": lambda params: optim.SGD(params, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
}


@pytest.mark.parametrize("place", PLACES, ids=str)
@pytest.mark.parametrize("rule", RULES)
def test_everything_that_a_step_changes_goes_through_a_cell(rule, place):
    net, optimizer, step = ready(place, RULES[rule])
    step()  # lays the parameters out
    before, version = snapshot(net=net, optimizer=optimizer), structure.version
    with Spy().watching() as spy:
        step()
    assert structure.version == version
    changed = differing(before, snapshot(net=net, optimizer=optimizer))
    read = {id(c) for c in spy.reads}
    homes = {id(p): id(p.home if p.home is not None else p) for p in net.parameters()}
    written = {id(c) for c in spy.writes}
    for path, owner in changed.items():
        assert owner is not None, f"{path} changed outside a cell"
        if isinstance(owner, Scalar):
            assert id(owner) in written, path
        elif path.endswith("._gradient"):
            assert id(owner) in {id(p) for p in spy.write_grads}, path
        else:
            assert homes.get(id(owner), id(owner)) in read, path
    # and the spy was not looking at nothing
    parameters = list(net.parameters())
    assert sum(path.endswith("._gradient") for path in changed) == len(parameters)
    assert sum(isinstance(owner, Parameter) and path.endswith(".array") for path, owner in changed.items()) == len(
        parameters
    )
    assert sum(isinstance(owner, Scalar) for owner in changed.values()) == 3 + len(optimizer._runs)  # calls, and steps
    assert any("mean" in path for path in changed)
    assert {"AdamW": {"exp_avg", "exp_avg_sq"}, "SGD": {"momentum_buffer"}}[rule] <= {
        owner.name for owner in changed.values()
    }
    assert {id(p) for p in spy.read_grads} == {id(p) for p in parameters}
    assert spy.scopes == ["", "0", "0.0", "0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "1", "2", rule]
    settings = [s for group in optimizer.param_groups for s in group._settings.values() if isinstance(s, Scalar)]
    assert any(s.name == "lr" for s in settings)
    assert {id(s) for s in settings if s.name in ("lr", "weight_decay")} <= read


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_a_spied_step_is_the_same_step(place):
    def run(spied):
        net, optimizer, step = ready(place, RULES["AdamW"])
        for i in range(4):
            with Spy().watching() if i in spied else contextlib.nullcontext():
                loss = step()
        state = optimizer.state_dict()["state"]
        return [
            loss.numpy(),
            *(v.numpy() for v in net.state_dict().values()),
            *(s["exp_avg"].numpy() for s in state.values()),
        ]

    for a, b in zip(run(()), run((0, 2, 3)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_spy_would_find_what_escapes():
    class Leaky(nn.Module):
        def __init__(self):
            self.scale, self.count, self.array = nn.Parameter(nb.ones(2)), [0], np.zeros(2)

        def forward(self, x):
            self.count[0] += 1
            self.array += 1.0
            return x * self.scale

    net = Leaky()
    before = snapshot(net=net)
    with Spy().watching():
        net(nb.ones(2))
    assert differing(before, snapshot(net=net)) == {"net.count[0]": None, "net.array": None}


def test_evaluation_changes_nothing_at_all():
    net, optimizer, step = ready("cpu", RULES["AdamW"])
    step()
    before, version = snapshot(net=net, optimizer=optimizer), structure.version
    with Spy().watching() as spy, nn.evaluating():
        net(nb.ones((2, 4)))
    assert differing(before, snapshot(net=net, optimizer=optimizer)) == {}
    assert (spy.writes, spy.write_grads, structure.version) == ([], [], version)


def test_a_version_counts_every_change_of_structure():
    net = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    changes = [
        lambda: setattr(net[1], "p", 0.3),
        lambda: setattr(net[0], "bias", None),
        lambda: delattr(net[0], "bias"),
        lambda: net.append(nn.ReLU()),
        net.eval,
        lambda: net.requires_grad_(False),
        lambda: net.to("float64"),
        lambda: net.init(0),
        lambda: net.register_buffer("b", nb.ones(1)),
        lambda: optimizer.add_param_group({"params": nn.Parameter(nb.ones(1))}),
        lambda: optimizer.param_groups[0].update(nesterov=True),
        lambda: optimizer.param_groups[0].update(momentum=0.9),
    ]
    for change in changes:
        version = structure.version
        change()
        assert structure.version > version
    version = structure.version
    optimizer.param_groups[0]["lr"] = 0.2  # a number: programs read it anew at every step
    net[1].calls = 4
    net[0].weight = nb.zeros((2, 2), dtype="float64")
    assert structure.version == version


def attributes_set(tree, place=""):
    """Every `x.y = ...` and `x.y[...] = ...` with its function, but in `__init__`; and every `global`."""
    for node in ast.iter_child_nodes(tree):
        inside = place
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            inside = f"{place}.{node.name}".lstrip(".")
        stored = isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store)
        if isinstance(node, ast.Global | ast.Nonlocal) or (stored and "." in ast.unparse(node).partition("[")[0]):
            yield f"{place}: {ast.unparse(node)}"
        if not inside.endswith(".__init__"):
            yield from attributes_set(node, inside)


def test_layers_and_optimizers_set_attributes_only_where_structure_changes():
    allowed = {
        "Module._locate: error.module", "Module._locate: error.layer",
        "_refuse: error.classes", "_refuse: error.ignore_index",  # an error that is being raised
        "Module.__setattr__: value.name", "Module.__setattr__: old.value",
        "Module._adopt: cell.name", "Module._adopt: module.__dict__['path']",
        "Module.training: self.__dict__['_training']",
        "Module.train: module.training",
        "RandomModule.start_over: self.key", "RandomModule.start_over: self.calls.value",
        "_Affine._start: self.weight", "_Affine._start: self.bias",
        "TransformerDecoderLayer._extend: self.multihead_attn",
        "_in_place: fill.__name__", "_in_place: fill.__doc__", "_in_place.fill: tensor.initialiser",
        "RandomModule.next_address: self.calls.value",
        "ParamGroup.__setitem__: old.value", "ParamGroup.__setitem__: self._settings[name]",
        "ParamGroup.__setitem__: cell.value", "ParameterState.add_param_group: self._named",
            "ASGD.rule: eta.value", "ASGD.rule: mu.value", "NAdam.rule: product.value",
        "clip_grads_with_norm_: p._grad", "clip_grad_value: p._grad", "clip_grad_adaptive: p._grad",
        "_Average._update: run.steps.value", "_Average._put: p.written", "_Average.applied: self._applied.value",
        "GradScaler.unscale_: p._grad", "GradScaler.unscale_: self._overflown[optimizer]",  # never replayed
        "GradScaler.update: self.settings['scale']", "GradScaler.update: self._good.value",
        "GradScaler._count: self.settings['scale']", "GradScaler._count: self._good.value",
        "GradScaler.load_state_dict: self._good.value",
        "LRScheduler._go_to: self._numbers['last_epoch'].value", "LRScheduler._go_to: self._over.value",
        "LRScheduler.load_state_dict: cell.value",
        "ReduceLROnPlateau.step: best.value", "ReduceLROnPlateau.step: bad.value",
        "ReduceLROnPlateau.step: cooldown.value", "ReduceLROnPlateau.step: cuts.value",
        "Optimizer._step: run.steps.value", "Optimizer._step: p.written",
        "Optimizer._at_once.step: cell.value",  # what a first try has changed
        "LBFGS.step: self._memory", "LBFGS.load_state_dict: self._memory",  # never recorded
        "Optimizer._warn: self._warned", "Optimizer.zero_grad: p._grad",
        "ParameterState._lay_out: self._version", "ParameterState._rebuild: self._version",
            "ParameterState._rebuild: self._runs", "Optimizer._in_blocks: run.numbers[name].value",
    }  # fmt: skip
    paths = [*(PACKAGE / "nn").glob("*.py"), *(PACKAGE / "optim").glob("*.py"), *(PACKAGE / "functional").glob("*.py")]
    assert len(paths) > 10
    assert {found for path in paths for found in attributes_set(ast.parse(path.read_text()))} == allowed
