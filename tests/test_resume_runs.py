"""Whole runs that go on exactly: callbacks, several fits, other processes and devices, steps that are not recorded."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from frozen import DEVICE1
from resume_case import SECOND, bits, everything, exact, fit_quietly, images, maker

import nnbackend as nb
from nnbackend import nn, optim
from nnbackend.backend import cuda_status

# -- callbacks, several fits ------------------------------------------------------------------------------------------


class Counting(nb.Callback):
    """Remembers what it has seen, arrays too."""

    def __init__(self, every):
        self.every, self.seen, self.total = every, [], nb.tensor(0.0)

    def on_step_end(self, trainer):
        if trainer.steps % self.every == 0:
            self.seen.append(trainer.steps)
            self.total = self.total + trainer.net[0].weight.detach().sum()

    def on_epoch_end(self, trainer, row):
        row["seen"] = len(self.seen)

    def state_dict(self):
        return {"seen": tuple(self.seen), "total": self.total}

    def load_state_dict(self, state):
        self.seen, self.total = list(state["seen"]), state["total"]


def test_a_callback_with_an_average_of_the_weights(tmp_path):
    class Averaging(nb.Callback):
        def on_fit_begin(self, trainer):
            self.ema = optim.EMA(trainer.net.parameters(), decay=0.9)
            if hasattr(self, "state"):
                self.ema.load_state_dict(self.state)

        def on_step_end(self, trainer):
            self.ema.update()

        def state_dict(self):
            return self.ema.state_dict()

        def load_state_dict(self, state):
            self.state = state

    made = []

    def callbacks():
        made.append(Averaging())
        return made[-1:]

    exact(tmp_path, maker(), fit_quietly(), at=(2, 4), callbacks=callbacks)
    assert len({repr(bits(one.ema.state_dict())) for one in made}) == 1


def test_rows_with_words(tmp_path):
    def note(trainer, row):
        row.update(note=f"epoch {row['epoch']}", good=row["epoch"] == 2, nothing=None)

    trainer = exact(tmp_path, maker(), fit_quietly(epochs=3), at=(4, 7), callbacks=lambda: [note])
    assert trainer.history["good"] == [False, True, False]


def test_callbacks_remember_and_write_rows(tmp_path):
    made = []

    def callbacks():
        made.append([Counting(1), Counting(2), lambda trainer, row: row.setdefault("half", row["loss"] / 2)])
        return made[-1]

    whole = exact(tmp_path, maker(), fit_quietly(), at=(1, 3, 4), callbacks=callbacks)
    assert [row["seen"] for row in whole.history] == [1, 3]  # what the later one says
    assert {(tuple(a.seen), tuple(b.seen), bits(a.total), bits(b.total)) for a, b, _ in made} == {
        ((1, 2, 3, 4, 5, 6), (2, 4, 6), bits(made[0][0].total), bits(made[0][1].total))
    }


def test_what_a_callback_saves_in_the_midst_of_others_is_the_end_of_the_step(tmp_path):
    class Saving(nb.Callback):
        def on_step_end(self, trainer):
            trainer.save_checkpoint(tmp_path / f"{trainer.steps}.safetensors")

    def fit(trainer, folder, *callbacks):
        keeper = nb.Checkpoints(tmp_path / folder, every=100, best="val_loss")
        fit_quietly(epochs=3, validation_data=SECOND)(trainer, callbacks=[*callbacks, Counting(2)], checkpoints=keeper)
        return everything(trainer), keeper.best_value

    whole = fit(maker(optimizer=optim.SGD(lr=2.0))(), "whole", Saving())
    for step in (1, 3, 4, 6, 8):
        trainer = nb.Trainer.resume(tmp_path / f"{step}.safetensors", device="cpu")
        assert fit(trainer, f"from-{step}") == whole, step


def test_several_fits_in_one_trainer(tmp_path):
    def first(trainer):
        fit_quietly(epochs=2, batch_size=4)(trainer)
        return trainer

    make = maker(metrics=["accuracy"])
    whole = first(make())
    fit_quietly(*SECOND)(whole, checkpoints=nb.Checkpoints(tmp_path / "whole", every=1, keep=99))
    for step in (9, 11, 12):
        trainer = nb.Trainer.resume(tmp_path / "whole" / f"step-{step:010d}.safetensors", device="cpu")
        fit_quietly(*SECOND)(trainer)
        assert everything(trainer) == everything(whole), step


def test_more_epochs_than_at_first(tmp_path):
    make, fit = maker(net=images, seed=4), fit_quietly(report_every=1)
    whole = make()
    fit(whole, epochs=5)
    part = make()
    fit(part, epochs=2, checkpoints=tmp_path)
    again = make()
    fit(again, epochs=5, checkpoints=tmp_path, resume=True)
    assert everything(again) == everything(whole)
    fit(part, epochs=3)  # in the same process
    assert everything(part) == everything(whole)
    loaded = nb.Trainer.resume(tmp_path, device="cpu")  # it has finished: a fit is of more epochs
    before = everything(loaded)
    history = fit(loaded, epochs=5, checkpoints=tmp_path, resume=True)
    assert len(history) == 5
    assert everything(loaded) == before | {} == everything(whole)
    fit(loaded, epochs=5)
    assert len(loaded.history) == 10
    empty = make()
    fit(empty, epochs=5, checkpoints=tmp_path / "new", resume=True)
    assert everything(empty) == everything(whole)


def test_parameters_that_join_in_mid_run(tmp_path):
    class Thaw(nb.Callback):
        def on_step_end(self, trainer):
            if trainer.steps == 3:
                trainer.optimizer.add_param_group({"params": trainer.net[0].parameters(), "lr": 0.3})

    def groups(net):
        return optim.SGD(net[2].parameters(), lr=0.1, momentum=0.9)

    exact(tmp_path, maker(optimizer=groups), fit_quietly(), at=(2, 3, 4), callbacks=lambda: [Thaw()])


def test_after_an_error_in_a_callback_the_same_call_goes_on():
    class Falling(nb.Callback):
        def on_step_end(self, trainer):
            if trainer.steps in self.at:
                self.at.remove(trainer.steps)
                raise RuntimeError("just so")

    falling, fit, make = Falling(), fit_quietly(epochs=3, accumulate=2, batch_size=3), maker(images)
    falling.at = []
    whole, trainer = make(), make()
    fit(whole, callbacks=[falling])
    falling.at = [2, 3, 7]
    for _ in range(3):
        with pytest.raises(RuntimeError, match="just so"):
            fit(trainer, callbacks=[falling])
    fit(trainer, callbacks=[falling])
    assert everything(trainer) == everything(whole)


def test_gone_on_with_in_another_process(tmp_path):
    (tmp_path / "here.py").write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import nnbackend as nb\n"
        "from resume_case import fit_quietly, images, maker\n"
        "if sys.argv[2] == 'new':\n"
        "    trainer = maker(images, seed=None)()\n"
        "else:\n"
        "    trainer = nb.Trainer.resume(sys.argv[2], device='cpu')\n"
        "fit_quietly()(trainer, checkpoints=nb.Checkpoints(sys.argv[1], every=1, keep=99))\n"
    )

    def run(folder, start):
        subprocess.run([sys.executable, tmp_path / "here.py", tmp_path / folder, start], check=True, timeout=60)
        return {path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()}

    whole = run("whole", "new")
    later = run("later", str(tmp_path / "whole" / "step-0000000004.safetensors"))
    assert sorted(later) == [f"step-000000000{i}.safetensors" for i in (5, 6)]
    assert all(whole[name] == file for name, file in later.items())


# -- steps that are not recorded --------------------------------------------------------------------------------------


class Branching(nb.Trainer):
    """Looks at the loss in the midst of a step."""

    def step(self, x, y):
        loss = self.gradients(x, y)
        if float(loss) > 1.0:
            optim.clip_grad_norm_(self.net.parameters(), 0.1)
        self.optimizer.step()
        return loss


class Doubling(nb.Trainer):
    """Gradients of its own, with a glance at them."""

    def gradients(self, x, y):
        loss = super().gradients(x, y)
        if float(loss) > 1.0:
            (self.loss(self.net(x), y) * 0.5).backward()
        return loss


class Keeping(nb.Trainer):
    """Half of each gradient stays for the next step."""

    def step(self, x, y):
        loss = self.loss(self.net(x), y)
        loss.backward()
        self.optimizer.step()
        for p in self.net.parameters():
            p.grad = p.grad * 0.5
        return loss


@pytest.mark.parametrize("kind", [Branching, Doubling, Keeping])
def test_steps_that_cannot_be_recorded_are_exact_too(tmp_path, kind):
    fit = fit_quietly()

    def made():
        return kind(images(), "cross_entropy", "adam", device="cpu", seed=1)

    whole = made()
    fit(whole, checkpoints=nb.Checkpoints(tmp_path, every=1, keep=99))
    assert whole._step.eager == (kind is not Keeping)
    for step in (1, 3, 4):
        trainer = kind.resume(tmp_path / f"step-{step:010d}.safetensors", device="cpu")
        assert type(trainer) is kind
        fit(trainer)
        assert everything(trainer) == everything(whole)


# -- devices ----------------------------------------------------------------------------------------------------------


def moved(tmp_path, dtype, there, tolerance):
    """From NumPy to a device in mid-epoch, and back in another, against a run that stays at home."""

    def net():
        return nn.Sequential(
            nn.Linear(6, 8, dtype=dtype), nn.BatchNorm1d(8, dtype=dtype), nn.Dropout(0.3), nn.Linear(8, 3, dtype=dtype)
        )

    sgd = optim.SGD(lr=0.1, momentum=0.9)
    make = maker(
        net,
        optimizer=sgd,
        schedule=lambda o: optim.CosineAnnealingLR(o, 20),
        schedule_every="step",
        metrics=["accuracy"],
    )
    fit = fit_quietly(epochs=4, validation_data=SECOND)
    whole = make()
    fit(whole, checkpoints=nb.Checkpoints(tmp_path / "whole", every=1, keep=99))
    out = nb.Trainer.resume(tmp_path / "whole" / "step-0000000004.safetensors", device=there)
    assert {p.device for p in out.net.parameters()} == {nb.backend.device(there)}
    fit(out, checkpoints=nb.Checkpoints(tmp_path / "there", every=1, keep=99))
    home = nb.Trainer.resume(tmp_path / "there" / "step-0000000008.safetensors", device="cpu")
    fit(home)
    for trainer in (out, home):
        np.testing.assert_allclose(trainer.history["loss"], whole.history["loss"], tolerance)
        np.testing.assert_allclose(trainer.history["val_loss"], whole.history["val_loss"], tolerance)
        assert trainer.schedule.state_dict() == whole.schedule.state_dict()
        assert [m.calls.value for m in trainer.net.modules() if hasattr(m, "calls")] == [12]
        for p, q in zip(trainer.net.parameters(), whole.net.parameters(), strict=True):
            np.testing.assert_allclose(p.to("cpu").numpy(), q.numpy(), tolerance * 100, tolerance * 10)
    for path in (tmp_path / "there").iterdir():
        assert not [word for word in (b"device1", b"cuda", b"array_api", b"cupy") if word in path.read_bytes()]


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("float64", 1e-12)])
def test_to_another_device_and_back(tmp_path, dtype, tolerance):
    moved(tmp_path, dtype, DEVICE1, tolerance)


@pytest.mark.skipif(not cuda_status().usable, reason="no GPU here")
def test_to_a_gpu_and_back(tmp_path):
    moved(tmp_path, "float64", "cuda", 1e-10)
