"""TensorBoard's own reader reads what `callbacks.TensorBoard` writes, value for value."""

import warnings

import numpy as np
import pytest
from resume_case import SECOND, fit_quietly, maker

import nnbackend as nb
from nnbackend import callbacks

pytest.importorskip("tensorboard")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of protobuf and numpy, as they change
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer


def read(folder):
    return EventAccumulator(str(folder), {"histograms": 0, "scalars": 0}).Reload()  # all of them


def points(run, tag):
    return [(point.step, point.value) for point in run.Scalars(tag)]


def expected(trainer, name):
    return [(row["epoch"], float(np.float32(row[name]))) for row in trainer.history]


def test_exactly_what_was_written(tmp_path):
    trainer = maker(metrics=["accuracy"], schedule=lambda o: nb.optim.ExponentialLR(o, 0.5))()
    weights = []
    log = callbacks.TensorBoard(tmp_path, histograms=2)

    def keep(trainer, row):
        weights.append(trainer.net[0].weight.detach().numpy().copy())

    fit_quietly(epochs=4, validation_data=SECOND)(trainer, callbacks=[log, keep])
    train, validation = read(tmp_path / "train"), read(tmp_path / "validation")
    for name in ("loss", "accuracy"):
        assert points(train, name) == expected(trainer, name)
        assert points(validation, name) == expected(trainer, f"val_{name}")
    assert points(train, "lr") == [(i, float(np.float32(1e-3 * 0.5**i))) for i in range(1, 5)]
    assert train.Tags()["histograms"] == [name for name, _ in trainer.net.named_parameters()]
    found = train.Histograms("0.weight")
    assert [event.step for event in found] == [2, 4]
    for event, w in zip(found, weights[1::2], strict=True):
        counts, edges = np.histogram(w.astype("float64"), bins=30)
        said = event.histogram_value
        assert (said.min, said.max, said.num) == (w.min(), w.max(), w.size)
        np.testing.assert_allclose([said.sum, said.sum_squares], [w.sum(dtype="f8"), (w.astype("f8") ** 2).sum()])
        np.testing.assert_array_equal(said.bucket, [0, *counts])
        np.testing.assert_array_equal(said.bucket_limit, edges)
    (text,) = train.Tensors("settings")
    assert b"loss: cross_entropy" in text.tensor_proto.string_val[0]
    assert "Linear(6, 4)" in text.tensor_proto.string_val[0].decode()


def test_after_going_on_every_step_is_there_once(tmp_path):
    make, fit = maker(), fit_quietly(epochs=4, batch_size=8, validation_data=SECOND)
    whole = make()
    keep = nb.Checkpoints(tmp_path / "c", every=1, keep=99)
    fit(whole, checkpoints=keep, callbacks=[callbacks.TensorBoard(tmp_path)])
    for step in (3, 4):  # in the midst of an epoch, and after one
        trainer = nb.Trainer.resume(tmp_path / "c" / f"step-{step:010d}.safetensors", device="cpu")
        fit(trainer, callbacks=[callbacks.TensorBoard(tmp_path)])
        assert points(read(tmp_path / "train"), "loss") == expected(whole, "loss")
        assert points(read(tmp_path / "validation"), "loss") == expected(whole, "val_loss")
    again = maker(seed=2)()
    fit_quietly()(again, callbacks=[callbacks.TensorBoard(tmp_path)])  # another run in the same folder
    assert points(read(tmp_path / "train"), "loss") == expected(again, "loss")


def test_the_pages_of_tensorboard_find_charts_histograms_and_text(tmp_path):
    log = callbacks.TensorBoard(tmp_path, histograms=1)
    fit_quietly(epochs=1, validation_data=SECOND)(maker()(), callbacks=[log])
    runs = EventMultiplexer().AddRunsFromDirectory(str(tmp_path))
    runs.Reload()
    plugins = {name: sorted(runs.PluginRunToTagToContent(name)) for name in ("scalars", "histograms", "text")}
    assert plugins == {"scalars": ["train", "validation"], "histograms": ["train"], "text": ["train"]}
