"""Sets that take too much of a device's memory: batches come over one by one, and nothing else is different."""

import sys
import threading
import time
import weakref
from contextlib import nullcontext

import array_api_strict
import numpy as np
import pytest
from feed_case import WEIGHT, Sum, X, Y, fitted

import nnbackend as nb
from nnbackend import nn, optim
from nnbackend.backend import CPU, Device, Memory, cuda_status
from nnbackend.data import DataLoader, prefetch
from nnbackend.data.prefetch import AHEAD, prefetched
from nnbackend.errors import DataError, LabelError, ShapeError
from nnbackend.grad_mode import recording

PLACES = [nb.device(array_api_strict.Device("device1"))] + ([nb.device("cuda")] if cuda_status().usable else [])
GIB = 2**30
WIDE = X.astype("float64")


@pytest.fixture(params=PLACES, ids=str)
def place(request):
    return request.param


@pytest.fixture
def memory(monkeypatch):
    """What devices say is free: `memory(1000)`."""

    def say(free):
        monkeypatch.setattr(Device, "memory", lambda self: None if self == CPU else Memory(free, free, 0, 0))

    say(GIB)
    return say


@pytest.fixture
def uploads(monkeypatch):
    """Weak references to the arrays that were put on devices; how many rows each has."""
    seen = Uploads()
    put = Device.put

    def watched(self, host):
        array = put(self, host)
        if np.ndim(host) and self != CPU:
            seen.add(array, len(host))
        return array

    monkeypatch.setattr(Device, "put", watched)
    return seen


class Uploads:
    def __init__(self):
        self.references, self.rows = [], []

    def add(self, array, rows):
        self.references.append(weakref.ref(array))
        self.rows.append(rows)

    def clear(self):
        self.__init__()

    @property
    def alive(self):
        return sum(reference() is not None for reference in self.references)


def trainer(place, net=None, metrics=("accuracy",)):
    net = net or nn.Sequential(nn.Linear(4, 2), nn.Dropout(0.1))
    return nb.Trainer(net, "cross_entropy", optim.SGD(lr=0.01, momentum=0.9), metrics, device=place, seed=1)


def weights_of(run):
    return [p.numpy().tobytes() for p in run.net.parameters()]


def same(a, b):
    assert a.history.rows == b.history.rows
    assert weights_of(a) == weights_of(b)


def threads():
    return [t for t in threading.enumerate() if t.name == "nnbackend prefetch"]


def made(uploads, least):
    """How many arrays there are in the end: no fewer, after a while, and perhaps more."""
    until = time.monotonic() + 10
    while len(uploads.rows) < least and time.monotonic() < until:
        time.sleep(0.001)
    time.sleep(0.005)
    return len(uploads.rows)


# -- what stays ------------------------------------------------------------------------------------------------------


def test_a_share_of_the_free_memory_is_for_data(monkeypatch):
    monkeypatch.setattr(Device, "memory", lambda self: Memory(free=4000, total=9000, used=10, reserved=20))
    assert prefetch.fits(1000, PLACES[0])
    assert not prefetch.fits(1001, PLACES[0])
    monkeypatch.setattr(Device, "memory", lambda self: None)
    assert prefetch.fits(1 << 60, PLACES[0])


@pytest.mark.parametrize(("data", "size"), [(X, X.nbytes), (WIDE, WIDE.nbytes), (X > 0, X.nbytes)])
def test_data_is_counted_as_it_is_moved_and_as_it_will_be(place, memory, uploads, data, size):
    for free, rows in ((4 * (size + Y.nbytes), 90), (4 * (size + Y.nbytes) - 1, 32)):
        memory(free)
        uploads.clear()
        fitted(trainer(place, metrics=()), data, Y, epochs=1, check=False, shuffle=False)
        assert max(uploads.rows) == rows


def test_what_is_on_the_device_already_stays_there(place, memory, uploads):
    there = [nb.tensor(a, device=place) for a in (X, Y)]
    memory(0)
    uploads.clear()
    run = fitted(trainer(place), *there, epochs=1, check=False)
    assert max(uploads.rows) <= 90  # the order of the rows, and parameters
    assert not threads()
    memory(GIB)
    same(run, fitted(trainer(place), X, Y, epochs=1, check=False))


@pytest.mark.parametrize(
    ("data", "settings"),
    [
        ((X, Y), {"sample_weight": WEIGHT, "accumulate": 2}),
        ((WIDE, Y), {"validation_split": 0.2, "sample_weight": WEIGHT}),
        (((X, WIDE), Y), {"shuffle": False, "validation_data": ((X, WIDE), Y)}),
    ],
    ids=["float32", "float64", "two inputs"],
)
def test_a_fit_has_the_same_numbers(place, memory, data, settings):
    settings = {"batch_size": 20, "epochs": 2, "check": False, **settings}
    runs = []
    for free in (GIB, 3000):
        memory(free)
        net = Sum() if isinstance(data[0], tuple) else None
        runs.append(fitted(trainer(place, net), *data, **settings))
    same(*runs)


def test_no_more_than_a_few_batches_are_on_the_device(place, memory, uploads):
    memory(1000)
    ahead, alive = [], []

    def look(run):
        ahead.append(made(uploads, 2 * min(run.steps + AHEAD, 9)) / 2 - run.steps)  # X and y of each batch
        alive.append(uploads.alive / 2)

    run = trainer(place, metrics=())
    uploads.clear()
    fitted(run, X, Y, epochs=1, batch_size=10, check=False, callbacks=[nb.callbacks.Lambda(on_step_end=look)])
    assert ahead == [AHEAD] * 7 + [1, 0]
    assert max(alive) == AHEAD + 1
    assert max(uploads.rows) <= 10
    assert not threads()


@pytest.mark.parametrize("order", [(GIB, 1000), (1000, GIB), (1000, 1000)], ids=str)
def test_a_run_is_gone_on_with_wherever_its_data_is(tmp_path, place, memory, order):
    settings = {"batch_size": 20, "validation_split": 0.2, "epochs": 2, "check": False}
    whole = fitted(trainer(place), WIDE, Y, **settings)
    memory(order[0])
    first = trainer(place)
    stop = nb.callbacks.Lambda(on_step_end=lambda run: run.steps == 6 and run.stop("enough", final=False))
    fitted(first, WIDE, Y, checkpoints=tmp_path, callbacks=[stop], **settings)
    assert first.steps == 6
    memory(order[1])
    second = trainer(place)
    fitted(second, WIDE, Y, checkpoints=tmp_path, resume=True, **settings)
    same(second, whole)


def test_predictions_and_measures_have_the_same_numbers(place, memory, uploads):
    run = fitted(trainer(place), X, Y, epochs=1, check=False)
    expected = run.predict(X, batch_size=16), run.evaluate(X, Y), run.evaluate(X, Y, batch_size=16)
    memory(1000)
    uploads.clear()
    found = run.predict(X, batch_size=16)
    assert type(found) is np.ndarray
    np.testing.assert_array_equal(found, expected[0])
    assert run.evaluate(X, Y) == expected[1]
    by_parts = run.evaluate(X, Y, batch_size=16)
    assert by_parts["accuracy"] == expected[2]["accuracy"]
    assert by_parts["loss"] == pytest.approx(expected[2]["loss"], rel=1e-6)
    assert run.predict(nb.tensor(X), batch_size=16).device == place


def test_predictions_for_much_come_to_the_host_batch_by_batch(place, memory):
    outputs, alive = [], []

    class Watched(nn.Linear):
        def forward(self, x):
            alive.append(sum(reference() is not None for reference in outputs))
            y = super().forward(x)
            outputs.append(weakref.ref(y))
            return y

    run = trainer(place, Watched(4, 2))
    memory(1000)
    assert run.predict(X, batch_size=10).shape == (90, 2)
    assert max(alive) <= 1


def test_a_look_for_mistakes_brings_few_rows(place, memory, uploads):
    many = np.concatenate([X] * 20)
    memory(1000)
    run = trainer(place)
    run.check(many, np.concatenate([Y] * 20))
    assert max(uploads.rows) <= 128


def test_numbers_too_large_for_the_model_are_named_before_the_first_batch(place, memory):
    big = WIDE.copy()
    big[7, 2] = 1e300
    for free in (GIB, 1000):
        memory(free)
        run = trainer(place)
        with pytest.raises(DataError, match=r"X in float32 contains infinity.*row 7, column 2"):
            fitted(run, big, Y)
        assert run.steps == 0


def test_labels_outside_are_counted_over_all_rows(place, memory):
    labels = Y.copy()
    labels[[3, 50, 80]] = 7
    memory(1000)
    with pytest.raises(LabelError, match=r"3 of 90 labels outside 0\.\.1 \(first: row 3 = 7\)"):
        fitted(trainer(place), X, labels, check=False)
    assert not threads()


# -- loops of one's own ----------------------------------------------------------------------------------------------


def values(batches):
    return [[a.numpy().tolist() for a in batch] for batch in batches]


@pytest.mark.parametrize("settings", [{}, {"shuffle": False}, {"drop_last": True}, {"batch_size": None}], ids=str)
def test_batches_are_the_same_resident_or_not(place, memory, uploads, settings):
    def loader(**more):
        return DataLoader(X, Y, **{"batch_size": 20, "seed": 3, "device": place, **settings, **more})

    expected = values(loader(resident=True))
    uploads.clear()
    by_size = loader()
    assert max(uploads.rows) == 90
    memory(1000)
    uploads.clear()
    waiting, told = loader(), loader(resident=False)
    assert not uploads.rows
    assert values(by_size) == values(waiting) == values(told) == expected
    assert values(loader(device="cpu", resident=False)) == expected
    for x, y in told:
        assert x.device == y.device == place
        assert y.bounds == (0, 1)


def test_resident_data_is_moved_however_large_it_is(place, memory, uploads):
    memory(0)
    DataLoader(X, Y, device=place, resident=True)
    assert uploads.rows == [90, 90]


def test_a_mixture_is_put_together_on_the_host(place, memory):
    memory(1000)
    there = nb.tensor(X, device=place)
    loader = DataLoader(there, np.tile(X, 2), Y, device=place, seed=0)
    assert [a.device for a in loader.arrays] == [CPU] * 3
    assert values(loader) == values(DataLoader(X, np.tile(X, 2), Y, seed=0))


def test_nothing_is_moved_before_shapes_are_checked(place, uploads):
    with pytest.raises(ShapeError, match=r"\[90, 89\]"):
        DataLoader(X, Y[:89], device=place)
    assert not uploads.rows


def test_labels_on_another_device_know_their_range(place):
    for resident in (True, False):
        (y,) = next(iter(DataLoader(Y * 3, device=place, resident=resident)))
        assert y.bounds == (0, 3)


def test_the_position_counts_what_has_been_handed_out(place, uploads):
    old, new = (DataLoader(X, Y, batch_size=10, seed=s, device=place, resident=False) for s in (0, 1))
    current = iter(old)
    for i in range(1, 4):
        next(current)
        assert made(uploads, 2 * (i + AHEAD)) == 2 * (i + AHEAD)
        assert (old.epoch, old.batch) == (1, i)
    new.load_state_dict(old.state_dict())
    assert values(new) == values(current)
    assert values(new) == values(old)
    assert not threads()


def test_two_passes_at_once_are_whole(place):
    loader = DataLoader(X, batch_size=10, seed=0, device=place, resident=False)
    other = DataLoader(X, batch_size=10, seed=0, device=place)
    pairs = list(zip(loader, loader, strict=True))
    assert [values(list(column)) for column in zip(*pairs, strict=True)] == [values(other), values(other)]
    assert not threads()


def test_a_pass_that_is_left_leaves_no_thread(place):
    loader = DataLoader(X, batch_size=10, seed=0, device=place, resident=False)
    for _ in loader:
        assert len(threads()) == 1
        break
    assert not threads()
    current = iter(loader)
    next(current)
    current.close()
    assert not threads()

    def failing():
        for _ in loader:
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        failing()
    assert not threads()


def test_errors_on_the_way_come_out_in_the_loop(place, monkeypatch):
    loader = DataLoader(X, batch_size=10, seed=0, device=place, resident=False)
    put, count = Device.put, 0

    def failing(self, host):
        nonlocal count
        count += 1
        if count == 3:
            raise MemoryError("out of memory")
        return put(self, host)

    monkeypatch.setattr(Device, "put", failing)
    batches = iter(loader)
    next(batches), next(batches)
    with pytest.raises(MemoryError, match="out of memory"):
        next(batches)
    assert not threads()


# -- the thread ------------------------------------------------------------------------------------------------------


def test_the_thread_works_in_turn_with_the_loop(place, monkeypatch):
    """Whatever stream that uses: on CUDA uploads and steps then need not wait for each other on the host."""
    streams, put = [], Device.put

    def current():
        return (cupy := sys.modules.get("cupy")) and cupy.cuda.get_current_stream().ptr

    def watched(self, host):
        streams.append((current(), threading.current_thread().name))
        return put(self, host)

    monkeypatch.setattr(Device, "put", watched)
    for context in (nullcontext(), place.stream()):
        with context:
            list(DataLoader(X, device=place, resident=False))
            assert set(streams) == {(current(), "nnbackend prefetch")}
            streams.clear()


def test_the_thread_sees_what_the_loop_sees(place):
    def source():
        for _ in range(3):
            yield recording.get(), threading.current_thread().name

    with nb.no_grad():
        seen = list(prefetched(source(), place))
    assert [mode for mode, *_ in seen] == [False] * 3
    assert {name for *_, name in seen} == {"nnbackend prefetch"}


def test_a_batch_is_held_until_the_loop_comes_back(place):
    """The loop may work on a stream of its own: the memory it reads must not be that of a batch to come."""
    loader = DataLoader(X, batch_size=10, device=place, resident=False)
    batches = iter(loader)
    (x,) = next(batches)
    reference = weakref.ref(x)
    del x
    assert reference() is not None
    next(batches)
    assert reference() is None
