"""ONNX's element-wise operators, reductions and rearrangements by nnbackend's public functions."""

import math
from functools import reduce

import nnbackend as nb
from nnbackend import functional as F

from .onnx_ops import ints, only

SAME = {
    "Abs": nb.abs, "Acos": nb.acos, "Acosh": nb.acosh, "Add": nb.add, "And": nb.logical_and, "Asin": nb.asin,
    "Asinh": nb.asinh, "Atan": nb.atan, "Atanh": nb.atanh, "BitwiseAnd": nb.bitwise_and,
    "BitwiseNot": nb.bitwise_invert, "BitwiseOr": nb.bitwise_or, "BitwiseXor": nb.bitwise_xor, "Ceil": nb.ceil,
    "Cos": nb.cos, "Cosh": nb.cosh, "Equal": nb.equal, "Erf": nb.erf, "Exp": nb.exp, "Floor": nb.floor,
    "Greater": nb.greater, "GreaterOrEqual": nb.greater_equal, "HardSwish": F.hardswish, "IsNaN": nb.isnan,
    "Less": nb.less, "LessOrEqual": nb.less_equal, "Log": nb.log, "MatMul": nb.matmul, "Mish": F.mish,
    "Mul": nb.multiply, "Neg": nb.negative, "Not": nb.logical_not, "Or": nb.logical_or, "Reciprocal": nb.reciprocal,
    "Relu": F.relu, "Round": nb.round, "Sigmoid": F.sigmoid, "Sign": nb.sign, "Sin": nb.sin, "Sinh": nb.sinh,
    "Softplus": F.softplus, "Softsign": F.softsign, "Sqrt": nb.sqrt, "Sub": nb.subtract, "Tan": nb.tan,
    "Tanh": nb.tanh, "Xor": nb.logical_xor,
    "Where": nb.where, "Identity": lambda x: x, "Max": lambda *xs: reduce(nb.maximum, xs),
    "Min": lambda *xs: reduce(nb.minimum, xs), "Sum": lambda *xs: reduce(nb.add, xs),
    "Mean": lambda *xs: reduce(nb.add, xs) / len(xs), "Det": nb.linalg.det,
    "Elu": lambda x, alpha=1.0: F.elu(x, alpha), "Celu": lambda x, alpha=1.0: F.celu(x, alpha),
    "LeakyRelu": lambda x, alpha=0.01: F.leaky_relu(x, alpha),
    "ThresholdedRelu": lambda x, alpha=1.0: F.threshold(x, alpha, 0.0),
    "Gelu": lambda x, approximate="none": F.gelu(x, approximate),
    "Swish": lambda x, alpha=1.0: x * F.sigmoid(alpha * x),
    "SwiGLU": lambda a, b, alpha=1.0: a * F.sigmoid(alpha * a) * b,
    "Softmax": lambda x, axis=-1: F.softmax(x, axis), "LogSoftmax": lambda x, axis=-1: F.log_softmax(x, axis),
    "Transpose": lambda x, perm=None: nb.permute_dims(x, tuple(perm or range(len(x.shape))[::-1])),
    "Tile": lambda x, n: nb.tile(x, tuple(ints(n))), "Concat": lambda *xs, axis: nb.concat(xs, axis=axis),
    "GatherElements": lambda x, i, axis=0: nb.take_along_axis(x, i, axis=axis),
    "Trilu": lambda x, k=None, upper=1: (nb.triu if upper else nb.tril)(x, k=0 if k is None else int(k)),
    "Einsum": lambda *xs, equation: nb.einsum(equation, *xs),
}  # fmt: skip


def Div(a, b):
    return (
        a / b
        if str(a.dtype).startswith("float")
        else nb.trunc(a.astype("float64") / b.astype("float64")).astype(a.dtype)
    )


def Mod(a, b, fmod=0):
    only(not fmod, "the remainder with the sign of the dividend")
    return nb.remainder(a, b)


def Pow(a, b):
    return nb.pow(a, b.astype(a.dtype)) if a.dtype != b.dtype else nb.pow(a, b)


def PRelu(x, slope):
    return nb.maximum(x, nb.zeros_like(x)) + slope * nb.minimum(x, nb.zeros_like(x))


def HardSigmoid(x, alpha=0.2, beta=0.5):
    return F.hardtanh(alpha * x + beta, 0.0, 1.0)


def Selu(x, alpha=1.67326319217681884765625, gamma=1.05070102214813232421875):
    return gamma * F.elu(x, alpha)


def Shrink(x, lambd=0.5, bias=0.0):
    return F.softshrink(x, lambd) if bias else F.hardshrink(x, lambd)


def Hardmax(x, axis=-1):
    return nb.moveaxis(nb.one_hot(nb.argmax(x, axis=axis), x.shape[axis], dtype=x.dtype), -1, axis)


def Clip(x, low=None, high=None):
    y = x if low is None else nb.maximum(x, low)
    return y if high is None else nb.minimum(y, high)


def Gemm(a, b, c=None, alpha=1.0, beta=1.0, transA=0, transB=0):
    y = alpha * ((a.T if transA else a) @ (b.T if transB else b))
    return y if c is None else y + beta * c


def IsInf(x, detect_negative=1, detect_positive=1):
    y = nb.isinf(x)
    y = y if detect_positive else y & (x < 0)
    return y if detect_negative else y & (x > 0)


# -- reductions and running sums --------------------------------------------------------------------------------------


def reducing(f, empty=True):
    def run(x, axes=None, keepdims=1, noop_with_empty_axes=0):
        axes = [] if axes is None else ints(axes)
        if not axes and noop_with_empty_axes:
            axes = ()
        else:
            axes = tuple(axes) if axes else tuple(range(len(x.shape)))
        only(empty or 0 not in x.shape, "the largest of nothing, which is an error here")
        return f(x, axis=axes, keepdims=bool(keepdims))

    return run


SAME |= {
    "ReduceSum": reducing(nb.sum), "ReduceMean": reducing(nb.mean), "ReduceProd": reducing(nb.prod),
    "ReduceMax": reducing(nb.max, empty=False), "ReduceMin": reducing(nb.min, empty=False),
    "ReduceL1": reducing(lambda x, **kw: nb.sum(nb.abs(x), **kw)),
    "ReduceL2": reducing(lambda x, **kw: nb.sqrt(nb.sum(x * x, **kw))),
    "ReduceSumSquare": reducing(lambda x, **kw: nb.sum(x * x, **kw)),
    "ReduceLogSum": reducing(lambda x, **kw: nb.log(nb.sum(x, **kw))),
    "ReduceLogSumExp": reducing(nb.logsumexp, empty=False),
}  # fmt: skip


def argument(f):
    def run(x, axis=0, keepdims=1, select_last_index=0):
        only(not select_last_index, "the last of equal elements")
        return f(x, axis=axis, keepdims=bool(keepdims))

    return run


SAME |= {"ArgMax": argument(nb.argmax), "ArgMin": argument(nb.argmin)}


def running(f, first):
    def run(x, axis, exclusive=0, reverse=0):
        axis = int(axis) % len(x.shape)
        turned = nb.flip(x, axis=axis) if reverse else x
        if exclusive:
            start = nb.full_like(nb.take(x, nb.asarray([0], dtype="int64"), axis=axis), first)
            rest = nb.take(turned, nb.arange(x.shape[axis] - 1, dtype="int64"), axis=axis)
            turned = nb.concat([start, rest], axis=axis)
        y = f(turned, axis=axis).astype(x.dtype)
        return nb.flip(y, axis=axis) if reverse else y

    return run


SAME |= {"CumSum": running(nb.cumulative_sum, 0), "CumProd": running(nb.cumulative_prod, 1)}


# -- places and shapes ------------------------------------------------------------------------------------------------


def TopK(x, k, axis=-1, largest=1, sorted=1):
    return nb.topk(x, int(ints(k)[0]), axis, bool(largest))


def Gather(x, i, axis=0):
    n = x.shape[axis]
    flat = nb.reshape(nb.where(i < 0, i + n, i), (-1,))
    shape = (*x.shape[:axis], *i.shape, *x.shape[axis:][1:])
    return nb.reshape(nb.take(x, flat, axis=axis), shape)


def ScatterElements(x, i, v, axis=0, reduction="none"):
    only(reduction in ("none", "add"), "scattering by products or extremes")
    i = nb.where(i < 0, i + x.shape[axis], i)
    return nb.put_along_axis(x, i, v, axis=axis) if reduction == "none" else nb.add_along_axis(x, i, v, axis=axis)


def Pad(x, pads, value=None, axes=None, mode="constant"):
    places = [a % len(x.shape) for a in ints(axes)] if axes is not None else list(range(len(x.shape)))
    given, pairs = ints(pads), [(0, 0)] * len(x.shape)
    for i, a in enumerate(places):
        pairs[a] = (given[i], given[i + len(places)])
    if mode == "constant":
        return nb.pad(x, widths=pairs, value=0 if value is None else value.item())
    name = {"edge": "replicate", "reflect": "reflect", "wrap": "circular"}[mode]
    widths = [w for pair in reversed(pairs[2:]) for w in pair]
    only(pairs[:2] == [(0, 0)] * 2, "borders of the batch")
    return F.pad(x, widths, name)


def Split(x, lengths=None, axis=0, num_outputs=None):
    n = x.shape[axis]
    if lengths is None:
        size = math.ceil(n / num_outputs)
        lengths = [min(size, n - size * i) for i in range(num_outputs)]
    return tuple(nb.split(x, tuple(ints(lengths)), axis=axis))


def DepthToSpace(x, blocksize, mode="DCR"):
    if mode == "CRD":
        return F.pixel_shuffle(x, blocksize)
    n, c = x.shape[0], x.shape[1] // blocksize**2
    parts = nb.reshape(x, (n, blocksize**2, c, *x.shape[2:]))
    return F.pixel_shuffle(nb.reshape(nb.moveaxis(parts, 1, 2), x.shape), blocksize)


def SpaceToDepth(x, blocksize, mode="DCR"):
    y = F.pixel_unshuffle(x, blocksize)
    if mode == "CRD":
        return y
    parts = nb.reshape(y, (x.shape[0], x.shape[1], blocksize**2, *y.shape[2:]))
    return nb.reshape(nb.moveaxis(parts, 2, 1), y.shape)


def OneHot(i, depth, values, axis=-1):
    n = int(ints(depth)[0])
    i = i.astype("int64")
    only(not bool(nb.any((i < -n) | (i >= n))), "labels outside the classes, which are an error here")
    hot = nb.moveaxis(nb.one_hot(nb.where(i < 0, i + n, i), n, dtype="float32"), -1, axis)
    return (hot * (values[1] - values[0]).astype("float32") + values[0].astype("float32")).astype(values.dtype)


def Resize(x, roi=None, scales=None, sizes=None, mode="nearest", coordinate_transformation_mode="half_pixel",
           nearest_mode="round_prefer_floor", cubic_coeff_a=-0.75, exclude_outside=0, antialias=0, axes=None,
           keep_aspect_ratio_policy="stretch", extrapolation_value=0.0):  # fmt: skip
    place, n = coordinate_transformation_mode, len(x.shape) - 2
    only(not antialias and not exclude_outside and cubic_coeff_a == -0.75, "antialiasing, other weights")
    only(keep_aspect_ratio_policy == "stretch", "sizes by the aspect ratio")
    known = (mode, place) in {("linear", "half_pixel"), ("cubic", "half_pixel"), ("linear", "align_corners"),
                              ("cubic", "align_corners")}  # fmt: skip
    known = known or (mode == "nearest" and place == "asymmetric" and nearest_mode == "floor")
    only(known, f"{mode} interpolation at {place} coordinates, which PyTorch lacks too")
    given = (scales.tolist() if sizes is None else ints(sizes)) if (scales is not None or sizes is not None) else []
    full = [1.0] * len(x.shape) if sizes is None else list(x.shape)
    for a, value in zip(ints(axes) if axes is not None else range(len(x.shape)), given, strict=True):
        full[a] = value
    only(full[:2] == ([1.0, 1.0] if sizes is None else list(x.shape[:2])), "interpolation of the batch")
    name = {"nearest": "nearest", "cubic": "bicubic", "linear": ("linear", "bilinear", "trilinear")[n - 1]}[mode]
    fits = place != "align_corners" or sizes is not None
    fits = fits or all(float(f * m).is_integer() for f, m in zip(full, x.shape, strict=True))
    only(fits, "corners of a size that is not whole")
    corners = {"align_corners": True} if place == "align_corners" else {}
    size = {"scale_factor": tuple(full[2:])} if sizes is None else {"size": tuple(full[2:])}
    return F.interpolate(x, mode=name, **size, **corners)


SAME |= {name: f for name, f in list(globals().items()) if name[0].isupper() and name != "SAME" and callable(f)}
