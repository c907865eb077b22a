"""Layers, and what they are made of. `from nnbackend import nn`."""

from ..cells import Buffer, Parameter, Scalar  # noqa: I001
from ..training_mode import evaluating
from . import init
from .activation import (
    ELU, GELU, LeakyReLU, LogSigmoid, LogSoftmax, ReLU, Sigmoid, SiLU, Softmax, Softplus, Tanh, activation,
)  # fmt: skip
from .container import MLP, ModuleList, Sequential
from .layers import Dropout, Flatten, Identity, Linear
from .loss import BCELoss, BCEWithLogitsLoss, CrossEntropyLoss, HuberLoss, L1Loss, MSELoss, NLLLoss
from .module import Module, RandomModule

__all__ = [
    "ELU", "GELU", "MLP", "BCELoss", "BCEWithLogitsLoss", "Buffer", "CrossEntropyLoss", "Dropout", "Flatten",
    "HuberLoss", "Identity", "L1Loss", "LeakyReLU", "Linear", "LogSigmoid", "LogSoftmax", "MSELoss", "Module",
    "ModuleList", "NLLLoss", "Parameter", "RandomModule", "ReLU", "Scalar", "Sequential", "SiLU", "Sigmoid", "Softmax",
    "Softplus", "Tanh", "activation", "evaluating", "init",
]  # fmt: skip
