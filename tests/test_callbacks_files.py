"""Callbacks that write files: models, CSV, JSON lines."""

import csv
import json
import math
import os
import resource

import numpy as np
import pytest
from resume_case import LABELS, SECOND, X, fit_quietly, maker

import nnbackend as nb
from nnbackend import callbacks
from nnbackend.callbacks import logs
from nnbackend.callbacks.files import Log
from nnbackend.errors import CheckpointWriteError, DataError

FULL = fit_quietly(X, LABELS, epochs=3, batch_size=8, validation_data=SECOND)
LOGS = {"csv": callbacks.CSVLogger, "jsonl": callbacks.JSONLogger}


def table(path):
    """What csv or json say of a file."""
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    with open(path, newline="") as file:
        return [{name: float(x) for name, x in row.items() if x} for row in csv.DictReader(file)]


@pytest.fixture(params=LOGS)
def log(request, tmp_path):
    """A kind of log, and a file in a folder that is not there yet."""
    return LOGS[request.param], tmp_path / "runs" / f"log.{request.param}"


# -- logs -------------------------------------------------------------------------------------------------------------


def test_every_row_is_there_to_the_bit_when_the_epoch_is_over(log):
    kind, path = log
    lengths = []
    trainer = maker(metrics=["accuracy"])()
    FULL(trainer, callbacks=[kind(path), lambda trainer, row: lengths.append(len(table(path)))])
    assert lengths == [1, 2, 3]
    assert table(path) == trainer.history.rows
    assert list(table(path)[0]) == ["epoch", "loss", "accuracy", "val_loss", "val_accuracy"]


def test_names_that_come_later(log):
    kind, path = log

    def late(trainer, row):
        if row["epoch"] == 2:
            row["late, and odd"] = 0.5

    trainer = maker()()
    FULL(trainer, callbacks=[late, kind(path)])
    assert table(path) == trainer.history.rows


def test_what_is_not_finite(tmp_path):
    def odd(trainer, row):
        row |= {"a": math.nan, "b": -math.inf, "c": np.float32(0.5), "d": None, "e": "words, words"}

    logs = [kind(tmp_path / f"log.{end}") for end, kind in LOGS.items()]
    fit_quietly(epochs=1)(maker()(), callbacks=[odd, *logs])
    said = json.loads((tmp_path / "log.jsonl").read_text())
    assert [said[name] for name in "abcde"] == [None, None, 0.5, None, "words, words"]
    assert (tmp_path / "log.csv").read_text().splitlines()[1].partition(",")[2].partition(",")[2] == (
        'nan,-inf,0.5,,"words, words"'
    )


def test_another_run_starts_anew_or_is_appended(log):
    kind, path = log
    first, second = maker()(), maker(seed=2)()
    FULL(first, callbacks=[kind(path)])
    FULL(second, callbacks=[kind(path)])
    assert table(path) == second.history.rows
    FULL(first, callbacks=[kind(path, append=True)])
    assert len(first.history) == 6
    assert table(path) == [*second.history.rows, *first.history.rows[3:]]
    FULL(first, callbacks=[kind(path)])  # only what is its own stays
    assert table(path) == first.history.rows[3:]


@pytest.mark.parametrize("append", [False, True])
def test_rows_beyond_the_place_where_a_run_goes_on_are_cut(log, tmp_path, append):
    kind, path = log
    other, whole = maker(seed=2)(), maker()()
    FULL(other, callbacks=[kind(path)])
    before = table(path) if append else []
    FULL(whole, callbacks=[kind(path, append)], checkpoints=nb.Checkpoints(tmp_path / "c", every=1, keep=99))
    text = path.read_bytes()
    for step in (3, 4) if append else (1, 3, 4):  # in the first epoch there is no history to know its rows by
        with open(path, "ab") as file:
            file.write(b"4,0.12")  # torn by the death of the process
        trainer = nb.Trainer.resume(tmp_path / "c" / f"step-{step:010d}.safetensors", device="cpu")
        FULL(trainer, callbacks=[kind(path, append)])
        assert path.read_bytes() == text
    assert table(path) == [*before, *whole.history.rows]
    done = []
    trainer = nb.Trainer.resume(tmp_path / "c" / "step-0000000003.safetensors", device="cpu")
    FULL(trainer, callbacks=[kind(path, append), callbacks.Lambda(on_fit_begin=lambda t: done.append(table(path)))])
    assert done == [[*before, *whole.history.rows[:1]]]


def test_a_file_that_is_no_log_stays_as_it_is(log):
    kind, path = log
    path.parent.mkdir()
    for text in (b"a,b\n1,2,3\n", b"{}\n\n[1]\n", b"\xff\xfe\n", b'a,b\n"1,2\n'):
        path.write_bytes(text)
        with pytest.raises(DataError, match=r"log\.\w+: expected the log of a run, to go on with, got"):
            FULL(maker()(), callbacks=[kind(path, append=True)])
        assert path.read_bytes() == text


# -- disks ------------------------------------------------------------------------------------------------------------

WRITERS = {
    "csv": lambda path: callbacks.CSVLogger(path / "log.csv"),
    "json": lambda path: callbacks.JSONLogger(path / "log.jsonl"),
    "tensorboard": callbacks.TensorBoard,
    "models": lambda path: callbacks.ModelCheckpoint(path / "{epoch}" / "{loss:.2f}.safetensors"),
    "model": lambda path: callbacks.ModelCheckpoint(path / "m.safetensors"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_folder_that_cannot_be_is_an_error_before_training(tmp_path, name):
    (tmp_path / "file").write_text("here")
    trainer = maker()()
    with pytest.raises(CheckpointWriteError, match=r"file.*: expected to make this folder, got"):
        FULL(trainer, callbacks=[WRITERS[name](tmp_path / "file")])
    assert trainer.steps == 0
    assert (tmp_path / "file").read_text() == "here"


def test_a_file_that_cannot_be_written_is_an_error_before_training(log):
    kind, path = log
    path.mkdir(parents=True)
    trainer = maker()()
    for callback in (kind(path), callbacks.ModelCheckpoint(path)):
        with pytest.raises(CheckpointWriteError, match="a folder, a device or a pipe"):
            FULL(trainer, callbacks=[callback])
    assert trainer.steps == 0


class Fills(nb.Callback):
    """After the first epoch every write to one of these files fails: the disk is full."""

    def __init__(self, folder):
        self.folder = folder

    def on_epoch_end(self, trainer, row):
        if row["epoch"] == 1:
            for path in [p for p in self.folder.rglob("*") if p.is_file()]:
                os.rename(path, f"{path}.was")
                os.symlink("/dev/full", path)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
@pytest.mark.parametrize("name", ["csv", "json", "tensorboard", "model"])
def test_a_disk_that_fills_up_is_a_warning_and_training_goes_on(tmp_path, name):
    trainer = maker()()
    with pytest.warns(UserWarning, match="Training goes on") as said:
        FULL(trainer, callbacks=[WRITERS[name](tmp_path), Fills(tmp_path)])
    assert len(trainer.history) == 3
    assert len(said) == (2 if name == "model" else 1)  # each model that is not there is worth a word
    assert ("No space left on device" in str(said[0].message)) == (name != "model")


@pytest.mark.parametrize("damage", [b"", b"a,b\n1,2,3\n"])
def test_a_column_that_cannot_be_added_leaves_the_table_as_it_is(tmp_path, monkeypatch, damage):
    path = tmp_path / "log.csv"

    def late(trainer, row):
        if row["epoch"] == 2:
            row["late"] = 0.5
            if damage:
                path.write_bytes(damage)
            else:
                monkeypatch.setattr(logs, "replace_file", full)

    def full(path, chunks):
        raise CheckpointWriteError("no room.")

    trainer = maker()()
    with pytest.warns(UserWarning, match=r"CSVLogger: expected to write a row\..* Training goes on") as said:
        fit_quietly(epochs=3)(trainer, callbacks=[late, callbacks.CSVLogger(path)])
    assert len(said) == 1
    if not damage:
        assert table(path) == [trainer.history[0], trainer.history[2]]


def test_what_does_not_fit_leaves_no_part_of_a_row(tmp_path):
    path, log = tmp_path / "log", Log()
    log.append(path, b"a row\n")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        with pytest.warns(UserWarning, match="Log: expected to write a row.*File too large"):
            log.append(path, b"another row\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == b"a row\n"
    log.append(path, b"another row\n")
    assert path.read_bytes() == b"a row\nanother row\n"


# -- models -----------------------------------------------------------------------------------------------------------


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_models_with_numbers_in_their_names(tmp_path):
    trainer = maker(metrics=["accuracy"])()
    saved = callbacks.ModelCheckpoint(
        tmp_path / "{epoch:03d}" / "{val_accuracy:.2f}-{val_loss:.3f}.safetensors", every=2
    )
    outputs = []
    FULL(trainer, callbacks=[saved, lambda trainer, row: outputs.append(trainer.predict(X))])
    row = trainer.history[1]
    assert names(tmp_path) == [f"002/{row['val_accuracy']:.2f}-{row['val_loss']:.3f}.safetensors"]
    net = nb.load(next(tmp_path.rglob("*.safetensors")))
    np.testing.assert_array_equal(net(nb.tensor(X)).numpy(), outputs[1])


@pytest.mark.parametrize("kw", [{"monitor": "score", "mode": "max"}, {"save_best_only": True}])
def test_only_the_best(tmp_path, kw):
    values = iter([0.2, 0.3, math.nan, 0.3, 0.1, 0.9])
    sign = 1 if "monitor" in kw else -1

    def score(trainer, row):
        row[kw.get("monitor", "val_loss")] = sign * next(values)

    def fit(trainer, **more):
        saved = callbacks.ModelCheckpoint(tmp_path / "{epoch}.safetensors", **kw)
        fit_quietly(epochs=3, batch_size=15)(trainer, callbacks=[score, saved], **more)
        return saved

    trainer = maker()()
    fit(trainer, checkpoints=tmp_path / "c")
    trainer = nb.Trainer.resume(tmp_path / "c", device="cpu")
    saved = callbacks.ModelCheckpoint(tmp_path / "{epoch}.safetensors", **kw)
    saved.load_state_dict({"best": sign * 0.3})
    fit_quietly(epochs=3, batch_size=15)(trainer, callbacks=[score, saved])
    assert names(tmp_path)[:3] == ["1.safetensors", "2.safetensors", "6.safetensors"]
    assert saved.state_dict() == {"best": sign * 0.9}


def test_a_new_run_has_its_own_best(tmp_path):
    saved = callbacks.ModelCheckpoint(tmp_path / "best.safetensors", save_best_only=True)
    for _ in range(2):
        FULL(maker()(), callbacks=[saved])
        (tmp_path / "best.safetensors").unlink()


@pytest.mark.parametrize("path", ["{accuracy}", "{loss:d}", "{loss.name}", "{loss[0]}", "{0}"])
def test_fields_that_no_row_has(tmp_path, path):
    with pytest.raises(ValueError, match=r"ModelCheckpoint: expected (named )?fields"):
        FULL(maker()(), callbacks=[callbacks.ModelCheckpoint(tmp_path / path)])
    assert names(tmp_path) == []
