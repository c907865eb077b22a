"""Training steps of many forms give eager's results when they are compiled."""

import numpy as np
import pytest
from compiled_twins import BATCHES, LABELS, agree, compared, setting, state, trained, with_step
from frozen import DEVICE1
from test_compile_changes import frozen_by_method, gradient_seen, loaded, lr

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import nn, optim
from nnbackend.errors import RecordingWarning


def tied():
    layer = nn.Linear(3, 3)
    return setting(layers=[layer, nn.Tanh(), layer, nn.Tanh(), nn.Linear(3, 2)])


def tied_weights():
    s = setting(layers=[nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3), nn.Linear(3, 2)])
    s.net[2].weight = s.net[0].weight
    s.opt = optim.Adam(s.net.parameters(), lr=0.05)
    return with_step(s, lambda x, y: trained(s, x, y))


def accumulated():
    s = setting()

    def step(x, y):
        s.opt.zero_grad()
        for part in (slice(0, 4), slice(4, 8)):
            loss = F.cross_entropy(s.net(x[part]), y[part]) / 2
            loss.backward()
        s.opt.step()
        return loss

    return with_step(s, step)


def never_cleared():
    s = setting(optim.SGD, lr=0.01)

    def step(x, y):
        loss = F.cross_entropy(s.net(x), y)
        loss.backward()
        s.opt.step()
        return loss

    return with_step(s, step)


def cleared_after():
    s = setting()

    def step(x, y):
        loss = F.cross_entropy(s.net(x), y)
        loss.backward()
        s.opt.step()
        s.opt.zero_grad()
        return loss

    return with_step(s, step)


def clipped():
    s = setting()

    def step(x, y):
        s.opt.zero_grad()
        loss = F.cross_entropy(s.net(x), y)
        loss.backward()
        norm = optim.clip_grad_norm(s.net.parameters(), 0.1)
        s.opt.step()
        return loss + 0 * norm

    return with_step(s, step)


def penalised():
    s = setting(layers=[nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)])

    def step(x, y):
        s.opt.zero_grad()
        slope = nb.grad(lambda x: nb.sum(s.net(x) ** 2))(nb.asarray(x))
        loss = F.cross_entropy(s.net(x), y) + nb.mean((nb.sum(slope**2, axis=1) ** 0.5 - 1) ** 2)
        loss.backward()
        s.opt.step()
        return loss

    return with_step(s, step)


def averaged():
    s = setting()
    s.net.register_buffer("mean", nb.tensor(np.zeros((5, 3))))

    def step(x, y):
        loss = trained(s, x, y)
        with nb.no_grad():
            s.net.mean.assign(0.9 * s.net.mean + 0.1 * s.net[0].weight)
        return loss

    return with_step(s, step)


def two_optimizers():
    s = setting()
    s.opt = optim.Adam(s.net[0].parameters(), lr=0.02)
    s.second = optim.SGD(s.net[3].parameters(), lr=0.2, momentum=0.5)

    def step(x, y):
        loss = trained(s, x, y)
        s.second.step()
        s.second.zero_grad()
        return loss

    return with_step(s, step)


def three_steps():
    s = setting()
    return with_step(s, lambda x, y: [trained(s, x, y) for _ in range(3)][-1])


def groups():
    s = setting()
    decayed = [p for p in s.net.parameters() if len(p.shape) == 2]
    rest = [p for p in s.net.parameters() if len(p.shape) == 1]
    s.opt = optim.AdamW([{"params": decayed, "weight_decay": 0.1}, {"params": rest, "lr": 0.5, "weight_decay": 0.0}])
    return with_step(s, lambda x, y: trained(s, x, y))


def partly_without_gradient():
    s = setting()
    s.net.unused = nn.Linear(2, 2).to("float64").init(1)
    s.net.unused.requires_grad_(False)
    s.opt = optim.Adam(s.net.parameters(), lr=0.05)
    return with_step(s, lambda x, y: trained(s, x, y))


MAKERS = [
    tied, tied_weights, accumulated, never_cleared, cleared_after, clipped, penalised, averaged, two_optimizers,
    three_steps, groups, partly_without_gradient,
]  # fmt: skip


@pytest.mark.parametrize("change", [lr, frozen_by_method, loaded])
@pytest.mark.parametrize("make", MAKERS)
def test_a_step_of_another_form(make, change):
    if make in (tied_weights, tied) and change is frozen_by_method:
        change = lr
    compared(make, change, turns=10, recordings=9)


def test_gradients_add_up_over_two_compiled_functions():
    ends = []
    for how in (lambda f: f, nb.compile):
        s = setting()

        def back(x, y, s=s):
            loss = F.cross_entropy(s.net(x), y)
            loss.backward()
            return loss

        back, update, clear = how(back), how(lambda s=s: s.opt.step()), how(lambda s=s: s.opt.zero_grad())
        losses = []
        for turn in range(8):
            losses += [back(nb.tensor(BATCHES[i]), nb.tensor(LABELS[i])) for i in range(1 + turn % 3)]
            update()
            clear()
            assert s.net[0].weight.grad is None
        ends.append([*losses, *state(s).values()])
    assert back.why is update.why is clear.why is None
    for got, want in zip(*ends, strict=True):
        agree(got, want)


def gradient_dropped(s, turn):
    if turn % 4 == 3:
        s.net[0].weight.grad = None


def gradient_assigned(s, turn):
    if turn % 4 == 3:
        s.net[0].weight.grad = nb.tensor(np.full((5, 3), 0.1))


def all_cleared(s, turn):
    if turn % 3 == 2:
        s.opt.zero_grad()


@pytest.mark.parametrize("change", [gradient_dropped, gradient_assigned, all_cleared, gradient_seen])
def test_gradients_between_calls_are_whoever_left_them(change):
    compared(never_cleared, change)


def test_a_group_that_is_added():
    def change(s, turn):
        if turn == 0:
            s.opt = optim.Adam(s.net[0].parameters(), lr=0.05)
        if turn == 5:
            s.opt.add_param_group({"params": list(s.net[3].parameters()), "lr": 0.2})
            s.net.zero_grad()

    def make():
        s = setting()
        return with_step(s, lambda x, y: trained(s, x, y))

    compared(make, change)


def test_a_step_without_arguments_is_of_the_library_of_what_it_reads():
    net = nn.Linear(2, 3).to(DEVICE1)
    x = nb.tensor([[1.0, 2.0]], device=DEVICE1)
    for step in (lambda: net.weight.sum().detach(), lambda: net(x).detach()):
        compiled = nb.compile(step, fallback=False)
        for _ in range(4):
            np.testing.assert_array_equal(compiled().numpy(), step().numpy())
        assert compiled.recordings == 2


def test_two_libraries_in_a_step_without_arguments_run_eagerly():
    net = nn.Linear(2, 3).to(DEVICE1)
    adam = optim.Adam([net.weight])

    def step():
        nb.zeros(1)
        net.weight.sum().backward()
        adam.step()

    compiled = nb.compile(step)
    with pytest.warns(RecordingWarning, match="another library or device"):
        compiled()
    compiled()
    assert adam.state_dict()["state"][0]["step"] == 2


def test_a_compiled_module_is_called_after_its_class():
    net = nb.compile(nn.Sequential(nn.Linear(2, 3), nn.Tanh()))
    assert repr(net) == "<compiled Sequential, 0 recordings>"
    with pytest.warns(RecordingWarning, match=r"^Sequential runs eagerly: a result with history"):
        net(nb.tensor([[1.0, 2.0]]))
