"""Files are written whole or not at all, whatever happens meanwhile."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

import nnbackend
from nnbackend.errors import CheckpointWriteError, CorruptCheckpointError
from nnbackend.io.atomic import check_writable
from nnbackend.io.safetensors import read, write

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX only")


@posix
def test_a_symlink_is_kept_and_the_umask_honoured(tmp_path: Path) -> None:
    """Lines 96 and 97 of the faults."""
    real, link, dangling = tmp_path / "real", tmp_path / "link", tmp_path / "dangling"
    real.write_bytes(b"old")
    link.symlink_to("real")
    dangling.symlink_to(tmp_path / "new")
    before = os.umask(0o027)
    try:
        for path in (link, dangling):
            write(path, {"w": np.ones(2)})
    finally:
        os.umask(before)
    assert link.is_symlink()
    assert dangling.is_symlink()
    for path in (real, tmp_path / "new"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        assert read(path)[0]["w"].tolist() == [1, 1]
    assert len(list(tmp_path.iterdir())) == 4


@posix
def test_special_files_are_refused(tmp_path: Path) -> None:
    """Line 96."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    with pytest.raises(CorruptCheckpointError, match="pipe"):
        read(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path / "link"):
        with pytest.raises(CheckpointWriteError, match=r"expected to write .*a device or a pipe"):
            write(path, {"w": np.ones(2)})
        assert path.is_fifo()
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("place", ["absent/model", "file/model", "."])
def test_a_place_that_cannot_hold_a_file(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(CheckpointWriteError, match=r"expected to write [0-9]+ bytes, got .* is untouched") as caught:
        write(tmp_path / place, {"w": np.ones(2)})
    assert isinstance(caught.value.__cause__, OSError)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("place", ["absent/model", "file/model", ".", "pipe", "loop", "locked/model"])
def test_a_place_that_cannot_hold_a_file_is_known_beforehand(place: str) -> None:
    """Line 95 of the faults."""
    with tempfile.TemporaryDirectory() as name:  # not tmp_path, which only its owner may enter
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "file").write_bytes(b"old")
        (folder / "locked").mkdir(mode=0o555)
        if os.name == "posix":
            os.mkfifo(folder / "pipe")
            (folder / "loop").symlink_to("loop")
        before = sorted(folder.rglob("*"))
        me = getattr(os, "geteuid", lambda: 1)()
        if me == 0:  # root may write anywhere
            os.seteuid(65534)
        try:
            with pytest.raises(
                CheckpointWriteError, match=r"expected a place that can be written, got .* is untouched"
            ):
                check_writable(folder / place)
        finally:
            if me == 0:
                os.seteuid(0)
        assert sorted(folder.rglob("*")) == before


def test_the_trial_touches_nothing(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"old")
    os.utime(tmp_path / "model", (1, 1))
    before = (tmp_path / "model").stat()
    check_writable(tmp_path / "model")
    check_writable(tmp_path / "new")
    assert (tmp_path / "model").stat()[:9] == before[:9]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_an_interrupt_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").write_bytes(b"old")

    def interrupt(handle: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "model", {"w": np.ones(2)})
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert (tmp_path / "model").read_bytes() == b"old"


START = "import sys, numpy as np; from nnbackend.io.safetensors import write; path = sys.argv[1]; "
ROOT = Path(nnbackend.__file__).parents[1]
FULL = """import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
write(path, {"w": np.ones(100_000)})"""
FOREVER = """step = 0
while True:
    step += 1
    write(path, {"w": np.full(300_000, step), "b": np.full(3, step)})
    if step == 1: print("ready", flush=True)"""


@posix
def test_a_full_disk_keeps_the_old_file(tmp_path: Path) -> None:
    """Line 94."""
    path = tmp_path / "model"
    write(path, {"w": np.ones(2)})
    command = [sys.executable, "-c", START + FULL, str(path)]
    child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    expected = (
        "CheckpointWriteError: .*model: expected to write 800[0-9]{3} bytes, got File too large .[0-9]+ bytes free"
    )
    assert re.search(expected, child.stderr)
    assert "OSError: [Errno 27]" in child.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["model"]
    assert read(path)[0]["w"].tolist() == [1, 1]


@posix
def test_a_kill_during_writing_leaves_the_old_or_the_new_file(tmp_path: Path) -> None:
    """Line 92."""
    path = tmp_path / "model"
    for attempt in range(10):
        command = [sys.executable, "-c", START + FOREVER, str(path)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            child.stdout.readline()
            time.sleep(0.003 * attempt)
            child.send_signal(signal.SIGKILL)
        found, _ = read(path)
        assert np.all(found["w"] == found["b"][0])
    assert len(list(tmp_path.iterdir())) > 1  # so some were killed in the middle of it
