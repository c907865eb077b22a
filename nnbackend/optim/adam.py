"""Adam and its kin: running means of the gradient and of its square."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..backend import Array, namespace
from ..cells import Parameter
from .flat import Start
from .group import ParamGroup
from .optimizer import Optimizer

__all__ = ["Adam", "AdamW"]


class Adam(Optimizer):
    """Steps of about lr, whatever the size of the gradient (Kingma and Ba 2015). `weight_decay` adds to gradients.

    `amsgrad` divides by the largest mean square so far (Reddi et al. 2018).
    """

    def __init__(
        self,
        params: Iterable[Any] | None = None,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            amsgrad=amsgrad,
            maximize=maximize,
            decoupled_weight_decay=decoupled_weight_decay,
        )

    def slots(self, group: ParamGroup, p: Parameter) -> Mapping[str, Start]:
        """Running means of the gradient and of its square, and the largest of the latter."""
        return dict.fromkeys(("exp_avg", "exp_avg_sq", *["max_exp_avg_sq"] * group["amsgrad"]), 0.0)

    def rule(self, group: ParamGroup, w: Array, g: Array, t: Any, **memory: Any) -> None:
        """Algorithm 1 of the paper; the bias corrections are numbers, not arrays."""
        (beta1, beta2), m, v = group["betas"], memory["exp_avg"], memory["exp_avg_sq"]
        m *= beta1
        m += (1.0 - beta1) * g
        v *= beta2
        v += (1.0 - beta2) * (g * g)
        if "max_exp_avg_sq" in memory:
            largest = memory["max_exp_avg_sq"]
            largest[...] = v = namespace(v).maximum(largest, v)
        correct1, correct2 = 1.0 - beta1**t, (1.0 - beta2**t) ** 0.5
        size = namespace(v).sqrt(v)
        size += group["eps"] * correct2
        step = (group["lr"] * correct2 / correct1) * m
        step /= size
        w -= step


class AdamW(Adam):
    """Adam with weight decay of its own, apart from the gradient (Loshchilov and Hutter 2019)."""

    def __init__(
        self,
        params: Iterable[Any] | None = None,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize, decoupled_weight_decay=True)
