"""Handwritten digits: 1,797 images of 8 x 8 pixels, ten classes, by a network of one hidden layer."""

from flags import finish, parse

import nnbackend as nb
from nnbackend import data, nn, optim


def run(seed, device="cpu", epochs=20, verbose=False):
    """Train on three quarters of the images; returns the trainer, the test accuracy and the confusion matrix."""
    digits = data.digits()
    (X, y), (X_test, y_test) = data.split(digits.X / 16.0, digits.y, test=0.25, stratify=digits.y, seed=seed)
    net = nn.MLP([64, 64, 10], "relu")
    trainer = nb.Trainer(net, "cross_entropy", optim.Adam(lr=2e-3), metrics=["accuracy"], device=device, seed=seed)
    trainer.fit(X, y, epochs=epochs, validation_data=(X_test, y_test), report_every=5, verbose=verbose)
    accuracy = trainer.evaluate(X_test, y_test)["accuracy"]
    return trainer, accuracy, nb.metrics.confusion_matrix(trainer.predict(X_test), y_test)


if __name__ == "__main__":
    args = parse(__doc__, epochs=20)
    trainer, accuracy, confusion = run(args.seed, args.device, args.epochs, verbose=True)
    print("true digit (row) against predicted digit (column):")
    print(confusion.numpy())
    finish(args, trainer.net, "test accuracy", accuracy, target=0.954)
