"""Progress: a bar in a terminal, lines elsewhere, and a summary."""

import io
import math
import os
import re
import sys
import time
from itertools import count
from types import SimpleNamespace

import pytest

from nnbackend.train import progress
from nnbackend.train.progress import Progress, duration, summary


class Clock:
    """Time that passes when a test says so."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(progress, "time", made)
    return made


@pytest.fixture
def terminal(monkeypatch):
    """Without tqdm, and with 60 columns."""
    monkeypatch.setitem(sys.modules, "tqdm", None)
    screen = io.StringIO()
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=screen))
    monkeypatch.setattr(screen, "fileno", lambda: 2)
    monkeypatch.setattr(os, "get_terminal_size", lambda fd: os.terminal_size((60, 20)))
    return screen


def run(shown, clock, seconds, steps=10, said=None, **kw):
    """Three epochs of ten steps that take some time each."""
    for epoch in shown:
        for _ in range(steps):
            clock.now += seconds
            shown.step()
        shown.write(f"epoch {epoch}")


# -- lines ------------------------------------------------------------------------------------------------------------


def test_quick_epochs_have_no_lines_of_their_own(clock, capsys):
    run(Progress(range(1, 4), False, 10, shown=True), clock, 0.5)
    assert capsys.readouterr().out.splitlines() == ["epoch 1", "epoch 2", "epoch 3"]


def test_long_epochs_say_now_and_then_where_they_are(clock, capsys):
    run(Progress(range(1, 4), False, 10, shown=True), clock, 6.0)
    assert capsys.readouterr().out.splitlines() == [
        "epoch 1/3, step 2/10, 2 min 48 s left",
        "epoch 1/3, step 6/10, 2 min 24 s left",
        "epoch 1",
        "epoch 2/3, step 7/10, 1 min 18 s left",
        "epoch 2",
        "epoch 3",  # the silence may be longer and longer
    ]


def test_nothing_is_shown_unless_it_is_asked_for(clock, capsys):
    run(Progress(range(1, 4), False, 10), clock, 600.0)
    out = capsys.readouterr()
    assert out.out.splitlines() == ["epoch 1", "epoch 2", "epoch 3"]
    assert out.err == ""


def test_how_long_an_epoch_is_may_only_be_known_after_the_first(clock, capsys):
    shown = Progress(range(1, 4), False, None, shown=True)
    run(shown, clock, 6.0)
    assert capsys.readouterr().out.splitlines()[:4] == [
        "epoch 1/3, step 2", "epoch 1/3, step 6", "epoch 1", "epoch 2/3, step 7/10, 1 min 18 s left",
    ]  # fmt: skip
    assert shown.position == 3.0


def test_a_fit_that_goes_on_in_the_middle(clock, capsys):
    shown = Progress(range(5, 7), False, 10, done=8, shown=True)
    epochs = iter(shown)
    assert next(epochs) == 5
    clock.now += 20.0
    shown.step()
    assert shown.position == 0.9
    clock.now += 20.0
    shown.step()
    assert next(epochs) == 6
    assert capsys.readouterr().out.splitlines() == ["epoch 5/6, step 9/10", "epoch 6/6, 3 min 20 s left"]


def test_no_epochs_at_all(clock):
    with Progress(range(1, 1), False, 10, shown=True) as shown:
        assert list(shown) == []


def test_a_step_costs_little():
    def cost(shown):
        start = time.perf_counter()
        for _ in range(2000):
            shown.step()
        return (time.perf_counter() - start) / 2000

    assert min(cost(Progress(range(1, 9), False, 10**6, shown=s)) for s in (False, True) for _ in range(20)) < 2e-6


# -- a bar ------------------------------------------------------------------------------------------------------------


def pictures(screen):
    return [text for text in re.split(r"\r\x1b\[K", screen.getvalue()) if text]


def test_a_bar_of_our_own_is_written_over_and_over(clock, terminal, capsys):
    with Progress(range(1, 4), True, 100, shown=True) as shown:
        run(shown, clock, 0.1, steps=100)
    seen = pictures(terminal)
    assert seen[0] == "epoch 1/3, step 5/100 |-------------------|   2%, 30 s left"
    assert any(text.startswith("epoch 2/3, step ") and "%, 15 s left" in text for text in seen)
    assert re.fullmatch(r"epoch 3/3 \|#{32}\| 100%, 0 s left", seen[-1])
    assert max(map(len, seen)) < 60
    assert len(seen) <= 30 / 0.5 + 3 + 1  # twice a second, again below each line, and at the end
    assert terminal.getvalue().endswith("\r\x1b[K")  # nothing stays
    assert capsys.readouterr().out.splitlines() == ["epoch 1", "epoch 2", "epoch 3"]


def test_short_fits_draw_nothing(clock, terminal, capsys):
    with Progress(range(1, 4), True, 10, shown=True) as shown:
        run(shown, clock, 0.01)
        assert terminal.getvalue() == ""
    assert capsys.readouterr().out.splitlines() == ["epoch 1", "epoch 2", "epoch 3"]


@pytest.mark.parametrize("columns", [8, 30])
def test_a_narrow_terminal(clock, terminal, monkeypatch, columns):
    monkeypatch.setattr(os, "get_terminal_size", lambda fd: os.terminal_size((columns, 20)))
    with Progress(range(1, 4), True, 100, shown=True) as shown:
        run(shown, clock, 1.0, steps=1000)
    assert {len(text) for text in pictures(terminal)} <= set(range(columns))


def test_a_terminal_that_goes_away(clock, terminal, monkeypatch):
    def gone(text):
        raise OSError("gone")

    monkeypatch.setattr(terminal, "write", gone)
    monkeypatch.setattr(os, "get_terminal_size", lambda fd: gone(""))
    with Progress(range(1, 4), True, 10, shown=True) as shown:
        run(shown, clock, 1.0)


def test_tqdm_draws_where_it_is_installed(clock, monkeypatch, capsys):
    tqdm = pytest.importorskip("tqdm")
    made = []

    class Bar(tqdm.tqdm):
        def __init__(self, *args, **kw):
            made.append(self)
            super().__init__(*args, **{**kw, "ncols": 60, "dynamic_ncols": False})

    monkeypatch.setattr(tqdm, "tqdm", Bar)
    with Progress(range(1, 4), True, 10, shown=True) as shown:
        run(shown, clock, 0.3)
    out = capsys.readouterr()
    assert made[0].n == made[0].total == 3
    assert "epoch 2/3, step 4/10 |" in out.err
    assert "|   47%, 5 s left" in out.err
    assert max(len(text) for text in re.split(r"[\r\n]", out.err)) <= 60
    assert out.out.splitlines() == ["epoch 1", "epoch 2", "epoch 3"]


# -- the summary ------------------------------------------------------------------------------------------------------


def test_durations_for_people():
    said = {0.0312: "0.031 s", 4.2: "4.2 s", 9.96: "10 s", 42.3: "42 s", 61: "1 min 1 s", 7500: "2 h 5 min"}
    assert {seconds: duration(seconds) for seconds in said} == said


def rows(**columns):
    return [dict(zip(["epoch", *columns], row, strict=True)) for row in zip(count(1), *columns.values(), strict=False)]


def test_a_fit_in_one_line():
    seen = rows(loss=[0.5, 0.25, 0.03125], val_accuracy=[0.9, 0.981, 0.974], val_loss=[3.0, 2.0, 1.0])
    assert summary(seen, 1410, 4.21, "EarlyStopping: enough") == (
        "fit: 3 epochs, 1,410 steps in 4.2 s; loss 0.03125, val_accuracy 0.974 (best 0.981 in epoch 2); "
        "stopped by EarlyStopping: enough"
    )
    assert summary(rows(loss=[1.0]), 1, 0.5) == "fit: 1 epoch, 1 step in 0.5 s; loss 1"
    assert summary(rows(loss=[1.0, 2.0], val_loss=[1.0, 2.0]), 2, 0.5).endswith("val_loss 2 (best 1 in epoch 1)")
    assert summary(rows(loss=[1.0, 2.0], mae=[2.0, 1.0], words=["a", "b"]), 2, 1.0).endswith("loss 2, mae 1")
    assert summary([], 0, 0.1, "trainer.stop()") == "fit: 0 epochs, 0 steps in 0.1 s; stopped by trainer.stop()"
    seen = rows(loss=[1.0, 1.0], accuracy=[math.nan, math.nan])
    assert summary(seen, 2, 1.0).endswith("loss 1, accuracy nan")
    some = [{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.0, "r2": 0.5}]  # not every epoch is measured
    assert summary(some, 2, 1.0).endswith("loss 1, r2 0.5")
