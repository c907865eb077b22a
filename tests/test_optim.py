"""Optimizers: PyTorch's numbers, whatever the layout, and all that can go wrong around them."""

import contextlib
import copy
import inspect
import itertools
import math
import pickle
import warnings
from typing import Any

import numpy as np
import pytest
from frozen import DEVICE1, PLACES, load
from optim_case import CHECKED, Plan, Player
from optim_case import close as same

import nnbackend as nb
from nnbackend import nn, optim
from nnbackend.errors import IncompatibleCheckpointError

MOMENTUM = ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01})
ADAMW = ("AdamW", {"lr": 0.05, "betas": (0.8, 0.9), "weight_decay": 0.1})
close = np.testing.assert_allclose
equal = np.testing.assert_array_equal


class Reference:
    """SGD with momentum and AdamW as one reads them in a textbook: a dictionary for each parameter."""

    def __init__(self, name: str, settings: dict[str, Any]) -> None:
        self.name, self.settings, self.memory = name, settings, {}

    def step(self, weights: dict[int, Any], grads: dict[int, Any]) -> None:
        s = self.settings
        for i, g in grads.items():
            w, memory = weights[i], self.memory.setdefault(i, {"t": 0, "m": 0.0, "v": 0.0})
            memory["t"] += 1
            if self.name == "SGD":
                memory["m"] = s["momentum"] * memory["m"] + g + s["weight_decay"] * w
                weights[i] = w - s["lr"] * memory["m"]
            else:
                (b1, b2), t = s["betas"], memory["t"]
                memory["m"] = b1 * memory["m"] + (1 - b1) * g
                memory["v"] = b2 * memory["v"] + (1 - b2) * g * g
                m, v = memory["m"] / (1 - b1**t), memory["v"] / (1 - b2**t)
                weights[i] = w * (1 - s["lr"] * s["weight_decay"]) - s["lr"] * m / (np.sqrt(v) + 1e-8)


def parameters(*arrays: Any, place: Any = "cpu") -> list[nn.Parameter]:
    return [nn.Parameter(nb.tensor(np.asarray(a, "float64"), device=place)) for a in arrays]


def give(params: list[nn.Parameter], grads: Any) -> None:
    for p, g in zip(params, grads, strict=True):
        p.grad = None if g is None else nb.tensor(np.asarray(g, p.dtype), device=p.device)


def counted(cls: type[optim.Optimizer], calls: list[Any]) -> type[optim.Optimizer]:
    class Counted(cls):  # type: ignore[misc,valid-type]
        def rule(self, group: Any, w: Any, g: Any, t: Any, **slots: Any) -> None:
            calls.append((w.shape, t))
            super().rule(group, w, g, t, **slots)

    return Counted


# -- PyTorch's numbers ----------------------------------------------------------------------------------------------


TRAJECTORIES = [Plan(**case) for case in load("trajectories")[1]]
INVOLVED = [n for n, plan in enumerate(TRAJECTORIES) if len(plan.settings) > 2 or plan.happens]


@pytest.mark.filterwarnings("ignore:.*no gradient for")
@pytest.mark.parametrize("recorded", [False, True], ids=["eager", "recorded"])
@pytest.mark.parametrize(
    ("n", "place"), [*((n, "cpu") for n in range(len(TRAJECTORIES))), *((n, DEVICE1) for n in INVOLVED)], ids=str
)
def test_trajectories(n, place, recorded):
    arrays, plan = load("trajectories")[0], TRAJECTORIES[n]
    player, looks = Player(nb, plan, arrays, place, recorded), plan.name == "LBFGS"  # at the loss; 20 times a step
    for step, weights in zip(CHECKED[:3] if looks or place != "cpu" else CHECKED, arrays[f"weights.{n}"], strict=False):
        with contextlib.nullcontext() if looks else nb.testing.no_synchronization():
            while player.n < step:
                player.step()
        same(player.weights(), weights)


def test_fixtures_cover_every_rule():
    """Every optimizer that PyTorch has, and each of its settings."""
    rules = [c for c in vars(optim).values() if isinstance(c, type) and issubclass(c, optim.Optimizer)]
    for rule in {*rules} - {optim.Optimizer, optim.Lion, optim.SAM}:
        plans = [plan for plan in TRAJECTORIES if plan.name == rule.__name__]
        assert set().union(*(plan.settings for plan in plans)) == {*inspect.signature(rule).parameters} - {"params"}


class Three(nn.Module):
    def __init__(self) -> None:
        self.a, self.b, self.c = (nn.Linear(4, 4, dtype="float64") for _ in range(3))

    def forward(self, x: Any, use_b: bool) -> Any:
        x = nb.tanh(self.a(x))
        return self.c(x + nb.tanh(self.b(x)) if use_b else x)


@pytest.mark.filterwarnings("ignore:.*no gradient for")
@pytest.mark.parametrize("place", PLACES, ids=str)
@pytest.mark.parametrize("n", range(len(load("histories")[1])))
def test_histories(n, place):
    arrays, cases = load("histories")
    what, name, settings = cases[n]
    net = Three()
    net.load_state_dict({k[6:]: v for k, v in arrays.items() if k.startswith("start.")})
    net.to(device=place)
    x, y = (nb.tensor(arrays[k], device=place) for k in "xy")
    if what == "tied":
        net.b.weight = net.a.weight
    net.b.requires_grad_(what != "frozen")
    late = list(net.b.parameters()) if what == "late" else []
    optimizer = getattr(optim, name)([p for p in net.parameters() if all(p is not q for q in late)], **settings)
    for step in range(12):
        if what == "frozen_later":
            net.b.requires_grad_(not 4 <= step < 8)
        if late and step == 5:
            optimizer.add_param_group({"params": late, "lr": 0.02})
        optimizer.zero_grad()
        use_b = what != "unreached" and not (what == "sometimes" and step % 3 != 1)
        ((net(x, use_b) - y) ** 2).mean().backward()
        optimizer.step()
    for key, value in net.state_dict().items():
        close(value.numpy(), arrays[f"end.{n}.{key}"], 1e-10, 1e-13)


# -- the layout -----------------------------------------------------------------------------------------------------


def test_contiguous_parameters_share_one_buffer_and_one_rule_call():
    calls = []
    net = nn.MLP([3, 5, 4, 2], "tanh")
    params = list(net.parameters())
    start = [p.numpy().copy() for p in params]
    optimizer = counted(optim.Adam, calls)(params)
    give(params, [np.ones(p.shape) for p in params])
    optimizer.step()
    total = sum(p.size for p in params)
    assert calls == [((total,), 1)]
    assert all(p.home is params[0].home for p in params)
    assert all(np.shares_memory(p.data, params[0].home.array) for p in params)
    assert [p.offset for p in params] == [0, *itertools.accumulate(p.size for p in params[:-1])]
    for p, old in zip(params, start, strict=True):
        close(p.numpy(), old - 1e-3, 1e-5, 1e-7)


def test_runs_split_only_where_they_must():
    calls = []
    params = parameters(*np.ones((5, 2)))
    optimizer = counted(optim.SGD, calls)(params, lr=0.5, momentum=0.5)
    for present in ("11111", "11011", "11111", "10011", "11111"):
        give(params, [[1.0, 2.0] if c == "1" else None for c in present])
        calls.clear()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            optimizer.step()
        assert sum(shape[0] for shape, _ in calls) == 2 * present.count("1")
        assert len(calls) == {"11111": len(calls), "11011": 2, "10011": 2}[present]
    assert len(calls) == 4  # 0 | 1 | 2 | 3 4
    assert len({id(p.home) for p in params}) == 1
    groups = parameters(1, 2, 3)
    optimizer = counted(optim.SGD, calls)([{"params": groups[:2]}, {"params": groups[2:], "lr": 1.0}], lr=0.5)
    give(groups, [1, 1, 1])
    calls.clear()
    optimizer.step()
    assert [shape for shape, _ in calls] == [(2,), (1,)]
    assert len({id(p.home) for p in groups}) == 1
    equal([float(p) for p in groups], [0.5, 1.5, 2])


def events(rng: Any, state: dict[str, Any]) -> None:
    """Something happens between two steps."""
    params, optimizer = state["params"], state["optimizer"]
    match rng.integers(8):
        case 0 if state["spare"]:
            params.append(state["spare"].pop(0))
            optimizer.add_param_group({"params": params[-1], **state["settings"]})
        case 1:
            params[rng.integers(len(params))].requires_grad_(bool(rng.integers(2)))
        case 2:
            state["params"], state["optimizer"] = copy.deepcopy((params, optimizer))
        case 3:
            state["params"], state["optimizer"] = pickle.loads(pickle.dumps((params, optimizer)))
        case 4:
            fresh = type(optimizer)([{"params": g["params"]} for g in optimizer.param_groups], lr=0.77)
            fresh.load_state_dict(optimizer.state_dict())
            state["optimizer"] = fresh
        case 5:
            state["params"] = [copy.deepcopy(p) for p in params]  # the optimizer's are let go, a new one goes on
            sizes = [len(g["params"]) for g in optimizer.param_groups]
            rest = iter(state["params"])
            fresh = type(optimizer)([{"params": list(itertools.islice(rest, n))} for n in sizes])
            fresh.load_state_dict(optimizer.state_dict())
            state["optimizer"] = fresh
        case 6:
            moved = params[rng.integers(len(params))]
            moved.move(dtype="float32")
            moved.move(dtype="float64")  # alone now, with values rounded; what is remembered of it is not
            state["rounded"] = moved
        case 7:
            with nb.no_grad():
                params[0] *= 0.5
            state["weights"][0] = state["weights"][0] * 0.5


@pytest.mark.filterwarnings("ignore:.*no gradient for")
@pytest.mark.parametrize("seed", range(24))
def test_whatever_happens_between_steps(seed):
    rng = np.random.default_rng(seed)
    name, settings = (MOMENTUM, ADAMW)[seed % 2]
    arrays = [np.round(rng.standard_normal(shape), 2) for shape in [(2, 3), (3,), (1,), (), (2, 2), (4,)]]
    weights = dict(enumerate(a.astype("float32").astype("float64") for a in arrays))
    params = parameters(*weights.values())
    state = {"params": params[:4], "spare": params[4:], "weights": weights, "settings": settings}
    state["optimizer"] = getattr(optim, name)(state["params"], **settings)
    reference = Reference(name, settings)
    state["params"] = list(state["params"])
    for _ in range(25):
        events(rng, state)
        params = state["params"]
        if (p := state.pop("rounded", None)) is not None:
            i = next(i for i, q in enumerate(params) if q is p)
            weights[i] = weights[i].astype("float32").astype("float64")
        grads = [rng.standard_normal(p.shape) if p.requires_grad and rng.random() < 0.8 else None for p in params]
        if all(g is None for g in grads):
            continue
        give(params, grads)
        state["optimizer"].step()
        reference.step(weights, {i: g for i, g in enumerate(grads) if g is not None})
        for i, p in enumerate(params):
            close(p.numpy(), weights[i], 1e-10, 1e-12)


@pytest.mark.parametrize(("name", "settings"), [MOMENTUM, ADAMW])
def test_the_state_moves_along_to_another_dtype_and_device(name, settings):
    def run(moves):
        net = nn.MLP([3, 4, 2], "tanh").init(0)
        optimizer = getattr(optim, name)(net.parameters(), **settings)
        for step in range(6):
            for p in net.parameters():
                p.grad = nb.tensor(np.full(p.shape, 0.3 * step - 1, p.dtype), device=p.device)
            optimizer.step()
            optimizer.zero_grad()
            net.to(**moves.get(step, {}))
        for p, entry in zip(net.parameters(), optimizer.state_dict()["state"].values(), strict=True):
            assert {(s.dtype, s.device) for s in entry.values() if isinstance(s, nb.Tensor)} == {(p.dtype, p.device)}
        return np.concatenate([p.numpy().ravel() for p in net.parameters()])

    plain = run({})
    wide = run({1: {"dtype": "float64"}})
    assert (plain.dtype, wide.dtype) == ("float32", "float64")
    close(wide, plain, 1e-5, 1e-6)
    equal(run({2: {"device": DEVICE1}}), plain)
    equal(run({1: {"device": DEVICE1}, 3: {"device": "cpu"}}), plain)


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_two_optimizers_on_one_net(place):
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(s) for s in [(2, 3), (3,), (), (4,), (2,)]]
    params, weights = parameters(*arrays, place=place), dict(enumerate(arrays))
    parts = [(MOMENTUM, [0, 1, 2, 3]), (ADAMW, [2, 3, 4]), (ADAMW, [0, 1, 2, 3, 4]), (MOMENTUM, [4, 1])]
    ours = [getattr(optim, name)([params[i] for i in members], **s) for (name, s), members in parts]
    references = [Reference(*rule) for rule, _ in parts]
    for turn in range(16):
        n = turn % 4
        grads = {i: rng.standard_normal(params[i].shape) for i in parts[n][1]}
        give(params, [grads.get(i) for i in range(5)])
        ours[n].step()
        references[n].step(weights, grads)
    for p, w in zip(params, weights.values(), strict=True):
        close(p.numpy(), w, 1e-10)


# -- saving ---------------------------------------------------------------------------------------------------------


def trained(name: str, settings: dict[str, Any], place: Any = "cpu") -> tuple[list[nn.Parameter], Any]:
    params = parameters([[1.0, 2.0], [3.0, 4.0]], [5.0, 6.0], 7.0, place=place)
    optimizer = getattr(optim, name)([{"params": params[:2], "lr": 0.01}, {"params": params[2:]}], **settings)
    for step in range(3):
        give(params, [np.ones((2, 2)) * step, [1.0, -step], 0.5])
        optimizer.step()
    return params, optimizer


@pytest.mark.parametrize("place", PLACES, ids=str)
@pytest.mark.parametrize(("name", "settings"), [MOMENTUM, ADAMW])
def test_state_dict_goes_on_bit_equal(name, settings, place):
    params, optimizer = trained(name, settings, place)
    state = optimizer.state_dict()
    slots = {"SGD": {"momentum_buffer"}, "AdamW": {"exp_avg", "exp_avg_sq"}}[name]
    assert {i: set(entry) for i, entry in state["state"].items()} == {i: {"step", *slots} for i in range(3)}
    assert [g["params"] for g in state["param_groups"]] == [[0, 1], [2]]
    assert [g["lr"] for g in state["param_groups"]] == [0.01, settings["lr"]]
    saved = {(i, k): state["state"][i][k].numpy().copy() for i in range(3) for k in slots}
    assert [saved[i, min(slots)].shape for i in range(3)] == [(2, 2), (2,), ()]
    twins = copy.deepcopy(params)
    other = getattr(optim, name)([{"params": twins[:2]}, {"params": twins[2:]}], lr=0.9)
    other.load_state_dict(state)
    for _ in range(2):
        give(params, [np.eye(2), [1.0, 2.0], 3.0])
        give(twins, [np.eye(2), [1.0, 2.0], 3.0])
        optimizer.step()
        other.step()
    for p, q in zip(params, twins, strict=True):
        equal(p.numpy(), q.numpy())
    for (i, k), value in saved.items():
        equal(state["state"][i][k].numpy(), value)  # neither side writes to the saved state


def test_load_state_dict_takes_pytorchs_and_refuses_what_does_not_fit():
    params, optimizer = trained(*ADAMW)
    state = optimizer.state_dict()
    before = copy.deepcopy((state, [p.numpy().copy() for p in params]))
    torch_like = copy.deepcopy(state)
    for group in torch_like["param_groups"]:
        group.update(amsgrad=False, maximize=False, foreach=None, capturable=False)
    for entry in torch_like["state"].values():
        entry["step"] = nb.tensor(float(entry["step"]))
    optimizer.load_state_dict(torch_like)

    def broken(change: Any) -> dict[str, Any]:
        bad = copy.deepcopy(state)
        bad["param_groups"][0]["lr"] = 0.77  # must not be taken over
        change(bad)
        return bad

    faults = [
        (lambda s: s["param_groups"].pop(), "groups of"),
        (lambda s: s["state"].update({3: s["state"][0]}), "3 parameters, got number 3"),
        (lambda s: s["state"][1].update(exp_avg=nb.zeros(3)), r"parameter 1 .*exp_avg \(3,\)"),
        (lambda s: s["state"][2].update(momentum_buffer=nb.zeros(())), "momentum_buffer"),
        (lambda s: s["param_groups"][1].update(lr=math.nan), "lr: expected"),
    ]
    for change, message in faults:
        with pytest.raises(ValueError, match=message) as caught:
            optimizer.load_state_dict(broken(change))
        assert isinstance(caught.value, IncompatibleCheckpointError) or "lr" in message
        after = optimizer.state_dict()
        assert after["param_groups"] == before[0]["param_groups"]
        for i, entry in before[0]["state"].items():
            assert after["state"][i]["step"] == entry["step"]
            equal(after["state"][i]["exp_avg_sq"].numpy(), entry["exp_avg_sq"].numpy())
