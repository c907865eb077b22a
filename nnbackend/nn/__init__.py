"""Layers, and what they are made of. `from nnbackend import nn`."""

from ..cells import Buffer, Parameter, Scalar
from ..training_mode import evaluating
from . import activation as _activation
from . import attention as _attention
from . import container as _container
from . import conv as _conv
from . import distance as _distance
from . import dropout as _dropout
from . import embedding as _embedding
from . import init, utils
from . import linear as _linear
from . import loss as _loss
from . import loss_margin as _loss_margin
from . import loss_sequence as _loss_sequence
from . import module as _module
from . import norm as _norm
from . import padding as _padding
from . import pool as _pool
from . import position as _position
from . import random_module as _random_module
from . import rearrange as _rearrange
from . import recurrent as _recurrent
from . import recurrent_cell as _recurrent_cell
from . import resample as _resample
from . import transformer as _transformer
from .activation import *
from .attention import *
from .container import *
from .conv import *
from .distance import *
from .dropout import *
from .embedding import *
from .linear import *
from .loss import *
from .loss_margin import *
from .loss_sequence import *
from .module import *
from .norm import *
from .padding import *
from .pool import *
from .position import *
from .random_module import *
from .rearrange import *
from .recurrent import *
from .recurrent_cell import *
from .resample import *
from .transformer import *

__all__ = [
    "Buffer",
    "Parameter",
    "Scalar",
    "evaluating",
    "init",
    "utils",
    *_activation.__all__,
    *_attention.__all__,
    *_container.__all__,
    *_conv.__all__,
    *_distance.__all__,
    *_dropout.__all__,
    *_embedding.__all__,
    *_linear.__all__,
    *_loss.__all__,
    *_loss_margin.__all__,
    *_loss_sequence.__all__,
    *_module.__all__,
    *_norm.__all__,
    *_padding.__all__,
    *_pool.__all__,
    *_position.__all__,
    *_random_module.__all__,
    *_rearrange.__all__,
    *_recurrent.__all__,
    *_recurrent_cell.__all__,
    *_resample.__all__,
    *_transformer.__all__,
]
