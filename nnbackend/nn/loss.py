"""Losses as layers, for those who like `loss_fn = nn.CrossEntropyLoss()`.

They are called with predictions and targets, and with `sample_weight=` where samples do not count alike. Class weights
are buffers: they move with the layer, and are in its state.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import functional as F
from ..backend import is_array
from ..functional.loss_checks import check_settings
from .module import Module


class Loss(Module):
    """Base of the losses: a function, its settings, and a `reduction`: "mean", "sum" or "none"."""

    function: Callable[..., Any]
    checked: tuple[str, ...] = ()  # settings that are looked at before the first call

    def __init__(self, reduction: str = "mean", **settings: Any) -> None:
        self.names = ("reduction", *settings)
        check_settings(type(self).__name__, **{name: settings[name] for name in self.checked})
        for name, value in settings.items():
            if is_array(value):
                self.register_buffer(name, value)
            else:
                setattr(self, name, value)
        self.reduction = reduction

    def forward(self, *inputs: Any, sample_weight: Any = None) -> Any:
        """Predictions and targets in, the loss out."""
        settings = {name: getattr(self, name) for name in self.names}
        return type(self).function(*inputs, **settings, sample_weight=sample_weight)


class MSELoss(Loss):
    """Mean squared error."""

    function = staticmethod(F.mse_loss)

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__(reduction)


class L1Loss(Loss):
    """Mean absolute error."""

    function = staticmethod(F.l1_loss)

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__(reduction)


class SmoothL1Loss(Loss):
    """Squared error / (2 beta) up to `beta`, a straight line of slope 1 beyond."""

    function, checked = staticmethod(F.smooth_l1_loss), ("beta",)

    def __init__(self, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction, beta=beta)


class HuberLoss(Loss):
    """Squared error / 2 up to `delta`, a straight line of slope `delta` beyond."""

    function, checked = staticmethod(F.huber_loss), ("delta",)

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction, delta=delta)


class QuantileLoss(Loss):
    """Pinball loss of one quantile, or of several for predictions (..., k)."""

    function, checked = staticmethod(F.quantile_loss), ("quantiles",)

    def __init__(self, quantiles: Any = 0.5, reduction: str = "mean") -> None:
        super().__init__(reduction, quantiles=quantiles)


class BCELoss(Loss):
    """Binary cross-entropy of probabilities."""

    function = staticmethod(F.binary_cross_entropy)

    def __init__(self, weight: Any = None, reduction: str = "mean") -> None:
        super().__init__(reduction, weight=weight)


class BCEWithLogitsLoss(Loss):
    """Binary cross-entropy of logits."""

    function = staticmethod(F.binary_cross_entropy_with_logits)

    def __init__(self, weight: Any = None, reduction: str = "mean", pos_weight: Any = None) -> None:
        super().__init__(reduction, weight=weight, pos_weight=pos_weight)


class CrossEntropyLoss(Loss):
    """Cross-entropy of logits with class indices or probabilities."""

    function = staticmethod(F.cross_entropy)

    def __init__(
        self, weight: Any = None, ignore_index: int = -100, reduction: str = "mean", label_smoothing: float = 0.0
    ) -> None:
        super().__init__(reduction, weight=weight, ignore_index=ignore_index, label_smoothing=label_smoothing)


class NLLLoss(Loss):
    """Negative log-likelihood of log-probabilities with class indices."""

    function = staticmethod(F.nll_loss)

    def __init__(self, weight: Any = None, ignore_index: int = -100, reduction: str = "mean") -> None:
        super().__init__(reduction, weight=weight, ignore_index=ignore_index)


class FocalLoss(Loss):
    """Cross-entropy of logits that looks away from what is easy, the more the higher `gamma`."""

    function, checked = staticmethod(F.focal_loss), ("gamma",)

    def __init__(self, alpha: Any = None, gamma: float = 2.0, reduction: str = "mean") -> None:
        super().__init__(reduction, alpha=alpha, gamma=gamma)


class KLDivLoss(Loss):
    """Kullback-Leibler divergence of log-probabilities from targets; also with `reduction="batchmean"`."""

    function = staticmethod(F.kl_div)

    def __init__(self, reduction: str = "mean", log_target: bool = False) -> None:
        super().__init__(reduction, log_target=log_target)


class PoissonNLLLoss(Loss):
    """Negative log-likelihood of Poisson counts."""

    function = staticmethod(F.poisson_nll_loss)

    def __init__(self, log_input: bool = True, full: bool = False, eps: float = 1e-8, reduction: str = "mean") -> None:
        super().__init__(reduction, log_input=log_input, full=full, eps=eps)


class GaussianNLLLoss(Loss):
    """Negative log-likelihood of normal targets; called with predictions, targets and variances."""

    function = staticmethod(F.gaussian_nll_loss)

    def __init__(self, *, full: bool = False, eps: float = 1e-6, reduction: str = "mean") -> None:
        super().__init__(reduction, full=full, eps=eps)


__all__ = [
    "BCELoss", "BCEWithLogitsLoss", "CrossEntropyLoss", "FocalLoss", "GaussianNLLLoss", "HuberLoss", "KLDivLoss",
    "L1Loss", "MSELoss", "NLLLoss", "PoissonNLLLoss", "QuantileLoss", "SmoothL1Loss",
]  # fmt: skip
