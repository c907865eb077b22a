"""How good is a model? Functions of (output, target, weight=None), whose results stay on the device of their inputs.

Equal to scikit-learn's, which take (target, output). Results are 0-d, in float64 where the device has it.
"""

from .classes import (
    accuracy,
    balanced_accuracy,
    cohen_kappa,
    confusion_matrix,
    f1,
    fbeta,
    matthews_corrcoef,
    precision,
    recall,
    top_k_accuracy,
)
from .inputs import classes_of
from .probability import brier, log_loss
from .ranking import average_precision, roc_auc
from .registry import METRICS, Metric, metric, takes_weight
from .regression import explained_variance, mae, mape, mse, r2, rmse

__all__ = [
    "METRICS",
    "Metric",
    "accuracy",
    "average_precision",
    "balanced_accuracy",
    "brier",
    "classes_of",
    "cohen_kappa",
    "confusion_matrix",
    "explained_variance",
    "f1",
    "fbeta",
    "log_loss",
    "mae",
    "mape",
    "matthews_corrcoef",
    "metric",
    "mse",
    "precision",
    "r2",
    "recall",
    "rmse",
    "roc_auc",
    "takes_weight",
    "top_k_accuracy",
]
