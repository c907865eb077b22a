"""Optimizers. `from nnbackend import optim`."""

from .clip import clip_grad_norm, clip_grad_value
from .optimizer import Optimizer, ParamGroup
from .rules import SGD, Adam, AdamW

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "ParamGroup", "clip_grad_norm", "clip_grad_value"]
