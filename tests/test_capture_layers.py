"""The step of every layer, loss and optimizer as one captured graph: forward, backward and update with eager's bits."""

import numpy as np
import pytest
from layer_table import LAYERS
from op_run import STANDIN

import nnbackend as nb
from nnbackend import nn, optim, tree
from nnbackend.backend import KERNELS, SYNC, cuda_status

pytestmark = [
    pytest.mark.skipif(not cuda_status().usable, reason="needs CUDA"),
    pytest.mark.skipif(not KERNELS or SYNC, reason="without kernels nothing is captured"),
]

STEPS = 6  # two are recorded, one is run unit by unit, one is captured and launched, and two are launched
LINES = {line.id: line for line in LAYERS if line.id != "Dropout3d (4,3,2)"}  # which has too few axes to be trained
FEW = [  # of each family one that compiles little, for a machine that compiles with g++
    "Linear 3 2 (4,3)", "ReLU (5,7)", "Softmax 1 (4,3,2)", "Dropout2d (4,3,2)", "Flatten (2,3,4)",
    "PixelShuffle 2 (2,8,2,3)", "CircularPad1d (2, 1) (2,3,5)",
    "Conv2d 3 4 (2, 3) stride=(2, 1) padding=(1, 2) dilation=(1, 2) bias=False (2,3,5,6)",
    "ConvTranspose3d 2 3 2 dilation=2 bias=False (1,2,2,3,2)", "Unfold 2 padding=1 stride=2 (2,3,4,5)",
    "Fold (3, 4) 2 (2,8,6)", "MaxPool2d 2 return_indices=True (2,2,5,6)", "MaxUnpool1d 2 (2,3,2) (2,3,2)",
    "AdaptiveMaxPool3d 3 (1,2,4,4,5)", "Upsample scale_factor=2 (2,3,4)", "BatchNorm2d 3 (4,3,2,5)",
    "InstanceNorm2d 3 (3,4,5)", "LayerNorm (3, 5) 0.001 bias=False (2,3,5)", "RMSNorm (3, 5) 0.001 False (2,3,5)",
    "GroupNorm 2 4 (2,4,3)", "Embedding 7 3 (4,5)", "EmbeddingBag 7 3 mode='sum' (6,) (3,)",
    "LSTMCell 3 2 (4,3) (4,2) (4,2)", "BCEWithLogitsLoss (4,3) (4,3)",
]  # fmt: skip
FEW_RULES = ["SAM", "Rprop"]  # test_replay_cuda.py has others
RULES = [name for name in optim.__all__ if optim.Optimizer in getattr(getattr(optim, name), "__mro__", ())[1:]]


class Trained:
    """What is trained for some steps, compiled or not."""

    def run(self):
        """The losses, then all that has been learned or counted."""
        losses = [self.step(*self.inputs) for _ in range(STEPS)]
        return [y.numpy() for y in [*losses, *self.learned, *self.net.state_dict().values()]]


class Layer(Trained):
    """A line of the table with its float inputs, of a loss the first, scaled by parameters."""

    def __init__(self, line):
        self.net, self.form = line.build().init(0).to("cuda", "float32").train(), line.draw()
        inputs = [x for x in tree.leaves(self.form) if isinstance(x, np.ndarray)]
        floats = [x for x in inputs if x.dtype.kind == "f"][: 1 if isinstance(self.net, nn.loss.Loss) else None]
        self.inputs = [nb.tensor(x, "float32" if x.dtype.kind == "f" else None, "cuda") for x in inputs]
        self.learned = [nn.Parameter(nb.tensor(np.ones(x.shape, "float32"), device="cuda")) for x in floats]
        self.optimizer = optim.SGD([*self.net.parameters(), *self.learned], lr=1e-3)

    def step(self, *given):
        self.optimizer.zero_grad()
        given, scales = iter(given), iter(self.learned)
        args = tree.mapped(lambda x: self.scaled(next(given), scales) if isinstance(x, np.ndarray) else x, self.form)
        outputs = [y for y in tree.leaves(self.net(*args)) if isinstance(y, nb.Tensor) and y.dtype.kind == "f"]
        loss = sum((y * y).sum() for y in outputs)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def scaled(self, x, scales):
        return x * next(scales, 1) if x.dtype.kind == "f" else x


class Ruled(Trained):
    """Two layers, matrices alone, with an optimizer."""

    def __init__(self, rule):
        self.net = nn.Sequential(nn.Linear(5, 8, bias=False), nn.Tanh(), nn.Linear(8, 4, bias=False)).init(0).to("cuda")
        if rule == "SAM":
            self.optimizer = optim.SAM(optim.SGD(self.net.parameters(), lr=0.1))
        else:
            self.optimizer = getattr(optim, rule)(self.net.parameters(), lr=0.1)
        self.inputs = [nb.tensor(np.random.default_rng(0).standard_normal((4, 5)).astype("float32"), device="cuda")]
        self.learned = []
        self.step = self.by_closure if rule in ("SAM", "LBFGS") else self.by_gradients

    def objective(self, x):
        self.optimizer.zero_grad()
        y = self.net(x)
        loss = (y * y).mean()
        loss.backward()
        return loss

    def by_closure(self, x):
        return self.optimizer.step(lambda: self.objective(x)).detach()

    def by_gradients(self, x):
        loss = self.objective(x)
        self.optimizer.step()
        return loss.detach()


def check(make, recorded="step"):
    """The same bits as eager, from a graph; `recorded` is the method that is compiled."""
    eager, replayed = make(), make()
    compiled = nb.compile(getattr(replayed, recorded))
    setattr(replayed, recorded, compiled)
    for a, b in zip(eager.run(), replayed.run(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (compiled.why, compiled.ungraphed) == (None, None)
    assert compiled.kernels


@pytest.mark.parametrize("line", FEW if STANDIN else LINES)
def test_the_step_of_a_layer(line):
    check(lambda: Layer(LINES[line]))


@pytest.mark.parametrize("rule", FEW_RULES if STANDIN else RULES)
def test_the_step_of_an_optimizer(rule):
    """LBFGS looks at losses to find the length of its step, so its closure is what can be compiled."""
    check(lambda: Ruled(rule), "objective" if rule == "LBFGS" else "step")
