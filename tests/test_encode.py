import json
import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nnbackend.data import LabelEncoder, OneHotEncoder, one_hot
from nnbackend.errors import DataError, LabelError, NotFittedError, ShapeError

fast = settings(max_examples=50, deadline=None)
labels = st.one_of(
    st.lists(kind, min_size=1, max_size=20)
    for kind in (st.integers(-(2**63), 2**63 - 1), st.text(max_size=4).filter(lambda s: "\0" not in s), st.booleans())
)


# --- LabelEncoder


class Column:
    """As a column of a data frame gives its values."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.values, dtype or object)


def test_labels_become_their_place_among_the_sorted_classes():
    encoder = LabelEncoder()
    indices = encoder.fit_transform(["b", "a", "c", "a"])
    assert indices.dtype == np.int64
    assert indices.tolist() == [1, 0, 2, 0]
    assert encoder.classes.tolist() == ["a", "b", "c"]
    for values in (np.array(["c", "b"], dtype=object), Column(["c", "b"])):
        assert encoder.transform(values).tolist() == [2, 1]
    with pytest.raises(LabelError, match="got nan in row 1, beside text"):
        LabelEncoder().fit(Column(["a", math.nan]))
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


# --- OneHotEncoder

SHIRTS = {"colour": ["red", "blue", "red"], "size": [40, 38, 38]}


def test_categories_become_columns():
    encoder = OneHotEncoder()
    rows = encoder.fit_transform(SHIRTS)
    assert encoder.names == ["colour=blue", "colour=red", "size=38", "size=40"]
    assert rows.dtype == np.float32
    assert rows.tolist() == [[0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 1, 0]]
    swapped = {name: SHIRTS[name] for name in reversed(SHIRTS)}
    np.testing.assert_array_equal(encoder.transform(swapped, np.int8), rows)  # columns are found by name
    assert {name: known.tolist() for name, known in encoder.categories.items()} == {
        "colour": ["blue", "red"],
        "size": [38, 40],
    }
    assert repr(encoder) == "OneHotEncoder(2 columns to 4)"


def test_columns_without_names():
    mixed = [["red", 40], ["blue", 38], ["red", 38]]
    for X in (mixed, np.array(mixed, dtype=object), np.array(mixed)):
        encoder = OneHotEncoder().fit(X)
        assert encoder.names == ["0=blue", "0=red", "1=38", "1=40"]
        np.testing.assert_array_equal(encoder.transform(X), OneHotEncoder().fit_transform(SHIRTS))
    assert OneHotEncoder().fit_transform(np.array([[True], [False]])).tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize(
    ("unknown", "names", "row"),
    [
        ("bucket", ["colour=blue", "colour=red", "colour=<unknown>", "size=38", "size=40", "size=<unknown>"],
         [0, 0, 1, 1, 0, 0]),
        ("ignore", ["colour=blue", "colour=red", "size=38", "size=40"], [0, 0, 1, 0]),
    ],
)  # fmt: skip
def test_an_unknown_category_never_shifts_a_column(unknown, names, row):
    """faults.md 124: a bucket of its own, or zeros; known ones stay where they are."""
    encoder = OneHotEncoder(unknown).fit(SHIRTS)
    assert encoder.names == names
    assert encoder.transform({"colour": ["green"], "size": [38]}).tolist() == [row]
    known = encoder.transform(SHIRTS)
    assert known.shape == (3, len(names))
    np.testing.assert_array_equal(
        encoder.transform({"colour": ["green", "red"], "size": [1, 38]})[1], known[2] + (0 * known[0])
    )
    assert (known.sum(axis=1) == 2).all()


def test_an_unknown_category_is_an_error():
    """faults.md 124: with its row and its column."""
    encoder = OneHotEncoder().fit(SHIRTS)
    with pytest.raises(DataError, match="expected one of 'blue', 'red', got 'green' in row 1, column 'colour'") as info:
        encoder.transform({"colour": ["red", "green"], "size": [38, 39]})
    assert (info.value.row, info.value.column) == (1, "colour")
    with pytest.raises(DataError, match="expected one of 38, 40, got '38' in row 0, column 'size'"):
        encoder.transform({"colour": ["red"], "size": ["38"]})


@pytest.mark.parametrize("unknown", ["error", "bucket", "ignore"])
def test_one_hot_encoder_travels_as_json_and_pickle(unknown):
    encoder = OneHotEncoder(unknown).fit({**SHIRTS, "new": np.array([True, False, True])})
    state = json.loads(json.dumps(encoder.state()))
    X = {**SHIRTS, "new": [False, False, True]}
    for copy in (OneHotEncoder.from_state(state), pickle.loads(pickle.dumps(encoder))):
        assert (copy.unknown, copy.names) == (unknown, encoder.names)
        np.testing.assert_array_equal(copy.transform(X), encoder.transform(X))


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        ({"colour": ["red"]}, DataError, r"expected the columns \['colour', 'size'\], got \['colour'\]"),
        ({**SHIRTS, "more": [1, 2, 3]}, DataError, "expected the columns"),
        ([["red", 38]], DataError, r"got \['0', '1'\]"),
        (["red"], ShapeError, r"expected X of shape \(n, features\), got \(1,\)\. Try X.reshape\(-1, 1\)"),
        ({"colour": ["red", "red"], "size": [38]}, ShapeError, r"expected columns of one length, got \[1, 2\]"),
        ({"colour": ["red", 3], "size": [1, 1]}, LabelError, "OneHotEncoder, column 'colour': .* got 3 in row 1"),
        ({"colour": ["red"], "size": [np.nan]}, LabelError, "column 'size': expected a label in every row, got nan"),
    ],
)
def test_one_hot_encoder_refuses_other_columns(X, error, message):
    """faults.md 124: nor does another set of columns shift one."""
    with pytest.raises(error, match=message):
        OneHotEncoder().fit(SHIRTS).transform(X)


def test_one_hot_encoder_needs_categories_and_a_policy():
    for X in ({}, {"a": []}, np.empty((0, 2)), np.empty((2, 0))):
        with pytest.raises(DataError, match="expected rows and columns, got none"):
            OneHotEncoder().fit(X)
    with pytest.raises(ValueError, match=r"expected unknown among \('error', 'bucket', 'ignore'\), got 'drop'"):
        OneHotEncoder("drop")


# --- unfitted


@pytest.mark.parametrize(
    "use",
    [
        lambda: LabelEncoder().classes,
        lambda: LabelEncoder().transform([1]),
        lambda: LabelEncoder().inverse_transform([1]),
        lambda: LabelEncoder().state(),
        lambda: OneHotEncoder().categories,
        lambda: OneHotEncoder().names,
        lambda: OneHotEncoder().transform(SHIRTS),
        lambda: OneHotEncoder().state(),
    ],
)
def test_unfitted(use):
    with pytest.raises(NotFittedError, match=r"Call fit\([yX]\) first"):
        use()


def test_unfitted_says_so():
    assert repr(LabelEncoder()) == "LabelEncoder(not fitted)"
    assert repr(OneHotEncoder()) == "OneHotEncoder(not fitted)"
    assert not hasattr(LabelEncoder(), "classes")


def test_a_fit_that_fails_changes_nothing():
    labels, columns = LabelEncoder().fit(["a"]), OneHotEncoder().fit(SHIRTS)
    before = labels.state(), columns.state()
    with pytest.raises(LabelError):
        labels.fit([])
    with pytest.raises(LabelError):
        columns.fit([["a"], [None]])
    assert (labels.state(), columns.state()) == before
