"""The adding problem: an LSTM reads 50 numbers, two of them marked, and gives the sum of those two.

One mark is in the first half, one in the second, and to answer always 1 has a mean square error of 1/6 (Hochreiter and
Schmidhuber 1997; Le et al. 2015). For some epochs nothing seems to happen.
"""

import numpy as np
from flags import finish, opened, parse
from pictures import curves

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import nn, optim

LENGTH, BATCH, BASELINE = 50, 50, 1 / 6


def draw(rng, n):
    """Sequences (n, LENGTH, 2) of numbers from 0 to 1 and marks, and the sums (n, 1)."""
    numbers, marks, rows = rng.random((n, LENGTH)), np.zeros((n, LENGTH)), np.arange(n)
    marks[rows, rng.integers(0, LENGTH // 2, n)] = 1
    marks[rows, rng.integers(LENGTH // 2, LENGTH, n)] = 1
    sums = (numbers * marks).sum(axis=1, keepdims=True)
    return np.stack([numbers, marks], axis=2).astype("float32"), sums.astype("float32")


class Adder(nn.Module):
    """An LSTM, and a linear layer on its last output."""

    def __init__(self, hidden=64):
        self.lstm = nn.LSTM(2, hidden, batch_first=True)
        self.sum = nn.Linear(hidden, 1)

    def forward(self, x):
        """(n, t, 2) -> (n, 1)."""
        outputs, _ = self.lstm(x)
        return self.sum(outputs[:, -1, :])


def run(seed, device="cpu", epochs=12, batches=250, verbose=False, resume=None):
    """Train on fresh sequences, `batches` to an epoch; returns the network and the test error after each epoch."""
    net, rng = Adder().init(seed).to(device), np.random.default_rng(seed)
    adam = optim.Adam(net.parameters(), lr=5e-3)
    x_test, y_test = (nb.tensor(part, device=device) for part in draw(rng, 1000))

    @nb.compile
    def step(x, y):
        loss = F.mse_loss(net(x), y)
        adam.zero_grad()
        loss.backward()
        optim.clip_grad_norm(net.parameters(), 1.0)
        adam.step()
        return loss

    file, state = opened(resume, {"net": net, "adam": adam, "rng": rng, "errors": []})
    errors = state["errors"]
    for epoch in range(len(errors) + 1, epochs + 1):
        for _ in range(batches):
            loss = step(*(nb.tensor(part, device=device) for part in draw(rng, BATCH)))
        with nb.no_grad():
            errors.append(float(F.mse_loss(net(x_test), y_test)))
        if file:
            nb.save(state, file)
        if verbose:
            print(f"epoch {epoch:2}  loss {float(loss):.5f}  test {errors[-1]:.5f}  guess {BASELINE:.5f}", flush=True)
    return net, errors


if __name__ == "__main__":
    args = parse(__doc__.splitlines()[0], epochs=12, picture="the test error after each epoch")
    least = {"epochs": 2, "batches": 2} if args.smoke else {"epochs": args.epochs}
    net, errors = run(args.seed, args.device, **least, verbose=True, resume=args.resume)
    if args.picture:
        lines = {"test": errors, "always 1": [BASELINE] * len(errors)}
        curves(args.picture, range(1, len(errors) + 1), lines, "epoch", "mean square error", log=True)
    finish(args, net, "test error", errors[-1], target=0.01, less=True)
