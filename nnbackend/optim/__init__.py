"""Optimizers, schedules, clipping and averages. `from nnbackend import optim`; names and meaning are PyTorch's."""

from . import adam as _adam
from . import average as _average
from . import clip as _clip
from . import cycles as _cycles
from . import lbfgs as _lbfgs
from . import matrix as _matrix
from . import rules as _rules
from . import sam as _sam
from . import scaler as _scaler
from . import schedule as _schedule
from . import schedules as _schedules
from .adam import *
from .average import *
from .clip import *
from .cycles import *
from .group import ParamGroup
from .lbfgs import *
from .matrix import *
from .optimizer import Optimizer
from .rules import *
from .sam import *
from .scaler import *
from .schedule import *
from .schedules import *

__all__ = [
    "Optimizer",
    "ParamGroup",
    *_adam.__all__,
    *_average.__all__,
    *_clip.__all__,
    *_cycles.__all__,
    *_lbfgs.__all__,
    *_matrix.__all__,
    *_rules.__all__,
    *_sam.__all__,
    *_scaler.__all__,
    *_schedule.__all__,
    *_schedules.__all__,
]
