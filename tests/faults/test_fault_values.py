"""Lines 35-51 of faults.md, labels, losses and settings, each as it says: what comes in, and what the user gets."""

import warnings

import array_api_strict
import numpy as np
import pytest

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import nn, optim
from nnbackend.errors import GraphError, LabelError

DEVICES = ["cpu", array_api_strict.Device("device1")]
X = np.random.default_rng(0).random((64, 2))


def cross_entropy(labels, classes=3, device="cpu", **settings):
    target = nb.tensor(np.asarray(labels), device=device)
    return F.cross_entropy(nb.ones((len(labels), classes), device=device), target, **settings)


def fit(y, loss="cross_entropy", outputs=3, **settings):
    net = nn.Linear(2, outputs).init(0)
    trainer = nb.Trainer(net, loss, optim.SGD(lr=0.1), device="cpu", seed=0)
    before = net.weight.numpy().copy()
    try:
        return trainer.fit(X[: len(y)], y, **{"verbose": False, "check": False, **settings})
    except ValueError:
        np.testing.assert_array_equal(net.weight.numpy(), before)
        raise


@pytest.mark.parametrize("device", DEVICES)
def test_labels_beyond_the_classes(device):
    """faults.md 35: how many, and the first."""
    labels = np.zeros(64, np.int64)
    labels[[17, 40]] = 5, 7
    with pytest.raises(LabelError, match=r"got 2 of 64 labels outside 0\.\.2 \(first: row 17 = 5\)\."):
        cross_entropy(labels, device=device)


def test_labels_beyond_the_classes_in_fit():
    """faults.md 35: before anything is trained."""
    with pytest.raises(LabelError, match=r"expected labels of 3 classes, got .*(row 17 = 5|labels from 0 to 5)"):
        fit(np.where(np.arange(64) == 17, 5, np.arange(64) % 3))


@pytest.mark.parametrize("device", DEVICES)
def test_a_label_of_minus_one(device):
    """faults.md 36: unless it is to be ignored."""
    with pytest.raises(LabelError, match=r"got 1 of 2 labels outside 0\.\.2 \(first: row 1 = -1\)"):
        cross_entropy([0, -1], device=device)
    ignored = cross_entropy([0, -1], device=device, ignore_index=-1)
    assert ignored.item() == cross_entropy([0], device=device).item()
    with pytest.raises(LabelError):
        fit(np.arange(9) % 3 - 1)


def test_labels_that_are_floats():
    """faults.md 37: also NaN that has been cast to an integer."""
    for use in (lambda y: cross_entropy(np.float32(y)), fit):
        with pytest.raises(LabelError, match=r"Cast indices with \.astype\('int64'\)"):
            use(np.array([0.0, 1.0, 2.0, 1.0]))
    with np.errstate(invalid="ignore"):
        cast = np.array([0.0, np.nan]).astype(np.int64)
    with pytest.raises(LabelError, match=r"got 1 of 2 labels outside 0\.\.2 \(first: row 1 = -?\d+\)"):
        cross_entropy(np.where(cast == 0, 0, np.iinfo(np.int64).min))


def test_one_hot_rows_and_indices():
    """faults.md 38: each where the other is expected."""
    for loss in (F.cross_entropy, F.nll_loss):
        with pytest.raises(LabelError, match=r"got integers of shape \(4, 3\): one-hot\? Use target\.argmax\(1\)"):
            loss(nb.ones((4, 3)), nb.tensor(np.eye(3, dtype=int)[[0, 1, 2, 0]]))
    for loss in (F.mse_loss, F.binary_cross_entropy_with_logits):
        with pytest.raises(
            LabelError, match=r"expected targets of shape \(4, 3\), got class .* Use one_hot\(target, 3\)"
        ):
            loss(nb.ones((4, 3)), nb.tensor([0, 1, 2, 0]))


def test_labels_that_count_from_one():
    """faults.md 39."""
    with pytest.raises(LabelError, match="The labels look 1-based: subtract 1"):
        cross_entropy([1, 2, 3])
    with pytest.raises(LabelError):
        fit(np.arange(9) % 3 + 1)


@pytest.mark.parametrize("device", DEVICES)
def test_all_targets_ignored(device):
    """faults.md 40: loss 0 and gradient 0, not NaN."""
    x = nb.ones((2, 3), device=device)
    x.requires_grad = True
    loss = F.cross_entropy(x, nb.tensor([-100, -100], device=device))
    loss.backward()
    assert loss.item() == 0.0
    assert (nb.abs(x.grad).sum()).item() == 0.0


def test_what_is_no_probability():
    """faults.md 41: logits where probabilities are expected, and the reverse, once."""
    with pytest.raises(ValueError, match=r"expected input in \[0, 1\], got -1 to 2\. For logits use .*_with_logits"):
        F.binary_cross_entropy(nb.tensor([2.0, -1.0]), nb.tensor([1.0, 0.0]))
    net = nn.Sequential(nn.Linear(2, 3), nn.Softmax())
    trainer = nb.Trainer(net, "cross_entropy", optim.SGD(lr=0.1), device="cpu", seed=0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        trainer.fit(X, np.arange(64) % 3, epochs=3, verbose=False, check=False)
    assert ["expected logits, got" in str(w.message) for w in caught] == [True]


def test_targets_that_are_no_probabilities():
    """faults.md 42."""
    for loss in (F.binary_cross_entropy, F.binary_cross_entropy_with_logits):
        with pytest.raises(ValueError, match=r"expected target in \[0, 1\], got 0 to 1\.5"):
            loss(nb.tensor([0.2, 0.1]), nb.tensor([1.5, 0.0]))
    with pytest.raises(ValueError, match=r"expected target in \[0, 1\], got 2 to 2"):
        fit(np.full((9, 1), 2.0), "bce_with_logits", 1)


@pytest.mark.parametrize(
    ("make", "settings", "name"),
    [
        *((kind, {"lr": lr}, "lr") for kind in (optim.SGD, optim.Adam) for lr in (np.nan, np.inf, -0.1)),
        (optim.Adam, {"lr": 0.1, "betas": (0.9, 1.0)}, "betas"),
        (optim.Adam, {"lr": 0.1, "betas": (1.5, 0.9)}, "betas"),
        (optim.Adam, {"lr": 0.1, "eps": 0.0}, "eps"),
        (optim.RMSprop, {"lr": 0.1, "eps": -1e-8}, "eps"),
        (optim.SGD, {"lr": 0.1, "momentum": -0.9}, "momentum"),
    ],
)
def test_settings_of_optimizers(make, settings, name):
    """faults.md 47: at construction."""
    with pytest.raises(ValueError, match=f"{name}: expected .*, got"):
        make(nn.Linear(2, 2).parameters(), **settings)


def test_what_is_no_list_of_parameters():
    """faults.md 48: none, an exhausted generator, one of them twice, a tensor."""
    net = nn.Linear(2, 2)
    used_up = iter(net.parameters())
    list(used_up)
    for parameters, message in (
        ([], "expected parameters, got none"),
        (used_up, "Was the iterator used up"),
        ([net.weight, net.weight], "got weight twice"),
        ([{"params": [net.weight]}, {"params": [net.bias, net.weight]}], "got weight twice"),
        ([nb.ones(2)], r"expected nn\.Parameter objects, got Tensor"),
    ):
        with pytest.raises(ValueError, match=message):
            optim.SGD(parameters, lr=0.1)


def test_a_step_without_gradients():
    """faults.md 49: an error where there is none at all; otherwise one warning, and what has none stays."""
    net = nn.Linear(2, 2).init(0)
    sgd = optim.SGD(net.parameters(), lr=0.1)
    with pytest.raises(GraphError, match=r"expected gradients, got none\. Call loss\.backward\(\) first"):
        sgd.step()
    before = net.bias.numpy().copy()
    net.weight.sum().backward()
    with pytest.warns(UserWarning, match="no gradient for bias"):
        sgd.step()
    sgd.step()  # a warning would be an error
    np.testing.assert_array_equal(net.bias.numpy(), before)


def test_numbers_of_epochs_and_rows():
    """faults.md 51: refused, or what they say."""
    y = np.arange(64) % 3
    assert len(fit(y, epochs=0)) == 0
    together = fit(y, batch_size=1000)["loss"]
    assert together == fit(y, batch_size=None)["loss"] == fit(y, batch_size=64)["loss"]
    for settings in (
        {"epochs": -1}, {"batch_size": 0}, {"batch_size": -5},
        {"validation_split": 0.0}, {"validation_split": 1.0}, {"validation_split": -0.5},
    ):  # fmt: skip
        with pytest.raises(ValueError, match=f"expected .*{next(iter(settings))}"):
            fit(y, **settings)
