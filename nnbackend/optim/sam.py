"""SAM: an optimizer that looks around before it steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..backend import Array, namespace
from ..cells import Parameter, gradients_of
from ..errors import GraphError
from ..grad_mode import enable_grad
from ..tensor import Tensor
from .clip import get_total_norm
from .group import ParamGroup
from .limits import not_negative
from .optimizer import Optimizer

__all__ = ["SAM"]


class SAM(Optimizer):
    """Sharpness-aware minimisation (Foret et al. 2021): steps by the gradient at the worst point within `rho`.

    `adaptive` measures distance relative to each weight (Kwon et al. 2021). Parameters, groups, settings and the state
    dict are those of `base_optimizer`; `sam.settings["rho"]` may change at any step.
    """

    def __init__(self, base_optimizer: Optimizer, rho: float = 0.05, adaptive: bool = False) -> None:
        if not isinstance(base_optimizer, Optimizer):
            raise TypeError(
                f"SAM: expected an optimizer, got {type(base_optimizer).__name__}. Use SAM(optim.SGD(...))."
            )
        if type(base_optimizer).step is not Optimizer.step:
            raise ValueError(
                f"SAM: expected an optimizer that steps by given gradients, got {type(base_optimizer).__name__}."
            )
        self.base = base_optimizer
        self.defaults, self.param_groups = base_optimizer.defaults, base_optimizer.param_groups
        self.schedules = base_optimizer.schedules
        self.settings = ParamGroup([], {"rho": rho, "adaptive": adaptive}, {"rho": not_negative})

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """`closure` clears the gradients, computes the loss and goes back; it is called twice. Returns the first loss.

        The weights are exactly what they were when the base takes its step; batch norm sees both calls.
        """
        if closure is None:
            raise ValueError(
                "SAM.step: expected a closure, got none. Use sam.step(closure), where closure() calls zero_grad(), "
                "computes the loss, calls its backward() and returns it."
            )
        with enable_grad():
            loss = closure()
        kept = self._climb()
        try:
            with enable_grad():
                closure()
        finally:
            for p, w in kept:
                p.assign(w)
        self.base.step()
        return loss

    def _climb(self) -> list[tuple[Parameter, Any]]:
        """Go `rho` uphill; returns the weights as they were."""
        params = [p for group in self.param_groups for p in group.params]
        reached = [(p, g) for p, g in zip(params, gradients_of(params), strict=True) if g is not None]
        if not reached:
            raise GraphError("SAM.step: expected gradients, got none. Call loss.backward() in the closure.")
        kept = [(p, Tensor(p.data).clone()) for p, _ in reached]
        sizes = [_size(w.data) if self.settings["adaptive"] else 1.0 for _, w in kept]
        slopes = [size * g for size, (_, g) in zip(sizes, reached, strict=True)]
        scale = self.settings["rho"] / (get_total_norm(slopes).data + 1e-12)
        for (p, w), size, slope in zip(kept, sizes, slopes, strict=True):
            p.assign(w.data + scale * size * slope)
        return kept

    # -- the rest is the base's
    def bind(self, params: Iterable[Parameter]) -> Optimizer:
        """A SAM of the base's copy for these parameters."""
        return SAM(self.base.bind(params), **self.settings.settings())

    def prepare(self) -> None:
        """Let the base lay its parameters out."""
        self.base.prepare()

    def add_param_group(self, group: dict[str, Any]) -> None:
        """More parameters for the base."""
        self.base.add_param_group(group)

    def state_dict(self, copy: bool = True) -> dict[str, Any]:
        """The base's."""
        return self.base.state_dict(copy)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on as the base that gave this state."""
        self.base.load_state_dict(state)

    def __repr__(self) -> str:
        return f"SAM({self.base!r}, {', '.join(f'{k}={v}' for k, v in self.settings.settings().items())})"


def _size(w: Array) -> Array:
    return namespace(w).abs(w)
