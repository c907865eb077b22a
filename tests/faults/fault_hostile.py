"""Files that are damaged or built to deceive: `HOSTILE[name]` is the content and the error it must meet."""

from __future__ import annotations

import hashlib
import json
import zlib
from typing import Any

from nnbackend.errors import CorruptCheckpointError, IncompatibleCheckpointError, UnsafeFileError

ENTRY = {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}
EMPTY = b'{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'
TEXT = json.dumps(ENTRY).encode()
SEAL, SUM, SUMS = "nnbackend.header_sha256", "nnbackend.sha256", "nnbackend.sha256s"
ZEROS, OF_AB = "0" * 64, hashlib.sha256(b"ab").hexdigest()


def packed(header: object, data: bytes = b"") -> bytes:
    """A file with this header, which may be broken on purpose."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def one(data: bytes = b"ab", **changes: Any) -> bytes:
    """A file with one array of two bytes, changed in its header or its data."""
    return packed({"a": ENTRY | changes}, data)


def two(data: bytes, begin: int) -> bytes:
    """A file with one array of two bytes at 0 and another at `begin`."""
    return packed({"a": ENTRY, "b": ENTRY | {"data_offsets": [begin, begin + 2]}}, data)


def named(name: str) -> bytes:
    return packed({name: ENTRY}, b"ab")


def sealed(data: bytes = b"ab", **sums: Any) -> bytes:
    """A file with one array whose header fits its own checksum, whatever it says."""
    header = {"__metadata__": {SEAL: ZEROS} | sums, "a": ENTRY}
    text = json.dumps(header, separators=(",", ":")).encode()
    return packed(text.replace(ZEROS.encode(), hashlib.sha256(text).hexdigest().encode(), 1), data)


def listed(**digits: Any) -> dict[str, str]:
    return {SUMS: json.dumps(digits)}


GOOD = sealed(**listed(a=OF_AB))
GOOD_1 = sealed(**{SUM: OF_AB})
UNSAFE = {
    "array bomb": packed(b'{"a":' + b"[" * 100_000),
    "object bomb": packed(b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    "object bomb cut short": packed(b'{"a":' * 100_000),
    "bomb in the metadata": packed(b'{"__metadata__":{"a":' + b"[" * 100_000),
    "four levels": packed(b'{"__metadata__":{"a":{"b":{}}}}'),
    "digit bomb": packed(b'{"a":' + TEXT.replace(b"[2]", b"[" + b"9" * 100_000 + b"]") + b"}", b"ab"),
    "comma bomb": packed(b'{"a":[' + b"0," * 200_000 + b"0]}"),
    "string bomb": packed(b'{"a":[' + b'"",' * 200_000 + b'""]}'),
    "bare strings": packed(b'{"a":' + b'""' * 200_000 + b"}"),
    "bracket bomb": packed(b'{"a":[' + b"[]" * 200_000 + b"]}"),
    "20,000 empty arrays": packed(b"{" + b",".join(b'"%d":%s' % (i, EMPTY) for i in range(20_000)) + b"}"),
    "header of 5 MB": packed(b"{" + b" " * 5_000_000 + b"}"),
    "overlap": two(b"abc", 1),
    "shared": two(b"ab", 0),
    "hole": two(b"abcde", 3),
    "hole at the start": one(b"abc", data_offsets=[1, 3]),
    "trailing bytes": one(b"abc"),
    "only trailing bytes": packed({}, b"abc"),
    "backwards": one(data_offsets=[2, 0]),
    "empty in the middle": packed({"a": ENTRY, "b": ENTRY | {"shape": [0], "data_offsets": [1, 1]}}, b"ab"),
    "far away": one(data_offsets=[2**63, 2**63 + 2]),
    "shape and offsets differ": one(shape=[3]),
    "shape too small": one(shape=[1]),
    "scalar of two": one(shape=[]),
    "empty of two": one(shape=[2, 0]),
    "huge dimension": one(shape=[2**62], dtype="F64"),
    "huge but empty": one(b"", shape=[0, 2**62], data_offsets=[0, 0]),
    "wraps to 2 bytes": one(shape=[2**63 + 1, 2]),
    "wraps to 0 bytes": one(b"", shape=[2**32, 2**32], data_offsets=[0, 0]),
    "33 dimensions": one(shape=[1] * 32 + [2]),
    "duplicate name": packed(b'{"a":%s,"a":%s}' % (TEXT, TEXT), b"ab"),
    "duplicate name, escaped": packed(b'{"a":%s,"\\u0061":%s}' % (TEXT, TEXT), b"ab"),
    "duplicate key": packed(b'{"a":' + TEXT.replace(b"{", b'{"dtype":"I8",') + b"}", b"ab"),
    "duplicate metadata": packed(b'{"__metadata__":{"a":"b"},"__metadata__":{}}'),
    "duplicate in the metadata": packed(b'{"__metadata__":{"a":"b","a":"c"}}'),
    "empty name": named(""),
    "NUL in a name": named("a\0b"),
    "surrogate in a name": named("\ud800"),
    "name of a folder": named(".."),
    "name of a path": named("../x"),
    "name of a path within": named("a/../b"),
    "name of a Windows path": named("a\\..\\b"),
    "checksums twice": sealed(**{SUMS: '{"a":"","a":""}'}),
    "bomb in the checksums": sealed(**{SUMS: '{"a":' * 100_000}),
    "list in the checksums": sealed(**{SUMS: '{"a":[""]}'}),
}
CORRUPT = {
    "quote bomb": packed(b'{"' + b'\\"' * 100_000),
    "header longer than the file": (2**63).to_bytes(8, "little") + b"{}",
    "longest header": (2**64 - 1).to_bytes(8, "little") + b"{}",
    "header cut short": packed({"a": ENTRY}, b"ab").replace(b"B\0", b"A\0", 1)[:-3],
    "no bytes": b"",
    "seven bytes": bytes(7),
    "length only": bytes(8),
    "empty header": packed(b""),
    "missing bytes": one(b"a"),
    "negative": one(shape=[-1, -2]),
    "negative offset": one(data_offsets=[-2, 0]),
    "boolean size": one(shape=[True, 2]),
    "boolean offset": one(data_offsets=[False, 2]),
    "fraction": one(shape=[2.0]),
    "fraction of an offset": one(data_offsets=[0.0, 2.0]),
    "exponent": packed(b'{"a":' + TEXT.replace(b"[2]", b"[2e0]") + b"}", b"ab"),
    "beyond double precision": packed(b'{"a":' + TEXT.replace(b"[2]", b"[1e999]") + b"}", b"ab"),
    "infinity": one(shape=[float("inf")]),
    "NaN": one(shape=[float("nan")]),
    "null size": one(shape=[None]),
    "text size": one(shape=["2"]),
    "shape of text": packed(b'{"a":{"dtype":"U8","shape":"[2]","data_offsets":[0,2]}}', b"ab"),
    "shape of a number": one(shape=2),
    "three offsets": one(data_offsets=[0, 1, 2]),
    "one offset": one(data_offsets=[2]),
    "another key": one(more=1),
    "key missing": packed({"a": {"dtype": "U8", "shape": [2]}}, b"ab"),
    "no entry": packed({"a": None}),
    "list as entry": packed({"a": ["U8", [2], [0, 2]]}, b"ab"),
    "text as entry": packed({"a": "U8"}, b"ab"),
    "dtype list": one(dtype=["U8"]),
    "dtype null": one(dtype=None),
    "boolean of 2": one(b"\1\2", dtype="BOOL"),
    "metadata list": packed({"__metadata__": []}),
    "metadata null": packed({"__metadata__": None}),
    "metadata number": packed({"__metadata__": {"a": 1}}),
    "metadata object": packed({"__metadata__": {"a": {}}}),
    "metadata surrogate": packed({"__metadata__": {"a": "\udfff"}}),
    "metadata as an array": packed({"__metadata__": ENTRY}, b"ab"),
    "lone checksum": packed({"__metadata__": {SUM: ZEROS}}),
    "lone checksums": packed({"__metadata__": {SUMS: "{}"}}),
    "seal second": packed({"__metadata__": {"a": "b", SEAL: ZEROS}}),
    "seal altered": GOOD.replace(b"header_sha256", b"header_sha255"),
    "seal wrong": GOOD.replace(b'"U8"', b'"I8"'),
    "seal without checksums": sealed(),
    "both kinds of checksums": sealed(**{SUM: OF_AB}, **listed(a=OF_AB)),
    "checksums as a list": sealed(**{SUMS: "[]"}),
    "checksums as text": sealed(**{SUMS: '"a"'}),
    "checksums as nothing": sealed(**{SUMS: ""}),
    "checksums cut short": sealed(**{SUMS: '{"a":"' + OF_AB}),
    "checksum missing": sealed(**listed()),
    "checksum too many": sealed(**listed(a=OF_AB, b=OF_AB)),
    "checksum of another": sealed(**listed(b=OF_AB)),
    "checksum null": sealed(**listed(a=None)),
    "checksum number": sealed(**listed(a=0)),
    "checksum empty": sealed(**listed(a="")),
    "checksum wrong": sealed(**listed(a=ZEROS)),
    "checksum of all wrong": sealed(**{SUM: ZEROS}),
    "checksum of all empty": sealed(**{SUM: ""}),
    "data altered": GOOD[:-1] + b"c",
    "data altered, format 1": GOOD_1[:-1] + b"c",
    "not UTF-8": packed(b'{"\xff":1}'),
    "surrogate in UTF-8": packed(b'{"\xed\xa0\x80":1}'),
    "UTF-16": packed('{"a":1}'.encode("utf-16-le")),
    "byte order mark": packed(b"\xef\xbb\xbf{}"),
    "leading space": packed(b" {}"),
    "no JSON": packed(b"{'a': 1}"),
    "two values": packed(b"{}{}"),
    "trailing comma": packed(b'{"a":1,}'),
    "NUL in the header": packed(b"{}\0"),
    "line feed in a string": packed(b'{"a\n":1}'),
    "bad escape": packed(b'{"\\x":1}'),
    "open string": packed(b'{"a'),
    "a list": packed(b"[]"),
    "a number": packed(b"1"),
    "a text": b"hello, this is no model at all",
    "a page": b"<!DOCTYPE html><html><head><title>404 Not Found</title></head></html>",
    "a pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:" + ZEROS.encode() + b"\nsize 9\n",
    "a picture": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(30),
    "zeros": bytes(4096),
    "ones": b"\xff" * 4096,
}
INCOMPATIBLE = {f"dtype {kind!r}": one(dtype=kind) for kind in ("F8_E4M3", "f32", "", "C64", "U8\0", "__import__")}
FOREIGN = {
    "a .npy file": b"\x93NUMPY\1\0v\0{'descr': '|O', 'fortran_order': False, 'shape': (1,), }" + bytes(40),
    "an HDF5 file": b"\x89HDF\r\n\x1a\n" + bytes(40),
    "compressed, as joblib does": zlib.compress(b"\x80\x04" + bytes(100)),
}
HOSTILE = {name: (content, CorruptCheckpointError) for name, content in CORRUPT.items()}
HOSTILE |= {name: (content, IncompatibleCheckpointError) for name, content in INCOMPATIBLE.items()}
HOSTILE |= {name: (content, UnsafeFileError) for name, content in (UNSAFE | FOREIGN).items()}
