"""Lines 33, 110, 112 and 134 of faults.md: at each named point something goes wrong, and the same fit goes on."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import runs

import nnbackend as nb
from nnbackend import crash
from nnbackend.errors import CheckpointWriteError, NonFiniteError
from nnbackend.io.safetensors import read

POINTS = [
    "checkpoint.pruned",
    "checkpoint.snapshot",
    "checkpoint.written",
    "epoch.closed",
    "resume.after",
    "resume.before",
    "step.done",
    "write.created",
    "write.data",
    "write.header",
    "write.replaced",
    "write.synced",
]
WRITING = ["write.created", "write.data", "write.header", "write.synced"]
BATCHES = runs.BATCHES
BEGUN = 5  # steps of the run that goes on, with its newest checkpoint at 4


class Mine(Exception):
    pass


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    crash.armed.clear()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: Any) -> tuple[dict[str, Any], dict[int, Any]]:
    """A run in which all goes well, and where it stands after each step; without the digests it is the same."""
    folder, digests = tmp_path_factory.mktemp("whole"), runs.Digests()
    digests.after[0] = runs.standing(runs.make())
    runs.fit(runs.make(), 3, [digests])
    trainer, seen, kept = runs.make(), runs.Seen(), runs.keeper(folder)
    runs.fit(trainer, 3, [seen], checkpoints=kept)
    return runs.facts(trainer, folder, seen, kept), digests.after


@pytest.fixture(scope="module")
def begun(tmp_path_factory: Any) -> Path:
    """The folder of a run that got to step 5."""
    folder = tmp_path_factory.mktemp("begun")
    with pytest.raises(Mine):
        runs.fit(runs.make(), 3, [runs.Seen(), runs.Here(BEGUN, raising(Mine()))], checkpoints=runs.keeper(folder))
    assert runs.steps(folder) == [2, 4]
    return folder


def raising(error: BaseException) -> Any:
    def act(*given: Any) -> None:
        raise error

    return act


def expect_sound(folder: Path, after: dict[int, Any]) -> None:
    """The files are those of whole steps, and one can go on from them; nothing else is there."""
    assert {path.suffix for path in folder.iterdir()} == {".safetensors"}
    for path in folder.iterdir():
        found = runs.content(path)
        assert not runs.differing(found, {name: after[found["steps"]][name] for name in found}), path
    trainer = nb.Trainer.resume(folder, device="cpu")
    assert trainer.steps == runs.steps(folder)[-1] >= 4
    assert not runs.differing(runs.standing(trainer), after[trainer.steps])


@pytest.mark.parametrize(
    "failure",
    [OSError(errno.ENOSPC, "full"), KeyboardInterrupt(), pytest.param(MemoryError(), marks=pytest.mark.slow)],
    ids=lambda failure: type(failure).__name__,
)
@pytest.mark.parametrize("point", POINTS)
def test_after_a_failure_the_same_fit_goes_on(
    tmp_path: Path, whole: Any, begun: Path, point: str, failure: BaseException
) -> None:
    expected, after = whole
    folder = Path(shutil.copytree(begun, tmp_path / "run"))
    trainer, seen, kept = runs.make(), runs.Seen(), runs.keeper(folder, on_error="stop")
    runs.armed(point, raising(failure))
    with pytest.raises(type(failure)) as caught:
        runs.fit(trainer, 3, [seen], checkpoints=kept, resume=True)
    writing = isinstance(failure, OSError) and point.startswith("write")
    assert (caught.value.__cause__ if writing else caught.value) is failure
    assert not runs.differing(runs.standing(trainer), after[trainer.steps])
    assert trainer.steps == (0 if point == "resume.before" else trainer.steps)
    assert not trainer.interrupted
    expect_sound(folder, after)
    crash.armed.clear()
    runs.fit(trainer, 3, [seen], checkpoints=kept, resume=True)
    assert not runs.differing(runs.facts(trainer, folder, seen, kept), expected)


@pytest.mark.parametrize("point", [point for point in POINTS if "resume" not in point])
def test_a_fit_goes_on_in_memory(tmp_path: Path, whole: Any, point: str) -> None:
    """Later in a run, and without resume: from where the model stands, not from a file."""
    expected, after = whole
    trainer, kept = runs.make(), runs.keeper(tmp_path, on_error="stop")
    runs.armed(point, raising(MemoryError()), 2)
    with pytest.raises(MemoryError):
        runs.fit(trainer, 3, checkpoints=kept)
    assert trainer.steps > 1
    assert not runs.differing(runs.standing(trainer), after[trainer.steps])
    crash.armed.clear()
    runs.fit(trainer, 3, checkpoints=kept)
    final = {name: expected[name] for name in runs.standing(trainer)}
    assert not runs.differing(runs.standing(trainer), final)
    assert runs.steps(tmp_path)[-1] == 3 * BATCHES


@pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX only")
@pytest.mark.parametrize("skip", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_after_the_end_of_a_process_another_goes_on(tmp_path: Path, whole: Any, begun: Path, skip: int) -> None:
    points = [point for point in POINTS if skip == 0 or "resume" not in point]
    for point in points:
        shutil.copytree(begun, tmp_path / point)
    codes, _ = runs.finish(runs.start("crashes", tmp_path, skip, *points))
    assert codes == {point: [9, 0] for point in points}
    for point in points:
        found = json.loads((tmp_path / f"{point}.json").read_text())
        torn = {name: found["files"].pop(name) for name in list(found["files"]) if name.startswith(".nnbackend-")}
        assert len(torn) == (point in WRITING), point  # it is not a minute old
        assert not runs.differing(found, whole[0]), point


def test_points_are_off(tmp_path: Path, monkeypatch: Any) -> None:
    class Untouched(dict[str, Any]):
        def __contains__(self, name: object) -> bool:
            raise AssertionError(name)

        __getitem__ = __contains__

    assert crash.armed == {}
    monkeypatch.setattr(crash, "armed", Untouched())
    runs.fit(runs.make(), 1, checkpoints=runs.keeper(tmp_path))
    runs.fit(runs.make(), 2, checkpoints=runs.keeper(tmp_path), resume=True)


def test_all_points_are_known() -> None:
    text = "".join(path.read_text() for path in (runs.ROOT / "nnbackend").rglob("*.py"))
    assert sorted(re.findall(r'crash\.point\("([^"]+)"\)', text)) == POINTS


# -- callbacks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("moment", "expected"), [("on_fit_begin", 0), ("on_step_end", 1), ("on_epoch_end", 4), ("on_fit_end", 12)]
)
def test_an_error_in_a_callback(tmp_path: Path, whole: Any, moment: str, expected: int) -> None:
    final, after = whole
    bad, folder = nb.Callback(), tmp_path / "run"

    def fail(*given: Any) -> None:
        raise Mine

    setattr(bad, moment, fail)
    trainer = runs.make()
    with pytest.raises(Mine) as caught:
        runs.fit(trainer, 3, [bad], checkpoints=runs.keeper(folder, 3))
    assert caught.traceback[-1].name == "fail"
    assert caught.value.__cause__ is None
    assert trainer.steps == expected
    assert not runs.differing(runs.standing(trainer), after[expected])
    assert runs.steps(folder) == [n for n in (3, 6, 9, 12) if n < expected or n == expected == 12][-2:]
    delattr(bad, moment)
    runs.fit(trainer, 3, [bad], checkpoints=runs.keeper(folder, 3))
    assert not runs.differing(runs.standing(trainer), {name: final[name] for name in after[1]})
    assert runs.steps(folder) == [9, 12]


def test_an_error_in_a_callback_does_not_hide_the_best_epoch(tmp_path: Path) -> None:
    whole, trainer, kept = runs.make(), runs.make(), runs.keeper(tmp_path)
    rows = runs.fit(whole).rows
    assert rows[2]["val_loss"] == min(row["val_loss"] for row in rows)
    fails = iter([False, False, True])

    def fail(trainer: nb.Trainer, row: dict[str, Any]) -> None:
        if next(fails, False):
            raise Mine

    with pytest.raises(Mine):
        runs.fit(trainer, callbacks=[fail], checkpoints=kept)
    assert kept.best_value == rows[1]["val_loss"]
    runs.fit(trainer, callbacks=[fail], checkpoints=kept)
    assert kept.best_value == rows[2]["val_loss"]
    assert runs.content(tmp_path / "best.safetensors")["steps"] == 3 * BATCHES


# -- other threads ---------------------------------------------------------------------------------------------------


def test_what_other_threads_save_are_whole_steps(tmp_path: Path) -> None:
    digests, trainer, asked, errors = runs.Digests(), runs.make(), [], []
    runs.fit(runs.make(), 20, [digests])
    digests.after[0] = runs.standing(runs.make())
    over = threading.Event()

    def save(name: int) -> None:
        try:
            while not over.is_set():
                path = tmp_path / f"{name}-{len(asked)}.safetensors"
                trainer.save_checkpoint(path)
                asked.append(path)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=save, args=(name,), daemon=True) for name in range(2)]
    for thread in threads:
        thread.start()
    runs.fit(trainer, 20)
    over.set()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert not errors
    assert len(asked) > 20
    found = [runs.content(path) for path in asked]
    for content in found:
        assert not runs.differing(content, {name: digests.after[content["steps"]][name] for name in content})
    assert len({content["steps"] for content in found}) > 20
    middle = next(p for p, content in zip(asked, found, strict=True) if content["steps"] not in (0, 80))
    again = nb.Trainer.resume(middle, device="cpu")
    runs.fit(again, 20)
    assert not runs.differing(runs.standing(again), runs.standing(trainer))


def test_a_save_that_is_asked_for_when_the_fit_ends_is_answered(tmp_path: Path) -> None:
    trainer, ending, saved = runs.make(), threading.Semaphore(0), threading.Semaphore(0)
    count, digests = 60, runs.Digests()

    def save() -> None:
        for i in range(count):
            assert ending.acquire(timeout=20)
            trainer.save_checkpoint(tmp_path / f"{i}.safetensors")
            saved.release()

    thread = threading.Thread(target=save, daemon=True)
    thread.start()
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for i in range(count):
            runs.fit(trainer, 1, callbacks=[digests, runs.Here(BATCHES * (i + 1), ending.release)])
            assert saved.acquire(timeout=20)
        thread.join(20)
    finally:
        sys.setswitchinterval(before)
    assert not thread.is_alive()
    for i in range(count):
        found = runs.content(tmp_path / f"{i}.safetensors")
        assert found["steps"] == BATCHES * (i + 1)
        assert not runs.differing(found, {name: digests.after[found["steps"]][name] for name in found})


def test_no_fit_begins_while_another_thread_writes(tmp_path: Path) -> None:
    """A file of a model that stands still is whole, too."""
    trainer, writing, steps = runs.make(), threading.Event(), []

    def wait() -> None:
        writing.set()
        threading.Event().wait(0.2)
        steps.append(trainer.steps)

    runs.armed("checkpoint.snapshot", wait)
    thread = threading.Thread(target=trainer.save_checkpoint, args=(tmp_path / "x.safetensors",), daemon=True)
    thread.start()
    assert writing.wait(20)
    runs.fit(trainer, 1)
    thread.join(20)
    assert not thread.is_alive()
    assert steps == [0]
    assert runs.content(tmp_path / "x.safetensors")["steps"] == 0


def test_a_save_that_waits_for_a_torn_step_says_so(tmp_path: Path) -> None:
    errors: list[BaseException] = []
    inside, asked = threading.Event(), threading.Event()

    def accuracy(output: Any, target: Any) -> Any:
        inside.set()
        asked.wait(20)
        raise Mine

    trainer = runs.make(metrics=[accuracy])

    def save() -> None:
        inside.wait(20)
        try:
            trainer.save_checkpoint(tmp_path / "x.safetensors")
        except CheckpointWriteError as error:
            errors.append(error)

    def release() -> None:  # once the request is there
        while not (trainer._run and trainer._run.asked) and not inside.wait(0.01):
            pass
        while trainer._run and not trainer._run.asked:
            pass
        asked.set()

    threads = [threading.Thread(target=work, daemon=True) for work in (save, release)]
    for thread in threads:
        thread.start()
    with pytest.raises(Mine):
        runs.fit(trainer, 1)
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert "got an error in one" in str(errors[0])
    assert not list(tmp_path.iterdir())


# -- numbers that are none -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_no_checkpoint_of_a_model_that_is_not_finite(tmp_path: Path, whole: Any, bad: float) -> None:
    """In the middle of an epoch a step breaks the weights; its own loss is still finite."""
    trainer = runs.make()

    def spoil() -> None:
        trainer.net[4].weight.assign(nb.tensor(np.full((3, 8), bad, "float32")))

    with np.errstate(all="ignore"), pytest.raises(NonFiniteError):
        runs.fit(trainer, 3, [runs.Seen(), runs.Here(6, spoil)], checkpoints=runs.keeper(tmp_path))
    assert runs.steps(tmp_path) == [2, 4]
    for path in tmp_path.iterdir():
        assert all(np.all(np.isfinite(array)) for array in read(path)[0].values())
    again, seen, kept = runs.make(), runs.Seen(), runs.keeper(tmp_path)
    runs.fit(again, 3, [seen], checkpoints=kept, resume=True)
    assert not runs.differing(runs.facts(again, tmp_path, seen, kept), whole[0])
