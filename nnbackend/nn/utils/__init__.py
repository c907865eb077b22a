"""What is done to the parameters of layers. `nn.utils`, by PyTorch's names."""

from . import parametrizations, parametrize, rnn
from .running import update_bn
from .vector import parameters_to_vector, vector_to_parameters

__all__ = ["parameters_to_vector", "parametrizations", "parametrize", "rnn", "update_bn", "vector_to_parameters"]
