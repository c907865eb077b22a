"""Pictures of a network that learns three spirals, and of one that tells irises apart by two lengths.

Into --folder go learning curves, decision boundaries (one of them as a film), a confusion matrix, weights and
activations. A chart in text needs no matplotlib.
"""

from functools import partial

from flags import finish, kept, parse
from pictures import save

import nnbackend as nb
from nnbackend import callbacks, data, metrics, nn, optim, plots


def spirals(seed, device="cpu", epochs=60, verbose=False, callbacks=(), **kept):
    """Train on three arms of a spiral. Returns the trainer and the test set."""
    X, y = data.spirals(600, classes=3, noise=0.08, seed=seed)
    (X, y), test = data.split(X, y, test=0.3, stratify=y, seed=seed)
    adam = optim.Adam(lr=0.02)
    trainer = nb.Trainer(
        nn.MLP([2, 32, 32, 3], "relu"), "cross_entropy", adam, metrics=["accuracy"], device=device, seed=seed
    )
    trainer.fit(X, y, epochs, validation_data=test, report_every=2, verbose=verbose, callbacks=callbacks, **kept)
    return trainer, *test


def irises(seed, device="cpu", epochs=60):
    """Train on length and width of the petals. Returns the trainer and the test set."""
    iris = data.iris()
    (X, y), test = data.split(iris.X[:, 2:], iris.y, test=0.4, stratify=iris.y, seed=seed)
    trainer = nb.Trainer(nn.MLP([2, 16, 3], "tanh"), "cross_entropy", optim.Adam(lr=0.02), device=device, seed=seed)
    trainer.fit(X, y, epochs, verbose=False)
    return trainer, *test


if __name__ == "__main__":
    args = parse(__doc__.splitlines()[0], epochs=60, folder="pictures")
    args.folder.mkdir(parents=True, exist_ok=True)
    epochs = 2 if args.smoke else args.epochs
    X, y = data.spirals(300, classes=3, noise=0.08, seed=args.seed + 1)
    film = callbacks.BoundaryAnimation(X, y, args.folder / "spirals.gif", every=2)
    live = callbacks.LivePlot(args.folder / "live.png")
    trainer, X, y = spirals(args.seed, args.device, epochs, True, [film, live], **kept(args))
    print(trainer.history.chart())
    draw = partial(save, dpi=80)
    draw(args.folder / "history.png", plots.history, trainer.history)
    draw(args.folder / "spirals.png", plots.decision_boundary, trainer, X, y)
    draw(args.folder / "weights.png", plots.weights, trainer.net)
    draw(args.folder / "activations.png", plots.activations, trainer.net, X)

    flowers, petals, species = irises(args.seed, args.device, epochs)
    names = data.iris().class_names
    counts = metrics.confusion_matrix(flowers.predict(petals), species)
    draw(args.folder / "confusion.png", plots.confusion_matrix, counts, names)
    lengths = "length of petals, cm", "width of petals, cm"
    draw(args.folder / "iris.png", plots.decision_boundary, flowers, petals, species, labels=names, features=lengths)
    finish(args, trainer.net, "test accuracy", trainer.evaluate(X, y)["accuracy"], target=0.9)
