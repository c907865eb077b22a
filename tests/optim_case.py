"""A plan for an optimizer and how to carry it out, in our library or in PyTorch: the two are used alike.

`ci/oracles/torch_optim.py` compares them directly; `fixtures/torch_trajectories.safetensors` has PyTorch's answers.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import nnbackend as nb

CHECKED = (1, 2, 3, 10, 25)  # steps after which weights are compared
SHAPES = {"plain": [(3, 4), (4,), (2, 1, 3), ()], "matrices": [(3, 4), (4, 2), (2, 2)], "fit": [(3, 2), (2,)]}


@dataclass
class Plan:
    """An optimizer with settings on given gradients, and what happens on the way. Parameters go by their numbers."""

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    groups: list[Any] = field(default_factory=list)  # pairs of a count of parameters and their settings; all in one: []
    changes: list[Any] = field(default_factory=list)  # before step n, a setting of the first group becomes a value
    absent: list[Any] = field(default_factory=list)  # at step n, a parameter that has no gradient
    frozen: list[int] = field(default_factory=list)  # parameters that need none

    @property
    def problem(self) -> str:
        """Which of `SHAPES` suits the optimizer."""
        return {"Muon": "matrices", "LBFGS": "fit"}.get(self.name, "plain")

    @property
    def happens(self) -> dict[str, Any]:
        """All but the name and the settings, where there is anything."""
        return {k: v for k, v in vars(self).items() if v and k not in ("name", "settings")}

    def __str__(self) -> str:
        return f"{self.name}({', '.join(f'{k}={v}' for k, v in {**self.settings, **self.happens}.items())})"


def problems(seed: int = 0) -> dict[str, Any]:
    """Where weights start and their gradients at each step, some of them 0; for LBFGS the data of a regression."""
    rng, arrays = np.random.default_rng(seed), {}
    for problem, shapes in SHAPES.items():
        for i, shape in enumerate(shapes):
            arrays[f"{problem}.start.{i}"] = rng.standard_normal(shape)
            if problem != "fit":
                grads = rng.standard_normal((CHECKED[-1], *shape))
                arrays[f"{problem}.grads.{i}"] = grads * (rng.random(grads.shape) < 0.9)
    return arrays | {"fit.x": rng.standard_normal((8, 3)), "fit.y": rng.standard_normal((8, 2))}


class Player:
    """A plan on its way. `lib` is our library or PyTorch; `recorded` compiles the step, or the closure of LBFGS."""

    def __init__(
        self, lib: Any, plan: Plan, arrays: Mapping[str, Any], place: Any = "cpu", recorded: bool = False
    ) -> None:
        self.lib, self.plan, self.place, self.n = lib, plan, place, 0
        self.arrays = {k.partition(".")[2]: v for k, v in arrays.items() if k.startswith(plan.problem)}
        shapes = SHAPES[plan.problem]
        self.params = [lib.nn.Parameter(self._tensor(self.arrays[f"start.{i}"])) for i in range(len(shapes))]
        for i in plan.frozen:
            self.params[i].requires_grad_(False)
        rest = iter(self.params)
        groups = [{"params": [next(rest) for _ in range(n)], **self._settings(s)} for n, s in plan.groups]
        self.optimizer = getattr(lib.optim, plan.name)(groups or self.params, **self._settings(plan.settings))
        self.update, self.fit = (nb.compile(f) if recorded else f for f in (self._update, self._fit))

    def fresh(self) -> None:
        """Another optimizer for the weights as they are, with its settings as they come."""
        rest = iter(self.params)
        counts = [n for n, _ in self.plan.groups] or [len(self.params)]
        groups = [{"params": [next(rest) for _ in range(n)]} for n in counts]
        self.optimizer = type(self.optimizer)(groups)

    def step(self) -> None:
        """The next step."""
        self.n += 1
        for _, key, value in (change for change in self.plan.changes if change[0] == self.n):
            self.optimizer.param_groups[0][key] = value
        if self.plan.problem == "fit":
            self.optimizer.step(self.fit)
            return
        gone = {*self.plan.frozen, *(i for n, i in self.plan.absent if n == self.n)}
        grads = [self.arrays[f"grads.{i}"][self.n - 1] for i in range(len(self.params))]
        self.update([None if i in gone else self._tensor(g) for i, g in enumerate(grads)])

    def weights(self) -> Any:
        """All weights as one flat array."""
        return np.concatenate([p.detach().numpy().ravel() for p in self.params])

    def checked(self) -> Iterator[Any]:
        """The weights after each of the steps that are `CHECKED`."""
        for _ in range(CHECKED[-1]):
            self.step()
            if self.n in CHECKED:
                yield self.weights()

    def _tensor(self, x: Any) -> Any:
        return self.lib.tensor(x, device=self.place)

    def _settings(self, settings: dict[str, Any]) -> dict[str, Any]:
        """An array among the settings stands for a tensor."""
        return {k: self._tensor(v) if isinstance(v, np.ndarray) else v for k, v in settings.items()}

    def _update(self, grads: list[Any]) -> None:
        for p, g in zip(self.params, grads, strict=True):
            p.grad = g
        self.optimizer.step()

    def _fit(self) -> Any:
        """A convex loss: elsewhere L-BFGS turns rounding errors into whole numbers, PyTorch's as well as ours."""
        x, y, (w, b) = self._tensor(self.arrays["x"]), self._tensor(self.arrays["y"]), self.params
        self.optimizer.zero_grad()
        far = x @ w + b - y
        loss = (far**2 + 0.1 * far**4).mean() + 0.1 * (w**2).sum()
        loss.backward()
        return loss


def close(ours: Any, theirs: Any, rtol: float = 1e-10) -> float:
    """The largest difference, relative to the largest weight. AssertionError if it exceeds `rtol`."""
    worst = float(np.max(np.abs(ours - theirs)) / np.max(np.abs(theirs)))
    assert worst <= rtol, f"weights differ by {worst:.1e} of the largest"  # also if it is nan
    return worst
