"""Metrics equal scikit-learn's on 200 random cases each: ties, absent classes, and weights, zeros among them."""

import warnings
from functools import partial

import numpy as np
import pytest

sk = pytest.importorskip("sklearn.metrics")
config_context = pytest.importorskip("sklearn").config_context

from nnbackend import metrics as M  # noqa: E402

CASES = 200


class Case:
    """Random targets and outputs; every other case has weights, and scores have ties in every third."""

    def __init__(self, name, i, classes=None):
        self.rng = rng = np.random.default_rng([len(name), *name.encode(), i])
        self.n = n = int(rng.integers(3, 60))
        self.c = c = classes or int(rng.integers(3, 6))
        self.weight = None if i % 2 else rng.choice([0.0, 0.5, 1.0, 2.0, rng.random()], n)
        if self.weight is not None and not self.weight.any():
            self.weight[0] = 1.0
        self.target = rng.choice(rng.choice(c, rng.integers(1, c + 1, 2).max(), replace=False), n)  # some are absent
        self.several = rng.integers(0, 2, (n, c))
        self.ties = i % 3 == 0

    def scores(self, *shape):
        s = self.rng.random(shape)
        return np.round(s * 4) / 4 if self.ties else s

    def probabilities(self):
        p = self.scores(self.n, self.c) + 0.25
        return p / p.sum(axis=1, keepdims=True)

    def amounts(self):
        shape = (self.n, self.c) if self.ties else (self.n,)
        return self.rng.normal(size=shape).round(1), self.rng.normal(size=shape).round(1)


def one(x):
    return np.stack([1 - x, x], axis=1)


def decisions(ours, theirs, classes=None, **kw):
    """Scores (n, c) or (n,), or class indices."""

    def run(case, i):
        p = case.scores(case.n) if case.c == 2 else case.probabilities()
        found = (p > 0.5) * 1 if case.c == 2 else p.argmax(1)
        given = [p, found, one(p) if case.c == 2 else p][i % 3]
        return ours(given, case.target, case.weight, **kw), lambda: theirs(
            case.target, found, sample_weight=case.weight, **kw
        )

    return run, classes


def matrices(**kw):
    def run(case, i):
        p = case.probabilities()
        return M.confusion_matrix(p, case.target, case.weight, **kw), lambda: sk.confusion_matrix(
            case.target, p.argmax(1), sample_weight=case.weight, labels=range(case.c), **kw
        )

    return run, None


def averaged(ours, theirs, average):
    """Several classes; `average=None` gives one number a class."""

    def run(case, i):
        p, labels = case.probabilities(), range(case.c) if average is None else None
        return ours(p, case.target, case.weight, average=average), lambda: theirs(
            case.target, p.argmax(1), sample_weight=case.weight, average=average, labels=labels, zero_division=0
        )

    return run, None


def labelled(ours, theirs, average=False):
    """Several labels."""
    kw = {} if average is False else {"average": average}

    def run(case, i):
        p = case.scores(case.n, case.c)
        return ours(p, case.several, case.weight, multilabel=True, **kw), lambda: theirs(
            case.several, (p > 0.5) * 1, sample_weight=case.weight, **kw, **({"zero_division": 0} if kw else {})
        )

    return run, None


def ranked(ours, theirs, shape, average="macro", **kw):
    """Scores: one a row, of two classes, of several classes, or of several labels."""

    def run(case, i):
        theirs_kw = {"average": average, "sample_weight": case.weight}
        if shape in ("one", "two"):
            s = case.scores(case.n)
            given, target, seen, truth = (s if shape == "one" else one(s)), case.target, s, case.target
        elif shape == "labels":
            seen = given = case.scores(case.n, case.c)
            truth = target = case.several
        else:
            seen = given = case.probabilities()
            target = case.target
            truth = np.eye(case.c, dtype=int)[target]
            if theirs is not sk.average_precision_score:
                truth, theirs_kw = target, {**theirs_kw, "multi_class": "ovr", "labels": range(case.c), **kw}
        if kw:
            theirs_kw["sample_weight"] = None
        weight = None if kw else case.weight
        return ours(given, target, weight, average=average, multilabel=shape == "labels", **kw), lambda: theirs(
            truth, seen, **theirs_kw
        )

    return run, 2 if shape in ("one", "two") else None


def probable(ours, theirs, shape, logits=False):
    def run(case, i):
        labels = range(case.c)
        if shape == "classes":
            p, target, kw = case.probabilities(), case.target, {"logits": logits}
            given = np.log(p) + case.rng.normal(size=(case.n, 1)) if logits else p
        elif shape == "one":
            p, target, kw = case.scores(case.n) * 0.98 + 0.01 * logits, case.target, {"logits": logits}
            given = np.log(p / (1 - p)) if logits else p
        else:
            given = p = case.scores(case.n, case.c)
            return ours(p, case.several, case.weight, multilabel=True), lambda: np.mean(
                [theirs(case.several[:, k], p[:, k], sample_weight=case.weight, labels=[0, 1]) for k in labels]
            )
        return ours(given, target, case.weight, **kw), lambda: theirs(
            target, p, sample_weight=case.weight, labels=labels
        )

    return run, 2 if shape == "one" else None


def amounts(ours, theirs):
    def run(case, i):
        output, target = case.amounts()
        if i % 20 == 5:  # constant, where theirs has no weights, with which it misses the mean by a rounding
            target = target * 0.0 + 3.0
            output = target if i % 40 == 5 else output
        return ours(output, target, case.weight), lambda: theirs(target, output, sample_weight=case.weight)

    return run, None


def top_k(case, i):
    k = 1 + i % (case.c - 1)
    p = case.probabilities()
    return M.top_k_accuracy(p, case.target, case.weight, k=k), lambda: sk.top_k_accuracy_score(
        case.target, p, k=k, sample_weight=case.weight, labels=range(case.c)
    )


def pairs(target, scores, **kw):
    """Theirs divides by zero where ours says NaN."""
    return sk.roc_auc_score(target, scores, **kw) if len(set(target)) > 1 else np.nan


AVERAGES = ("macro", "micro", "weighted", None)


def rates(ours, theirs):
    """All forms of a metric that averages over classes."""
    several = [averaged(ours, theirs, average) for average in AVERAGES]
    labels = [labelled(ours, theirs, average) for average in AVERAGES]
    return [*several, decisions(ours, theirs, 2, average="binary"), *labels]


def rankings(ours, theirs):
    shapes = [ranked(ours, theirs, shape) for shape in ("one", "two")]
    return shapes + [ranked(ours, theirs, shape, average) for shape in ("classes", "labels") for average in AVERAGES]


def probabilities(ours, theirs):
    shapes = [probable(ours, theirs, shape) for shape in ("classes", "one", "labels")]
    return shapes + [probable(ours, theirs, shape, logits=True) for shape in ("classes", "one")]


# Each metric, in each of its forms.
TABLE = {
    "accuracy": [
        decisions(M.accuracy, sk.accuracy_score),
        decisions(M.accuracy, sk.accuracy_score, 2),
        labelled(M.accuracy, sk.accuracy_score),
    ],
    "balanced_accuracy": [decisions(M.balanced_accuracy, sk.balanced_accuracy_score)],
    "top_k_accuracy": [(top_k, None)],
    "agreement": [
        decisions(M.matthews_corrcoef, sk.matthews_corrcoef),
        decisions(M.cohen_kappa, sk.cohen_kappa_score),
    ],
    "confusion_matrix": [matrices(normalize=how) for how in (None, "true", "pred", "all")],
    "precision": rates(M.precision, sk.precision_score),
    "recall": rates(M.recall, sk.recall_score),
    "f1": rates(M.f1, sk.f1_score) + rates(partial(M.fbeta, beta=0.5), partial(sk.fbeta_score, beta=0.5)),
    "roc_auc": [
        *rankings(M.roc_auc, sk.roc_auc_score),
        *(ranked(M.roc_auc, pairs, "classes", a, multi_class="ovo") for a in ("macro", "weighted")),
    ],
    "average_precision": rankings(M.average_precision, sk.average_precision_score),
    "log_loss": probabilities(M.log_loss, sk.log_loss),
    "brier": probabilities(M.brier, sk.brier_score_loss),
    "r2": [amounts(M.r2, sk.r2_score)],
    "explained_variance": [amounts(M.explained_variance, sk.explained_variance_score)],
    "mae": [amounts(M.mae, sk.mean_absolute_error)],
    "mse": [amounts(M.mse, sk.mean_squared_error)],
    "rmse": [amounts(M.rmse, sk.root_mean_squared_error)],
    "mape": [amounts(M.mape, sk.mean_absolute_percentage_error)],
}


def compare(name, forms):
    numbers = 0
    for i in range(CASES):
        run, classes = forms[i // 6 % len(forms)]  # each form with and without ties and weights
        ours, theirs = run(Case(name, i, classes), i)
        with warnings.catch_warnings(), config_context(assume_finite=True, skip_parameter_validation=True):
            warnings.simplefilter("ignore")  # theirs warn where a score is not defined
            expected = theirs()
        np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-12, atol=1e-12, err_msg=f"case {i}")
        numbers += bool(np.isfinite(expected).any())
    assert numbers > CASES / 5


@pytest.mark.parametrize("name", TABLE)
def test_equals_scikit_learn(name):
    compare(name, TABLE[name])


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.slow
@pytest.mark.parametrize("name", TABLE)
def test_each_form_equals_scikit_learn(name):
    for k, form in enumerate(TABLE[name]):
        compare(f"{name} {k}", [form])
