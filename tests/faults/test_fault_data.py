"""Faults of data: files larger than memory, and arrays that are only lent to training."""

import hashlib
import os
import subprocess
import sys
import textwrap

import array_api_strict
import numpy as np
import pytest

import nnbackend as nb
from nnbackend import nn, optim
from nnbackend.backend import CPU
from nnbackend.data import CSVLoader, csv_rows
from nnbackend.errors import DataError
from nnbackend.train import edge

DEVICE1 = array_api_strict.Device("device1")


def features(X, device, dtype):
    return edge.Edge(device, dtype).inputs(X)


def targets(y, device, dtype, classes=True):
    return edge.Edge(device, dtype, classes=lambda key: classes).targets(y)


def child(code, *arguments):
    """What a Python of its own prints that runs the code."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True, text=True, timeout=50, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


# -- files larger than memory -----------------------------------------------------------------------------------------

STREAMED = """
    import resource, sys
    import numpy as np
    import nnbackend as nb
    from nnbackend import nn, optim

    folder, megabytes, limit, layouts, size = sys.argv[1], *map(int, sys.argv[2:])
    rows = megabytes * (1 << 20) // (16 * 4)

    def mapped(name, dtype, shape):
        np.memmap(f"{folder}/{name}", dtype, "w+", shape=shape).flush()
        return np.memmap(f"{folder}/{name}", dtype, "r", shape=shape)

    def megabytes_of(what):
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith(what)) / 1024

    table = mapped("table", "float32", (rows, 16))
    labels = mapped("labels", "int64", (rows,))
    seen = []

    class Watched(nn.Sequential):
        def forward(self, x):
            seen.append(megabytes_of("RssAnon"))
            return super().forward(x)

    def trainer():
        net = Watched(nn.Linear(table.shape[1] - skip, 4))
        return nb.Trainer(net, "cross_entropy", optim.SGD(lr=0.1), device="cpu", seed=0)

    skip = 0
    quiet = {"verbose": False, "check": False}
    small = trainer().fit(table[:9000], labels[:9000], batch_size=4096, **quiet)  # what the library itself needs
    before = megabytes_of("RssAnon")
    if limit:
        resource.setrlimit(resource.RLIMIT_DATA, (int(megabytes_of("VmData") + limit) << 20, resource.RLIM_INFINITY))
    for skip in range(layouts):  # all columns, and all but the first
        for shuffle in (False, True):
            loss = trainer().fit(table[:, skip:], labels, batch_size=size, shuffle=shuffle, **quiet)["loss"]
            assert np.isfinite(loss).all()
    print(max(seen) - before, megabytes_of("RssAnon") - before)
"""
needs_proc = pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs /proc")


@needs_proc
@pytest.mark.slow
def test_a_file_of_600_megabytes_is_trained_on_in_150(tmp_path):
    """Line 126: data in a file larger than memory is read batch by batch."""
    assert max(map(float, child(STREAMED, tmp_path, 600, 0, 1, 1 << 16).split())) < 150.0


@needs_proc
def test_a_file_larger_than_what_a_process_may_have_is_trained_on(tmp_path):
    """Line 126: 96 MB of features, where the process may get no more than 48 MB more memory than it has."""
    assert child(STREAMED, tmp_path, 96, 48, 2, 1 << 13)


CSV_STREAMED = """
    import sys
    import numpy as np
    from nnbackend.data import CSVLoader, StandardScaler

    path, megabytes, shuffle_rows = sys.argv[1], *map(int, sys.argv[2:])
    rng = np.random.default_rng(0)
    numbers = enumerate(rng.normal(size=(9000, 3)).tolist())
    block = "".join(f"{a:.60f},{b:.60f},{c:.60f},{'xyz'[i % 3]}\\n" for i, (a, b, c) in numbers)
    with open(path, "w") as file:
        file.write("a,b,c,word\\n")
        for _ in range((megabytes << 20) // len(block)):
            file.write(block)

    def megabytes_now():
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) / 1024

    before, rows, peak, scaler = megabytes_now(), 0, 0, StandardScaler()
    loader = CSVLoader(path, "word", batch_size=1000, shuffle_rows=shuffle_rows, seed=0)
    for x, y in loader:
        scaler.partial_fit(x)
        rows, peak = rows + len(x), max(peak, megabytes_now())
    assert rows == loader.rows == scaler._seen.rows == 9000 * ((megabytes << 20) // len(block))
    print(peak - before)
"""


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize("shuffle_rows", [0, 10_000])
def test_a_csv_file_of_50_megabytes_is_read_in_25(tmp_path, shuffle_rows):
    """faults.md 126: a table larger than memory is read block by block."""
    assert float(child(CSV_STREAMED, tmp_path / "rows.csv", 50, shuffle_rows)) < 25.0


# -- data that changes ------------------------------------------------------------------------------------------------

ROWS = [f"{i},{i * i}" for i in range(10)]


@pytest.mark.parametrize("shuffle_rows", [0, 4, 100])
@pytest.mark.parametrize(
    ("rows", "batches"),
    [(ROWS[:-1], 0), ([*ROWS, "10,100"], 0), (["9,0", *ROWS[1:]], 4), ([*ROWS[:-1], "9,80"], 4),
     ([*ROWS[:4], "", *ROWS[4:9]], 0)],
    ids=["shorter", "longer", "the first row", "the last row", "rows in other places"],
)  # fmt: skip
def test_a_file_that_changes_between_epochs_is_refused(tmp_path, rows, batches, shuffle_rows):
    """faults.md 127: other rows than at first end the pass, at the latest before its last batch is given away."""
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(["x,y", *ROWS]))
    loader = CSVLoader(path, "y", batch_size=2, shuffle_rows=shuffle_rows, seed=0)
    assert len(list(loader)) == 5
    path.write_text("\n".join(["x,y", *rows]))
    given = []
    with pytest.raises(DataError, match=f"{path}: expected the file as it was when the loader was made, got one that"):
        given.extend(iter(loader))
    assert len(given) <= batches
    path.write_text("\n".join(["x,y", *ROWS]))
    assert len(list(loader)) == 5


def test_a_file_that_changes_its_columns_or_goes_away_is_refused(tmp_path):
    """faults.md 127: before any batch."""
    path = tmp_path / "rows.csv"
    path.write_text("x,y\n1,2\n")
    loader = CSVLoader(path, "y")
    path.write_text("y,x\n1,2\n")
    with pytest.raises(DataError, match="expected the file as it was"):
        next(iter(loader))
    path.unlink()
    with pytest.raises(DataError, match="got 'No such file"):
        next(iter(loader))


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path, monkeypatch):
    """faults.md 127: in the middle of an epoch."""
    monkeypatch.setattr(csv_rows, "BYTES", 64)
    monkeypatch.setattr(csv_rows, "CELLS", 64)
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(["x,y", *(f"{i},{i}" for i in range(2000))]))
    loader = CSVLoader(path, "y", batch_size=10)
    batches = iter(loader)
    next(batches)
    with path.open("a") as file:
        file.write("\n1,2")
    with pytest.raises(DataError, match="got one that has changed"):
        list(batches)


# -- what is only lent ------------------------------------------------------------------------------------------------


class Careless(nn.Module):
    """Everything a model may do to its input."""

    def __init__(self):
        super().__init__()
        self.norm, self.dropout, self.fc = nn.BatchNorm1d(3), nn.Dropout(0.5), nn.Linear(3, 3)

    def forward(self, x):
        x += 1.0
        x *= 2.0
        y = self.norm(x)
        y -= self.dropout(x)
        return self.fc(nb.functional.relu(y))


def lent(shape, integers=False):
    rng = np.random.default_rng(0)
    a = rng.integers(0, 3, shape) if integers else rng.standard_normal(shape, np.float32)
    a.flags.writeable = False
    return a


@pytest.mark.parametrize("settings", [{}, {"batch_size": None, "shuffle": False}, {"accumulate": 2, "batch_size": 5}])
@pytest.mark.parametrize("wrap", [np.asarray, nb.asarray], ids=["array", "tensor"])
@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_training_never_writes_to_the_data(wrap, loss, settings):
    """What is shared is read-only here, so that a write would raise; and the bytes are compared."""
    X, y = lent((20, 3)), lent(20, True) if loss == "cross_entropy" else lent((20, 3))
    bytes_before = X.tobytes(), y.tobytes()
    given = wrap(X), wrap(y)
    trainer = nb.Trainer(Careless(), loss, optim.Adam(lr=0.1), device="cpu", seed=0)
    trainer.fit(*given, epochs=3, validation_data=given, verbose=False, **settings)
    trainer.evaluate(*given)
    trainer.predict(given[0])
    assert (X.tobytes(), y.tobytes()) == bytes_before


def test_a_writable_array_is_not_written_to_either():
    X, y = (a.copy() for a in (lent((20, 3)), lent((20, 3))))
    trainer = nb.Trainer(Careless(), "mse", optim.SGD(lr=0.1, momentum=0.9), device="cpu", seed=0)
    for settings in ({}, {"batch_size": None, "shuffle": False}):
        trainer.fit(X, y, epochs=4, verbose=False, **settings)
    np.testing.assert_array_equal(X, lent((20, 3)))
    np.testing.assert_array_equal(y, lent((20, 3)))


def test_what_a_prediction_returns_is_not_the_data():
    X = np.ones((4, 3), np.float32)
    unused = optim.SGD(nn.Linear(3, 3).parameters(), lr=0.1)
    nb.Trainer(nn.Identity(), optimizer=unused, device="cpu").predict(X)[...] = 0.0
    assert (X == 1.0).all()


def test_what_is_as_it_should_be_is_shared_and_all_else_is_not():
    X, y = np.ones((4, 3), np.float32), np.array([0, 2, 1, 2])
    assert np.shares_memory(features(X, CPU, "float32").data, X)
    assert np.shares_memory(features(nb.asarray(X), CPU, "float32").data, X)
    assert np.shares_memory(features(X.T, CPU, "float32").data, X)
    assert not np.shares_memory(features(X, CPU, "float64").data, X)
    labels = targets(y, CPU, "float32")
    assert np.shares_memory(labels.data, y)
    assert labels.bounds == (0, 2)
    assert targets(y.astype("int16"), CPU, "float32").bounds == (0, 2)
    assert targets(y, CPU, "float32", classes=False).dtype == np.float32
    assert features(X.astype(">f4"), CPU, "float32").data.dtype.isnative
    for given in (X, nb.asarray(X)):
        assert features(given, CPU, "float32") is not given


def test_one_number_is_no_data():
    for y in (np.int64(3), np.array(3), 3, np.float32(3)):
        with pytest.raises(DataError, match="y: expected rows, got a single number"):
            targets(y, CPU, "float32")


def test_results_do_not_depend_on_how_the_data_lies_in_memory(tmp_path):
    X, y = lent((50, 6)), lent((50, 2))
    stored = np.memmap(tmp_path / "x", np.float32, "w+", shape=(50, 9))
    stored[:, 2:8] = X

    def trained(X, y, **settings):
        net = nn.MLP([6, 8, 2], "tanh")
        trainer = nb.Trainer(net, "mse", optim.SGD(lr=0.1), device="cpu", seed=0)
        losses = trainer.fit(X, y, epochs=3, batch_size=16, verbose=False, **settings)["loss"]
        return losses, nb.asarray(trainer.predict(X)).numpy().tobytes()

    for settings in ({"shuffle": True}, {"shuffle": False}):
        want = trained(X, y, **settings)
        for other in (np.asfortranarray(X), X[::-1].copy()[::-1], stored[:, 2:8], X.astype(">f4"), nb.tensor(X)):
            assert trained(other, np.asfortranarray(y), **settings) == want


# -- NaN and infinity, block by block ---------------------------------------------------------------------------------


@pytest.mark.parametrize("device", [CPU, DEVICE1])
@pytest.mark.parametrize("block", [1, 40, 100, 1 << 22])
@pytest.mark.parametrize(
    ("bad", "message", "where"),
    [
        ({(7, 1): np.nan, (7, 2): np.inf, (9, 0): -np.inf}, "NaN.*got 3 that are not .first: row 7, column 1", (7, 1)),
        ({(9, 3): -np.inf, (0, 0): np.inf}, "infinity.*got 2 that are not .first: row 0, column 0", (0, 0)),
        ({(19, 3): np.nan}, "NaN.*got 1 that are not .first: row 19, column 3", (19, 3)),
    ],
)
def test_the_first_bad_number_is_found_in_whatever_block_it_is(monkeypatch, device, block, bad, message, where):
    """faults.md 31 and 32: the count, and the first row and column."""
    monkeypatch.setattr(edge, "BLOCK", block)
    place = nb.device(device)
    X = np.zeros((20, 4), np.float32)
    assert features(nb.tensor(X, device=device), place, "float32").shape == (20, 4)
    for at, value in bad.items():
        X[at] = value
    for given in (X, nb.tensor(X, device=device), X.reshape(20, 2, 2), np.asfortranarray(X)):
        with pytest.raises(DataError, match=f"Input X contains {message}") as error:
            features(given, place, "float32")
        assert (error.value.row, error.value.column) == where
    y = X.ravel()
    with pytest.raises(DataError, match=rf"Input y contains.*\(first: row {4 * where[0] + where[1]}\)") as error:
        targets(y, place, "float32")
    assert (error.value.row, error.value.column) == (4 * where[0] + where[1], None)


def test_rows_of_no_numbers_are_fine():
    assert features(np.zeros((3, 0), np.float32), CPU, "float32").shape == (3, 0)


# -- fingerprints -----------------------------------------------------------------------------------------------------

ARRAYS = {
    "matrix": np.arange(24, dtype=np.float32).reshape(6, 4),
    "images": np.arange(48, dtype=np.float64).reshape(3, 2, 4, 2),
    "labels": np.arange(7),
    "flags": np.array([True, False, True]),
    "bytes": np.arange(9, dtype=np.uint8).reshape(3, 3),
    "number": np.array(3.5, np.float32),
    "nothing": np.zeros((0, 4), np.float32),
    "narrow": np.zeros((4, 0), np.float32),
    "odd": np.array([0.0, -0.0, np.nan, np.inf, 1e-45], np.float32),
}


@pytest.mark.parametrize("block", [1, 17, 1 << 22])
@pytest.mark.parametrize("name", ARRAYS)
def test_a_fingerprint_is_that_of_the_values(monkeypatch, tmp_path, name, block):
    monkeypatch.setattr(edge, "BLOCK", block)
    a = ARRAYS[name]
    want = {
        "shape": list(a.shape),
        "dtype": a.dtype.name,
        "sha256": hashlib.sha256(a.astype(a.dtype.newbyteorder("<")).tobytes()).hexdigest(),
    }
    forms = [nb.asarray(a), nb.tensor(a, device=DEVICE1), nb.asarray(a.T.copy().T)]
    if a.ndim:
        forms += [nb.asarray(a[::-1].copy()[::-1]), nb.asarray(np.repeat(a, 2, -1)[..., ::2])]
    if a.ndim and a.size:
        stored = np.memmap(tmp_path / "a", a.dtype, "w+", shape=a.shape)
        stored[...] = a
        forms.append(nb.asarray(stored))
    assert [edge.fingerprint(t) for t in forms] == [want] * len(forms)


def test_fingerprints_differ_where_shapes_dtypes_or_bits_do():
    a = np.zeros((2, 3), np.float32)
    others = [a, a.reshape(3, 2), a.astype("int32"), a.astype("float64"), -a]
    assert len({str(edge.fingerprint(nb.asarray(b))) for b in others}) == len(others)
    assert edge.fingerprint(nb.asarray(a))["sha256"] != edge.fingerprint(nb.asarray(-a))["sha256"]
