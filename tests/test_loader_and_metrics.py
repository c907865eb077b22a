"""Batches and measures."""

import array_api_strict
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nnbackend as nb
from nnbackend.data import DataLoader
from nnbackend.errors import DataError, LabelError, ShapeError

DEVICES = ["cpu", array_api_strict.Device("device1")]


@given(
    rows=st.integers(1, 40), batch=st.one_of(st.none(), st.integers(1, 50)), shuffle=st.booleans(), drop=st.booleans()
)
def test_an_epoch_has_every_row_once(rows, batch, shuffle, drop):
    if drop and batch is not None and batch > rows:
        return
    x = np.arange(rows)
    loader = DataLoader(x, x.reshape(-1, 1) * 2.0, batch_size=batch, shuffle=shuffle, seed=3, drop_last=drop)
    batches = list(loader)
    assert len(batches) == len(loader)
    first = np.concatenate([a.numpy() for a, _ in batches])
    second = np.concatenate([b.numpy() for _, b in batches])
    np.testing.assert_array_equal(second[:, 0], first * 2.0)
    size = min(batch or rows, rows)
    kept = rows // size * size if drop else rows
    assert len(set(first.tolist())) == len(first) == kept
    if not shuffle:
        np.testing.assert_array_equal(first, x[:kept])


@pytest.mark.parametrize("device", DEVICES)
def test_the_order_comes_from_seed_and_epoch(device):
    x = np.arange(50)

    def epochs(seed, n=3):
        loader = DataLoader(x, batch_size=8, seed=seed, device=device)
        return [[int(v) for (b,) in loader for v in b.tolist()] for _ in range(n)]

    here = [[int(v) for (b,) in loader for v in b.tolist()] for loader in [DataLoader(x, batch_size=8, seed=1)]]
    assert epochs(1) == epochs(1) != epochs(2)
    assert epochs(1)[0] == here[0] != epochs(1)[1]


def test_fresh_entropy_without_a_seed_and_no_global_state():
    state = np.random.get_state()[1].copy()
    x = np.arange(100)
    orders = [[int(v) for (b,) in DataLoader(x) for v in b.tolist()] for _ in range(2)]
    assert orders[0] != orders[1]
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_labels_stay_in_range_without_looking():
    labels = nb.tensor([0, 2, 1, 2])
    for (batch,) in DataLoader(labels, batch_size=3):
        assert batch.bounds == (0, 2)


def test_loaders_refuse_what_they_cannot_batch():
    with pytest.raises(DataError, match="at least one array"):
        DataLoader()
    with pytest.raises(DataError, match="empty dataset"):
        DataLoader(np.zeros((0, 2)))
    with pytest.raises(ShapeError, match=r"\[3, 2\]"):
        DataLoader(np.zeros(3), np.zeros(2))
    for size in (0, -1, 1.5):
        with pytest.raises(ValueError, match="batch_size"):
            DataLoader(np.zeros(3), batch_size=size)
    with pytest.raises(ValueError, match="drop_last"):
        DataLoader(np.zeros(3), batch_size=4, drop_last=True)


@pytest.mark.parametrize("device", DEVICES)
def test_accuracy(device):
    def put(a):
        return nb.tensor(a, device=device)

    scores = put([[0.1, 0.9, 0.0], [0.8, 0.1, 0.1], [0.2, 0.3, 0.5]])
    for target in ([1, 0, 1], [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]):
        assert float(nb.metrics.accuracy(scores, put(target))) == pytest.approx(2 / 3)
    one_score = put([[0.2], [0.7], [0.6], [0.1]])
    for target in ([0, 1, 0, 0], [[0.0], [1.0], [0.0], [0.0]]):
        assert float(nb.metrics.accuracy(one_score, put(target))) == 0.75
    assert float(nb.metrics.accuracy(put([-1.0, 2.0]), put([0, 1]), threshold=0.0)) == 1.0
    with pytest.raises(ShapeError, match="one target a row"):
        nb.metrics.accuracy(scores, put([1, 0]))


@pytest.mark.parametrize("device", DEVICES)
def test_confusion_matrix(device):
    found, wanted = nb.tensor([0, 1, 2, 2, 1], device=device), nb.tensor([0, 1, 1, 2, 1], device=device)
    expected = [[1, 0, 0], [0, 2, 1], [0, 0, 1]]
    assert nb.metrics.confusion_matrix(found, wanted).tolist() == expected
    assert nb.metrics.confusion_matrix(nb.one_hot(found, 3), wanted).tolist() == expected
    assert nb.metrics.confusion_matrix(found, wanted, classes=4).shape == (4, 4)
    with pytest.raises(LabelError, match=r"0\.\.1 \(2 classes\), got 2"):
        nb.metrics.confusion_matrix(found, wanted, classes=2)


def test_metrics_take_numpy_arrays():
    assert float(nb.metrics.accuracy(np.array([[0.1, 0.9]]), np.array([1]))) == 1.0
    assert nb.metrics.confusion_matrix(np.array([0, 1]), np.array([0, 0])).tolist() == [[1, 1], [0, 0]]
