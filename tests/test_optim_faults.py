"""Optimizers: settings, templates, clipping, and what is refused before anything has changed."""

import copy
import math
import pickle
import warnings

import numpy as np
import pytest
from frozen import DEVICE1, PLACES
from test_optim import counted, equal, give, parameters

import nnbackend as nb
from nnbackend import nn, optim
from nnbackend.errors import GraphError, NonFiniteError

RULES = [optim.SGD, optim.Adam, optim.AdamW]


# -- settings -------------------------------------------------------------------------------------------------------


def test_settings_changed_between_steps_are_seen():
    (p,) = parameters([1.0, 2.0])
    optimizer = optim.SGD([p], lr=0.5)
    give([p], [[1.0, 1.0]])
    optimizer.step()
    optimizer.param_groups[0]["lr"] = 0.25
    optimizer.step()
    equal(p.numpy(), [0.25, 1.25])
    optimizer.param_groups[0]["lr"] = 0.0  # as a schedule may
    optimizer.step()
    equal(p.numpy(), [0.25, 1.25])
    optimizer.param_groups[0].update(lr=np.float32(0.5), weight_decay=nb.tensor(1.0))
    assert type(optimizer.param_groups[0]["lr"]) is float
    optimizer.step()
    equal(p.numpy(), [-0.375, 0.125])


def test_momentum_may_come_later():
    (p,) = parameters([1.0])
    optimizer = optim.SGD([p], lr=0.1)
    values = []
    for momentum in (0.0, 0.9, 0.9, 0.0):
        optimizer.param_groups[0]["momentum"] = momentum
        give([p], [[1.0]])
        optimizer.step()
        values.append(float(p))
    np.testing.assert_allclose(values, [0.9, 0.8, 0.61, 0.51], 1e-12)


def test_groups_have_settings_of_their_own():
    a, b = parameters(1.0, 1.0)
    optimizer = optim.SGD([{"params": a}, {"params": [b], "lr": 1.0}], lr=0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 1.0]
    assert list(optimizer.param_groups[0]) == [
        "params", "lr", "momentum", "dampening", "weight_decay", "nesterov", "maximize",
    ]  # fmt: skip
    assert len(optimizer.param_groups[0]) == 7
    give([a, b], [1.0, 1.0])
    optimizer.step()
    assert (float(a), float(b)) == (0.5, 0.0)
    assert repr(optimizer).startswith("SGD(lr=0.5, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False, ")
    with pytest.raises(TypeError, match="settings to stay"):
        del optimizer.param_groups[0]["lr"]
    with pytest.raises(TypeError, match="add_param_group"):
        optimizer.param_groups[0]["params"] = []


def test_templates_are_never_changed():
    template = optim.SGD(lr=0.5, momentum=0.9)
    defaults, (p, q) = dict(template.defaults), parameters(1.0, 2.0)
    first, second = template.bind([p]), template.bind(iter([q]))
    first.param_groups[0]["lr"] = 0.1
    first.defaults["lr"] = 7.0
    for _ in range(2):
        give([p, q], [1.0, 1.0])
        first.step()
        second.step()
    assert type(first) is optim.SGD
    assert (template.param_groups, template.defaults) == ([], defaults)
    assert second.param_groups[0]["lr"] == 0.5
    np.testing.assert_allclose([float(p), float(q)], [1 - 0.1 * 2.9, 2 - 0.5 * 2.9], 1e-12)
    assert repr(template).startswith("SGD(lr=0.5, momentum=0.9, dampening=0.0, ")
    with pytest.raises(ValueError, match="template"):
        first.bind([q])
    with pytest.raises(GraphError, match="none"):
        template.step()


def test_own_rules_need_one_method():
    class Signs(optim.Optimizer):
        def __init__(self, params=None, lr=0.5):
            super().__init__(params, lr=lr)

        def rule(self, group, w, g, t, **slots):
            w -= group["lr"] * np.sign(g)

    p, q = parameters([1.0, 1.0], 1.0)
    optimizer = Signs().bind([p, q])
    give([p, q], [[3.0, -2.0], 0.1])
    optimizer.step()
    equal(p.numpy(), [0.5, 1.5])
    nothing = optim.Optimizer([p], lr=1.0)
    with pytest.raises(TypeError, match="rule"):
        nothing.step()


# -- what is refused ------------------------------------------------------------------------------------------------

BAD = [
    *(("lr", v) for v in (math.nan, math.inf, -0.1, "0.1", None, (1, 2), [0.1], np.float32("nan"))),
    *(("weight_decay", v) for v in (-1.0, math.nan)),
    *(("momentum", v) for v in (-0.5, math.inf)),
    *(("eps", v) for v in (0.0, -1e-8, math.nan)),
    *(("betas", v) for v in ((1.0, 0.9), (0.9, 1.0), (-0.1, 0.9), (0.9,), 0.9, ("a", "b"), None, (0.9, math.nan))),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_bad_settings(name, value):
    p, q = parameters([1.0, 2.0], 3.0)
    cls = optim.SGD if name == "momentum" else optim.AdamW
    for make in (
        lambda: cls([p], **{name: value}),
        lambda: cls(**{name: value}),
        lambda: cls([{"params": [p], name: value}]),
    ):
        with pytest.raises(ValueError, match=f"^{name}: expected"):
            make()
    assert p.home is None
    optimizer = cls([p])
    good = optimizer.param_groups[0].settings()
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        optimizer.param_groups[0][name] = value
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        optimizer.add_param_group({"params": q, name: value})
    assert [g.settings() for g in optimizer.param_groups] == [good]
    give([p, q], [[1.0, 1.0], 1.0])
    optimizer.step()
    assert float(q) == 3.0


def test_nesterov_needs_momentum():
    with pytest.raises(ValueError, match="momentum > 0"):
        optim.SGD(nesterov=True)


@pytest.mark.parametrize("cls", RULES)
def test_bad_parameters(cls):
    p, q = parameters(1.0, 2.0)
    used_up = iter([p])
    list(used_up)
    leaf = nb.tensor(1.0, requires_grad=True)
    for params, message in [
        ([], "got none"),
        (used_up, "got none"),
        ([p, q, p], "twice"),
        ([{"params": [p]}, {"params": [q, p]}], "twice"),
        ([p, leaf], r"got Tensor \(number 1\)"),
        (leaf.data[None], "nn.Parameter"),
        ({"a.weight": p}, "got str"),
        ([("weight", p), q], "with names or all without"),
        ([("weight", 1.0)], "got float"),
        ([{"params": [p], "learning_rate": 0.1}], "learning_rate"),
    ]:
        with pytest.raises(ValueError, match=message):
            cls(params, lr=0.1)
    with pytest.raises(TypeError, match=r"Use \[p\]"):
        cls(p, lr=0.1)
    named = cls([("first", nn.Parameter(nb.tensor(1.0)))], lr=0.1)
    with pytest.raises(ValueError, match="with names or all without"):
        named.add_param_group({"params": [p]})
    optimizer = cls([p], lr=0.1)
    for params in (p, [q, p], [q, q], leaf):
        with pytest.raises(ValueError, match=r"twice|nn\.Parameter"):
            optimizer.add_param_group({"params": params})
    assert [g.params for g in optimizer.param_groups] == [[p]]
    assert p.home is None


@pytest.mark.parametrize("cls", RULES)
def test_a_step_without_gradients(cls):
    net = nn.MLP([2, 3, 1])
    optimizer = cls(net.parameters(), lr=0.1)
    before = copy.deepcopy(net.state_dict())
    for _ in range(2):
        with pytest.raises(GraphError, match=r"step: expected gradients, got none. Call loss.backward\(\)"):
            optimizer.step()
        assert optimizer.state_dict()["state"] == {}
    for name, value in net.state_dict().items():
        equal(value.numpy(), before[name].numpy())


def test_parameters_without_a_gradient_are_named_once():
    class Net(nn.Module):
        def __init__(self):
            self.encoder, self.head = nn.MLP([2, 3, 2]), nn.Linear(2, 1)

    net = Net()
    net.encoder[0].requires_grad_(False)
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    for p in (*net.head.parameters(), *net.encoder[2].parameters()):
        p.grad = nb.ones(p.shape)
    optimizer.step()  # frozen ones are no surprise, and are not what the one warning is for
    net.encoder[2].weight.grad = None
    net.head.bias.grad = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        optimizer.step()
        optimizer.step()
    (one,) = caught
    assert str(one.message).startswith("SGD.step: no gradient for encoder.2.weight, head.bias; they stay as they are.")
    assert one.filename == __file__


# -- copies ---------------------------------------------------------------------------------------------------------


def pickled(x):
    return pickle.loads(pickle.dumps(x))  # on a real device: it is found again by its name


@pytest.mark.parametrize(("copied", "place"), [(copy.deepcopy, "cpu"), (copy.deepcopy, DEVICE1), (pickled, "cpu")])
def test_copies_of_net_and_optimizer_train_on(copied, place):
    def train(net, optimizer, steps):
        for i in range(steps):
            optimizer.zero_grad()
            ((net(nb.ones((3, 4), device=place) * (i + 1.0)) - 1.0) ** 2).mean().backward()
            optimizer.step()

    calls = []
    net = nn.MLP([4, 3, 2], "tanh").init(0).to(device=place)
    optimizer = optim.AdamW(net.parameters(), lr=0.1)
    train(net, optimizer, 2)
    twin, other = copied((net, optimizer))
    for p, q in zip(net.parameters(), twin.parameters(), strict=True):
        equal(p.numpy(), q.numpy())
        assert place is DEVICE1 or not np.shares_memory(p.data, q.data)
    before = copy.deepcopy(twin)
    train(net, optimizer, 3)
    for p, q in zip(before.parameters(), twin.parameters(), strict=True):
        equal(p.numpy(), q.numpy())  # not touched
    train(twin, other, 3)
    for p, q in zip(net.parameters(), twin.parameters(), strict=True):
        equal(p.numpy(), q.numpy())
    twin = copied(net)
    fresh = counted(optim.AdamW, calls)(twin.parameters(), lr=0.1)
    fresh.load_state_dict(optimizer.state_dict())
    train(net, optimizer, 1)
    train(twin, fresh, 1)
    for p, q in zip(net.parameters(), twin.parameters(), strict=True):
        equal(p.numpy(), q.numpy())
    assert len(calls) == (1 if place == "cpu" else 4)


# -- clipping -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_clip_grad_norm(place):
    params = parameters([3.0, 0.0], [[4.0]], 0.0, 1.0, place=place)
    give(params, [[3.0, 0.0], [[4.0]], 0.0, None])
    seen = params[0].grad
    with nb.testing.no_synchronization():
        norm = optim.clip_grad_norm(params, 10.0)
        again = optim.clip_grad_norm(iter(params), 2.5)
        optim.SGD(params[:3], lr=1.0).step()
    assert (float(norm), float(again)) == (5.0, 5.0)
    np.testing.assert_allclose(params[0].grad.numpy(), [1.5, 0.0], 1e-6)
    np.testing.assert_allclose(params[1].grad.numpy(), [[2.0]], 1e-6)
    assert (params[2].grad.shape, float(params[2].grad), params[3].grad) == ((), 0.0, None)
    np.testing.assert_allclose(params[1].numpy(), [[2.0]], 1e-6)
    equal(seen.numpy(), [3.0, 0.0])  # what somebody holds stays
    give(params, [[0.0, 0.0], [[0.0]], 0.0, None])
    assert float(optim.clip_grad_norm(params, 1.0)) == 0.0
    equal(params[0].grad.numpy(), [0.0, 0.0])


def test_clip_grad_norm_with_two_dtypes_keeps_them():
    a, b = nn.Parameter(np.ones(2, "float32")), nn.Parameter(np.ones(2))
    a.grad, b.grad = np.full(2, 3.0, "float32"), np.full(2, 4.0)
    np.testing.assert_allclose(float(optim.clip_grad_norm([a, b], 1.0)), math.sqrt(50), 1e-6)
    assert (a.grad.dtype, b.grad.dtype) == ("float32", "float64")
    np.testing.assert_allclose(b.grad.numpy(), 4 / math.sqrt(50), 1e-6)


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_clip_grad_value(place):
    params = parameters([1.0, 2.0, 3.0], 0.0, place=place)
    give(params, [[-3.0, 0.5, 2.0], None])
    with nb.testing.no_synchronization():
        optim.clip_grad_value(params, 1.0)
    equal(params[0].grad.numpy(), [-1.0, 0.5, 1.0])
    assert params[1].grad is None


def test_what_clipping_refuses():
    params = parameters([1.0, 2.0], 1.0)
    with pytest.raises(ValueError, match="expected gradients, got none"):
        optim.clip_grad_norm(params, 1.0)
    give(params, [[math.inf, 1.0], 1.0])
    for clip, name in ((optim.clip_grad_norm, "max_norm"), (optim.clip_grad_value, "clip_value")):
        for bad in (0.0, -1.0, math.nan):
            with pytest.raises(ValueError, match=f"{name} > 0"):
                clip(params, bad)
    with pytest.raises(NonFiniteError, match="finite norm, got inf"):
        optim.clip_grad_norm(params, 1.0, error_if_nonfinite=True)
    equal(params[0].grad.numpy(), [math.inf, 1.0])
    assert float(params[1].grad) == 1.0
    give(params, [[3.0, 4.0], 0.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert float(optim.clip_grad_norm(params, math.inf, error_if_nonfinite=True)) == 5.0
    equal(params[0].grad.numpy(), [3.0, 4.0])
