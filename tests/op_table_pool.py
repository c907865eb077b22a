"""Lines of the op table: pooling, against the definition box by box."""

import itertools
import math
from functools import partial

import numpy as np
from op_line import Draw, line, normal, positive, spaced

import nnbackend as nb
from nnbackend import functional as F


def boxed(x, places, of):
    """`of` each box (..., elements) of the last axes; `places` lists, for each axis, the elements of each window."""
    axes = len(places)
    y = np.zeros((*x.shape[:-axes], *map(len, places)))
    for at in itertools.product(*(range(len(p)) for p in places)):
        box = x[(..., *np.ix_(*(p[i] for p, i in zip(places, at, strict=True))))]
        y[(..., *at)] = of(box.reshape(*x.shape[:-axes], math.prod(box.shape[-axes:])))
    return y


def windows(n, k, s, p, d, ceil):
    """The elements of each window that starts in the input or in the padding on the left."""
    starts = range(-p, n if ceil else n + p - (k - 1) * d, s)
    last = n + p + (s - 1 if ceil else 0) - (k - 1) * d  # where the last one may start
    return [[i for i in range(a, a + k * d, d) if 0 <= i < n] for a in starts if a < last]


def each(value, axes):
    return value if isinstance(value, tuple) else (value,) * axes


def regular(x, axes, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False):
    settings = (each(v, axes) for v in (kernel_size, stride or kernel_size, padding, dilation))
    return [windows(n, *kspd, ceil_mode) for n, *kspd in zip(x.shape[-axes:], *settings, strict=True)]


def adaptive(x, axes, output_size):
    sizes = zip(x.shape[-axes:], each(output_size, axes), strict=True)
    return [[range(i * n // (m or n), -(-(i + 1) * n // (m or n))) for i in range(m or n)] for n, m in sizes]


def largest(box):
    return box.max(-1, initial=-np.inf)


def indices(name):
    """The second result, as a function of its own."""
    return lambda x, *a, **kw: getattr(F, name)(x, *a, return_indices=True, **kw)[1]


def np_indices(ref, axes):
    """Where the results of `ref` stand in each plane of an array of different elements."""

    def find(x, *a, **kw):
        y, planes = ref(x, *a, **kw), x.reshape(*x.shape[:-axes], -1)
        flat = y.reshape(*y.shape[:-axes], -1, 1)
        return np.argmax(flat == planes[..., None, :], axis=-1).reshape(y.shape)

    return find


SETTINGS = (
    {"kernel_size": 2}, {"kernel_size": 3, "stride": 1, "padding": 1}, {"kernel_size": 2, "stride": 3},
    {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}, {"kernel_size": 2, "ceil_mode": True},
)  # fmt: skip
SHAPES = {1: (2, 3, 7), 2: (2, 2, 5, 6), 3: (1, 2, 4, 3, 5)}
for axes, shape in SHAPES.items():
    name = f"max_pool{axes}d"
    ref = lambda x, axes=axes, **kw: boxed(x, regular(x, axes, **kw), largest)  # noqa: E731
    for settings in (*SETTINGS, {"kernel_size": 2, "stride": 1, "dilation": 2}):
        line(name, spaced(*shape), ref=ref, **settings)
        line(name, spaced(*shape), op=indices(name), ref=np_indices(ref, axes), dtype="int64", **settings)
    line(name, spaced(*shape[1:]), ref=ref, kernel_size=2)
    line(name, spaced(0, *shape[1:]), ref=ref, kernel_size=2)

    def mean(x, axes=axes, count_include_pad=True, divisor_override=None, **kw):
        k, inner = each(kw["kernel_size"], axes), x.shape[-axes:]
        stride, padding = each(kw.get("stride") or k, axes), each(kw.get("padding", 0), axes)
        counts = boxed(np.ones_like(x), regular(x, axes, **kw), lambda box: box.sum(-1))
        if count_include_pad:
            ends = [
                [min(i * s - p + m, n + p) - (i * s - p) for i in range(out)]
                for n, m, s, p, out in zip(inner, k, stride, padding, counts.shape[-axes:], strict=True)
            ]
            counts = np.prod(np.stack(np.meshgrid(*ends, indexing="ij")), axis=0)
        return boxed(x, regular(x, axes, **kw), lambda box: box.sum(-1)) / (divisor_override or counts)

    for settings in SETTINGS:
        line(f"avg_pool{axes}d", normal(*shape), ref=mean, **settings)
    line(f"avg_pool{axes}d", normal(*shape), ref=mean, count_include_pad=False, **SETTINGS[3])
    if axes > 1:
        line(f"avg_pool{axes}d", normal(*shape), ref=mean, divisor_override=3, **SETTINGS[1])
    line(f"avg_pool{axes}d", normal(*shape[1:]), ref=mean, kernel_size=(2, 1, 2)[:axes])
    line(f"avg_pool{axes}d", normal(0, *shape[1:]), ref=mean, kernel_size=2)

    def norm(x, p, axes=axes, **kw):
        return boxed(x, regular(x, axes, **kw), lambda box: np.linalg.norm(box, p, axis=-1))

    for p in (2.0, 3.0, np.inf):
        draw = spaced if p == np.inf else positive
        line(f"lp_pool{axes}d", draw(*shape), p, ref=norm, kernel_size=2, stride=2)

    for size in (1, 2, 3, (None, 4, 2)[3 - axes :]):
        name = f"adaptive_max_pool{axes}d"
        ref = lambda x, output_size, axes=axes: boxed(x, adaptive(x, axes, output_size), largest)  # noqa: E731
        line(name, spaced(*shape), ref=ref, output_size=size)
        line(name, spaced(*shape), op=indices(name), ref=np_indices(ref, axes), dtype="int64", output_size=size)
        ref = lambda x, output_size, axes=axes: boxed(x, adaptive(x, axes, output_size), lambda b: b.mean(-1))  # noqa: E731
        line(f"adaptive_avg_pool{axes}d", normal(*shape), ref=ref, output_size=size)
    line(f"adaptive_avg_pool{axes}d", normal(0, *shape[1:]), output_size=2,
         ref=lambda x, output_size, axes=axes: np.zeros((*x.shape[:-axes], *(2,) * axes)))  # fmt: skip


def different(n, *shape, axes=1):
    """Indices into n elements, different ones in each plane of the last axes."""

    def draw(rng, s):
        planes = np.broadcast_to(np.arange(n), (*s[:-axes], n))
        return rng.permuted(planes, axis=-1)[..., : math.prod(s[-axes:])].reshape(s)

    return Draw(shape, draw)


def unpool(name, x, index, inner, **settings):
    """Flat indices and elements in planes of shape `inner`."""
    shape = (1, x.shape[0], *inner)
    y = getattr(F, name)(nb.reshape(x, shape), nb.reshape(index, shape), **settings)
    return nb.reshape(y, (x.shape[0], -1))


def np_unpool(x, index, n):
    y = np.zeros((len(x), n))
    np.put_along_axis(y, index, x, axis=-1)
    return y


for inner, n, settings in (
    ((4,), 8, {"kernel_size": 2}), ((4,), 10, {"kernel_size": 3, "stride": 2, "output_size": (10,)}),
    ((2, 3), 24, {"kernel_size": 2}),
    ((2, 3), 20, {"kernel_size": 3, "stride": 2, "padding": 1, "output_size": (4, 5)}),
    ((2, 1, 2), 32, {"kernel_size": 2}),
):  # fmt: skip
    name, count = f"max_unpool{len(inner)}d", math.prod(inner)
    op = partial(unpool, name, inner=inner, **settings)
    line(name, normal(3, count), different(n, 3, count), op=op, ref=partial(np_unpool, n=n))


def fractional(x, u, kernel_size, output_size):
    """Each plane has windows of its own: the last ends the axis, the others are where its random numbers say."""
    axes = u.shape[-1]
    order = u[..., ::-1] if axes == 2 else u
    y = np.zeros((*x.shape[:2], *output_size))
    for plane in np.ndindex(x.shape[:2]):
        places = []
        for n, k, m, r in zip(x.shape[2:], kernel_size, output_size, order[plane], strict=True):
            alpha = (n - k) / max(1, m - 1)
            starts = [int((i + r) * alpha) - int(r * alpha) for i in range(m - 1)] + [n - k]
            places.append([range(s, s + k) for s in starts])
        y[plane] = boxed(x[plane], places, largest)
    return y


def sampled(name):
    return lambda x, u, **kw: getattr(F, name)(x, _random_samples=u, **kw)


def uniform(*shape):
    return Draw(shape, lambda rng, s: rng.uniform(0.0, 1.0, s))


for name, shape, settings in (
    ("fractional_max_pool2d", (2, 2, 7, 6), {"kernel_size": (2, 3), "output_size": (4, 3)}),
    ("fractional_max_pool2d", (1, 2, 5, 5), {"kernel_size": (2, 2), "output_size": (1, 4)}),
    ("fractional_max_pool3d", (1, 2, 4, 5, 6), {"kernel_size": (2, 1, 2), "output_size": (2, 3, 4)}),
):
    line(name, spaced(*shape), uniform(*shape[:2], len(shape) - 2), op=sampled(name), ref=fractional, **settings)
