"""Rules for whole matrices: they see each parameter in its own shape."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from ..backend import Array, blend, descend, namespace
from ..cells import Parameter
from ..program.number import minimum
from .flat import Start
from .group import ParamGroup
from .limits import Limit, at_least_one, not_positive, three_numbers
from .optimizer import Optimizer

__all__ = ["Adafactor", "Muon"]


def _two_floors(v: Any) -> bool:
    """A number >= 0 or None, and a number >= 0."""
    return len(v) == 2 and (v[0] is None or v[0] >= 0) and bool(v[1] >= 0)


def _few(v: Any) -> bool:
    """A whole number from 0 to 99."""
    return isinstance(v, int) and 0 <= v < 100


def _known_adjustment(v: Any) -> bool:
    """None, "original" or "match_rms_adamw"."""
    return v in (None, "original", "match_rms_adamw")


class Adafactor(Optimizer):
    """Steps relative to the size of the weights, with one mean square for each row and one for each column.

    `lr` is the largest relative step. `eps` are the smallest mean square, by default what the dtype resolves, and the
    smallest size of weights to count; updates larger than `d` on average are scaled down to it.
    """

    elementwise = False
    limits: ClassVar[Mapping[str, Limit]] = {"eps": _two_floors, "beta2_decay": not_positive, "d": at_least_one}

    def __init__(
        self,
        params: Iterable[Any] | None = None,
        lr: float = 1e-2,
        beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3),
        d: float = 1.0,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params, lr=lr, beta2_decay=beta2_decay, eps=eps, d=d, weight_decay=weight_decay, maximize=maximize
        )

    def slots(self, group: ParamGroup, p: Parameter) -> Mapping[str, Start]:
        """Mean squares of the rows and of the columns of the gradient; of each element if it has neither."""
        if len(p.shape) < 2:
            return {"variance": 0.0}
        *rest, rows, columns = p.shape
        return {"row_var": (*rest, rows, 1), "col_var": (*rest, 1, columns)}

    def decay(self, group: ParamGroup, w: Array, g: Array) -> Array:
        """Left to the rule, which needs the weights as they were."""
        return g

    def rule(self, group: ParamGroup, w: Array, g: Array, t: Any, **memory: Any) -> None:
        """Shazeer and Stern 2018, algorithms 4 and 5; `eps[0]` where PyTorch has it.

        v = r c / mean(r),  u = g / sqrt(v),  w -= max(eps2, rms(w)) min(lr, 1 / sqrt(t)) u / max(1, rms(u) / d)
        """
        xp, (floor, smallest) = namespace(g), group["eps"]
        floor = float(xp.finfo(g.dtype).eps) if floor is None else floor
        new, square = t ** group["beta2_decay"], g * g
        size = xp.maximum(_rms(w), smallest)
        if group["weight_decay"]:
            w *= 1.0 - group["lr"] * group["weight_decay"]
        if "variance" in memory:
            v = memory["variance"]
            v += new * (square - v)
        else:
            r, c = memory["row_var"], memory["col_var"]
            r += new * (xp.mean(square, axis=-1, keepdims=True) - r)
            c += new * (xp.mean(square, axis=-2, keepdims=True) - c)
            v = r * c / xp.maximum(xp.mean(r, axis=-2, keepdims=True), floor)
        u = g / xp.sqrt(xp.maximum(v, floor * floor))
        u *= size * minimum(group["lr"], t**-0.5) / xp.maximum(_rms(u) / group["d"], 1.0)
        w -= u


class Muon(Optimizer):
    """Momentum with all singular values set to about 1, for the matrices inside a network.

    Biases, embeddings and the like go to AdamW, in an optimizer of its own. `adjust_lr_fn` says how lr grows with the
    shape: "original", or "match_rms_adamw" for steps as large as AdamW's (Liu et al. 2025).
    """

    elementwise = False
    limits: ClassVar[Mapping[str, Limit]] = {
        "ns_steps": _few,
        "ns_coefficients": three_numbers,
        "adjust_lr_fn": _known_adjustment,
    }

    def __init__(
        self,
        params: Iterable[Any] | None = None,
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.775, 2.0315),
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            weight_decay=weight_decay,
            momentum=momentum,
            nesterov=nesterov,
            ns_coefficients=ns_coefficients,
            eps=eps,
            ns_steps=ns_steps,
            adjust_lr_fn=adjust_lr_fn,
            decoupled_weight_decay=True,
        )

    def check(self, group: ParamGroup) -> None:
        """Matrices only."""
        for i, p in enumerate(group.params):
            if len(p.shape) != 2:
                raise ValueError(
                    f"Muon: expected 2-D parameters, got {p.name or f'number {i}'} of shape {p.shape}. "
                    "Give it to AdamW, in an optimizer of its own."
                )

    def slots(self, group: ParamGroup, p: Parameter) -> Mapping[str, Start]:
        """The velocity."""
        return {"momentum_buffer": 0.0}

    def rule(self, group: ParamGroup, w: Array, g: Array, t: Any, **memory: Any) -> None:
        """Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024: w -= lr orthogonal(v)."""
        new, v = 1.0 - group["momentum"], memory["momentum_buffer"]
        blend(v, group["momentum"], g, new)
        u = orthogonal(
            v + new * (g - v) if group["nesterov"] else v, group["ns_coefficients"], group["eps"], group["ns_steps"]
        )
        rows, columns = w.shape
        if group["adjust_lr_fn"] == "match_rms_adamw":
            ratio = 0.2 * max(rows, columns) ** 0.5
        else:
            ratio = max(1.0, rows / columns) ** 0.5
        descend(w, group["lr"] * ratio, u)


def orthogonal(g: Array, coefficients: tuple[float, float, float], eps: float, steps: int) -> Array:
    """`g` with its singular values moved to about 1: Newton-Schulz, x = a x + (b m + c m m) x for m = x x'.

    Results are rounded as PyTorch's are: it works in bfloat16, adding up in float32.
    """
    xp, tall = namespace(g), g.shape[0] > g.shape[1]
    a, b, c = (_rounded(k, 29) for k in coefficients)  # to float32
    x = _bfloat16(xp.matrix_transpose(g) if tall else g)
    x = _bfloat16(x / _bfloat16(xp.maximum(_bfloat16(xp.sqrt(xp.sum(x * x))), eps)))
    for _ in range(steps):
        m = _bfloat16(xp.matmul(x, xp.matrix_transpose(x)))
        x = _bfloat16(a * x + xp.matmul(_bfloat16(b * m + c * xp.matmul(m, m)), x))
    return xp.matrix_transpose(x) if tall else x


def _bfloat16(x: Array) -> Array:
    """The values that bfloat16 would have, in the dtype of `x`."""
    xp = namespace(x)
    return xp.astype(_rounded(xp.astype(x, xp.float32, copy=False), 16), x.dtype, copy=False)


def _rounded(x: Any, bits: int) -> Any:
    """An array or a number rounded, half to even, to `bits` bits less than it has: Veltkamp's splitting."""
    y = (2.0**bits + 1.0) * x
    y -= y - x
    return y


def _rms(x: Array) -> Array:
    xp = namespace(x)
    return xp.sqrt(xp.mean(x * x))
