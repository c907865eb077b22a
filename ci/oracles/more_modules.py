"""Cases of modules that PyTorch's database lacks, each run in training and evaluation."""

from functools import partial
from typing import Any

import torch
from torch import nn
from torch.testing import make_tensor
from torch.testing._internal.common_modules import FunctionInput as Given

torch.manual_seed(7)
leaf = partial(make_tensor, device="cpu", dtype=torch.float64, requires_grad=True)


def whole(high: int, *shape: int) -> torch.Tensor:
    """Indices below `high`."""
    return torch.randint(0, high, shape)


MORE: list[tuple[str, Any, Any, str]] = []  # module, settings, inputs, what is done to the module


def more(name: str, *settings: Any, on: Any, then: str = "", **named: Any) -> None:
    """`on`: the inputs, one or a tuple. `then`: a function of `nn.utils.parametrizations`."""
    MORE.append((name, Given(*settings, **named), Given(*(on if isinstance(on, tuple) else (on,))), then))


more("Flatten", on=leaf((2, 3, 4)))
more("Flatten", 0, 1, on=leaf((2, 3, 4)))
more("Unflatten", 1, (2, 3), on=leaf((2, 6, 2)))
more("Unflatten", -1, (2, -1), on=leaf((2, 6)))
more("Identity", on=leaf((2, 3)))
more("Hardsigmoid", on=leaf((4, 5)))
more("RReLU", 0.3, 0.3, on=leaf((4, 5)))
more("Threshold", 0.2, 1.5, on=leaf((4, 5)))
more("PixelShuffle", 2, on=leaf((2, 8, 3, 2)))
more("PixelUnshuffle", 2, on=leaf((2, 2, 4, 6)))
more("ChannelShuffle", 3, on=leaf((2, 6, 2, 3)))
for name, shape in (("Dropout", (3, 4)), ("Dropout1d", (2, 3, 4)), ("Dropout2d", (2, 3, 4, 2)),
                    ("Dropout3d", (2, 3, 2, 2, 2)), ("AlphaDropout", (3, 4)),
                    ("FeatureAlphaDropout", (2, 3, 4))):  # fmt: skip
    more(name, 0.4, on=leaf(shape))
    more(name, 0.0, on=leaf(shape))
for mode, shape in (("nearest", (2, 3, 4)), ("linear", (2, 3, 4)), ("nearest-exact", (2, 3, 4)),
                    ("nearest", (2, 3, 4, 5)), ("bilinear", (2, 3, 4, 5)), ("bicubic", (2, 3, 4, 5)),
                    ("nearest-exact", (2, 3, 4, 5)), ("nearest", (1, 2, 2, 3, 4)), ("trilinear", (1, 2, 2, 3, 4)),
                    ("area", (2, 3, 4, 5))):  # fmt: skip
    size = tuple(2 * n + 1 for n in shape[2:])
    more("Upsample", scale_factor=2, mode=mode, on=leaf(shape))
    more("Upsample", size=size, mode=mode, on=leaf(shape))
    if mode.endswith(("linear", "cubic")):
        more("Upsample", size=size, mode=mode, align_corners=True, on=leaf(shape))
        more("Upsample", scale_factor=1.6, mode=mode, align_corners=False, on=leaf(shape))
more("UpsamplingNearest2d", scale_factor=2, on=leaf((1, 2, 3, 4)))
more("UpsamplingBilinear2d", size=(5, 7), on=leaf((1, 2, 3, 4)))
more("Embedding", 5, 3, on=whole(5, 2, 4))
more("Embedding", 5, 3, padding_idx=2, on=whole(5, 2, 4))
more("Embedding", 5, 3, padding_idx=-1, on=whole(5, 6))
more("Embedding", 5, 3, max_norm=1.0, on=whole(5, 2, 4))
more("Embedding", 5, 3, max_norm=1.0, norm_type=1.0, on=whole(5, 4))
more("Embedding", 5, 3, scale_grad_by_freq=True, on=whole(5, 2, 4))
for mode in ("mean", "sum", "max"):
    more("EmbeddingBag", 5, 3, mode=mode, on=whole(5, 2, 4))
    more("EmbeddingBag", 5, 3, mode=mode, on=(whole(5, 7), torch.tensor([0, 3, 4])))
    more("EmbeddingBag", 5, 3, mode=mode, padding_idx=1, on=whole(5, 3, 4))
more("EmbeddingBag", 5, 3, mode="sum", on=(whole(5, 2, 4), None, leaf((2, 4))))
more("EmbeddingBag", 5, 3, mode="mean", include_last_offset=True, on=(whole(5, 7), torch.tensor([0, 3, 7])))
more("Unfold", 2, on=leaf((2, 3, 4, 5)))
more("Unfold", (2, 3), dilation=(1, 2), padding=(1, 2), stride=(2, 1), on=leaf((2, 3, 4, 5)))
more("Fold", (4, 5), 2, on=leaf((2, 8, 12)))
more("Fold", (4, 5), (2, 2), padding=1, stride=2, on=leaf((2, 8, 9)))
more("CosineSimilarity", on=(leaf((3, 4)), leaf((3, 4))))
more("CosineSimilarity", 2, 1e-3, on=(leaf((2, 3, 4)), leaf((2, 3, 4))))
more("PairwiseDistance", on=(leaf((3, 4)), leaf((3, 4))))
more("PairwiseDistance", 1.0, 1e-3, True, on=(leaf((2, 3, 4)), leaf((2, 3, 4))))
more("TripletMarginLoss", on=(leaf((3, 4)), leaf((3, 4)), leaf((3, 4))))
more("TripletMarginLoss", 0.5, 1, swap=True, reduction="none", on=(leaf((3, 4)), leaf((3, 4)), leaf((3, 4))))
more("TripletMarginLoss", 5.0, reduction="sum", on=(leaf((3, 4)), leaf((3, 4)), leaf((3, 4))))
more("TripletMarginWithDistanceLoss", on=(leaf((3, 4)), leaf((3, 4)), leaf((3, 4))))
for n, shape in ((1, (2, 3, 8)), (2, (2, 3, 6, 4)), (3, (1, 2, 4, 4, 4))):
    x = leaf(shape, requires_grad=False)
    y, at = getattr(nn, f"MaxPool{n}d")(2, return_indices=True)(x)
    more(f"MaxUnpool{n}d", 2, on=(y.clone().requires_grad_(), at))
    more(f"Conv{n}d", 2 if n == 3 else 3, 4, 2, padding="same", padding_mode="reflect", on=leaf(shape))
    more(f"Conv{n}d", 2 if n == 3 else 3, 4, 2, padding=1, padding_mode="circular", on=leaf(shape))
    more(f"Conv{n}d", 2 if n == 3 else 3, 4, 2, padding=1, padding_mode="replicate", bias=False, on=leaf(shape))
    c = 2 if n == 3 else 3
    more(f"Conv{n}d", c, 2 * c, 3, stride=2, padding=2, dilation=2, groups=c, on=leaf(shape))
    more(f"ConvTranspose{n}d", c, 4, 3, stride=2, padding=1, output_padding=1, on=leaf(shape))
    more(f"ConvTranspose{n}d", c, 2 * c, 2, dilation=2, groups=c, bias=False, on=leaf(shape))
    more(f"AvgPool{n}d", 3, 2, 1, ceil_mode=True, count_include_pad=False, on=leaf(shape))
    more(f"MaxPool{n}d", 3, 2, 1, ceil_mode=True, return_indices=True, on=leaf(shape))
    more(f"MaxPool{n}d", 2, 1, dilation=2, on=leaf(shape))
    more(f"LPPool{n}d", 2, 2, ceil_mode=True, on=leaf(shape))
more("LSTM", 3, 4, 2, bidirectional=True, batch_first=True, proj_size=2, on=leaf((2, 5, 3)))
more("LSTM", 3, 4, 2, dropout=0.0, bias=False, on=(leaf((5, 2, 3)), (leaf((2, 2, 4)), leaf((2, 2, 4)))))
more("GRU", 3, 4, 2, bidirectional=True, on=(leaf((5, 2, 3)), leaf((4, 2, 4))))
more("RNN", 3, 4, 2, "relu", bidirectional=True, on=(leaf((5, 2, 3)), leaf((4, 2, 4))))
more("MultiheadAttention", 8, 2, kdim=3, vdim=5, on=(leaf((4, 2, 8)), leaf((6, 2, 3)), leaf((6, 2, 5))))
more("MultiheadAttention", 8, 2, add_bias_kv=True, add_zero_attn=True, batch_first=True,
     on=(leaf((2, 4, 8)), leaf((2, 6, 8)), leaf((2, 6, 8))))  # fmt: skip
more("TransformerEncoder", nn.TransformerEncoderLayer(8, 2, 16, 0.0), 2, on=leaf((5, 2, 8)))
more("TransformerDecoder", nn.TransformerDecoderLayer(8, 2, 16, 0.0), 2, on=(leaf((5, 2, 8)), leaf((3, 2, 8))))
more("BatchNorm2d", 3, momentum=None, on=leaf((2, 3, 4, 2)))
more("Softmax2d", on=leaf((2, 3, 4, 2)))
for then in ("weight_norm", "spectral_norm"):
    more("Linear", 3, 4, then=then, on=leaf((2, 3)))
    more("Conv2d", 3, 4, (2, 1), then=then, on=leaf((2, 3, 3, 2)))
    more("ConvTranspose1d", 3, 4, 2, then=then, on=leaf((2, 3, 3)))
