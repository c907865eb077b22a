"""MLPClassifier and MLPRegressor of ours and of scikit-learn, with their defaults, on the sets that it brings along."""

import time
import warnings
from importlib.util import find_spec

import numpy as np

import nnbackend as nb

from .measure import markdown


def sets():
    """Name, data, and whether there are classes."""
    from sklearn import datasets

    for name in ("iris", "wine", "breast_cancer", "digits", "diabetes"):
        yield name, *getattr(datasets, f"load_{name}")(return_X_y=True), name != "diabetes"


def report(splits):
    """Mean scores of some splits of each set, a quarter of it to test, and times of all fits, as a table."""
    if find_spec("sklearn") is None:
        return "scikit-learn is not installed.\n"
    from sklearn.model_selection import train_test_split
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    kinds = {True: (MLPClassifier, nb.MLPClassifier), False: (MLPRegressor, nb.MLPRegressor)}
    rows = [
        ("mean accuracy, R2; seconds of all fits", "scikit-learn", "nnbackend", "scikit-learn", "nnbackend", "ratio")
    ]
    totals = np.zeros(2)
    for name, X, y, classes in sets():
        scores, times = np.zeros((2, splits)), np.zeros(2)
        for split in range(splits):
            parts = train_test_split(X, y, test_size=0.25, random_state=split, stratify=y if classes else None)
            X_train, X_test, y_train, y_test = parts
            for i, kind in enumerate(kinds[classes]):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # theirs says that it has not converged
                    start = time.perf_counter()
                    model = kind(random_state=split).fit(X_train, y_train)
                    times[i] += time.perf_counter() - start
                scores[i, split] = model.score(X_test, y_test)
        totals += times
        rows.append((name, *(f"{mean:.4f}" for mean in scores.mean(axis=1)), *shown(times)))
    return markdown([*rows, ("all", "", "", *shown(totals))])


def shown(times):
    """Both, and the ratio of ours to theirs."""
    return f"{times[0]:.2f}", f"{times[1]:.2f}", f"{times[1] / times[0]:.2f}"
