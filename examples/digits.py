"""Handwritten digits: 1,797 images of 8 x 8 pixels, ten classes.

--net mlp: one hidden layer of 64, for 20 epochs; --net cnn: two convolutions with batch norm, for 8.
"""

import numpy as np
from flags import finish, kept, parse
from pictures import grid

import nnbackend as nb
from nnbackend import data, nn, optim

EPOCHS = {"mlp": 20, "cnn": 8}
TARGETS = {"mlp": 0.954, "cnn": 0.973}


def cnn():
    """Pixels (n, 64) -> scores (n, 10); each pooling halves height and width."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * 2 * 2, 10),
    )  # fmt: skip


def read():
    """Three quarters of the images to train on and a quarter to test, the same for all seeds; pixels from 0 to 1."""
    digits = data.digits()
    return data.split(digits.X / 16, digits.y, test=0.25, stratify=digits.y, seed=0)


def run(seed, device="cpu", epochs=None, net="mlp", verbose=False, **kept):
    """Train and test; returns the trainer, the test accuracy and the confusion matrix."""
    (X, y), (X_test, y_test) = read()
    model = cnn() if net == "cnn" else nn.MLP([64, 64, 10], "relu")
    trainer = nb.Trainer(model, "cross_entropy", optim.Adam(lr=2e-3), metrics=["accuracy"], device=device, seed=seed)
    every = 5 if net == "mlp" else 2
    epochs, held_out = epochs or EPOCHS[net], (X_test, y_test)
    trainer.fit(X, y, epochs, validation_data=held_out, report_every=every, verbose=verbose, **kept)
    accuracy = trainer.evaluate(X_test, y_test)["accuracy"]
    return trainer, accuracy, nb.metrics.confusion_matrix(trainer.predict(X_test), y_test)


def mistakes(trainer):
    """The test images that the network takes for another digit, (n, 8, 8), and "true>predicted" for each."""
    _, (X, y) = read()
    predicted = trainer.predict(X).argmax(axis=1)
    wrong = np.flatnonzero(predicted != y)
    return X[wrong].reshape(-1, 8, 8), [f"{y[i]}>{predicted[i]}" for i in wrong]


if __name__ == "__main__":
    args = parse(__doc__.splitlines()[0], epochs=None, picture="the digits it takes for others", net=["mlp", "cnn"])
    epochs = 1 if args.smoke else args.epochs
    trainer, accuracy, confusion = run(args.seed, args.device, epochs, args.net, verbose=True, **kept(args))
    print("true digit (row) against predicted digit (column):")
    print(confusion.numpy())
    if args.picture:
        grid(args.picture, *mistakes(trainer))
    finish(args, trainer.net, "test accuracy", accuracy, TARGETS[args.net])
