"""`nb.compile(step, rehearse=True)`: what recordings change is put back, so that every true step is a replay."""

import gc
import warnings
import weakref

import numpy as np
import pytest
from resume_case import LABELS, X, everything, fit_quietly, standing

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import nn, optim
from nnbackend.cells import Scalar
from nnbackend.errors import RecordingError, RecordingWarning
from nnbackend.program.undone import Undone


class Work:
    """A net with state of all kinds, an optimizer with a schedule, and a step on both."""

    def __init__(self, optimizer=None, place="cpu", dtype="float32"):
        self.net = nn.Sequential(
            nn.Linear(6, 8, dtype=dtype), nn.BatchNorm1d(8, dtype=dtype), nn.Dropout(0.3),
            nn.utils.parametrizations.spectral_norm(nn.Linear(8, 3, dtype=dtype)),
        ).init(0).to(place)  # fmt: skip
        self.optimizer = (optimizer or optim.NAdam(lr=0.05)).bind(self.net.parameters())
        self.schedule = optim.CosineAnnealingLR(self.optimizer, 50)
        self.x, self.y = nb.tensor(X, device=place, dtype=dtype), nb.tensor(LABELS, device=place)

    def step(self, x, y):
        def gradients():
            self.optimizer.zero_grad()
            loss = F.cross_entropy(self.net(x), y)
            loss.backward()
            optim.clip_grad_norm_(self.net.parameters(), 1.0)
            return loss

        loss = self.optimizer.step(gradients)
        self.schedule.step()
        return loss

    def state(self):
        gradients = [None if p.grad is None else p.grad.numpy().tobytes() for p in self.net.parameters()]
        fresh = [p.fresh for p in self.net.parameters()]
        history = getattr(self.optimizer, "base", self.optimizer)._history()  # `state_dict` would lay out
        memory = [
            (m.steps, m.numbers, {name: slot.tobytes() for name, slot in m.slots.items()})
            for p in self.net.parameters()
            if (m := history.get(p)) is not None and m.steps
        ]
        settings = self.optimizer.param_groups[0].settings()
        return standing(self.net), gradients, fresh, memory, settings, self.schedule.state_dict()


class Watched(Undone):
    """Compares what was before a rehearsal with what is after it."""

    work, seen = None, 0

    def __enter__(self):
        self.before = self.work.state()
        return super().__enter__()

    def __exit__(self, *error):
        kept = bool(self.kept)
        super().__exit__(*error)
        if kept:
            assert self.work.state() == self.before
            type(self).seen += 1


@pytest.fixture
def watched(monkeypatch):
    """Every rehearsal of `watched.work` is looked at."""
    kind = type("Watched", (Watched,), {})
    monkeypatch.setattr("nnbackend.program.compiled.Undone", kind)
    return kind


@pytest.mark.parametrize("optimizer", [optim.NAdam(lr=0.05), optim.SAM(optim.SGD(lr=0.1, momentum=0.9)), optim.Rprop()])
def test_rehearsals_leave_no_trace_and_first_calls_are_replays(watched, optimizer):
    work = watched.work = Work(optimizer)
    step = nb.compile(work.step, fallback=False, rehearse=True)
    losses, states = [], []
    for _ in range(4):
        losses.append(float(step(work.x, work.y)))
        states.append(work.state())
    assert watched.seen == step.recordings
    assert 2 <= step.recordings <= 4
    twin = Work(optimizer)
    steps = nb.compile(twin.step, rehearse=True)
    for loss, state in zip(losses, states, strict=True):
        assert float(steps(twin.x, twin.y)) == loss
        assert twin.state() == state


def test_two_shapes_in_turn_and_nothing_that_grows(watched):
    work = watched.work = Work()
    step = nb.compile(work.step, fallback=False, rehearse=True)
    for i in range(6):
        n = 15 - 5 * (i % 2)
        step(nb.tensor(X[:n]), nb.tensor(LABELS[:n]))
    assert (step.recordings, watched.seen) == (5, 5)  # the first one lays out, then two for each shape
    assert work.schedule.last_epoch == 6


def test_on_another_device(watched):
    from frozen import DEVICE1

    work = watched.work = Work(place=DEVICE1)
    work.state = lambda self=work, state=work.state: [
        p.to("cpu").numpy().tobytes() for p in (*self.net.parameters(), *self.net.buffers())
    ]
    step, home = nb.compile(work.step, rehearse=True), Work()
    for _ in range(3):
        np.testing.assert_allclose(float(step(work.x, work.y)), float(home.step(home.x, home.y)), 1e-5)
    assert watched.seen == step.recordings


def test_an_error_in_a_step_changes_nothing():
    work = Work()
    step = nb.compile(work.step, rehearse=True)
    before = work.state()
    for _ in range(2):
        with pytest.raises(nb.errors.NNBackendError, match="class"):
            step(work.x, work.y + 7)
        assert work.state() == before
    step(work.x, work.y)
    before = work.state()
    with pytest.raises(nb.errors.NNBackendError, match="class"):
        step(work.x, work.y + 7)
    assert work.state()[0] == before[0]


def test_a_step_that_cannot_be_replayed_stays_done():
    work, eager = Work(), Work()

    def step(x, y):
        loss = work.step(x, y)
        if float(loss) > 1000:
            raise ValueError
        return loss

    run = nb.compile(step, rehearse=True)
    with pytest.warns(RecordingWarning, match="eagerly") as caught:
        losses = [float(run(work.x, work.y)) for _ in range(3)]
    assert (len(caught), run.eager, run.recordings) == (1, True, 1)
    assert losses == [float(eager.step(eager.x, eager.y)) for _ in range(3)]
    assert work.state() == eager.state()
    work = Work()
    before = work.state()
    with pytest.raises(RecordingError):
        nb.compile(step, fallback=False, rehearse=True)(work.x, work.y)
    assert work.state() == before


def test_warnings_of_a_step_come_once():
    work = Work()
    extra = nn.Linear(2, 2)
    work.optimizer.add_param_group({"params": extra.parameters()})
    step = nb.compile(work.step, rehearse=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(4):
            step(work.x, work.y)
    assert [str(w.message)[:30] for w in caught] == ["NAdam.step: no gradient for we"]


def test_an_optimizer_that_steps_twice_and_is_divided_between():
    """The second step lays out anew what the first has changed."""

    def made():
        parts = [nn.Linear(6, 3).init(seed) for seed in range(3)]
        optimizer = optim.Adam([p for part in parts for p in part.parameters()], lr=0.1)

        def step(x, y):
            for used in ([0], [1], [1, 2]):
                optimizer.zero_grad()
                loss = F.cross_entropy(sum(parts[i](x) for i in used), y)
                loss.backward()
                optimizer.step()
            return loss

        return optimizer, step, parts

    optimizer, step, parts = made()
    _, eager, others = made()
    run = nb.compile(step, fallback=False, rehearse=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for n in range(1, 4):
            run(nb.tensor(X), nb.tensor(LABELS))
            eager(nb.tensor(X), nb.tensor(LABELS))
            steps = [entry["step"] for entry in optimizer.state_dict()["state"].values()]
            assert steps == [n, n, 2 * n, 2 * n, n, n]
    for part, twin in zip(parts, others, strict=True):
        np.testing.assert_allclose(part.weight.numpy(), twin.weight.numpy(), 1e-4, 1e-6)


def test_weights_that_are_changed_before_the_optimizer_lays_them_out(watched):
    work = watched.work = Work(optim.SGD(lr=0.1, momentum=0.9))
    first, counted = work.net[0], Scalar(0)

    def step(x, y):
        first.weight.assign(first.weight * 0.5)
        counted.value = counted.value + 1
        return work.step(x, y)

    nb.compile(step, fallback=False, rehearse=True)(work.x, work.y)
    assert (watched.seen, counted.value) == (3, 1)


def test_memory_comes_back_without_the_collector(monkeypatch):
    alive = []

    class Noted(Undone):
        def __init__(self):
            super().__init__()
            alive.append(weakref.ref(self))

    monkeypatch.setattr("nnbackend.program.compiled.Undone", Noted)
    work = Work(optim.SGD(lr=0.1))
    step = nb.compile(work.step, rehearse=True)
    gc.collect()
    gc.disable()
    try:
        step(work.x, work.y)
        assert [ref() for ref in alive] == [None] * len(alive)
        assert len(alive) == step.recordings
    finally:
        gc.enable()


def test_ever_new_shapes_are_given_up():
    net = nn.MLP([6, 4, 3])
    run = nb.compile(net, rehearse=True)
    with nb.no_grad():
        for n in range(1, 64):
            run(nb.tensor(np.zeros((n, 6), dtype="float32")))
        with pytest.warns(RecordingWarning, match="another shape, dtype or identity each time"):
            run(nb.tensor(np.zeros((64, 6), dtype="float32")))


# -- in a trainer -----------------------------------------------------------------------------------------------------


class Freeze(nb.Callback):
    """Holds a layer still for some steps, and sets the learning rate."""

    def on_step_end(self, trainer):
        trainer.net[0].requires_grad_(not 3 <= trainer.steps < 7)
        if trainer.steps == 5:
            trainer.optimizer.param_groups[0]["lr"] = 0.0


def layers():
    return nn.Sequential(
        nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Dropout(0.3), nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))
    )


def trainer(kind=nb.Trainer, optimizer="adam", net=layers):
    return kind(net(), "cross_entropy", optimizer, ["accuracy"], "cpu", seed=1)


def test_the_structure_changes_in_the_midst_of_a_run(tmp_path):
    fit = fit_quietly(epochs=4, callbacks=[Freeze()])
    whole = trainer()
    fit(whole, checkpoints=nb.Checkpoints(tmp_path, every=1, keep=99))
    for step in (2, 3, 4, 6, 7, 8):
        again = nb.Trainer.resume(tmp_path / f"step-{step:010d}.safetensors", device="cpu")
        fit(again)
        assert everything(again) == everything(whole), step


class Pinned(nb.Trainer):
    """Depends on the truth of a number."""

    def step(self, x, y):
        loss = self.gradients(x, y)
        if self.optimizer.param_groups[0]["lr"]:
            self.optimizer.step()
        return loss


def test_a_learning_rate_that_an_if_looks_at(tmp_path):
    fit = fit_quietly(epochs=4, callbacks=[Freeze()])
    whole = trainer(Pinned)
    fit(whole, checkpoints=nb.Checkpoints(tmp_path, every=1, keep=99))
    assert not whole._step.eager
    for step in (2, 5, 6):
        again = Pinned.resume(tmp_path / f"step-{step:010d}.safetensors", device="cpu")
        fit(again)
        assert everything(again) == everything(whole), step


@pytest.mark.parametrize("optimizer", ["adam", optim.SAM(optim.SGD(lr=0.1))])
def test_checkpoints_between_steps_cause_no_recordings(tmp_path, optimizer):
    with_files, without = trainer(optimizer=optimizer), trainer(optimizer=optimizer)
    fit = fit_quietly(epochs=5, validation_data=(X[:7], LABELS[:7]))
    fit(with_files, checkpoints=nb.Checkpoints(tmp_path, every=1))
    fit(without)
    with_files.save_checkpoint(tmp_path / "x.safetensors")
    for name in ("_step", "_forward", "_gradients"):
        assert getattr(with_files, name).recordings == getattr(without, name).recordings
    assert with_files._step.recordings == 2
    assert with_files._step._quick[0] == 2  # still the quick way in
