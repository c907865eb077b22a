"""What a fit reads: streams of batches, and files. All ways train alike; how a fit is bounded, stopped and copied."""

import copy
import pickle
import threading
import time

import array_api_strict as strict
import numpy as np
import pytest
from feed_case import WEIGHT, Sum, X, Y, batches, fitted, plain, random, same, trainer

import nnbackend as nb
from nnbackend import nn, optim
from nnbackend.data import prefetch
from nnbackend.errors import DataError, IncompatibleCheckpointError, ShapeError

# -- streams ---------------------------------------------------------------------------------------------------------


def test_a_loader_of_ones_own_trains_as_arrays_do():
    same(fitted(trainer(), X, Y), fitted(trainer(), nb.data.DataLoader(X, Y, seed=1)))


@pytest.mark.parametrize("source", [batches, lambda: list(batches()), list(batches())], ids=["generator", "fn", "list"])
@pytest.mark.parametrize("accumulate", [1, 2, 3])
def test_batches_from_anywhere_train_as_arrays_in_order_do(source, accumulate):
    by_rows = fitted(plain(), X, Y, batch_size=25, shuffle=False, accumulate=accumulate)
    by_stream = fitted(plain(), source, accumulate=accumulate)
    assert by_stream.steps == by_rows.steps
    assert by_stream.history["loss"] == pytest.approx(by_rows.history["loss"], rel=1e-12)
    np.testing.assert_allclose(by_stream.predict(X), by_rows.predict(X), rtol=1e-12, atol=1e-13)


def test_batches_of_any_size_count_by_their_rows():
    sizes = [10, 40, 15, 25]
    stream = [(X[i - n : i], Y[i - n : i]) for n, i in zip(sizes, np.cumsum(sizes), strict=True)]
    run = nb.Trainer(nn.Linear(4, 2).to("float64"), "cross_entropy", optim.SGD(lr=1e-300), device="cpu", seed=0)
    fitted(run, stream, epochs=1, check=False)
    assert run.history["loss"][0] == pytest.approx(run.evaluate(X, Y)["loss"], rel=1e-12)


def test_validation_and_evaluation_take_streams():
    run = fitted(trainer(), X, Y, validation_data=batches)
    row = run.evaluate(batches)
    assert row == pytest.approx(run.evaluate(X, Y), rel=1e-6)
    assert run.history[-1]["val_loss"] == pytest.approx(row["loss"], rel=1e-6)
    assert run.history[-1]["val_accuracy"] == pytest.approx(row["accuracy"])


def test_a_look_at_a_loader_does_not_move_it():
    loader, other = nb.data.DataLoader(X, Y, seed=1), nb.data.DataLoader(X, Y, seed=1)
    run = fitted(trainer(), loader, report_every=1)
    assert loader.epoch == 3
    same(run, fitted(trainer(), other, report_every=1))


def test_a_look_at_a_source_that_counts_its_passes_does_not_move_it():
    class Counting:
        epoch = 0

        def __iter__(self):
            self.epoch += 1
            passes.append(self.epoch)
            return batches()

    passes = []
    fitted(trainer(), Counting(), report_every=1)
    assert passes == [1, 1 + 1, 2, 2 + 1, 3, 3 + 1]  # each time the metrics look at the pass to come


def test_streams_may_bring_weights_and_several_inputs():
    stream = [((X[:40], X[:40]), Y[:40], WEIGHT[:40]), ((X[40:], X[40:]), Y[40:], WEIGHT[40:])]
    assert np.isfinite(fitted(nb.Trainer(Sum(), "cross_entropy", seed=0), stream).history["loss"]).all()


@pytest.mark.parametrize(
    ("source", "epochs", "words"),
    [
        (batches(), 2, "can be read again for 2 epochs, got a generator"),
        (list, 1, "expected batches, got none"),
        ([(X, Y, WEIGHT, X)], 1, "got 4 parts in batch 1"),
        ([X], 1, "got a ndarray in batch 1"),
        ([(X, Y), (X * np.nan, Y)], 1, "X of batch 2 contains NaN"),
        ([(X, Y), (X, Y[:50])], 1, "90.*50|50.*90"),
        ([(X, Y), (X, Y, WEIGHT)], 1, "weights in all batches or in none, got others in batch 2"),
        (lambda: None, 1, "a function that gives batches, got None"),
        (3, 1, "batches, or a function that gives them, got 3"),
    ],
)
def test_streams_that_cannot_be_read_are_refused(source, epochs, words):
    with pytest.raises((DataError, ShapeError, TypeError), match=words):
        fitted(trainer(), source, epochs=epochs)


def test_a_stream_that_gets_shorter_is_refused():
    """faults.md 127."""
    lengths = iter([4, 4, 3])

    def source():
        yield from [(X, Y)] * next(lengths)

    run = nb.Trainer(nn.Linear(4, 2), "cross_entropy", seed=0)
    with pytest.raises(DataError, match="expected 4 batches as at first, got 3"):
        fitted(run, source, epochs=3)
    assert len(run.history) == 2


def test_an_iterator_is_enough_for_one_epoch():
    assert fitted(trainer(), batches(), epochs=1).steps == 4


SLOW = 4 * prefetch.WORTH


def slowly(source):
    """Batches that take long enough for a thread of their own."""
    for batch in source:
        time.sleep(SLOW)
        yield batch


def test_errors_of_a_source_come_through_and_its_thread_ends():
    def source():
        yield from slowly([(X, Y)] * 5)
        seen.append(threading.current_thread())
        raise RuntimeError("the disk is gone")

    before, seen = threading.active_count(), []
    with pytest.raises(RuntimeError, match="the disk is gone"):
        fitted(trainer(), source)
    assert seen != [threading.main_thread()]
    assert threading.active_count() == before


def test_a_fit_that_ends_early_leaves_no_thread_behind():
    def endless():
        while True:
            yield from slowly([(X, Y)])

    run = trainer()
    before, most = threading.active_count(), 0

    def enough(trainer):
        nonlocal most
        most = max(most, threading.active_count())
        if trainer.steps == 8:
            trainer.stop("enough")

    fitted(run, endless, callbacks=[nb.callbacks.Lambda(on_step_end=enough)])
    assert run.steps == 8
    assert most == before + 1
    assert threading.active_count() == before


def test_the_thread_reads_only_a_little_ahead():
    read = most = 0

    def source():
        nonlocal read
        for batch in slowly([(X, Y)] * 20):
            read += 1
            yield batch

    def look(trainer):
        nonlocal most
        most = max(most, read - trainer.steps)

    fitted(plain(), source, epochs=1, callbacks=[nb.callbacks.Lambda(on_step_end=look)])
    assert read == 20
    assert most <= prefetch.AHEAD + 2


def test_batches_that_are_there_at_once_need_no_thread():
    before, most = threading.active_count(), []
    watch = nb.callbacks.Lambda(on_step_end=lambda trainer: most.append(threading.active_count()))
    fitted(plain(), [(X, Y)] * 20, epochs=1, callbacks=[watch])
    assert set(most) == {before}


def test_on_the_way_to_another_device_a_thread_reads_ahead():
    place = nb.device(strict.Device("device1"))
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)).to("float64")
    run = nb.Trainer(net, "cross_entropy", optim.Adam(lr=0.01), device=place, seed=1)
    before, seen = threading.active_count(), []
    watch = nb.callbacks.Lambda(on_step_end=lambda trainer: seen.append(threading.active_count()))
    fitted(run, [(X, Y)] * 10, epochs=1, callbacks=[watch])
    assert seen[0] == before + 1
    assert threading.active_count() == before
    assert run.history["loss"] == pytest.approx(fitted(plain(), [(X, Y)] * 10, epochs=1).history["loss"], rel=1e-9)


def test_numbers_too_large_for_the_model_are_named():
    net = nn.Linear(4, 2).to("float16")
    big = X.copy()
    big[7, 2] = 1e5
    with pytest.raises(DataError, match=r"X in float16 contains infinity.*row 7, column 2"):
        fitted(nb.Trainer(net, "cross_entropy", optim.SGD(lr=0.1), device="cpu", seed=0), big, Y)


# -- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_memory_mapped_arrays_train_as_arrays_do(tmp_path, dtype, mode):
    np.save(tmp_path / "X.npy", X.astype(dtype))
    np.save(tmp_path / "y.npy", Y)
    before = (tmp_path / "X.npy").read_bytes()
    mapped = [np.load(tmp_path / f"{name}.npy", mmap_mode=mode) for name in ("X", "y")]
    run = fitted(trainer(), *mapped, validation_data=tuple(mapped))
    same(run, fitted(trainer(), X.astype(dtype), Y, validation_data=(X, Y)))
    np.testing.assert_array_equal(run.predict(mapped[0]), run.predict(X))
    assert (tmp_path / "X.npy").read_bytes() == before


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("device", ["cpu", strict.Device("device1")], ids=str)
@pytest.mark.parametrize("in_file", [(0,), (1,), (0, 1)])
def test_files_beside_arrays_and_split(tmp_path, in_file, device, shuffle):
    given = [X.astype("float64"), Y]
    for i in in_file:
        np.save(tmp_path / f"{i}.npy", given[i])
        given[i] = np.load(tmp_path / f"{i}.npy", mmap_mode="r")
    settings = {"validation_split": 0.2, "sample_weight": WEIGHT, "shuffle": shuffle, "batch_size": 20}
    run = nb.Trainer(nn.Linear(4, 2), "cross_entropy", metrics=["accuracy"], device=device, seed=1)
    here = nb.Trainer(nn.Linear(4, 2), "cross_entropy", metrics=["accuracy"], device="cpu", seed=1)
    fitted(run, *given, **settings)
    fitted(here, X, Y, **settings)
    for name in ("loss", "accuracy", "val_loss"):
        assert run.history[name] == pytest.approx(here.history[name], rel=1e-6)
    np.testing.assert_allclose(run.predict(X), here.predict(X), rtol=1e-5)


def test_another_split_of_a_file_is_another_run(tmp_path):
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    fitted(trainer(), mapped, Y, epochs=1, validation_split=0.2, checkpoints=tmp_path / "run")
    again = nb.Trainer.resume(tmp_path / "run", device="cpu")
    with pytest.raises(IncompatibleCheckpointError, match="rows was int64"):
        fitted(again, mapped, Y, validation_split=0.3, checkpoints=tmp_path / "run", resume=True)


def test_a_run_over_a_file_is_gone_on_with_over_an_array(tmp_path):
    """What is compared is the data as the model gets it."""
    wide = X.astype("float64")
    np.save(tmp_path / "X.npy", wide)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    settings = {"checkpoints": tmp_path / "run", "resume": True}
    pause = nb.callbacks.Lambda(on_step_end=lambda run: run.steps == 4 and run.stop("pause", final=False))
    fitted(trainer(), mapped, Y, callbacks=[pause], **settings)
    same(fitted(trainer(), wide, Y, **settings), fitted(trainer(), X, Y))


def test_changes_that_are_nowhere_else_are_not_let_go_of(tmp_path):
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="c")
    mapped[3] = 7.0
    run, changed = trainer(), X.copy()
    changed[3] = 7.0
    same(fitted(run, mapped, Y), fitted(trainer(), changed, Y))
    assert (mapped[3] == 7.0).all()


# -- splits, bounds, stops, copies --------------------------------------------------------------------------------


def test_a_share_of_the_rows_is_left_out_of_training():
    run = fitted(trainer(), X, Y, validation_split=0.2)
    assert run.steps == 3 * 3  # 72 rows in batches of 32
    assert "val_loss" in run.history.columns
    same(run, fitted(trainer(), X, Y, validation_split=0.2))


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5, float("nan")])
def test_a_share_that_leaves_nothing_is_refused(share):
    """faults.md 51."""
    with pytest.raises(ValueError, match="validation_split between 0 and 1"):
        fitted(trainer(), X, Y, validation_split=share)


@pytest.mark.parametrize("bound", [{"clip_norm": 0.01}, {"clip_value": 0.001}])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_gradients_are_bounded(bound, accumulate):
    net = nn.Linear(4, 2).to("float64")
    run = nb.Trainer(net, "cross_entropy", optim.SGD(lr=1.0), device="cpu", seed=0, **bound)
    before = net.state_dict()
    fitted(run, X, Y, epochs=1, batch_size=30, accumulate=3, check=False)
    moved = np.concatenate([(net.state_dict()[k] - before[k]).numpy().ravel() for k in before])
    if "clip_norm" in bound:
        assert np.linalg.norm(moved) == pytest.approx(0.01, rel=1e-3)
    else:
        assert np.abs(moved).max() == pytest.approx(0.001)


def test_somebody_may_stop_a_fit():
    run = trainer()
    with pytest.raises(ValueError, match="expected a fit to be under way"):
        run.stop()
    fitted(run, X, Y, epochs=50, callbacks=[lambda trainer, row: row["epoch"] == 7 and trainer.stop("that will do")])
    assert len(run.history) == 7
    np.testing.assert_array_equal(run.predict(X), fitted(trainer(), X, Y, epochs=7).predict(X))


def test_a_stop_that_is_not_final_is_gone_on_from():
    run = trainer()
    pause = nb.callbacks.Lambda(on_step_end=lambda trainer: trainer.steps == 8 and trainer.stop("pause", final=False))
    fitted(run, X, Y, epochs=5, callbacks=[pause])
    assert run.steps == 8
    fitted(run, X, Y, epochs=5, callbacks=[pause])
    same(run, fitted(trainer(), X, Y, epochs=5))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda run: pickle.loads(pickle.dumps(run))], ids=["copy", "pickle"])
def test_a_copy_of_a_trainer_goes_on_by_itself(copied):
    settings = {"schedule": lambda opt: optim.CosineAnnealingLR(opt, T_max=6)}
    run, whole = fitted(trainer(**settings), X, Y), fitted(fitted(trainer(**settings), X, Y), X, Y)
    other = copied(run)
    same(fitted(other, X, Y), whole)
    assert len(run.history) == 3
    same(fitted(run, X, Y), whole)


def test_embeddings_get_whole_numbers_others_do_not():
    tokens = random.integers(0, 5, (90, 3))
    net = nn.Sequential(nn.Embedding(5, 4), nn.Flatten(), nn.Linear(12, 2))
    run = fitted(nb.Trainer(net, "cross_entropy", seed=0, device="cpu"), tokens, Y)
    assert run.predict(tokens).shape == (90, 2)
    assert fitted(nb.Trainer(nn.Linear(3, 2), "cross_entropy", seed=0), tokens, Y).predict(tokens).dtype == "float32"
