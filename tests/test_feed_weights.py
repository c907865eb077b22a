"""Rows and classes of different weight."""

import array_api_strict
import numpy as np
import pytest
from feed_case import WEIGHT, X, Y, fitted, plain, trainer

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import nn
from nnbackend.errors import DataError, LabelError, ShapeError


def test_a_weight_of_2_counts_a_row_twice():
    weighted = fitted(plain(), X, Y, epochs=20, batch_size=None, sample_weight=WEIGHT)
    repeated = fitted(plain(), X.repeat(WEIGHT, 0), Y.repeat(WEIGHT), epochs=20, batch_size=None)
    np.testing.assert_allclose(weighted.predict(X), repeated.predict(X), rtol=1e-10)
    assert weighted.history["loss"] == pytest.approx(repeated.history["loss"], rel=1e-12)


def test_weights_in_batches_add_up_to_those_of_the_whole():
    whole = fitted(plain(), X, Y, epochs=2, batch_size=None, sample_weight=WEIGHT, shuffle=False)
    parts = fitted(plain(), X, Y, epochs=2, batch_size=30, accumulate=3, sample_weight=WEIGHT, shuffle=False)
    np.testing.assert_allclose(parts.predict(X), whole.predict(X), rtol=1e-10)
    assert parts.history["loss"] == pytest.approx(whole.history["loss"], rel=1e-12)


@pytest.mark.parametrize(
    ("dtype", "factor"), [("float64", 1000.0), ("float32", 1e39), ("float16", 1e6), ("float16", 1e-9)]
)
def test_only_the_ratio_of_weights_matters(dtype, factor):
    a = fitted(plain(dtype), X, Y, sample_weight=WEIGHT)
    b = fitted(plain(dtype), X, Y, sample_weight=WEIGHT * factor)
    np.testing.assert_allclose(a.predict(X), b.predict(X), rtol=1e-9)


def test_weights_of_classes():
    counts = np.bincount(Y)
    balanced = fitted(plain(), X, Y, class_weight="balanced")
    given = fitted(plain(), X, Y, class_weight={0: 45 / counts[0], 1: 45 / counts[1]})
    rows = fitted(plain(), X, Y, sample_weight=(45 / counts)[Y])
    one_hot = fitted(plain(), X, nb.data.one_hot(Y, 2), class_weight="balanced")
    for other in (given, rows, one_hot):
        np.testing.assert_allclose(balanced.predict(X), other.predict(X), rtol=1e-9)
    both = fitted(plain(), X, Y, class_weight="balanced", sample_weight=WEIGHT)
    rows = fitted(plain(), X, Y, sample_weight=(45 / counts)[Y] * WEIGHT)
    np.testing.assert_allclose(both.predict(X), rows.predict(X), rtol=1e-9)


def test_weights_and_splits_on_a_device():
    device = array_api_strict.Device("device1")
    x, y, weight = (array_api_strict.asarray(a, device=device) for a in (X, Y, WEIGHT))
    settings = {"class_weight": "balanced", "validation_split": 0.3, "check": False}
    there = nb.Trainer(nn.Linear(4, 2), "cross_entropy", device=device, seed=1)
    here = nb.Trainer(nn.Linear(4, 2), "cross_entropy", device="cpu", seed=1)
    fitted(there, x, y, sample_weight=weight, **settings)
    fitted(here, X, Y, sample_weight=WEIGHT, **settings)
    assert there.history["val_loss"] == pytest.approx(here.history["val_loss"], rel=1e-6)


def test_validation_and_evaluation_with_weights():
    run = fitted(plain(), X, Y, validation_data=(X, Y, WEIGHT))
    repeated = run.evaluate(X.repeat(WEIGHT, 0), Y.repeat(WEIGHT))
    assert run.evaluate(X, Y, sample_weight=WEIGHT) == pytest.approx(repeated, rel=1e-10)
    assert run.history[-1]["val_loss"] == pytest.approx(repeated["loss"], rel=1e-10)


def test_metrics_are_weighted_too():
    run = fitted(trainer(), X, Y)
    repeated = run.evaluate(X.repeat(WEIGHT, 0), Y.repeat(WEIGHT))
    assert run.evaluate(X, Y, sample_weight=WEIGHT)["accuracy"] == pytest.approx(repeated["accuracy"], rel=1e-6)


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        ({"sample_weight": -WEIGHT}, ValueError, "weights >= 0, and not all 0, got -3"),
        ({"sample_weight": WEIGHT * 0}, ValueError, "not all 0"),
        ({"sample_weight": WEIGHT[:50]}, ShapeError, r"shape \(90,\), got \(50,\)"),
        ({"sample_weight": WEIGHT[:, None]}, ShapeError, r"one weight a row"),
        ({"sample_weight": WEIGHT * np.nan}, DataError, "sample_weight contains NaN"),
        ({"sample_weight": WEIGHT[:50], "class_weight": "balanced"}, ShapeError, r"shape \(90,\), got \(50,\)"),
        ({"class_weight": {0: 1.0}}, LabelError, "a weight for each class, got none for 1"),
        ({"class_weight": {0: 1.0, 1: -1.0}}, ValueError, "got -1.0 for class 1"),
        ({"class_weight": {0: 1.0, 1: float("nan")}}, ValueError, "got nan for class 1"),
        ({"class_weight": "equal"}, ValueError, "'equal'"),
    ],
)
def test_weights_that_make_no_sense_are_refused(given, kind, words):
    """faults.md 43."""
    run = trainer()
    with pytest.raises(kind, match=words):
        fitted(run, X, Y, **given)
    assert run.steps == 0


def test_several_labels_a_row_are_no_classes():
    run = nb.Trainer(nn.Linear(4, 3), "bce_with_logits", device="cpu", seed=0)
    with pytest.raises(ValueError, match=r"one class a row for class_weight, got several labels, y of shape \(90, 3\)"):
        fitted(run, X, (X[:, :3] > 0).astype("float32"), class_weight="balanced")


def test_a_loss_that_takes_no_weights_is_named():
    run = nb.Trainer(nn.Linear(4, 1), lambda output, target: F.mse_loss(output, target), seed=0)
    with pytest.raises(TypeError, match="takes sample_weight="):
        fitted(run, X, X[:, :1], sample_weight=WEIGHT)
