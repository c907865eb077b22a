import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nnbackend.data import LabelEncoder, StandardScaler, one_hot
from nnbackend.errors import DataError, DTypeError, LabelError, NotFittedError, ShapeError

fast = settings(max_examples=50, deadline=None)
labels = st.one_of(
    st.lists(kind, min_size=1, max_size=20)
    for kind in (st.integers(-(2**63), 2**63 - 1), st.text(max_size=4).filter(lambda s: "\0" not in s), st.booleans())
)


# --- LabelEncoder


def test_labels_become_their_place_among_the_sorted_classes():
    encoder = LabelEncoder()
    indices = encoder.fit_transform(["b", "a", "c", "a"])
    assert indices.dtype == np.int64
    assert indices.tolist() == [1, 0, 2, 0]
    assert encoder.classes.tolist() == ["a", "b", "c"]
    assert encoder.transform(np.array(["c", "b"], dtype=object)).tolist() == [2, 1]
    assert encoder.inverse_transform([2, 0]).tolist() == ["c", "a"]
    assert encoder.transform([]).tolist() == []
    assert repr(encoder) == "LabelEncoder(3 classes: 'a', 'b', 'c')"
    assert repr(LabelEncoder().fit(range(30))).endswith("8, 9, ... (30 in all))")


@fast
@given(labels)
def test_encoding_and_back(y):
    encoder = LabelEncoder()
    indices = encoder.fit_transform(y)
    assert sorted(set(indices.tolist())) == list(range(len(set(y))))
    assert encoder.classes.tolist() == sorted(set(y))
    assert encoder.inverse_transform(indices).tolist() == y


@pytest.mark.parametrize(
    "y",
    [["x", "y"], np.array([3, 1], np.int32), np.array([0.1, 0.7], np.float32), [0.1, 1e300], [True, False], [2**63]],
    ids=str,
)
def test_encoder_travels_as_json_and_pickle(y):
    encoder = LabelEncoder().fit(y)
    state = json.loads(json.dumps(encoder.state()))
    for copy in (LabelEncoder.from_state(state), pickle.loads(pickle.dumps(encoder))):
        assert copy.classes.dtype == encoder.classes.dtype
        np.testing.assert_array_equal(copy.classes, encoder.classes)
        np.testing.assert_array_equal(copy.transform(y), encoder.transform(y))


@pytest.mark.parametrize(
    ("seen", "new", "got"),
    [
        (["a", "b"], ["b", "c", "d"], "expected one of 'a', 'b', got 'c' in row 1"),
        ([1, 3], [3, 1, 4], "expected one of 1, 3, got 4 in row 2"),
        ([1, 3], [2], "expected one of 1, 3, got 2 in row 0"),
        ([1, 3], ["1"], "got '1' in row 0"),
        (["1", "3"], [3], "got 3 in row 0"),
    ],
)
def test_unknown_label(seen, new, got):
    with pytest.raises(LabelError, match=got):
        LabelEncoder().fit(seen).transform(new)


@pytest.mark.parametrize(
    ("y", "error", "got"),
    [
        ([], LabelError, "expected labels, got none"),
        ([1, "a"], LabelError, "got 1 in row 0, beside text"),
        (["a", None], LabelError, "got object"),
        (np.array(["a", 2], dtype=object), LabelError, "got 2 in row 1, beside text"),
        ([0.5, float("nan")], LabelError, "got nan in row 1"),
        ([1j], LabelError, "got complex128"),
        ([[1], [2]], ShapeError, r"got \(2, 1\). Try y.ravel"),
        ("abc", ShapeError, r"got \(\)"),
    ],
)
def test_what_is_no_label(y, error, got):
    with pytest.raises(error, match=got):
        LabelEncoder().fit(y)


@pytest.mark.parametrize(
    ("indices", "got"),
    [([0, 2], "from 0 to 1, got 1 outside, the first 2 in row 1"), ([-1], "the first -1"), ([0.0], "float64")],
)
def test_inverse_of_what_is_no_index(indices, got):
    with pytest.raises(LabelError, match=got):
        LabelEncoder().fit(["a", "b"]).inverse_transform(indices)


# --- one_hot


@fast
@given(hnp.arrays(st.sampled_from([np.int8, np.uint8, np.int64]), st.integers(1, 30), elements=st.integers(0, 9)))
def test_one_hot_has_its_one_at_the_label(y):
    rows = one_hot(y)
    assert rows.shape == (len(y), y.max() + 1)
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows.sum(axis=1), 1)
    np.testing.assert_array_equal(rows.argmax(axis=1), y)


def test_one_hot_of_lists_with_classes_and_dtype():
    rows = one_hot([2, 0], classes=4, dtype=np.int8)
    assert rows.dtype == np.int8
    assert rows.tolist() == [[0, 0, 1, 0], [1, 0, 0, 0]]
    assert one_hot(np.array([True, False])).tolist() == [[0, 1], [1, 0]]
    assert one_hot(np.array([], np.int64), classes=3).shape == (0, 3)


@pytest.mark.parametrize(
    ("y", "classes", "got"),
    [
        ([0, 3, 1, 4], 3, r"labels from 0 to 2, got 2 outside, the first 3 in row 1\. Correct them"),
        ([3, 1, 2, 3], 3, r"labels from 0 to 2, got 2 outside, the first 3 in row 0\. The labels look 1-based"),
        ([0, -1], None, "labels from 0 to 0, got 1 outside, the first -1 in row 1"),
        ([-2, -1], None, "labels from 0 to 0, got 2 outside, the first -2 in row 0"),
        ([0.0, 1.0], None, r"integer labels, got float64\. Round them"),
        (["a", "b"], None, r"integer labels, got <U1\. Encode them with LabelEncoder"),
        ([], None, "expected labels, got none"),
    ],
)
def test_one_hot_of_labels_outside(y, classes, got):
    with pytest.raises(LabelError, match=got):
        one_hot(y, classes)


def test_one_hot_of_wrong_shapes():
    with pytest.raises(ShapeError, match=r"expected labels of shape \(n,\), got \(2, 1\)"):
        one_hot([[0], [1]])
    with pytest.raises(ValueError, match="expected classes >= 1, got 0"):
        one_hot([0], classes=0)


# --- StandardScaler

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


# --- both


@pytest.mark.parametrize(
    "use",
    [
        lambda: LabelEncoder().classes,
        lambda: LabelEncoder().transform([1]),
        lambda: LabelEncoder().inverse_transform([1]),
        lambda: LabelEncoder().state(),
        lambda: StandardScaler().mean,
        lambda: StandardScaler().scale,
        lambda: StandardScaler().transform(X),
        lambda: StandardScaler().inverse_transform(X),
        lambda: StandardScaler().state(),
    ],
)
def test_unfitted(use):
    with pytest.raises(NotFittedError, match=r"Call fit\([yX]\) first"):
        use()


def test_unfitted_says_so():
    assert repr(LabelEncoder()) == "LabelEncoder(not fitted)"
    assert repr(StandardScaler()) == "StandardScaler(not fitted)"
    assert not hasattr(LabelEncoder(), "classes")


def test_a_fit_that_fails_changes_nothing():
    encoder, scaler = LabelEncoder().fit(["a"]), StandardScaler().fit(X)
    before = encoder.state(), scaler.state()
    with pytest.raises(LabelError):
        encoder.fit([])
    with pytest.raises(DataError):
        scaler.fit([[np.inf]])
    assert (encoder.state(), scaler.state()) == before
