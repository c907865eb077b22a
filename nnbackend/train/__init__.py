"""Floor 4: training."""

from .history import History
from .trainer import Trainer

__all__ = ["History", "Trainer"]
