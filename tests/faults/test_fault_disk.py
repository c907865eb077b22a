"""Lines 84, 94, 95 and 114 of faults.md: a run on a disk that refuses, and in too little memory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import runs

import nnbackend as nb
from nnbackend.errors import CheckpointWriteError

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX only")


@pytest.fixture(scope="module")
def after() -> dict[int, Any]:
    """Where a run stands after each step when the disk takes all."""
    digests = runs.Digests()
    runs.fit(runs.make(), 3, [digests])
    return digests.after


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if (
        not sys.platform.startswith("linux")
        or os.geteuid() != 0
        or subprocess.run(command, capture_output=True).returncode
    ):
        pytest.skip("only those who may mount can test this")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True, timeout=20)


@posix
def test_a_disk_that_refuses_large_files(tmp_path: Path, after: dict[int, Any]) -> None:
    found, _ = runs.finish(runs.start("limited", tmp_path))
    for name, steps in (("passing", 12), ("lasting", 12), ("stop", 6)):
        assert found[name]["steps"] == steps
        assert not runs.differing(found[name]["standing"], after[steps])
        for file in found[name]["files"]:
            content = runs.content(tmp_path / name / file)
            assert not runs.differing(content, {each: after[content["steps"]][each] for each in content})
    message = r".*step-0*(\d+)\.safetensors: expected to write \d+ bytes, got File too large \(\d+ bytes free\)\. .*"
    refused = {
        name: [int(match[1]) for text in run["warnings"] if (match := re.fullmatch(message, text))]
        for name, run in found.items()
    }
    assert refused == {"passing": [6, 8], "lasting": [6, 8, 10, 12], "stop": []}
    assert all(text.endswith("Training goes on.") for run in found.values() for text in run["warnings"])
    assert found["passing"]["error"] is None
    for name, step in (("lasting", 12), ("stop", 6)):  # what is last is an error
        assert re.fullmatch(message, found[name]["error"])[1] == f"{step}"  # type: ignore[index]
        assert found[name]["files"][-2:] == ["step-0000000002.safetensors", "step-0000000004.safetensors"]
    assert found["passing"]["files"][-2:] == ["step-0000000010.safetensors", "step-0000000012.safetensors"]


def test_a_full_disk(small: Path, after: dict[int, Any]) -> None:
    def fill() -> None:
        with open(small / "other", "wb", buffering=0) as file:
            while os.statvfs(small).f_bavail:
                file.write(bytes(4096))

    trainer, folder = runs.make(), small / "run"
    with pytest.raises(
        CheckpointWriteError, match=r"expected to write \d+ bytes, got No space left.* \(\d+ bytes free\)"
    ):
        runs.fit(trainer, 3, [runs.Here(5, fill)], checkpoints=runs.keeper(folder, on_error="stop"))
    assert trainer.steps == 6
    assert not runs.differing(runs.standing(trainer), after[6])
    assert sorted(os.listdir(folder)) == [
        "best.safetensors",
        "step-0000000002.safetensors",
        "step-0000000004.safetensors",
    ]
    for path in folder.iterdir():
        assert runs.content(path)["steps"] in (2, 4)
    (small / "other").unlink()
    runs.fit(trainer, 3, checkpoints=runs.keeper(folder, on_error="stop"))
    assert not runs.differing(runs.standing(trainer), after[12])
    assert runs.steps(folder) == [10, 12]


def test_a_read_only_disk_is_an_error_before_the_first_step(small: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True, timeout=20)
    for folder in (small, small / "run"):
        expect_refused(folder, "Read-only file system")


def expect_refused(folder: Path, message: str) -> None:
    trainer = runs.make()
    with pytest.raises(CheckpointWriteError, match=message):
        runs.fit(trainer, 1, [runs.Here(1, lambda: pytest.fail("a step"))], checkpoints=folder)
    assert trainer.steps == 0
    assert not runs.differing(runs.standing(trainer), runs.standing(runs.make()))


def test_places_that_cannot_be_written_are_errors_before_the_first_step(tmp_path: Path, monkeypatch: Any) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    expect_refused(file, "File exists")
    expect_refused(file / "run", "Not a directory")
    assert file.read_text() == "mine"
    closed = tmp_path / "closed"
    closed.mkdir(0o500)
    if hasattr(os, "geteuid") and os.geteuid() == 0:  # nothing is closed to root

        def refuse(path: Any, flags: int, *args: Any, **kw: Any) -> int:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("builtins.open", refuse)
    expect_refused(closed, "Permission denied")


def test_a_missing_folder_is_made(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    runs.fit(runs.make(), 1, checkpoints=folder)
    assert os.listdir(folder) == ["step-0000000004.safetensors"]


@pytest.mark.parametrize("keep", [1, 2, 5])
def test_the_last_ones_and_the_best_stay(tmp_path: Path, keep: int) -> None:
    found: list[list[int]] = []

    class Look(nb.Callback):
        def on_step_end(self, trainer: nb.Trainer) -> None:
            found.append(runs.steps(tmp_path))

    kept = runs.keeper(tmp_path, 1, keep=keep)
    trainer = runs.make()
    runs.fit(trainer, 5, [Look()], checkpoints=kept)
    written = list(range(1, 21))
    assert found == [written[: step - 1][-keep:] for step in range(1, 21)]
    assert runs.steps(tmp_path) == written[-keep:]
    losses = [row["val_loss"] for row in trainer.history.rows]
    best = runs.content(tmp_path / "best.safetensors")
    assert best["steps"] == (losses.index(min(losses)) + 1) * runs.BATCHES
    assert kept.best_value == min(losses)


def test_an_old_one_that_cannot_be_taken_away_is_a_warning(tmp_path: Path, monkeypatch: Any, after: Any) -> None:
    def refuse(path: Path, missing_ok: bool = False) -> None:
        assert (tmp_path / "step-0000000006.safetensors").exists()  # the new one is safe first
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    trainer = runs.make()
    with pytest.warns(UserWarning, match="expected to take away an old checkpoint, got Permission denied") as caught:
        runs.fit(trainer, 3, checkpoints=runs.keeper(tmp_path))
    assert len(caught) == 1 + 2 + 3 + 4
    assert runs.steps(tmp_path) == [2, 4, 6, 8, 10, 12]
    assert not runs.differing(runs.standing(trainer), after[12])


def test_a_best_one_that_was_not_written_is_not_the_one_to_beat(tmp_path: Path, monkeypatch: Any) -> None:
    kept = nb.Checkpoints(tmp_path, best="loss")

    def refuse(path: Path) -> None:
        raise CheckpointWriteError("full")

    assert kept.improved({"loss": 5.0})
    assert kept.write(lambda path: None, 1, best=True)
    assert kept.improved({"loss": 1.0})
    with pytest.warns(UserWarning, match=r"full Training goes on\."):
        assert kept.write(refuse, 2, best=True) is None
    assert not kept.improved({"loss": 6.0})
    assert kept.improved({"loss": 2.0})
    assert kept.best_value == 2.0


def test_checkpoints_of_a_later_run_are_not_passed_over(tmp_path: Path, after: Any) -> None:
    runs.fit(runs.make(), 2, checkpoints=runs.keeper(tmp_path))
    before = sorted(os.listdir(tmp_path))
    trainer = runs.make()
    with pytest.raises(ValueError, match=r"which is at step 0, got one of step 8\. Go on from there with resume=True"):
        runs.fit(trainer, 3, checkpoints=runs.keeper(tmp_path))
    assert trainer.steps == 0
    assert sorted(os.listdir(tmp_path)) == before
    runs.fit(trainer, 3, checkpoints=runs.keeper(tmp_path), resume=True)
    assert not runs.differing(runs.standing(trainer), after[12])


def test_after_a_refused_start_the_fit_still_goes_on(tmp_path: Path, after: Any) -> None:
    """What was cut short is not forgotten because the folder is wrong."""

    def fail() -> None:
        raise InterruptedError

    trainer = runs.make()
    with pytest.raises(InterruptedError):
        runs.fit(trainer, 3, [runs.Here(5, fail)])
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointWriteError):
        runs.fit(trainer, 3, checkpoints=tmp_path / "file")
    runs.fit(trainer, 3, checkpoints=tmp_path / "run")
    assert not runs.differing(runs.standing(trainer), after[12])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux only")
def test_saves_and_loads_in_too_little_memory(tmp_path: Path) -> None:
    found, _ = runs.finish(runs.start("memory", tmp_path))
    assert {outcome for *_, outcome, _ in found} == {"MemoryError", "done"}, found
    assert [entry[2] for entry in found if entry[1] == 200] == ["done", "done"]
    assert not [entry for entry in found if entry[-1]]
