"""Pictures that grow while a model trains, and the example that draws all of them."""

import itertools
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from PIL import Image

import nnbackend as nb
from nnbackend import callbacks, data, nn, plots
from nnbackend.errors import CheckpointWriteError

ROOT = Path(__file__).parents[2]


def fitted(epochs=2, **given):
    points, y = data.moons(40)
    trainer = nb.Trainer(nn.MLP([2, 8, 2]), "cross_entropy", nb.optim.Adam(lr=0.05), device="cpu", seed=0)
    trainer.fit(points, y, epochs, verbose=False, **given)
    return trainer


def test_a_live_plot_grows(tmp_path, monkeypatch):
    sizes = []
    written = plots.history
    monkeypatch.setattr(plots, "history", lambda h, names: sizes.append(len(h)) or written(h, names))
    path = tmp_path / "new" / "live.svg"
    fitted(3, callbacks=[callbacks.LivePlot(path, every_seconds=0)])
    assert (sizes[0], sizes[-1]) == (1, 3)
    assert path.read_bytes().startswith(b"<?xml")
    assert [p.name for p in path.parent.iterdir()] == ["live.svg"]
    sizes.clear()
    fitted(3, callbacks=[callbacks.LivePlot(path, every_seconds=60)])
    assert sizes == [3]


def test_a_live_plot_in_a_notebook(monkeypatch):
    seen = []

    class Display:
        @staticmethod
        def display(figure, display_id):
            seen.append(figure)
            return type("Handle", (), {"update": staticmethod(seen.append)})

    ipython = type("IPython", (), {"get_ipython": staticmethod(lambda: object()), "display": Display})
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    live = callbacks.LivePlot(None, every_seconds=0)
    monkeypatch.setattr(callbacks.live, "SHARE", 1e9)
    fitted(3, callbacks=[live])
    assert [len(figure.axes[0].lines[0].get_xdata()) for figure in seen] == [1, 2, 3, 3]


def test_a_full_disk_does_not_end_the_fit(tmp_path, monkeypatch):
    def refuse(path, chunks):
        raise CheckpointWriteError(f"{path}: no room.")

    for module in (callbacks.live, plots.boundary):
        monkeypatch.setattr(module, "replace_file", refuse)
    live = callbacks.LivePlot(tmp_path / "live.png", every_seconds=60)
    film = callbacks.BoundaryAnimation(*data.moons(8), tmp_path / "film.gif", every=9)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        trainer = fitted(2, callbacks=[live, film])
    assert len(trainer.history) == 2
    assert [str(one.message).partition(" ")[0] for one in said] == ["LivePlot:", "BoundaryAnimation:"]
    assert all("no room" in str(one.message) for one in said)


def test_callbacks_refuse(tmp_path):
    with pytest.raises(ValueError, match=r"ends in \.png, \.svg, \.pdf, got 'a\.txt'"):
        callbacks.LivePlot("a.txt")
    with pytest.raises(ValueError, match="every_seconds >= 0"):
        callbacks.LivePlot("a.png", every_seconds=-1)
    with pytest.raises(ValueError, match=r"ends in \.gif, got 'a\.png'"):
        callbacks.BoundaryAnimation(*data.moons(40), "a.png")
    with pytest.raises(ValueError, match="every >= 1"):
        callbacks.BoundaryAnimation(*data.moons(40), "a.gif", every=0)
    (tmp_path / "file").touch()
    film = callbacks.BoundaryAnimation(*data.moons(40), tmp_path / "file" / "a.gif")
    for callback in (callbacks.LivePlot(tmp_path / "file" / "a.png"), film):
        with pytest.raises(CheckpointWriteError, match="file"):
            fitted(1, callbacks=[callback])


def test_the_boundary_as_a_film(tmp_path):
    points, y = data.moons(40)
    film = callbacks.BoundaryAnimation(points, y, tmp_path / "film.gif", every=2, most=3)
    fitted(9, callbacks=[film])
    assert film.every == 4  # frames of the epochs 0, 2, 4; then 0, 4, 8; and the last one, 9
    with Image.open(tmp_path / "film.gif") as gif:
        frames = []
        for i in range(gif.n_frames):
            gif.seek(i)
            frames.append((np.asarray(gif.convert("RGB")), gif.info["duration"]))
    assert [duration for _, duration in frames] == [120, 120, 120, 2000]
    assert all(np.abs(a[0].astype(int) - b[0]).max() > 20 for a, b in itertools.pairwise(frames))
    fitted(1, callbacks=[film])
    assert len(film.frames) == 2  # another run is another film


def test_the_gallery(tmp_path):
    command = ["-W", "error", "examples/gallery.py", "--smoke", "--seed", "1", "--folder", tmp_path / "new"]
    done = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, cwd=ROOT, timeout=50)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[-1].endswith("(smoke, no target)")
    assert "loss" in [line.strip() for line in lines]  # the title of the chart
    shown = {line.removeprefix("picture: ") for line in lines if line.startswith("picture")}
    assert {str(p) for p in (tmp_path / "new").iterdir()} == shown | {
        str(tmp_path / "new" / n) for n in ("live.png", "spirals.gif")
    }
    assert len(shown) == 6
