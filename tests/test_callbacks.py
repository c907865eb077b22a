"""Callbacks that stop a fit, change its learning rate, or call functions."""

import math
import os
import signal
import warnings

import numpy as np
import pytest
from resume_case import LABELS, SECOND, X, bits, everything, exact, fit_quietly, maker

import nnbackend as nb
from nnbackend import callbacks, optim
from nnbackend.train.direction import direction


class Judge:
    """A trainer for callbacks that only look at rows."""

    def __init__(self):
        self.net, self.why, self.steps = nb.nn.Linear(1, 1), "", 0

    def stop(self, why):
        self.why = why


def epochs_until(callback, values, name="val_loss"):
    """After how many of these values it wants to stop, and why."""
    judge = Judge()
    callback.on_fit_begin(judge)
    for epoch, value in enumerate(values, start=1):
        callback.on_epoch_end(judge, {"epoch": epoch, "loss": 1.0, name: value})
        if judge.why:
            return epoch, judge.why
    return None, ""


# -- what is better ---------------------------------------------------------------------------------------------------


def test_names_say_whether_more_is_better():
    growing = ["accuracy", "val_accuracy", "top_5_accuracy", "val_f1_macro", "roc_auc", "average_precision", "val_r2"]
    falling = ["loss", "val_loss", "log_loss", "l1_loss", "val_mse", "mae", "rmse", "mape", "brier", "val_brier_score"]
    assert {direction(name) for name in growing} == {"max"}
    assert {direction(name) for name in falling} == {"min"}
    assert [name for name in nb.metrics.METRICS if direction(name) is None] == []
    assert direction("score") is direction("f1ness") is None


def test_settings_that_are_refused():
    early, plateau = callbacks.EarlyStopping, callbacks.ReduceLROnPlateau
    for make, match in [
        (lambda: early(mode="best"), "EarlyStopping: expected mode of auto, min, max, got 'best'"),
        (lambda: early("score"), 'expected mode "min" or "max" for \'score\''),
        (lambda: early(patience=0), "patience >= 1"),
        (lambda: early(min_delta=-1), "min_delta >= 0"),
        (lambda: early(min_delta=math.nan), "min_delta >= 0"),
        (lambda: plateau(factor=1.0), "factor: expected a number from 0 to below 1"),
        (lambda: plateau(patience=-1), "patience"),
        (lambda: plateau(min_lr=[0.1, -1.0]), "min_lr"),
        (lambda: plateau(threshold_mode="both"), "threshold_mode"),
        (lambda: callbacks.TimeLimit(), "more than 0 seconds, got 0"),
        (lambda: callbacks.TimeLimit(math.nan), "more than 0 seconds"),
        (lambda: callbacks.ModelCheckpoint("a", every=0), "every >= 1"),
        (lambda: callbacks.ModelCheckpoint("{}.safetensors"), "named fields"),
        (lambda: callbacks.TensorBoard("a", histograms=-1), "histograms >= 0"),
    ]:
        with pytest.raises(ValueError, match=match):
            make()
    for make in (lambda: callbacks.Lambda(on_step_end=3), lambda: callbacks.LearningRateSchedule(0.1)):
        with pytest.raises(TypeError, match="expected a function"):
            make()
    with pytest.raises(TypeError, match=r"name of a number .* got None"):
        early(None)
    assert early("score", mode="max").mode == "max"


def test_a_name_that_no_row_has():
    for callback in (callbacks.EarlyStopping("val_accuracy"), callbacks.ReduceLROnPlateau("val_accuracy")):
        with pytest.raises(ValueError, match="expected val_accuracy in the rows, got loss, accuracy, val_loss"):
            fit_quietly()(
                nb.Trainer(nb.nn.Linear(6, 3), "cross_entropy", device="cpu"),
                callbacks=[lambda trainer, row: row.update(accuracy=1.0, val_loss=1.0), callback],
            )


def test_without_validation_data_it_is_the_loss_that_is_watched():
    callback, trainer = callbacks.EarlyStopping(patience=2), maker()()
    with pytest.warns(UserWarning, match=r"no validation data\. Watching the loss") as said:
        fit_quietly(epochs=4)(trainer, callbacks=[callback])
    assert len(said) == 1
    assert (callback.best, callback.watched) == (min(trainer.history["loss"]), "loss")


# -- stopping ---------------------------------------------------------------------------------------------------------


def test_patience_counts_epochs_in_a_row():
    why = "EarlyStopping: val_loss has not improved for 2 epochs, back to epoch 4"
    assert epochs_until(callbacks.EarlyStopping(patience=2), [3, 2, 2.5, 1, 1, 1, 0]) == (6, why)
    assert epochs_until(callbacks.EarlyStopping(patience=1), [3, 2, 1, 0])[0] is None
    assert epochs_until(callbacks.EarlyStopping(patience=1), [3, 3])[0] == 2
    assert epochs_until(callbacks.EarlyStopping(patience=2, min_delta=0.5), [3, 2.6, 2.5, 1])[0] == 3
    assert epochs_until(callbacks.EarlyStopping(patience=3), [math.nan, 2, math.nan, math.nan, 2, 1])[0] == 5
    assert "back" not in epochs_until(callbacks.EarlyStopping(patience=1, restore_best=False), [3, 3])[1]
    grows = callbacks.EarlyStopping("val_accuracy", patience=2)
    assert epochs_until(grows, [0.5, 0.6, 0.6, 0.5], "val_accuracy")[0] == 4
    assert (grows.best, grows.best_epoch) == (0.6, 2)


def test_a_baseline_is_to_be_beaten_in_time():
    found = epochs_until(callbacks.EarlyStopping(patience=3, baseline=1.0), [3, 2, 1.5, 0.5])
    assert found == (3, "EarlyStopping: val_loss has not improved, or not beyond 1, for 3 epochs, back to epoch 3")
    assert epochs_until(callbacks.EarlyStopping(patience=3, baseline=1.0), [3, 2, 0.9, 0.95, 0.95, 0.8])[0] is None


def test_a_target_that_is_reached():
    why = "StopAtTarget: val_accuracy is 0.9"
    assert epochs_until(callbacks.StopAtTarget("val_accuracy", 0.9), [0.8, math.nan, 0.9], "val_accuracy") == (3, why)
    assert epochs_until(callbacks.StopAtTarget("loss", 0.5), [1.0, 2.0])[0] is None
    assert epochs_until(callbacks.StopAtTarget("val_loss", 0.5), [1.0, 0.4])[0] == 2


def test_a_time_limit(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("nnbackend.callbacks.stops.time.monotonic", lambda: now[0])

    def later(trainer):
        now[0] += 30.0

    trainer, whole = maker()(), maker()()
    fit = fit_quietly(epochs=3)
    for steps in (5, 9):  # the same call goes on
        fit(trainer, callbacks=[callbacks.Lambda(on_step_end=later), callbacks.TimeLimit(seconds=30, minutes=2)])
        assert trainer.steps == steps
    fit(whole)
    assert everything(trainer) == everything(whole)


def worsening(trainer, row):
    """The best is in epoch 2."""
    row["val_loss"] = abs(row["epoch"] - 2.0)


class Weights(nb.Callback):
    """Those at the end of each epoch."""

    def __init__(self):
        self.seen = []

    def on_epoch_end(self, trainer, row):
        self.seen.append(bits(trainer.net.state_dict()))


@pytest.mark.parametrize("restore", [True, False])
def test_the_best_weights_come_back(restore):
    early, seen, trainer = callbacks.EarlyStopping(patience=3, restore_best=restore), Weights(), maker()()
    fit_quietly(epochs=9)(trainer, callbacks=[worsening, early, seen])
    assert (len(trainer.history), early.best, early.best_epoch) == (5, 0.0, 2)
    assert bits(trainer.net.state_dict()) == seen.seen[1 if restore else 4]
    before = len(seen.seen)
    fit_quietly(epochs=2)(trainer, callbacks=[worsening, early, seen])  # counts anew, from the best weights
    assert len(seen.seen) == before + 2
    assert early.best_epoch == 6


def test_they_come_back_at_the_end_of_all_epochs_too():
    seen, trainer = Weights(), maker()()
    fit_quietly(epochs=4)(trainer, callbacks=[worsening, callbacks.EarlyStopping(), seen])
    assert bits(trainer.net.state_dict()) == seen.seen[1]


def interrupting(at):
    """Ctrl-C after some steps, once."""

    def hit(trainer):
        if trainer.steps == at and not done:
            done.append(True)
            os.kill(os.getpid(), signal.SIGINT)

    done = []
    return callbacks.Lambda(on_step_end=hit)


def two(patience):
    """Two that restore what they have found to be the best: the later one wins."""
    return [worsening, callbacks.EarlyStopping("loss", patience=9), callbacks.EarlyStopping(patience=patience)]


@pytest.mark.parametrize("folder", [False, True])
def test_after_an_interrupt_the_best_are_there_and_the_fit_goes_on_from_the_last(tmp_path, folder):
    whole, cut, seen = maker()(), maker()(), Weights()
    fit = fit_quietly(epochs=7)
    fit(whole, callbacks=[*two(4), interrupting(0), seen])
    kw = {"checkpoints": tmp_path} if folder else {}
    fit(cut, callbacks=[*two(4), interrupting(11), Weights()], **kw)
    assert (cut.interrupted, cut.steps) == (True, 11)
    assert bits(cut.net.state_dict()) == seen.seen[1]
    if folder:
        cut = maker()()
        fit(cut, callbacks=[*two(4), interrupting(0), Weights()], resume=True, **kw)
    else:
        fit(cut, callbacks=[*two(4), interrupting(0), Weights()])
    assert everything(cut) == everything(whole)


def test_early_stopping_goes_on_exactly(tmp_path):
    make = maker(metrics=["accuracy"], optimizer=optim.Adam(lr=0.05))

    def some():
        return [worsening, callbacks.EarlyStopping("loss", patience=9), callbacks.EarlyStopping(patience=2)]

    whole = exact(tmp_path, make, fit_quietly(epochs=9, batch_size=8), at=(1, 4, 7), callbacks=some)
    assert len(whole.history) == 4


def test_a_fit_that_was_stopped_early_is_over(tmp_path):
    trainer = maker()()
    fit_quietly(epochs=9)(trainer, callbacks=[worsening, callbacks.EarlyStopping(patience=2)], checkpoints=tmp_path)
    best, steps = bits(trainer.net.state_dict()), trainer.steps
    trainer = maker()()
    again = [worsening, callbacks.EarlyStopping(patience=2)]
    fit_quietly(epochs=9)(trainer, callbacks=again, checkpoints=tmp_path, resume=True)
    assert (trainer.steps, len(trainer.history)) == (steps, 4)
    assert bits(trainer.net.state_dict()) == best


# -- the learning rate ------------------------------------------------------------------------------------------------


def plateaus(trainer, row):
    """Epochs 2 and 3 are no better."""
    row["val_accuracy"] = [0.5, 0.5, 0.4, 0.6, 0.7, 0.7, 0.6, 0.1][int(row["epoch"]) - 1]


@pytest.mark.parametrize("schedule", [None, lambda o: optim.ExponentialLR(o, 0.5)])
def test_a_plateau_of_any_number(tmp_path, schedule):
    lrs = {}

    def note(trainer, row):
        lrs[row["epoch"]] = trainer.optimizer.param_groups[0]["lr"]

    def some():
        return [plateaus, callbacks.ReduceLROnPlateau("val_accuracy", factor=0.1, patience=1, min_lr=1e-4), note]

    make = maker(optimizer=optim.SGD(lr=0.1), schedule=schedule)
    fit = fit_quietly(epochs=8, batch_size=15)
    exact(tmp_path, make, fit, at=(2, 3, 6), callbacks=some, given=schedule and (lambda: {"schedule": schedule}))
    own = [0.1, 0.1, 0.01, 0.01, 0.01, 0.01, 0.001, 0.001]
    factor = 0.5 if schedule else 1.0
    expected = [max(lr * factor ** (i + 1), 1e-4 if lr < 0.1 else 0.0) for i, lr in enumerate(own)]
    np.testing.assert_allclose([lrs[i] for i in range(1, 9)], expected)


def test_a_plateau_goes_on_with_the_next_fit_and_leaves_a_rate_set_by_hand():
    trainer, callback = maker(optimizer=optim.SGD(lr=0.1))(), callbacks.ReduceLROnPlateau("val_accuracy", patience=1)
    fit_quietly(epochs=3)(trainer, callbacks=[plateaus, callback])
    fit_quietly(epochs=4)(trainer, callbacks=[plateaus, callback])
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(0.001)
    assert len(trainer.optimizer.schedules) == 1


def test_a_rate_set_by_hand_lasts_until_the_epoch_is_over(tmp_path):
    def warm(trainer):
        if trainer.steps == 3:  # in the midst of an epoch
            trainer.optimizer.param_groups[0]["lr"] = 0.5

    def some():
        return [callbacks.Lambda(on_step_end=warm), plateaus, callbacks.ReduceLROnPlateau("val_accuracy", patience=0)]

    make = maker(optimizer=optim.SGD(lr=0.1))
    whole = exact(tmp_path, make, fit_quietly(epochs=2, batch_size=8), at=(2, 3), callbacks=some)
    assert whole.optimizer.param_groups[0]["lr"] == pytest.approx(0.01)


def test_a_function_of_the_epoch(tmp_path):
    def some():
        return [
            callbacks.Lambda(on_step_end=lambda trainer: seen.append(trainer.optimizer.param_groups[0]["lr"])),
            callbacks.LearningRateSchedule(lambda epoch: 0.1 / epoch),
        ]

    seen = []
    exact(tmp_path, maker(), fit_quietly(batch_size=8), at=(1, 2, 3), callbacks=some)
    assert seen[:4] == [0.1, 0.1, 0.05, 0.05]
    with pytest.raises(ValueError, match="expected a trainer without a schedule"):
        fit_quietly()(maker(schedule=lambda o: optim.StepLR(o, 1))(), callbacks=some())
    with pytest.raises(ValueError, match="lr: expected a finite number >= 0, got -1"):
        fit_quietly()(maker()(), callbacks=[callbacks.LearningRateSchedule(lambda epoch: -1.0)])


# -- functions --------------------------------------------------------------------------------------------------------


def test_functions_at_their_times():
    seen = []
    note = callbacks.Lambda(
        on_fit_begin=lambda trainer: seen.append("begin"),
        on_step_end=lambda trainer: seen.append(trainer.steps),
        on_epoch_end=lambda trainer, row: seen.append(row["epoch"] * 10),
        on_fit_end=lambda trainer: seen.append("end"),
    )
    fit_quietly(batch_size=8)(maker()(), callbacks=[note, callbacks.Lambda()])
    assert seen == ["begin", 1, 2, 10, 3, 4, 20, "end"]


def test_those_that_watch_have_metrics_in_every_row():
    trainer = maker(metrics=["accuracy"])()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit_quietly(X, LABELS, epochs=5, validation_data=SECOND, report_every=5)(
            trainer, callbacks=[callbacks.EarlyStopping("val_accuracy")]
        )
    assert len(trainer.history["val_accuracy"]) == 5
