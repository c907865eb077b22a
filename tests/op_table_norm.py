"""Lines of the op table: norm."""

from typing import Any

import numpy as np
from op_line import Draw, line, nonzero, normal, positive

from nnbackend import functional as F


def standard(x: Any, axes: tuple[int, ...], eps: float) -> Any:
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)


def affine(y: Any, weight: Any, bias: Any) -> Any:
    """By channel."""
    shape = (-1, *[1] * (y.ndim - 2))
    y = y if weight is None else y * weight.reshape(shape)
    return y if bias is None else y + bias.reshape(shape)


def np_layer_norm(x: Any, shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    tail = (shape,) if isinstance(shape, int) else shape
    y = standard(x, tuple(range(x.ndim - len(tail), x.ndim)), eps)
    return y * (1.0 if weight is None else weight) + (0.0 if bias is None else bias)


def np_rms_norm(x: Any, shape: Any, weight: Any = None, eps: float = 1e-3) -> Any:
    tail = (shape,) if isinstance(shape, int) else shape
    y = x / np.sqrt(np.mean(x * x, tuple(range(x.ndim - len(tail), x.ndim)), keepdims=True) + eps)
    return y if weight is None else y * weight


def np_group_norm(x: Any, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    parts = np.split(x, groups, axis=1)
    return affine(np.concatenate([standard(p, tuple(range(1, x.ndim)), eps) for p in parts], axis=1), weight, bias)


def np_batch_norm(x: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    return affine(standard(x, (0, *range(2, x.ndim)), eps), weight, bias)


def np_instance_norm(x: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    return affine(standard(x, tuple(range(2, x.ndim)), eps), weight, bias)


def np_given(x: Any, mean: Any, var: Any, weight: Any = None, bias: Any = None) -> Any:
    return affine(affine(affine(x, None, -mean), 1.0 / np.sqrt(var + 1e-5), None), weight, bias)


def np_local_response_norm(x: Any, size: int, alpha: float, beta: float, k: float) -> Any:
    y = np.empty_like(x)
    for c in range(x.shape[1]):
        near = x[:, max(0, c - size // 2) : c + (size - 1) // 2 + 1]
        y[:, c] = x[:, c] / (k + alpha * np.sum(near**2, axis=1) / size) ** beta
    return y


def channels(c: int) -> tuple[Draw, Draw]:
    return normal(c), normal(c)


for shape, tail in (((2, 3, 5), 5), ((2, 3, 5), (3, 5)), ((3, 5), (3, 5)), ((0, 3), 3)):
    ends = tail if isinstance(tail, tuple) else (tail,)
    line("layer_norm", normal(*shape), tail, ref=np_layer_norm)
    line("layer_norm", normal(*shape), tail, normal(*ends), normal(*ends), ref=np_layer_norm)
    line("rms_norm", normal(*shape), tail, normal(*ends), ref=np_rms_norm, eps=1e-3)
line("layer_norm", normal(2, 3, 5), 5, None, normal(5), ref=np_layer_norm, eps=0.1)
line("rms_norm", nonzero(2, 3), 3, op=lambda x, n: F.rms_norm(x, n), ref=lambda x, n: np_rms_norm(x, n, eps=0.0))
for groups, shape in ((2, (3, 4)), (2, (3, 4, 5)), (4, (2, 4, 3, 2)), (1, (0, 4, 3))):
    line("group_norm", normal(*shape), groups, *channels(4), ref=np_group_norm)
line("group_norm", normal(2, 4, 3), 2, ref=np_group_norm)


def training(x: Any, *affine: Any) -> Any:
    return F.batch_norm(x, None, None, *affine, training=True)


def instance(x: Any, *affine: Any) -> Any:
    return F.instance_norm(x, None, None, *affine)


for shape in ((5, 3), (4, 3, 5), (2, 3, 4, 5), (2, 3, 2, 3, 2), (4, 3, 1)):
    line("batch_norm", normal(*shape), *channels(3), op=training, ref=np_batch_norm)
line("batch_norm", normal(5, 3), op=training, ref=np_batch_norm)
line("batch_norm", normal(5, 3), None, normal(3), op=training, ref=np_batch_norm)
line("batch_norm", normal(4, 3, 5), normal(3), op=training, ref=np_batch_norm)
for shape in ((5, 3), (2, 3, 5), (0, 3, 5)):
    line("batch_norm", normal(*shape), normal(3), positive(3), *channels(3), ref=np_given)
line("batch_norm", normal(2, 3, 5), normal(3), positive(3), ref=np_given)
for shape in ((2, 3, 5), (2, 3, 4, 5), (0, 3, 4)):
    line("instance_norm", normal(*shape), *channels(3), op=instance, ref=np_instance_norm)
line("instance_norm", normal(2, 3, 5), op=instance, ref=np_instance_norm)
line("instance_norm", normal(2, 3, 5), normal(3), positive(3), ref=lambda x, m, v, use_input_stats: np_given(x, m, v),
     use_input_stats=False)  # fmt: skip
for size, shape in ((1, (2, 3, 4)), (4, (2, 5, 3)), (5, (2, 4, 2, 3)), (3, (0, 4, 3))):
    line("local_response_norm", normal(*shape), size, ref=np_local_response_norm, alpha=0.3, beta=0.6, k=1.5)
for p in (1.0, 2.0, 3.0, float("inf")):
    line("normalize", nonzero(2, 3, 5), p, ref=lambda x, p: x / np.linalg.norm(x, p, 1, keepdims=True))
