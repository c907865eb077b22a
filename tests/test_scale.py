"""Scalers: what they learn, block by block, what they make of it, and back."""

import json
import pickle
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import nnbackend as nb
from nnbackend.data import MinMaxScaler, OneHotEncoder, StandardScaler, scale
from nnbackend.errors import DataError, DTypeError, NotFittedError, ShapeError

fast = settings(max_examples=50, deadline=None)
KINDS = [StandardScaler, MinMaxScaler]

X = np.array([[1.0, 10.0], [2.0, 20.0], [6.0, 60.0]])


def test_scaled_columns_have_mean_0_and_deviation_1():
    scaler = StandardScaler().fit(X)
    np.testing.assert_allclose(scaler.mean, [3, 30])
    np.testing.assert_allclose(scaler.scale, np.sqrt(14 / 3) * np.array([1, 10]))
    scaled = scaler.transform(X)
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-15)
    np.testing.assert_allclose(scaled.std(axis=0), 1)
    np.testing.assert_array_equal(StandardScaler().fit_transform(X.tolist()), scaled)
    assert repr(scaler) == "StandardScaler(2 columns)"


@fast
@given(
    hnp.arrays(st.sampled_from([np.float32, np.float64]), (6, 3), elements=st.floats(-1e6, 1e6, width=32)).filter(
        lambda x: bool((np.ptp(x, axis=0) > 1).all())
    )
)
def test_scaling_and_back(x):
    scaler = StandardScaler()
    scaled = scaler.fit_transform(x)
    back = scaler.inverse_transform(scaled)
    assert scaled.dtype == back.dtype == x.dtype
    assert scaler.mean.dtype == scaler.scale.dtype == np.float64
    np.testing.assert_allclose(scaled.std(axis=0, dtype=np.float64), 1, rtol=1e-4)
    np.testing.assert_allclose(back, x, rtol=1e-5, atol=1)


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.bool_])
def test_integers_become_float64(dtype):
    x = np.array([[0, 1], [1, 0]], dtype)
    scaler = StandardScaler()
    assert scaler.fit_transform(x).dtype == scaler.inverse_transform(x).dtype == np.float64
    np.testing.assert_array_equal(scaler.transform(x), [[-1, 1], [1, -1]])


def test_a_large_offset_costs_no_precision():
    x = np.array([[1e9], [1e9 + 1], [1e9 + 2]])
    np.testing.assert_allclose(StandardScaler().fit(x).scale, np.sqrt(2 / 3), rtol=1e-12)
    wide = np.full((1000, 1), 1 + 2**-20, np.float32)
    wide[::2] = 1
    np.testing.assert_allclose(np.abs(StandardScaler().fit_transform(wide)), 1)


def test_constant_columns_get_scale_1_and_one_warning():
    """faults.md 125: the columns are named."""
    x = np.column_stack([np.full(7, 0.1), np.arange(7), np.full(7, -1e9 / 3)])
    with pytest.warns(UserWarning, match=r"got constant ones: 0, 2\.") as caught:
        scaler = StandardScaler().fit(x)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    np.testing.assert_array_equal(scaler.scale[[0, 2]], 1)
    np.testing.assert_array_equal(scaler.transform(x)[:, [0, 2]], 0)
    np.testing.assert_array_equal(scaler.inverse_transform(scaler.transform(x))[:, [0, 2]], x[:, [0, 2]])


def test_scaler_travels_as_json_and_pickle():
    x = np.random.default_rng(0).normal(size=(20, 5)) * [1e-9, 1, 1 / 3, 1e5, np.pi]
    scaler = StandardScaler().fit(x)
    state = json.loads(json.dumps(scaler.state()))
    for copy in (StandardScaler.from_state(state), pickle.loads(pickle.dumps(scaler))):
        np.testing.assert_array_equal(copy.transform(x), scaler.transform(x))
        np.testing.assert_array_equal(copy.inverse_transform(x), scaler.inverse_transform(x))


@pytest.mark.parametrize("method", ["transform", "inverse_transform"])
def test_scaler_refuses_other_columns(method):
    scale = getattr(StandardScaler().fit(X), method)
    with pytest.raises(ShapeError, match=r"expected 2 columns as in fit, got 3 in shape \(1, 3\)"):
        scale([[1, 2, 3]])
    with pytest.raises(ShapeError, match=r"expected X of shape \(n, columns\), got \(2,\). Try X.reshape"):
        scale([1, 2])


def test_scaler_refuses_what_it_cannot_learn_from():
    with pytest.raises(DataError, match="got nan in row 1, column 0") as info:
        StandardScaler().fit([[0, 1], [np.nan, np.inf]])
    assert (info.value.row, info.value.column) == (1, 0)
    with pytest.raises(DataError, match="expected rows, got none"):
        StandardScaler().fit(np.empty((0, 2)))
    with pytest.raises(ShapeError, match="Flatten each row"):
        StandardScaler().fit(np.zeros((2, 2, 2)))
    with pytest.raises(DTypeError, match="expected numbers, got <U1"):
        StandardScaler().fit([["a"], ["b"]])


# -- from 0 to 1 ------------------------------------------------------------------------------------------------------


def test_scaled_columns_lie_between_0_and_1():
    scaler = MinMaxScaler()
    np.testing.assert_allclose(scaler.fit_transform(X), [[0, 0], [0.2, 0.2], [1, 1]])
    np.testing.assert_array_equal(scaler.minimum, [1, 10])
    np.testing.assert_array_equal(scaler.scale, [5, 50])
    np.testing.assert_allclose(scaler.inverse_transform(scaler.transform(X)), X)
    assert scaler.transform(np.float32([[11, 10]])).tolist() == [[2, 0]]
    assert repr(scaler) == "MinMaxScaler(2 columns)"


# -- block by block ---------------------------------------------------------------------------------------------------


@given(
    hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.floats(-1e6, 1e6)),
    st.integers(1, 30),
    st.lists(st.integers(1, 9), max_size=3),
    st.sampled_from(KINDS),
)
def test_parts_and_blocks_make_no_difference(x, size, cuts, kind):
    whole, parts = kind(), kind()
    whole.partial_fit(x)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scale, "BLOCK", size)
        for part in np.split(x, sorted({cut for cut in cuts if cut < len(x)})):
            parts.partial_fit(part)
        blocks = kind().partial_fit(x)
        np.testing.assert_array_equal(blocks.transform(x), (x - blocks._shift) / blocks.scale)
    for other in (parts, blocks):
        for got, want in zip(other._seen, whole._seen, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-9 * float(np.abs(x).max()) ** 2)
        np.testing.assert_array_equal(other.scale == 1.0, whole.scale == 1.0)


def test_many_parts_far_from_zero_lose_nothing():
    x = 1e8 + np.random.default_rng(0).normal(size=(10_000, 2))
    scaler = StandardScaler()
    for part in np.array_split(x, 997):
        scaler.partial_fit(part)
    np.testing.assert_allclose(scaler.mean, x.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(scaler.scale, x.std(axis=0), rtol=1e-7)  # of what 1e8 leaves of the digits


def test_one_block_gives_what_numpy_gives():
    x = np.random.default_rng(0).normal(3, 2, size=(150, 4))
    scaler = StandardScaler().fit(x)
    np.testing.assert_array_equal(scaler.mean, x.mean(axis=0))
    np.testing.assert_array_equal(scaler.scale, x.std(axis=0))


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_is_learnt_from_without_being_copied(tmp_path, kind):
    """faults.md 126: 32 MB, of which no more than a few blocks are in memory."""
    x = np.memmap(tmp_path / "x", np.float32, "w+", shape=(1 << 20, 8))
    x[::2] = 1.0
    tracemalloc.start()
    try:
        scaler = kind().fit(x)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * 8 * scale.BLOCK
    np.testing.assert_allclose(scaler.transform(x[:2]), [[1.0] * 8, [-1.0] * 8] if kind is StandardScaler else x[:2])


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_refused_changes_nothing(kind):
    scaler = kind().partial_fit(X)
    before = json.dumps(scaler.state())
    with pytest.raises(ShapeError, match=f"{kind.__name__}: expected 2 columns as in fit, got 3"):
        scaler.partial_fit([[1, 2, 3]])
    with pytest.raises(DataError, match="got inf in row 0, column 'area'"):
        scaler.fit([[1, np.inf]], names=["staff", "area"])
    assert json.dumps(scaler.state()) == before
    with pytest.raises(DataError, match="expected rows, got none"):
        scaler.partial_fit(np.empty((0, 2)))


@pytest.mark.parametrize("kind", KINDS)
def test_columns_have_names_in_messages(kind):
    """faults.md 125: a constant column is named, and gets scale 1."""
    with pytest.warns(UserWarning, match="expected columns that vary, got constant ones: 'b', 'c'. They become 0"):
        scaler = kind().fit([[1, 2, 3], [2, 2, 3]], names=["a", "b", "c"])
    assert scaler.scale.tolist()[1:] == [1, 1]
    assert scaler.partial_fit([[1, 1, 3]]).scale.tolist()[2] == 1  # and says nothing: more may come
    assert scaler.transform([[1, 1, 3]])[0, 2] == 0


# -- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_stored_scaler_learns_on(kind):
    rng = np.random.default_rng(1)
    scaler = kind().partial_fit(rng.normal(size=(7, 3)))
    copy = kind.from_state(json.loads(json.dumps(scaler.state())))
    more = rng.normal(size=(5, 3))
    assert copy.partial_fit(more).state() == scaler.partial_fit(more).state()


def test_a_scaler_of_an_old_file_transforms_but_does_not_learn_on():
    scaler = StandardScaler.from_state({"mean": [3.0], "scale": [2.0]})
    assert scaler.transform([[5.0]]).tolist() == [[1.0]]
    with pytest.raises(NotFittedError, match="expected statistics to go on from, got an old file's"):
        scaler.partial_fit([[1.0]])
    assert scaler.state() == {"mean": [3.0], "scale": [2.0], "seen": None}


@pytest.mark.parametrize("kind", KINDS)
def test_unfitted(kind):
    for use in (
        lambda: kind().scale,
        lambda: kind().transform(X),
        lambda: kind().inverse_transform(X),
        lambda: kind().state(),
    ):
        with pytest.raises(NotFittedError, match=r"Call fit\(X\) first"):
            use()
    assert repr(kind()) == f"{kind.__name__}(not fitted)"


def test_predictions_in_a_new_process_are_bit_equal(tmp_path):
    """faults.md 128: scalers and encoders are saved with the model."""
    rng = np.random.default_rng(0)
    x, shops = rng.normal(3, 5, (20, 2)), [["red", 3], ["blue", 4]] * 10
    parts = {
        "net": nb.nn.MLP([2 + 2 + 6, 8, 3]).init(1),
        "standard": StandardScaler().fit(x),
        "least": MinMaxScaler().fit(x),
        "shops": OneHotEncoder("bucket").fit(shops),
    }
    nb.save(parts, tmp_path / "model.nb")
    np.save(tmp_path / "x.npy", x)
    code = """if True:
        import sys, numpy as np, nnbackend as nb
        parts, x = nb.load(sys.argv[1] + "/model.nb"), np.load(sys.argv[1] + "/x.npy")
        shops = parts["shops"].transform([["red", 3], ["green", 4]] * 10)
        rows = np.hstack([parts["standard"].transform(x), parts["least"].transform(x), shops])
        sys.stdout.write(parts["net"](rows.astype("float32")).numpy().tobytes().hex())
    """
    printed = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True, timeout=50
    ).stdout
    new = parts["shops"].transform([["red", 3], ["green", 4]] * 10)
    rows = np.hstack([parts["standard"].transform(x), parts["least"].transform(x), new])
    assert printed == parts["net"](rows.astype("float32")).numpy().tobytes().hex()
