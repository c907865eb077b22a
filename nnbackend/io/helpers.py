"""The primitives of the backend in plain NumPy, for scripts: the same numbers to the last bit."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from typing import Any

from ..backend import numpy_attention, numpy_backend, numpy_recurrent
from ..backend.numpy_special import EDGE, ERF_P, ERF_Q
from ..backend.primitive import LARGE_P, LARGE_Q, SMALL_P, SMALL_Q
from ..backend.query_blocks import blocks

_WRITTEN = {
    "logistic": '''
def sigmoid(x):
    """1 / (1 + exp(-x)), without overflow for any x."""
    lowest = 0.5 - math.log(np.finfo(x.dtype).max)
    return 1.0 / (np.exp(-np.maximum(x, lowest)) + 1.0)
''',
    "words_like": '''
def words(shape, key, site, step, rank=0):
    """Random 64-bit words: the same ones for the same key, site, step and rank."""
    counter = np.array([0, site, step, rank], np.uint64)
    return np.random.Philox(key=key, counter=counter).random_raw(math.prod(shape)).reshape(shape)
''',
    "integers_like": '''
def integers(shape, high, key, site, step, rank=0):
    """Random whole numbers below `high`: the same ones for the same key, site, step and rank."""
    counter = np.array([0, site, step, rank], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter)).integers(0, high, shape)
''',
    "uniform_like": '''
def uniform(shape, dtype, key, site, step, rank=0):
    """Random numbers in [0, 1): the same ones for the same key, site, step and rank."""
    counter = np.array([0, site, step, rank], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter)).random(shape, dtype)
''',
    "erf": '''
def erf(x):
    """The error function (float64: W. J. Cody, "Rational Chebyshev approximation", 1969; float32: XLA)."""

    def polynomial(x, coefficients):
        y = x * coefficients[0] + coefficients[1]
        for c in coefficients[2:]:
            y = y * x + c
        return y

    if x.dtype == np.float32:
        a = np.clip(x, -EDGE, EDGE)
        return np.clip(polynomial(a * a, ERF_P) * a / polynomial(a * a, ERF_Q), -1.0, 1.0)
    a = np.minimum(np.abs(x), 6.0)
    s = np.minimum(a, 0.5) * np.minimum(a, 0.5)
    small = x * (polynomial(s, SMALL_P) / polynomial(s, SMALL_Q))
    large = np.sign(x) * (1.0 - np.exp(-a * a) * polynomial(a, LARGE_P) / polynomial(a, LARGE_Q))
    return np.where(a <= 0.46875, small, large)
''',
    "spread": '''
def spread(job, items):
    """Here, all in one thread."""
    job(items)
''',
    "in_parts": '''
def in_parts(run, n, h):
    """Here, the whole batch at once."""
    run(slice(0, n))
''',
    "windows": '''
def windows(x, kernel, stride, dilation):
    """Where a kernel stands on x (n, c, *size): a view (n, c, *places, *kernel)."""
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation)]
    view = np.lib.stride_tricks.sliding_window_view(x, reach, tuple(range(2, x.ndim)), writeable=True)
    return view[(..., *(slice(None, None, step) for step in (*stride, *dilation)))]
''',
    "unfold": '''
def unfold(x, kernel, stride, padding, dilation):
    """The windows of x (n, c, *size) as columns (n, c, kernel elements, places)."""
    view = windows(np.pad(x, [(0, 0), (0, 0), *padding]), kernel, stride, dilation)
    axes = len(kernel)
    view = np.moveaxis(view, range(-axes, 0), range(2, 2 + axes))
    return view.reshape(*x.shape[:2], math.prod(kernel), math.prod(view.shape[2 + axes :]))
''',
    "fold": '''
def fold(columns, size, kernel, stride, padding, dilation):
    """Columns (n, c, kernel elements, places) where they belong in (n, c, *size), summed where they overlap."""
    x = np.zeros((*columns.shape[:2], *(m + sum(p) for m, p in zip(size, padding))), columns.dtype)
    view = windows(x, kernel, stride, dilation)
    columns = columns.reshape(*x.shape[:2], *kernel, *view.shape[2 : x.ndim])
    for at in np.ndindex(*kernel):
        view[(..., *at)] += columns[:, :, *at]
    return x[(..., *(slice(before, before + m) for m, (before, _) in zip(size, padding)))]
''',
    "conv": '''
def conv(x, w, stride, padding, dilation, groups):
    """Cross-correlation of x (n, c, *size) with the kernels w (o, c / groups, *kernel)."""
    view = windows(np.pad(x, [(0, 0), (0, 0), *padding]), w.shape[2:], stride, dilation)
    over = (1, *range(x.ndim, view.ndim)), range(1, w.ndim)
    pairs = zip(np.split(view, groups, axis=1), np.split(w, groups))
    return np.moveaxis(np.concatenate([np.tensordot(*pair, over) for pair in pairs], axis=-1), -1, 1)
''',
    "conv_transpose": '''
def conv_transpose(y, w, size, stride, padding, dilation, groups):
    """The kernels w (o, c / groups, *kernel) laid down at each place, times y (n, o, *places)."""
    shape = (*(m + sum(p) for m, p in zip(size, padding)),)
    x = np.zeros((len(y), w.shape[1] * groups, *shape), y.dtype)
    view = windows(x, w.shape[2:], stride, dilation)
    pairs = list(zip(np.split(y, groups, axis=1), np.split(w, groups)))
    for at in np.ndindex(*w.shape[2:]):
        parts = [np.tensordot(part, rows[:, :, *at], (1, 0)) for part, rows in pairs]
        view[(..., *at)] += np.moveaxis(np.concatenate(parts, axis=-1), -1, 1)
    return x[(..., *(slice(before, before + m) for m, (before, _) in zip(size, padding)))]
''',
    "conv_weight": '''
def conv_weight(y, x, kernel, stride, padding, dilation, groups):
    """The windows of x (n, c, *size) times y (n, o, *places): (o, c / groups, *kernel)."""
    view = windows(np.pad(x, [(0, 0), (0, 0), *padding]), kernel, stride, dilation)
    over = (0, *range(2, y.ndim))
    pairs = zip(np.split(y, groups, axis=1), np.split(view, groups, axis=1))
    return np.concatenate([np.tensordot(*pair, (over, over)) for pair in pairs])
''',
}

# What the NumPy backend says in plain NumPy already.
_OWN: dict[str, Callable[..., Any]] = {
    "scatter_add": numpy_backend.scatter_add,
    "one_hot": numpy_backend.one_hot,
    "place": numpy_backend.place,
    "blocks": blocks,
    "_heads": numpy_attention._heads,
    "_each": numpy_attention._each,
    "_scores": numpy_attention._scores,
    "_kept": numpy_attention._kept,
    "attention": numpy_attention.attention,
    "attention_back": numpy_attention.attention_back,
    **numpy_recurrent.OVERRIDES,
}
_ATTENTION = ("spread", "blocks", "_heads", "_each", "_scores", "_kept")
_WINDOWS = ("unfold", "fold", "conv", "conv_transpose", "conv_weight")
_NEEDS: dict[str, tuple[str, ...]] = dict.fromkeys(_WINDOWS, ("windows",))  # what they call
_NEEDS |= {"attention": _ATTENTION, "attention_back": _ATTENTION}
_NEEDS |= dict.fromkeys(numpy_recurrent.OVERRIDES, ("in_parts",))
HELPERS = frozenset(_WRITTEN) | frozenset(_OWN)


def with_needs(op: str) -> tuple[str, ...]:
    """The functions that stand for a primitive: those that it calls, and itself."""
    return (*_NEEDS.get(op, ()), op)


def helper(op: str) -> str:
    """The text of the function that stands for a primitive."""
    if op in _OWN:
        return f"\n{_without_types(_OWN[op])}\n"
    if op == "erf":
        tables = {"EDGE": EDGE, "ERF_P": ERF_P, "ERF_Q": ERF_Q}
        tables |= {"SMALL_P": SMALL_P, "SMALL_Q": SMALL_Q, "LARGE_P": LARGE_P, "LARGE_Q": LARGE_Q}
        return "\n".join(f"{name} = {table}" for name, table in tables.items()) + f"\n\n{_WRITTEN[op]}"
    return _WRITTEN[op]


def _without_types(fn: Callable[..., Any]) -> str:
    """A function of ours as others would write it."""
    (definition,) = ast.parse(inspect.getsource(fn)).body
    assert isinstance(definition, ast.FunctionDef)
    for function in ast.walk(definition):
        if isinstance(function, ast.FunctionDef):
            function.returns = None
            for argument in function.args.args:
                argument.annotation = None
    return ast.unparse(definition)
