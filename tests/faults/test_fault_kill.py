"""Line 92, 112 and 134 of faults.md: a run that is killed, anywhere, again and again, ends as if nobody had."""

from __future__ import annotations

import os
import random
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import runs

import nnbackend as nb
from nnbackend.errors import CorruptCheckpointError

pytestmark = pytest.mark.skipif(os.name != "posix", reason="POSIX only")
EPOCHS = 20
TEMPORARY = re.compile(r"\.nnbackend-[0-9a-f]{16}\.tmp")


def expect_sound(folder: Path, after: dict[int, Any]) -> int:
    """Every file is whole and of a whole step; returns the newest step."""
    newest = 0
    for path in folder.glob("*.safetensors"):
        found = runs.content(path)
        step = found["steps"]
        assert not runs.differing(found, {name: after[step][name] for name in found}), path
        if path.name != "best.safetensors":
            newest = max(newest, step)
    return newest


def chains(place: Path, kills: int, seed: int) -> tuple[int, int]:
    """Kill runs until so many kills have been done, and each has come to its end; returns (torn writes, chains)."""
    place.mkdir(exist_ok=True)
    digests, moments = runs.Digests(), random.Random(seed)
    runs.fit(runs.make(), EPOCHS, [digests])
    begun = time.monotonic()
    expected, _ = runs.finish(runs.start("kill", place / "whole", EPOCHS))
    life = time.monotonic() - begun
    number = torn = 0
    while kills > 0:
        number += 1
        folder, newest, done = place / f"chain {number}", 0, False
        while not done:
            left = {path.name for path in folder.glob(".nnbackend-*")} if folder.exists() else set()
            for name in left:
                os.utime(folder / name, (time.time() - 120,) * 2)  # as if the next start came two minutes later
            child = runs.start("kill", folder, EPOCHS)
            if kills > 0:
                try:
                    child.wait(moments.uniform(0, life))
                except subprocess.TimeoutExpired:
                    kills -= 1
                    child.kill()
                    child.communicate(timeout=20)
                    if folder.exists():
                        temporary = [path.name for path in folder.iterdir() if path.suffix != ".safetensors"]
                        assert all(TEMPORARY.fullmatch(name) for name in temporary), temporary
                        torn += len(set(temporary) - left)
                        before, newest = newest, expect_sound(folder, digests.after)
                        assert newest >= before
                    continue
            found, _ = runs.finish(child)
            assert not runs.differing(found, expected), f"chain {number} of seed {seed}"
            done = True
        assert sorted(os.listdir(folder)) == sorted(expected["files"])
    return torn, number


def test_a_run_that_is_killed_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    chains(tmp_path, 6, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_run_that_is_killed_50_times_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    torn, _ = chains(tmp_path / "2", 50, seed=2)
    for seed in (3, 4, 5):  # until one of the kills comes in the middle of a write, as two in 50 do
        if not torn:
            torn, _ = chains(tmp_path / str(seed), 50, seed)
    assert torn


def test_every_checkpoint_is_one_to_go_on_from(tmp_path: Path) -> None:
    """Line 112: from each step of a run, in the middle of epochs and at their ends, to the same end."""

    class Copies(nb.Callback):
        def on_step_end(self, trainer: nb.Trainer) -> None:
            trainer.save_checkpoint(tmp_path / f"{trainer.steps}.safetensors")

    whole = runs.make()
    runs.fit(whole, 3, [Copies()])
    for step in range(1, 3 * runs.BATCHES):
        trainer = nb.Trainer.resume(tmp_path / f"{step}.safetensors", device="cpu")
        assert trainer.steps == step
        runs.fit(trainer, 3)
        assert not runs.differing(runs.standing(trainer), runs.standing(whole)), step
        assert runs.differing(runs.standing(runs.make()), runs.standing(whole))


def test_a_damaged_newest_checkpoint_is_passed_over_and_does_not_count(tmp_path: Path) -> None:
    whole, folder = runs.make(), tmp_path / "run"
    runs.fit(whole, 3)

    found = []

    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        runs.fit(runs.make(), 3, [runs.Here(7, stop)], checkpoints=runs.keeper(folder))
    newest = folder / "step-0000000006.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    trainer = runs.make()
    look = [runs.Here(step, lambda: found.append(runs.steps(folder))) for step in (7, 8)]
    with pytest.warns(UserWarning, match=r"step-0000000006.*Going on with the one before"):
        runs.fit(trainer, 3, look, checkpoints=runs.keeper(folder, 7), resume=True)
    assert not runs.differing(runs.standing(trainer), runs.standing(whole))
    assert found == [[4, 6], [4, 7]]


def test_damaged_checkpoints_alone_are_an_error(tmp_path: Path) -> None:
    runs.fit(runs.make(), 1, checkpoints=runs.keeper(tmp_path))
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    trainer = runs.make()
    before = runs.standing(trainer)
    expected = pytest.raises(CorruptCheckpointError, match="step-0000000002")
    with pytest.warns(UserWarning, match="Going on with"), expected:
        runs.fit(trainer, 1, checkpoints=runs.keeper(tmp_path), resume=True)
    assert runs.standing(trainer) == before


def test_an_empty_folder_is_nothing_to_go_on_from(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"expected checkpoints \(step-\*.safetensors\), got none"):
        nb.Trainer.resume(tmp_path)
    with pytest.raises(FileNotFoundError):
        nb.Trainer.resume(tmp_path / "none")
