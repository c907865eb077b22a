"""Iris: three species of flowers from four lengths.

--recipe tutorial: the second tutorial's network, 4-5-10-3 sigmoids, square error, sample by sample, 100 epochs.
--recipe modern: standardised features, cross-entropy, AdamW, small batches: better, and in a tenth of the steps.
"""

from flags import finish, kept, parse

import nnbackend as nb
from nnbackend import data, nn, optim
from nnbackend import functional as F

FEATURES = ["SepalLengthCm", "SepalWidthCm", "PetalLengthCm", "PetalWidthCm"]


def read():
    """Features (150, 4) and class numbers (150,) from the CSV, and the names of the classes."""
    table = data.read_csv(data.iris_csv())
    encoder = data.LabelEncoder()
    return table.matrix(FEATURES), encoder.fit_transform(table["Species"]), encoder.classes


def half_square_error(output, target):
    """The tutorial's loss: half the sum of squares over the three outputs, averaged over samples."""
    return 1.5 * F.mse_loss(output, target)


def tutorial(seed, device="cpu"):
    """All weights and biases start evenly spread over -1..1."""
    net = nn.MLP([4, 5, 10, 3], "sigmoid", output="sigmoid", dtype="float64")
    for p in net.parameters():
        p.initialiser = nn.init.uniform(-1.0, 1.0)
    sgd = optim.SGD(lr=0.15)
    return nb.Trainer(net.init(seed), half_square_error, sgd, metrics=["accuracy"], device=device)


def modern(seed, device="cpu"):
    """A small tanh network on standardised features."""
    net = nn.MLP([4, 16, 3], "tanh")
    adamw = optim.AdamW(lr=0.01, weight_decay=0.1)
    return nb.Trainer(net, "cross_entropy", adamw, metrics=["accuracy"], device=device, seed=seed)


def run(recipe, seed, device="cpu", epochs=None, verbose=False, **kept):
    """Split, train, and measure on the test set. Returns the trainer and the test accuracy."""
    X, y, _ = read()
    old = recipe == "tutorial"
    (X, y), (X_test, y_test) = data.split(X, y, test=0.15, stratify=None if old else y, seed=seed)
    (X, y), (X_val, y_val) = data.split(X, y, test=0.10, stratify=None if old else y, seed=seed)
    if old:
        trainer, batch_size, epochs = tutorial(seed, device), 1, epochs or 100
        y, y_val, y_test = (data.one_hot(labels, 3) for labels in (y, y_val, y_test))
    else:
        trainer, batch_size, epochs = modern(seed, device), 16, epochs or 60
        scaler = data.StandardScaler().fit(X)
        X, X_val, X_test = (scaler.transform(part) for part in (X, X_val, X_test))
    held_out = X_val, y_val
    trainer.fit(X, y, epochs, batch_size, held_out, shuffle=not old, report_every=20, verbose=verbose, **kept)
    return trainer, trainer.evaluate(X_test, y_test)["accuracy"]


if __name__ == "__main__":
    args = parse(__doc__.splitlines()[0], epochs=None, recipe=["tutorial", "modern"])
    trainer, accuracy = run(args.recipe, args.seed, args.device, args.epochs, verbose=True, **kept(args))
    finish(args, trainer.net, "test accuracy", accuracy, target=0.85)
