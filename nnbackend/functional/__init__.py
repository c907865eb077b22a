"""Functions by PyTorch's names. `from nnbackend import functional as F`.

Any Tensor in, Tensor out; all plain arrays in, plain array out.
"""

from . import activation as _activation
from . import attention as _attention
from . import conv as _conv
from . import distance as _distance
from . import dropout as _dropout
from . import embedding as _embedding
from . import linear as _linear
from . import loss as _loss
from . import loss_margin as _loss_margin
from . import loss_sequence as _loss_sequence
from . import norm as _norm
from . import padding as _padding
from . import pool as _pool
from . import rearrange as _rearrange
from . import recurrent as _recurrent
from . import resample as _resample
from .activation import *
from .attention import *
from .conv import *
from .distance import *
from .dropout import *
from .embedding import *
from .linear import *
from .loss import *
from .loss_margin import *
from .loss_sequence import *
from .norm import *
from .padding import *
from .pool import *
from .rearrange import *
from .recurrent import *
from .resample import *

__all__ = [
    *_activation.__all__,
    *_attention.__all__,
    *_conv.__all__,
    *_distance.__all__,
    *_dropout.__all__,
    *_embedding.__all__,
    *_linear.__all__,
    *_loss.__all__,
    *_loss_margin.__all__,
    *_loss_sequence.__all__,
    *_norm.__all__,
    *_padding.__all__,
    *_pool.__all__,
    *_rearrange.__all__,
    *_recurrent.__all__,
    *_resample.__all__,
]
