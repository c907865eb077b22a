"""Arrays in a safetensors file, as `header` has it: written atomically with checksums, read whole or one by one."""

from __future__ import annotations

import errno
import mmap
import os
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from .. import crash
from ..errors import CorruptCheckpointError as Corrupt
from ..errors import DataError, DTypeError
from .atomic import replacing
from .header import KINDS, Entry, Path, encode, lay_out, naming, read_header, require, sha256
from .rounding import from_bfloat16, rounded

if TYPE_CHECKING:
    from numpy.typing import NDArray  # costs 15 ms

_PIECE = 1 << 23
_AT_ONCE = 1 << 26  # so many bytes are hashed and brought to the disk side by side, and then dropped
_SMALL = 1 << 16  # hashed sooner than another thread is told to
_STORED = {kind: stored for stored, kind in KINDS.items() if stored != "BF16"}
_FLOATS = ("F64", "F32", "F16", "BF16")


class Late(NamedTuple):
    """An array that `get` makes when its turn to be written comes, and that is dropped soon after.

    `dtype` is how it is stored: "F32", "I64", "BF16", ... What `get` returns has this shape and dtype, or is a
    floating-point array that is rounded to nearest, ties to even, to "F16" or "BF16"; finite numbers beyond their
    range raise DataError.
    """

    shape: tuple[int, ...]
    dtype: str
    get: Callable[[], NDArray[Any]]


# -- writing ---------------------------------------------------------------------------------------------------------


def write(path: Path, arrays: Mapping[str, NDArray[Any] | Late], metadata: Mapping[str, str] | None = None) -> None:
    """Replace the file at `path` by one with these arrays, which must not change meanwhile.

    C-contiguous arrays are not copied; of others, 64 MB and one array are in memory at most. The header may have 5 MB,
    metadata included, and a good 8,000 arrays. DataError and DTypeError for what cannot be stored, CheckpointWriteError
    if the disk refuses; the old file is then untouched.
    """
    with naming(path):
        given = {name: array if isinstance(array, Late) else np.asarray(array) for name, array in arrays.items()}
        entries = lay_out({name: (_kind(name, array), tuple(array.shape)) for name, array in given.items()})
        start = encode(entries, metadata or {})
        with replacing(path, len(start) + sum(entry.end - entry.begin for entry in entries.values())) as file:
            file.write(start)
            sums = _write_data(file, sorted(entries.values()), given)
            crash.point("write.header")
            file.seek(0)
            file.write(encode(entries, metadata or {}, sums))


def _write_data(file: BinaryIO, placed: list[Entry], given: Mapping[str, NDArray[Any] | Late]) -> dict[str, str]:
    """Write the arrays through to the disk and return their checksums: another thread finds them meanwhile."""
    sums: dict[str, Callable[[], Any]] = {}
    pending = 0
    with _hashing() as start:
        for entry in placed:
            data = _bytes(_plain(entry, given[entry.name]))
            sums[entry.name] = start(data.data)
            for begin in range(0, data.size, _PIECE):
                file.write(data[begin : begin + _PIECE].data)
                crash.point("write.data")
            pending += data.size
            del data
            if pending > _AT_ONCE:
                _sync(file)
                sums[entry.name]()
                pending = 0
        _sync(file)
        return {name: found().hexdigest() for name, found in sums.items()}


@contextmanager
def _hashing() -> Iterator[Callable[[memoryview], Callable[[], Any]]]:
    """Give a function that starts a SHA-256 in another thread and returns what waits for it."""
    helper: Any = None
    with ExitStack() as stack:
        with suppress(RuntimeError):  # Python is shutting down
            from concurrent.futures import ThreadPoolExecutor  # here, because most programs write no file

            helper = stack.enter_context(ThreadPoolExecutor(1))

        def start(data: memoryview) -> Callable[[], Any]:
            if helper and data.nbytes > _SMALL:
                with suppress(RuntimeError):  # no thread can be started
                    wait: Callable[[], Any] = helper.submit(sha256, data).result
                    return wait
            found = sha256(data)
            return lambda: found

        yield start


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _kind(name: str, array: NDArray[Any] | Late) -> str:
    """Return how an array is stored."""
    if isinstance(array, Late):
        return array.dtype
    kind = "BF16" if array.dtype.name == "bfloat16" else _STORED.get(array.dtype.str[1:], "")
    require(kind != "", DTypeError, f"{name!r:.80} in {', '.join(KINDS)}", array.dtype)
    return kind


def _plain(entry: Entry, source: NDArray[Any] | Late) -> NDArray[Any]:
    """Return the array as it is stored: C-contiguous and little-endian, bfloat16 as its bits."""
    array = np.asarray(source.get()) if isinstance(source, Late) else source
    name, kind = f"{entry.name!r:.80}", _kind(entry.name, array)
    require(array.shape == entry.shape, DataError, f"{name} of shape {entry.shape}", array.shape)
    if kind != entry.kind:
        require(kind in _FLOATS and entry.kind in _FLOATS[2:], DTypeError, f"{name} in {entry.kind}", array.dtype)
        array = rounded(name, array.astype(np.float32) if kind == "BF16" else array, entry.kind)
    elif kind == "BF16":
        array = array.view(np.uint16)
    return np.asarray(array, "<" + KINDS[entry.kind], order="C")


# -- reading ---------------------------------------------------------------------------------------------------------


class File(Mapping[str, "NDArray[Any]"]):
    """The arrays in a safetensors file, each read and checked when it is asked for. A context manager.

    Opening reads and checks the header only. `file[name]` is a read-only view of the mapped file, checked against its
    SHA-256 at the first access; it outlives the file. bfloat16 comes as ml_dtypes has it or, without that package, as
    float32. Everything is from one version of the file, also if its path is replaced meanwhile.
    CorruptCheckpointError for damage, UnsafeFileError for files built to deceive. Files of format 1 have one checksum
    for all data, so that the first array costs reading them all; those of other writers have none.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        self._map: mmap.mmap | None = None
        self._sound: set[str] = set()
        with naming(path):
            require(stat.S_ISREG(os.stat(path).st_mode), Corrupt, "a file", "a folder, a device or a pipe")
            self._file = open(path, "rb")  # noqa: SIM115
            try:
                self._size = os.fstat(self._file.fileno()).st_size
                self._header = read_header(self._file, self._size)
            except BaseException:
                self.close()
                raise

    def __enter__(self) -> File:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; arrays that were read stay valid."""
        self._map = None
        self._file.close()

    def __iter__(self) -> Iterator[str]:
        return iter(self._header.entries)

    def __len__(self) -> int:
        return len(self._header.entries)

    def __contains__(self, name: object) -> bool:
        return name in self._header.entries

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of an array, from the header."""
        return self._header.entries[name].shape

    def kind(self, name: str) -> str:
        """How an array is stored: "F32", "BF16", ..."""
        return self._header.entries[name].kind

    @property
    def metadata(self) -> dict[str, str]:
        """The metadata without the checksums."""
        return dict(self._header.metadata)

    def __getitem__(self, name: str) -> NDArray[Any]:
        entry = self._header.entries[name]
        with naming(self._path), self._lock:
            if self._map is None:
                self._map = self._mapped()
            require(len(self._map) >= self._size, Corrupt, f"{self._size} bytes", len(self._map))
            start = self._header.start + entry.begin
            data = np.frombuffer(self._map, np.uint8)[start : start + entry.end - entry.begin]
            if name not in self._sound:
                self._check_all()
                self._check(entry, data)
                self._sound.add(name)
            array = data.view("<" + KINDS[entry.kind]).reshape(entry.shape)
            array = from_bfloat16(array) if entry.kind == "BF16" else array
            array = array if array.flags.aligned else array.copy()
            array.flags.writeable = False
            return array

    def _mapped(self) -> mmap.mmap:
        try:
            return mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            if error.errno == errno.ENOMEM:
                raise MemoryError(f"{self._path}: expected {self._size} bytes to map, got {error.strerror}") from error
            raise

    def load(self, name: str) -> NDArray[Any]:
        """A fresh, writable array, read without a map: a disk that fails raises OSError. Checked each time."""
        entry = self._header.entries[name]
        with naming(self._path), self._lock:
            self._check_all()
            return _widened(entry, self._fetch(entry))

    def load_all(self) -> dict[str, NDArray[Any]]:
        """All arrays as `load` gives them."""
        arrays, total = {}, sha256()
        with naming(self._path), self._lock:
            for entry in sorted(self._header.entries.values()):
                array = self._fetch(entry)
                if self._header.sum is not None:
                    total.update(_bytes(array).data)
                arrays[entry.name] = _widened(entry, array)
            self._check_sum("data", self._header.sum, total)
        return {name: arrays[name] for name in self}

    def _fetch(self, entry: Entry) -> NDArray[Any]:
        """Read an array and check it."""
        array = np.empty(entry.shape, "<" + KINDS[entry.kind])
        data = _bytes(array)
        self._file.seek(self._header.start + entry.begin)
        require(self._file.readinto(data.data) == data.size, Corrupt, f"{self._size} bytes", "fewer while reading")
        self._check(entry, data)
        return array

    def _check(self, entry: Entry, data: NDArray[Any]) -> None:
        """Refuse an array's bytes if they are damaged."""
        if self._header.sums is not None:
            self._check_sum(f"data of {entry.name!r:.80}", self._header.sums[entry.name], sha256(data.data))
        require(entry.kind != "BOOL" or data.max(initial=0) < 2, Corrupt, f"0 or 1 in {entry.name!r:.80}", "others")

    def _check_all(self) -> None:
        """Refuse a damaged file of format 1, once."""
        if self._header.sum is not None and "" not in self._sound:
            total = sha256()
            self._file.seek(self._header.start)
            while piece := self._file.read(_PIECE):
                total.update(piece)
            self._check_sum("data", self._header.sum, total)
            self._sound.add("")

    def _check_sum(self, what: str, expected: str | None, found: Any) -> None:
        require(expected in (None, found.hexdigest()), Corrupt, f"{what} that fits its SHA-256", "damaged data")


def read(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Return the arrays, fresh and writable, and the metadata without the checksums."""
    with File(path) as file:
        return file.load_all(), file.metadata


def _bytes(array: NDArray[Any]) -> NDArray[Any]:
    return array.reshape(-1).view(np.uint8)


def _widened(entry: Entry, array: NDArray[Any]) -> NDArray[Any]:
    return from_bfloat16(array) if entry.kind == "BF16" else array
