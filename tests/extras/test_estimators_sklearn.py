"""Estimators by scikit-learn's rules: all its checks, and its tools around them."""

import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn")
pd = pytest.importorskip("pandas")

import joblib  # noqa: E402
from sklearn.base import clone, is_classifier, is_regressor  # noqa: E402
from sklearn.calibration import CalibratedClassifierCV  # noqa: E402
from sklearn.datasets import load_diabetes, load_iris  # noqa: E402
from sklearn.ensemble import VotingClassifier  # noqa: E402
from sklearn.exceptions import DataConversionWarning  # noqa: E402
from sklearn.exceptions import NotFittedError as TheirNotFittedError  # noqa: E402
from sklearn.metrics import accuracy_score, r2_score  # noqa: E402
from sklearn.model_selection import GridSearchCV, cross_val_score  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from sklearn.utils.estimator_checks import check_dataframe_column_names_consistency, check_estimator  # noqa: E402

import nnbackend as nb  # noqa: E402
from nnbackend import nn  # noqa: E402

X, Y = load_iris(return_X_y=True)


def net(n_features, n_outputs):
    return nn.MLP([n_features, 30, n_outputs], "tanh")


ESTIMATORS = [
    nb.MLPClassifier(),
    nb.MLPRegressor(),
    nb.NeuralNetClassifier(net, epochs=60, lr=0.01),
    nb.NeuralNetRegressor(net, epochs=60, lr=0.01),
]
QUICK = nb.MLPClassifier(hidden=(10,), epochs=30, lr=0.03, random_state=0)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)
def test_all_checks_of_scikit_learn(estimator, monkeypatch):
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")  # else a check is skipped
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the checks provoke some
        results = check_estimator(estimator, on_fail=None)
    found = [(r["check_name"], r["status"], r["exception"]) for r in results if r["status"] != "passed"]
    assert found == []
    assert len(results) >= (67 if is_classifier(estimator) else 60)
    assert is_classifier(estimator) != is_regressor(estimator)


def test_names_of_columns_as_scikit_learn_checks_them():
    for estimator in ESTIMATORS[:2]:
        check_dataframe_column_names_consistency(type(estimator).__name__, estimator.set_params(epochs=5))
        estimator.set_params(epochs=type(estimator)().epochs)


def test_validation_data_has_the_columns_of_the_fit():
    frame = pd.DataFrame(X, columns=list("abcd"))
    with pytest.raises(ValueError, match="same order as they were in fit"):
        clone(QUICK).fit(frame, Y, validation_data=(frame[list("bacd")], Y))


def test_a_grid_search_in_a_pipeline_in_two_processes():
    grid = {"mlpclassifier__hidden": [(4,), (10,)], "mlpclassifier__alpha": [0.0, 0.01]}
    search = GridSearchCV(make_pipeline(StandardScaler(), QUICK), grid, cv=2, n_jobs=2)
    search.fit(X, np.array(["a", "b", "c"])[Y])
    assert search.best_score_ > 0.85
    assert set(search.predict(X)) == {"a", "b", "c"}


def test_tools_around_estimators():
    assert cross_val_score(QUICK, X, Y, cv=3).mean() > 0.9
    assert CalibratedClassifierCV(QUICK, cv=2).fit(X, Y).score(X, Y) > 0.9
    two = VotingClassifier([("a", QUICK), ("b", clone(QUICK).set_params(hidden=(5,)))], voting="soft")
    assert two.fit(X, Y).score(X, Y) > 0.9
    frames = make_pipeline(StandardScaler(), QUICK).set_output(transform="pandas")
    frames.fit(pd.DataFrame(X, columns=list("abcd")), Y)
    assert frames[-1].feature_names_in_.tolist() == list("abcd")


def test_clones_are_unfitted_and_leave_a_network_alone():
    wrapped = nb.NeuralNetClassifier(net(4, 3), epochs=2, random_state=0).fit(X, Y)
    twin = clone(wrapped)
    assert twin.module is not wrapped.module
    with pytest.raises(TheirNotFittedError, match="not fitted yet"):
        twin.predict(X)
    with pytest.raises(nb.errors.NotFittedError):
        twin.predict(X)
    assert np.array_equal(twin.fit(X, Y).predict_proba(X), wrapped.predict_proba(X))


def test_joblib_keeps_all_bits(tmp_path):
    for model in (clone(QUICK), nb.NeuralNetClassifier(net, epochs=2)):
        model.fit(X, Y)
        joblib.dump(model, tmp_path / "model.joblib")
        assert np.array_equal(joblib.load(tmp_path / "model.joblib").predict_proba(X), model.predict_proba(X))


def test_scores_are_those_of_scikit_learn():
    weight = np.random.default_rng(0).random(len(Y))
    model = clone(QUICK).fit(X, Y)
    assert model.score(X, Y, weight) == pytest.approx(accuracy_score(Y, model.predict(X), sample_weight=weight))
    x, y = load_diabetes(return_X_y=True)
    y = np.stack([y, y**2], 1)
    weight = np.random.default_rng(0).random(len(y))
    model = nb.MLPRegressor(epochs=10, random_state=0).fit(x, y)
    assert model.score(x, y, weight) == pytest.approx(r2_score(y, model.predict(x), sample_weight=weight))


def test_a_column_of_labels_is_taken_with_their_warning():
    with pytest.warns(DataConversionWarning, match="column-vector y"):
        model = clone(QUICK).fit(X, Y[:, None])
    assert model.predict(X).shape == (150,)


def test_frames_with_missing_numbers_and_categories_are_refused():
    frame = pd.DataFrame({"a": pd.array([1, None] * 5, dtype="Int64"), "b": 1.0})
    with pytest.raises(nb.errors.DataError, match=r"X contains NaN.\n.*got 5 that are not .first: row 1, column 0"):
        QUICK.fit(frame, [0, 1] * 5)
    with pytest.raises(nb.errors.DataError, match=r"y contains NaN: 5 missing values \(first: row 1"):
        QUICK.fit(np.ones((10, 1)), pd.Series(["a", None] * 5, dtype="string"))
    with pytest.raises(nb.errors.DTypeError, match="'x' in row 0, column 0"):
        QUICK.fit(pd.DataFrame({"a": ["x"] * 10}, dtype=object), [0, 1] * 5)
    with pytest.raises(nb.errors.DTypeError, match="Sparse data was passed"):
        QUICK.fit(pytest.importorskip("scipy.sparse").csr_array(X), Y)
