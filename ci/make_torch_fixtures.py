"""What PyTorch answers, as small files for the tests, which never import it.

    pip install torch expecttest && python -m ci.make_torch_fixtures [folder]

All in float64. Each file under tests/fixtures holds arrays by name; its metadata `cases` is a list in JSON.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ci.oracles.torch_optim import MORE, UNMAPPED, answered, database, happenings
from nnbackend.io import safetensors
from tests.optim_case import problems

HAPPENINGS = ["SGD", "NAdam", "ASGD", "Adafactor", "Muon"]  # rules that know more than the number of the step
HISTORIES = ["tied", "frozen", "frozen_later", "unreached", "late", "sometimes"]


def main(folder):
    folder.mkdir(exist_ok=True)
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    for seed, make in enumerate((trajectories, histories, losses, activations, names)):
        arrays, cases = make(np.random.default_rng(seed))
        write(folder / f"torch_{make.__name__}.safetensors", arrays, cases)


def write(path, arrays, cases):
    safetensors.write(path, arrays, {"cases": json.dumps(cases), "torch": torch.__version__})
    print(f"{path}: {path.stat().st_size} bytes")


def plain(t):
    return t.detach().numpy().copy()


def trajectories(_):
    """Optimizers on given gradients: weights after some of 25 steps."""
    arrays, cases = problems(), []
    happening = [plan for name in HAPPENINGS for plan in happenings(name)]
    for plan in (*database(), *MORE, *happening):
        if plan.name not in UNMAPPED:
            arrays[f"weights.{len(cases)}"] = np.stack(answered(plan, arrays))
            plan.settings = {k: float(v) if isinstance(v, np.ndarray) else v for k, v in plan.settings.items()}
            cases.append({k: v for k, v in vars(plan).items() if v})
    return arrays, cases


class Three(nn.Module):
    """Layer b may be left out."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x, use_b):
        """(n, 4) -> (n, 4)."""
        x = torch.tanh(self.a(x))
        if use_b:
            x = x + torch.tanh(self.b(x))
        return self.c(x)


def histories(rng):
    """Twelve steps of a net whose layer b is tied, frozen, not reached, ...; weights at the end."""
    x, y = rng.standard_normal((2, 6, 4))
    arrays = {"x": x, "y": y}
    start = {name: rng.standard_normal(p.shape) * 0.5 for name, p in Three().named_parameters()}
    arrays |= {f"start.{name}": a for name, a in start.items()}
    optimizers = [
        ["SGD", {"lr": 0.1, "momentum": 0.9}],
        ["AdamW", {"lr": 0.05, "weight_decay": 0.1}],
        ["NAdam", {"lr": 0.05}],
        ["ASGD", {"lr": 0.1, "t0": 3}],
        ["Adafactor", {"lr": 0.1}],
    ]
    cases = [[what, *optimizer] for what in HISTORIES for optimizer in optimizers]
    for n, (what, name, settings) in enumerate(cases):
        net = Three()
        net.load_state_dict({k: torch.tensor(v) for k, v in start.items()})
        if what == "tied":
            net.b.weight = net.a.weight
        net.b.requires_grad_(what != "frozen")
        late = list(net.b.parameters()) if what == "late" else []
        first = [p for p in net.parameters() if all(p is not q for q in late)]
        optimizer = getattr(torch.optim, name)(first, **settings)
        for step in range(12):
            if what == "frozen_later":
                net.b.requires_grad_(not 4 <= step < 8)
            if late and step == 5:
                optimizer.add_param_group({"params": late, "lr": 0.02})
            optimizer.zero_grad()
            use_b = what != "unreached" and not (what == "sometimes" and step % 3 != 1)
            ((net(torch.tensor(x), use_b) - torch.tensor(y)) ** 2).mean().backward()
            optimizer.step()
        arrays |= {f"end.{n}.{k}": plain(v) for k, v in net.state_dict().items()}
    return arrays, cases


def losses(rng):
    """Every loss and reduction: value and gradient, for random weights of the values without reduction."""
    probabilities = rng.random((2, 3, 4, 2))
    inputs = {
        "flat": (3 * rng.standard_normal((4, 3)), 3 * rng.standard_normal((4, 3))),
        "vector": (rng.standard_normal(5), rng.standard_normal(5)),
        "deep": (3 * rng.standard_normal((2, 3, 4)), 3 * rng.standard_normal((2, 3, 4))),
        "unit": (np.array([[0.0, 1.0, 0.3], [1.0, 0.0, 1e-9]]), np.array([[0.0, 1.0, 0.8], [0.0, 1.0, 1.0]])),
        "unit_deep": (rng.random((2, 3, 4)), rng.random((2, 3, 4))),
        "logits": (np.array([[0.0, 40.0, -40.0], [1.5, -800.0, 800.0]]), np.array([[0.5, 1.0, 0.0], [0.2, 0.7, 1.0]])),
        "classes": (5 * rng.standard_normal((6, 4)), rng.integers(0, 4, 6)),
        "classes_deep": (rng.standard_normal((2, 3, 4, 2)), rng.integers(0, 3, (2, 4, 2))),
        "soft": (5 * rng.standard_normal((6, 4)), rng.random((6, 4))),
        "soft_deep": (rng.standard_normal((2, 3, 4, 2)), probabilities / probabilities.sum(1, keepdims=True)),
    }
    arrays = {f"input.{name}": a for name, (a, _) in inputs.items()}
    arrays |= {f"target.{name}": a for name, (_, a) in inputs.items()}
    plan = {
        "MSELoss": ("flat", "vector", "deep"), "L1Loss": ("flat", "vector", "deep"), "HuberLoss": ("flat", "deep"),
        "BCELoss": ("unit", "unit_deep"), "BCEWithLogitsLoss": ("logits", "unit_deep"),
        "NLLLoss": ("classes", "classes_deep"),
        "CrossEntropyLoss": ("classes", "classes_deep", "soft", "soft_deep"),
    }  # fmt: skip
    cases = [
        [name, {"reduction": r}, kind]
        for name, kinds in plan.items()
        for kind in kinds
        for r in ("mean", "sum", "none")
    ]
    cases += [["HuberLoss", {"delta": 0.4}, "flat"]]
    for n, (name, settings, kind) in enumerate(cases):
        x = torch.tensor(inputs[kind][0], requires_grad=True)
        value = getattr(nn, name)(**settings)(x, torch.tensor(inputs[kind][1]))
        weight = rng.standard_normal(value.shape)
        value.backward(torch.tensor(weight))
        arrays |= {f"value.{n}": plain(value), f"weight.{n}": weight, f"grad.{n}": plain(x.grad)}
    return arrays, cases


def activations(rng):
    """Every activation layer: value and gradient for random weights."""
    x = np.concatenate([[0.0, -0.0, 1.0, -1.0, 30.0, -30.0, 700.0, -700.0], 2 * rng.standard_normal(16)]).reshape(4, 6)
    weight = rng.standard_normal(x.shape)
    cases = [
        ["Sigmoid", {}], ["Tanh", {}], ["ReLU", {}], ["SiLU", {}], ["LogSigmoid", {}], ["LeakyReLU", {}],
        ["LeakyReLU", {"negative_slope": 0.3}], ["ELU", {}], ["ELU", {"alpha": 0.7}], ["GELU", {}],
        ["GELU", {"approximate": "tanh"}], ["Softplus", {}], ["Softplus", {"beta": 2.0, "threshold": 5.0}],
        ["Softmax", {"dim": -1}], ["Softmax", {"dim": 0}], ["LogSoftmax", {"dim": 1}], ["Identity", {}],
        ["Flatten", {"start_dim": 0}],
    ]  # fmt: skip
    arrays = {"x": x, "weight": weight}
    for n, (name, settings) in enumerate(cases):
        leaf = torch.tensor(x, requires_grad=True)
        value = getattr(nn, name)(**settings)(leaf)
        value.backward(torch.tensor(weight).reshape(value.shape))
        arrays |= {f"value.{n}": plain(value), f"grad.{n}": plain(leaf.grad)}
    return arrays, cases


def names(_):
    """Keys, shapes and the printed form of a nested model."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.lift = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
            self.scale = nn.Parameter(torch.ones(3))
            self.register_buffer("mean", torch.zeros(3))
            self.register_buffer("scratch", torch.zeros(2), persistent=False)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = Block()
            self.head = nn.Linear(3, 2, bias=False)
            self.blocks = nn.ModuleList([Block(), nn.Dropout(0.2)])
            self.gain = nn.Parameter(torch.ones(()))
            self.tied = nn.Linear(3, 3)
            self.tied.weight = self.encoder.lift[0].weight
            self.again = self.encoder

    net = Net()
    return {}, {
        "state": [[name, list(value.shape)] for name, value in net.state_dict().items()],
        "parameters": [name for name, _ in net.named_parameters()],
        "buffers": [name for name, _ in net.named_buffers()],
        "modules": [name for name, _ in net.named_modules()],
        "repr": repr(net),
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).parents[1] / "tests" / "fixtures")
