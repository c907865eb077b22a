"""Callbacks for `fit(callbacks=[...])`: stop early, keep the best, change the learning rate, write logs."""

from .files import ModelCheckpoint
from .functions import Lambda
from .live import BoundaryAnimation, LivePlot
from .logs import CSVLogger, JSONLogger
from .rates import LearningRateSchedule, ReduceLROnPlateau
from .stops import EarlyStopping, StopAtTarget, TimeLimit
from .tensorboard import TensorBoard

__all__ = [
    "BoundaryAnimation",
    "CSVLogger",
    "EarlyStopping",
    "JSONLogger",
    "Lambda",
    "LearningRateSchedule",
    "LivePlot",
    "ModelCheckpoint",
    "ReduceLROnPlateau",
    "StopAtTarget",
    "TensorBoard",
    "TimeLimit",
]
