"""The rules, from simple to less so. Each is written for one array; `Optimizer` applies it to all at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..backend import Array, namespace
from .optimizer import Optimizer, ParamGroup


class SGD(Optimizer):
    """w -= lr * g, with momentum, Nesterov's look ahead and weight decay as in PyTorch."""

    def __init__(
        self,
        params: Iterable[Any] | None = None,
        lr: float = 1e-3,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        if nesterov and not momentum:
            raise ValueError("SGD: expected momentum > 0 for nesterov, got 0.")
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov)

    def slots(self, group: ParamGroup) -> tuple[str, ...]:
        """The velocity, where there is momentum."""
        return ("momentum_buffer",) if group["momentum"] else ()

    def rule(self, group: ParamGroup, w: Array, g: Array, t: Any, **slots: Array) -> None:
        """Sutskever et al., "On the importance of initialization and momentum", 2013."""
        if group["weight_decay"]:
            g = g + group["weight_decay"] * w
        if slots:
            momentum, v = group["momentum"], slots["momentum_buffer"]
            v *= momentum
            v += g
            g = g + momentum * v if group["nesterov"] else v
        w -= group["lr"] * g


class Adam(Optimizer):
    """Steps of about lr, whatever the size of the gradient (Kingma and Ba 2015). `weight_decay` adds to gradients."""

    def __init__(
        self,
        params: Iterable[Any] | None = None,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def slots(self, group: ParamGroup) -> tuple[str, ...]:
        """Running means of the gradient and of its square."""
        return ("exp_avg", "exp_avg_sq")

    def rule(self, group: ParamGroup, w: Array, g: Array, t: Any, **slots: Array) -> None:
        """Algorithm 1 of the paper; the bias corrections are numbers, not arrays."""
        if group["weight_decay"]:
            g = self.decay(group, w, g)
        (beta1, beta2), m, v = group["betas"], slots["exp_avg"], slots["exp_avg_sq"]
        m *= beta1
        m += (1.0 - beta1) * g
        v *= beta2
        v += (1.0 - beta2) * (g * g)
        correct1, correct2 = 1.0 - beta1**t, (1.0 - beta2**t) ** 0.5
        size = namespace(v).sqrt(v)
        size += group["eps"] * correct2
        step = (group["lr"] * correct2 / correct1) * m
        step /= size
        w -= step

    def decay(self, group: ParamGroup, w: Array, g: Array) -> Array:
        """The gradient with weight decay."""
        return g + group["weight_decay"] * w


class AdamW(Adam):
    """Adam with weight decay of its own, apart from the gradient (Loshchilov and Hutter 2019)."""

    def __init__(
        self,
        params: Iterable[Any] | None = None,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)

    def decay(self, group: ParamGroup, w: Array, g: Array) -> Array:
        """Shrinks the weights at once; the gradient stays."""
        w *= 1.0 - group["lr"] * group["weight_decay"]
        return g
