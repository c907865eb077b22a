"""Metrics: small cases by hand, every shape of outputs and targets, devices, logits, and what is refused."""

import inspect
import math
import pickle
from functools import partial

import array_api_strict
import numpy as np
import pytest
from frozen import DEVICE1, PLACES

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import metrics as M
from nnbackend.errors import DataError, LabelError, ShapeError

SCORES = [[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.5, 0.4, 0.1], [0.2, 0.3, 0.5], [0.6, 0.3, 0.1]]  # found: 0 1 0 2 0
TRUTH = [0, 1, 1, 2, 2]
ONE, YES = [0.9, 0.4, 0.6, 0.4], [1, 0, 0, 1]
LABELS = [[1, 0, 1], [0, 1, 1], [1, 1, 0], [0, 1, 1], [0, 0, 1]]

BY_HAND = [  # metric, output, target, weight, expected
    (M.accuracy, SCORES, TRUTH, None, 3 / 5),
    (M.accuracy, SCORES, TRUTH, [1, 1, 2, 0, 0], 2 / 4),
    (partial(M.accuracy, multilabel=True), SCORES, LABELS, None, 0.0),
    (partial(M.accuracy, multilabel=True), LABELS, LABELS, None, 1.0),
    (M.accuracy, [0, 3], [0.0, 3.0], None, 1.0),
    (M.top_k_accuracy, SCORES, TRUTH, None, 4 / 5),
    (partial(M.top_k_accuracy, k=1), [[0.5, 0.5], [0.5, 0.5]], [0, 1], None, 1 / 2),
    (partial(M.top_k_accuracy, k=1), [[math.nan, 0.5], [0.5, math.nan]], [0, 0], None, 0.0),
    (M.balanced_accuracy, SCORES, TRUTH, None, (1 + 1 / 2 + 1 / 2) / 3),
    (M.precision, SCORES, TRUTH, None, (1 / 3 + 1 + 1) / 3),
    (M.recall, SCORES, TRUTH, None, (1 + 1 / 2 + 1 / 2) / 3),
    (M.f1, SCORES, TRUTH, None, (1 / 2 + 2 / 3 + 2 / 3) / 3),
    (partial(M.f1, average="micro"), SCORES, TRUTH, None, 3 / 5),
    (partial(M.f1, average="weighted"), SCORES, TRUTH, None, (1 / 2 + 4 / 3 + 4 / 3) / 5),
    (partial(M.f1, average=None), SCORES, TRUTH, None, [1 / 2, 2 / 3, 2 / 3]),
    (M.f1, SCORES[:2], TRUTH[:2], None, 1.0),  # the absent class does not count
    (M.precision, ONE, YES, None, 1 / 2),
    (M.recall, ONE, YES, [1, 1, 1, 3], 1 / 4),
    (partial(M.fbeta, beta=2), ONE, YES, [1, 1, 1, 3], 5 / (4 * 4 + 2)),
    (M.f1, [1, 0, 1, 0], YES, None, 1 / 2),
    (partial(M.f1, multilabel=True), [[0.9, 0.1], [0.8, 0.7]], [[1, 0], [0, 0]], None, (2 / 3 + 0) / 2),
    (M.f1, [0, 0], [0, 0], None, 0.0),
    (M.matthews_corrcoef, ONE, YES, None, 0.0),
    (M.matthews_corrcoef, [0, 0], [0, 1], None, 0.0),
    (M.cohen_kappa, [0, 1, 1], [0, 1, 0], None, 1 - (1 / 3) / (1 - 4 / 9)),
    (M.cohen_kappa, [0, 0], [0, 0], None, math.nan),
    (M.confusion_matrix, SCORES, TRUTH, None, [[1, 0, 0], [1, 1, 0], [1, 0, 1]]),
    (M.confusion_matrix, [0, 1], [1, 1], [0.5, 2], [[0, 0], [0.5, 2]]),
    (partial(M.confusion_matrix, normalize="true"), [0, 1], [1, 1], None, [[0, 0], [0.5, 0.5]]),
    (partial(M.confusion_matrix, normalize="pred"), [0, 1], [1, 1], None, [[0, 0], [1, 1]]),
    (partial(M.confusion_matrix, normalize="all"), [0, 1], [1, 1], [1, 3], [[0, 0], [0.25, 0.75]]),
    (M.roc_auc, ONE, YES, None, 2.5 / 4),
    (M.roc_auc, ONE, YES, [1, 2, 1, 0], 3 / 3),
    (M.roc_auc, ONE, [1, 1, 1, 1], None, math.nan),
    (M.roc_auc, [0.1, math.nan], [0, 1], None, math.nan),
    (partial(M.roc_auc, average=None), SCORES, TRUTH, None, [1, 1, 4 / 6]),
    (partial(M.roc_auc, multi_class="ovo"), SCORES[:3], TRUTH[:3], None, 1.0),
    (M.average_precision, ONE, YES, None, 1 / 2 + 1 / 2 * 2 / 4),
    (M.average_precision, ONE, [0, 0, 0, 0], None, 0.0),
    (M.log_loss, ONE, YES, None, -(math.log(0.9) + math.log(0.6) + 2 * math.log(0.4)) / 4),
    (M.log_loss, SCORES[:2], [0, 2], [1, 3], -(math.log(0.7) + 3 * math.log(0.3)) / 4),
    (partial(M.log_loss, multilabel=True), [[0.9, 0.2]], [[1, 0]], None, -(math.log(0.9) + math.log(0.8)) / 2),
    (partial(M.log_loss, logits=True), [[0.0, 1000.0]], [0], None, 1000.0),
    (partial(M.log_loss, logits=True), [-1000.0], [1], None, 1000.0),
    (partial(M.log_loss, logits=True), [[-math.inf, 0.0]], [1], None, 0.0),
    (M.brier, ONE, YES, None, (0.01 + 0.16 + 0.36 + 0.36) / 4),
    (M.brier, [[0.1, 0.9], [0.6, 0.4]], [1, 0], None, (0.01 + 0.16) / 2),
    (M.brier, SCORES[:1], TRUTH[:1], None, 0.09 + 0.04 + 0.01),
    (M.mae, [1.0, 2.0], [2.0, 4.0], [3, 1], 5 / 4),
    (M.mse, [[1.0, 2.0], [1.0, 2.0]], [[2.0, 4.0], [1.0, 2.0]], None, (1 / 2 + 4 / 2) / 2),
    (M.rmse, [[1.0, 2.0], [1.0, 2.0]], [[2.0, 4.0], [1.0, 2.0]], None, (0.5**0.5 + 2**0.5) / 2),
    (M.mape, [1.0, 2.0], [2.0, -4.0], None, (1 / 2 + 6 / 4) / 2),
    (M.r2, [1.0, 2.0, 3.0], [1.0, 2.0, 6.0], None, 1 - 9 / 14),
    (M.r2, [0.1] * 3, [0.1] * 3, [0.1, 0.2, 0.7], 1.0),
    (M.r2, [0.2] * 3, [0.1] * 3, [0.1, 0.2, 0.7], 0.0),  # scikit-learn 1.9.1 gives -4.7e31 for the like of it
    (M.r2, [1.0], [1.0], None, math.nan),
    (M.explained_variance, [2.0, 3.0], [1.0, 2.0], None, 1.0),
]


@pytest.mark.parametrize("device", PLACES, ids=str)
@pytest.mark.parametrize("case", BY_HAND, ids=lambda c: getattr(c[0], "func", c[0]).__name__)
def test_by_hand(case, device):
    function, output, target, weight, expected = case
    arrays = [None if a is None else nb.tensor(a, device=device) for a in (output, target, weight)]
    found = function(*arrays)
    assert (found.device, found.shape) == (nb.device(device), np.shape(expected))
    np.testing.assert_allclose(found.numpy(), expected, rtol=2e-7, atol=1e-12)  # the inputs are float32


@pytest.mark.parametrize("name", M.METRICS)
def test_nothing_waits_for_the_device(name):
    """With scores, not even for the number of classes."""
    output = nb.tensor([[0.2, 0.8], [0.6, 0.4], [0.3, 0.7]], device=DEVICE1)
    target = nb.tensor(np.array([1, 0, 0]), device=DEVICE1)
    del target.bounds
    settings = inspect.signature(M.METRICS[name]).parameters
    if settings.keys() == {"output", "target", "weight"}:
        target = output * 2.0
    output = nb.concat([output, output], axis=1) if "k" in settings else output
    weight = nb.ones(3, device=DEVICE1)
    with nb.testing.no_synchronization():
        found = M.metric(name)[1](output, target, weight=weight)
    assert (found.dtype, found.device, found.shape) == (np.float64, nb.device(DEVICE1), ())
    assert math.isfinite(float(found))


def test_forms_of_one_data_set():
    """Indices, one-hot rows, one column, and positions after the classes mean the same."""
    scores, truth = np.array(SCORES), np.array(TRUTH)
    hot = np.eye(3)[truth]
    for f in (M.accuracy, M.f1, M.log_loss, M.brier, M.roc_auc, M.average_precision, M.top_k_accuracy):
        wanted = float(f(scores, truth))
        assert math.isfinite(wanted)
        for target in (hot, hot.astype(int), hot > 0, truth[:, None], truth.astype("uint8")):
            assert float(f(scores, target)) == wanted
        long = np.stack([scores, scores], axis=2)  # (n, classes, positions)
        assert float(f(long, np.stack([truth, truth], axis=1))) == pytest.approx(wanted)
        assert float(f(long, np.stack([truth, truth], axis=1), [1, 1, 1, 0, 1])) == pytest.approx(
            float(f(scores, truth, [1, 1, 1, 0, 1]))
        )
    one, yes = np.array(ONE), np.array(YES)
    for f in (M.accuracy, M.f1, M.log_loss, M.brier, M.roc_auc, M.average_precision):
        wanted = float(f(one, yes))
        both = np.stack([1 - one, one], axis=1)
        for output, target in ((one[:, None], yes), (one, yes[:, None] > 0), (both, yes), (both, np.eye(2)[yes])):
            assert float(f(output, target)) == pytest.approx(wanted)


def test_logits_are_what_they_stand_for():
    rng = np.random.default_rng(0)
    truth, yes, labels = rng.integers(0, 4, 50), rng.integers(0, 2, 50), rng.integers(0, 2, (50, 4))
    z, z1 = rng.normal(size=(50, 4)), rng.normal(size=50)
    for name in M.METRICS:
        if name.startswith("top") or "output" not in (s := inspect.signature(M.METRICS[name]).parameters) or len(s) < 4:
            continue
        for several, logits, p, target in (
            (False, z, F.softmax(nb.tensor(z)), truth),
            (False, z1, F.sigmoid(nb.tensor(z1)), yes),
            (True, z, F.sigmoid(nb.tensor(z)), labels),
        ):
            if several and "multilabel" not in s:
                continue
            found = M.metric(name, logits=True, multilabel=several)[1](logits, target)
            assert float(found) == pytest.approx(float(M.metric(name, multilabel=several)[1](p, target)), rel=1e-12)
    assert float(M.accuracy(np.array([1.0]), [1], threshold=0.9, logits=True)) == 0.0
    saturated = np.array([40.0, 60.0, 50.0, 70.0])  # all 1.0 as probabilities
    assert float(M.roc_auc(saturated, [0, 1, 0, 1], logits=True)) == 1.0
    assert float(M.roc_auc(np.stack([-saturated, saturated], 1), [0, 1, 0, 1], logits=True)) == 1.0


def test_many_rows_in_float32():
    """Sums are in float64: in float32 the running sums of so many weights are wrong in the fourth digit."""
    rng = np.random.default_rng(0)
    scores, weight = rng.random((2, 100_000), dtype="float32")
    truth = rng.integers(0, 2, 100_000)
    for f in (M.roc_auc, M.average_precision, M.f1, M.mse):
        wide = f(scores.astype("float64"), truth, weight.astype("float64"))
        assert float(f(scores, truth, weight)) == pytest.approx(float(wide), rel=1e-12)


def test_float64_where_there_is_none():
    small = array_api_strict.Device("no_float64")
    for f in (M.accuracy, M.f1, M.roc_auc, M.average_precision, M.log_loss, M.brier, M.mse, M.r2):
        found = f(nb.tensor(ONE, device=small), nb.tensor(YES, device=small))
        assert found.dtype == np.float32
        assert float(found) == pytest.approx(float(f(ONE, YES)), rel=1e-6)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: M.accuracy(SCORES, [1, 0]),
            ShapeError,
            r"accuracy: expected one target a row, got output \(5, 3\) and",
        ),
        (lambda: M.f1(SCORES, [[1, 0]] * 5), ShapeError, "as many columns as the output has"),
        (lambda: M.f1(SCORES, TRUTH, [1, 2]), ShapeError, r"expected one weight a row, \(5,\), got \(2,\)"),
        (lambda: M.mse([1.0, 2.0], [1.0, 2.0], [1, -1]), ValueError, "mse: expected weights of 0 or more, got -1"),
        (lambda: M.mse([[1.0, 2.0]], [1.0]), ShapeError, r"one shape, got \(1, 2\) and \(1,\)"),
        (lambda: M.mse(1.0, 1.0), ShapeError, "one output a row"),
        (lambda: M.r2(np.zeros(0), np.zeros(0)), DataError, "at least one row"),
        (lambda: M.f1(SCORES, [0, 1, 2, 3, 0]), LabelError, r"outside 0\.\.2 \(first: row 3 = 3\)"),
        (lambda: M.roc_auc(ONE, [-1, 1, 1, 1]), LabelError, r"outside 0\.\.1 \(first: row 0 = -1\)"),
        (lambda: M.recall([0, 1], [0, -1]), LabelError, r"labels in 0\.\.1 \(2 classes\), got -1"),
        (lambda: M.accuracy(SCORES, [0.0, 1.0, 1.0, 2.0, 2.0]), LabelError, "Cast indices"),
        (lambda: M.f1(SCORES, TRUTH, multilabel=True), ShapeError, r"targets \(5, 3\) for multilabel=True"),
        (lambda: M.brier(SCORES, np.array(LABELS) * 2, multilabel=True), LabelError, r"outside 0\.\.1"),
        (lambda: M.f1(SCORES, TRUTH, average="binary"), ValueError, 'got 3 classes. Use average="macro"'),
        (lambda: M.f1(SCORES, TRUTH, average="mean"), ValueError, "average to be one of 'auto', 'binary'"),
        (lambda: M.fbeta(ONE, YES, beta=-1), ValueError, "beta >= 0"),
        (lambda: M.roc_auc(SCORES, TRUTH, average="binary"), ValueError, "average to be one of 'macro'"),
        (lambda: M.roc_auc(SCORES, TRUTH, multi_class="all"), ValueError, '"ovr" or "ovo"'),
        (lambda: M.roc_auc(SCORES, TRUTH, multi_class="ovo", average=None), ValueError, "for pairs"),
        (lambda: M.log_loss([2.0, 0.5], [1, 0]), ValueError, r"\[0, 1\], got 0.5 to 2. Pass logits=True"),
        (lambda: M.top_k_accuracy(ONE, YES), ShapeError, "Use accuracy"),
        (lambda: M.top_k_accuracy(SCORES, TRUTH, k=0), ValueError, "k >= 1"),
        (lambda: M.accuracy(ONE, YES, threshold=2, logits=True), ValueError, "threshold between 0 and 1"),
        (lambda: M.confusion_matrix(ONE, YES, normalize="rows"), ValueError, "normalize="),
        (lambda: M.metric("acuracy"), ValueError, "expected one of accuracy, .* or a function, got 'acuracy'"),
    ],
)
def test_what_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_labels_from_the_host_are_checked_on_every_device():
    scores = nb.tensor(SCORES, device=DEVICE1)
    with pytest.raises(LabelError, match=r"labels of 3 classes"):
        M.f1(scores, nb.tensor([0, 1, 2, 3, 0], device=DEVICE1))
    assert M.confusion_matrix(scores, nb.tensor(TRUTH, device=DEVICE1), classes=4).shape == (4, 4)


def test_metrics_by_name_and_by_function():
    def own(output, target):
        return output

    assert M.metric(own, logits=True) == ("own", own)
    assert M.metric("f1") == ("f1", M.f1)
    assert M.metric("mse", logits=True) == ("mse", M.mse)
    for spec, name in ((M.f1, "f1"), ("f1", "f1"), ("f1_macro", "f1_macro"), (partial(M.f1, average="micro"), "f1")):
        found, function = M.metric(spec, logits=True)
        assert (found, function.keywords["logits"]) == (name, True)
        assert "multilabel" not in function.keywords
        pickle.loads(pickle.dumps(function))
    assert M.metric("top_3_accuracy")[1](nb.tensor(SCORES), nb.tensor(TRUTH)) == 1.0
    assert [M.takes_weight(f) for f in (M.f1, M.METRICS["f1_micro"], own)] == [True, True, False]
    assert not M.takes_weight(F.cross_entropy)  # its `weight` is one a class
    assert not M.takes_weight(max)
