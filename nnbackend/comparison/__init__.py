"""compare_devices: a training step on two devices, layer by layer, and the first that differs beyond rounding."""

from .judge import compare_devices
from .report import Comparison, Row

__all__ = ["Comparison", "Row", "compare_devices"]
