"""The rules, from simple to less so. Each is written for one array; `Optimizer` applies it to all at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..backend import Array
from ..cells import Parameter
from .flat import Start
from .group import ParamGroup
from .optimizer import Optimizer

__all__ = ["SGD"]


class SGD(Optimizer):
    """w -= lr * g, with momentum, Nesterov's look ahead and weight decay as in PyTorch."""

    def __init__(
        self,
        params: Iterable[Any] | None = None,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        if nesterov and (not momentum or dampening):
            raise ValueError("SGD: expected momentum > 0 and dampening 0 for nesterov.")
        super().__init__(
            params,
            lr=lr,
            momentum=momentum,
            dampening=dampening,
            weight_decay=weight_decay,
            nesterov=nesterov,
            maximize=maximize,
        )

    def slots(self, group: ParamGroup, p: Parameter) -> Mapping[str, Start]:
        """The velocity, where there is momentum."""
        return {"momentum_buffer": 0.0} if group["momentum"] else {}

    def rule(self, group: ParamGroup, w: Array, g: Array, t: Any, **memory: Any) -> None:
        """Sutskever et al., "On the importance of initialization and momentum", 2013."""
        if memory:
            momentum, v = group["momentum"], memory["momentum_buffer"]
            v *= momentum
            v += (1.0 - group["dampening"] * (t > 1)) * g if group["dampening"] else g
            g = g + momentum * v if group["nesterov"] else v
        w -= group["lr"] * g
