"""Lines 1-30 of faults.md, shapes and dtypes, each as it says: what comes in, and what the user gets."""

import subprocess
import sys

import array_api_strict
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import nn, optim
from nnbackend.data import DataLoader, LabelEncoder, OneHotEncoder, StandardScaler
from nnbackend.errors import DataError, DTypeError, ShapeError

fit_settings = {"epochs": 1, "verbose": False, "check": False}
shapes = hnp.array_shapes(min_dims=1, max_dims=4, max_side=4)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(4, 2)

    def forward(self, x):
        return self.fc1(x)


def trainer(net=None, loss="mse"):
    return nb.Trainer(Net() if net is None else net, loss, optim.SGD(lr=0.1), device="cpu", seed=0)


def test_a_wrong_last_dimension_names_the_layer():
    """faults.md 1."""
    with pytest.raises(ShapeError) as error:
        Net()(nb.ones((5, 3)))
    assert str(error.value) == "fc1 = Linear(4, 2): expected input (..., 4), got (5, 3)"


@pytest.mark.parametrize(("layer", "axes"), [(nn.Conv1d, 1), (nn.Conv2d, 2), (nn.Conv3d, 3), (nn.ConvTranspose2d, 2)])
def test_wrong_channels_are_named(layer, axes):
    """faults.md 2: and channels that come last get a hint that helps."""
    conv, size = layer(3, 8, 2), (7,) * axes
    with pytest.raises(ShapeError, match=r"expected 3 channels, input \(n, 3, .*\), got \(2, 5, [7, ]+\)\.$"):
        conv(nb.ones((2, 5, *size)))
    last = nb.ones((2, *size, 3))
    with pytest.raises(ShapeError, match=rf"Channels come first: nb\.moveaxis\(x, -1, {-axes - 1}\)\.$"):
        conv(last)
    assert conv(nb.moveaxis(last, -1, -axes - 1)).shape[1] == 8


def test_a_kernel_larger_than_the_padded_input():
    """faults.md 3."""
    with pytest.raises(ShapeError, match=r"window of \(5, 5\), got \(2, 3, 2, 1\), which is \(4, 3\) when padded"):
        nn.Conv2d(3, 8, 5, padding=1)(nb.ones((2, 3, 2, 1)))
    with pytest.raises(ShapeError, match="expected at least 5 elements along axis 2"):
        nn.MaxPool2d(5)(nb.ones((2, 3, 2, 2)))


@pytest.mark.parametrize(
    "settings",
    [{"kernel_size": 0}, {"kernel_size": -1}, {"kernel_size": 3, "stride": 0}, {"kernel_size": 3, "groups": 2}],
)
def test_impossible_kernels_are_refused_at_construction(settings):
    """faults.md 4."""
    with pytest.raises(ValueError, match=f"Conv2d: expected .*{[*settings][-1].split('_')[0]}"):
        nn.Conv2d(3, 8, **settings)


@given(shapes, st.data())
def test_shapes_that_do_not_broadcast(shape, data):
    """faults.md 5: both shapes and the axis."""
    axis = data.draw(st.integers(1, len(shape)))
    other = list(shape)
    other[-axis] = shape[-axis] + 2 if shape[-axis] > 1 else 1
    if other[-axis] == 1 or shape[-axis] == 1:
        assert (nb.ones(shape) + nb.ones(tuple(other))).shape == shape
        return
    with pytest.raises(ShapeError) as error:
        nb.ones(shape) + nb.ones(tuple(other))
    lengths = f"axis {-axis} has length {shape[-axis]} in one and {other[-axis]} in another"
    assert f"got {shape} and {tuple(other)}: {lengths}" in str(error.value)


@pytest.mark.parametrize("loss", [F.mse_loss, F.l1_loss, F.binary_cross_entropy_with_logits, F.huber_loss])
def test_a_loss_of_n_against_n_by_1(loss):
    """faults.md 6: names the reshape; `allow_broadcast=True` opts in."""
    with pytest.raises(ShapeError, match=r"got \(5,\) and \(5, 1\)\. Reshape one: target\.reshape\(\(5,\)\)"):
        loss(nb.ones(5), nb.ones((5, 1)))
    if loss is F.mse_loss:
        assert loss(nb.ones(5), nb.zeros((5, 1)), allow_broadcast=True).item() == 1.0


def test_a_batch_of_one_in_batch_norm():
    """faults.md 7: with the hint where it may be the last batch."""
    with pytest.raises(ShapeError, match=r"more than 1 value per channel .* DataLoader\(\.\.\., drop_last=True\)"):
        nn.BatchNorm1d(3)(nb.ones((1, 3)))
    net, (X, y) = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), (np.ones((9, 4)), np.ones((9, 3)))
    with pytest.raises(ShapeError, match="drop_last=True"):
        trainer(net).fit(X, y, batch_size=4, **fit_settings)
    trainer(net).fit(DataLoader(np.float32(X), np.float32(y), batch_size=4, drop_last=True), **fit_settings)


def test_an_empty_batch():
    """faults.md 8: a result of shape (0, ...), but no mean loss."""
    assert nn.Linear(4, 2)(nb.ones((0, 4))).shape == (0, 2)
    assert nn.Conv2d(3, 8, 3)(nb.ones((0, 3, 9, 9))).shape == (0, 8, 7, 7)
    for loss, target in ((F.mse_loss, nb.ones((0, 2))), (F.cross_entropy, nb.zeros(0, dtype="int64"))):
        with pytest.raises(DataError, match="got an empty batch"):
            loss(nb.ones((0, 2)), target)


def test_an_empty_dataset():
    """faults.md 9: before training starts."""
    net = Net().init(0)
    before = net.fc1.weight.numpy().copy()
    with pytest.raises(DataError, match="empty dataset"):
        trainer(net).fit(np.zeros((0, 4)), np.zeros((0, 2)), **fit_settings)
    with pytest.raises(DataError, match="empty dataset"):
        DataLoader(np.zeros((0, 4)))
    np.testing.assert_array_equal(net.fc1.weight.numpy(), before)


def test_files_keep_0_d(tmp_path):
    """faults.md 11: ops on 0-d are part of the table of every op (op_line.py)."""
    nb.save({"x": nb.tensor(2.5), "n": nb.tensor(3)}, tmp_path / "x.nb")
    back = nb.load(tmp_path / "x.nb")
    assert (back["x"].shape, back["x"].item(), back["n"].shape, back["n"].item()) == ((), 2.5, (), 3)
    assert (back["x"] * 2 + 1).shape == ()


@given(shapes, st.data())
def test_reductions_over_nothing(shape, data):
    """faults.md 12: sum 0, product 1, no largest."""
    axis = data.draw(st.integers(0, len(shape) - 1))
    x = nb.zeros((*shape[:axis], 0, *shape[axis + 1 :]))
    assert (nb.sum(x, axis=axis).numpy() == 0).all()
    assert (nb.prod(x, axis=axis).numpy() == 1).all()
    for name in ("max", "min", "argmax", "argmin"):
        with pytest.raises(ValueError, match=f"{name}: expected at least one element along the axes, got"):
            getattr(nb, name)(x, axis=axis)


@pytest.mark.parametrize(
    ("shape", "got"),
    [((4, 2), r"\(4, 2\) of 8\."), ((-1, 4), "of a multiple of 4"), ((-1, -1), "with more than one -1")],
)
def test_reshape_to_another_count(shape, got):
    """faults.md 13: the counts of both."""
    with pytest.raises(ShapeError, match=r"expected a shape of 6 elements \(from \(2, 3\)\), got .*" + got):
        nb.reshape(nb.ones((2, 3)), shape)


@given(shapes, st.data())
def test_axes_out_of_range_or_twice(shape, data):
    """faults.md 14: the valid range."""
    n = len(shape)
    axis = data.draw(st.integers(n, n + 3) | st.integers(-n - 3, -n - 1))
    for axes in (axis, (0, 0), (0, -n)):
        with pytest.raises(ShapeError, match=rf"sum: expected distinct axes in {-n}\.\.{n - 1} for shape"):
            nb.sum(nb.ones(shape), axis=axes)


def test_whole_numbers_for_a_layer():
    """faults.md 15: fit and predict convert; an op says how."""
    one = trainer()
    one.fit(np.arange(20).reshape(5, 4), np.arange(10).reshape(5, 2), **fit_settings)
    assert one.predict(np.ones((3, 4), int)).dtype == np.float32
    with pytest.raises(DTypeError, match=r"expected float32, got int64 .*Cast one with \.astype"):
        nn.Linear(4, 2)(nb.ones((5, 4), dtype="int64"))


@pytest.mark.parametrize(
    ("array", "named"),
    [
        (np.array([[1, 2], [3, "x"]], object), r"dtype object \(first cell that is no number: 'x'\)"),
        (np.array([["a", "b"]]), "<U1"),
        (np.array([["2020-01-01"]], "M8[D]"), r"datetime64\[D\]"),
        (np.ones((2, 2), complex), "complex128"),
    ],
)
def test_what_is_no_number(array, named):
    """faults.md 16 and 17: the dtype, and of objects the first cell that is none."""
    for use in (nb.tensor, lambda x: trainer().fit(x, x, **fit_settings)):
        with pytest.raises(DTypeError, match=named):
            use(array)
    with pytest.raises(DTypeError, match="complex128"):
        nb.tensor(1j)


def test_float64_data_for_a_float32_model():
    """faults.md 18: cast at the edge; ops never mix."""
    X, y = np.random.default_rng(0).random((5, 4)), np.ones((5, 2))
    one, other = trainer(Net().init(0)), trainer(Net().init(0))
    assert one.fit(X, y, **fit_settings)["loss"] == other.fit(np.float32(X), np.float32(y), **fit_settings)["loss"]
    assert one.predict(X).dtype == one.net.fc1.weight.dtype == np.float32
    with pytest.raises(DTypeError, match="expected float32, got float64"):
        nn.Linear(4, 2)(nb.tensor(X))


def test_states_of_float16_parameters_are_float32():
    """faults.md 20: eps does not vanish, and float16 from elsewhere becomes float32."""
    p = nn.Parameter(np.ones(2, np.float16))
    adam = optim.Adam([p], lr=0.01)
    for _ in range(2):
        adam.zero_grad()
        (p * 0.0).sum().backward()
        adam.step()
        assert np.isfinite(p.numpy()).all()
        state = adam.state_dict()
        tensors = {name: x for name, x in state["state"][0].items() if isinstance(x, nb.Tensor)}
        assert {x.dtype.name for x in tensors.values()} == {"float32"}
        adam.load_state_dict({**state, "state": {0: {**state["state"][0], "exp_avg": nb.zeros(2, dtype="float16")}}})


def test_sizes_do_not_wrap():
    """faults.md 21: 50,000 by 50,000 is more than int32 holds."""
    x = nb.Tensor(np.broadcast_to(np.float32(1), (50_000, 50_000)))
    assert x.size == nb.reshape(x[:1], (-1,)).shape[0] * 50_000 == 2_500_000_000
    assert nb.argmax(nb.ones((3, 4)), axis=1).dtype == nb.argsort(nb.ones(3)).dtype == np.int64


def test_ragged_lists():
    """faults.md 22: the row and the lengths."""
    for use in (nb.tensor, lambda x: trainer().fit(x, np.ones(3), **fit_settings)):
        with pytest.raises(DataError, match="expected rows of length 2, got length 1 in row 2") as error:
            use([[1, 2], [3, 4], [5]])
        assert error.value.row == 2


HUGE = """
import resource, numpy as np, nnbackend as nb
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
net = nb.nn.Linear(2, 3).init(0)
for use in (lambda: nb.nn.Linear(50_000, 50_000), lambda: net(nb.Tensor(np.broadcast_to(np.float32(1), (10**9, 2))))):
    try:
        use()
    except MemoryError as error:
        print(type(error).__name__, error)
print(net(nb.ones((1, 2))).shape)
"""


def test_more_than_memory_is_a_memory_error():
    """faults.md 23: it says which shape, and the net can be used afterwards."""
    done = subprocess.run([sys.executable, "-c", HUGE], capture_output=True, text=True, timeout=50)
    first, second, third = done.stdout.splitlines()
    assert "MemoryError" in first
    assert "(50000, 50000)" in first
    assert "MemoryError" in second
    assert "(1000000000, 3)" in second
    assert third == "(1, 3)"


@given(hnp.arrays(np.float32, (4, 3), elements=st.floats(-9, 9, width=32)))
def test_layouts_do_not_matter(a):
    """faults.md 24: nor are stride-0 arrays written to."""
    net = nn.Linear(3, 2).init(0)
    want = net(nb.tensor(a)).numpy()
    for b in (np.asfortranarray(a), a[::-1].copy()[::-1], np.repeat(a, 2, axis=1)[:, ::2]):
        np.testing.assert_array_equal(net(nb.asarray(b)).numpy(), want)
    row = np.broadcast_to(a[0], (4, 3))
    np.testing.assert_array_equal(net(nb.asarray(row)).numpy(), net(nb.tensor(row.copy())).numpy())
    x = nb.asarray(row)
    x += 1.0
    assert (row == a[0]).all()


def test_read_only_and_mapped_arrays(tmp_path):
    """faults.md 25: shared while they are read, never written."""
    mapped = np.memmap(tmp_path / "x", np.float32, "w+", shape=(3, 4))
    mapped.flush()
    for a in (np.memmap(tmp_path / "x", np.float32, "r", shape=(3, 4)), np.frombuffer(bytes(48), np.float32)):
        x = nb.asarray(a)
        assert np.shares_memory(x.data, a)
        x += 1.0
        x[0] = 5.0
        assert (a == 0).all()


def test_big_endian_arrays():
    """faults.md 26."""
    a = np.arange(6, dtype=np.float32).reshape(2, 3)
    for swapped in (a.astype(">f4"), a.astype(">f8")):
        x = nb.tensor(swapped)
        assert x.data.dtype.isnative
        np.testing.assert_array_equal((x + 1).numpy(), a + 1)


@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_masks_and_other_kinds_of_arrays():
    """faults.md 27: a mask is never dropped unnoticed."""
    masked = np.ma.masked_array(np.ones((2, 1), np.float32), [[0], [1]])
    scaler = StandardScaler().fit([[1.0], [2.0]])
    for use in (
        nb.tensor, nb.asarray, nn.Linear(1, 1), lambda x: trainer().fit(x, np.ones((2, 1)), **fit_settings),
        DataLoader, StandardScaler().fit, scaler.transform, lambda x: LabelEncoder().fit(x[:, 0]), OneHotEncoder().fit,
    ):  # fmt: skip
        with pytest.raises(DTypeError, match=r"plain array, got|expected an array, got numpy.ma"):
            use(masked)
    with pytest.raises(DTypeError, match=r"got numpy\.matrix\. Convert it with np\.array"):
        nb.tensor(np.matrix([[1.0, 2.0]]))


def test_subnormal_numbers_and_the_sign_of_zero():
    """faults.md 28."""
    x = nb.asarray(np.array([1e-45, -0.0, 0.0], np.float32))
    with np.errstate(all="raise", under="ignore"):
        for y, signs in ((x * 1.0, [0, 1, 0]), (-x, [1, 0, 1]), (nb.sqrt(x), [0, 1, 0]), (nb.abs(x), [0, 0, 0])):
            assert np.signbit(y.numpy()).tolist() == [bool(sign) for sign in signs]
        assert (x * 1.0).numpy()[0] == np.float32(1e-45)


def test_nan_and_infinity_through_activations():
    """faults.md 29: the rest of the table of facts.md is in test_activation.py."""
    x = nb.asarray(np.array([np.nan, np.inf, -np.inf], np.float32))
    np.testing.assert_array_equal(F.relu(x).numpy(), np.float32([np.nan, np.inf, 0]))
    np.testing.assert_array_equal(F.softplus(x).numpy(), np.float32([np.nan, np.inf, 0]))
    np.testing.assert_array_equal(nb.tanh(x).numpy(), np.float32([np.nan, 1, -1]))


@pytest.mark.parametrize("number", [2, 2.0, np.float64(2), np.float32(2), np.int64(2)])
@pytest.mark.parametrize("device", ["cpu", array_api_strict.Device("device1")])
def test_numbers_on_either_side(number, device):
    """faults.md 30: no promotion, and the result is ours."""
    t = nb.ones(2, device=device)
    for y in (number * t, t * number, number - t, t / number):
        assert type(y) is nb.Tensor
        assert y.dtype == t.dtype
