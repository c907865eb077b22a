"""CTC as a layer."""

from __future__ import annotations

from .. import functional as F
from .loss import Loss


class CTCLoss(Loss):
    """Connectionist temporal classification; called with log-probabilities, targets and the lengths of both."""

    function = staticmethod(F.ctc_loss)

    def __init__(self, blank: int = 0, reduction: str = "mean", zero_infinity: bool = False) -> None:
        super().__init__(reduction, blank=blank, zero_infinity=zero_infinity)


__all__ = ["CTCLoss"]
