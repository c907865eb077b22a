"""The history of a training run as a table, a file, a chart in text and HTML; and the data made for pictures."""

import csv
import io
import math
import sys

import numpy as np
import pytest

import nnbackend as nb
from nnbackend import data, plots
from nnbackend.errors import CheckpointWriteError
from nnbackend.train.history import line

ROWS = [
    {"epoch": 1, "loss": 1.0, "note": "slow"},
    {"epoch": 2, "loss": 0.1 + 0.2, "accuracy": 0.5, "val_loss": 0.75},
    {"epoch": 3, "loss": math.nan, "accuracy": 1, "val_loss": 0.5, "note": "a,b"},
]


def of(rows):
    history = nb.History()
    for row in rows:
        history.append(row)
    return history


@pytest.fixture
def history():
    return of(ROWS)


def curves(n=50):
    return {"epoch": range(1, n + 1), "loss": np.linspace(3, 1, n), "val_loss": np.linspace(3, 2, n)}


def test_columns_have_none_where_rows_have_no_value(history):
    columns = history.to_dict()
    assert list(columns) == ["epoch", "loss", "note", "accuracy", "val_loss"]
    assert columns["accuracy"] == [None, 0.5, 1]
    assert columns["note"] == ["slow", None, "a,b"]
    assert history["accuracy"] == [0.5, 1]


def test_the_file_reads_back_to_the_bit(history, tmp_path):
    history.to_csv(tmp_path / "h.csv")
    text = (tmp_path / "h.csv").read_bytes()
    assert b"\r" not in text
    rows = list(csv.DictReader(io.StringIO(text.decode())))
    assert [row["loss"] for row in rows] == ["1.0", repr(0.1 + 0.2), "nan"]
    assert [row["val_loss"] for row in rows] == ["", "0.75", "0.5"]
    assert rows[2]["note"] == "a,b"


def test_a_file_that_cannot_be_written_is_left_as_it_was(history, tmp_path):
    with pytest.raises(CheckpointWriteError, match=r"no\.csv"):
        history.to_csv(tmp_path / "nowhere" / "no.csv")
    (tmp_path / "folder").mkdir()
    with pytest.raises(CheckpointWriteError, match="a folder"):
        history.to_csv(tmp_path / "folder")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_the_best_row(history):
    assert history.best("val_loss")["epoch"] == 3
    assert history.best("accuracy", "max")["epoch"] == 3
    assert history.best("loss") is history[1]  # not the NaN
    assert of([{"loss": 1.0, "n": 1}, {"loss": 1.0, "n": 2}]).best("loss")["n"] == 1
    with pytest.raises(KeyError, match="expected one of epoch, loss"):
        history.best("f1")
    with pytest.raises(ValueError, match="numbers in 'note'"):
        history.best("note")
    with pytest.raises(ValueError, match='"min" or "max", got \'least\''):
        history.best("loss", "least")


def test_tables_take_text_and_gaps(history):
    lines = repr(history).splitlines()
    assert lines[0].split() == ["epoch", "loss", "note", "accuracy", "val_loss"]
    assert len({len(text) for text in lines}) == 1
    assert "a,b" in lines[-1]
    assert line({"epoch": 3, "loss": 0.5, "n": 2, "note": "x"}) == "epoch     3  loss 0.5000  n 2.0000  note x"


def test_html_is_a_table_and_escaped():
    shown = of([{"epoch": 1, "<loss>": 0.5, "note": "<b>"}])._repr_html_()
    assert shown.count("<tr>") == 2
    assert "<th>&lt;loss&gt;</th>" in shown
    assert "<td>1</td><td>0.5000</td><td>&lt;b&gt;</td>" in shown
    assert of([{"epoch": i} for i in range(1000)])._repr_html_().count("<td>") == 20


def panel(text):
    """What is drawn, without frame and names: rows of characters."""
    rows = [row for row in text.splitlines() if "┤" in row or "│" in row]
    return [row[min(row.find(c) for c in "┤│" if c in row) + 1 :] for row in rows]


def test_a_falling_line_falls():
    rows = panel(plots.chart({"loss": [3.0, 2.0, 1.0]}, 40, 6))
    inner = 40 - 1 - 3 - len("⠒⠒⠒⠒ loss")
    marked = [[i for i, c in enumerate(row[:inner]) if c != " "] for row in rows]
    assert marked[0][0] == 0
    assert marked[-1][-1] == inner - 1
    assert [m for row in marked for m in sorted(row)] == sorted(m for row in marked for m in row)
    assert rows[-1].endswith("⠒⠒⠒⠒ loss")


def test_axes_have_values_and_lines_have_names():
    text = plots.chart(curves(), 60, 9)
    lines = text.splitlines()
    assert lines[0].strip() == "loss"
    assert [row.split("┤")[0].strip() for row in lines if "┤" in row] == ["3", "2", "1"]
    assert lines[-1].split() == ["1", "26", "50", "epoch"]
    assert [row.split()[-1] for row in lines if "loss" in row[1:]][1:] == ["val_loss", "loss"]
    assert max(map(len, lines)) <= 60
    solid, dotted = (next(r for r in lines[1:] if r.endswith(name)).split()[-2] for name in (" loss", " val_loss"))
    assert solid != dotted


def test_each_metric_has_a_chart_of_its_own():
    rows = {"loss": [1, 2], "accuracy": [0, 1], "val_accuracy": [1, 0], "text": ["a", "b"]}
    assert [part.splitlines()[0].strip() for part in plots.chart(rows).split("\n\n")] == ["loss", "accuracy"]
    assert plots.chart(rows, names=["accuracy"]).splitlines()[0].strip() == "accuracy"


def test_decades_are_logarithmic():
    lines = plots.chart({"loss": [1.0, 0.1, 0.01]}, 40, 5).splitlines()
    assert lines[0].strip() == "loss (log)"
    assert [row.split("┤")[0].strip() for row in lines if "┤" in row] == ["1", "0.01"]
    assert "log" not in plots.chart({"loss": [1.0, 0.0]})
    assert "log" not in plots.chart({"loss": [1.0, 0.02]})


def test_nan_is_a_gap_and_a_missing_value_is_none():
    def columns_of(values):
        rows = panel(plots.chart({"loss": values}, 60, 5))
        return {i for row in rows for i, c in enumerate(row[:40]) if c not in " "}

    whole = columns_of([1, 1, None, 1, 1])
    assert whole == set(range(40))
    torn = columns_of([1, 1, math.nan, 1, 1])
    assert 0 < len(torn) < 30
    assert columns_of([1, 1, math.inf, 1, 1]) == torn
    assert len(columns_of([1])) == 1


def test_ascii_where_the_terminal_knows_no_braille(monkeypatch):
    text = plots.chart(curves(), ascii=True)
    assert text.isascii()
    assert {row.split()[-2] for row in text.splitlines()[1:] if row.endswith("loss")} == {"*", "o"}
    assert {"*", "o"} <= set("".join(text.splitlines()[2:-4]))
    for encoding, plain in (("ascii", True), ("cp1252", True), ("utf-8", False), (None, False), ("what", True)):
        monkeypatch.setattr(sys, "stdout", type("Stream", (), {"encoding": encoding})())
        assert plots.chart(curves()).isascii() == plain


@pytest.mark.parametrize("height", [3, 12])
def test_many_curves_keep_their_names(height):
    text = plots.chart({"loss": [1, 2], "val_loss": [1, 2]}, height=height)
    assert text.count("loss") == 3
    assert len(text.splitlines()) == height + 3


@pytest.mark.parametrize("ascii", [False, True])
def test_long_names_leave_room_for_the_curve(ascii):
    text = plots.chart({"a_very_long_name_" * 9: [1, 2]}, width=40, height=4, ascii=ascii)
    lines = text.splitlines()[1:-1]
    assert max(map(len, lines)) <= 40
    assert "a_very_long" in text
    assert len(lines[-1]) > 15


def test_single_epochs_are_seen_in_every_curve():
    alone = {"loss": [1, math.nan, 1], "val_loss": [3, math.nan, 3]}
    dots = [c for row in plots.chart(alone).splitlines() for c in row[: row.find("loss")] if "⠀" < c <= "⣿"]
    assert len(dots) >= 4


def test_small_and_large_numbers_are_told():
    row = {"epoch": 1, "loss": 1.5e-7, "val_loss": 2.5e9, "accuracy": 0.5, "mae": 0.0, "mse": -0.0004}
    assert line(row) == "epoch     1  loss 1.5e-07  val_loss 2.5e+09  accuracy 0.5000  mae 0.0000  mse -0.0004"
    assert "1.5e-07" in repr(of([row]))
    assert "1.5e-07" in of([row])._repr_html_()


def test_what_cannot_be_drawn_is_said():
    with pytest.raises(ValueError, match=r"with numbers, got none\. Call fit first"):
        nb.History().chart()
    with pytest.raises(ValueError, match="numbers in 'note'"):
        of(ROWS).chart(names=["note"])
    with pytest.raises(KeyError, match="expected one of epoch, loss"):
        of(ROWS).chart(names=["f1"])
    with pytest.raises(ValueError, match="width >= 30"):
        of(ROWS).chart(width=10)
    with pytest.raises(TypeError, match="rows or a dict"):
        plots.chart([1, 2])
    assert "0.5" in plots.chart({"loss": [2**2000, 0.5, 1]})  # too large to be drawn


def test_the_history_of_a_fit_is_drawn():
    X, y = data.moons(40)
    trainer = nb.Trainer(nb.nn.MLP([2, 4, 2]), "cross_entropy", metrics=["accuracy"], device="cpu", seed=0)
    trainer.fit(X, y, 3, validation_data=(X, y), verbose=False)
    assert plots.chart(trainer.history, names="loss") == plots.chart(trainer.history, names=["loss"])
    assert trainer.history.chart(width=50, height=5) == plots.chart(trainer.history.to_dict(), 50, 5)
    assert [part.split()[0] for part in trainer.history.chart().split("\n\n")] == ["loss", "accuracy"]


@pytest.mark.parametrize(("make", "classes"), [(data.moons, 2), (data.spirals, 3)])
def test_made_data(make, classes):
    X, y = make(30)
    assert (X.shape, X.dtype, y.dtype) == ((30, 2), np.float64, np.int64)
    np.testing.assert_array_equal(y, np.arange(30) % classes)
    np.testing.assert_array_equal(X, make(30)[0])
    assert not np.array_equal(X, make(30, seed=1)[0])
    with pytest.raises(ValueError, match="n >= classes"):
        make(1)
    with pytest.raises(ValueError, match="noise >= 0"):
        make(30, noise=-1)


def test_without_noise_the_data_is_on_its_curves():
    X, y = data.moons(50, noise=0)
    np.testing.assert_allclose(np.hypot(*X[y == 0].T), 1)
    np.testing.assert_allclose(np.hypot(*(X[y == 1] - [1, 0.5]).T), 1)
    X, y = data.spirals(50, classes=2, noise=0)
    radius = np.hypot(*X.T)
    turned = np.arctan2(X[:, 1], X[:, 0]) - 1.5 * np.pi * radius - np.pi * y
    np.testing.assert_allclose(np.cos(turned), 1)
