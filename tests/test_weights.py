"""Weights in files: what they cost, who else reads them, and that a file that does not fit changes nothing."""

import json
import math
import subprocess
import sys
from pathlib import Path

import array_api_strict
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import nnbackend as nb
from nnbackend import nn, optim
from nnbackend.errors import (
    CorruptCheckpointError,
    DataError,
    DTypeError,
    IncompatibleCheckpointError,
    UnsafeFileError,
)
from nnbackend.io import safetensors
from nnbackend.recipe import is_hollow

DEVICE1 = array_api_strict.Device("device1")
GOLDEN = Path(__file__).parent / "fixtures" / "golden"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "value.safetensors"


def bits(net) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in net.state_dict().items()}


def alike(a, b) -> bool:
    """Equal with their types; arrays come back as tensors."""
    if isinstance(a, np.ndarray | nb.Tensor):
        a = np.asarray(a.to("cpu").numpy() if isinstance(a, nb.Tensor) else a)
        assert isinstance(b, nb.Tensor)
        assert not is_hollow(b.data)
        return a.dtype == b.numpy().dtype and a.shape == b.shape and a.tobytes() == b.numpy().tobytes()
    if isinstance(a, np.generic):
        return alike(a.item(), b)
    if type(a) is not type(b):
        return False
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(alike, a, b))
    if isinstance(a, dict):
        return len(a) == len(b) and all(
            alike(k, m) and alike(v, w) for (k, v), (m, w) in zip(a.items(), b.items(), strict=True)
        )
    return repr(a) == repr(b)


# -- values of all kinds ----------------------------------------------------------------------------------------------

ODD_KEYS = ["", "a.b", "a/b", "..", "../x", "\\..\\", "a\0b", "__metadata__", "\udc80", "é☃", "module", "tensor", "#2"]
VALUES = {
    "plain": {"a": 1, "b": [True, None, 2.5, "é", (1, (2,)), {}, [], ()], "c": {"d": {"e": -0.0}}},
    "not finite": [math.nan, math.inf, -math.inf, 5e-324, 1.7976931348623157e308],
    "large": {"n": 2**127 + 1, "m": -(2**255), "rng": np.random.default_rng(3).bit_generator.state},
    "keys": {1: "a", "1": "b", None: 0, (1, "x"): [1], 2.5: {3: nb.ones(2)}, True + 1: 5},
    "odd keys": {key: np.full(2, i) for i, key in enumerate(ODD_KEYS)},
    "odd keys and others": {key: [key, np.full(2, i)] for i, key in enumerate(ODD_KEYS)},
    "one name": {"a.b": nb.ones(1), "a": {"b": nb.zeros(1)}, "a.b#2": nb.ones(3)},
    "one name twice": {1: nb.ones(1), "1": nb.zeros(1)},
    "like a model": {"module": {"class": "nn.Linear"}, "at": "x", "tensor": "y", "dict": {"tuple": [1]}},
    "scalars": [np.float32(0.1), np.float64(0.1), np.int8(-3), np.uint64(2**64 - 1), np.bool_(True), np.str_("x")],
    "arrays": [np.zeros((0, 3)), np.array(3), nb.tensor(2.5), np.arange(6.0).reshape(2, 3).T, np.array([True, False])],
    "kinds": [np.ones(2, kind) for kind in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?")],
    "a tensor": nb.ones((2, 2)),
    "a number": 3,
    "nothing": None,
    "empty": {},
    "a device": nb.Tensor(array_api_strict.asarray([1.0, 2.0], device=DEVICE1)),
}


@pytest.mark.parametrize("name", VALUES)
def test_values_come_back(name, path):
    nb.save(VALUES[name], path)
    assert alike(VALUES[name], nb.load(path))
    names = list(load_file(path))
    assert all(n and ".." not in n.split("/") and "\0" not in n and n != "__metadata__" for n in names)
    assert set(nb.weights(path)) == set(names)


def test_states_of_optimizers_and_schedules_come_back(path):
    net = nn.MLP([3, 4, 1])
    optimizer = optim.Adam(net.parameters(), lr=0.1, amsgrad=True)
    schedule = optim.CosineAnnealingLR(optimizer, 10)
    nb.sum(net(nb.ones((2, 3)))).backward()
    optimizer.step()
    schedule.step()
    value = {"net": net, "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
    nb.save(value, path)
    back = nb.load(path)
    assert list(back["optimizer"]["state"]) == list(range(4))
    assert alike(value["optimizer"], back["optimizer"])
    assert alike(value["schedule"], back["schedule"])
    optim.Adam(back["net"].parameters(), amsgrad=True).load_state_dict(back["optimizer"])


@pytest.mark.parametrize("labels", [["b", "a", "ccc"], [3, 1, 2], [0.5, -1.0], [True, False], np.array([1, 2], "int8")])
def test_encoders_come_back(labels, path):
    encoder = nb.data.LabelEncoder().fit(labels)
    scaler = nb.data.StandardScaler().fit(np.random.default_rng(0).normal(size=(5, 2)))
    nb.save({"encoder": encoder, "scaler": scaler}, path)
    back = nb.load(path)
    assert back["encoder"].classes.tolist() == encoder.classes.tolist()
    assert back["encoder"].classes.dtype == encoder.classes.dtype
    assert back["scaler"].mean.tobytes() == scaler.mean.tobytes()
    assert back["scaler"].scale.tobytes() == scaler.scale.tobytes()


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"a": [1, {2, 3}]}, r"a\.1: expected models, .* got a set"), (b"x", "save: .* a bytes"),
        ({"f": lambda: 0}, "f: .*lambda"), ([1j], "0: .* a complex"), ({"x": {"y": object()}}, r"x\.y: .* a object"),
        ({"n": 10**80}, "n: .*integer of 80 digits"), ({"o": np.array([None])}, "o: expected numbers, got .*object"),
        ({"c": np.ones(2, "complex64")}, "c: expected numbers, got .*complex64"), ({b"k": 1}, "save: .* a bytes"),
        (np.array(["a"]), "save: expected numbers, got an array of <U1"), (optim.SGD, None), (range(3), "a range"),
    ],
)  # fmt: skip
def test_what_files_cannot_hold_is_named_with_its_place(value, place, path):
    if place is None:
        nb.save(value, path)
        assert nb.load(path) is value
        return
    with pytest.raises(TypeError, match=place):
        nb.save(value, path)
    assert list(path.parent.iterdir()) == []


def test_values_that_nobody_could_read_are_not_written(path):
    endless: list = []
    endless.append(endless)
    deep: list = []
    for _ in range(300):
        deep = [deep]
    for value in (endless, deep, list(range(300_000))):
        with pytest.raises(DataError, match="save: expected"):
            nb.save(value, path)
    assert list(path.parent.iterdir()) == []


def test_a_parameter_dict_is_a_model(path):
    nb.save(nn.ParameterDict({"a": nb.ones(2)}), path)
    assert type(nb.load(path)) is nn.ParameterDict


def test_the_whole_predictor_in_a_new_process(path, tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(3, 5, (20, 4))
    scaler, encoder = nb.data.StandardScaler().fit(x), nb.data.LabelEncoder().fit(["yes", "no", "perhaps"])
    net = nn.MLP([4, 8, 3]).init(1)
    nb.save({"net": net, "scaler": scaler, "labels": encoder}, path)
    np.save(tmp_path / "x.npy", x)
    code = """
import sys, numpy as np, nnbackend as nb
parts, x = nb.load(sys.argv[1]), np.load(sys.argv[2])
y = parts["net"](parts["scaler"].transform(x).astype("float32"))
sys.stdout.write(y.numpy().tobytes().hex() + " " + ",".join(parts["labels"].inverse_transform(y.numpy().argmax(1))))
"""
    command = [sys.executable, "-c", code, str(path), str(tmp_path / "x.npy")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    y = net(scaler.transform(x).astype("float32")).numpy()
    assert printed == y.tobytes().hex() + " " + ",".join(encoder.inverse_transform(y.argmax(1)))


# -- what they weigh --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_rounded_files_are_half_as_large_and_come_back_as_they_were(dtype, path):
    net = nn.MLP([64, 256, 64])
    nb.save(net, path)
    whole = path.stat().st_size
    nb.save(net, path, dtype=dtype)
    assert path.stat().st_size < 0.55 * whole
    for back in (nb.load(path), nb.load(path, into=nn.MLP([64, 256, 64]))):
        for name, value in back.state_dict().items():
            want = net.state_dict()[name].numpy()
            assert value.numpy().dtype == np.float32
            if dtype == "float16":
                np.testing.assert_array_equal(value.numpy(), want.astype("f2").astype("f4"))
            else:
                raw = want.view(np.uint32).astype(np.uint64)
                even = ((raw + 0x7FFF + (raw >> 16 & 1)) >> 16 << 16).astype(np.uint32).view(np.float32)
                np.testing.assert_array_equal(value.numpy(), even)
    with safetensors.File(path) as file:
        assert {file.kind(name) for name in file} == {{"float16": "F16", "bfloat16": "BF16"}[dtype]}
    if dtype == "float16":
        assert {a.dtype.name for a in load_file(path).values()} == {"float16"}


def test_rounding_spares_integers_and_keeps_widths(path):
    net = nn.BatchNorm1d(3).double()
    nb.save(net, path, dtype="bfloat16")
    back = nb.load(path)
    assert [v.dtype.name for v in back.state_dict().values()] == [v.dtype.name for v in net.state_dict().values()]
    nb.save({"x": np.array([1.1, 2.0]), "n": np.arange(3)}, path, dtype="float16")
    back = nb.load(path)
    assert (back["x"].dtype.name, back["n"].dtype.name) == ("float64", "int64")
    assert back["x"].numpy().tolist() == [float(np.float16(1.1)), 2.0]
    assert nb.weights(path)["x"].dtype.name == "float64"


def test_numbers_that_do_not_fit_are_an_error_and_no_file(path):
    with pytest.raises(DataError, match=r"'w'.*range of float16.*bfloat16"):
        nb.save({"w": np.array([1e6], "float32")}, path, dtype="float16")
    assert list(path.parent.iterdir()) == []
    nb.save({"w": np.array([math.inf, math.nan], "float32")}, path, dtype="float16")
    assert np.isinf(nb.load(path)["w"].numpy()[0])
    for wrong in ("float32", "int8", 16, "half"):
        with pytest.raises(DTypeError, match="save: expected dtype"):
            nb.save(nn.Linear(1, 1), path, dtype=wrong)


# -- other people's files ---------------------------------------------------------------------------------------------

# This is what `torch_model` in ci/make_golden.py has, with the names of torch.nn.
TORCH = lambda: nn.Sequential(  # noqa: E731
    nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3),
    nn.LSTM(3, 2, num_layers=2), nn.MultiheadAttention(2, 1), nn.LayerNorm(2),
)  # fmt: skip


def test_torchs_state_dicts_load_by_key():
    theirs = load_file(GOLDEN / "torch_state.safetensors")
    net = TORCH()
    assert nb.load(GOLDEN / "torch_state.safetensors", into=net) is net
    assert net.state_dict().keys() == theirs.keys()
    assert all(net.state_dict()[name].numpy().tobytes() == array.tobytes() for name, array in theirs.items())
    assert nb.load(GOLDEN / "torch_state.safetensors").keys() == theirs.keys()


def test_files_of_the_safetensors_package(path):
    save_file({"weight": np.ones((2, 3), "float32"), "bias": np.zeros(2, "float32")}, path)
    net = nb.load(path, into=nn.Linear(3, 2))
    assert net.weight.numpy().tolist() == [[1.0] * 3] * 2


def test_all_that_does_not_fit_is_listed_and_nothing_changes(path):
    nb.save(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5), nn.Linear(5, 5)), path)
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 6), nn.LayerNorm(3))
    net.register_buffer("count", nb.ones(1))
    before = bits(net)
    with pytest.raises(IncompatibleCheckpointError) as caught:
        nb.load(path, into=net)
    text = str(caught.value)
    for part in ("value.safetensors", "1.weight (expected (6, 4), got (5, 4))", "1.bias", "2.weight", "count"):
        assert part in text
    assert bits(net) == before


def test_a_damaged_last_tensor_changes_nothing(path):
    net = nn.Sequential(nn.Linear(3, 4), nn.Dropout(), nn.Linear(4, 5))
    nb.save(net, path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    twin = nn.Sequential(nn.Linear(3, 4), nn.Dropout(), nn.Linear(4, 5))
    before, key = bits(twin), twin[1].key
    for load in (lambda: nb.load(path, into=twin), lambda: nb.load(path)):
        with pytest.raises(CorruptCheckpointError, match=r"^[^:]*value.safetensors: expected data of [^:]*$"):
            load()
    assert (bits(twin), twin[1].key) == (before, key)


def test_into_wants_one_model(path):
    nb.save({"a": nn.Linear(1, 1), "b": nn.Linear(1, 1)}, path)
    with pytest.raises(IncompatibleCheckpointError, match="one model, got a dict with 2"):
        nb.load(path, into=nn.Linear(1, 1))


# -- formats ----------------------------------------------------------------------------------------------------------


def test_files_of_format_1():
    back = nb.load(GOLDEN / "weights_1.safetensors")
    assert back["0.weight"].shape == (2, 3)
    assert back["steps"].shape == ()


def test_files_of_format_2():
    back = nb.load(GOLDEN / "model_2.safetensors")
    net = back["net"]
    assert repr(net).count("\n") > 4
    assert [type(m).__name__ for m in net] == ["Linear", "GELU", "Dropout", "BatchNorm1d", "Linear"]
    assert net[0].weight.numpy().tolist() == [[0.0, 0.25], [0.5, 0.75], [1.0, 1.25]]
    assert (net[0].bias, net[1].approximate, net[2].p, net[3].eps) == (None, "tanh", 0.25, 0.001)
    assert net[4].weight.requires_grad is False
    assert not net[2].training
    assert (net[2].key, net[2].calls.value) == (7, 3)
    assert net[3].num_batches_tracked.item() == 5
    assert back["labels"].classes.tolist() == ["no", "yes"]
    assert back["scaler"].mean.tolist() == [0.5, 1.5]
    assert back["more"] == {1: (2.5, None), "x": [True, 2**100]}
    assert back["x"].numpy().tolist() == [[1, 2], [3, 4]]
    net = nb.load(GOLDEN / "model_2_rounded.safetensors")
    assert net.weight.numpy().tolist() == [[0.0, 0.25], [0.5, 0.75]]
    assert net.bias is None
    assert net.weight.numpy().dtype == np.float32
    tied = nb.load(GOLDEN / "model_2_tied.safetensors")
    assert tied["0"].weight is tied["1"].weight
    assert tied["0"].weight.numpy().tolist() == [[1.0, 2.0]]


def test_files_of_a_newer_format(path):
    text = {"format": 3, "version": "9.0", "value": None}
    safetensors.write(path, {}, {"nnbackend": json.dumps(text)})
    for read in (nb.load, nb.weights, lambda path: nb.load(path, into=nn.ReLU())):
        with pytest.raises(
            IncompatibleCheckpointError, match=r"value.safetensors: .*format 2 at most.*written by format 3.*Upgrade"
        ):
            read(path)


@pytest.mark.parametrize(
    "name", ["os.system", "subprocess.Popen", "Net", "nn.os", "antigravity.x", "nn.Module.__init__"]
)
def test_an_unknown_class_is_named_and_nothing_is_imported(name, path):
    text = {"class": name, "arguments": {}}
    safetensors.write(path, {}, {"nnbackend": json.dumps({"format": 2, "value": {"module": text, "at": ""}})})
    before = set(sys.modules)
    with pytest.raises(IncompatibleCheckpointError, match=f"value.safetensors: .*'{name}'.*nb.register.*into=net"):
        nb.load(path)
    assert set(sys.modules) == before


# -- one by one -------------------------------------------------------------------------------------------------------


def test_weights_are_read_when_they_are_asked_for(path):
    net = nn.Sequential(nn.Linear(300, 300), nn.Linear(300, 30))
    nb.save(net, path)
    data = bytearray(path.read_bytes())
    with safetensors.File(path) as file:
        first = min((file._header.entries[name].begin, name) for name in file)[1]
    data[-1] ^= 1
    path.write_bytes(data)
    found = nb.weights(path)
    assert len(found) == 4
    assert list(found) == list(net.state_dict())
    assert first in found
    assert "nope" not in found
    with pytest.raises(KeyError):
        found["nope"]
    np.testing.assert_array_equal(found[first].numpy(), net.state_dict()[first].numpy())
    assert not found[first].numpy().flags.writeable
    with pytest.raises(CorruptCheckpointError, match=r"^[^:]*value.safetensors: "):
        [found[name] for name in found]


def test_weights_of_tied_and_renamed_tensors(path):
    net = nn.Sequential(nn.Embedding(4, 3), nn.Linear(3, 4))
    net[1].weight = net[0].weight
    nb.save({"a.1": {"weight": nb.ones(1)}, "a": net, "b": net}, path)
    found = nb.weights(path)
    assert {"a.0.weight", "a.1.weight", "a.1.bias", "b.0.weight", "b.1.weight"} <= set(found)
    for name in ("a.0.weight", "b.0.weight", "b.1.weight"):
        assert found[name].numpy().tobytes() == net[0].weight.numpy().tobytes()
    nb.save(net, path)
    assert set(nb.weights(path)) == set(net.state_dict())
    assert load_file(path).keys() == {"0.weight", "1.bias"}
    fresh = nn.Sequential(nn.Embedding(4, 3), nn.Linear(3, 4))
    fresh.load_state_dict(nb.weights(path))
    assert bits(fresh) == bits(net)


def test_some_weights_for_some_of_a_model(path):
    nb.save(nn.MLP([3, 4, 2]), path)
    net = nn.Sequential(nn.Linear(3, 4))
    result = net.load_state_dict(nb.weights(path), strict=False)
    assert result.unexpected_keys == ["2.weight", "2.bias"]
    on_device = nb.weights(path, device=DEVICE1)["0.bias"]
    assert str(on_device.device) == "array_api_strict:device1"
    assert not is_hollow(nb.weights(path, device="cpu")["0.bias"].clone().data)


def test_weights_of_a_model_that_nobody_can_build(path):
    class Unknown(nn.Linear):
        pass

    net = Unknown(2, 2)
    nb.save(net, path)
    assert {n: t.numpy().tobytes() for n, t in nb.weights(path).items()} == bits(net)


@pytest.mark.parametrize("text", ['{"format":2,"value":{"module":{"weights_only":"x","tied":{"a":"b"}},"at":""}}'])
def test_tied_to_nothing(text, path):
    safetensors.write(path, {}, {"nnbackend": text})
    with pytest.raises(UnsafeFileError, match=r"value.safetensors: .*'a'"):
        nb.weights(path)
