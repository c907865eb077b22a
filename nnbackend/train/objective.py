"""What a trainer makes small: a loss by name or object, or one for each of several outputs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from .. import functional as F
from ..nn import Module
from ..nn import loss as layers

Loss = Callable[..., Any]
LOSSES: dict[str, Loss] = {
    "mse": F.mse_loss,
    "mae": F.l1_loss,
    "huber": F.huber_loss,
    "smooth_l1": F.smooth_l1_loss,
    "quantile": F.quantile_loss,
    "cross_entropy": F.cross_entropy,
    "focal": F.focal_loss,
    "nll": F.nll_loss,
    "bce": F.binary_cross_entropy,
    "bce_with_logits": F.binary_cross_entropy_with_logits,
    "multilabel_soft_margin": F.multilabel_soft_margin_loss,
    "soft_margin": F.soft_margin_loss,
    "kl_div": F.kl_div,
    "poisson_nll": F.poisson_nll_loss,
}
CLASSES = (F.cross_entropy, F.focal_loss, F.nll_loss, F.multi_margin_loss)  # whole numbers may be classes
LABELS = (F.binary_cross_entropy, F.binary_cross_entropy_with_logits, F.multilabel_soft_margin_loss)  # yes or no each
LOGITS = (F.cross_entropy, F.focal_loss, F.nll_loss, *LABELS[1:])  # and logarithms of probabilities, which are some
OURS = tuple(vars(F)[name] for name in F.__all__)


def named(what: str, table: dict[str, Any], spec: Any) -> Any:
    """The entry of a table, or an object as it is. ValueError for unknown names."""
    if isinstance(spec, str):
        if spec not in table:
            raise ValueError(f"{what}: expected one of {', '.join(table)}, or an object, got {spec!r}.")
        return table[spec]
    return spec


def function_of(loss: Any) -> Any:
    """The function behind a loss: of `nn.MSELoss()` it is `F.mse_loss`."""
    return type(loss).function if isinstance(loss, layers.Loss) else getattr(loss, "func", loss)  # of a partial


class Objective:
    """A loss of (output, target); a tuple or dict of losses takes outputs and targets apart and adds them up.

    With weights of rows it is the mean of weight * loss. ValueError for names that do not exist.
    """

    def __init__(self, loss: Any, loss_weights: Any = None) -> None:
        several = isinstance(loss, tuple | list | Mapping)
        pairs = loss.items() if isinstance(loss, Mapping) else enumerate(loss) if several else [(None, loss)]
        self.losses: dict[Any, Loss] = {key: named("loss", LOSSES, spec) for key, spec in pairs}
        for key, fn in self.losses.items():
            if not callable(fn) or isinstance(fn, type):
                raise TypeError(f"loss: expected a name or a function of (output, target), got {fn!r}{_of(key)}.")
        shares = loss_weights.items() if isinstance(loss_weights, Mapping) else enumerate(loss_weights or ())
        self.shares: dict[Any, float] = dict(shares)
        if unknown := self.shares.keys() - (self.losses.keys() if several else set()):
            known = ", ".join(map(repr, self.losses)) if several else "none, because there is one loss"
            raise ValueError(f"loss_weights: expected weights of {known}, got {sorted(map(repr, unknown))}.")

    @property
    def only(self) -> Loss | None:
        """The loss, if there is one for all outputs."""
        return self.losses.get(None)

    def __call__(self, output: Any, target: Any, weight: Any = None) -> Any:
        """The total."""
        if (only := self.only) is not None:
            return _weighted(only, output, target, weight)
        parts = self.parts(output, target, weight)
        total = None
        for key, part in parts.items():
            part = part * share if (share := self.shares.get(key, 1.0)) != 1.0 else part
            total = part if total is None else total + part
        return total

    def parts(self, output: Any, target: Any, weight: Any = None) -> dict[Any, Any]:
        """The loss of each output by its name or place."""
        for what, nest in (("outputs", output), ("targets", target)):
            have: list[Any] = list(
                nest if isinstance(nest, Mapping) else range(len(nest)) if isinstance(nest, tuple) else ()
            )
            if not self.losses.keys() <= set(have):
                got = ", ".join(map(repr, have)) or type(nest).__name__
                raise ValueError(f"loss: expected {what} for {', '.join(map(repr, self.losses))}, got {got}.")
        return {key: _weighted(fn, output[key], target[key], weight) for key, fn in self.losses.items()}

    def _function(self, key: Any) -> Any:
        """What an output is given to."""
        return function_of(self.losses.get(key, self.only))

    def classes(self, key: Any = None) -> bool:
        """Whether whole numbers in the targets of an output may be classes; other losses of ours take amounts."""
        fn = self._function(key)
        return fn in CLASSES or not any(fn is ours for ours in OURS)

    def logits(self, key: Any = None) -> bool:
        """Whether an output is the logits of something."""
        return self._function(key) in LOGITS

    def outputs(self, key: Any = None) -> dict[str, bool]:
        """What an output is, for its metrics."""
        return {"logits": self.logits(key), "multilabel": self._function(key) in LABELS}

    def check_weights(self) -> None:
        """TypeError if a loss cannot count rows with weights."""
        for key, fn in self.losses.items():
            call = fn.forward if isinstance(fn, Module) else fn
            parameters = inspect.signature(call).parameters.values()
            if not any(p.name == "sample_weight" or p.kind is p.VAR_KEYWORD for p in parameters):
                raise TypeError(
                    f"fit: expected a loss that takes sample_weight= for weights, got {fn!r}{_of(key)}. "
                    "Add the argument to your function: weights of shape (rows,), or None."
                )


def _of(key: Any) -> str:
    return "" if key is None else f" for output {key!r}"


def _weighted(loss: Loss, output: Any, target: Any, weight: Any) -> Any:
    if weight is None:
        return loss(output, target)
    return loss(output, target, sample_weight=weight) * weight.mean()  # our losses divide by the sum of the weights
