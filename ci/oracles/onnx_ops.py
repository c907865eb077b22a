"""ONNX operators by nnbackend's public functions: one short function each, named like the operator.

Inputs come as Tensors, None where left out, attributes as keywords. `Unmapped` says what has no counterpart.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from typing import Any

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import nn


class Unmapped(Exception):
    """What this node asks for is not in the library."""


def ints(x: Any) -> list[int]:
    """A small integer tensor, or a list already, on the host."""
    values = x.tolist() if isinstance(x, nb.Tensor) else x
    return [int(v) for v in (values if isinstance(values, list | tuple) else [values])]


def only(wanted: bool, reason: str) -> None:
    if not wanted:
        raise Unmapped(reason)


# -- convolution and pooling ----------------------------------------------------------------------------------------


def frame(size: Sequence[int], kernel: Sequence[int], stride: Any, dilation: Any, pads: Any, auto: str) -> list[Any]:
    """(before, after) of each axis, for explicit pads or SAME ones."""
    n = len(kernel)
    stride, dilation = stride or [1] * n, dilation or [1] * n
    if auto == "VALID" or (auto == "NOTSET" and not pads):
        return [(0, 0)] * n
    if auto == "NOTSET":
        return list(zip(pads[:n], pads[n:], strict=True))
    total = [
        max((math.ceil(m / s) - 1) * s + (k - 1) * d + 1 - m, 0)
        for m, k, s, d in zip(size, kernel, stride, dilation, strict=True)
    ]
    less = [(t // 2, t - t // 2) for t in total]
    return [pair[::-1] for pair in less] if auto == "SAME_LOWER" else less


def bordered(x: Any, pairs: list[Any], value: float = 0.0) -> Any:
    widths = [w for pair in reversed(pairs) for w in pair]
    return F.pad(x, widths, "constant", value) if any(widths) else x


def even(pairs: list[Any], kernel: Sequence[int] | None = None) -> bool:
    """Whether the borders are equal and, for pools, at most half the window."""
    return all(a == b and (kernel is None or a <= k // 2) for (a, b), k in zip(pairs, kernel or pairs, strict=True))


def Conv(x, w, b=None, *, auto_pad="NOTSET", dilations=None, group=1, kernel_shape=None, pads=None, strides=None):
    n = len(w.shape) - 2
    pairs = frame(x.shape[2:], w.shape[2:], strides, dilations, pads, auto_pad)
    conv = (F.conv1d, F.conv2d, F.conv3d)[n - 1]
    given = {"stride": tuple(strides or [1] * n), "dilation": tuple(dilations or [1] * n), "groups": group}
    if even(pairs):
        return conv(x, w, b, padding=tuple(a for a, _ in pairs), **given)
    return conv(bordered(x, pairs), w, b, **given)


def ConvTranspose(x, w, b=None, *, auto_pad="NOTSET", dilations=None, group=1, kernel_shape=None,
                  output_padding=None, output_shape=None, pads=None, strides=None):  # fmt: skip
    n = len(w.shape) - 2
    stride, dilation, more = strides or [1] * n, dilations or [1] * n, output_padding or [0] * n
    full = [
        (m - 1) * s + (k - 1) * d + 1 for m, k, s, d in zip(x.shape[2:], w.shape[2:], stride, dilation, strict=True)
    ]
    if auto_pad != "NOTSET":
        output_shape = [m * s for m, s in zip(x.shape[2:], stride, strict=True)]
    if output_shape:
        more = [max(out - f, 0) for f, out in zip(full, output_shape, strict=True)]
        total = [max(f - out, 0) for f, out in zip(full, output_shape, strict=True)]
        pads = [t // 2 for t in total] + [t - t // 2 for t in total]
    conv = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[n - 1]
    y = conv(x, w, b, tuple(stride), 0, tuple(more), group, tuple(dilation))
    for axis, (a, z) in enumerate(frame(x.shape[2:], w.shape[2:], stride, dilation, pads, "NOTSET")):
        y = nb.take(y, nb.arange(a, y.shape[axis + 2] - z, dtype="int64"), axis=axis + 2)
    return y


def pooled(name: str, x: Any, *args: Any, **kw: Any) -> Any:
    return getattr(F, f"{name}_pool{len(x.shape) - 2}d")(x, *args, **kw)


def AveragePool(x, *, kernel_shape, auto_pad="NOTSET", ceil_mode=0, count_include_pad=0, dilations=None, pads=None,
                strides=None):  # fmt: skip
    only(not dilations or max(dilations) == 1, "average pooling with dilation, which PyTorch lacks too")
    pairs = frame(x.shape[2:], kernel_shape, strides, dilations, pads, auto_pad)
    given = (tuple(kernel_shape), tuple(strides or [1] * len(kernel_shape)))
    if even(pairs, kernel_shape):
        padding = tuple(a for a, _ in pairs)
        return pooled("avg", x, *given, padding, bool(ceil_mode), bool(count_include_pad))
    y = pooled("avg", bordered(x, pairs), *given, 0, bool(ceil_mode))
    share = 1.0 if count_include_pad else pooled("avg", bordered(nb.ones_like(x), pairs), *given, 0, bool(ceil_mode))
    return y / share


def MaxPool(x, *, kernel_shape, auto_pad="NOTSET", ceil_mode=0, dilations=None, pads=None, storage_order=0,
            strides=None, indices=True):  # fmt: skip
    only(not storage_order, "column-major indices")
    only(str(x.dtype).startswith("float"), "pooling of integers")
    pairs = frame(x.shape[2:], kernel_shape, strides, dilations, pads, auto_pad)
    n = len(kernel_shape)
    given = (tuple(kernel_shape), tuple(strides or [1] * n))
    rest = (tuple(dilations or [1] * n), bool(ceil_mode), True)
    if even(pairs, kernel_shape):
        y, at = pooled("max", x, *given, tuple(a for a, _ in pairs), *rest)
        planes = nb.reshape(nb.arange(x.shape[0] * x.shape[1], dtype="int64"), (*x.shape[:2], *[1] * n))
        return y, at + planes * math.prod(x.shape[2:])
    return pooled("max", bordered(x, pairs, -math.inf), *given, 0, *rest)[0]


def LpPool(x, *, kernel_shape, p=2, auto_pad="NOTSET", ceil_mode=0, dilations=None, pads=None, strides=None):
    only(not dilations or max(dilations) == 1, "Lp pooling with dilation, which PyTorch lacks too")
    pairs = frame(x.shape[2:], kernel_shape, strides, dilations, pads, auto_pad)
    return pooled("lp", bordered(nb.abs(x), pairs), float(p), tuple(kernel_shape),
                  tuple(strides or [1] * len(kernel_shape)), bool(ceil_mode))  # fmt: skip


def GlobalAveragePool(x):
    return pooled("adaptive_avg", x, 1)


def GlobalMaxPool(x):
    return pooled("adaptive_max", x, 1)


def MaxUnpool(x, at, output_shape=None, *, kernel_shape, pads=None, strides=None):
    n, size = len(kernel_shape), None
    if output_shape is not None:
        given, size = tuple(ints(output_shape)[2:]), None
        usual = tuple((m - 1) * s + k for m, s, k in zip(x.shape[2:], strides, kernel_shape, strict=True))
        only(given == usual, "an output size that moves the indices")
    return getattr(F, f"max_unpool{n}d")(x, at, tuple(kernel_shape), tuple(strides or [1] * n), 0, size)


def Col2Im(x, size, block, *, dilations=None, pads=None, strides=None):
    only(len(ints(size)) == 2, "folds of three axes, which PyTorch lacks too")
    pads = pads or [0] * 4
    only(pads[:2] == pads[2:], "uneven borders")
    return F.fold(x, tuple(ints(size)), tuple(ints(block)), tuple(dilations or [1, 1]), tuple(pads[:2]),
                  tuple(strides or [1, 1]))  # fmt: skip


# -- norms ----------------------------------------------------------------------------------------------------------


def BatchNormalization(x, s, b, mean, var, *, epsilon=1e-5, momentum=0.9, training_mode=0):
    if not training_mode:
        return F.batch_norm(x, mean, var, s, b, False, 0.1, epsilon)
    axes = (0, *range(2, len(x.shape)))
    y = F.batch_norm(x, None, None, s, b, True, 0.1, epsilon)
    kept = [
        old * momentum + new * (1 - momentum)
        for old, new in ((mean, nb.mean(x, axis=axes)), (var, nb.var(x, axis=axes)))
    ]
    return y, *kept


def InstanceNormalization(x, s, b, *, epsilon=1e-5):
    return F.instance_norm(x, weight=s, bias=b, eps=epsilon)


def GroupNormalization(x, s, b, *, num_groups, epsilon=1e-5, stash_type=1):
    return F.group_norm(x, num_groups, s, b, epsilon)


def LayerNormalization(x, w, b=None, *, axis=-1, epsilon=1e-5, stash_type=1):
    shape = x.shape[axis:]
    axes = tuple(range(len(x.shape) - len(shape), len(x.shape)))
    spread = 1.0 / nb.sqrt(nb.var(x, axis=axes, keepdims=True) + epsilon)
    return F.layer_norm(x, shape, w, b, epsilon), nb.mean(x, axis=axes, keepdims=True), spread


def RMSNormalization(x, w, *, axis=-1, epsilon=1e-5, stash_type=1):
    return F.rms_norm(x, x.shape[axis:], w, epsilon)


def LRN(x, *, size, alpha=1e-4, beta=0.75, bias=1.0):
    return F.local_response_norm(x, size, alpha, beta, bias)


def LpNormalization(x, *, axis=-1, p=2):
    return F.normalize(x, float(p), axis)


def MeanVarianceNormalization(x, *, axes=(0, 2, 3)):
    axes = tuple(axes)
    return (x - nb.mean(x, axis=axes, keepdims=True)) / (nb.std(x, axis=axes, keepdims=True) + 1e-9)


# -- attention, recurrent -------------------------------------------------------------------------------------------


def heads(x: Any, n: int) -> Any:
    """(b, l, n * d) -> (b, n, l, d)."""
    return nb.permute_dims(nb.reshape(x, (*x.shape[:2], n, x.shape[2] // n)), (0, 2, 1, 3))


def Attention(q, k, v, mask=None, past_k=None, past_v=None, filled=None, *, is_causal=0, kv_num_heads=None,
              q_num_heads=None, qk_matmul_output_mode=0, scale=None, softcap=0.0, softmax_precision=None,
              left_window_size=-1, right_window_size=-1):  # fmt: skip
    flat = len(q.shape) == 3
    if flat:
        q, k, v = heads(q, q_num_heads), heads(k, kv_num_heads), heads(v, kv_num_heads)
    past = 0
    if past_k is not None:
        past, k, v = past_k.shape[2], nb.concat([past_k, k], axis=2), nb.concat([past_v, v], axis=2)
    b, _, n, d = q.shape
    m, grouped = k.shape[2], q.shape[1] != k.shape[1]
    row, column = nb.reshape(nb.arange(n), (n, 1)), nb.arange(m)
    if mask is not None and mask.shape[-1] < m:
        empty = False if mask.dtype == "bool" else -math.inf
        mask = nb.pad(mask, widths=[(0, 0)] * (len(mask.shape) - 1) + [(0, m - mask.shape[-1])], value=empty)
    behind = past if filled is None else nb.reshape(filled, (b, 1, 1, 1)) - n
    limits = [column <= row + behind] if is_causal else []
    limits += [row + behind - column <= left_window_size] if left_window_size >= 0 else []
    limits += [column - row - behind <= right_window_size] if right_window_size >= 0 else []
    limits += [column < nb.reshape(filled, (b, 1, 1, 1))] if filled is not None else []
    plain = bool(is_causal) and len(limits) == 1 and mask is None and not past
    if limits and not plain:
        allowed = reduce(nb.logical_and, limits)
        is_bool = mask is None or mask.dtype == "bool"
        mask = allowed if mask is None else allowed & mask if is_bool else nb.where(allowed, mask, -math.inf)
    if mask is not None and len(mask.shape) == 1:
        mask = nb.reshape(mask, (1, -1))
    if softcap:
        only(not grouped or q.shape[1] % k.shape[1] == 0, "uneven groups")
    scale = 1 / math.sqrt(d) if scale is None else scale
    repeated = [nb.repeat(x, q.shape[1] // k.shape[1], axis=1) if grouped else x for x in (k, v)]
    raw = q @ nb.matrix_transpose(repeated[0]) * scale
    capped = softcap * nb.tanh(raw / softcap) if softcap else raw
    added = mask if mask is None or mask.dtype != "bool" else nb.where(mask, nb.zeros_like(raw), -math.inf)
    if plain:
        added = nb.where(limits[0], nb.zeros_like(raw), -math.inf)
    biased = capped if added is None else capped + added
    dead = nb.max(biased, axis=-1, keepdims=True) == -math.inf
    shares = nb.where(dead, 0.0, F.softmax(nb.where(dead, 0.0, biased), -1))
    if softcap:
        y = shares @ repeated[1]
    else:
        y = F.scaled_dot_product_attention(q, k, v, mask, is_causal=plain, scale=scale, enable_gqa=grouped)
    if flat:
        y = nb.reshape(nb.permute_dims(y, (0, 2, 1, 3)), (b, n, -1))
    return y, k, v, (raw, capped, biased, shares)[qk_matmul_output_mode]


def RotaryEmbedding(*args, **kw):
    raise Unmapped("rotation by tables of cosines; ours computes them")


def gates(x: Any, order: str, wanted: str) -> Any:
    """Rows in blocks named `order`, put in the order `wanted`."""
    parts = dict(zip(order, nb.chunk(x, len(order), 0), strict=True))
    return nb.concat([parts[g] for g in wanted], axis=0)


def recurrent(kind: str, order: str, wanted: str) -> Callable[..., Any]:
    def run(x, w, r, b=None, lengths=None, h=None, c=None, peepholes=None, *, hidden_size, direction="forward",
            layout=0, linear_before_reset=0, **other):  # fmt: skip
        only(peepholes is None, "peepholes")
        only(not other, f"{', '.join(other)}")
        only(lengths is None, "lengths of sequences")
        both, back = direction == "bidirectional", direction == "reverse"
        x = nb.moveaxis(x, 0, 1) if layout else x
        only(kind != "GRU" or bool(linear_before_reset) or x.shape[0] == 1, "GRU that resets before the product")
        net = getattr(nn, kind)(x.shape[2], hidden_size, bidirectional=both)
        state = {}
        for i, end in enumerate(("", "_reverse")[: 1 + both]):
            bias = [nb.zeros(len(order) * hidden_size)] * 2 if b is None else nb.chunk(b[i, ...], 2, 0)
            named = {"weight_ih": w[i, ...], "weight_hh": r[i, ...], "bias_ih": bias[0], "bias_hh": bias[1]}
            state |= {f"{name}_l0{end}": gates(value, order, wanted) for name, value in named.items()}
        net.load_state_dict(state)
        y, last = net(nb.flip(x, axis=0) if back else x)
        y = nb.flip(y, axis=0) if back else y
        y = nb.moveaxis(nb.reshape(y, (*y.shape[:2], 1 + both, hidden_size)), 2, 1)
        ends = list(last) if kind == "LSTM" else [last]
        if layout:
            return nb.permute_dims(y, (2, 0, 1, 3)), *(nb.moveaxis(e, 0, 1) for e in ends)
        return y, *ends

    return run


LSTM, GRU = recurrent("LSTM", "iofg", "ifgo"), recurrent("GRU", "zrn", "rzn")
RNN = recurrent("RNN", "h", "h")


# -- losses and dropout ---------------------------------------------------------------------------------------------


def SoftmaxCrossEntropyLoss(x, y, w=None, *, reduction="mean", ignore_index=-100):
    return F.cross_entropy(x, y, w, ignore_index, reduction), F.log_softmax(x, 1)


def NegativeLogLikelihoodLoss(x, y, w=None, *, reduction="mean", ignore_index=-100):
    return F.nll_loss(x, y, w, ignore_index, reduction)


def Dropout(x, ratio=None, training=None, *, seed=0):
    p = 0.5 if ratio is None else float(ratio)
    only(training is None or not bool(training) or p == 0.0, "dropout in training: other random numbers")
    return F.dropout(x, p, training=training is not None and bool(training)), nb.ones_like(x, dtype="bool")


def flat_names() -> Iterator[tuple[str, Any]]:
    return ((name, f) for name, f in globals().items() if name[0].isupper() and callable(f) and name != "Unmapped")


OPS = {name: f for name, f in flat_names() if not isinstance(f, type)}
