"""Losses of margins, pairs and triplets as layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import functional as F
from .loss import Loss


class MultiMarginLoss(Loss):
    """Hinge loss of scores with class indices."""

    function, checked = staticmethod(F.multi_margin_loss), ("p",)

    def __init__(self, p: int = 1, margin: float = 1.0, weight: Any = None, reduction: str = "mean") -> None:
        super().__init__(reduction, p=p, margin=margin, weight=weight)


class MultiLabelMarginLoss(Loss):
    """Hinge loss of scores with several classes each."""

    function = staticmethod(F.multilabel_margin_loss)

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__(reduction)


class MultiLabelSoftMarginLoss(Loss):
    """Binary cross-entropy of logits, averaged over the classes."""

    function = staticmethod(F.multilabel_soft_margin_loss)

    def __init__(self, weight: Any = None, reduction: str = "mean") -> None:
        super().__init__(reduction, weight=weight)


class SoftMarginLoss(Loss):
    """Logistic loss of targets 1 and -1."""

    function = staticmethod(F.soft_margin_loss)

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__(reduction)


class HingeEmbeddingLoss(Loss):
    """Distances of pairs that are alike (1) or not (-1)."""

    function = staticmethod(F.hinge_embedding_loss)

    def __init__(self, margin: float = 1.0, reduction: str = "mean") -> None:
        super().__init__(reduction, margin=margin)


class CosineEmbeddingLoss(Loss):
    """Cosines of pairs of vectors that are alike (1) or not (-1)."""

    function = staticmethod(F.cosine_embedding_loss)

    def __init__(self, margin: float = 0.0, reduction: str = "mean") -> None:
        super().__init__(reduction, margin=margin)


class MarginRankingLoss(Loss):
    """Pairs of scores of which the first should be higher (1) or lower (-1)."""

    function = staticmethod(F.margin_ranking_loss)

    def __init__(self, margin: float = 0.0, reduction: str = "mean") -> None:
        super().__init__(reduction, margin=margin)


class TripletMarginLoss(Loss):
    """An anchor should be nearer to the positive than to the negative, by a margin."""

    function, checked = staticmethod(F.triplet_margin_loss), ("margin",)

    def __init__(
        self, margin: float = 1.0, p: float = 2.0, eps: float = 1e-6, swap: bool = False, reduction: str = "mean"
    ) -> None:
        super().__init__(reduction, margin=margin, p=p, eps=eps, swap=swap)


class TripletMarginWithDistanceLoss(Loss):
    """`TripletMarginLoss` with a distance of your own: a function of two arrays, or a layer."""

    function, checked = staticmethod(F.triplet_margin_with_distance_loss), ("margin",)

    def __init__(
        self,
        *,
        distance_function: Callable[[Any, Any], Any] | None = None,
        margin: float = 1.0,
        swap: bool = False,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction, distance_function=distance_function, margin=margin, swap=swap)


__all__ = [
    "CosineEmbeddingLoss", "HingeEmbeddingLoss", "MarginRankingLoss", "MultiLabelMarginLoss",
    "MultiLabelSoftMarginLoss", "MultiMarginLoss", "SoftMarginLoss", "TripletMarginLoss",
    "TripletMarginWithDistanceLoss",
]  # fmt: skip
