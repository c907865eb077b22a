"""A loader knows where it stands: another one goes on from there with the same batches."""

import tracemalloc

import array_api_strict
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nnbackend as nb
from nnbackend import nn, optim
from nnbackend.data import DataLoader
from nnbackend.errors import DataError, IncompatibleCheckpointError, RecordingWarning

DEVICES = ["cpu", array_api_strict.Device("device1")]
KEY = "00112233445566778899aabbccddeeff"


def values(batches):
    return [[a.numpy().tolist() for a in batch] for batch in batches]


@given(
    rows=st.integers(1, 30),
    size=st.sampled_from([None, 1, 3, 7, 64]),
    shuffle=st.booleans(),
    drop=st.booleans(),
    seed=st.sampled_from([None, 5]),
    taken=st.integers(0, 70),
    devices=st.sampled_from([(a, b) for a in DEVICES for b in DEVICES]),
)
def test_a_resumed_loader_has_the_batches_that_were_left(rows, size, shuffle, drop, seed, taken, devices):
    if drop and size is not None and size > rows:
        return
    x, y = np.arange(rows), np.arange(2.0 * rows).reshape(rows, 2)
    old, new = (
        DataLoader(x, y, batch_size=size, shuffle=shuffle, drop_last=drop, seed=seed, device=d) for d in devices
    )
    count = len(old)
    passes, current = taken // count, None
    for _ in range(passes):
        assert len(list(old)) == count
    if taken % count:
        current = iter(old)
        for i in range(taken % count):
            next(current)
            assert (old.epoch, old.batch) == (passes + 1, (i + 1) % count)
    state = old.state_dict()
    assert state == {"epoch": passes + (current is not None), "batch": taken % count, "key": f"{old.key:032x}"}
    new.load_state_dict(state)
    assert new.state_dict() == state
    left = values(current if current is not None else old)
    assert values(new) == left
    assert len(left) == count - taken % count
    assert old.state_dict() == new.state_dict()
    assert values(old) == values(new)  # a whole epoch
    assert old.epoch == new.epoch == state["epoch"] + 1 + (current is None)
    assert len(values(new)) == count


def test_after_its_last_batch_an_epoch_is_over_though_nobody_has_asked_for_more():
    loader = DataLoader(np.arange(4), batch_size=2, seed=0)
    assert (loader.epoch, loader.batch) == (0, 0)
    current = iter(loader)
    next(current), next(current)
    assert (loader.epoch, loader.batch) == (1, 0)
    assert list(current) == []
    assert (loader.epoch, loader.batch) == (1, 0)
    whole = DataLoader(np.arange(4), batch_size=None)
    next(iter(whole))
    assert (whole.epoch, whole.batch) == (1, 0)


def test_a_pass_that_is_left_is_not_gone_on_with():
    loader, other = (DataLoader(np.arange(6), batch_size=2, seed=0) for _ in range(2))
    for _ in loader:
        break
    assert (loader.epoch, loader.batch) == (1, 1)
    list(other)
    assert values(loader) == values(other)
    assert (loader.epoch, loader.batch) == (2, 0)


def test_a_loaded_pass_that_is_left_is_not_gone_on_with_either():
    loader = DataLoader(np.arange(6), batch_size=2)
    loader.load_state_dict({"epoch": 3, "batch": 1, "key": KEY})
    for _ in loader:
        break
    assert (loader.epoch, loader.batch) == (3, 2)
    assert len(list(loader)) == 3
    assert loader.epoch == 4


def test_of_two_passes_at_once_each_is_whole_and_the_position_is_that_of_the_later():
    loader, other = (DataLoader(np.arange(6), batch_size=2, seed=0) for _ in range(2))
    expected = values(other), values(other)
    first, second = iter(loader), iter(loader)
    mixed = [], []
    for _ in range(2):
        mixed[0].append(next(first))
        mixed[1].append(next(second))
    mixed[0].append(next(first))
    assert (loader.epoch, loader.batch) == (2, 2)
    mixed[1].append(next(second))
    assert (values(mixed[0]), values(mixed[1])) == expected
    assert (loader.epoch, loader.batch) == (2, 0)
    assert [next(i, None) for i in (first, second)] == [None, None]


def test_a_running_pass_does_not_move_a_loaded_position():
    loader = DataLoader(np.arange(6), batch_size=2, seed=0)
    running = iter(loader)
    next(running)
    state = {"epoch": 1, "batch": 1, "key": KEY}
    loader.load_state_dict(state)
    next(running)
    assert loader.state_dict() == state
    assert len(list(loader)) == 2


STATE = {"epoch": 2, "batch": 2, "key": KEY}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({}, r"expected \['epoch', 'batch', 'key'\] in the state, got \[\]"),
        ({"epoch": 2, "key": KEY}, r"expected \['batch'\] in the state, got \['epoch', 'key'\]"),
        (None, "expected a state, got NoneType"),
        ([2, 2, KEY], "expected a state, got list"),
        (STATE | {"batch": 3}, r"expected a batch below 3 in epoch 2, got 3\. Use the rows, batch_size"),
        (STATE | {"batch": 1000}, "expected a batch below 3"),
        (STATE | {"epoch": 0}, "expected a batch below 1 in epoch 0, got 2"),
        *((STATE | {name: v}, f"expected {name}.*got {v}") for name in ("epoch", "batch") for v in (-1, 1.5, True)),
        (STATE | {"epoch": "2"}, "expected epoch, a whole number >= 0, got '2'"),
        (STATE | {"batch": None}, "expected batch, a whole number >= 0, got None"),
        *((STATE | {"key": v}, "expected a key of 32 hexadecimal digits") for v in (5, None, "", KEY[1:], KEY + "\n")),
        (STATE | {"key": "g" * 32}, "expected a key of 32 hexadecimal digits, got 'gggg"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(state, message):
    loader, other = (DataLoader(np.arange(6), batch_size=2, seed=0) for _ in range(2))
    list(loader), list(other)
    before = loader.state_dict()
    with pytest.raises(IncompatibleCheckpointError, match=rf"DataLoader\.load_state_dict: {message}"):
        loader.load_state_dict(state)
    assert loader.state_dict() == before
    assert values(loader) == values(other)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("length", [5, 7])
def test_other_rows_than_at_first_are_refused_before_any_batch(length, whole):
    """Line 127 of the faults: the dataset changes its length between epochs."""
    X = [nb.tensor(np.arange(6)), nb.tensor(np.arange(6.0))]
    loader = DataLoader(*X, batch_size=None if whole else 2, seed=0, shuffle=not whole)
    list(loader)
    before = loader.state_dict()
    message = rf"DataLoader: expected 6 rows as at first, got shape \({length},\)"
    kept = loader.arrays
    loader.arrays = (kept[0], nb.tensor(np.arange(length)))
    with pytest.raises(DataError, match=message):
        next(iter(loader))
    assert loader.state_dict() == before
    loader.arrays = kept
    data, kept[1].data = kept[1].data, np.zeros(length)
    with pytest.raises(DataError, match=message):
        next(iter(loader))
    assert loader.state_dict() == before
    kept[1].data = data
    assert len(list(loader)) == len(loader)


def test_a_loaded_position_outlives_refused_rows():
    loader = DataLoader(np.arange(6), batch_size=2)
    loader.load_state_dict(STATE)
    kept, loader.arrays = loader.arrays, (nb.tensor(0.0),)
    with pytest.raises(DataError, match=r"got shape \(\)"):
        list(loader)
    loader.arrays = kept
    assert len(list(loader)) == 1


# -- memory ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("size", [None, 3])
def test_data_on_the_cpu_is_shared_whatever_its_layout(tmp_path, size, shuffle):
    stored = np.memmap(tmp_path / "x", np.float32, "w+", shape=(8, 4))
    stored[...] = np.arange(32.0).reshape(8, 4)
    frozen = np.asarray(stored).copy()
    frozen.flags.writeable = False
    read = np.memmap(tmp_path / "x", np.float32, "r", shape=(8, 4))
    layouts = [stored, read, frozen, np.asfortranarray(frozen), stored[:, 1:], frozen[::-1]]
    for x in layouts:
        loader = DataLoader(x, batch_size=size, shuffle=shuffle, seed=1)
        assert np.shares_memory(loader.arrays[0].data, x)
        packed = DataLoader(np.array(x, order="C"), batch_size=size, shuffle=shuffle, seed=1)
        batches = [batch.data for (batch,) in loader]
        assert all(type(b) is np.ndarray and b.flags.c_contiguous for b in batches)
        np.testing.assert_array_equal(np.concatenate(batches), np.concatenate([batch.data for (batch,) in packed]))


def test_a_batch_is_gathered_without_a_copy_of_everything():
    x = np.asfortranarray(np.zeros((1 << 18, 8), np.float32))
    for data in (x, x[:, :7], np.ascontiguousarray(x)[:, :7]):
        loader = DataLoader(data, batch_size=1 << 10, shuffle=True, seed=0)
        batches = iter(loader)
        next(batches)
        tracemalloc.start()
        next(batches)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1 << 17, data.strides


def test_a_change_of_a_batch_does_not_come_back():
    """With the whole data as a batch, a model that writes to its input saw it twice as large in each epoch."""

    class Doubling(nn.Module):
        def __init__(self):
            super().__init__()
            self.last = nn.Linear(2, 1)

        def forward(self, x):
            x[:, 0] = x[:, 0] * 2.0
            return self.last(x)

    X = np.ones((4, 2), np.float32)
    trainer = nb.Trainer(Doubling(), optimizer=optim.SGD(lr=0.0), device="cpu", seed=0)
    with pytest.warns(RecordingWarning):
        losses = trainer.fit(X, X[:, :1], epochs=3, batch_size=None, shuffle=False, verbose=False, check=False)["loss"]
    assert losses == losses[:1] * 3
    assert (X == 1.0).all()
