"""Is more of it better? What early stopping, checkpoints of the best, and summaries must know of a number."""

from __future__ import annotations

FALLING = {
    "loss", "error", "mse", "mae", "rmse", "mape", "brier", "nll", "bce", "crossentropy", "perplexity", "distance",
}  # fmt: skip
GROWING = {
    "accuracy", "precision", "recall", "f1", "fbeta", "auc", "r2", "explained", "kappa", "corrcoef", "iou", "dice",
}  # fmt: skip


def direction(name: str) -> str | None:
    """For what has this name "min" if less is better, "max" if more is, None if the name does not say.

    The words of a name count, so `val_f1_macro` and `train_loss_2` are known; "loss" goes before "accuracy".
    """
    words = name.lower().split("_")
    return "min" if FALLING.intersection(words) else "max" if GROWING.intersection(words) else None
