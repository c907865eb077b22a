"""CSVLoader: batches of a file, as the table of the whole file has them, and all its faults before the first one."""

import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import nnbackend as nb
from nnbackend import nn, optim
from nnbackend.data import CSVLoader, StandardScaler, csv_rows, read_csv
from nnbackend.data.csv_rows import NUMBER, numbers
from nnbackend.errors import DataError, IncompatibleCheckpointError

fast = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def write(tmp_path):
    def write(content):
        path = tmp_path / "rows.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def rows_of(n, words="red green blue"):
    """A file of n rows: two numbers, one that is their sum, and a word."""
    words = words.split()
    rng = np.random.default_rng(n)
    lines = [
        f"{a!r},{b!r},{a + b!r},{words[i % len(words)]}" for i, (a, b) in enumerate(rng.normal(size=(n, 2)).tolist())
    ]
    return "\n".join(["a,b,sum,word", *lines])


def values(batches):
    return [(x.numpy().tolist(), y.numpy().tolist()) for x, y in batches]


# -- what it gives ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "drop", "lengths"), [(4, False, [4, 4, 2]), (4, True, [4, 4]), (None, False, [10])])
def test_batches_are_the_rows_of_the_table_in_order(write, size, drop, lengths):
    path = write(rows_of(10))
    X, y = read_csv(path).xy("sum", ["b", "a"])
    loader = CSVLoader(path, "sum", ["b", "a"], batch_size=size, drop_last=drop, dtype="float64")
    assert (len(loader), loader.rows, loader.features, loader.classes) == (len(lengths), 10, ["b", "a"], None)
    for epoch in (1, 2):
        batches = list(loader)
        assert [x.shape for x, _ in batches] == [(n, 2) for n in lengths]
        kept = sum(lengths)
        np.testing.assert_array_equal(np.concatenate([x.numpy() for x, _ in batches]), X[:kept])
        np.testing.assert_array_equal(np.concatenate([t.numpy() for _, t in batches]), y[:kept])
        assert (loader.epoch, loader.batch) == (epoch, 0)


def test_dtypes_and_shapes(write):
    path = write(rows_of(3))
    ((x, y),) = CSVLoader(path, "sum", ["a"])
    assert (x.dtype, x.shape, y.dtype, y.shape) == (np.float32, (3, 1), np.float32, (3,))
    ((x, y),) = CSVLoader(path, ["sum"], ["a"])
    assert y.shape == (3, 1)
    ((x, y),) = CSVLoader(path, ["sum", "b"], "a", dtype="float64")
    assert (x.dtype, y.shape) == (np.float64, (3, 2))
    np.testing.assert_array_equal(y.numpy()[:, 1], read_csv(path)["b"])


def test_a_target_of_text_becomes_indices(write):
    path = write(rows_of(7))
    loader = CSVLoader(path, "word")
    assert (loader.classes, loader.features) == (["blue", "green", "red"], ["a", "b", "sum"])
    ((_, y),) = loader
    assert (y.dtype, y.bounds) == (np.int64, (0, 2))
    assert y.numpy().tolist() == [2, 1, 0, 2, 1, 0, 2]
    ((_, y),) = CSVLoader(path, "word", classes=["red", "green", "blue", "white"])
    assert (y.numpy().tolist(), y.bounds) == ([0, 1, 2, 0, 1, 2, 0], (0, 3))
    path = write("x,y\n1,3\n1,1\n1,2.0\n")
    ((_, y),) = CSVLoader(path, "y", classes=np.array([1, 2, 3]))
    assert y.numpy().tolist() == [2, 0, 1]
    ((_, y),) = CSVLoader(path, "y", classes=["1", "2.0", "3"])  # texts stay as they stand
    assert y.numpy().tolist() == [2, 0, 1]


def test_a_scaler_learns_from_the_batches_and_transforms_them(write):
    path = write(rows_of(50))
    loader = CSVLoader(path, "sum", ["a", "b"], batch_size=8, dtype="float64")
    scaler = StandardScaler()
    for x, _ in loader:
        scaler.partial_fit(x)
    loader.transform = scaler.transform
    x = np.concatenate([x.numpy() for x, _ in loader])
    np.testing.assert_allclose(x, StandardScaler().fit_transform(read_csv(path).matrix(["a", "b"])), rtol=1e-12)


def test_rows_that_miss_what_they_need_are_dropped(write):
    path = write("id,a,b,y\nNA,1,2,x\n,3,NA,x\n5,?,6,x\n7,8,9,\n8,9,10,z\n")
    loader = CSVLoader(path, "y", ["a", "b"], missing="drop")
    assert (loader.rows, loader.classes) == (2, ["x", "z"])
    assert values(loader) == [([[1, 2], [9, 10]], [0, 1])]
    assert CSVLoader(path, "a", ["b"], missing="drop").rows == 3
    with pytest.raises(DataError, match=r"expected a row without missing cells, got none \('b' 1, 'a' 1\)"):
        CSVLoader(write("a,b\n1,\n,2\n"), "b", missing="drop")


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_other_delimiters_and_line_ends(write, delimiter):
    path = write(f"\ufeffa{delimiter}b\r\n\r\n 1 {delimiter}2\r\n".encode())
    assert values(CSVLoader(path, "b", delimiter=delimiter)) == [([[1]], [2])]


# -- orders and positions ---------------------------------------------------------------------------------------------


def test_each_block_is_shuffled_anew_in_each_epoch(write):
    path = write("x,y\n" + "".join(f"{i},{i}\n" for i in range(23)))

    def orders(loader, epochs=2):
        return [[int(i) for _, y in loader for i in y.numpy()] for _ in range(epochs)]

    one, two = orders(CSVLoader(path, "y", batch_size=4, shuffle_rows=8, seed=3))
    assert one != two
    for order in (one, two):
        blocks = [order[i : i + 8] for i in (0, 8, 16)]
        assert [sorted(block) for block in blocks] == [[*range(8)], [*range(8, 16)], [*range(16, 23)]]
        assert all(block != sorted(block) for block in blocks)
    assert orders(CSVLoader(path, "y", batch_size=4, shuffle_rows=8, seed=3)) == [one, two]
    assert orders(CSVLoader(path, "y", batch_size=4, shuffle_rows=5, seed=3)) == [one, two]  # whole batches
    assert orders(CSVLoader(path, "y", batch_size=4, shuffle_rows=8, seed=4)) != [one, two]
    assert orders(CSVLoader(path, "y", batch_size=4, seed=3)) == [[*range(23)]] * 2
    (x, y), *_ = CSVLoader(path, "y", shuffle_rows=23)
    np.testing.assert_array_equal(x.numpy()[:, 0], y.numpy())


@fast
@given(
    st.integers(1, 20), st.sampled_from([None, 1, 3, 50]), st.sampled_from([0, 1, 7, 100]), st.booleans(),
    st.integers(0, 50),
)  # fmt: skip
def test_a_resumed_loader_has_the_batches_that_were_left(write, rows, size, shuffle, drop, taken):
    path = write(rows_of(rows))
    if drop and size is not None and size > rows:
        return
    settings = {"batch_size": size, "shuffle_rows": shuffle, "drop_last": drop}
    old, new = CSVLoader(path, "word", seed=1, **settings), CSVLoader(path, "word", **settings)
    passes, taken = divmod(taken, len(old))
    for _ in range(passes):
        list(old)
    current = iter(old)
    for _ in range(taken):
        next(current)
    state = old.state_dict()
    assert (state["epoch"], state["batch"]) == (passes + (taken > 0), taken)
    new.load_state_dict(state)
    assert new.state_dict() == state
    assert values(new) == values(current)
    assert values(new) == values(old)
    assert new.epoch == passes + 2


def test_a_state_of_another_file_is_refused(write):
    old = CSVLoader(write(rows_of(9)), "word", batch_size=2)
    next(iter(old))
    state = old.state_dict()
    new = CSVLoader(write(rows_of(9).replace("red", "rot")), "word", batch_size=2)
    before = new.state_dict()
    for wrong, message in [
        (state, "expected the state of a loader of a file with SHA-256"),
        ({**before, "batch": 5}, "CSVLoader.load_state_dict: expected a batch below 1 in epoch 0, got 5"),
        ({k: v for k, v in before.items() if k != "sha256"}, "got None"),
        (3, "expected a state, got int"),
    ]:
        with pytest.raises(IncompatibleCheckpointError, match=message):
            new.load_state_dict(wrong)
        assert new.state_dict() == before


def test_of_several_passes_at_once_each_is_whole(write):
    loader = CSVLoader(write(rows_of(9)), "word", batch_size=2)
    whole = values(loader)
    first, second = iter(loader), iter(loader)
    mixed = [next(first), next(second), *first], [*second]
    assert values(mixed[0][:1] + mixed[0][2:]) == values(mixed[0][1:2] + mixed[1]) == whole


def test_a_fit_goes_on_in_the_middle_of_an_epoch(write, tmp_path):
    path = write(rows_of(50))

    def fit(*callbacks, resume=False):
        trainer = nb.Trainer(nn.Linear(3, 3).init(0), "cross_entropy", optim.Adam(lr=0.1), device="cpu", seed=0)
        loader = CSVLoader(path, "word", batch_size=8, shuffle_rows=20, seed=1)
        kept = nb.Checkpoints(tmp_path / "run", every=1) if callbacks or resume else None
        trainer.fit(loader, epochs=3, verbose=False, callbacks=callbacks, checkpoints=kept, resume=resume)
        return trainer.history["loss"], [p.numpy().tobytes() for p in trainer.net.parameters()]

    class Fails(nb.Callback):
        def on_step_end(self, trainer):
            if trainer.steps == 10:  # the third batch of the second epoch
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fit(Fails())
    assert fit(resume=True) == fit()


# -- what it refuses --------------------------------------------------------------------------------------------------

FAULTS = [
    ("a,y\n1,2\n\n1_000,2\n", {}, 4, "a", "expected a number, got '1_000'"),
    ("a,y\n1,2\n3,x\n", {}, 3, "y", "got 'x'. Correct the cell, or pass classes="),
    ("a,b,c,y\n1,u,v,2\n", {}, 2, "b", r"got 'u' \(and text in 'c'\). Correct the cell, or name the numeric columns"),
    ("a,y\n1e39,2\n", {}, 2, "a", "expected a finite number in float32, got '1e39'"),
    ("a,y\n1,2\n3,1e999\n", {"dtype": "float64"}, 3, "y", "expected a finite number in float64, got '1e999'"),
    ("a,y\n1,u\n2,v\n3,w\n", {"classes": ["u", "v"]}, 4, "y", "expected one of the classes 'u', 'v', got 'w'"),
    ("a,y\n1,1\n2,x\n", {"classes": [1]}, 3, "y", "expected one of the classes 1, got 'x'"),
    ("a,y\n1,2\n,\n3,NA\n", {}, 3, "a", r"expected no missing cells, got 3 \('a' 1, 'y' 2\)"),
    ("a,y\n1,2\n1,2,3\n", {}, 3, None, "as many fields as column names, 2, got 3"),
    ('a,y\n1,2\n"1,2\n', {}, 3, None, "expected a closing quote"),
    ("a,y\n1,2\n\n3,\xff\n".encode("latin-1"), {}, 4, None, "got byte 0xff at byte offset 11"),
    ("a,y\n1,2\n3,\0\n", {}, 3, None, "got a NUL byte at byte offset 10"),
    ("a;y\n1;2\n", {}, 1, None, "did you mean delimiter=';'"),
    ("a,a,y\n1,2,3\n", {}, 1, None, "got 'a' 2 times"),
    ("a,y\n", {}, None, None, "expected rows below the column names, got none"),
    ("", {}, None, None, "got an empty file"),
    ("a,b\n1,2\n", {}, None, "y", "expected columns for target= among 'a', 'b', got 'y'"),
    ("a,y\n1,2\n", {"features": ["b"]}, None, "b", "expected columns for features= among 'a', 'y', got 'b'"),
    ("a,y\n1,2\n", {"features": ["a", "y"]}, None, "y", "expected features without the target, got 'y'"),
    ("a,y\n1,2\n", {"features": []}, None, None, "expected at least one column for features="),
    ("a,y\n1,2\n", {"features": ["a", "a"]}, None, "a", "expected each column once in features=, got 'a' again"),
    ("y\n1\n", {}, None, None, "expected at least one column for features="),
]  # fmt: skip


@pytest.mark.parametrize(("content", "options", "line", "column", "message"), FAULTS)
def test_faults_come_before_the_first_batch(write, content, options, line, column, message):
    path = write(content)
    with pytest.raises(DataError, match=message) as error:
        CSVLoader(path, "y", **options)
    assert str(error.value).startswith(str(path))
    assert (error.value.row, error.value.column) == (line, column)


def test_what_cannot_be_read_again_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, message in [("pipe", "got a pipe or a device"), ("", "got a folder"), ("none", "No such file")]:
        with pytest.raises(DataError, match=message):
            CSVLoader(tmp_path / name, "y")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "CSVLoader: expected batch_size >= 1 or None, got 0"),
        ({"batch_size": 4, "drop_last": True}, "expected batch_size <= 3 rows with drop_last, got 4"),
        ({"shuffle_rows": -1}, "expected shuffle_rows >= 0, got -1"),
        ({"missing": "mean"}, r"expected missing among \('error', 'drop'\), got 'mean'"),
        ({"dtype": "int8"}, "expected dtype among"),
        ({"delimiter": ",,"}, "expected a delimiter of one character"),
        ({"classes": [1, "a"]}, "expected classes, all different texts or all different numbers"),
        ({"classes": []}, "expected classes, all"),
        ({"classes": ["a", "a"]}, "expected classes, all"),
        ({"target": ["sum", "a"], "classes": [1]}, "expected one target with classes"),
    ],
)
def test_options_are_checked(write, options, message):
    with pytest.raises(ValueError, match=message):
        CSVLoader(write(rows_of(3)), **{"target": "word", **options})


# -- block by block ---------------------------------------------------------------------------------------------------


@given(st.text("0123456789+-.eE_x, \u0663\n", max_size=8))
def test_numbers_are_what_the_pattern_says(cell):
    found = numbers(["1", cell])
    assert (found is not None) == bool(NUMBER.fullmatch(cell))
    assert found is None or found.tolist() == [1, float(cell)]


@fast
@given(st.text('ab12,"\n\r\u00e9\u2028\ufeff', max_size=40) | st.binary(max_size=20), st.integers(1, 9))
def test_where_blocks_end_does_not_matter(write, content, size):
    path = write(content)

    def outcome():
        try:
            table = read_csv(path, text=["a"] if b"a" in path.read_bytes()[:1] else [])
        except DataError as error:
            return str(error), error.row, error.column
        return {name: table[name].tolist() for name in table}

    whole = outcome()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_rows, "BYTES", size)
        patch.setattr(csv_rows, "CELLS", size)
        assert outcome() == whole


def test_a_line_without_end_is_refused_in_little_memory(write, monkeypatch):
    monkeypatch.setattr(csv_rows, "BYTES", 16)
    monkeypatch.setattr(csv_rows, "LONGEST", 64)
    path = write("a,b\n1,2\n" + "3," * 100)
    for read in (read_csv, lambda path: CSVLoader(path, "a")):
        with pytest.raises(DataError, match="lines of at most 64 bytes, got a longer one at byte offset 8") as error:
            read(path)
        assert error.value.row == 3
