"""TensorBoard's event files, byte by byte; tests/extras/test_tensorboard.py has them read by TensorBoard itself."""

import math
import struct
import time

import pytest
from resume_case import SECOND, fit_quietly, maker

from nnbackend import callbacks
from nnbackend.callbacks import events


@pytest.mark.parametrize(("data", "crc"), [
    (b"", 0), (b"123456789", 0xE3069283), (bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43),
    (bytes(range(32)), 0x46DD794E), (bytes(range(31, -1, -1)), 0x113FDB5C),
    (bytes.fromhex("01c000000000000000000000000000001400000000000400000000140000001828000000000000000200000000000000"),
     0xD9963A56),
])  # fmt: skip
def test_checksums_of_rfc_3720(data, crc):
    assert events.crc32c(data) == crc


def frames(data):
    """The contents of TFRecord frames, whose checksums are right."""
    found = []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        assert data[8:12] == events.masked(data[:8])
        body, rest = data[12 : 12 + length], data[12 + length :]
        assert rest[:4] == events.masked(body)
        found.append(body)
        data = rest[4:]
    return found


def number(data):
    """A varint and what comes after it."""
    n = shift = 0
    for i, byte in enumerate(data):
        n |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return n, data[i + 1 :]
    raise AssertionError("a number without an end")


def fields(data):
    """The fields of a message, by number."""
    found = {}
    while data:
        key, data = number(data)
        if key & 7 == 0:
            value, data = number(data)
        elif key & 7 == 2:
            length, data = number(data)
            value, data = data[:length], data[length:]
        else:
            size = {1: 8, 5: 4}[key & 7]
            (value,), data = struct.unpack({8: "<d", 4: "<f"}[size], data[:size]), data[size:]
        found.setdefault(key >> 3, []).append(value)
    return found


def scalars(folder):
    """(step, tag, value) of the scalars in the one file there."""
    (path,) = folder.iterdir()
    found = []
    for event in map(fields, frames(path.read_bytes())):
        for value in fields(event[5][0])[1] if 5 in event else []:
            said = fields(value)
            found += [(event[2][0], said[1][0].decode(), said[2][0])] if 2 in said else []
    return found


def f32(x):
    return struct.unpack("<f", struct.pack("<f", x))[0]


@pytest.mark.parametrize("n", [0, 1, 127, 128, 300, 2**32, 2**63 - 1])
def test_numbers(n):
    assert number(events.varint(n) + b"rest") == (n, b"rest")
    assert fields(events.whole(2, n)) == {2: [n]}


def test_numbers_that_do_not_fit():
    assert fields(events.whole(2, -1)) == {2: [2**64 - 1]}
    assert fields(events.single(2, 1e300) + events.single(2, -1e300)) == {2: [math.inf, -math.inf]}
    assert math.isnan(fields(events.single(2, math.nan))[2][0])


def test_what_a_fit_leaves(tmp_path):
    trainer = maker(metrics=["accuracy"])()
    begin = time.time()
    fit_quietly(validation_data=SECOND)(trainer, callbacks=[callbacks.TensorBoard(tmp_path)])
    for run, prefix in (("train", ""), ("validation", "val_")):
        expected = [
            (row["epoch"], name, f32(row[prefix + name])) for row in trainer.history for name in ("loss", "accuracy")
        ]
        found = [entry for entry in scalars(tmp_path / run) if entry[1] != "lr"]
        assert found == expected
    assert [entry for entry in scalars(tmp_path / "train") if entry[1] == "lr"] == [
        (i, "lr", f32(1e-3)) for i in (1, 2)
    ]
    (path,) = (tmp_path / "train").iterdir()
    first, start, text, *_ = map(fields, frames(path.read_bytes()))
    assert first[3] == [b"brain.Event:2"]
    assert begin <= first[1][0] <= time.time()
    assert (start[2], fields(start[7][0])) == ([1], {1: [1]})
    (value,) = fields(text[5][0])[1]
    assert b"loss: cross_entropy\n" in fields(fields(value)[8][0])[8][0]


def test_without_validation_there_is_no_run_of_that_name(tmp_path):
    def more(trainer, row):
        row.update(words="a", nothing=None, whole=3)

    fit_quietly(epochs=1)(maker()(), callbacks=[more, callbacks.TensorBoard(tmp_path)])
    assert [path.name for path in tmp_path.iterdir()] == ["train"]
    assert [tag for _, tag, _ in scalars(tmp_path / "train")] == ["loss", "whole", "lr"]
