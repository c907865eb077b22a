import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnbackend.data import split
from nnbackend.errors import DataError, ShapeError

fast = settings(max_examples=50, deadline=None)


def test_parts_hold_every_row_once_and_keep_rows_together():
    X, y, names = (
        np.arange(40, dtype=np.float32).reshape(20, 2),
        np.arange(20, dtype=np.int8),
        [f"r{i}" for i in range(20)],
    )
    parts = split(X, y, names, test=0.25, validation=0.15)
    assert [len(part[0]) for part in parts] == [12, 3, 5]
    for X_part, y_part, names_part in parts:
        assert (X_part.dtype, y_part.dtype, type(names_part)) == (np.float32, np.int8, list)
        np.testing.assert_array_equal(X_part[:, 0], 2 * y_part)
        assert names_part == [f"r{i}" for i in y_part]
    rows = np.concatenate([y_part for _, y_part, _ in parts])
    assert sorted(rows.tolist()) == list(range(20))
    assert rows.tolist() != list(range(20))


def test_two_parts_without_validation_and_tuples_of_one():
    (train,), (test,) = split(list(range(20)))
    assert (len(train), len(test)) == (17, 3)
    assert sorted(train + test) == list(range(20))


def test_the_seed_alone_decides():
    y = np.arange(50)
    np.random.seed(0)
    state = np.random.get_state()[1].copy()
    first, again, other = (split(y, seed=seed)[1][0] for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert first.tolist() != other.tolist()
    np.testing.assert_array_equal(np.random.get_state()[1], state)
    assert y.tolist() == list(range(50))


@fast
@given(st.integers(3, 200), st.floats(0.01, 0.49), st.floats(0.01, 0.49), st.integers(0, 2**32))
def test_sizes_are_the_nearest_and_no_part_is_empty(n, test, validation, seed):
    parts = split(np.arange(n), test=test, validation=validation, seed=seed)
    sizes = [len(part[0]) for part in parts]
    assert sum(sizes) == n
    assert min(sizes) >= 1
    rounded = [int(n * fraction + 0.5) for fraction in (validation, test)]
    spare = 0 if sum(rounded) < n else 1  # one part gives a row up where none would be left for training
    assert all(size == 1 or 0 <= want - size <= spare for size, want in zip(sizes[1:], rounded, strict=True))


@pytest.mark.parametrize(
    ("n", "test", "sizes"), [(10, 0.15, [8, 2]), (10, 0.01, [9, 1]), (2, 0.99, [1, 1]), (10, 0.99, [1, 9])]
)
def test_rounding(n, test, sizes):
    assert [len(part[0]) for part in split(np.arange(n), test=test)] == sizes


@fast
@given(
    st.lists(st.integers(0, 5), min_size=3, max_size=120).map(np.array),
    st.floats(0.05, 0.45),
    st.floats(0, 0.45).map(lambda v: v if v > 0.05 else 0.0),
    st.integers(0, 2**32),
)
def test_stratified_parts_keep_the_proportions(y, test, validation, seed):
    parts = split(np.arange(len(y)), y, test=test, validation=validation, stratify=y, seed=seed)
    plain = [len(part[0]) for part in split(y, test=test, validation=validation, seed=seed)]
    rows = np.concatenate([rows for rows, _ in parts])
    assert sorted(rows.tolist()) == list(range(len(y)))
    for (part, labels), size in zip(parts, plain, strict=True):
        np.testing.assert_array_equal(y[part], labels)
        assert size >= 1
        assert abs(len(part) - size) <= 12  # at most one row for each class and part
        for label, members in zip(*np.unique(y, return_counts=True), strict=True):
            count = int((labels == label).sum())
            assert abs(count - members * size / len(y)) < 3
            assert count >= 1 or members < len(parts)


def test_stratified_sizes_are_exact_where_no_class_is_rare():
    y = np.repeat(["a", "b", "c"], [500, 300, 200])
    for seed in range(5):
        train, validation, test = (part[0] for part in split(y, test=0.2, validation=0.1, stratify=y, seed=seed))
        assert [(part == label).sum() for part in (train, validation, test) for label in "abc"] == [
            350,
            210,
            140,
            50,
            30,
            20,
            100,
            60,
            40,
        ]
    flowers = np.repeat([0, 1, 2], 50)
    (train,), (test,) = split(flowers, stratify=flowers)
    assert len(test) == 23
    assert sorted(np.bincount(test).tolist()) == [7, 8, 8]
    assert train.tolist() != sorted(train.tolist())


def test_a_rare_class_is_in_every_part():
    y = [0] * 995 + [1] * 3 + [2] * 2
    parts = split(y, test=0.15, validation=0.15, stratify=y)
    assert [part[0].count(1) for part in parts] == [1, 1, 1]
    assert sum(part[0].count(2) for part in parts) == 2
    test = split(y, stratify=y)[1][0]
    assert {test.count(1), test.count(2)} == {1}
    assert len(test) in {150, 151, 152}  # up to one more for each rare class


def test_many_classes_of_one_row_are_split_quickly_and_at_random():
    y = np.arange(20_000)
    (train,), (test,) = split(y, stratify=y)
    assert (len(train), len(test)) == (17_000, 3_000)
    assert 9_000 < test.mean() < 11_000


@pytest.mark.parametrize(
    ("fractions", "what"),
    [
        ({"test": 0}, "test between 0 and 1, got 0"),
        ({"test": 1.0}, "test between 0 and 1, got 1.0"),
        ({"test": -0.1}, "test between 0 and 1, got -0.1"),
        ({"test": float("nan")}, "test between 0 and 1, got nan"),
        ({"validation": -0.1}, "validation from 0 to below 1, got -0.1"),
        ({"validation": 1}, "validation from 0 to below 1, got 1"),
        ({"test": 0.5, "validation": 0.5}, r"test \+ validation below 1, got 1.0"),
    ],
)
def test_impossible_fractions(fractions, what):
    with pytest.raises(ValueError, match=f"split: expected {what}"):
        split(np.arange(10), **fractions)


def test_impossible_arrays():
    with pytest.raises(ShapeError, match="same length, got 3, 2, 3"):
        split([1, 2, 3], np.arange(2), (1, 2, 3))
    with pytest.raises(ShapeError, match=r"expected stratify of shape \(3,\), got \(2,\)"):
        split([1, 2, 3], stratify=[0, 1])
    with pytest.raises(ShapeError, match=r"stratify of shape \(3,\), got \(3, 2\)"):
        split([1, 2, 3], stratify=np.eye(3, 2))
    with pytest.raises(ShapeError, match=r"got one of shape \(\)"):
        split(np.array(1))
    with pytest.raises(DataError, match="a row for each of 2 parts, got 1"):
        split([1])
    with pytest.raises(DataError, match="a row for each of 3 parts, got 2"):
        split([1, 2], validation=0.1)
    with pytest.raises(ValueError, match="expected arrays, got none"):
        split()
    with pytest.raises(TypeError, match="expected arrays or lists, got str"):
        split("abc")
