"""XOR, the smallest problem that needs a hidden layer: the tutorial of `xor_numpy.py` with nnbackend."""

import numpy as np
from flags import finish, kept, parse

import nnbackend as nb
from nnbackend import nn, optim


def network(seed=42):
    """The tutorial's network with the tutorial's starting weights; ours are (out, in), as in PyTorch."""
    net = nn.Sequential(nn.Linear(2, 4), nn.Sigmoid(), nn.Linear(4, 1), nn.Sigmoid()).to("float64")
    rng = np.random.RandomState(seed)
    W1, W2 = rng.randn(2, 4) * 0.5, rng.randn(4, 1) * 0.5
    net.load_state_dict({"0.weight": W1.T, "0.bias": np.zeros(4), "2.weight": W2.T, "2.bias": np.zeros(1)})
    return net


def trainer(seed=42, device="cpu"):
    """Gradient descent on the mean square error of all four rows."""
    return nb.Trainer(network(seed), loss="mse", optimizer=optim.SGD(lr=0.5), metrics=["accuracy"], device=device)


if __name__ == "__main__":
    args = parse(__doc__, epochs=10_000, seed=42)
    X, y = nb.data.xor()
    run = trainer(args.seed, args.device)
    run.fit(X, y, epochs=args.epochs, batch_size=None, report_every=2_000, **kept(args))
    for row, output in zip(X, run.predict(X), strict=True):
        print(f"{row} -> {output[0]:.3f}")
    finish(args, run.net, "accuracy", run.evaluate(X, y)["accuracy"], target=1.0)
