"""Trainer: fit, evaluate and predict, on NumPy and on a pretend device."""

import sys
import threading

import array_api_strict
import iris
import numpy as np
import pytest
import xor

import nnbackend as nb
from nnbackend import data, nn, optim
from nnbackend.errors import DataError, DTypeError, LabelError, NonFiniteError, ShapeError
from nnbackend.train.history import History, line

DEVICE1 = array_api_strict.Device("device1")


def small(seed=0, **kw):
    return nb.Trainer(nn.MLP([2, 3, 1], "tanh"), optimizer=optim.SGD(lr=0.1), device="cpu", seed=seed, **kw)


def rows(n=20, seed=0):
    X = np.random.default_rng(seed).standard_normal((n, 2))
    return X, X[:, :1] - X[:, 1:]


# -- a device that is not NumPy -------------------------------------------------------------------------------------


def test_xor_trains_alike_on_a_device():
    """Issue 2, line 5."""
    X, y = data.xor()
    here, there = xor.trainer(), xor.trainer(device=DEVICE1)
    for run in (here, there):
        run.fit(X, y, epochs=50, batch_size=None, verbose=False)
    assert there.device == "array_api_strict:device1"
    assert {str(p.device) for p in there.net.parameters()} == {"array_api_strict:device1"}
    np.testing.assert_allclose(there.history["loss"], here.history["loss"], rtol=1e-12)


@pytest.mark.parametrize("recipe", ["tutorial", "modern"])
def test_iris_trains_alike_on_a_device(recipe):
    here, there = (iris.run(recipe, seed=3, device=d, epochs=2)[0] for d in ("cpu", DEVICE1))
    for name in here.history.columns:
        np.testing.assert_allclose(there.history[name], here.history[name], rtol=1e-5, err_msg=name)


# -- what fit does --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [None, 1, 7, 20, 100])
def test_every_batch_size_sees_every_row(batch_size):
    X, y = rows()
    run, seen = small(), []
    step = run.step
    run.step = lambda x, t: (seen.append(x.numpy().copy()), step(x, t))[1]
    with pytest.warns(nb.errors.RecordingWarning, match=r"numpy.*test_trainer.py"):
        run.fit(X, y, epochs=2, batch_size=batch_size, verbose=False, check=False)
    assert len(run.history) == 2
    assert run.steps == len(seen) == 2 * -(-20 // min(batch_size or 20, 20))
    first = np.concatenate(seen[: len(seen) // 2])
    np.testing.assert_allclose(np.sort(first, axis=0), np.sort(X.astype("float32"), axis=0))


def test_the_loss_of_an_epoch_is_the_mean_over_its_rows():
    X, y = rows()
    run = nb.Trainer(nn.MLP([2, 3, 1], "tanh"), optimizer=optim.SGD(lr=0.0), device="cpu", seed=0)
    run.fit(X, y, epochs=1, batch_size=7, verbose=False, check=False)
    assert run.history["loss"][0] == pytest.approx(run.evaluate(X, y)["loss"], rel=1e-5)


def test_one_seed_is_one_run_and_fit_goes_on():
    X, y = rows()
    whole, parts, other = small(), small(), small(seed=1)
    whole.fit(X, y, epochs=4, verbose=False)
    for _ in range(4):
        parts.fit(X, y, epochs=1, verbose=False)
    other.fit(X, y, epochs=4, verbose=False)
    assert whole.history["loss"] == parts.history["loss"] != other.history["loss"]
    assert parts.history["epoch"] == [1, 2, 3, 4]


def test_reports_have_metrics_and_validation(capsys):
    X, y = data.xor()
    run = xor.trainer()
    run.fit(X, y, epochs=5, batch_size=None, validation_data=(X, y), report_every=2)
    assert run.history.columns == ["epoch", "loss", "accuracy", "val_loss", "val_accuracy"]
    assert [row["epoch"] for row in run.history if "accuracy" in row] == [2, 4, 5]
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("epoch     2  loss 0.2")
    assert lines[3].startswith("fit: 5 epochs, 5 steps in ")


def test_one_metric_and_one_callback_need_no_list():
    X, y = data.xor()
    run = nb.Trainer(nn.MLP([2, 3, 1]), loss="mse", metrics="mae", device="cpu", seed=0)
    epochs = []
    run.fit(X, y, epochs=2, verbose=False, callbacks=lambda trainer, row: epochs.append(row["epoch"]))
    assert (run.history.columns, epochs) == (["epoch", "loss", "mae"], [1, 2])
    assert nb.Trainer(nn.MLP([2, 3, 1]), metrics=None, device="cpu").metrics == {}
    with pytest.raises(TypeError, match="loss: expected a name or a function"):
        nb.Trainer(nn.MLP([2, 3, 1]), loss=nn.MSELoss, device="cpu")


def test_a_run_is_silent_when_asked(capsys):
    small().fit(*rows(), epochs=2, verbose=False)
    out = capsys.readouterr()
    assert out.out == out.err == ""


def test_predict_and_evaluate_leave_the_mode_alone():
    net = nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.5), nn.Linear(8, 1))
    run = nb.Trainer(net, optimizer="sgd", device="cpu", seed=0)
    X, y = rows(50)
    np.testing.assert_array_equal(run.predict(X), run.predict(X))
    assert run.evaluate(X, y) == run.evaluate(X, y)
    assert net.training
    assert all(p.grad is None for p in net.parameters())
    batched = run.predict(X, batch_size=7)
    np.testing.assert_allclose(batched, run.predict(X), rtol=1e-5, atol=1e-6)
    assert isinstance(run.predict(nb.tensor(X)), nb.Tensor)


def test_templates_and_bound_optimizers():
    template = optim.SGD(lr=0.1)
    run = nb.Trainer(nn.Linear(2, 1), optimizer=template, device="cpu")
    assert run.optimizer is not template
    assert template.param_groups == []
    net = nn.Linear(2, 1)
    bound = optim.SGD(net.parameters(), lr=0.1)
    assert nb.Trainer(net, optimizer=bound, device="cpu").optimizer is bound


def test_a_seed_spares_what_was_loaded():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    net[0].load_state_dict({"weight": np.eye(2), "bias": np.zeros(2)})
    before = net[1].weight.numpy().copy()
    nb.Trainer(net.to("float32"), device="cpu", seed=5)
    np.testing.assert_array_equal(net[0].weight.numpy(), np.eye(2))
    assert (net[1].weight.numpy() != before).all()


def test_data_is_cast_once_to_the_models_dtype():
    X, y = rows()
    seen = set()
    run = small(
        loss=lambda output, target: (seen.add((output.dtype, target.dtype)), nb.functional.mse_loss(output, target))[1]
    )
    run.fit(X, y, epochs=1, verbose=False)
    assert {str(d) for pair in seen for d in pair} == {"float32"}


@pytest.mark.parametrize("loss", ["mse", "mae", "huber", "bce_with_logits"])
@pytest.mark.parametrize("kind", [int, bool, float])
def test_whole_numbers_are_amounts_for_a_numeric_loss(loss, kind):
    X, y = data.xor()
    runs = [small(loss=loss), small(loss=loss)]
    runs[0].fit(X.astype(int), y.astype(kind).tolist(), epochs=3, validation_data=(X, y.astype(kind)), verbose=False)
    runs[1].fit(X, y, epochs=3, validation_data=(X, y), verbose=False)
    assert runs[0].history.rows == runs[1].history.rows
    assert runs[0].evaluate(X, y.astype(kind)) == runs[1].evaluate(X, y)


def test_accuracy_of_logits_has_its_threshold_at_zero():
    X, _ = rows(200)
    y = (X.sum(axis=1, keepdims=True) > 0).astype(float)
    run = nb.Trainer(nn.Linear(2, 1), "bce_with_logits", optim.SGD(lr=1.0), ["accuracy"], device="cpu", seed=0)
    run.fit(X, y, epochs=20, verbose=False)
    assert run.evaluate(X, y)["accuracy"] > 0.97


def test_two_threads_train_two_models_as_if_alone():
    X, y = rows(64)
    alone = [small(seed=s).fit(X, y, epochs=5, verbose=False)["loss"] for s in (0, 1)]
    together = [None, None]

    def work(s):
        together[s] = small(seed=s).fit(X, y, epochs=5, verbose=False)["loss"]

    threads = [threading.Thread(target=work, args=(s,)) for s in (0, 1)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert together == alone


# -- what fit refuses -----------------------------------------------------------------------------------------------


def test_nan_is_named_by_row_and_column():
    X, y = rows()
    X[3, 1] = np.nan
    run = small()
    before = run.net.state_dict()
    with pytest.raises(DataError, match=r"Input X contains NaN.*1 that are not \(first: row 3, column 1\)") as error:
        run.fit(X, y, verbose=False)
    assert (error.value.row, error.value.column) == (3, 1)
    assert len(run.history) == 0
    for name, value in run.net.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name].numpy())
    X, y = rows()
    y[5] = np.inf
    with pytest.raises(DataError, match=r"Input y contains infinity.*row 5"):
        run.fit(X, y, verbose=False)
    with pytest.raises(DataError, match="Input X contains NaN"):
        run.predict([[0.0, float("nan")]])


def test_huge_but_finite_data_passes():
    X = np.full((4, 2), 3e38, dtype="float32")
    assert np.isfinite(small().predict(X)).all()


@pytest.mark.parametrize(
    ("X", "y", "error", "words"),
    [
        (np.zeros((0, 2)), np.zeros((0, 1)), DataError, "empty dataset"),
        (np.zeros((3, 2)), np.zeros((2, 1)), ShapeError, "as many targets as rows"),
        (np.zeros((3, 2)), np.zeros(3), ShapeError, r"\(3, 1\) and \(3,\).*target.reshape\(\(3, 1\)\)"),
        (
            np.zeros((3, 5)),
            np.zeros((3, 1)),
            ShapeError,
            r"0 = Linear\(2, 3\): expected input \(\.\.\., 2\), got \(3, 5\)",
        ),
        (np.zeros((3, 2)), ["a", "b", "c"], DTypeError, "LabelEncoder"),
    ],
)
def test_data_that_does_not_fit_is_refused(X, y, error, words):
    with pytest.raises(error, match=words):
        small().fit(X, y, verbose=False)


def test_labels_out_of_range_name_the_class_count():
    run = nb.Trainer(nn.MLP([2, 4, 3]), "cross_entropy", device="cpu")
    with pytest.raises(LabelError, match=r"3 classes, got 1 of 4 labels outside 0\.\.2 \(first: row 2 = 3\)"):
        run.fit(np.zeros((4, 2)), [0, 1, 3, 2], batch_size=None, shuffle=False, verbose=False, check=False)


def test_a_loss_that_explodes_is_named():
    X, y = rows()
    run = nb.Trainer(nn.Linear(2, 1), optimizer=optim.SGD(lr=1e6), device="cpu", seed=0)
    with (
        np.errstate(all="ignore"),
        pytest.raises(NonFiniteError, match=r"in epoch \d+ \(step \d+, lr 1e\+06\)") as error,
    ):
        run.fit(X, y, epochs=50, verbose=False, check=False)
    assert error.value.step > 0
    assert all(np.isfinite(run.history["loss"])) if len(run.history) else True


def test_settings_that_make_no_sense_are_refused():
    for kw in ({"epochs": -1}, {"batch_size": 0}, {"report_every": 0}):
        with pytest.raises(ValueError, match="expected"):
            small().fit(*rows(), verbose=False, **kw)
    for kw in ({"loss": "nonsense"}, {"optimizer": "nonsense"}, {"metrics": ["nonsense"]}, {"device": "gpu"}):
        with pytest.raises(ValueError, match="expected"):
            nb.Trainer(nn.Linear(2, 1), **{"device": "cpu", **kw})
    assert len(small().fit(*rows(), epochs=0, verbose=False)) == 0


# -- history --------------------------------------------------------------------------------------------------------


def test_history_is_a_table():
    history = History()
    history.append({"epoch": 1, "loss": 0.5})
    history.append({"epoch": 2, "loss": 0.25, "accuracy": 1.0})
    assert (len(history), history["loss"], history["accuracy"], history[-1]["epoch"]) == (2, [0.5, 0.25], [1.0], 2)
    assert [row["epoch"] for row in history] == [1, 2]
    assert repr(history).splitlines()[0].split() == ["epoch", "loss", "accuracy"]
    assert line(history[1]) == "epoch     2  loss 0.2500  accuracy 1.0000"
    with pytest.raises(KeyError, match="epoch, loss, accuracy"):
        history["nothing"]


# -- progress -------------------------------------------------------------------------------------------------------


def test_a_bar_appears_where_tqdm_is_installed_and_somebody_looks(monkeypatch, capsys):
    tqdm = pytest.importorskip("tqdm")
    made = []

    class Bar(tqdm.tqdm):
        def __init__(self, *args, **kw):
            made.append(self)
            super().__init__(*args, **kw)

    monkeypatch.setattr(tqdm, "tqdm", Bar)
    small().fit(*rows(), epochs=3)  # nobody looks: plain lines
    assert made == []
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    small().fit(*rows(), epochs=3)
    assert [bar.n for bar in made] == [3]
    assert capsys.readouterr().out.count("epoch") >= 6
    small().fit(*rows(), epochs=3, verbose=False)
    assert len(made) == 1


def test_without_tqdm_there_are_plain_lines(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    small().fit(*rows(), epochs=2)
    assert len(capsys.readouterr().out.splitlines()) == 3


# -- replays ----------------------------------------------------------------------------------------------------------


def test_training_evaluation_and_prediction_are_replayed():
    X, y = rows(20)
    run = small()
    run.fit(X, y, epochs=10, batch_size=8, verbose=False)  # two shapes of batches: 8, 8, 4
    assert run._step.why is None
    assert run._step.program is not None
    assert run._step.recordings <= 6
    for _ in range(4):
        outputs = run.predict(X)
    assert run._forward.program is not None
    np.testing.assert_allclose(outputs, run.net(nb.tensor(X, dtype="float32")).numpy(), rtol=1e-6)
    recorded = run._forward.recordings
    run.evaluate(X, y)
    assert run._forward.recordings == recorded
