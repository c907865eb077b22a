"""Files that are replaced whole: after a crash the old one or the new one is there, never a mixture."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from contextlib import suppress

from ..errors import CheckpointWriteError

_DISK_IS_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def replace_file(path: str | os.PathLike[str], chunks: Sequence[bytes | memoryview]) -> None:
    """Write the chunks to `path`, or leave what was there and raise CheckpointWriteError.

    A symlink is kept and its target replaced; folders, devices and pipes are refused.
    """
    target = os.path.realpath(path)
    folder = os.path.dirname(target)
    temporary = os.path.join(folder, f".nnbackend-{os.urandom(8).hex()}.tmp")
    try:
        _refuse_special(target)
        try:
            _write_synced(temporary, chunks)
            os.replace(temporary, target)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise CheckpointWriteError(_explain(path, folder, chunks, error)) from error
    _sync_folder(folder)


def _refuse_special(target: str) -> None:
    """Raise when something other than a regular file is there."""
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(os.stat(target).st_mode):
            raise OSError(errno.EINVAL, "a folder, a device or a pipe")


def _write_synced(path: str, chunks: Sequence[bytes | memoryview]) -> None:
    """Write a new file through to the disk; the umask decides about its mode."""
    with open(path, "xb") as file:
        for chunk in chunks:
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: str) -> None:
    """Make the new name survive a power loss, where the platform can do that to a folder."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _explain(path: str | os.PathLike[str], folder: str, chunks: Sequence[bytes | memoryview], error: OSError) -> str:
    """Say what failed and, when the disk is the reason, how much it needs and has."""
    needed = sum(memoryview(chunk).nbytes for chunk in chunks)
    got, fix = error.strerror or str(error), "Choose a file in a folder where you may write"
    if error.errno in _DISK_IS_FULL:
        got, fix = f"{got} ({_free(folder)} bytes free)", "Make room or choose another disk"
    return f"{os.fspath(path)}: expected to write {needed} bytes, got {got}. {fix}; what was there is untouched."


def _free(folder: str) -> int:
    import shutil  # here, because it brings a dozen modules along

    return shutil.disk_usage(folder).free
