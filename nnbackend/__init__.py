"""Neural networks on plain arrays, GPU optional: NumPy on the CPU, CuPy on CUDA, one code for both."""

__version__ = "0.1.0"

from . import data, errors, functional, metrics, nn, optim, testing
from .array import *  # noqa: F403
from .array import __all__ as _array_names
from .backend import device, namespace
from .calculus import grad, value_and_grad
from .doctor import doctor
from .grad_mode import enable_grad, no_grad
from .io import load, save, to_source
from .program import compile, num_threads, set_num_threads
from .tensor import Tensor
from .tensor_backend import TensorBackend as _TensorBackend  # noqa: F401 (makes the primitives work on Tensors)
from .train import History, Trainer

__all__ = [
    *_array_names,
    "History",
    "Tensor",
    "Trainer",
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
    "save",
    "set_num_threads",
    "testing",
    "to_source",
    "value_and_grad",
]
