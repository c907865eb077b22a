"""Files that are replaced whole: after a crash the old one or the new one is there, never a mixture."""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO, TypeAlias

from .. import crash
from ..errors import CheckpointWriteError

fcntl: Any
try:
    import fcntl
except ImportError:  # not POSIX
    fcntl = None

_Path: TypeAlias = str | os.PathLike[str]
_TEMPORARY = re.compile(r"\.nnbackend-[0-9a-f]{16}\.tmp")
_DISK_IS_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_FOLDER_SYNC = {errno.EINVAL, errno.EACCES, errno.EPERM, errno.EBADF, errno.ENOTSUP, errno.EISDIR}
_UNTOUCHED = "what was there is untouched"
_MINUTE, _DAY = 60.0, 86400.0


@contextmanager
def replacing(path: _Path, needed: int) -> Iterator[BinaryIO]:
    """Give a new file that takes the place of `path` once the block has ended and its bytes are on the disk.

    The file is fsynced before it is renamed and the folder after it, so that a power loss leaves one of the two whole.
    On any exception the new file is removed; an OSError becomes CheckpointWriteError, with the number of bytes needed.
    A symlink is kept and its target replaced; folders, devices and pipes are refused; the umask decides about the mode.
    """
    target = os.path.realpath(path)
    temporary = _temporary(target)
    kept = _UNTOUCHED
    try:
        _refuse_special(target)
        try:
            with open(temporary, "xb") as file:
                _hold(file)
                crash.point("write.created")
                yield file
                file.flush()
                os.fsync(file.fileno())
            crash.point("write.synced")
            os.replace(temporary, target)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
        kept = "the new file is there, but a power loss may undo that"
        crash.point("write.replaced")
        _sync_folder(os.path.dirname(target))
    except CheckpointWriteError:
        raise
    except OSError as error:
        raise _explained(path, f"to write {needed} bytes", error, kept) from error


def replace_file(path: _Path, chunks: Sequence[bytes | memoryview]) -> None:
    """Write the chunks to `path`, or leave what was there and raise CheckpointWriteError."""
    with replacing(path, sum(memoryview(chunk).nbytes for chunk in chunks)) as file:
        for chunk in chunks:
            file.write(chunk)


def check_writable(path: _Path) -> None:
    """Raise CheckpointWriteError if `path` cannot be written, before there is work to lose; it is not touched.

    A small file is made beside it and removed again.
    """
    target = os.path.realpath(path)
    temporary = _temporary(target)
    try:
        _refuse_special(target)
        try:
            with open(temporary, "xb") as file:
                _hold(file)
                file.write(b"trial")
                file.flush()
                os.fsync(file.fileno())
        finally:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
    except OSError as error:
        raise _explained(path, "a place that can be written", error, _UNTOUCHED) from error


@contextmanager
def held(folder: _Path) -> Iterator[None]:
    """Inside, nobody else holds the folder: BlockingIOError if somebody does. Where folders cannot be held, nothing."""
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        _hold(handle)
        yield
    finally:
        os.close(handle)


def remove_stale(folder: _Path) -> None:
    """Remove what killed writers left in `folder`: temporary files older than a minute that no process holds.

    Where files cannot be held (not POSIX, some network file systems), those older than a day. What cannot be looked
    at or removed stays.
    """
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _TEMPORARY.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                with suppress(OSError):
                    _remove_unless_held(entry.path)


def _remove_unless_held(path: str) -> None:
    age = time.time() - os.stat(path).st_mtime
    if age > _MINUTE:
        with open(path, "rb") as file:
            is_free = _hold(file)  # BlockingIOError if a writer is at work
        if is_free or age > _DAY:
            os.unlink(path)


def _hold(file: BinaryIO | int) -> bool:
    """Lock the file until it is closed, so that others see that it is in use; False where that is not possible."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # a file system without locks
        return False
    return True


def _temporary(target: str) -> str:
    """A new name beside the target, of the same length for all, because the target's may be the longest possible."""
    return os.path.join(os.path.dirname(target), f".nnbackend-{os.urandom(8).hex()}.tmp")


def _refuse_special(target: str) -> None:
    """Raise when something other than a regular file is there."""
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(os.stat(target).st_mode):
            raise OSError(errno.EINVAL, "a folder, a device or a pipe")


def _sync_folder(folder: str) -> None:
    """Make the new name survive a power loss, where the platform can do that to a folder."""
    try:
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise


def _explained(path: _Path, expected: str, error: OSError, kept: str) -> CheckpointWriteError:
    """Say what failed and, when the disk is the reason, how much room it has."""
    got, fix = error.strerror or str(error), "Choose a file in a folder where you may write"
    if error.errno in _DISK_IS_FULL:
        got, fix = f"{got} ({_free(path)} bytes free)", "Make room or choose another disk"
    return CheckpointWriteError(f"{os.fspath(path)}: expected {expected}, got {got}. {fix}; {kept}.")


def _free(path: _Path) -> int:
    import shutil  # here, because it brings a dozen modules along

    return shutil.disk_usage(os.path.dirname(os.path.realpath(path))).free
