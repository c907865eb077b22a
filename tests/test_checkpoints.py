"""The folder of a run: when checkpoints are written, which stay, which is the best, and what is in them."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from resume_case import SECOND, X, bits, everything, fit_quietly, maker

import nnbackend as nb
from nnbackend import nn, optim
from nnbackend.errors import CheckpointWriteError
from nnbackend.io import safetensors
from nnbackend.train import checkpoints

GOLDEN = Path(__file__).parent / "fixtures" / "golden"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def steps(folder):
    return [n for n, _ in checkpoints.numbered(folder)]


@pytest.mark.parametrize(("wrong", "match"), [
    ({"every": 0}, "every >= 1"), ({"every": -1}, "every >= 1"), ({"keep": 0}, "keep >= 1"),
    ({"seconds": -1}, "seconds >= 0"), ({"seconds": math.nan}, "seconds >= 0"), ({"mode": "best"}, '"min" or "max"'),
    ({"on_error": "ignore"}, "warn, stop"),
])  # fmt: skip
def test_settings_that_are_refused(tmp_path, wrong, match):
    with pytest.raises(ValueError, match=match):
        nb.Checkpoints(tmp_path, **wrong)


def test_what_fit_refuses(tmp_path):
    fit, trainer = fit_quietly(), maker(metrics=["accuracy"])()
    before = everything(trainer)
    for wrong, match in [
        ({"resume": True}, r"checkpoints= with resume=True"),
        ({"checkpoints": nb.Checkpoints(tmp_path, best="val_loss")}, "one of loss, accuracy, got 'val_loss'"),
        ({"checkpoints": nb.Checkpoints(tmp_path, best="f1"), "validation_data": SECOND}, "val_accuracy, got 'f1'"),
    ]:
        with pytest.raises(ValueError, match=match):
            fit(trainer, **wrong)
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointWriteError, match="expected to make this folder"):
        fit(trainer, checkpoints=tmp_path / "file" / "below")
    fit(maker()(), checkpoints=tmp_path / "run")
    with pytest.raises(ValueError, match=r"this run, which is at step 0, got one of step 6.*resume=True"):
        fit(trainer, checkpoints=tmp_path / "run")
    assert everything(trainer) == before
    assert steps(tmp_path / "run") == [6]


def test_every_so_many_steps_and_the_last_few_stay(tmp_path):
    fit = fit_quietly(epochs=4)
    for every, keep, stay in [(1, 3, [12, 11, 10]), (5, 3, [12, 10, 5]), (5, 1, [12]), (4, 9, [12, 8, 4])]:
        folder = tmp_path / f"{every}-{keep}" / "deep"
        fit(maker()(), checkpoints=nb.Checkpoints(folder, every=every, keep=keep))
        assert steps(folder) == stay
    assert names(folder)[0] == "step-0000000004.safetensors"
    fit(maker()(), checkpoints=tmp_path / "named")  # a folder: every minute, and at the end
    assert names(tmp_path / "named") == ["step-0000000012.safetensors"]


def test_several_fits_share_a_folder(tmp_path):
    trainer, fit = maker()(), fit_quietly(epochs=1)
    for _ in range(4):
        fit(trainer, checkpoints=tmp_path)
    assert steps(tmp_path) == [12, 9, 6]


def test_every_so_many_seconds(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now[0])

    class Clock(nb.Callback):
        def on_step_end(self, trainer):
            now[0] += 10.0

    fit = fit_quietly(epochs=4, callbacks=[Clock()])
    fit(maker()(), checkpoints=nb.Checkpoints(tmp_path / "a", seconds=25, keep=9))
    assert steps(tmp_path / "a") == [12, 9, 6, 3]
    fit(maker()(), checkpoints=nb.Checkpoints(tmp_path / "b", seconds=0, keep=99))
    assert len(steps(tmp_path / "b")) == 12
    fit(maker()(), checkpoints=nb.Checkpoints(tmp_path / "c", every=6, seconds=1))  # steps win
    assert steps(tmp_path / "c") == [12, 6]


def test_other_files_in_the_folder_are_left_alone(tmp_path):
    others = ["step-1.safetensors", "step-0000000001.txt", "notes.md", "xstep-0000000001.safetensors"]
    for name in others:
        (tmp_path / name).write_text("mine")
    fit_quietly(epochs=3)(maker()(), checkpoints=nb.Checkpoints(tmp_path, every=1, keep=1))
    assert names(tmp_path) == sorted([*others, "step-0000000009.safetensors"])
    assert all((tmp_path / name).read_text() == "mine" for name in others)
    assert checkpoints.PATTERN.fullmatch(checkpoints.NAME.format(10**11))  # the number may grow


@pytest.mark.parametrize(("mode", "values", "best"), [
    ("min", [3.0, 2.0, 2.0, 2.5, 1.0], [0, 1, 4]), ("max", [1.0, 3.0, 2.0, 3.0, 4.0], [0, 1, 4]),
    ("min", [math.nan, 2.0, math.nan, 1.0], [1, 3]), ("max", [-math.inf, math.nan, -1.0], [0, 2]),
    ("min", [math.nan, math.nan], []),
])  # fmt: skip
def test_what_is_better(tmp_path, mode, values, best):
    keeper = nb.Checkpoints(tmp_path, best="loss", mode=mode)
    assert [i for i, value in enumerate(values) if keeper.improved({"loss": value})] == best
    again, other = (nb.Checkpoints(tmp_path, best=name, mode=mode) for name in ("loss", "val_loss"))
    again.load_state_dict(keeper.state_dict())
    other.load_state_dict(keeper.state_dict())
    assert (again.best_value, other.best_value) == (keeper.best_value, None)
    assert not nb.Checkpoints(tmp_path).improved({})


@pytest.mark.parametrize(("best", "mode", "pick"), [("val_loss", "min", min), ("val_accuracy", "max", max)])
def test_the_best_model_is_kept(tmp_path, best, mode, pick):
    trainer = maker(optimizer=optim.SGD(lr=1.5), metrics=["accuracy"])()
    fit_quietly(epochs=8, validation_data=SECOND)(
        trainer, checkpoints=nb.Checkpoints(tmp_path, every=100, best=best, mode=mode)
    )
    assert names(tmp_path) == ["best.safetensors", "step-0000000024.safetensors"]
    column = trainer.history[best]
    again = nb.Trainer.resume(tmp_path / "best.safetensors", device="cpu")
    assert len(again.history) == 1 + column.index(pick(column))
    measured = again.evaluate(*SECOND)
    assert measured[best.removeprefix("val_")] == pick(column)


@pytest.mark.parametrize("callbacks", [[], [lambda trainer, row: None]])
def test_only_reported_epochs_can_be_the_best(tmp_path, callbacks):
    """Callbacks want the loss of each epoch, which does not make it a reported one."""
    trainer = maker(optimizer=optim.SGD(lr=0.01))()
    keeper = nb.Checkpoints(tmp_path, every=100, best="val_loss")
    fit_quietly(epochs=5, report_every=3, validation_data=SECOND)(trainer, checkpoints=keeper, callbacks=callbacks)
    assert keeper.best_value == min(trainer.history["val_loss"])
    assert len(trainer.history["val_loss"]) == 2


def test_the_best_value_is_remembered(tmp_path):
    whole = nb.Checkpoints(tmp_path / "whole", every=2, keep=99, best="loss")
    fit = fit_quietly(epochs=4)
    make = maker(optimizer=optim.SGD(lr=5.0))
    fit(make(), checkpoints=whole)
    best = (tmp_path / "whole" / "best.safetensors").read_bytes()
    shutil.copytree(tmp_path / "whole", tmp_path / "part")
    for n in (12, 10, 8):
        (tmp_path / "part" / checkpoints.NAME.format(n)).unlink()
    again = nb.Checkpoints(tmp_path / "part", every=2, best="loss")
    fit(make(), checkpoints=again, resume=True)
    assert again.best_value == whole.best_value
    assert (tmp_path / "part" / "best.safetensors").read_bytes() == best


# -- what is in them --------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    """A trainer in mid-run, and its checkpoint."""
    make = maker(schedule=lambda o: optim.StepLR(o, 3), schedule_every="step", metrics=["accuracy"])
    trainer, path = make(), tmp_path / "run.safetensors"
    fit_quietly(validation_data=SECOND)(trainer)
    trainer.save_checkpoint(path)
    return trainer, path


def test_what_is_in_a_checkpoint(saved):
    trainer, path = saved
    value = nb.load(path)
    assert list(value) == [
        "kind", "versions", "configuration", "net", "loss", "optimizer", "others", "gradients", "schedule", "steps",
        "history", "fit",
    ]  # fmt: skip
    assert value["kind"] == "nnbackend checkpoint"
    assert value["versions"].keys() == {"nnbackend", "numpy", "python"}
    assert value["versions"]["nnbackend"] == nb.__version__
    assert isinstance(value["net"], nn.Sequential)
    for p, q in zip(value["net"].parameters(), trainer.net.parameters(), strict=True):
        np.testing.assert_array_equal(p.numpy(), q.numpy())
    assert value["steps"] == 6
    assert value["fit"] is None
    described = json.loads(safetensors.read(path)[1]["nnbackend"])
    assert (described["format"], described["version"]) == (2, nb.__version__)
    assert b"cpu" not in path.read_bytes()  # no device


def test_the_same_state_is_the_same_file(saved):
    trainer, path = saved
    first, before = path.read_bytes(), everything(trainer)
    trainer.save_checkpoint(path)
    again = nb.Trainer.resume(path, device="cpu")
    again.save_checkpoint(path.with_name("again.safetensors"))
    assert first == path.read_bytes() == path.with_name("again.safetensors").read_bytes()
    assert everything(trainer) == before == everything(again)


def test_weights_can_be_taken_from_a_checkpoint(saved):
    trainer, path = saved
    weights = nb.weights(path)
    assert bits(weights["net.0.weight"]) == bits(trainer.net[0].weight)
    assert bits(nb.load(path)["net"](nb.tensor(X))) == bits(trainer.net(nb.tensor(X)))


def test_a_save_inside_of_a_step_comes_after_it(tmp_path):
    """Also what a loss function asks for; and errors are not lost."""
    made = maker(optimizer="sgd")()
    path = [tmp_path / "inside.safetensors"]

    class Asking(nb.Trainer):
        def step(self, x, y):
            loss = super().step(x, y)
            if float(loss) and self.steps == 1:
                self.save_checkpoint(path[0])
            return loss

    trainer = Asking(made.net, "cross_entropy", "sgd", device="cpu", seed=1)
    fit_quietly(epochs=1)(trainer)
    assert nb.load(path[0])["steps"] == 2
    path[0] = tmp_path / "none" / "inside.safetensors"
    trainer.steps = 0
    with pytest.raises(CheckpointWriteError, match="none"):
        fit_quietly(epochs=1)(trainer)


def test_before_and_after_a_fit(tmp_path):
    class Ends(nb.Callback):
        def on_fit_begin(self, trainer):
            trainer.save_checkpoint(tmp_path / "begin.safetensors")

        def on_fit_end(self, trainer):
            trainer.save_checkpoint(tmp_path / "end.safetensors")

    fit, whole = fit_quietly(), maker()()
    fit(whole, callbacks=[Ends()])
    assert (nb.load(tmp_path / "begin.safetensors")["steps"], nb.load(tmp_path / "end.safetensors")["steps"]) == (0, 6)
    again = nb.Trainer.resume(tmp_path / "begin.safetensors", device="cpu")
    fit(again)
    assert everything(again) == everything(whole)


@pytest.mark.parametrize("version", [2])
def test_golden_checkpoints_go_on(version):
    """What `ci/make_golden_checkpoint.py` has written once."""
    x, y = np.arange(30.0, dtype="float32").reshape(10, 3) % 7 / 7, np.arange(10) % 2
    path = GOLDEN / f"checkpoint_{version}.safetensors"
    expected = json.loads(path.with_suffix(".json").read_text())
    trainer = nb.Trainer.resume(path, device="cpu")
    assert (trainer.steps, len(trainer.history)) == (4, 1)
    losses = []

    class Look(nb.Callback):
        def on_step_end(self, trainer):
            losses.append(trainer.evaluate(x, y)["loss"])

    trainer.fit(x, y, epochs=3, batch_size=4, verbose=False, validation_data=(x, y), callbacks=[Look()])
    np.testing.assert_allclose(losses[:3], expected["losses"], 1e-6)
    for row, known in zip(trainer.history, expected["history"], strict=True):
        assert row == pytest.approx(known, rel=1e-6)
    assert trainer.schedule.last_epoch == 9
