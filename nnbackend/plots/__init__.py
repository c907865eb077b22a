"""Pictures of training and of models, drawn by matplotlib (`pip install "nnbackend[plot]"`); charts in text without it.

Functions give a `matplotlib.figure.Figure`: `.savefig("name.png")` writes it, a notebook shows it.
"""

from .boundary import BoundaryFrames, decision_boundary
from .curves import history
from .matrix import confusion_matrix
from .network import activations, images, weights
from .terminal import chart

__all__ = [
    "BoundaryFrames",
    "activations",
    "chart",
    "confusion_matrix",
    "decision_boundary",
    "history",
    "images",
    "weights",
]
