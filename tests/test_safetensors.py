"""The safetensors reader and writer: exact round trips, whole and one by one. The rest is in faults."""

from __future__ import annotations

import functools
import json
import os
import sys
import tracemalloc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
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
    UnsafeFileError,
)
from nnbackend.io.safetensors import File, Late, read, write

DTYPES = ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?"]
ENTRY = {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}


def packed(header: object, data: Any = b"") -> bytes:
    """A file with this header, which may be broken on purpose."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(data)


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
    """Line 107 of the faults."""
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


def test_bfloat16_is_the_same_bytes_for_the_other_package(tmp_path: Path) -> None:
    bits = np.array([0x3F80, 0xC060, 0x7FC0, 0xFF80, 0x0001], "<u2")
    numbers = (bits.astype(np.uint32) << 16).view(np.float32)
    late = {"w": Late((5,), "BF16", lambda: numbers), "one": Late((), "BF16", lambda: numbers[0])}
    write(tmp_path / "f", late | {"empty": Late((0, 2), "BF16", lambda: np.ones((0, 2)))})
    entries = dict(safetensors.deserialize((tmp_path / "f").read_bytes()))
    assert {name: (entry["dtype"], entry["shape"]) for name, entry in entries.items()} == {
        "w": ("BF16", [5]), "one": ("BF16", []), "empty": ("BF16", [0, 2]),
    }  # fmt: skip
    assert [bytes(entries[name]["data"]) for name in ("w", "one", "empty")] == [bits.tobytes(), b"\x80\x3f", b""]
    ml_dtypes = pytest.importorskip("ml_dtypes")
    safetensors.numpy.save_file({"w": bits.view(ml_dtypes.bfloat16)}, tmp_path / "g")
    with File(tmp_path / "g") as file:
        assert file.kind("w") == "BF16"
        assert np.array_equal(file.load("w").astype("f4"), numbers, equal_nan=True)


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


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        read(tmp_path / "absent")
    assert not isinstance(caught.value, CheckpointError)
    with pytest.raises(CorruptCheckpointError, match="folder"):
        read(tmp_path)


GOLDEN = Path(__file__).parent / "fixtures" / "golden"


@pytest.mark.parametrize("version", [1, 2])
def test_files_of_every_format_stay_readable(version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Line 106 of the faults; format 1 is from before 2 was written."""
    expected = {
        "0.weight": np.arange(6, dtype="f4").reshape(2, 3) / 4,
        "0.bias": np.array([-1.5, np.inf]),
        "half": np.array([0.5, -2], "f2"),
        "brain": np.array([1, -3.5, np.nan], "f4"),
        "steps": np.array(7),
        "on": np.array([True, False]),
        "empty": np.ones((3, 0), "f4"),
        "bytes": np.arange(3, dtype="u1"),
        "transposed": np.arange(6, dtype="i2").reshape(2, 3).T,
    }
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    path = GOLDEN / f"weights_{version}.safetensors"
    found, metadata = read(path)
    assert metadata == {"format": "pt", "note": 'é "quoted"'}
    assert list(found) == list(expected)
    with File(path) as file:
        assert file.metadata == metadata
        for name, array in expected.items():
            assert same(found[name], array)
            assert same(file[name], array)
            assert same(file.load(name), array)


# -- one by one ------------------------------------------------------------------------------------------------------


def test_a_file_is_a_mapping_of_read_only_views(tmp_path: Path) -> None:
    weight = np.arange(6.0).reshape(2, 3)
    write(tmp_path / "f", {"w": weight, "n": np.array(3), "e": np.ones((0, 2))}, {"note": "x"})
    with File(tmp_path / "f") as file:
        assert (list(file), len(file), file.metadata) == (["w", "n", "e"], 3, {"note": "x"})
        assert "w" in file
        assert "x" not in file
        assert (file.shape("w"), file.kind("w"), file.kind("n")) == ((2, 3), "F64", "I64")
        view, fresh = file["w"], file.load("w")
        assert np.shares_memory(view, file["w"])
        for call in (file.__getitem__, file.load, file.shape, file.kind):
            with pytest.raises(KeyError, match="absent"):
                call("absent")
        assert all(same(file[name], array) for name, array in file.load_all().items())
    assert not view.flags.writeable
    assert fresh.flags.owndata
    fresh[:] = 0
    assert same(view, weight)  # it outlives the file
    with pytest.raises(ValueError, match="closed"):
        file["w"]
    with pytest.raises(ValueError, match="closed"):
        file.load("w")


def test_arrays_of_other_writers_need_not_be_aligned(tmp_path: Path) -> None:
    numbers = np.arange(3.0)
    header = {"b": {"dtype": "BOOL", "shape": [], "data_offsets": [0, 1]}}
    header["w"] = {"dtype": "F64", "shape": [3], "data_offsets": [1, 25]}
    (tmp_path / "f").write_bytes(packed(header, b"\1" + numbers.tobytes()))
    with File(tmp_path / "f") as file:
        assert file["w"].flags.aligned
        assert not file["w"].flags.writeable
        assert same(file["w"], numbers)
        assert same(file.load("w"), numbers)
        assert file["b"].item() is True


def test_one_array_costs_what_it_weighs(tmp_path: Path) -> None:
    """1 of 64 arrays of 256 kB, read or mapped: the others are not looked at."""
    write(tmp_path / "f", {str(i): np.full(2**16, i, "f4") for i in range(64)})
    with open(tmp_path / "f", "r+b") as raw:  # damage that nobody may meet
        raw.seek(-1, os.SEEK_END)
        raw.write(b"?")
    tracemalloc.start()
    try:
        with File(tmp_path / "f") as file:
            assert file["31"][0] == 31
            assert tracemalloc.get_traced_memory()[1] < 200_000
            assert file.load("31")[0] == 31
            assert tracemalloc.get_traced_memory()[1] < 200_000 + 2**18
            with pytest.raises(CorruptCheckpointError, match=r"f: expected data of '63' that fits its SHA-256"):
                file["63"]
    finally:
        tracemalloc.stop()


def test_a_file_cut_short_while_it_is_open(tmp_path: Path) -> None:
    write(tmp_path / "f", {"w": np.ones(9000)})
    with File(tmp_path / "f") as file:
        os.truncate(tmp_path / "f", os.path.getsize(tmp_path / "f") - 8)
        with pytest.raises(CorruptCheckpointError, match="bytes"):
            file["w"]
        with pytest.raises(CorruptCheckpointError, match="while reading"):
            file.load("w")


# -- late and rounded ------------------------------------------------------------------------------------------------


def test_late_arrays_are_made_in_turn_and_dropped(tmp_path: Path) -> None:
    size, alive, most = 2**25, [0], [0]

    def make(value: int) -> NDArray[Any]:
        array = np.full(size, value, np.uint8)
        alive[0] += 1
        most[0] = max(most[0], alive[0])
        weakref.finalize(array, lambda: alive.__setitem__(0, alive[0] - 1))
        return array

    write(tmp_path / "f", {str(i): Late((size,), "U8", functools.partial(make, i)) for i in range(6)})
    assert most[0] <= 4  # 64 MB and one
    with File(tmp_path / "f") as file:
        assert [int(file[name][-1]) for name in file] == list(range(6))


def test_nothing_is_copied(tmp_path: Path) -> None:
    big = np.ones(2**21)
    tracemalloc.start()
    try:
        write(tmp_path / "f", {"w": big})
        assert tracemalloc.get_traced_memory()[1] < 2**20
        tracemalloc.reset_peak()
        write(tmp_path / "f", {"a": big[::2], "b": big[1::2]})
        assert tracemalloc.get_traced_memory()[1] < 2 * big.nbytes
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("late", [((2,), "F32"), ((3,), "F64"), ((3,), "I32"), ((3,), "BOOL")])
def test_late_arrays_must_be_what_was_said(tmp_path: Path, late: Any) -> None:
    (tmp_path / "f").write_bytes(b"old")
    with pytest.raises((DataError, DTypeError), match=r"f: expected 'w' .*, got "):
        write(tmp_path / "f", {"w": Late(*late, lambda: np.ones(3, "f4"))})
    with pytest.raises(DTypeError, match="got F8"):
        write(tmp_path / "f", {"w": Late((3,), "F8", lambda: np.ones(3))})
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("f", b"old")]


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4"])
def test_rounding_is_to_nearest_even(tmp_path: Path, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)  # it rounds float64 twice: compare with the neighbours instead
    rng = np.random.default_rng(0)
    numbers = rng.standard_normal(5000) * 2.0 ** rng.integers(-40, 14, 5000)
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, -np.nan, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-40, 1e-45, -1e-40]
    special += [1 + 2**-11, 1 + 3 * 2**-11, 1 + 2**-11 + 2**-40, 65504, 6e-8, 2.0**-25]
    x = np.concatenate([numbers, special]).astype(dtype)[::-1]
    write(tmp_path / "f", {kind: Late(x.shape, kind, lambda: x) for kind in ("F16", "BF16")})
    found, _ = read(tmp_path / "f")
    assert np.array_equal(found["F16"].view("u2"), x.astype("=f2").view("u2"))
    rounded = found["BF16"]
    for unary in (np.isnan, np.isinf, np.signbit):
        assert np.array_equal(unary(rounded), unary(x))
    finite = np.isfinite(x)
    x, bits = x[finite].astype("f8"), rounded[finite].view("u4")
    error = np.abs(rounded[finite] - x)
    for near in (bits - 2**16, bits + 2**16):
        other = np.abs(near.view("f4") - x)
        assert np.all((error < other) | ((error == other) & (bits >> 16 & 1 == 0)) | np.isnan(other))


def test_numbers_beyond_the_range_are_refused(tmp_path: Path) -> None:
    for kind, wide, x in (
        ("F16", "bfloat16", np.array([65520, -1e5, np.inf, 1e300])),
        ("BF16", "float32", np.array([3.4e38, -1e39, np.nan, 1e300])),
    ):
        with pytest.raises(DataError, match=rf"f: 'w': expected .*16, got 3 beyond it\. Store it as {wide}\."):
            write(tmp_path / "f", {"w": Late((4,), kind, lambda x=x: x)})
    largest = {"F16": np.array(65519.0), "BF16": np.array(3.39e38)}
    write(tmp_path / "f", {kind: Late((), kind, lambda x=x: x) for kind, x in largest.items()})
    assert [float(x) for x in read(tmp_path / "f")[0].values()] == [65504, 3.3895313892515355e38]


@pytest.mark.parametrize("package", [True, False])
def test_bfloat16_of_a_file_goes_into_the_next(tmp_path: Path, package: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if package:
        pytest.importorskip("ml_dtypes")
    else:
        monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    bits = np.arange(2**16, dtype="<u2")
    quiet = np.where((bits & 0x7F80 == 0x7F80) & (bits & 0x7F > 0), bits | 0x40, bits)  # a NaN stays one
    (tmp_path / "a").write_bytes(packed({"w": {"dtype": "BF16", "shape": [2**16], "data_offsets": [0, 2**17]}}, bits))
    with File(tmp_path / "a") as file:
        write(tmp_path / "b", {"w": Late(file.shape("w"), file.kind("w"), lambda: file.load("w"))})
    assert (tmp_path / "b").read_bytes().endswith((bits if package else quiet).tobytes())
