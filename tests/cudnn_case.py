"""What cuDNN's overrides are asked, and what they should answer."""

import numpy as np

from nnbackend.backend.attention import attention, attention_back
from nnbackend.backend.conv import conv, conv_transpose, conv_weight, places
from nnbackend.backend.gemm import PRECISION

SPECIFIED = [f.__wrapped__ for f in (conv, conv_transpose, conv_weight, attention, attention_back)]
AXES = {  # x, w, stride, padding, dilation, groups
    "plane": ((2, 3, 7, 6), (4, 3, 3, 2), (1, 1), ((1, 1), (0, 0)), (1, 1), 1),
    "all of it": ((2, 4, 9, 8), (6, 2, 3, 2), (2, 3), ((0, 1), (2, 1)), (2, 1), 2),
    "depthwise": ((1, 3, 5, 5), (6, 1, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 3),
    "line": ((3, 4, 11), (6, 2, 4), (3,), ((1, 2),), (2,), 2),
    "space": ((2, 3, 4, 5, 6), (2, 3, 2, 3, 1), (1, 2, 1), ((0, 1), (1, 1), (0, 0)), (1, 1, 2), 1),
}
HEADS = {  # q, k, v, causal
    "causal": ((2, 3, 7, 8), (2, 3, 7, 8), (2, 3, 7, 16), True),
    "more queries": ((3, 6, 16), (3, 4, 16), (3, 4, 8), True),
    "all keys": ((5, 8), (9, 8), (9, 8), False),
    "five axes": ((2, 1, 2, 4, 8), (2, 1, 2, 3, 8), (2, 1, 2, 3, 8), False),
}


def drawn(*shapes, dtype="float32"):
    rng = np.random.default_rng(3)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def near(got, want, dtype="float32", factor=1.0):
    """As far as the inputs' dtype rounds."""
    error = {"float32": 1e-5, "float16": 4e-3, "tf32": 5e-3, "bfloat16": 3e-2}[dtype] * factor
    np.testing.assert_allclose(np.asarray(got.get(), "float64"), want, rtol=error, atol=error * np.abs(want).max())


def three(own, cp, name, dtype="float32"):
    """The three functions of one convolution, and what they should give."""
    x_shape, w_shape, stride, padding, dilation, groups = AXES[name]
    how = stride, padding, dilation
    count = places(x_shape[2:], w_shape[2:], *how)
    given = drawn(x_shape, w_shape, (x_shape[0], w_shape[0], *count), dtype=dtype)

    def done(conv, conv_transpose, conv_weight, x, w, dy):
        yield conv(x, w, *how, groups)
        yield conv_transpose(dy, w, x_shape[2:], *how, groups)
        yield conv_weight(dy, x, w_shape[2:], *how, groups)

    got = done(own.conv, own.conv_transpose, own.conv_weight, *map(cp.asarray, given))
    return [*zip(got, done(*SPECIFIED[:3], *(x.astype("float64") for x in given)), strict=True)]


def there_and_back(own, cp, name, dtype="float16", lies=lambda x: x):
    """Attention and its way back, and what they should give."""
    *shapes, causal = HEADS[name]
    q, k, v, dy = drawn(*shapes, (*shapes[0][:-1], shapes[2][-1]), dtype=dtype)

    def done(attention, attention_back, *qkv, dy):
        how = (0.3, causal, 0.0, 0, 0, 0)
        y, logs = attention(*qkv, None, *how)
        return y, logs, *attention_back(*qkv, None, y, logs, dy, *how, False)

    got = done(own.attention, own.attention_back, *(lies(cp.asarray(x)) for x in (q, k, v)), dy=lies(cp.asarray(dy)))
    assert [x.dtype for x in got] == [dtype, "float32", dtype, dtype, dtype]
    wanted = done(*SPECIFIED[3:], *(x.astype("float64") for x in (q, k, v)), dy=dy.astype("float64"))
    return [*zip(got, wanted, strict=True)]


def tf32(own, cp):
    token = PRECISION.set("tf32")
    try:
        return three(own, cp, "plane")[0]
    finally:
        PRECISION.reset(token)
