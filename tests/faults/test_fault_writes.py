"""Writing files of arrays while things go wrong: lines 92-95, 109, 111, 144 of faults.md. Nothing whole is lost."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nnbackend
from nnbackend import crash
from nnbackend.errors import CheckpointWriteError
from nnbackend.io import atomic
from nnbackend.io.atomic import check_writable, remove_stale
from nnbackend.io.safetensors import File, read, write

ROOT = Path(nnbackend.__file__).parents[1]
posix = pytest.mark.skipif(os.name != "posix", reason="POSIX only")
POINTS = ["write.created", "write.data", "write.header", "write.synced", "write.replaced"]
FAILURES = [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), MemoryError(), KeyboardInterrupt()]
OLD, NEW = {"w": np.zeros(5)}, {"w": np.ones(9), "b": np.ones(3, "f4")}


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    crash.armed.clear()


def expect_whole(path: Path, point: str) -> None:
    """The new file once it has its name, the old one before."""
    found, _ = read(path)
    assert {name: x.tolist() for name, x in found.items()} == {
        name: x.tolist() for name, x in (NEW if point == "write.replaced" else OLD).items()
    }


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
@pytest.mark.parametrize("point", POINTS)
def test_a_failure_while_writing_leaves_a_whole_file(tmp_path: Path, point: str, failure: BaseException) -> None:
    def fail() -> None:
        raise failure

    path = tmp_path / "model"
    write(path, OLD)
    crash.armed[point] = fail
    expected = CheckpointWriteError if isinstance(failure, OSError) else type(failure)
    with pytest.raises(expected) as caught:
        write(path, NEW)
    if isinstance(failure, OSError):
        assert caught.value.__cause__ is failure
        kept = "the new file is there" if point == "write.replaced" else "what was there is untouched"
        text = str(caught.value)
        assert text.startswith(f"{path}: expected to write ")
        assert text.count(str(path)) == 1
        assert "No space left on device (" in text
        assert "bytes free). Make room or choose another disk; " + kept in text
    assert [file.name for file in tmp_path.iterdir()] == ["model"]
    expect_whole(path, point)
    crash.armed.clear()
    write(path, NEW)
    expect_whole(path, "write.replaced")


@pytest.mark.parametrize("point", POINTS)
def test_the_end_of_the_process_leaves_a_whole_file(
    tmp_path: Path, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Line 92, at each point; what the dead writer leaves is removed, but not before a minute."""
    path = tmp_path / "model"
    write(path, OLD)
    code = f"""import os, sys, numpy as np; from nnbackend import crash; from nnbackend.io.safetensors import write
crash.armed[{point!r}] = lambda: os._exit(9)
write(sys.argv[1], {{"w": np.ones(9), "b": np.ones(3, "f4")}})"""
    child = subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, check=False)
    assert child.returncode == 9
    expect_whole(path, point)
    left = [file for file in tmp_path.iterdir() if file != path]
    assert len(left) == (point != "write.replaced")
    remove_stale(tmp_path)
    assert [file for file in tmp_path.iterdir() if file != path] == left
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 61)
    remove_stale(tmp_path)
    assert list(tmp_path.iterdir()) == [path]


@posix
def test_what_a_living_writer_holds_is_not_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 1e6)
    for name in (".nnbackend-notes.tmp", "model.tmp"):  # the user's own
        (tmp_path / name).write_bytes(b"mine")
    (tmp_path / f".nnbackend-{'0' * 16}.tmp").mkdir()
    crash.armed |= {point: lambda: remove_stale(tmp_path) for point in POINTS[:3]}
    write(tmp_path / "model", NEW)
    remove_stale(tmp_path)
    remove_stale(tmp_path / "absent")
    expect_whole(tmp_path / "model", "write.replaced")
    assert len(list(tmp_path.iterdir())) == 4


def test_without_locks_only_what_is_a_day_old_is_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "fcntl", None)
    left = tmp_path / f".nnbackend-{'0' * 16}.tmp"
    write(tmp_path / "model", NEW)
    for age, is_kept in ((3600, True), (90_000, False)):
        left.write_bytes(b"")
        os.utime(left, (time.time() - age,) * 2)
        remove_stale(tmp_path)
        assert left.exists() is is_kept
    expect_whole(tmp_path / "model", "write.replaced")


def test_saving_when_no_thread_can_be_started(tmp_path: Path) -> None:
    """As when Python shuts down."""
    code = """import atexit, sys, numpy as np; from nnbackend.io.safetensors import write
atexit.register(write, sys.argv[1], {"w": np.ones(100_000)})"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "model")], cwd=ROOT, check=True)
    assert read(tmp_path / "model")[0]["w"].sum() == 100_000


def test_file_and_folder_reach_the_disk_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Line 93: data, header and file before the name, the folder after it."""
    done = []
    fsync, replace = os.fsync, os.replace

    def synced(handle: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    def replaced(*args: Any) -> None:
        done.append("name")
        replace(*args)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    crash.armed |= {"write.header": lambda: done.append("header"), "write.data": lambda: done.append("data")}
    write(tmp_path / "model", {"w": np.ones(3)})
    assert done == ["data", "file", "header", "file", "name", "folder"]


def test_a_folder_that_cannot_be_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync
    for number, is_error in ((errno.EINVAL, False), (errno.EIO, True)):

        def fail(handle: int, number: int = number) -> None:
            if stat.S_ISDIR(os.fstat(handle).st_mode):
                raise OSError(number, os.strerror(number))
            fsync(handle)

        monkeypatch.setattr(os, "fsync", fail)
        if is_error:
            with pytest.raises(CheckpointWriteError, match="the new file is there, but a power loss may undo that"):
                write(tmp_path / "model", NEW)
        else:
            write(tmp_path / "model", NEW)
        expect_whole(tmp_path / "model", "write.replaced")


@posix
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting needs root")
def test_a_disk_that_is_full_or_read_only(tmp_path: Path) -> None:
    """Lines 94 and 95: a real one of 1 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        path = disk / "model"
        write(path, OLD)
        with pytest.raises(
            CheckpointWriteError, match=r"to write 16[0-9]{5} bytes, got No space left on device \([0-9]+ "
        ):
            write(path, {"w": np.ones(200_000)})
        assert list(disk.iterdir()) == [path]
        check_writable(path)
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        for call in (check_writable, lambda path: write(path, NEW)):
            with pytest.raises(CheckpointWriteError, match="Read-only file system"):
                call(path)
        expect_whole(path, "write.created")
    finally:
        subprocess.run(["umount", disk], check=True)


TWO = """import sys, numpy as np; from nnbackend.io.safetensors import write
for step in range(120):
    write(sys.argv[1], {"w": np.full(30_000, step), "b": np.full(3, step), "who": np.array(int(sys.argv[2]))})"""


def test_two_writers_and_a_reader_of_one_path(tmp_path: Path) -> None:
    """Lines 109 and 111: what is read is one version, and the last whole file stays."""
    path = tmp_path / "model"
    write(path, {"w": np.zeros(1), "b": np.zeros(1), "who": np.array(0)})
    writers = [subprocess.Popen([sys.executable, "-c", TWO, str(path), str(who)], cwd=ROOT) for who in (1, 2)]
    seen = set()
    try:
        while any(writer.poll() is None for writer in writers):
            with File(path) as file:
                step = int(file.load("b")[0])
                time.sleep(0.001)  # in which it is replaced
                assert np.all(file["w"] == step)
                seen.add((int(file["who"]), step))
    finally:
        codes = [writer.wait() for writer in writers]
    assert codes == [0, 0]
    assert {who for who, _ in seen} >= {1, 2}
    found, _ = read(path)
    assert np.all(found["w"] == 119)
    assert list(tmp_path.iterdir()) == [path]


def test_an_open_file_stays_one_version(tmp_path: Path) -> None:
    """Line 111."""
    write(tmp_path / "model", OLD)
    with File(tmp_path / "model") as file:
        write(tmp_path / "model", NEW)
        assert file.load("w").tolist() == file["w"].tolist() == [0] * 5
    expect_whole(tmp_path / "model", "write.replaced")


@pytest.mark.parametrize("name", ["naïve ☃", " two  spaces ", "x" * 255, "é" * 127, "-rf", "a'b\"c\n"])
def test_names_of_all_kinds(tmp_path: Path, name: str) -> None:
    """Line 144: also those that leave no room for a suffix."""
    folder = tmp_path / "dossier à moi 模型"
    folder.mkdir()
    path = folder / name
    check_writable(path)
    assert not list(folder.iterdir())
    write(path, OLD)
    write(path, NEW)
    expect_whole(path, "write.replaced")
    assert list(folder.iterdir()) == [path]
    with pytest.raises(CheckpointWriteError, match="expected a place that can be written, got File name too long"):
        check_writable(folder / ("x" * 256))
