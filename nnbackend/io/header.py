"""The header of a safetensors file: JSON, built and read with nothing trusted.

The file is the header's length (8 bytes, little endian), the header and the data. The metadata of ours starts with
`nnbackend.header_sha256`, of the header with these digits as zeros, and holds `nnbackend.sha256s`, a JSON object with
the SHA-256 of each array's bytes. Files of format 1 hold `nnbackend.sha256` instead, of all the data.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import Any, BinaryIO, NamedTuple, TypeAlias

from .. import errors
from ..errors import CorruptCheckpointError as Corrupt
from ..errors import UnsafeFileError as Unsafe

Path: TypeAlias = str | os.PathLike[str]
KINDS = {"F64": "f8", "F32": "f4", "F16": "f2", "I64": "i8", "I32": "i4", "I16": "i2", "I8": "i1", "BOOL": "b1"}
KINDS |= {"U64": "u8", "U32": "u4", "U16": "u2", "U8": "u1", "BF16": "u2"}  # bfloat16 as its bits
_MAX_HEADER = 5_000_000  # with the next line: the worst header costs 0.1 s and 50 MB
_MAX_PARTS = 120_000  # of 8,000 arrays and more
_HEADER_SUM, _SUM, _SUMS = "nnbackend.header_sha256", "nnbackend.sha256", "nnbackend.sha256s"
_ZEROS = "0" * 64
_FOREIGN = {
    rb"PK\x03\x04|PK\x05\x06": "a zip archive (.pt, .npz, .keras); pickle is never loaded",
    rb"\x80[\x02-\x05]|\(?[ci][\w.]+\n\w|\([dlt]p0|[])}]q\0": "a pickle (.pkl, .joblib); pickle is never loaded",
    rb"\x1f\x8b|BZh|\xfd7zXZ|x[\x01\x5e\x9c\xda]|ZF0x": "a compressed file (.joblib, .gz); pickle is never loaded",
    rb"\x93NUMPY": "a NumPy .npy file",
    rb"\x89HDF\r\n\x1a\n": "an HDF5 file",
}
_SEAL = re.compile(rb'\{"__metadata__":\{"nnbackend\.header_sha256":"([0-9a-f]{64})"')
_STRING = re.compile(rb'"[^"]*"?')  # closed or not
_DEEPER = dict(zip(b"[{,]}", (1, 1, 0, -1, -1), strict=True))
_NO_MARKS = bytes(set(range(256)) - _DEEPER.keys())
_BAD_NAME = re.compile(r"|__metadata__|.*[\0\ud800-\udfff].*|(.*[/\\])?\.\.([/\\].*)?", re.DOTALL)
_FIXES: dict[type, str] = {Corrupt: "Use another copy", Unsafe: "Do not trust it"}


class Entry(NamedTuple):
    """Where an array's bytes lie after the header, and what they are."""

    begin: int
    end: int
    name: str
    kind: str
    shape: tuple[int, ...]


class Header(NamedTuple):
    """What a header says: the arrays, the metadata without our checksums, and these; `start` is where data begins."""

    start: int
    entries: dict[str, Entry]
    metadata: dict[str, str]
    sums: dict[str, str] | None
    sum: str | None


def sha256(data: Any = b"") -> Any:
    """Start a SHA-256."""
    import hashlib  # here, because it loads OpenSSL: a tenth of the import of this library

    return hashlib.sha256(data)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put the path before the message of our errors, unless it is there."""
    try:
        yield
    except errors.NNBackendError as error:
        start = f"{os.fspath(path)}: "
        if not str(error).startswith(start):
            error.args = (f"{start}{error}", *error.args[1:])
        raise


def refusal(error: type[errors.NNBackendError], expected: str, got: object) -> errors.NNBackendError:
    """Return this error, with the fix for its kind."""
    return error(f"expected {expected}, got {got!s:.200}. {_FIXES.get(error, 'Change it first')}.")


def require(holds: bool, error: type[errors.NNBackendError], expected: str, got: object) -> None:
    """Raise this error unless the condition holds."""
    if not holds:
        raise refusal(error, expected, got)


# -- writing ---------------------------------------------------------------------------------------------------------


def lay_out(kinds: Mapping[str, tuple[str, tuple[int, ...]]]) -> dict[str, Entry]:
    """Place arrays of these kinds and shapes one after the other, the widest first, so that each is aligned."""
    for name, (kind, shape) in kinds.items():
        require_sane(name, shape, errors.DataError)
        require(kind in KINDS, errors.DTypeError, f"{name!r:.80} in {', '.join(KINDS)}", kind)
    placed, end = {}, 0
    for name in sorted(kinds, key=lambda name: -_width(kinds[name][0])):
        kind, shape = kinds[name]
        begin, end = end, end + math.prod(shape) * _width(kind)
        placed[name] = Entry(begin, end, name, kind, shape)
    return {name: placed[name] for name in kinds}


def encode(entries: Mapping[str, Entry], metadata: Mapping[str, str], sums: Mapping[str, str] | None = None) -> bytes:
    """Return the length and the sealed header, of the same size with all sums as without: aligned to 8 bytes."""
    import json  # here and below, because most programs write no file

    sums = dict.fromkeys(entries, _ZEROS) if sums is None else sums
    ours = {_HEADER_SUM: _ZEROS, _SUMS: json.dumps(dict(sums), ensure_ascii=False, separators=(",", ":"))}
    theirs = {key: text for key, text in metadata.items() if key not in (*ours, _SUM)}
    header: dict[str, Any] = {"__metadata__": ours | theirs}
    _require_text(header["__metadata__"], errors.DataError)
    for begin, end, name, kind, shape in entries.values():
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": (begin, end)}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    require(len(text) <= _MAX_HEADER, errors.DataError, f"a header of at most {_MAX_HEADER} bytes", len(text))
    _require_simple(text, 3, _MAX_PARTS, errors.DataError)
    return len(text).to_bytes(8, "little") + text.replace(_ZEROS.encode(), sha256(text).hexdigest().encode(), 1)


# -- reading ---------------------------------------------------------------------------------------------------------


def read_header(file: BinaryIO, size: int) -> Header:
    """Read and check the header of a file of this size."""
    text = _read_text(file, size)
    if seal := _SEAL.match(text):
        found = sha256(text.replace(seal[1], _ZEROS.encode(), 1)).hexdigest()
        require(found.encode() == seal[1], Corrupt, "a header that fits its SHA-256", "a damaged one")
    header = parse(text, 3, "a header in JSON", _MAX_PARTS)
    metadata = header.pop("__metadata__", {})
    _require_text(metadata, Corrupt)
    ours = {key: metadata.pop(key) for key in (_HEADER_SUM, _SUM, _SUMS) if key in metadata}
    is_whole = len(ours) == 2 and _HEADER_SUM in ours if seal else not ours
    require(is_whole, Corrupt, "the checksums of the header and of the data", "altered ones")
    entries = _entries(header, size - 8 - len(text))
    sums = None
    if _SUMS in ours:
        sums = parse(ours[_SUMS].encode(), 1, "checksums in JSON", _MAX_PARTS)
        is_whole = sums.keys() == entries.keys() and all(isinstance(digits, str) for digits in sums.values())
        require(is_whole, Corrupt, "a checksum for each array", "others")
    return Header(8 + len(text), entries, metadata, sums, ours.get(_SUM))


def _read_text(file: BinaryIO, size: int) -> bytes:
    """Return the header's text, once its length and first character are plausible."""
    start = file.read(64)
    length = int.from_bytes(start[:8], "little")
    kind = next((kind for magic, kind in _FOREIGN.items() if length > size and re.match(magic, start)), "")
    require(start[8:9] in (b"", b"{"), Unsafe if kind else Corrupt, "safetensors", kind or "something else")
    require(length <= size - 8, Corrupt, f"a file of at least {8 + length} bytes", size)
    require(length <= _MAX_HEADER, Unsafe, f"a header of at most {_MAX_HEADER} bytes", length)
    file.seek(8)
    return file.read(length)


def parse(text: bytes, levels: int, what: str, parts: int = _MAX_HEADER) -> dict[str, Any]:
    """Parse a JSON object of at most so many levels, and so many brackets, commas and strings; no name comes twice."""
    import json

    _require_simple(text, levels, parts, Unsafe)
    try:  # a number that is cut short is still too large to pass
        value = json.loads(text.decode(), object_pairs_hook=_unique, parse_int=lambda digits: int(digits[:80]))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise Corrupt(f"expected {what}, got {error}. {_FIXES[Corrupt]}.") from error
    require(isinstance(value, dict), Corrupt, what, "something else")
    return dict(value)


def _require_simple(text: bytes, levels: int, parts: int, error: type[errors.NNBackendError]) -> None:
    """Refuse JSON that is deep or has many parts: the parser's stack, memory and time are finite."""
    plain = text.replace(rb"\\", b"").replace(rb"\"", b"")  # so that strings hold no quotes
    is_short = plain.count(b'"') <= 2 * parts
    marks = _STRING.sub(b"", plain).translate(None, _NO_MARKS) if is_short else b""
    depths = accumulate(map(_DEEPER.__getitem__, marks))
    require(all(depth <= levels for depth in depths), error, f"at most {levels} levels", "more")
    require(is_short and len(marks) <= parts, error, f"at most {parts} brackets, commas and strings", "more")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build a JSON object, unless a key comes twice."""
    found = dict(pairs)
    require(len(found) == len(pairs), Unsafe, "each name once", "one of them twice")
    return found


def _entries(header: dict[str, Any], available: int) -> dict[str, Entry]:
    """Return the arrays in the order of the header; their data fills the file without a hole or an overlap."""
    entries, filled = {}, 0
    for name, value in header.items():
        match value:
            case {"dtype": str(kind), "shape": [*shape], "data_offsets": [begin, end], **more} if not more:
                is_entry = all(type(number) is int and number >= 0 for number in (*shape, begin, end))
            case _:
                is_entry = False
        if not is_entry:
            raise refusal(Corrupt, "dtype, shape and offsets", value)
        require_sane(name, shape, Unsafe)
        if kind not in KINDS:
            raise refusal(errors.IncompatibleCheckpointError, ", ".join(KINDS), kind)
        if end - begin != (size := math.prod(shape) * _width(kind)):
            raise refusal(Unsafe, f"{size} bytes for {name!r:.80}", end - begin)
        entries[name] = Entry(begin, end, name, kind, tuple(shape))
    for begin, end, name, _, _ in sorted(entries.values()):
        if begin != filled:
            raise refusal(Unsafe, f"data for {name!r:.80} at {filled}", begin)
        filled = end
    require(filled == available, Corrupt if filled > available else Unsafe, f"{filled} bytes of data", available)
    return entries


# -- both ------------------------------------------------------------------------------------------------------------


def _width(kind: str) -> int:
    return int(KINDS[kind][1])


def require_sane(name: object, shape: Sequence[int], error: type[errors.NNBackendError]) -> None:
    """Refuse names and shapes that no honest file has."""
    if not isinstance(name, str) or _BAD_NAME.fullmatch(name):
        raise refusal(error, "a name that is plain text, not empty, not reserved and not a path", repr(name))
    if len(shape) > 32 or math.prod(size or 1 for size in shape) >= 2**60:
        raise refusal(error, f"at most 32 dimensions and 2**60 elements in {name!r:.80}", shape)


def _require_text(metadata: object, error: type[errors.NNBackendError]) -> None:
    """Refuse metadata that is not from text to text."""
    pairs = metadata.items() if isinstance(metadata, dict) else [(None, None)]
    is_text = all(isinstance(part, str) and not re.search("[\ud800-\udfff]", part) for pair in pairs for part in pair)
    require(is_text, error, "metadata from Unicode text to text", "something else")
