"""Line 129 of faults.md: SIGINT and SIGTERM wait for the end of the step, and a second one does not."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import runs

import nnbackend as nb
from nnbackend import crash
from nnbackend.errors import NonFiniteError
from nnbackend.train.interrupts import Interrupts

pytestmark = pytest.mark.skipif(os.name != "posix", reason="POSIX only")
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture(autouse=True)
def usual() -> Iterator[None]:
    """The usual handlers, which are there again afterwards; nothing is armed."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    crash.armed.clear()
    found = [signal.getsignal(number) for number in SIGNALS]
    for number, handler in before.items():
        signal.signal(number, handler)
    assert found == [signal.default_int_handler, signal.SIG_DFL]


@pytest.fixture(scope="module")
def whole() -> tuple[nb.Trainer, dict[int, Any]]:
    """A run that nobody interrupts, and where it stands after each step."""
    trainer, digests = runs.make(), runs.Digests()
    runs.fit(trainer, 3, [digests])
    return trainer, digests.after


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


# -- processes -------------------------------------------------------------------------------------------------------


def interrupts(folder: Path, count: int, epochs: int, seed: int) -> None:
    """So many interrupts at random moments of one run, which then ends as if there had been none."""
    digests, seen, kept = runs.Digests(), runs.Seen(), runs.keeper(folder / "whole", 3)
    trainer, moments = runs.make(), random.Random(seed)
    runs.fit(trainer, epochs, [digests, seen], checkpoints=kept)
    expected = runs.facts(trainer, folder / "whole", seen, kept)
    child = runs.start("interrupted", folder / "run", epochs)
    alarm = threading.Timer(100, child.kill)  # so that no line is waited for without end
    alarm.start()
    try:
        for _ in range(count):
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            time.sleep(moments.uniform(0, 0.04))
            child.send_signal(signal.SIGINT)
            line = child.stdout.readline()
            was_interrupted, found = json.loads(line)
            assert was_interrupted
            assert not runs.differing(found, digests.after[found["steps"]])
            assert found["steps"] in runs.steps(folder / "run")
        found, errors = runs.finish(child, timeout=90)
    finally:
        alarm.cancel()
        child.kill()
    assert errors.count("fit: interrupted at step") == errors.count("\n") == count
    assert f"checkpoint in {folder / 'run'}; the same call goes on from here" in errors
    assert not runs.differing({**found, "files": 0}, {**expected, "files": 0})
    best = [runs.content(folder / name / "best.safetensors") for name in ("run", "whole")]
    assert not runs.differing(*best)


def test_interrupts_at_any_moment_leave_whole_steps(tmp_path: Path) -> None:
    interrupts(tmp_path, 5, epochs=80, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_30_interrupts_at_any_moment_leave_whole_steps(tmp_path: Path) -> None:
    interrupts(tmp_path, 30, epochs=250, seed=2)


def test_a_second_interrupt_stops_at_once() -> None:
    child = runs.start("slow", "", "verbose")
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    begun = time.monotonic()
    child.send_signal(signal.SIGINT)
    assert child.stderr is not None
    assert child.stderr.readline() == "\n"
    assert "press Ctrl-C again to stop at once" in child.stderr.readline()
    child.send_signal(signal.SIGINT)
    _, errors = runs.finish(child, -signal.SIGINT)
    assert errors.endswith("KeyboardInterrupt\n")
    assert "in loss" in errors
    assert time.monotonic() - begun < 20


def test_a_second_sigterm_stops_at_once(tmp_path: Path) -> None:
    child = runs.start("slow", tmp_path, "")
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    for _ in range(2):
        child.send_signal(signal.SIGTERM)
        time.sleep(0.3)  # two signals at once are one
    runs.finish(child, 143, timeout=20)
    assert runs.steps(tmp_path) == []


def test_sigterm_ends_the_process_after_the_step_with_a_checkpoint(tmp_path: Path) -> None:
    child = runs.start("ended", tmp_path)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    child.send_signal(signal.SIGTERM)
    _, errors = runs.finish(child, 143)
    assert "fit: interrupted at step" in errors
    (step,) = runs.steps(tmp_path)
    assert step >= 5
    assert nb.Trainer.resume(tmp_path, device="cpu").steps == step


def test_an_ending_pipe_does_not_matter(tmp_path: Path) -> None:
    """`python train.py 2>&1 | tee log`: Ctrl-C ends tee as well."""
    child = runs.start("ended", tmp_path, stderr=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stderr is not None
    assert child.stdout.readline() == "ready\n"
    child.stderr.close()
    child.send_signal(signal.SIGTERM)
    assert child.wait(20) == 143
    child.stdout.close()
    assert runs.steps(tmp_path)


# -- this process ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("point", ["write.data", "write.synced", "checkpoint.pruned", "epoch.closed", "step.done"])
def test_an_interrupt_waits_for_what_is_under_way(tmp_path: Path, whole: Any, point: str, capsys: Any) -> None:
    trainer = runs.make()
    runs.armed(point, interrupt, 1)
    rows = runs.fit(trainer, checkpoints=runs.keeper(tmp_path))
    assert trainer.interrupted
    assert rows is trainer.history
    assert trainer.steps < 3 * runs.BATCHES
    assert len(rows) == trainer.steps // runs.BATCHES
    assert not runs.differing(runs.standing(trainer), whole[1][trainer.steps])
    assert nb.Trainer.resume(tmp_path, device="cpu").steps == trainer.steps
    assert capsys.readouterr().err == (
        f"fit: interrupted at step {trainer.steps}, checkpoint in {tmp_path}; the same call goes on from here\n"
    )
    runs.fit(trainer, checkpoints=runs.keeper(tmp_path))
    assert not trainer.interrupted
    assert not runs.differing(runs.standing(trainer), runs.standing(whole[0]))


@pytest.mark.parametrize("moment", ["on_fit_begin", "on_step_end", "on_epoch_end", "on_fit_end", "metric"])
def test_an_interrupt_waits_for_callbacks_and_validation(whole: Any, moment: str, capsys: Any) -> None:
    times = iter(range(1000))

    def act(*given: Any) -> None:
        if next(times) == 0:
            interrupt()

    def accuracy(output: Any, target: Any) -> Any:
        act()
        return whole[0].metrics["accuracy"](output, target)

    once = nb.Callback()
    if moment != "metric":
        setattr(once, moment, act)
    trainer = runs.make(metrics=[accuracy if moment == "metric" else "accuracy"])
    runs.fit(trainer, callbacks=[once])
    expected = {"on_fit_end": 12, "on_epoch_end": 4, "metric": 4}.get(moment, 1)
    assert trainer.interrupted
    assert trainer.steps == expected
    assert not runs.differing(runs.standing(trainer), whole[1][expected])
    assert "fit: interrupted at step" in capsys.readouterr().err
    runs.fit(trainer, callbacks=[once])
    assert not trainer.interrupted
    assert not runs.differing(runs.standing(trainer), runs.standing(whole[0]))


def test_after_an_interrupt_another_fit_is_another_fit(capsys: Any) -> None:
    trainer = runs.make()
    runs.fit(trainer, 3, [runs.Here(5, interrupt)])
    runs.fit(trainer, 1)
    assert len(trainer.history) == 2
    assert trainer.steps == 5 + runs.BATCHES
    runs.fit(trainer, 3)
    assert len(trainer.history) == 5
    assert trainer.steps == 5 + 4 * runs.BATCHES


def test_errors_put_handlers_back(whole: Any) -> None:
    def fail() -> None:
        assert signal.getsignal(signal.SIGINT) != signal.default_int_handler
        raise RuntimeError("mine")

    trainer = runs.make()
    with pytest.raises(RuntimeError, match="mine"):
        runs.fit(trainer, callbacks=[runs.Here(5, fail)])
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert not trainer.interrupted
    with np.errstate(all="ignore"), pytest.raises(NonFiniteError):
        runs.fit(runs.make(optimizer=nb.optim.SGD(lr=1e30), schedule=None, schedule_every="epoch"), check=False)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with pytest.raises(KeyboardInterrupt):
        runs.fit(trainer, callbacks=[runs.Here(7, lambda: (interrupt(), interrupt()))])
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert trainer.interrupted
    runs.fit(trainer)
    assert not trainer.interrupted
    assert not runs.differing(runs.standing(trainer), runs.standing(whole[0]))


def test_a_signal_while_handlers_are_put_back_changes_nothing(monkeypatch: Any) -> None:
    signals, put_back = Interrupts(), signal.signal

    def slow(number: int, handler: Any) -> Any:
        if handler == signal.SIG_DFL:
            interrupt()
            interrupt()
        return put_back(number, handler)

    with signals:
        monkeypatch.setattr(signal, "signal", slow)
    assert signals.caught == signal.SIGINT


def test_handlers_of_others_stay() -> None:
    caught = []

    def mine(number: int, frame: Any) -> None:
        caught.append(number)

    before = signal.signal(signal.SIGINT, mine)
    try:
        trainer = runs.make()
        runs.fit(trainer, callbacks=[runs.Here(2, interrupt)])
        assert signal.getsignal(signal.SIGINT) is mine
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # as with nohup
        runs.fit(trainer, callbacks=[runs.Here(14, interrupt)])
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert caught == [signal.SIGINT]
    assert not trainer.interrupted
    assert trainer.steps == 24


def test_another_thread_touches_no_handler(whole: Any) -> None:
    trainer, found = runs.make(), []
    look = runs.Here(3, lambda: found.extend(signal.getsignal(number) for number in SIGNALS))
    thread = threading.Thread(target=runs.fit, args=(trainer, 3, [look]))
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    assert found == [signal.default_int_handler, signal.SIG_DFL]
    assert not runs.differing(runs.standing(trainer), runs.standing(whole[0]))


def test_a_fit_in_a_callback_of_another(whole: Any, capsys: Any) -> None:
    """The interrupt is the outer fit's: the inner one runs to its end."""
    outer, inner = runs.make(), runs.make()
    runs.fit(outer, callbacks=[runs.Here(6, lambda: runs.fit(inner, callbacks=[runs.Here(2, interrupt)]))])
    assert outer.interrupted
    assert outer.steps == 6
    assert not inner.interrupted
    assert not runs.differing(runs.standing(inner), runs.standing(whole[0]))
    runs.fit(outer)
    assert not runs.differing(runs.standing(outer), runs.standing(whole[0]))
