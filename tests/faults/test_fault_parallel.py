"""Threads: models train and predict beside each other as they do alone."""

import threading

import numpy as np
import pytest

import nnbackend as nb
from nnbackend import nn, optim

random = np.random.default_rng(0)
X = random.normal(size=(300, 6)).astype("float32")
Y = (X[:, :3].argmax(axis=1)).astype("int64")


def trained(seed, epochs=15):
    net = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3))
    run = nb.Trainer(net, "cross_entropy", optim.Adam(lr=0.01), ["accuracy"], device="cpu", seed=seed)
    run.fit(X, Y, epochs=epochs, validation_data=(X[:50], Y[:50]), verbose=False)
    return run


def at_once(*jobs):
    """What jobs return that start together, each in a thread of its own."""
    results, start = [None] * len(jobs), threading.Barrier(len(jobs))

    def work(i):
        start.wait()
        results[i] = jobs[i]()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_two_threads_train_two_models_as_one_after_the_other():
    """faults.md 131."""
    alone = [trained(seed) for seed in (1, 2)]
    together = at_once(lambda: trained(1), lambda: trained(2))
    for a, b in zip(alone, together, strict=True):
        assert a.history.rows == b.history.rows
        np.testing.assert_array_equal(a.predict(X), b.predict(X))


@pytest.mark.parametrize("fitted", ["trainer", "estimator"])
def test_eight_threads_predict_with_one_model_while_another_trains(fitted):
    """faults.md 132."""
    model = trained(3) if fitted == "trainer" else nb.MLPClassifier(epochs=10, random_state=0).fit(X, Y)
    predict = model.predict if fitted == "trainer" else model.predict_proba
    expected, other = predict(X), trained(4)

    def again():
        return [predict(X[: 100 + i]) for i in range(30)]

    *seen, trained_meanwhile = at_once(*[again] * 8, lambda: trained(4))
    for results in seen:
        for i, result in enumerate(results):
            np.testing.assert_allclose(result, expected[: 100 + i], rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(predict(X), expected)
    assert trained_meanwhile.history.rows == other.history.rows
    np.testing.assert_array_equal(trained_meanwhile.predict(X), other.predict(X))
