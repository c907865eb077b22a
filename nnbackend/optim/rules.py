"""The rules, from simple to less so. Each is written for one array; `Optimizer` applies it to all at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..backend import Array, blend, descend, namespace
from ..cells import Parameter
from .flat import Start
from .group import ParamGroup
from .optimizer import Optimizer

__all__ = ["ASGD", "SGD", "Adadelta", "Adagrad", "Lion", "RMSprop", "Rprop"]


class SGD(Optimizer):
    """w -= lr * g, with momentum, Nesterov's look ahead and weight decay as in PyTorch."""

    optional = ("momentum_buffer",)

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
        if group["momentum"]:
            momentum, v = group["momentum"], memory["momentum_buffer"]
            blend(v, momentum, g, 1.0 - group["dampening"] * (t > 1) if group["dampening"] else 1.0)
            g = g + momentum * v if group["nesterov"] else v
        descend(w, group["lr"], g)


class Lion(Optimizer):
    """Steps of exactly lr: only the sign counts (Chen et al., "Symbolic discovery of optimization algorithms", 2023).

    Give it a third to a tenth of Adam's lr, and as much more weight decay, which is apart from the gradient.
    """

    def __init__(
        self,
        params: Iterable[Any] | None = None,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params, lr=lr, betas=betas, weight_decay=weight_decay, maximize=maximize, decoupled_weight_decay=True
        )

    def slots(self, group: ParamGroup, p: Parameter) -> Mapping[str, Start]:
        """A running mean of the gradient."""
        return {"exp_avg": 0.0}

    def rule(self, group: ParamGroup, w: Array, g: Array, t: Any, **memory: Any) -> None:
        """Program 1 of the paper: one beta for the step, one for the memory."""
        (beta1, beta2), m = group["betas"], memory["exp_avg"]
        descend(w, group["lr"], namespace(w).sign(beta1 * m + (1.0 - beta1) * g))
        blend(m, beta2, g, 1.0 - beta2)


class Adagrad(Optimizer):
    """Each weight's steps shrink as its gradients add up (Duchi et al. 2011): for rare features."""

    def __init__(
        self,
        params: Iterable[Any] | None = None,
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            lr_decay=lr_decay,
            weight_decay=weight_decay,
            initial_accumulator_value=initial_accumulator_value,
            eps=eps,
            maximize=maximize,
        )

    def slots(self, group: ParamGroup, p: Parameter) -> Mapping[str, Start]:
        """The sum of the squares."""
        return {"sum": group["initial_accumulator_value"]}

    def rule(self, group: ParamGroup, w: Array, g: Array, t: Any, **memory: Any) -> None:
        """Equation 1 of the paper, with a decaying lr."""
        total = memory["sum"]
        total += g * g
        size = namespace(w).sqrt(total)
        size += group["eps"]
        descend(w, group["lr"] / (1.0 + (t - 1) * group["lr_decay"]), g / size)


class RMSprop(Optimizer):
    """Steps by the size of recent gradients (Hinton's lecture 6e, 2012); by their variance, if `centered`."""

    optional = ("grad_avg", "momentum_buffer")

    def __init__(
        self,
        params: Iterable[Any] | None = None,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            alpha=alpha,
            eps=eps,
            weight_decay=weight_decay,
            momentum=momentum,
            centered=centered,
            maximize=maximize,
        )

    def slots(self, group: ParamGroup, p: Parameter) -> Mapping[str, Start]:
        """Running means of the square and, if `centered`, of the gradient; the velocity, where there is momentum."""
        wanted = {"square_avg": True, "grad_avg": group["centered"], "momentum_buffer": group["momentum"]}
        return {name: 0.0 for name, needed in wanted.items() if needed}

    def rule(self, group: ParamGroup, w: Array, g: Array, t: Any, **memory: Any) -> None:
        """Equations 38 to 45 of Graves, "Generating sequences with recurrent neural networks", with eps outside."""
        alpha, square = group["alpha"], memory["square_avg"]
        blend(square, alpha, g * g, 1.0 - alpha)
        variance = square
        if group["centered"]:
            mean = memory["grad_avg"]
            blend(mean, alpha, g, 1.0 - alpha)
            variance = square - mean * mean
        size = namespace(w).sqrt(variance)
        size += group["eps"]
        g = g / size
        if group["momentum"]:
            v = memory["momentum_buffer"]
            blend(v, group["momentum"], g, 1.0)
            g = v
        descend(w, group["lr"], g)


class Adadelta(Optimizer):
    """Steps in the units of the weights: recent steps over recent gradients (Zeiler 2012)."""

    def __init__(
        self,
        params: Iterable[Any] | None = None,
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr=lr, rho=rho, eps=eps, weight_decay=weight_decay, maximize=maximize)

    def slots(self, group: ParamGroup, p: Parameter) -> Mapping[str, Start]:
        """Running means of the squares of gradients and steps."""
        return {"square_avg": 0.0, "acc_delta": 0.0}

    def rule(self, group: ParamGroup, w: Array, g: Array, t: Any, **memory: Any) -> None:
        """Algorithm 1 of the paper."""
        rho, eps, square, steps = group["rho"], group["eps"], memory["square_avg"], memory["acc_delta"]
        blend(square, rho, g * g, 1.0 - rho)
        step = namespace(w).sqrt((steps + eps) / (square + eps)) * g
        blend(steps, rho, step * step, 1.0 - rho)
        descend(w, group["lr"], step)


class Rprop(Optimizer):
    """Each weight has its own step: longer while the sign of its gradient stays, shorter when it turns.

    For full batches (Riedmiller and Braun 1993). `etas` shorten and lengthen, `step_sizes` are the limits.
    """

    def __init__(
        self,
        params: Iterable[Any] | None = None,
        lr: float = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50.0),
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr=lr, etas=etas, step_sizes=step_sizes, maximize=maximize)

    def slots(self, group: ParamGroup, p: Parameter) -> Mapping[str, Start]:
        """The gradient before, and the step of each weight."""
        return {"prev": 0.0, "step_size": group["lr"]}

    def rule(self, group: ParamGroup, w: Array, g: Array, t: Any, **memory: Any) -> None:
        """Where the sign has turned, the weight waits for one step (iRprop-, Igel and Huesken 2000)."""
        (shorter, longer), prev, size, xp = group["etas"], memory["prev"], memory["step_size"], namespace(w)
        agreement = g * prev
        size *= xp.where(agreement > 0.0, longer, xp.where(agreement < 0.0, shorter, xp.ones_like(g)))
        least, most = group["step_sizes"]
        size[...] = xp.minimum(xp.maximum(size, least), most)
        prev[...] = xp.where(agreement < 0.0, 0.0, g)
        w -= xp.sign(prev) * size


class ASGD(Optimizer):
    """Gradient descent that keeps the mean of the weights after step t0, `ax` in its state (Polyak, Juditsky 1992)."""

    def __init__(
        self,
        params: Iterable[Any] | None = None,
        lr: float = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr=lr, lambd=lambd, alpha=alpha, t0=t0, weight_decay=weight_decay, maximize=maximize)

    def slots(self, group: ParamGroup, p: Parameter) -> Mapping[str, Start]:
        """The mean of the weights."""
        return {"ax": 0.0}

    def numbers(self, group: ParamGroup) -> Mapping[str, float]:
        """The length of the next step, and the share of its end in the mean."""
        return {"eta": group["lr"], "mu": 1.0}

    def rule(self, group: ParamGroup, w: Array, g: Array, t: Any, **memory: Any) -> None:
        """Bottou, "Stochastic gradient descent tricks", 2012, section 5."""
        lr, lambd, late = group["lr"], group["lambd"], t - group["t0"] > 1
        mean, eta, mu = memory["ax"], memory["eta"], memory["mu"]
        blend(w, 1.0 - lambd * eta.value, g, -eta.value)
        blend(mean, 1.0 - mu.value, w, mu.value)
        eta.value = lr / (1.0 + lambd * lr * t) ** group["alpha"]
        mu.value = 1.0 / (1.0 + late * (t - group["t0"] - 1.0))
