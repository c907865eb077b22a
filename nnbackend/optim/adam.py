"""Adam and its kin: running means of the gradient and of its square."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..backend import Array, blend, descend, namespace
from ..cells import Parameter
from .flat import Start
from .group import ParamGroup
from .optimizer import Optimizer

__all__ = ["Adam", "AdamW", "Adamax", "NAdam", "RAdam"]


class Adam(Optimizer):
    """Steps of about lr, whatever the size of the gradient (Kingma and Ba 2015). `weight_decay` adds to gradients.

    `amsgrad` divides by the largest mean square so far (Reddi et al. 2018).
    """

    optional = ("max_exp_avg_sq",)

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
        blend(m, beta1, g, 1.0 - beta1)
        blend(v, beta2, g * g, 1.0 - beta2)
        if group["amsgrad"]:
            largest = memory["max_exp_avg_sq"]
            largest[...] = v = namespace(v).maximum(largest, v)
        correct1, correct2 = 1.0 - beta1**t, (1.0 - beta2**t) ** 0.5
        size = namespace(v).sqrt(v)
        size += group["eps"] * correct2
        descend(w, group["lr"] * correct2 / correct1, m / size)


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


class Adamax(Optimizer):
    """Adam with the largest recent gradient instead of their mean square (Kingma and Ba 2015, section 7.1)."""

    def __init__(
        self,
        params: Iterable[Any] | None = None,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, maximize=maximize)

    def slots(self, group: ParamGroup, p: Parameter) -> Mapping[str, Start]:
        """The running mean of the gradient, and its decaying maximum."""
        return {"exp_avg": 0.0, "exp_inf": 0.0}

    def rule(self, group: ParamGroup, w: Array, g: Array, t: Any, **memory: Any) -> None:
        """Algorithm 2 of the paper."""
        (beta1, beta2), m, largest, xp = group["betas"], memory["exp_avg"], memory["exp_inf"], namespace(w)
        blend(m, beta1, g, 1.0 - beta1)
        largest[...] = xp.maximum(beta2 * largest, xp.abs(g) + group["eps"])
        descend(w, group["lr"] / (1.0 - beta1**t), m / largest)


class RAdam(Optimizer):
    """Adam that starts as momentum, until the mean of squares can be trusted (Liu et al. 2020)."""

    def __init__(
        self,
        params: Iterable[Any] | None = None,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            decoupled_weight_decay=decoupled_weight_decay,
            maximize=maximize,
        )

    def slots(self, group: ParamGroup, p: Parameter) -> Mapping[str, Start]:
        """Running means of the gradient and of its square."""
        return {"exp_avg": 0.0, "exp_avg_sq": 0.0}

    def rule(self, group: ParamGroup, w: Array, g: Array, t: Any, **memory: Any) -> None:
        """Algorithm 2 of the paper; `trusted` is 0 in the first steps, where numbers stand in for what is undefined."""
        (beta1, beta2), m, v = group["betas"], memory["exp_avg"], memory["exp_avg_sq"]
        blend(m, beta1, g, 1.0 - beta1)
        blend(v, beta2, g * g, 1.0 - beta2)
        correct2 = 1.0 - beta2**t
        limit = 2.0 / (1.0 - beta2) - 1.0
        length = limit - 2.0 * t * beta2**t / correct2
        trusted = 1.0 * (length > 5.0)
        above = trusted * (length - 4.0) * (length - 2.0) * limit * correct2
        below = trusted * (limit - 4.0) * (limit - 2.0) * length + (1.0 - trusted)
        size = namespace(v).sqrt(v)
        size += group["eps"]
        step = (above / below) ** 0.5 / size
        step += 1.0 - trusted
        step *= m
        descend(w, group["lr"] / (1.0 - beta1**t), step)


class NAdam(Optimizer):
    """Adam with Nesterov's look ahead (Dozat 2016)."""

    def __init__(
        self,
        params: Iterable[Any] | None = None,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            momentum_decay=momentum_decay,
            decoupled_weight_decay=decoupled_weight_decay,
            maximize=maximize,
        )

    def slots(self, group: ParamGroup, p: Parameter) -> Mapping[str, Start]:
        """Running means of the gradient and of its square."""
        return {"exp_avg": 0.0, "exp_avg_sq": 0.0}

    def numbers(self, group: ParamGroup) -> Mapping[str, float]:
        """The product of the momenta so far."""
        return {"mu_product": 1.0}

    def rule(self, group: ParamGroup, w: Array, g: Array, t: Any, **memory: Any) -> None:
        """Algorithm 2 of the paper, with a momentum that grows to beta1."""
        (beta1, beta2), m, v, product = group["betas"], memory["exp_avg"], memory["exp_avg_sq"], memory["mu_product"]
        mu = beta1 * (1.0 - 0.5 * 0.96 ** (t * group["momentum_decay"]))
        mu_next = beta1 * (1.0 - 0.5 * 0.96 ** ((t + 1) * group["momentum_decay"]))
        product.value = mu * product.value
        blend(m, beta1, g, 1.0 - beta1)
        blend(v, beta2, g * g, 1.0 - beta2)
        correct2 = (1.0 - beta2**t) ** 0.5
        size = namespace(v).sqrt(v)
        size += group["eps"] * correct2
        step = (1.0 - mu) / (1.0 - product.value) * g
        descend(step, -mu_next / (1.0 - product.value * mu_next), m)
        step /= size
        descend(w, group["lr"] * correct2, step)
