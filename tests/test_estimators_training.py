"""Estimators at work: weights, scales, going on, stopping early, wrapping, copies, threads, interrupts."""

import copy
import os
import pickle
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from estimator_case import AMOUNTS, X, Y, classifier, net, regressor, rng

import nnbackend as nb
from nnbackend import nn
from nnbackend.errors import DataError, ShapeError
from nnbackend.estimators.scaling import Scaling

# -- weights ----------------------------------------------------------------------------------------------------------


def test_a_row_of_weight_2_counts_as_two_and_one_of_0_as_none():
    times = rng.integers(0, 3, 60)
    for model, y in ((classifier, Y), (regressor, AMOUNTS)):
        weighted = model().fit(X, y, sample_weight=times)
        repeated = model().fit(X.repeat(times, 0), y.repeat(times))
        np.testing.assert_allclose(weighted.predict(X), repeated.predict(X), rtol=1e-9)
        np.testing.assert_allclose(weighted.score(X, y, times), repeated.score(X.repeat(times, 0), y.repeat(times)))
        assert abs(weighted.loss_ - model().fit(X, y).loss_) > 1e-4


@pytest.mark.parametrize("y", [Y, np.array(["no", "yes"])[Y]])
def test_weights_of_classes_are_weights_of_their_rows(y):
    classes = np.unique(y).tolist()
    by_class = classifier(class_weight={classes[0]: 1.0, classes[1]: 3.0}).fit(X, y)
    by_row = classifier().fit(X, y, sample_weight=np.where(y == classes[1], 3.0, 1.0))
    assert np.array_equal(by_class.predict_proba(X), by_row.predict_proba(X))
    balanced = classifier(class_weight="balanced").fit(X, y)
    share = {name: 30 / (y == name).sum() for name in classes}
    by_hand = classifier(class_weight=share).fit(X, y)
    np.testing.assert_allclose(balanced.predict_proba(X), by_hand.predict_proba(X))


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.zeros(60), "at least one non-zero"),
        (np.where(np.arange(60) == 3, -1.0, 1.0), "got -1.0 in row 3"),  # fault 43
        (np.where(np.arange(60) == 3, np.nan, 1.0), "got nan in row 3"),
        (np.ones((60, 1)), "must be 1D"),
        (np.ones(59), r"sample_weight.shape == \(59,\)"),
    ],
)
def test_bad_weights(weight, message):
    with pytest.raises(ValueError, match=message):
        classifier().fit(X, Y, sample_weight=weight)


# -- scales -----------------------------------------------------------------------------------------------------------


def test_columns_of_one_unit_keep_their_relation_and_others_are_brought_near():
    x = rng.normal(size=(1000, 4)) * [1.0, 2.0, 100.0, 0.001] + [5.0, 0.0, 0.0, 7.0]
    scaling = Scaling(reach=3.0).learn(x)
    spread = x.std(axis=0)
    np.testing.assert_allclose(scaling.apply(x).mean(axis=0), 0, atol=1e-10)
    middle = np.median(spread)
    np.testing.assert_allclose(scaling.apply(x).std(axis=0), np.clip(spread / middle, 1 / 3, 3))
    np.testing.assert_allclose(scaling.undo(scaling.apply(x)), x)
    np.testing.assert_allclose(Scaling(reach=1.0).learn(x).apply(x).std(axis=0), 1)
    near = Scaling(reach=3.0, offset=6.0).learn(x)
    np.testing.assert_allclose(near.apply(x).mean(axis=0), [x[:, 0].mean() / near.scale[0, 0], 0, 0, 0], atol=0.2)
    assert near.shift[0].astype(bool).tolist() == [False, False, False, True]
    constant = Scaling().learn(np.full((9, 1), 0.1))
    assert np.array_equal(constant.apply(np.full((1, 1), 1.1)), [[1.0]])


def test_scales_learnt_from_parts_are_those_of_the_whole():
    weight = rng.random(60)
    whole, parts = Scaling().learn(X, weight), Scaling()
    for part in (slice(0, 7), slice(7, 8), slice(8, 60)):
        parts.learn(X[part], weight[part])
    np.testing.assert_allclose(parts.mean, whole.mean)
    np.testing.assert_allclose(parts.scale, whole.scale)
    images = rng.normal(size=(5, 2, 3, 3))
    assert Scaling().learn(images).mean.shape == (1, 2, 1, 1)


def test_standard_scales():
    x = X * [1.0, 2.0, 0.5] + [1.0, 0.0, 0.0]
    model = classifier(scale="standard").fit(x, Y)
    np.testing.assert_allclose(model.scaling_.apply(x).mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(model.scaling_.apply(x).std(axis=0), 1)
    assert np.array_equal(classifier().fit(x, Y).scaling_.shift[0, :1], [0.0])
    with pytest.raises(ValueError, match='scale: expected True, False or "standard"'):
        classifier(scale="std").fit(x, Y)


def test_far_away_columns_lose_nothing_in_float32():
    x = (1e6 + X).astype(np.float32)
    assert classifier(epochs=40).fit(x, Y).score(x, Y) > 0.9


# -- going on ---------------------------------------------------------------------------------------------------------


def test_a_warm_start_goes_on_with_the_optimizer():
    once = classifier(epochs=6, batch_size=60).fit(X, Y)
    twice = classifier(epochs=3, batch_size=60, warm_start=True)
    twice.fit(X, Y).fit(X, Y)
    assert twice.n_iter_ == 6
    assert np.array_equal(once.predict_proba(X), twice.predict_proba(X))
    assert once.loss_curve_ == twice.loss_curve_
    again = pickle.loads(pickle.dumps(classifier(epochs=3, batch_size=60, warm_start=True).fit(X, Y)))
    assert np.array_equal(again.fit(X, Y).predict_proba(X), once.predict_proba(X))
    with pytest.raises(ValueError, match="classes not in `classes`"):
        again.fit(X, Y + 1)
    with pytest.raises(ValueError, match=r"lr: expected 0\.05 as in the fit that this one goes on from, got 0\.5"):
        again.set_params(lr=0.5).fit(X, Y)
    assert classifier(epochs=3).fit(X, Y).fit(X, Y).n_iter_ == 3


def test_partial_fits_learn():
    model, amounts = classifier(), regressor()
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        model.partial_fit(X, Y)
    for _ in range(30):
        for part in (slice(0, 20), slice(20, 60)):
            model.partial_fit(X[part], Y[part], classes=[0, 1, 2], sample_weight=np.ones(60)[part])
            amounts.partial_fit(X[part], AMOUNTS[part])
    assert model.classes_.tolist() == [0, 1, 2]
    assert model.n_iter_ == 60
    assert model.score(X, Y) > 0.9
    assert amounts.score(X, AMOUNTS) > 0.9
    np.testing.assert_allclose(amounts.scaling_.mean[0], X.mean(axis=0))
    with pytest.raises(ValueError, match="not the same as on last call"):
        model.partial_fit(X, Y, classes=[0, 1])
    with pytest.raises(ValueError, match="X has 2 features"):
        model.partial_fit(X[:, :2], Y)
    with pytest.raises(ValueError, match="'balanced' is not supported"):
        classifier(class_weight="balanced").partial_fit(X, Y, classes=[0, 1])
    with pytest.raises(ValueError, match="does not support early_stopping"):
        classifier(early_stopping=True).partial_fit(X, Y, classes=[0, 1])


def test_early_stopping_takes_the_best_epoch():
    noise = rng.integers(0, 2, 60)
    model = classifier(epochs=200, early_stopping=True, patience=3, validation_fraction=0.3).fit(X, noise)
    losses = model.history_["val_loss"]
    assert model.n_iter_ == len(losses) == losses.index(min(losses)) + 4 < 200
    own = classifier(epochs=200, early_stopping=True, patience=3).fit(
        X[:40], noise[:40], validation_data=(X[40:], noise[40:])
    )
    assert own.n_iter_ < 200
    best = own.trainer_.evaluate(own.scaling_.apply(X[40:]), noise[40:])["loss"]
    assert best == pytest.approx(min(own.history_["val_loss"]))
    seen = regressor(metrics=["mae"]).fit(X, AMOUNTS, validation_data=(X, AMOUNTS, Y))
    assert {"mae", "val_loss", "val_mae"} <= set(seen.history_.columns)


def test_bad_validation_data():
    with pytest.raises(ValueError, match=r"validation_data: expected \(X, y\) or \(X, y, weights\)"):
        classifier().fit(X, Y, validation_data=X)
    with pytest.raises(ValueError, match="classes not in `classes`"):
        classifier().fit(X, Y, validation_data=(X, Y + 1))
    with pytest.raises(ValueError, match="X has 2 features, but MLPClassifier is expecting 3"):
        classifier().fit(X, Y, validation_data=(X[:, :2], Y))


def test_a_row_alone_joins_a_step():
    model = classifier(batch_norm=True, batch_size=20, epochs=1)
    for rows in (41, 21, 3):
        assert np.isfinite(model.fit(X[:rows], Y[:rows]).loss_)


def test_callbacks_are_called():
    rows = []
    classifier(callbacks=[lambda trainer, row: rows.append(row["epoch"])]).fit(X, Y)
    assert rows == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("state", [7, np.random.RandomState, np.random.default_rng])
def test_one_seed_is_one_result(state):
    def fresh():
        return state if isinstance(state, int) else state(3)

    a, b = (classifier(random_state=fresh(), batch_size=16).fit(X, Y) for _ in range(2))
    assert np.array_equal(a.predict_proba(X), b.predict_proba(X))
    other = classifier(random_state=None).fit(X, Y)
    assert not np.array_equal(other.predict_proba(X), classifier(random_state=None).fit(X, Y).predict_proba(X))


def test_global_random_numbers_are_left_alone():
    before = np.random.get_state()[1].copy()
    classifier(random_state=None, early_stopping=True).fit(X, Y)
    assert np.array_equal(np.random.get_state()[1], before)


# -- networks of ones own ---------------------------------------------------------------------------------------------


def test_a_network_is_copied_and_one_is_made():
    mine = nn.MLP([3, 8, 2], "tanh")
    before = copy.deepcopy(mine.state_dict())
    model = nb.NeuralNetClassifier(mine, epochs=40, lr=0.05, random_state=0).fit(X, Y)
    assert model.score(X, Y) > 0.9
    assert all(np.array_equal(before[name].numpy(), value.numpy()) for name, value in mine.state_dict().items())
    made = nb.NeuralNetClassifier(net, epochs=40, lr=0.05, random_state=0).fit(X, Y)
    assert np.array_equal(made.predict(X), model.predict(X))
    one = nb.NeuralNetClassifier(nn.MLP([3, 8, 1], "tanh"), epochs=40, lr=0.05, random_state=0).fit(X, Y)
    assert one.predict_proba(X).shape == (60, 2)
    assert one.score(X, Y) > 0.9
    assert nb.NeuralNetRegressor(net, epochs=40, lr=0.05, random_state=0).fit(X, AMOUNTS).score(X, AMOUNTS) > 0.9


def test_trained_weights_are_where_training_starts():
    trained = nb.NeuralNetClassifier(net, epochs=40, lr=0.05, random_state=0).fit(X, Y)
    on = nb.NeuralNetClassifier(trained.net_, epochs=1, lr=1e-6, random_state=1).fit(X, Y)
    assert on.loss_ == pytest.approx(trained.trainer_.evaluate(trained.scaling_.apply(X), Y)["loss"])


class Flat(nn.Module):
    def __init__(self):
        self.fc = nn.Linear(3, 1)

    def forward(self, x):
        return self.fc(x).reshape((x.shape[0],))


def test_images_and_flat_outputs():
    images = rng.normal(size=(20, 2, 6, 6))
    conv = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(48, 2))
    model = nb.NeuralNetClassifier(conv, epochs=2, random_state=0).fit(images, np.arange(20) % 2)
    assert model.predict(images).shape == (20,)
    flat = nb.NeuralNetRegressor(Flat(), epochs=100, lr=0.05, random_state=0).fit(X, AMOUNTS)
    assert flat.score(X, AMOUNTS) > 0.99


class Lookup(nn.Module):
    def __init__(self):
        self.table, self.out = nn.Embedding(5, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.out(self.table(x.astype("int64")).mean(axis=1))


def test_a_network_of_whole_numbers():
    words = rng.integers(0, 5, (60, 3))
    model = nb.NeuralNetClassifier(Lookup(), scale=False, epochs=60, lr=0.05, random_state=0)
    assert model.fit(words, words.sum(axis=1) > 6).score(words, words.sum(axis=1) > 6) > 0.9


def test_networks_that_do_not_fit():
    with pytest.raises(ValueError, match="module: expected a network with parameters"):
        nb.NeuralNetRegressor(nn.Identity()).fit(X, X)
    with pytest.raises(ShapeError, match=r"expected a network with 3 outputs, one for each class, got \(2,\) a row"):
        nb.NeuralNetClassifier(nn.Linear(3, 2)).fit(X, np.arange(60) % 3)
    with pytest.raises(ShapeError, match="expected a network with 1 outputs"):
        nb.NeuralNetRegressor(nn.Linear(3, 2)).fit(X, AMOUNTS)
    with pytest.raises(TypeError, match="module: expected a network or what makes one, got 3"):
        nb.NeuralNetRegressor(3).fit(X, AMOUNTS)
    with pytest.raises(TypeError, match="one that makes a int"):
        nb.NeuralNetRegressor(lambda: 3).fit(X, AMOUNTS)
    with pytest.raises(DataError, match="Input X contains NaN"):
        nb.NeuralNetRegressor(net).fit(np.where(X > 2, np.nan, X), AMOUNTS)


# -- copies, threads, interrupts --------------------------------------------------------------------------------------


def test_a_copy_predicts_the_same_to_the_bit():
    for model, y in ((classifier(), Y), (regressor(), AMOUNTS), (nb.NeuralNetClassifier(net, epochs=2), Y)):
        model.fit(X, y)
        for twin in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
            assert np.array_equal(twin.predict(X), model.predict(X))


def test_threads_predict_while_another_trains():
    alone = classifier(epochs=20, batch_size=16).fit(X, Y).predict_proba(X)
    model = classifier(epochs=20, batch_size=16).fit(X, Y)
    found, trained, errors = [], [], []

    def guarded(work):
        try:
            work()
        except BaseException as error:
            errors.append(error)

    def predict():
        found.extend(model.predict_proba(X) for _ in range(20))

    def train():
        trained.append(classifier(epochs=20, batch_size=16).fit(X, Y).predict_proba(X))

    threads = [threading.Thread(target=guarded, args=(work,)) for work in [predict] * 8 + [train] * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(found) == 160
    assert all(np.array_equal(p, alone) for p in found + trained)
    assert len(trained) == 2


def test_ctrl_c_ends_a_fit_and_leaves_no_half_of_it(capsys):
    def interrupt(trainer, row):
        os.kill(os.getpid(), signal.SIGINT)

    model = classifier(callbacks=[interrupt])
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, Y)
    capsys.readouterr()
    assert not hasattr(model, "net_")


def test_all_works_without_scikit_learn():
    code = """
import sys
sys.modules["sklearn"] = None
import numpy as np, nnbackend as nb, copy
X = np.random.default_rng(0).normal(size=(60, 3)); y = np.where(X[:, 0] > 0, "yes", "no")
model = nb.MLPClassifier(hidden=(8,), epochs=40, lr=0.05, random_state=0)
try:
    model.predict(X)
except nb.errors.NotFittedError:
    pass
assert repr(model) == "MLPClassifier(epochs=40, hidden=(8,), lr=0.05, random_state=0)", repr(model)
assert model.set_params(epochs=50).get_params()["epochs"] == 50
try:
    model.set_params(epoch=1)
except ValueError as error:
    assert "Invalid parameter 'epoch'" in str(error)
assert model.fit(X, y, sample_weight=np.ones(60)).score(X, y) > 0.9
assert nb.MLPRegressor(random_state=0).fit(X, X[:, 0]).score(X, X[:, 0]) > 0.9
net = nb.nn.Linear(3, 2)
assert nb.NeuralNetClassifier(net, lr=0.1).fit(X, y).score(X, y) > 0.9
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=50)
