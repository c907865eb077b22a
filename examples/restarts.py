"""XOR from 64 random starts: how many nets get stuck, and why. Start N is the tutorial's: `xor.py --seed N`.

All train together, as arrays with an axis of 64 in front: the loss of one net depends on no weight of another, so the
gradient of the sum of the losses trains each as if it were alone. `--how in_turn` takes one after the other instead.
"""

import time
from functools import partial

import numpy as np
from flags import finish, parse

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import nn, optim


class Nets(nn.Module):
    """Nets 2-hidden-1 of sigmoids side by side, one for each seed: weights (seeds, out, in)."""

    def __init__(self, seeds, hidden):
        draw, sizes = [np.random.RandomState(seed).randn for seed in seeds], [(2, hidden), (hidden, 1)]
        self.W1, self.W2 = (nn.Parameter(np.stack([randn(i, o).T * 0.5 for randn in draw])) for i, o in sizes)
        self.b1, self.b2 = (nn.Parameter(np.zeros((len(seeds), 1, o))) for _, o in sizes)

    def forward(self, x, y):
        """Hidden units (seeds, 4, hidden), outputs (seeds, 4, 1) and mean square errors (seeds,)."""
        a = F.sigmoid(x @ self.W1.mT + self.b1)
        outputs = F.sigmoid(a @ self.W2.mT + self.b2)
        return a, outputs, ((outputs - y) ** 2).mean(axis=(1, 2))


def descend(nets, sgd, x, y):
    """One step of gradient descent on all four rows."""
    sgd.zero_grad()
    nets(x, y)[2].sum().backward()
    sgd.step()


def run(seeds, hidden=4, how="together", steps=10_000, device="cpu"):
    """Returns the trained nets, and of each its hidden units, outputs, error and length of the gradient."""
    x, y = (nb.tensor(array, device=device) for array in nb.data.xor())
    parts = nn.ModuleList([Nets(s, hidden) for s in ([seeds] if how == "together" else [[s] for s in seeds])])
    found = []
    for nets in parts.to(device):
        step = nb.compile(partial(descend, nets, optim.SGD(nets.parameters(), lr=0.5)))
        for _ in range(steps):
            step(x, y)
        found.append((*nets(x, y), sum((p.grad**2).sum(axis=(1, 2)) for p in nets.parameters()) ** 0.5))
    return parts, [nb.concat(arrays).numpy() for arrays in zip(*found, strict=True)]


def report(seeds, a, outputs, errors, gradient):
    """Print what the unsolved do, by kind: by 100,000 steps (seed 0, --hidden 2) plateaus are left, rows still one."""
    gap = np.abs(a[:, [0, 0, 3, 3]] - a[:, [1, 2, 1, 2]]).max(axis=2).min(axis=1)  # of rows with different targets
    slope = (4 * a * (1 - a)).mean(axis=2).min(axis=1)  # of the sigmoids, in the row where they are flattest
    unsolved, still = errors >= 0.05, gradient < 0.005
    for kind, which in {
        "on a plateau: the sigmoids are all but straight, and nothing straight solves XOR": still & (errors > 0.2),
        "take two rows for one: where sigmoids are flat, nothing parts them": still & unsolved & (errors < 0.2),
        "on their way: the rows are parted and the gradient pulls": unsolved & ~still,
    }.items():
        if which.any():
            i, medians = which.argmax(), (np.median(v[which]) for v in (gradient, slope, gap))
            print(f"  {which.sum()} {kind}. Seed {seeds[i]} answers {outputs[i, :, 0].round(2)}")
            print("    medians: gradient {:.5f}, slope of sigmoids {:.3f}, distance of rows {:.3f}".format(*medians))


if __name__ == "__main__":
    how, hidden = ["together", "in_turn"], ["4", "2"]
    args = parse(__doc__.splitlines()[0], 10_000, unit="steps", resume=False, how=how, hidden=hidden)
    n, epochs, early = (4, 20, 4) if args.smoke else (64, args.epochs, max(1, args.epochs // 5))
    seeds = range(n * args.seed, n * args.seed + n)
    for some, steps in [(seeds[:1], early), (seeds, early), (seeds, epochs)]:
        start = time.perf_counter()
        nets, found = run(some, int(args.hidden), args.how, steps, args.device)
        us = (time.perf_counter() - start) / steps * 1e6
        print(f"{(found[2] < 0.05).sum()} of {len(some)} solved (MSE below 0.05) after {steps} steps of {us:.0f} us")
        report(some, *found)
    finish(args, nets, "share solved", (found[2] < 0.05).mean(), 0.95 if args.hidden == "4" else 0.7)
