"""Neural networks on plain arrays, GPU optional: NumPy on the CPU, CuPy on CUDA, one code for both."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .array import *  # noqa: F403
from .array import __all__ as _array_names
from .backend import device, namespace
from .calculus import grad, value_and_grad
from .doctor import doctor
from .grad_mode import enable_grad, no_grad
from .recipe import register
from .tensor import Tensor
from .tensor_backend import TensorBackend as _TensorBackend  # noqa: F401 (makes the primitives work on Tensors)
from .version import __version__ as __version__

if TYPE_CHECKING:
    from . import callbacks, data, errors, functional, metrics, nn, optim, plots, testing
    from .comparison import compare_devices
    from .estimators import MLPClassifier, MLPRegressor, NeuralNetClassifier, NeuralNetRegressor
    from .io import load, save, to_source, weights
    from .program import compile, num_threads, set_num_threads
    from .recompute import checkpoint
    from .summaries import summary
    from .train import Callback, Checkpoints, History, Trainer

__all__ = [
    *_array_names,
    "Callback",
    "Checkpoints",
    "History",
    "MLPClassifier",
    "MLPRegressor",
    "NeuralNetClassifier",
    "NeuralNetRegressor",
    "Tensor",
    "Trainer",
    "callbacks",
    "checkpoint",
    "compare_devices",
    "compile",
    "data",
    "device",
    "doctor",
    "enable_grad",
    "errors",
    "functional",
    "grad",
    "load",
    "metrics",
    "namespace",
    "nn",
    "no_grad",
    "num_threads",
    "optim",
    "plots",
    "register",
    "save",
    "set_num_threads",
    "summary",
    "testing",
    "to_source",
    "value_and_grad",
    "weights",
]

# Loaded when they are asked for: whoever only wants arrays and their gradients need not wait for layers and trainers.
_MODULES = ("callbacks", "data", "errors", "functional", "metrics", "nn", "optim", "plots", "testing")
_ROOMS = {
    **dict.fromkeys(("load", "save", "to_source", "weights"), "io"),
    **dict.fromkeys(("compile", "num_threads", "set_num_threads"), "program"),
    **dict.fromkeys(("Callback", "Checkpoints", "History", "Trainer"), "train"),
    **dict.fromkeys(("MLPClassifier", "MLPRegressor", "NeuralNetClassifier", "NeuralNetRegressor"), "estimators"),
    "checkpoint": "recompute",
    "compare_devices": "comparison",
    "summary": "summaries",
}


def __getattr__(name: str) -> Any:
    if name not in _ROOMS and name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    room = import_module(f"{__name__}.{_ROOMS.get(name, name)}")
    globals()[name] = value = getattr(room, name) if name in _ROOMS else room
    return value


def __dir__() -> list[str]:
    return __all__
