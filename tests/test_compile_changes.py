"""What a person changes between two calls of a compiled step is seen by the next: its results are eager's."""

import numpy as np
import pytest
from compiled_twins import BATCHES, LABELS, agree, compared, setting, state

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import nn, optim
from nnbackend.errors import InplaceError


def lr(s, turn):
    s.opt.param_groups[0]["lr"] = 0.05 * 0.8**turn


def weight_decay(s, turn):
    s.opt.param_groups[0]["weight_decay"] = 0.0 if turn < 5 else 0.1


def frozen_directly(s, turn):
    s.net[0].weight.requires_grad = not 4 <= turn < 9
    if turn == 4:
        s.net[0].weight.grad = None


def frozen_by_method(s, turn):
    if turn in (4, 9):
        s.net[0].weight.requires_grad_(turn == 9)


def frozen_layer(s, turn):
    if turn in (4, 9):
        s.net[0].requires_grad_(turn == 9)


def loaded(s, turn):
    if turn == 2:
        s.kept = {k: v.clone() for k, v in s.net.state_dict().items()}
        s.memory = s.opt.state_dict()
    if turn == 7:
        s.net.load_state_dict(s.kept)
    if turn == 9:
        s.opt.load_state_dict(s.memory)


def evaluating(s, turn):
    s.net.train(turn % 6 < 3)


def narrower(s, turn):
    if turn in (5, 9):
        s.net.to("float32" if turn == 5 else "float64")


def layer_replaced(s, turn):
    if turn == 6:
        s.net[1] = nn.ReLU()


def dropout_p(s, turn):
    s.net[2].p = 0.4 if turn < 6 else 0.7


def values_assigned(s, turn):
    if turn % 5 == 4:
        with nb.no_grad():
            s.net[0].weight *= 0.5
            s.net[3].bias.assign(np.ones(2))
    if turn == 8:
        s.net[0].bias.data[...] = 0.25


def drawn_again(s, turn):
    if turn == 6:
        s.net.init(9)


def gradient_seen(s, turn):
    if s.net[0].weight.grad is not None:
        g = s.net[0].weight.grad
        s.seen.append((g, np.array(g.numpy())))
    for g, values in s.seen:
        np.testing.assert_array_equal(g.numpy(), values)


@pytest.mark.parametrize(
    "change",
    [
        lr, weight_decay, frozen_directly, frozen_by_method, frozen_layer, loaded, evaluating, narrower, layer_replaced,
        dropout_p, values_assigned, drawn_again, gradient_seen,
    ],
)  # fmt: skip
@pytest.mark.parametrize("optimizer", [optim.Adam, optim.SGD])
def test_a_change_is_seen(change, optimizer):
    compared(lambda: setting(optimizer), change, loose=change is narrower)


@pytest.mark.parametrize("kw", [{"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}, {"weight_decay": 0.01}])
def test_sgd_with_its_options(kw):
    compared(lambda: setting(optim.SGD, **kw), lr)


def test_adamw():
    compared(lambda: setting(optim.AdamW), lr)


def test_a_graph_from_before_a_replay_cannot_run_back_after_it():
    s = setting()
    step = nb.compile(s.step)
    x, y = nb.tensor(BATCHES[0]), nb.tensor(LABELS[0])
    for _ in range(4):
        step(x, y)
    loss = F.cross_entropy(s.net(x), y)
    step(x, y)
    with pytest.raises(InplaceError, match="changed in place later"):
        loss.backward()


def test_eager_and_compiled_calls_may_alternate():
    compared(setting, lambda s, turn: s.step(nb.tensor(BATCHES[0]), nb.tensor(LABELS[0])) if turn % 3 == 2 else None)


def test_batches_of_other_sizes_and_back():
    ends = []
    for how in (lambda f: f, nb.compile):
        s = setting()
        step = how(s.step)
        sizes = [8, 8, 3, 8, 8, 3, 8, 8, 3, 8]
        losses = [step(nb.tensor(BATCHES[0][:n]), nb.tensor(LABELS[0][:n])) for n in sizes]
        ends.append([*losses, *state(s).values()])
    assert step.why is None
    assert step.recordings <= 5
    for got, want in zip(*ends, strict=True):
        agree(got, want)


def test_training_and_evaluation_by_turns_are_recorded_once_each():
    ends = []
    for how in (lambda f: f, nb.compile):
        s = setting()
        step, predict = how(s.step), how(lambda x, s=s: s.net(x).detach())
        found = []
        for turn in range(6):
            s.net.train()
            found += [step(nb.tensor(BATCHES[i]), nb.tensor(LABELS[i])) for i in range(3)]
            s.net.eval()
            found += [predict(nb.tensor(BATCHES[i])) for i in range(2)]
            s.opt.param_groups[0]["lr"] = 0.05 / (turn + 1)
        ends.append([*found, *state(s).values()])
    assert step.why is predict.why is None
    assert step.recordings == 3
    assert predict.recordings <= 3
    for got, want in zip(*ends, strict=True):
        agree(got, want)


def test_a_setting_with_ever_new_values_is_followed():
    ends = []
    for how in (lambda f: f, nb.compile):
        s = setting()
        step = how(s.step)
        found = []
        for turn in range(12):
            s.net[2].p = 0.05 * turn
            found += [step(nb.tensor(BATCHES[0]), nb.tensor(LABELS[0])) for _ in range(3)]
        ends.append([*found, *state(s).values()])
    assert step.why is None
    assert step.recordings <= 25
    for got, want in zip(*ends, strict=True):
        agree(got, want)


def test_a_frozen_parameter_that_does_not_matter_costs_one_recording():
    s = setting(layers=[nn.Linear(3, 2)])
    predict = nb.compile(lambda x: s.net(x).detach())
    x = nb.tensor(BATCHES[0])
    for _ in range(3):
        predict(x)
    for turn in range(6):
        s.net[0].bias.requires_grad = bool(turn % 2)
        agree(predict(x), s.net(x))
        agree(predict(x), s.net(x))
    assert predict.recordings <= 4
