"""Trainer: how updates are made. Accumulated gradients, schedules, optimizers that look more than once."""

import numpy as np
import pytest
from frozen import PLACES

import nnbackend as nb
from nnbackend import nn, optim

RNG = np.random.default_rng(0)
X = RNG.standard_normal((50, 2))
Y = X[:, :1] - X[:, 1:] ** 2


def trained(optimizer=None, epochs=3, device="cpu", batch_size=8, accumulate=1, **kw):
    net = nn.MLP([2, 5, 1], "tanh", dtype="float64")
    optimizer = optimizer or optim.SGD(lr=0.1, momentum=0.9)
    trainer = nb.Trainer(net, "mse", optimizer, device=device, seed=0, **kw)
    trainer.fit(X, Y, epochs, batch_size=batch_size, accumulate=accumulate, report_every=1, verbose=False)
    return trainer


@pytest.mark.parametrize("place", PLACES, ids=str)
@pytest.mark.parametrize(("batch_size", "accumulate"), [(8, 2), (4, 4), (1, 16), (16, 1)])
def test_accumulated_batches_make_the_steps_of_one_batch(batch_size, accumulate, place):
    one, many = trained(batch_size=16), trained(device=place, batch_size=batch_size, accumulate=accumulate)
    assert one.steps == many.steps == 3 * 4  # the last one has two rows, the last of (4, 4) is alone
    for p, q in zip(one.net.parameters(), many.net.parameters(), strict=True):
        np.testing.assert_allclose(q.numpy(), p.numpy(), 1e-12, 1e-14)
    np.testing.assert_allclose(many.history["loss"], one.history["loss"], 1e-12)
    assert all(p.grad is None for p in many.net.parameters()) == (accumulate > 1)


def test_accumulation_forgets_older_gradients_and_refuses_less_than_one_batch():
    trainer = trained(epochs=0)
    for p in trainer.net.parameters():
        p.grad = nb.tensor(np.full(p.shape, 1e6))
    trainer.fit(X, Y, epochs=1, batch_size=8, accumulate=2, verbose=False)
    assert max(abs(p.numpy()).max() for p in trainer.net.parameters()) < 10
    with pytest.raises(ValueError, match="accumulate >= 1, got 0"):
        trainer.fit(X, Y, accumulate=0)


def test_a_schedule_moves_on_by_epoch_or_by_step():
    def lr(**kw):
        return trained(schedule=lambda opt: optim.ExponentialLR(opt, 0.5), **kw).optimizer.param_groups[0]["lr"]

    assert lr() == pytest.approx(0.1 * 0.5**3)
    assert lr(schedule_every="step") == pytest.approx(0.1 * 0.5**21)
    assert lr(schedule_every="step", accumulate=3) == pytest.approx(0.1 * 0.5**9)
    with pytest.raises(ValueError, match=r'"epoch" or "step", got "?.?batch'):
        lr(schedule_every="batch")


def test_a_plateau_looks_at_reported_losses():
    trainer = trained(schedule=lambda opt: optim.ReduceLROnPlateau(opt, patience=0, threshold=10.0))
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * 0.1**2)  # the first epoch is the best


def test_recordings_do_not_grow_with_a_schedule():
    plain = trained(epochs=4)
    scheduled = trained(epochs=4, schedule=lambda opt: optim.CosineAnnealingLR(opt, 28), schedule_every="step")
    assert plain._step.recordings == scheduled._step.recordings


def test_optimizers_that_look_more_than_once():
    plain = trained(epochs=20).history[-1]["loss"]
    sharpness = trained(optim.SAM(optim.SGD(lr=0.1, momentum=0.9), rho=0.01), epochs=20)
    assert sharpness._step.program is not None
    assert sharpness.history[-1]["loss"] < 0.7 * sharpness.history[0]["loss"]
    quick = trained(optim.LBFGS(line_search_fn="strong_wolfe"), epochs=8, batch_size=None)
    assert quick.history[-1]["loss"] < 0.1 * plain
    assert (quick._gradients.recordings, quick._gradients.why) == (2, None)


@pytest.mark.parametrize("name", ["sgd", "lion", "rmsprop", "nadam", "adafactor"])
def test_optimizers_by_name(name):
    trainer = trained(name, epochs=4)
    assert type(trainer.optimizer).__name__.lower() == name
    assert trainer.history[-1]["loss"] < trainer.history[0]["loss"]
