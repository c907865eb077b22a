"""What optimizers, schedules and trainers remember, and when: found by an adversarial read."""

import copy

import numpy as np
import pytest
from frozen import PLACES

import nnbackend as nb
from nnbackend import nn, optim
from nnbackend.errors import IncompatibleCheckpointError

equal = np.testing.assert_array_equal


def parameter(values, dtype="float64", place="cpu"):
    return nn.Parameter(nb.tensor(np.asarray(values, dtype), device=place))


def stepped(optimizer, p, *gradients):
    for g in gradients:
        p.grad = nb.tensor(np.full(p.shape, g, str(p.dtype)), device=p.device)
        optimizer.step()


# -- optimizers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compiled", [False, True])
def test_float16_weights_that_are_replaced_stay_what_they_are(compiled):
    p = parameter(np.linspace(0.1, 3.0, 50), "float16")
    adam = optim.Adam([p], lr=1e-3)
    step = nb.compile(adam.step) if compiled else adam.step
    for _ in range(5):
        p.grad = nb.tensor(np.ones(50, "float16"))
        step()
    assert abs(adam.state_dict()["state"][0]["residual"].numpy()).max() > 1e-5
    p.assign(np.zeros(50, "float16"))
    adam.param_groups[0]["lr"] = 0.0
    step()
    equal(p.numpy(), np.zeros(50))


@pytest.mark.parametrize(
    ("make", "setting", "off", "on"),
    [
        (lambda p: optim.SGD(p, lr=0.1, momentum=0.9), "momentum", 0.0, 0.9),
        (lambda p: optim.RMSprop(p, lr=0.1, momentum=0.9), "momentum", 0.0, 0.9),
        (lambda p: optim.Adam(p, lr=0.1, amsgrad=True), "amsgrad", False, True),
    ],
)
def test_memory_that_is_not_needed_for_a_while_is_kept(make, setting, off, on):
    """As in PyTorch, also through a state dict."""
    p = parameter([1.0, 2.0])
    optimizer = make([p])
    stepped(optimizer, p, 1.0, 3.0)
    name = {"momentum": "momentum_buffer", "amsgrad": "max_exp_avg_sq"}[setting]
    before = optimizer.state_dict()["state"][0][name].numpy()
    optimizer.param_groups[0][setting] = off
    stepped(optimizer, p, 0.5)
    state = optimizer.state_dict()
    equal(state["state"][0][name].numpy(), before)
    q = parameter(p.numpy())
    other = make([q])
    other.load_state_dict(state)
    for o, weight in ((optimizer, p), (other, q)):
        o.param_groups[0][setting] = on
        stepped(o, weight, 1.0)
    equal(p.numpy(), q.numpy())
    assert abs(optimizer.state_dict()["state"][0][name].numpy()).min() >= 0.9 * abs(before).min()


def test_a_momentum_that_touches_zero_gives_eagers_numbers_when_recorded():
    def run(compiled):
        p = parameter([1.0, -2.0])
        sgd = optim.SGD([p], lr=0.1, momentum=0.9)
        schedule = optim.CyclicLR(sgd, 0.05, 0.2, step_size_up=2, base_momentum=0.0, max_momentum=0.9)

        def step():
            sgd.zero_grad()
            (p * p).sum().backward()
            sgd.step()

        step = nb.compile(step, fallback=False) if compiled else step
        for _ in range(12):
            step()
            schedule.step()
        return p.numpy()

    np.testing.assert_allclose(run(True), run(False), 1e-12)


def test_incomplete_states_are_refused():
    p = parameter([1.0])
    adam = optim.Adam([p])
    stepped(adam, p, 1.0)
    for missing in ("exp_avg", "exp_avg_sq"):
        state = copy.deepcopy(adam.state_dict())
        del state["state"][0][missing]
        with pytest.raises(IncompatibleCheckpointError, match=f"no {missing}"):
            adam.load_state_dict(state)
    nadam = optim.NAdam([parameter([1.0])])
    with pytest.raises(IncompatibleCheckpointError, match="no mu_product"):
        nadam.load_state_dict(adam.state_dict())


def test_a_state_of_float16_goes_on_in_float32():
    p, q = parameter([1.0, 2.0], "float16"), parameter([1.0, 2.0], "float32")
    adam, other = optim.Adam([p]), optim.Adam([q])
    stepped(adam, p, 1.0)
    other.load_state_dict(adam.state_dict())
    assert set(other.state_dict()["state"][0]) == {"step", "exp_avg", "exp_avg_sq"}


def test_parameters_with_slots_of_their_own_stand_apart():
    class Uneven(optim.Optimizer):
        def slots(self, group, p):
            return {"seen": 0.0} if p.shape == (2,) else {}

        def rule(self, group, w, g, t, **memory):
            w -= 2.0 * g if memory else 3.0 * g

    params = [parameter([0.0, 0.0]), parameter([0.0]), parameter([0.0, 0.0])]
    optimizer = Uneven(params)
    for p in params:
        p.grad = np.ones(p.shape)
    optimizer.step()
    assert [p.numpy().tolist() for p in params] == [[-2, -2], [-3], [-2, -2]]


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_gradients_set_to_zero(place):
    p, q = parameter([1.0], place=place), parameter([1.0], place=place)
    sgd = optim.SGD([p, q])
    p.grad = nb.tensor([3.0], dtype="float64", device=place)
    sgd.zero_grad(set_to_none=False)
    assert (p.grad.numpy().tolist(), q.grad) == ([0.0], None)


def test_lbfgs_leaves_stale_gradients_of_frozen_parameters_alone():
    p, frozen = parameter([3.0]), parameter([1.0])
    frozen.grad = np.asarray([1e3])
    frozen.requires_grad_(False)
    lbfgs = optim.LBFGS([p, frozen], line_search_fn="strong_wolfe")

    def closure():
        p.grad = None
        loss = ((p * frozen) ** 2).sum()
        loss.backward()
        return loss

    for _ in range(3):
        lbfgs.step(closure)
    assert (abs(float(p)) < 1e-6, float(frozen)) == (True, 1.0)


def test_clipping_float16_by_a_scale_that_float16_does_not_have():
    p = parameter(np.ones(1000), "float16")
    p.grad = np.full(1000, 60_000.0, "float16")
    optim.clip_grad_norm(p, 0.05)
    np.testing.assert_allclose(p.grad.numpy(), 0.05 / 1000**0.5, 1e-2)


def test_what_takes_no_parameters_says_so():
    for wrong in (nn.Linear(2, 2), 0.1):
        with pytest.raises(TypeError, match=r"expected parameters, got .*\. Use net\.parameters\(\)"):
            optim.EMA(wrong)
    with pytest.raises(ValueError, match="steps by given gradients, got LBFGS"):
        optim.SAM(optim.LBFGS([parameter([1.0])]))


# -- schedules ------------------------------------------------------------------------------------------------------


def test_a_schedule_made_after_a_change_by_hand_starts_from_there():
    sgd = optim.SGD([parameter([1.0])], lr=1.0)
    optim.StepLR(sgd, 1, gamma=0.1).step()
    sgd.param_groups[0]["lr"] = 0.05
    schedule = optim.CosineAnnealingLR(sgd, T_max=10)
    assert sgd.param_groups[0]["lr"] == 0.05
    schedule.step()
    assert sgd.param_groups[0]["lr"] == pytest.approx(0.05 * (1 + np.cos(np.pi / 10)) / 2)
    assert sgd.schedules == [schedule]


def test_an_optimizers_state_has_what_schedules_start_from():
    sgd = optim.SGD([parameter([1.0])], lr=1.0)
    schedule = optim.StepLR(sgd, 2)
    for _ in range(4):
        schedule.step()
    other = optim.SGD([parameter([1.0])], lr=7.0)
    other.load_state_dict(sgd.state_dict())
    again = optim.StepLR(other, 2, last_epoch=3)
    assert again.base_lrs == [1.0]
    assert other.param_groups[0]["lr"] == pytest.approx(0.01)


def test_loading_a_schedule_leaves_the_learning_rate_to_the_optimizer():
    sgd = optim.SGD([parameter([1.0])], lr=1.0)
    schedule = optim.ReduceLROnPlateau(sgd)
    schedule.step(1.0)
    sgd.param_groups[0]["lr"] = 0.3
    states = sgd.state_dict(), schedule.state_dict()
    sgd.load_state_dict(states[0])
    schedule.load_state_dict(states[1])
    assert sgd.param_groups[0]["lr"] == 0.3


# -- modules and trainers -------------------------------------------------------------------------------------------


def test_a_checkpointed_layer_is_no_layer():
    net = nn.Sequential()
    with pytest.raises(TypeError, match=r"expected a module, got a function around one"):
        net.layer = nb.checkpoint(nn.Linear(2, 2))


def trainer(**kw):
    return nb.Trainer(nn.Linear(2, 1), seed=0, **kw)


X, Y = np.ones((4, 2)), np.zeros((4, 1))


def test_accumulating_goes_by_the_book_or_not_at_all():
    class Mine(nb.Trainer):
        def step(self, x, y):
            return super().step(x, y)

    own = trainer()
    own.gradients = lambda x, y: None
    for run in (Mine(nn.Linear(2, 1)), own, trainer(optimizer=optim.SAM(optim.SGD(lr=0.1)))):
        with pytest.raises(ValueError, match="expected accumulate=1"):
            run.fit(X, Y, accumulate=2, verbose=False)
    with pytest.raises(TypeError):
        trainer().fit(X, Y, accumulate=2.5)


def test_what_is_no_schedule_is_refused():
    sgd = optim.SGD([parameter([1.0])])
    for wrong in (optim.StepLR(sgd, 2), lambda opt: None, lambda opt: optim.StepLR(sgd, 2)):
        with pytest.raises(ValueError, match="expected a function that makes a schedule"):
            trainer(schedule=wrong)
    with pytest.raises(ValueError, match='"epoch" for ReduceLROnPlateau'):
        trainer(schedule=optim.ReduceLROnPlateau, schedule_every="step")


def test_a_plateau_looks_at_every_epoch():
    run = trainer(optimizer=optim.SGD(lr=0.0), schedule=lambda opt: optim.ReduceLROnPlateau(opt, patience=3))
    run.fit(X, Y, epochs=50, verbose=False, check=False)
    assert run.schedule.last_epoch == 50
