"""One generator of CUDA kernels: what is done to arrays element by element, and sums at the end, in one launch."""

from .group import Constant, Group, Input, Reduction, Step
from .launch import Launch, prepared, run, text
from .ops import supported

__all__ = ["Constant", "Group", "Input", "Launch", "Reduction", "Step", "prepared", "run", "supported", "text"]
