"""Arrays in a safetensors file: written atomically with checksums, read with nothing trusted.

The file is the header's length (8 bytes, little endian), the header (JSON) and the data. The metadata starts with
`nnbackend.header_sha256`, of the header with these digits as zeros, and holds `nnbackend.sha256`, of the data.
"""

from __future__ import annotations

import importlib
import math
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import numpy as np

from .. import errors
from ..errors import CorruptCheckpointError as Corrupt
from ..errors import UnsafeFileError as Unsafe
from .atomic import replace_file

if TYPE_CHECKING:
    from numpy.typing import NDArray  # costs 15 ms

_Path: TypeAlias = str | os.PathLike[str]
_MAX_HEADER = 100_000_000
_DATA_SUM, _HEADER_SUM, _ZEROS = "nnbackend.sha256", "nnbackend.header_sha256", b"0" * 64
_KINDS = {"F64": "f8", "F32": "f4", "F16": "f2", "I64": "i8", "I32": "i4", "I16": "i2", "I8": "i1", "BOOL": "b1"}
_KINDS |= {"U64": "u8", "U32": "u4", "U16": "u2", "U8": "u1", "BF16": "u2"}  # bfloat16 as its bits
_STORED = {kind: stored for stored, kind in _KINDS.items() if stored != "BF16"}
_FOREIGN = {
    rb"PK\x03\x04|PK\x05\x06": "a zip archive (.pt, .npz, .keras); pickle is never loaded",
    rb"\x80[\x02-\x05]|\(?[ci][\w.]+\n\w|\([dlt]p0|[])}]q\0": "a pickle (.pkl, .joblib); pickle is never loaded",
    rb"\x1f\x8b|BZh|\xfd7zXZ|x[\x01\x5e\x9c\xda]|ZF0x": "a compressed file (.joblib, .gz); pickle is never loaded",
    rb"\x93NUMPY": "a NumPy .npy file",
    rb"\x89HDF\r\n\x1a\n": "an HDF5 file",
}
_SEAL = re.compile(rb'\{"__metadata__":\{"nnbackend\.header_sha256":"([0-9a-f]{64})"')
_MARK = re.compile(rb'[\[{\]}]|"[^"]*"?')  # a bracket, or a string, closed or not
_DEEPER = dict(zip(b"[{]}", (1, 1, -1, -1), strict=True))
_BAD_NAME = re.compile(r"|__metadata__|.*[\0\ud800-\udfff].*|(.*[/\\])?\.\.([/\\].*)?", re.DOTALL)
_FIXES: dict[type, str] = {Corrupt: "Use another copy", Unsafe: "Do not trust it"}


def _sha256(data: bytes = b"") -> Any:
    import hashlib  # here, because it loads OpenSSL: a tenth of the import of this library

    return hashlib.sha256(data)


def write(path: _Path, arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, str] | None = None) -> None:
    """Replace the file at `path` by one with these arrays, which must not change meanwhile."""
    with _naming(path):
        ready = {name: _plain(name, np.asarray(array)) for name, array in arrays.items()}
        header: dict[str, Any] = {"__metadata__": {}} | dict.fromkeys(ready)  # in the order given
        chunks, end, data_sum = [], 0, _sha256()
        for name in sorted(ready, key=lambda name: -ready[name][1].itemsize):  # each on its own alignment
            stored, array = ready[name]
            data = array.reshape(-1).view(np.uint8).data
            begin, end = end, end + data.nbytes
            header[name] = {"dtype": stored, "shape": array.shape, "data_offsets": (begin, end)}
            chunks.append(data)
            data_sum.update(data)
        sums = {_HEADER_SUM: _ZEROS.decode(), _DATA_SUM: data_sum.hexdigest()}
        start = _encode(header | {"__metadata__": sums | dict(metadata or {}) | sums})
    replace_file(path, [start, *chunks])


def read(path: _Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Return the arrays, fresh and writable, and the metadata without the checksums."""
    with _naming(path):
        _require(stat.S_ISREG(os.stat(path).st_mode), Corrupt, "a file", "a folder, a device or a pipe")
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            text = _read_header(file, size)
            header, metadata, data_sum = _decode(text)
            arrays, found_sum = {}, _sha256()
            for _, _, name, stored, shape in _layout(header, size - 8 - len(text)):
                array = np.empty(shape, "<" + _KINDS[stored])
                data = array.reshape(-1).view(np.uint8)
                _require(file.readinto(data.data) == data.size, Corrupt, f"{size} bytes", "fewer while reading")
                _require(stored != "BOOL" or data.max(initial=0) < 2, Corrupt, f"0 or 1 in {name!r:.80}", "others")
                found_sum.update(data.data)
                arrays[name] = _bfloat16(array) if stored == "BF16" else array
        _require(data_sum in (None, found_sum.hexdigest()), Corrupt, "data that fits its SHA-256", "damaged data")
        return {name: arrays[name] for name in header}, metadata


@contextmanager
def _naming(path: _Path) -> Iterator[None]:
    """Put the path before the message of our errors."""
    try:
        yield
    except errors.NNBackendError as error:
        error.args = (f"{os.fspath(path)}: {error}",)
        raise


def _require(holds: bool, error: type[errors.NNBackendError], expected: str, got: object) -> None:
    """Raise this error, with the fix for its kind, unless the condition holds."""
    if not holds:
        raise error(f"expected {expected}, got {got!s:.200}. {_FIXES.get(error, 'Change it first')}.")


def _plain(name: str, array: NDArray[Any]) -> tuple[str, NDArray[Any]]:
    """Return the stored dtype and the array, C-contiguous and little-endian."""
    _require_sane(name, array.shape, errors.DataError)
    is_bfloat16 = array.dtype.name == "bfloat16"
    stored = "BF16" if is_bfloat16 else _STORED.get(array.dtype.str[1:], "")
    _require(stored != "", errors.DTypeError, f"{name!r:.80} in {', '.join(_KINDS)}", array.dtype)
    return stored, np.asarray(array.view(np.uint16) if is_bfloat16 else array, "<" + _KINDS[stored], order="C")


def _encode(header: dict[str, Any]) -> bytes:
    """Return the length and the header, its checksum filled in, padded so that the data starts aligned."""
    import json  # here and below, because most programs write no file

    _require_text(header["__metadata__"], errors.DataError)
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    _require(len(text) <= _MAX_HEADER, errors.DataError, f"a header of at most {_MAX_HEADER} bytes", len(text))
    return len(text).to_bytes(8, "little") + text.replace(_ZEROS, _sha256(text).hexdigest().encode(), 1)


def _read_header(file: BinaryIO, size: int) -> bytes:
    """Return the header, once its length and first character are plausible."""
    start = file.read(64)
    length = int.from_bytes(start[:8], "little")
    kind = next((kind for magic, kind in _FOREIGN.items() if length > size and re.match(magic, start)), "")
    _require(start[8:9] in (b"", b"{"), Unsafe if kind else Corrupt, "safetensors", kind or "something else")
    _require(length <= size - 8, Corrupt, f"a file of at least {8 + length} bytes", size)
    _require(length <= _MAX_HEADER, Unsafe, f"a header of at most {_MAX_HEADER} bytes", length)
    file.seek(8)
    return file.read(length)


def _decode(text: bytes) -> tuple[dict[str, Any], dict[str, str], str | None]:
    """Return the arrays' entries, the metadata and the checksum of the data if there is one."""
    import json

    if seal := _SEAL.match(text):
        found_sum = _sha256(text.replace(seal[1], _ZEROS, 1)).hexdigest()
        _require(found_sum.encode() == seal[1], Corrupt, "a header that fits its SHA-256", "a damaged one")
    plain = text.replace(rb"\\", b"").replace(rb"\"", b"")  # so that strings hold no quotes
    depths = accumulate(_DEEPER.get(plain[mark.start()], 0) for mark in _MARK.finditer(plain))
    _require(all(depth <= 3 for depth in depths), Unsafe, "three levels", "more")  # the parser's stack is finite
    try:  # a number that is cut short is still too large to pass
        header = json.loads(text.decode(), object_pairs_hook=_unique, parse_int=lambda digits: int(digits[:20]))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise Corrupt(f"expected a header in JSON, got {error}. {_FIXES[Corrupt]}.") from error
    metadata = header.pop("__metadata__", {})
    _require_text(metadata, Corrupt)
    _require(bool(seal) or not {_HEADER_SUM, _DATA_SUM} & metadata.keys(), Corrupt, "both checksums", "altered ones")
    metadata.pop(_HEADER_SUM, None)
    return header, metadata, metadata.pop(_DATA_SUM, None)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build a JSON object, unless a key comes twice."""
    _require(len(dict(pairs)) == len(pairs), Unsafe, "each name once", "one of them twice")
    return dict(pairs)


def _layout(header: dict[str, Any], available: int) -> list[tuple[int, int, str, str, list[int]]]:
    """Return begin, end, name, dtype and shape in the order of the data, which has no hole and no overlap."""
    entries, filled = [], 0
    for name, value in header.items():
        is_entry = False
        match value:
            case {"dtype": str(stored), "shape": [*shape], "data_offsets": [begin, end], **more} if not more:
                is_entry = all(type(number) is int and number >= 0 for number in (*shape, begin, end))
        _require(is_entry, Corrupt, "dtype, shape and offsets", value)
        _require_sane(name, shape, Unsafe)
        _require(stored in _KINDS, errors.IncompatibleCheckpointError, ", ".join(_KINDS), stored)
        size = math.prod(shape) * int(_KINDS[stored][1])
        _require(end - begin == size, Unsafe, f"{size} bytes for {name!r:.80}", end - begin)
        entries.append((begin, end, name, stored, shape))
    for begin, end, name, _, _ in sorted(entries):
        _require(begin == filled, Unsafe, f"data for {name!r:.80} at {filled}", begin)
        filled = end
    _require(filled == available, Corrupt if filled > available else Unsafe, f"{filled} bytes of data", available)
    return sorted(entries)


def _require_sane(name: object, shape: Sequence[int], error: type[errors.NNBackendError]) -> None:
    """Refuse names and shapes that no honest file has."""
    is_name = isinstance(name, str) and not _BAD_NAME.fullmatch(name)
    _require(is_name, error, "a name that is plain text, not empty, not reserved and not a path", repr(name))
    is_shape = len(shape) <= 32 and math.prod(size or 1 for size in shape) < 2**60
    _require(is_shape, error, f"at most 32 dimensions and 2**60 elements in {name!r:.80}", shape)


def _require_text(metadata: object, error: type[errors.NNBackendError]) -> None:
    """Refuse metadata that is not from text to text."""
    pairs = metadata.items() if isinstance(metadata, dict) else [(None, None)]
    is_text = all(isinstance(part, str) and not re.search("[\ud800-\udfff]", part) for pair in pairs for part in pair)
    _require(is_text, error, "metadata from Unicode text to text", "something else")


def _bfloat16(bits: NDArray[Any]) -> NDArray[Any]:
    """Return bfloat16 from its bits, or the same numbers as float32 where ml_dtypes is not installed."""
    try:
        return bits.view(importlib.import_module("ml_dtypes").bfloat16)
    except ImportError:
        return np.asarray(np.left_shift(bits, 16, dtype=np.uint32)).view(np.float32)
