"""Losses as layers, for those who like `loss_fn = nn.CrossEntropyLoss()`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import functional as F
from .module import Module


class _Loss(Module):
    """A loss with a `reduction`: "mean", "sum" or "none"."""

    function: Callable[..., Any]

    def __init__(self, reduction: str = "mean") -> None:
        self.reduction = reduction

    def forward(self, input: Any, target: Any) -> Any:
        """Predictions and targets in, the loss out."""
        return type(self).function(input, target, reduction=self.reduction)


class MSELoss(_Loss):
    """Mean squared error."""

    function = staticmethod(F.mse_loss)


class L1Loss(_Loss):
    """Mean absolute error."""

    function = staticmethod(F.l1_loss)


class BCELoss(_Loss):
    """Binary cross-entropy of probabilities."""

    function = staticmethod(F.binary_cross_entropy)


class BCEWithLogitsLoss(_Loss):
    """Binary cross-entropy of logits."""

    function = staticmethod(F.binary_cross_entropy_with_logits)


class CrossEntropyLoss(_Loss):
    """Cross-entropy of logits with class indices or probabilities."""

    function = staticmethod(F.cross_entropy)


class NLLLoss(_Loss):
    """Negative log-likelihood of log-probabilities with class indices."""

    function = staticmethod(F.nll_loss)


class HuberLoss(_Loss):
    """Squared up to `delta`, straight beyond."""

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction)
        self.delta = delta

    def forward(self, input: Any, target: Any) -> Any:
        """Predictions and targets in, the loss out."""
        return F.huber_loss(input, target, self.reduction, self.delta)


__all__ = ["BCELoss", "BCEWithLogitsLoss", "CrossEntropyLoss", "HuberLoss", "L1Loss", "MSELoss", "NLLLoss"]
