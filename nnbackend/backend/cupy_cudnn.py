"""Convolutions and 16-bit attention by cuDNN. What the functions are is said in `backend.conv` and `backend.attention`.

The results are those of engines that NVIDIA chooses, so they differ by rounding from those without cuDNN. Attention is
that of float16, or of float32 rounded to bfloat16 where that is the precision.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .base import Array, log
from .cublaslt import CublasLtError
from .cuda_faults import one_line
from .cudnn import ALIGNED, ANY, IEEE, Cudnn, Layout, Plan, frontend
from .gemm import PRECISION
from .kernels import launch

Ints = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]
Override = Callable[..., Any]

FLOATS = ("float32", "float16")


def preferred(cupy: Any, table: dict[str, Override]) -> dict[str, Override]:
    """The table with cuDNN in front of what is there or, with the reason logged, as it is."""
    try:
        own = Overrides(Cudnn(cupy, frontend()))
    except (AttributeError, CublasLtError, ImportError, OSError, RuntimeError, ValueError) as error:
        log(f"cuDNN is not used: {one_line(str(error))}")
        return table
    names = ("conv", "conv_transpose", "conv_weight", "attention", "attention_back")
    return table | {name: first_of(getattr(own, name), table.get(name, _nothing)) for name in names}


def first_of(a: Override, b: Override) -> Override:
    """What `a` says or, where that is NotImplemented, `b`."""

    def run(*arguments: Any) -> Any:
        y = a(*arguments)
        return b(*arguments) if y is NotImplemented else y

    return run


def _nothing(*_: Any) -> Any:
    return NotImplemented


class Overrides:
    """The functions, by one cuDNN."""

    def __init__(self, cudnn: Cudnn) -> None:
        self._cudnn, self._cupy = cudnn, cudnn.cupy

    # -- convolution
    def conv(self, x: Array, w: Array, stride: Ints, padding: Pairs, dilation: Ints, groups: int) -> Array:
        """Of one, two or three axes."""
        if not self._takes(x, w):
            return NotImplemented
        axes = zip(x.shape[2:], w.shape[2:], stride, padding, dilation, strict=True)
        places = [(n + sum(p) - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in axes]
        operands = {"image": x, "weight": w}
        return self._convolution("conv_fprop", operands, (len(x), len(w), *places), stride, padding, dilation)

    def conv_transpose(
        self, y: Array, w: Array, size: Ints, stride: Ints, padding: Pairs, dilation: Ints, groups: int
    ) -> Array:
        """The gradient of the input."""
        if not self._takes(y, w):
            return NotImplemented
        operands, shape = {"loss": y, "filter": w}, (len(y), groups * w.shape[1], *size)
        return self._convolution("conv_dgrad", operands, shape, stride, padding, dilation)

    def conv_weight(
        self, y: Array, x: Array, kernel: Ints, stride: Ints, padding: Pairs, dilation: Ints, groups: int
    ) -> Array:
        """The gradient of the weights."""
        if not self._takes(y, x):
            return NotImplemented
        operands, shape = {"image": x, "loss": y}, (y.shape[1], x.shape[1] // groups, *kernel)
        return self._convolution("conv_wgrad", operands, shape, stride, padding, dilation)

    def _convolution(
        self, name: str, operands: dict[str, Array], shape: Ints, stride: Ints, padding: Pairs, dilation: Ints
    ) -> Array:
        """One axis is a plane of height 1: cuDNN knows two and three."""
        if not 3 <= len(shape) <= 5 or min(shape) < 1:
            return NotImplemented
        arrays = [_packed(x) for x in operands.values()]
        dtype, shapes = arrays[0].dtype, [*(x.shape for x in arrays), shape]
        if len(shape) == 3:
            shapes = [(*s[:2], 1, s[2]) for s in shapes]
            stride, padding, dilation = (1, *stride), ((0, 0), *padding), (1, *dilation)
        *inputs, output = (Layout.dense(s, dtype.name) for s in shapes)
        before, after = zip(*padding, strict=True)
        how = {"pre_padding": before, "post_padding": after, "stride": stride, "dilation": dilation}
        barred = IEEE if dtype == np.float32 and PRECISION.get() == "ieee" else ANY
        plan = self._cudnn.plan(name, dict(zip(operands, inputs, strict=True)), [output], barred, **how)
        if plan is None:
            return NotImplemented
        y = self._cupy.empty(shape, dtype)
        self._cudnn.run(plan, *arrays, y)
        return y

    # -- attention
    def attention(self, q: Array, k: Array, v: Array, mask: Any, scale: float, causal: bool, p: float, *_: Any) -> Any:
        """The means, and logarithms: float32. Left to others: masks, which might leave a query no key, and dropout."""
        if not self._attends(q, k, v, None if causal else mask, p):
            return NotImplemented
        heads = [self._heads(x) for x in (q, k, v)]
        there = self._there(heads, scale, causal)
        if there is None:
            return NotImplemented
        y = self._cupy.empty((*q.shape[:-1], v.shape[-1]), heads[0].dtype)
        logs = self._cupy.empty((*q.shape[:-1], 1), np.float32)
        self._cudnn.run(there, *heads, y, logs)
        return self._wide(y), logs

    def attention_back(
        self, q: Array, k: Array, v: Array, mask: Any, y: Array, logs: Array, dy: Array, scale: float, causal: bool,
        p: float, *_: Any,
    ) -> Any:  # fmt: skip
        """The gradients."""
        fine = self._attends(q, k, v, None if causal else mask, p) and self._takes(q, y, dy) and self._takes(logs)
        if not fine or logs.dtype != np.float32 or y.shape != dy.shape:
            return NotImplemented
        heads = [self._heads(x) for x in (q, k, v)]
        back = self._back(heads, scale, causal)
        if back is None:
            return NotImplemented
        grads = [self._cupy.empty(x.shape, h.dtype) for x, h in zip((q, k, v), heads, strict=True)]
        self._cudnn.run(back, *heads, _packed(self._narrow(y)), _packed(self._narrow(dy)), _packed(logs), *grads)
        return tuple(map(self._wide, grads))

    def _attends(self, q: Array, k: Array, v: Array, mask: Any, p: float) -> bool:
        """Whether cuDNN does: stacks of one shape without a mask or dropout, and rows of multiples of 16 bytes."""
        return (
            mask is None
            and p == 0
            and self._takes(q, k, v)
            and (q.dtype == np.float16 or PRECISION.get() == "bfloat16")
            and q.ndim > 1
            and q.shape[:-2] == k.shape[:-2] == v.shape[:-2]
            and q.shape[-1] % 8 == v.shape[-1] % 8 == 0
        )

    def _there(self, heads: list[Array], scale: float, causal: bool) -> Plan | None:
        q, k, v = map(Layout.of, heads)
        outputs = [Layout.dense((*q.shape[:-1], v.shape[-1]), q.dtype), Layout.dense((*q.shape[:-1], 1), "float32")]
        how = {"attn_scale": float(scale), "use_causal_mask": causal, "generate_stats": True}
        return self._cudnn.plan("sdpa", {"q": q, "k": k, "v": v}, outputs, ANY, **how)

    def _back(self, heads: list[Array], scale: float, causal: bool) -> Plan | None:
        q, k, v = map(Layout.of, heads)
        y, logs = Layout.dense((*q.shape[:-1], v.shape[-1]), q.dtype), Layout.dense((*q.shape[:-1], 1), "float32")
        inputs = {"q": q, "k": k, "v": v, "o": y, "dO": y, "stats": logs}
        grads = [Layout.dense(x.shape, x.dtype) for x in (q, k, v)]
        how = {"attn_scale": float(scale), "use_causal_mask": causal, "use_deterministic_algorithm": True}
        return self._cudnn.plan("sdpa_backward", inputs, grads, ANY, **how)

    def _heads(self, x: Array) -> Array:
        """In 16 bits as (batch, head, row, column), as they lie in memory if rows are dense and aligned."""
        x = self._narrow(x)
        x = x.reshape((math.prod(x.shape[:-3]), *((1,) * (3 - x.ndim)), *x.shape[-3:]))
        steps = [s for n, s in zip(x.shape[:-1], x.strides[:-1], strict=True) if n > 1]
        return _packed(x, x.strides[-1] == x.itemsize and all(s > 0 and s % ALIGNED == 0 for s in steps))

    def _narrow(self, x: Array) -> Array:
        """float32 as the bits of bfloat16, rounded to nearest even."""
        if x.dtype == np.float16:
            return x
        y, x = self._cupy.empty(x.shape, np.uint16), self._cupy.ascontiguousarray(x)
        launch("bfloat.cu", "narrow", x.size, y, x, x.size)
        return y

    def _wide(self, x: Array) -> Array:
        """The way back."""
        if x.dtype == np.float16:
            return x
        y = self._cupy.empty(x.shape, np.float32)
        launch("bfloat.cu", "widen", x.size, y, x, x.size)
        return y

    def _takes(self, *arrays: Array) -> bool:
        """Whether they are CuPy's, floats of one kind, on the current device, and not empty."""
        device = self._cupy.cuda.get_device_id()
        return (
            all(x.__class__ is self._cupy.ndarray and x.size and x.data.device_id == device for x in arrays)
            and len({x.dtype for x in arrays}) == 1
            and arrays[0].dtype.name in FLOATS
        )


def _packed(x: Array, fine: bool | None = None) -> Array:
    """A copy in C's order, unless it is fine as it lies, and begins where cuDNN can begin."""
    fine = x.flags.c_contiguous if fine is None else fine
    return x if fine and x.data.ptr % ALIGNED == 0 else x.copy(order="C")
