"""Estimators without scikit-learn's help: parameters, data, labels, weights, scales, going on, threads, faults."""

import warnings

import array_api_strict as strict
import numpy as np
import pytest
from estimator_case import AMOUNTS, X, Y, classifier, regressor

import nnbackend as nb
from nnbackend import nn, optim
from nnbackend.errors import DataError, DTypeError, NotFittedError

# -- parameters -------------------------------------------------------------------------------------------------------


def test_parameters_are_read_and_set_by_name():
    model = nb.MLPClassifier(hidden=(5,), lr=0.1)
    assert model.get_params()["hidden"] == (5,)
    assert model.set_params(epochs=3).epochs == 3
    assert repr(model) == "MLPClassifier(epochs=3, hidden=(5,), lr=0.1)"
    with pytest.raises(ValueError, match="Invalid parameter 'hiden'"):
        model.set_params(hiden=(5,))
    with pytest.raises(TypeError, match="positional"):
        nb.MLPClassifier((5,))


@pytest.mark.parametrize(
    ("given", "layers"),
    [
        ({"hidden": (4, 2)}, ["Linear", "ReLU", "Linear", "ReLU", "Linear"]),
        ({"hidden": 4}, ["Linear", "ReLU", "Linear"]),
        ({"hidden": ()}, ["Linear"]),
        ({"hidden_layer_sizes": [4], "activation": "logistic"}, ["Linear", "Sigmoid", "Linear"]),
        ({"hidden": (4, 2), "activation": ["tanh", nn.GELU]}, ["Linear", "Tanh", "Linear", "GELU", "Linear"]),
        ({"hidden": 4, "activation": nn.LeakyReLU(0.2)}, ["Linear", "LeakyReLU", "Linear"]),
        ({"hidden": 4, "activation": lambda x: x * x}, ["Linear", "Apply", "Linear"]),
        ({"hidden": 4, "batch_norm": True, "dropout": 0.1}, ["Linear", "BatchNorm1d", "ReLU", "Dropout", "Linear"]),
    ],
)
def test_layers(given, layers):
    model = nb.MLPClassifier(epochs=1, random_state=0, **given).fit(X, Y)
    assert [type(layer).__name__ for layer in model.net_] == layers
    assert model.predict(X).shape == (60,)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"hidden": (0,)}, "hidden: expected a whole number >= 1, got 0"),
        ({"hidden": (4, 2), "activation": ["relu"]}, "one for each of 2 layers, got 1"),
        ({"activation": "rleu"}, "activation: expected one of"),
        ({"optimizer": "adma"}, "optimizer: expected one of"),
        ({"optimizer": optim.SGD(lr=0.1)}, "lr: expected None with an optimizer that has its own"),
        ({"loss": "cross_entrpy"}, "loss: expected one of"),
        ({"hidden": 2.5}, "hidden: expected a whole number >= 1, got 2.5"),
        ({"epochs": 0}, "epochs: expected a whole number >= 1"),
        ({"epochs": 2.5}, "epochs: expected a whole number >= 1, got 2.5"),
        ({"batch_size": 2.5}, "batch_size: expected a whole number >= 1, None"),
        ({"random_state": "a"}, "random_state: expected a whole number >= 0"),
        ({"random_state": -1}, "random_state: expected a whole number >= 0"),
        ({"optimizer": optim.SGD(nn.Linear(3, 2).parameters(), 0.1), "lr": None}, "optimizer: expected a template"),
        ({"batch_size": 0}, "batch_size: expected"),
        ({"batch_size": "all"}, "batch_size: expected"),
        ({"early_stopping": True, "validation_fraction": 1.0}, "validation_fraction: expected"),
        ({"alpha": 0.1, "weight_decay": 0.1}, "alpha: expected None"),
        ({"class_weight": "balance"}, 'class_weight: expected "balanced"'),
        ({"class_weight": {0: 1.0}}, r"none for \[1\]"),  # fault 43
        ({"class_weight": {0: -1.0, 1: 1.0}}, "class_weight: expected finite weights >= 0"),
    ],
)
def test_bad_settings_raise_in_fit_and_leave_no_trace(given, message):
    model = classifier(**given)
    before = dict(vars(model))
    with pytest.raises(ValueError, match=message):
        model.fit(X, Y)
    assert vars(model) == before


def test_an_optimizer_of_ones_own_and_a_schedule():
    template = optim.SGD(lr=0.5, momentum=0.9)
    model = nb.MLPClassifier(
        optimizer=template, epochs=4, schedule=lambda opt: optim.StepLR(opt, 1, gamma=0.5), random_state=0
    ).fit(X, Y)
    assert model.trainer_.optimizer.param_groups[0]["lr"] == 0.5 / 16
    assert template.param_groups == []
    assert classifier(optimizer="sgd", lr=0.25, alpha=0.01).fit(X, Y).trainer_.optimizer.param_groups[0]["lr"] == 0.25


# -- data -------------------------------------------------------------------------------------------------------------


class Frame:
    """As much of a data frame as is looked at."""

    def __init__(self, values, columns):
        self.values, self.columns = values, columns

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.values, dtype)


BAD_X = [
    (np.ones(60), ValueError, "Reshape your data"),  # fault 10
    (np.ones((60, 3, 1)), ValueError, "dim <= 2 is required by MLPClassifier"),
    (np.ones((0, 3)), ValueError, r"0 sample\(s\)"),
    (np.ones((60, 0)), ValueError, r"0 feature\(s\)"),
    (np.full((60, 3), "1"), DTypeError, "expected numbers, got dtype <U1"),  # fault 16
    (np.zeros((60, 3), "M8[s]"), DTypeError, "datetime64"),
    (np.where(np.arange(180).reshape(60, 3) == 7, "b", X.astype(object)), DTypeError, "'b' in row 2, column 1"),
    (X + 1j, ValueError, "Complex data not supported"),
    ([[1.0, 2.0], [3.0]], DataError, "ragged"),  # fault 22
    (np.where(np.arange(180).reshape(60, 3) == 7, np.nan, X), DataError, "Input X contains NaN.*row 2, column 1"),
    ([[1.0, 2.0], [3.0, None]], DataError, "Input X contains NaN.*row 1, column 1"),
    (np.where(np.arange(180).reshape(60, 3) == 7, np.inf, X), DataError, "Input X contains infinity"),  # fault 31
    (np.ma.masked_greater(X, 2), DTypeError, "no masked values"),  # fault 27
    (Frame(X, ["a", "b", 3]), TypeError, "only supported if all input features have string names"),
]


@pytest.mark.parametrize(("bad", "kind", "message"), BAD_X, ids=[m[:20] for _, _, m in BAD_X])
def test_bad_features(bad, kind, message):
    for call in (lambda: classifier().fit(bad, Y), lambda: FITTED.predict(bad)):
        with pytest.raises(kind, match=f"(?s){message}"):
            call()


def test_a_matrix_is_refused():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        matrix = np.matrix(X)
    with pytest.raises(DTypeError, match=r"np\.matrix is not supported"):
        classifier().fit(matrix, Y)


def test_layouts_and_kinds_that_mean_the_same_give_the_same():  # faults 25 and 26
    wanted = classifier().fit(X, Y).predict_proba(X)
    readonly = X.copy()
    readonly.flags.writeable = False
    for same in (
        X.tolist(),
        readonly,
        X.astype(">f8"),
        np.asfortranarray(X),
        X.astype(object),
        np.ma.array(X),
        nb.tensor(X),
    ):
        found = classifier().fit(same, Y).predict_proba(same)
        assert np.array_equal(np.asarray(found), wanted)


def test_whole_numbers_and_bools_are_numbers():
    whole = np.arange(180).reshape(60, 3)
    assert classifier().fit(whole, Y).predict_proba(whole).dtype == np.float64
    assert classifier().fit(whole > 90, Y).predict(whole > 90).shape == (60,)


def test_results_follow_float32():
    x = X.astype(np.float32)
    model = classifier().fit(x, Y)
    assert next(model.net_.parameters()).dtype == np.float32
    assert model.predict_proba(x).dtype == np.float32
    assert model.predict_proba(X).dtype == np.float64
    assert regressor().fit(x, AMOUNTS).predict(x).dtype == np.float32


def test_results_follow_the_library_and_device_of_X():
    device = strict.Device("device1")
    x = strict.asarray(X, device=device)
    model = classifier().fit(x, strict.asarray(Y, device=device))
    plain = classifier().fit(X, Y)
    for method in ("predict", "predict_proba", "predict_log_proba", "decision_function"):
        found = getattr(model, method)(x)
        assert found.device == device
        np.testing.assert_allclose(
            np.asarray(strict.asarray(found, device=strict.Device("CPU_DEVICE"))), getattr(plain, method)(X)
        )
    there = classifier(device=device).fit(X, Y)
    assert str(there.trainer_.device) != "cpu"
    assert np.array_equal(there.predict(X), plain.predict(X))
    assert isinstance(plain.predict(nb.tensor(X)), nb.Tensor)
    assert np.array_equal(classifier().fit(x, Y.astype(str)).predict(x), plain.predict(X).astype(str))
    assert regressor().fit(x, AMOUNTS, sample_weight=Y).predict(x).device == device


def test_columns_are_checked_by_number_and_by_name():  # fault 53
    model = classifier().fit(Frame(X, ["a", "b", "c"]), Y)
    assert model.feature_names_in_.tolist() == ["a", "b", "c"]
    with pytest.raises(ValueError, match="must be in the same order"):
        model.predict(Frame(X, ["b", "a", "c"]))
    with pytest.raises(
        ValueError, match="unseen at fit time:\n- d\nFeature names seen at fit time, yet now missing:\n- c"
    ):
        model.predict(Frame(X, ["a", "b", "d"]))
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        model.predict(X)
    with pytest.warns(UserWarning, match="was fitted without feature names"):
        FITTED.predict(Frame(X, ["a", "b", "c"]))
    with pytest.raises(ValueError, match="X has 2 features, but MLPClassifier is expecting 3 features as input"):
        FITTED.predict(X[:, :2])


@pytest.mark.parametrize("method", ["predict", "predict_proba", "predict_log_proba", "decision_function"])
def test_nothing_is_known_before_fit(method):  # fault 52
    with pytest.raises(NotFittedError, match="not fitted yet"):
        getattr(nb.MLPClassifier(), method)(X)


FITTED = classifier().fit(X, Y)


# -- targets ----------------------------------------------------------------------------------------------------------

BAD_Y = [
    (None, "requires y to be passed, but the target y is None"),
    (AMOUNTS, "Unknown label type: continuous"),  # fault 46
    (np.where(np.arange(60) == 5, np.nan, Y), "Input y contains NaN.*row 5"),  # fault 32
    (np.where(np.arange(60) == 5, None, Y.astype(object)), "Input y contains NaN.*row 5"),
    (np.where(np.arange(60) == 5, "a", Y.astype(object)), "Unknown label type: unknown"),
    (np.stack([Y, Y + 1], 1), "Unknown label type: multiclass-multioutput"),
    (Y[:50], "inconsistent numbers of samples"),
    (Y.reshape(3, 4, 5), "y should be a 1d or 2d array"),
]


@pytest.mark.parametrize(("bad", "message"), BAD_Y, ids=[m[:20] for _, m in BAD_Y])
def test_bad_labels(bad, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        classifier().fit(X, bad)


def test_text_is_given_back():  # fault 45
    names = np.array(["no", "yes"])[Y]
    model = classifier(epochs=40).fit(X, names)
    assert model.classes_.tolist() == ["no", "yes"]
    assert model.score(X, names) > 0.9
    assert np.array_equal(classifier(epochs=40).fit(X, names.astype(object)).predict(X), model.predict(X))


def test_one_class_is_learnt():  # fault 44
    model = classifier().fit(X, np.full(60, "a"))
    assert set(model.predict(X)) == {"a"}
    assert np.array_equal(model.predict_proba(X), np.ones((60, 1)))


def test_several_labels_a_row():
    labels = np.stack([Y, X[:, 0] > 0, X[:, 1] > 0], 1).astype(int)
    model = classifier(epochs=60).fit(X, labels)
    assert model.predict(X).shape == labels.shape
    assert model.score(X, labels) > 0.8
    assert np.array_equal(model.predict(X), (model.decision_function(X) > 0).astype(int))
    with pytest.raises(ValueError, match="class_weight: expected None for several labels"):
        classifier(class_weight="balanced").fit(X, labels)


@pytest.mark.parametrize(
    "loss",
    ["auto", "cross_entropy", "bce_with_logits", "mse", "focal", nn.CrossEntropyLoss(), nb.functional.huber_loss],
)
def test_losses(loss):
    labels = np.digitize(X[:, 0], [-0.5, 0.5])
    for y in (Y, labels):
        model = classifier(loss=loss, epochs=40).fit(X, y)
        p = model.predict_proba(X)
        np.testing.assert_allclose(p.sum(axis=1), 1)
        np.testing.assert_allclose(np.exp(model.predict_log_proba(X)), p)
        assert model.score(X, y) > 0.85


def test_a_loss_of_ones_own():
    def loss(output, target, sample_weight=None):
        return nb.functional.cross_entropy(output, target, label_smoothing=0.1, sample_weight=sample_weight)

    assert classifier(loss=loss, epochs=40, class_weight="balanced").fit(X, Y).score(X, Y) > 0.9


def test_amounts_keep_their_shape_and_scale():
    model = regressor(epochs=60).fit(X, 1e6 + 1e3 * AMOUNTS)
    assert model.score(X, 1e6 + 1e3 * AMOUNTS) > 0.9
    two = np.stack([AMOUNTS, 1e4 * AMOUNTS], 1)
    assert regressor(epochs=60).fit(X, two).score(X, two) > 0.9
    assert regressor().fit(X, two[:, :1]).predict(X).shape == (60, 1)
    assert regressor(epochs=60, loss="quantile").fit(X, 1e6 + 1e3 * AMOUNTS).score(X, 1e6 + 1e3 * AMOUNTS) > 0.9
    plain = regressor(scale=False, epochs=60, loss="huber").fit(X, AMOUNTS)
    assert plain.scaling_ is None
    assert plain.score(X, AMOUNTS) > 0.9


def test_R2_of_a_constant_is_0_or_1():
    model = regressor().fit(X, np.full(60, 2.0))
    assert model.score(X, model.predict(X)) == 1
    assert regressor().fit(X, AMOUNTS).score(X, np.full(60, 2.0)) == 0
