"""Autoencoder: 64 pixels of a digit squeezed into 8 numbers and drawn again, better than by principal components."""

import numpy as np
from flags import finish, kept, parse
from pictures import grid

import nnbackend as nb
from nnbackend import data, nn, optim


def pca(X, X_test, components):
    """The best that straight lines can do: test images on the first principal components of X, and back."""
    mean = X.mean(axis=0)
    axes = np.linalg.svd(X - mean, full_matrices=False)[2][:components]
    return np.clip(mean + (X_test - mean) @ axes.T @ axes, 0.0, 1.0)


def run(seed, device="cpu", epochs=60, code=8, verbose=False, **kept):
    """Train on three quarters of the images; returns the trainer, and the rest: as it is, by the net, by PCA."""
    digits = data.digits()
    (X, _), (X_test, _) = data.split(digits.X / 16.0, digits.y, test=0.25, stratify=digits.y, seed=seed)
    encoder, decoder = nn.MLP([64, 256, code], "silu"), nn.MLP([code, 256, 64], "silu", output="sigmoid")
    net = nn.Sequential({"encoder": encoder, "decoder": decoder})
    trainer = nb.Trainer(net, "mse", optim.Adam(lr=2e-3), device=device, seed=seed)
    trainer.fit(X, X, epochs, validation_data=(X_test, X_test), report_every=10, verbose=verbose, **kept)
    return trainer, X_test, trainer.predict(X_test), pca(X, X_test, code)


def text(*images):
    """Digits side by side, in characters that get darker."""
    shades = np.array(list(" .:-=+*#%@"))
    rows = [shades[np.clip(image * 10, 0, 9).astype(int)].reshape(8, 8).repeat(2, axis=1) for image in images]
    return "\n".join("   ".join("".join(row) for row in line) for line in zip(*rows, strict=True))


if __name__ == "__main__":
    args = parse(__doc__, epochs=60, picture="test digits above what the net and PCA make of them")
    epochs = 2 if args.smoke else args.epochs
    trainer, images, drawn, flat = run(args.seed, args.device, epochs, verbose=True, **kept(args))
    error, error_pca = (((again - images) ** 2).mean() for again in (drawn, flat))
    print(f"square error on test digits: {error:.4f}, by 8 principal components {error_pca:.4f}")
    if args.picture:
        grid(args.picture, np.concatenate([images[:10], drawn[:10], flat[:10]]).reshape(-1, 8, 8))
    else:
        print(text(images[0], drawn[0], flat[0]), f"{'digit':19}{'by the net':19}by PCA", sep="\n")
    finish(args, trainer.net, "test error as a share of PCA's", error / error_pca, target=0.6, less=True)
