"""Floor 4: training."""

from .callback import Callback
from .checkpoints import Checkpoints
from .history import History
from .trainer import Trainer

__all__ = ["Callback", "Checkpoints", "History", "Trainer"]
