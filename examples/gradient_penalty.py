"""Second order: how far is it from a ring to the ring around it? A critic says, whose slope is held near 1.

The earth mover's distance between two distributions is the most that the means of a function over them can differ, if
its slope is nowhere above 1 (Kantorovich and Rubinstein). A net becomes that function when it is trained to make the
means differ, with a penalty on slopes other than 1 at points between (Gulrajani et al. 2017, "Improved Training of
Wasserstein GANs"). The slope is a gradient, so the gradient of the loss is one of second order.
Rings of radius 1 and 2 are 1 apart: all earth moves straight outwards, and the best function is the radius.
"""

import numpy as np
from flags import finish, parse
from pictures import curves

import nnbackend as nb
from nnbackend import nn, optim

PENALTY = 30.0  # a slope of 1 + e gains e of distance and costs 30 e ** 2: the slope settles at e = 1 / 60


def slopes(net, x):
    """The length of the net's gradient at each of the points x (n, 2); rows do not mix, so one sum gives them all."""
    return nb.linalg.vector_norm(nb.grad(lambda x: net(x).sum())(x), axis=1)


def points(random, n, device):
    """Points (n, 2) of the inner ring, of the outer ring, and somewhere on the line from one to the other."""
    angle, part = random.uniform(0.0, 2.0 * np.pi, (2, n)), random.random((n, 1))
    inner, outer = np.stack([np.cos(angle), np.sin(angle)], axis=2) * [[[1.0]], [[2.0]]]
    return [nb.tensor(x, "float32", device) for x in (inner, outer, inner + part * (outer - inner))]


def run(seed, device="cpu", steps=1500, verbose=False):
    """Train the critic; returns it, the distance by fresh points, and the mean slope between the rings."""
    net = nn.MLP([2, 64, 64, 1], "relu").init(seed).to(device)
    adam = optim.Adam(net.parameters())
    random = np.random.default_rng(seed)

    def measure(inner, outer, between):
        return net(outer).mean() - net(inner).mean(), slopes(net, between)

    def means():
        return [float(value.mean()) for value in measure(*points(random, 10_000, device))]

    @nb.compile
    def step(*where):
        distance, slope = measure(*where)
        loss = PENALTY * ((slope - 1.0) ** 2).mean() - distance
        adam.zero_grad()
        loss.backward()
        adam.step()

    for i in range(steps):
        adam.param_groups[0]["lr"] = 3e-3 * (1.0 - i / steps)  # the program sees it change
        step(*points(random, 256, device))
        if verbose and (i + 1) % max(1, steps // 5) == 0:
            print("step {:5}  distance {:.4f}  slope {:.4f}".format(i + 1, *means()), flush=True)
    return net, *means()


if __name__ == "__main__":
    choices = {"unit": "steps", "picture": "the critic and its slope along a radius", "resume": False}
    args = parse(__doc__.splitlines()[0], epochs=1500, **choices)
    net, distance, slope = run(args.seed, args.device, 10 if args.smoke else args.epochs, verbose=True)
    print(f"the distance is 1; expected of a soft penalty: distance and slope {1 + 0.5 / PENALTY:.4f}")
    if args.picture:
        radius = np.linspace(0.0, 3.0, 301)
        line = nb.tensor(np.stack([radius, 0.0 * radius], axis=1), "float32", args.device)
        heights = net(line)[:, 0].numpy()
        lines = {"critic": heights - heights[100], "best critic": radius - 1.0, "slope": slopes(net, line).numpy()}
        curves(args.picture, radius, lines, "radius (the rings: 1 and 2)", "")
    error = max(abs(distance - 1.0), abs(slope - 1.0))
    finish(args, net, "error of distance and slope, the larger", error, target=0.05, less=True)
