"""Every layer, one line per case; `test_layer_table.py` puts each through the layer contract on every backend."""

import numpy as np
from layer_line import LAYERS, layer
from op_line import between, nonzero, normal, positive, probability, spaced, whole
from op_table_embedding import offsets
from op_table_loss_margin import signs
from op_table_pool import different

from nnbackend import nn

__all__ = ["LAYERS"]

# -- linear and containers ----------------------------------------------------------------------------------------

layer("Linear", 3, 2, inputs=normal(4, 3))
layer("Linear", 3, 2, bias=False, inputs=normal(2, 5, 3))
layer("Bilinear", 3, 5, 2, inputs=(normal(4, 3), normal(4, 5)))
layer("Bilinear", 3, 5, 2, bias=False, inputs=(normal(4, 2, 3), normal(4, 2, 5)))
layer("Identity", 3, unused=True, inputs=normal(4, 3), smooth=False)
layer("MLP", [3, 5, 2], "tanh", dropout=0.2, inputs=normal(4, 3), ready=nn.Module.eval)
layer("Residual", inputs=normal(4, 3), build=lambda: nn.Residual(nn.Linear(3, 3)))

# -- activations --------------------------------------------------------------------------------------------------

for name in ("Sigmoid", "LogSigmoid", "Tanh", "Tanhshrink", "Softsign", "SiLU", "Mish", "GELU", "Softplus"):
    layer(name, inputs=nonzero(4, 3))
layer("GELU", approximate="tanh", inputs=normal(4, 3))
layer("Softplus", 2.0, 3.0, inputs=nonzero(4, 3))
for name in ("ELU", "CELU", "SELU"):
    layer(name, inputs=nonzero(4, 3))
layer("CELU", 0.5, inputs=nonzero(4, 3))
for name in ("ReLU", "ReLU6", "LeakyReLU", "Hardtanh", "Hardsigmoid", "Hardshrink", "Softshrink"):
    layer(name, inputs=spaced(5, 7), smooth=False)
layer("Hardswish", inputs=spaced(5, 7))
layer("Hardtanh", -2.0, 0.5, inputs=spaced(4, 3), smooth=False)
layer("Threshold", 0.5, -2.0, inputs=spaced(4, 3), smooth=False)
layer("PReLU", inputs=nonzero(4, 3))
layer("PReLU", 3, 0.1, inputs=nonzero(4, 3, 2))
layer("RReLU", 0.2, 0.6, inputs=nonzero(4, 3), smooth=False, ready=nn.Module.eval)
for name in ("Softmax", "Softmin", "LogSoftmax"):
    layer(name, inputs=normal(4, 3))
layer("Softmax", 1, inputs=normal(4, 3, 2))
layer("Softmax2d", inputs=normal(2, 3, 2, 2))
layer("GLU", inputs=normal(4, 6))
layer("GLU", 1, inputs=normal(3, 4, 2))

# -- dropout ------------------------------------------------------------------------------------------------------

for name in ("Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout"):
    layer(name, inputs=normal(4, 3, 2), smooth=False, ready=nn.Module.eval)  # in training: test_activation.py

# -- rearranging and padding --------------------------------------------------------------------------------------

layer("Flatten", inputs=normal(2, 3, 4), smooth=False)
layer("Unflatten", 1, (2, -1), inputs=normal(3, 6, 2), smooth=False)
layer("PixelShuffle", 2, inputs=normal(2, 8, 2, 3), smooth=False)
layer("PixelUnshuffle", 2, inputs=normal(2, 3, 4, 2), smooth=False)
layer("ChannelShuffle", 2, inputs=normal(2, 6, 3), smooth=False)
for axes, shape in ((1, (2, 3, 5)), (2, (2, 3, 4, 5)), (3, (2, 1, 3, 4, 3))):
    for kind in ("Zero", "Reflection", "Replication", "Circular"):
        layer(f"{kind}Pad{axes}d", (2, 1, 0, 2, 1, 1)[: 2 * axes], inputs=normal(*shape), smooth=False)
    layer(f"ConstantPad{axes}d", 2, 0.5, inputs=normal(*shape), smooth=False)

# -- convolution --------------------------------------------------------------------------------------------------

layer("Conv1d", 4, 6, 3, padding="same", groups=2, inputs=normal(2, 4, 5))
layer("Conv2d", 4, 6, 3, inputs=normal(2, 4, 5, 5))
layer("Conv2d", 3, 4, (2, 3), stride=(2, 1), padding=(1, 2), dilation=(1, 2), bias=False, inputs=normal(2, 3, 5, 6))
for mode in ("reflect", "replicate", "circular"):
    layer("Conv2d", 2, 3, (3, 2), padding=(1, 2), padding_mode=mode, inputs=normal(2, 2, 4, 4))
layer("Conv3d", 2, 2, 2, padding=1, inputs=normal(1, 2, 3, 2, 3))
layer("ConvTranspose1d", 4, 2, 3, stride=2, padding=1, output_padding=1, groups=2, inputs=normal(2, 4, 3))
layer("ConvTranspose2d", 3, 2, 3, stride=2, inputs=normal(2, 3, 3, 3))
layer("ConvTranspose2d", 3, 2, 3, stride=2, inputs=(normal(2, 3, 3, 3), [8, 7]))
layer("ConvTranspose3d", 2, 3, 2, dilation=2, bias=False, inputs=normal(1, 2, 2, 3, 2))
layer("Unfold", 2, padding=1, stride=2, inputs=normal(2, 3, 4, 5))
layer("Fold", (3, 4), 2, inputs=normal(2, 8, 6))

# -- pooling ------------------------------------------------------------------------------------------------------

for axes, shape in ((1, (2, 3, 7)), (2, (2, 2, 5, 6)), (3, (1, 2, 4, 4, 5))):
    layer(f"MaxPool{axes}d", 3, 2, 1, ceil_mode=True, inputs=spaced(*shape), smooth=False)
    layer(f"MaxPool{axes}d", 2, return_indices=True, inputs=spaced(*shape), smooth=False)
    found, places = (2, 3, *(2,) * axes), 4**axes
    layer(f"MaxUnpool{axes}d", 2, inputs=(normal(*found), different(places, *found, axes=axes)), smooth=False)
    layer(f"AvgPool{axes}d", 3, 2, 1, count_include_pad=False, inputs=normal(*shape), smooth=False)
    layer(f"LPPool{axes}d", 3.0, 2, inputs=positive(*shape))
    layer(f"AdaptiveMaxPool{axes}d", 3, inputs=spaced(*shape), smooth=False)
    layer(f"AdaptiveAvgPool{axes}d", 3, inputs=normal(*shape), smooth=False)
layer("FractionalMaxPool2d", inputs=spaced(2, 2, 5, 6), smooth=False, batch=False,
      build=lambda: nn.FractionalMaxPool2d(2, output_size=(3, 4), _random_samples=np.full((2, 2, 2), 0.3)))  # fmt: skip
layer("FractionalMaxPool3d", (1, 2, 2), output_ratio=0.5, inputs=spaced(1, 2, 4, 4, 5), smooth=False)

# -- resampling ---------------------------------------------------------------------------------------------------

layer("Upsample", scale_factor=2, inputs=normal(2, 3, 4), smooth=False)
layer("Upsample", (5, 3), mode="bicubic", align_corners=True, inputs=normal(2, 2, 4, 3), smooth=False)
layer("UpsamplingNearest2d", scale_factor=1.7, inputs=normal(2, 2, 4, 3), smooth=False)
layer("UpsamplingBilinear2d", (5, 3), inputs=normal(2, 2, 4, 3), smooth=False)

# -- normalisation ------------------------------------------------------------------------------------------------

for name, shape in (("BatchNorm1d", (4, 3)), ("BatchNorm1d", (4, 3, 5)), ("BatchNorm2d", (4, 3, 2, 5)),
                    ("BatchNorm3d", (2, 3, 2, 3, 2))):  # fmt: skip
    layer(name, 3, inputs=normal(*shape), batch=False)
    layer(name, 3, inputs=normal(*shape), ready=nn.Module.eval)
layer("BatchNorm1d", 3, 1e-3, None, inputs=normal(4, 3), batch=False)
layer("BatchNorm1d", 3, affine=False, track_running_stats=False, inputs=normal(4, 3), batch=False)
layer("BatchNorm1d", 3, bias=False, inputs=normal(4, 3), batch=False)
for name, shape in (("InstanceNorm1d", (2, 3, 5)), ("InstanceNorm2d", (2, 3, 4, 5)),
                    ("InstanceNorm3d", (2, 3, 2, 3, 2))):  # fmt: skip
    layer(name, 3, affine=True, inputs=normal(*shape))
    layer(name, 3, inputs=normal(*shape[1:]), batch=False)
layer("InstanceNorm1d", 3, track_running_stats=True, inputs=normal(2, 3, 5))
layer("InstanceNorm1d", 3, track_running_stats=True, inputs=normal(2, 3, 5), ready=nn.Module.eval)
layer("LayerNorm", 5, inputs=normal(2, 3, 5))
layer("LayerNorm", (3, 5), 1e-3, bias=False, inputs=normal(2, 3, 5))
layer("LayerNorm", 5, elementwise_affine=False, inputs=normal(2, 3, 5))
layer("RMSNorm", 5, inputs=normal(2, 3, 5))
layer("RMSNorm", (3, 5), 1e-3, False, inputs=normal(2, 3, 5))
layer("GroupNorm", 2, 4, inputs=normal(2, 4, 3))
layer("GroupNorm", 2, 4, affine=False, inputs=normal(2, 4, 3, 2))
layer("LocalResponseNorm", 3, inputs=normal(2, 4, 3))
for norm in ("weight_norm", "spectral_norm"):
    made = getattr(nn.utils.parametrizations, norm)
    layer(norm, inputs=normal(4, 3), build=lambda made=made: made(nn.Linear(3, 2)), ready=nn.Module.eval)

# -- embedding ----------------------------------------------------------------------------------------------------

layer("Embedding", 7, 3, inputs=whole(7, 4, 5), smooth=False)
layer("EmbeddingBag", 7, 3, inputs=whole(7, 4, 5), smooth=False)
layer("EmbeddingBag", 7, 3, mode="max", padding_idx=2, inputs=whole(7, 4, 5), smooth=False)
layer("EmbeddingBag", 7, 3, mode="sum", inputs=(whole(7, 6), offsets(0, 2, 2)), smooth=False, batch=False)

# -- recurrent ----------------------------------------------------------------------------------------------------

layer("RNN", 3, 2, inputs=normal(4, 5, 3), batch_first=True)
layer("RNN", 3, 2, 2, "relu", inputs=normal(4, 5, 3), batch_first=True, bidirectional=True, smooth=False)
layer("LSTM", 3, 2, inputs=normal(4, 5, 3), batch_first=True)
layer("LSTM", 3, 2, 2, bidirectional=True, proj_size=1, inputs=normal(4, 2, 3), batch=False)
layer("GRU", 3, 2, inputs=normal(4, 5, 3), batch_first=True)
layer("GRU", 3, 2, 2, bias=False, dropout=0.5, inputs=normal(4, 3), batch=False, ready=nn.Module.eval)
layer("RNNCell", 3, 2, inputs=(normal(4, 3), normal(4, 2)))
layer("RNNCell", 3, 2, False, "relu", inputs=normal(4, 3), smooth=False)
layer("LSTMCell", 3, 2, inputs=(normal(4, 3), (normal(4, 2), normal(4, 2))))
layer("GRUCell", 3, 2, inputs=normal(4, 3))

# -- attention, transformer, positions ----------------------------------------------------------------------------

layer("MultiheadAttention", 4, 2, inputs=(normal(2, 3, 4),) * 3, batch_first=True)
layer("MultiheadAttention", 4, 2, inputs=(normal(5, 2, 4), normal(3, 2, 6), normal(3, 2, 2)), batch=False,
      kdim=6, vdim=2, add_bias_kv=True, add_zero_attn=True)  # fmt: skip
layer("TransformerEncoderLayer", 4, 2, 8, 0.0, "gelu", inputs=normal(2, 3, 4), batch_first=True)
layer("TransformerEncoderLayer", 4, 2, 8, 0.3, "gelu", inputs=normal(3, 2, 4), batch=False, norm_first=True)
layer("TransformerDecoderLayer", 8, 2, 16, 0.0, "gelu", inputs=(normal(2, 3, 8), normal(2, 5, 8)), batch_first=True)
layer("Transformer", 4, 2, 1, 1, 8, 0.0, "gelu", inputs=(normal(2, 3, 4), normal(2, 5, 4)), batch_first=True)
layer("RotaryEmbedding", 4, inputs=normal(2, 3, 4))
layer("SinusoidalPositions", 4, inputs=normal(2, 3, 4))

# -- distances ----------------------------------------------------------------------------------------------------

layer("CosineSimilarity", inputs=(normal(4, 3), normal(4, 3)))
layer("CosineSimilarity", -1, 1e-3, inputs=(normal(2, 3, 4), normal(2, 1, 4)))
layer("PairwiseDistance", inputs=(normal(4, 3), normal(4, 3)))
layer("PairwiseDistance", 3.0, keepdim=True, inputs=(normal(4, 3), normal(4, 3)))

# -- losses -------------------------------------------------------------------------------------------------------

pair, weights = (normal(4, 3), probability(4, 3)), np.array([0.5, 1.0, 2.0], "float32")
for name in ("MSELoss", "BCEWithLogitsLoss", "CrossEntropyLoss", "KLDivLoss", "PoissonNLLLoss", "FocalLoss"):
    layer(name, inputs=pair, batch=False)
for name, settings in (
    ("MSELoss", {}), ("PoissonNLLLoss", {"full": True}), ("KLDivLoss", {"log_target": True}), ("BCEWithLogitsLoss", {}),
    ("MultiLabelSoftMarginLoss", {}),
):  # fmt: skip
    layer(name, reduction="none", inputs=pair, **settings)
for name, smooth in (("L1Loss", False), ("SmoothL1Loss", True), ("HuberLoss", True), ("QuantileLoss", False)):
    layer(name, reduction="sum", inputs=(spaced(4, 3), between(4, 3)), smooth=smooth)
layer("BCELoss", weights, reduction="sum", inputs=(probability(4, 3), probability(4, 3)))
layer("BCEWithLogitsLoss", weights, pos_weight=weights, reduction="sum", inputs=pair)
layer("CrossEntropyLoss", weights, 1, "sum", inputs=(normal(7, 3), whole(3, 7)))
layer("CrossEntropyLoss", weights, label_smoothing=0.2, inputs=(normal(7, 3, 2), whole(3, 7, 2)), batch=False)
layer("NLLLoss", weights, reduction="none", inputs=(normal(7, 3), whole(3, 7)), smooth=False)
layer("FocalLoss", weights, reduction="sum", inputs=(normal(7, 3), whole(3, 7)))
layer("GaussianNLLLoss", reduction="sum", inputs=(normal(4, 3), normal(4, 3), positive(4, 3)))
layer("MultiMarginLoss", 2, weight=weights, reduction="sum", inputs=(normal(4, 3), whole(3, 4)))
layer("MultiLabelMarginLoss", reduction="sum", inputs=(normal(4, 3), whole(3, 4, 3)), smooth=False)
layer("SoftMarginLoss", reduction="sum", inputs=(normal(4, 3), signs(4, 3)))
layer("HingeEmbeddingLoss", reduction="sum", inputs=(nonzero(4, 3), signs(4, 3)), smooth=False)
layer("CosineEmbeddingLoss", reduction="sum", inputs=(normal(4, 3), normal(4, 3), signs(4)))
layer("MarginRankingLoss", 0.5, "sum", inputs=(normal(4), normal(4), signs(4)), smooth=False)
layer("TripletMarginLoss", 2.0, reduction="sum", inputs=(normal(4, 3), normal(4, 3), normal(4, 3)))
layer("TripletMarginWithDistanceLoss", margin=2.0, reduction="sum", inputs=(normal(4, 3), normal(4, 3), normal(4, 3)))
layer("CTCLoss", 2, inputs=(normal(4, 2, 3), whole(2, 2, 2), (4, 3), (2, 1)), batch=False)
