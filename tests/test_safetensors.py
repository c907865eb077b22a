"""The safetensors reader and writer: exact round trips, and nothing hostile or damaged gets in."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import sys
import time
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from nnbackend.errors import (
    CheckpointError,
    CorruptCheckpointError,
    DataError,
    DTypeError,
    IncompatibleCheckpointError,
    UnsafeFileError,
)
from nnbackend.io.safetensors import read, write

DTYPES = ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?"]
ENTRY = {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}


def packed(header: object, data: bytes = b"") -> bytes:
    """A file with this header, which may be broken on purpose."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def reread(path: Path, content: bytes) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    path.write_bytes(content)
    return read(path)


def same(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Bit for bit, whatever the byte order and the strides."""
    native = b.dtype.newbyteorder("=")
    return (a.shape, a.dtype) == (b.shape, native) and a.tobytes() == b.astype(native).tobytes()


@st.composite
def odd_arrays(draw: st.DrawFn) -> NDArray[Any]:
    dtype = np.dtype(draw(st.sampled_from(DTYPES))).newbyteorder(draw(st.sampled_from("<>")))
    base = draw(arrays(dtype, draw(array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))))
    steps = draw(st.lists(st.sampled_from([1, 2, -1, -2]), min_size=base.ndim, max_size=base.ndim))
    view = base[tuple(slice(None, None, step) for step in steps)]
    return draw(st.sampled_from([view, view.T, np.array(view, order="F")]))


@settings(max_examples=150, deadline=None)
@given(
    odd=st.dictionaries(st.sampled_from(["w", "0.weight", "é/..x ", "a\\b"]), odd_arrays(), max_size=4),
    note=st.text(max_size=9),
)
def test_round_trip_and_the_other_package_agree(tmp_path_factory: Any, odd: dict[str, Any], note: str) -> None:
    path = tmp_path_factory.getbasetemp() / "round.safetensors"
    write(path, odd, {"note": note})
    ours, metadata = read(path)
    theirs = safetensors.numpy.load_file(path)
    assert metadata == {"note": note}
    assert list(ours) == list(odd)
    assert theirs.keys() == odd.keys()
    for name, array in odd.items():
        assert same(ours[name], array)
        assert same(theirs[name], array)
        assert ours[name].flags.writeable
        assert ours[name].flags.owndata
    plain = {name: np.array(array, array.dtype.newbyteorder("="), order="C") for name, array in odd.items()}
    safetensors.numpy.save_file(plain, path, {"note": note})
    ours, metadata = read(path)
    assert metadata == {"note": note}
    assert ours.keys() == odd.keys()
    assert all(same(ours[name], array) for name, array in odd.items())


@pytest.mark.parametrize("array", [np.arange(6.0).reshape(2, 3).T, np.ones((3, 2), order="F"), np.array(2.5)])
def test_awkward_layouts_that_the_other_writer_gets_wrong(tmp_path: Path, array: NDArray[Any]) -> None:
    notes = {"config": '{"[[[{": 1}', "backslash": "\\", "brackets": "[[[["}
    write(tmp_path / "a", {"b": np.array(1, np.int8), "w": array}, {"nnbackend.sha256": "stale", **notes})
    found, metadata = read(tmp_path / "a")
    assert same(found["w"], array)
    assert same(safetensors.numpy.load_file(tmp_path / "a")["w"], array)
    assert metadata == notes
    text = (tmp_path / "a").read_bytes()
    assert int.from_bytes(text[:8], "little") % 8 == 0
    assert text.endswith(array.tobytes() + b"\1")  # the widest first, so that all are aligned


def test_bfloat16_is_widened_exactly_or_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bits = np.arange(2**16, dtype="<u2")
    header = {"x": {"dtype": "BF16", "shape": [2**16], "data_offsets": [4, 2**17 + 4]}}
    header["zero"] = {"dtype": "BF16", "shape": [], "data_offsets": [0, 2]}
    header["half"] = {"dtype": "BF16", "shape": [1, 1], "data_offsets": [2, 4]}
    content = packed(header, b"\0\0\0\x3f" + bits.tobytes())
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    found, _ = reread(tmp_path / "b", content)
    assert found["x"].dtype == found["zero"].dtype == np.float32
    assert np.array_equal(found["x"].view(np.uint32), bits.astype(np.uint32) << 16)
    assert found["zero"].shape == ()
    assert found["zero"].flags.writeable
    assert found["half"].tolist() == [[0.5]]
    monkeypatch.undo()
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    kept, _ = read(tmp_path / "b")
    write(tmp_path / "b", {"x": kept["x"][::-2], "zero": kept["zero"]})
    again, _ = read(tmp_path / "b")
    assert again["x"].dtype == bfloat16
    assert again["x"].tobytes() == bits[::-2].tobytes()
    assert again["zero"].shape == ()


@pytest.mark.parametrize("name", ["", "__metadata__", "a\0b", "..", "../x", "a/../b", "a\\..\\b", "\ud800", 3])
def test_bad_names_are_neither_written_nor_read(tmp_path: Path, name: Any) -> None:
    with pytest.raises(DataError, match="name"):
        write(tmp_path / "n", {name: np.ones(2)})
    assert not list(tmp_path.iterdir())
    if name not in ("__metadata__", 3):
        with pytest.raises(UnsafeFileError, match="name"):
            reread(tmp_path / "n", packed({name: ENTRY}, b"ab"))


@pytest.mark.parametrize("array", [np.ones(2, complex), np.array(["a"]), np.array([{}]), np.zeros(1, "M8[s]")])
def test_other_dtypes_are_refused(tmp_path: Path, array: NDArray[Any]) -> None:
    with pytest.raises(DTypeError, match=r"x: expected 'w' in F64, .* got .*Change it first"):
        write(tmp_path / "x", {"w": array})


@pytest.mark.parametrize("metadata", [{"a": 1}, {1: "a"}, {"a": "\udfff"}])
def test_metadata_is_text(tmp_path: Path, metadata: Any) -> None:
    with pytest.raises(DataError, match="metadata"):
        write(tmp_path / "x", {}, metadata)


def test_every_truncation_and_every_flipped_bit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model"
    write(path, {"empty": np.ones((3, 0)), "w": np.full(3, 32, np.int8), "on": np.array(True)}, {"note": "x"})
    whole = path.read_bytes()
    for length in range(len(whole)):
        with pytest.raises(CorruptCheckpointError, match=r"model: expected .*, got .*\."):
            reread(path, whole[:length])
    for position in range(len(whole)):
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[position] ^= 1 << bit
            with pytest.raises(CorruptCheckpointError, match=r"model: expected .*, got .*\."):
                reread(path, bytes(damaged))


def one(data: bytes = b"ab", **changes: Any) -> bytes:
    """A file with one array of two bytes, changed in its header or its data."""
    return packed({"a": ENTRY | changes}, data)


def two(data: bytes, begin: int) -> bytes:
    """A file with one array of two bytes at 0 and another at `begin`."""
    return packed({"a": ENTRY, "b": ENTRY | {"data_offsets": [begin, begin + 2]}}, data)


TEXT = json.dumps(ENTRY).encode()
UNSAFE = {
    "array bomb": packed(b'{"a":' + b"[" * 100_000),
    "object bomb": packed(b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    "object bomb cut short": packed(b'{"a":' * 100_000),
    "digit bomb": packed(b'{"a":' + TEXT.replace(b"[2]", b"[" + b"9" * 100_000 + b"]") + b"}", b"ab"),
    "overlap": two(b"abc", 1),
    "shared": two(b"ab", 0),
    "hole": two(b"abcde", 3),
    "hole at the start": one(b"abc", data_offsets=[1, 3]),
    "trailing bytes": one(b"abc"),
    "backwards": one(data_offsets=[2, 0]),
    "shape and offsets differ": one(shape=[3]),
    "huge dimension": one(shape=[2**62], dtype="F64"),
    "huge but empty": one(b"", shape=[0, 2**62], data_offsets=[0, 0]),
    "wraps to 2 bytes": one(shape=[2**63 + 1, 2]),
    "33 dimensions": one(shape=[1] * 32 + [2]),
    "duplicate name": packed(b'{"a":%s,"a":%s}' % (TEXT, TEXT), b"ab"),
    "duplicate key": packed(b'{"a":' + TEXT.replace(b"{", b'{"dtype":"I8",') + b"}", b"ab"),
}
CORRUPT = {
    "quote bomb": packed(b'{"' + b'\\"' * 100_000),
    "header longer than the file": (2**63).to_bytes(8, "little") + b"{}",
    "missing bytes": one(b"a"),
    "negative": one(shape=[-1, -2]),
    "boolean size": one(shape=[True, 2]),
    "fraction": one(shape=[2.0]),
    "infinity": one(shape=[float("inf")]),
    "another key": one(more=1),
    "no entry": packed({"a": None}),
    "dtype list": one(dtype=["U8"]),
    "boolean of 2": one(b"\1\2", dtype="BOOL"),
    "metadata list": packed({"__metadata__": []}),
    "metadata number": packed({"__metadata__": {"a": 1}}),
    "lone checksum": packed({"__metadata__": {"nnbackend.sha256": "0" * 64}}),
    "not UTF-8": packed(b'{"\xff":1}'),
    "UTF-16": packed('{"a":1}'.encode("utf-16-le")),
    "no JSON": packed(b"{'a': 1}"),
    "empty header": packed(b""),
    "a text": b"hello, this is no model at all",
}


def refused_cheaply(path: Path, error: type[Exception]) -> None:
    start = time.process_time()
    with pytest.raises(error, match=rf"{path.name}: expected .*, got .*\. [A-Z].*\.") as caught:
        read(path)
    assert time.process_time() - start < 0.1
    assert type(caught.value) is error
    assert len(str(caught.value)) < 600
    tracemalloc.start()
    try:
        with pytest.raises(error):
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("case", [*UNSAFE, *CORRUPT])
def test_hostile_files_are_refused_fast_in_little_memory(tmp_path: Path, case: str) -> None:
    (tmp_path / "bad").write_bytes((UNSAFE | CORRUPT)[case])
    refused_cheaply(tmp_path / "bad", UnsafeFileError if case in UNSAFE else CorruptCheckpointError)


def test_a_sound_file_of_another_dtype_is_called_incompatible(tmp_path: Path) -> None:
    (tmp_path / "float8").write_bytes(one(dtype="F8_E4M3"))
    refused_cheaply(tmp_path / "float8", IncompatibleCheckpointError)


def test_a_header_beyond_100_mb_is_not_even_read(tmp_path: Path) -> None:
    with open(tmp_path / "bomb", "wb") as file:
        file.write((100_000_001).to_bytes(8, "little") + b"{")
        file.truncate(100_000_009)
    refused_cheaply(tmp_path / "bomb", UnsafeFileError)


def test_the_recursion_limit_does_not_matter(tmp_path: Path) -> None:
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(1_000_000)
    try:
        with pytest.raises(UnsafeFileError, match="three levels"):
            reread(tmp_path / "deep", UNSAFE["object bomb"])
    finally:
        sys.setrecursionlimit(limit)


class Canary:
    """Unpickling it leaves a mark."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.mark,)


@pytest.mark.parametrize("protocol", range(6))
def test_nothing_in_a_pickle_runs(tmp_path: Path, protocol: int) -> None:
    mark = tmp_path / "ran"
    pickled = pickle.dumps({"w": Canary(str(mark))}, protocol)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("model/data.pkl", pickled)
    bare = pickle.dumps(Canary(str(mark)), protocol)
    for content in (pickled, bare, archive.getvalue(), gzip.compress(pickled)):
        with pytest.raises(UnsafeFileError, match="pickle is never loaded"):
            reread(tmp_path / "model.pt", content)
    assert not mark.exists()
    pickle.loads(bare)
    assert mark.exists()  # so the canary does sing


def test_other_formats_are_named(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones(3))
    with pytest.raises(UnsafeFileError, match=r"a NumPy \.npy file"):
        read(tmp_path / "x.npy")
    with pytest.raises(UnsafeFileError, match="HDF5"):
        reread(tmp_path / "x.h5", b"\x89HDF\r\n\x1a\n" + bytes(9))
    with pytest.raises(FileNotFoundError) as caught:
        read(tmp_path / "absent")
    assert not isinstance(caught.value, CheckpointError)
    with pytest.raises(CorruptCheckpointError, match="folder"):
        read(tmp_path)
