"""Floor 0: arrays. The only place in the library's maths that names an array library."""

from . import numpy_attention as _numpy_attention  # noqa: F401  (faster versions)
from . import numpy_norm as _numpy_norm  # noqa: F401
from . import numpy_recurrent as _numpy_recurrent  # noqa: F401
from . import numpy_special as _numpy_special  # noqa: F401
from .attention import attention, attention_back, scores, softened
from .base import DTYPES, FLOATING, INTEGRAL, KERNELS, SYNC, Array, Backend, Memory, dtype_name
from .conv import Ints, Pairs, conv, conv_transpose, conv_weight, fold, places, unfold
from .detect import cuda_status
from .device import (
    CPU,
    Device,
    DeviceLike,
    HostArray,
    device,
    device_of,
    from_dlpack,
    on_its_device,
    shown,
    to_host,
)
from .norm import normalized, normalized_back
from .primitive import PRIMITIVES, erf, gather, logistic, one_hot, place, primitive, scatter_add, total
from .recurrent import gru, gru_back, lstm, lstm_back, rnn, rnn_back
from .registry import (
    BACKENDS,
    NUMPY,
    assign,
    backend_of,
    blend,
    descend,
    is_array,
    library_backend,
    namespace,
    register,
)

__all__ = [
    "BACKENDS",
    "CPU",
    "DTYPES",
    "FLOATING",
    "INTEGRAL",
    "KERNELS",
    "NUMPY",
    "PRIMITIVES",
    "SYNC",
    "Array",
    "Backend",
    "Device",
    "DeviceLike",
    "HostArray",
    "Ints",
    "Memory",
    "Pairs",
    "assign",
    "attention",
    "attention_back",
    "backend_of",
    "blend",
    "conv",
    "conv_transpose",
    "conv_weight",
    "cuda_status",
    "descend",
    "device",
    "device_of",
    "dtype_name",
    "erf",
    "fold",
    "from_dlpack",
    "gather",
    "gru",
    "gru_back",
    "is_array",
    "library_backend",
    "logistic",
    "lstm",
    "lstm_back",
    "namespace",
    "normalized",
    "normalized_back",
    "on_its_device",
    "one_hot",
    "place",
    "places",
    "primitive",
    "register",
    "rnn",
    "rnn_back",
    "scatter_add",
    "scores",
    "shown",
    "softened",
    "to_host",
    "total",
    "unfold",
]
