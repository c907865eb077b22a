"""TensorBoard's event files: protocol buffers in TFRecord frames.

The messages are those of tensorboard/compat/proto/event.proto and summary.proto, with numbers of fields from there.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

# -- protocol buffers: a field is (number << 3 | kind of its value), then the value


def varint(n: int) -> bytes:
    """A whole number >= 0, seven bits a byte, lowest first."""
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes((*out, n))


def whole(field: int, n: int) -> bytes:
    """An int64 or an enum."""
    return varint(field << 3) + varint(n & (1 << 64) - 1)


def double(field: int, x: float) -> bytes:
    """A float of 64 bits."""
    return varint(field << 3 | 1) + struct.pack("<d", x)


def single(field: int, x: float) -> bytes:
    """A float of 32 bits; what is too large for it is infinite."""
    try:
        return varint(field << 3 | 5) + struct.pack("<f", x)
    except OverflowError:
        return single(field, float("inf") if x > 0 else float("-inf"))


def block(field: int, data: bytes | str) -> bytes:
    """Bytes, text, or a message in a message."""
    data = data.encode() if isinstance(data, str) else data
    return varint(field << 3 | 2) + varint(len(data)) + data


def doubles(field: int, values: Sequence[float]) -> bytes:
    """A packed list."""
    return block(field, struct.pack(f"<{len(values)}d", *values))


# -- messages


def event(time: float, step: int, content: bytes) -> bytes:
    """Event: wall_time, step, and what happened."""
    return double(1, time) + whole(2, step) + content


def version() -> bytes:
    """file_version, the first event of each file."""
    return block(3, "brain.Event:2")


def start() -> bytes:
    """session_log with status START: readers forget what they know of this step and later ones."""
    return block(7, whole(1, 1))


def summary(values: Iterable[bytes]) -> bytes:
    """Several of the following."""
    return block(5, b"".join(block(1, value) for value in values))


def scalar(tag: str, x: float) -> bytes:
    """A point of a chart."""
    return block(1, tag) + single(2, x)


def histogram(tag: str, values: Sequence[float], edges: Sequence[float], counts: Sequence[float]) -> bytes:
    """Counts between edges, one more than there are counts."""
    squares = sum(x * x for x in values)
    head = (min(values), max(values), float(len(values)), sum(values), squares)
    numbers = b"".join(double(i, x) for i, x in enumerate(head, start=1))
    return block(1, tag) + block(5, numbers + doubles(6, edges) + doubles(7, (0.0, *counts)))


def text(tag: str, markdown: str) -> bytes:
    """A page of the text plugin: a tensor (8) of type string (1: 7), shape (2) (1,), with one string (8)."""
    tensor = whole(1, 7) + block(2, block(2, whole(1, 1))) + block(8, markdown)
    return block(1, tag) + block(8, tensor) + block(9, block(1, block(1, "text")))


# -- frames


def _entry(crc: int) -> int:
    for _ in range(8):
        crc = crc >> 1 ^ 0x82F63B78 * (crc & 1)
    return crc


_TABLE = tuple(map(_entry, range(256)))


def crc32c(data: bytes) -> int:
    """Castagnoli's checksum, RFC 3720 B.4."""
    crc, table = 0xFFFFFFFF, _TABLE
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF


def masked(data: bytes) -> bytes:
    """The checksum as TFRecord has it, rotated and moved, so that checksums of checksums are no special case."""
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def record(data: bytes) -> bytes:
    """Length, its checksum, data, its checksum."""
    length = struct.pack("<Q", len(data))
    return length + masked(length) + data + masked(data)
