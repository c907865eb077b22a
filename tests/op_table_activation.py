"""Lines of the op table: activations and dropout."""

import math
from functools import partial
from typing import Any

import numpy as np
from op_line import line, mask, nonzero, normal, spaced, unary

from nnbackend import functional as F
from nnbackend.backend import namespace
from nnbackend.ops import activation
from nnbackend.tensor import lift

erf = np.vectorize(math.erf, otypes=[float])


def logistic(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def np_softmax(x: Any, dim: int = -1) -> Any:
    return np.exp(x) / np.sum(np.exp(x), axis=dim, keepdims=True)


def np_gelu_tanh(x: Any, approximate: str) -> Any:
    return x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def np_elu(x: Any, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Any:
    return scale * np.where(x > 0, x, alpha * np.expm1(input_scale * x))


def np_prelu(x: Any, w: Any) -> Any:
    slopes = w.reshape(w.size, *[1] * (x.ndim - 2)) if w.size > 1 else w[0]
    return np.where(x > 0, x, x * slopes)


def hard(x: Any) -> Any:
    return np.clip((x + 3) / 6, 0, 1)


# -- smooth, or nearly so -------------------------------------------------------------------------------------------

unary("sigmoid", normal, ref=logistic)
unary("logsigmoid", normal, ref=lambda x: -np.log1p(np.exp(-x)))
unary("silu", normal, ref=lambda x: x * logistic(x))
unary("mish", normal, ref=lambda x: x * np.tanh(np.log1p(np.exp(x))))
unary("gelu", normal, ref=lambda x: x / 2 * (1 + erf(x / math.sqrt(2))))
unary("gelu", normal, ref=np_gelu_tanh, approximate="tanh")
unary("softplus", normal, ref=lambda x: np.log1p(np.exp(x)))
unary("softplus", nonzero, ref=lambda x, beta: np.log1p(np.exp(beta * x)) / beta, beta=2.0)
line("softplus", nonzero(2, 3), ref=lambda x, threshold: np.where(x > 0, x, np.log1p(np.exp(x))), threshold=0.0)
unary("softsign", nonzero, ref=lambda x: x / (1 + np.abs(x)))
unary("tanhshrink", normal, ref=lambda x: x - np.tanh(x))
unary("elu", nonzero, ref=np_elu)
unary("elu", nonzero, ref=np_elu, alpha=0.5)
line("elu", nonzero(2, 3), op=F.selu, ref=partial(np_elu, alpha=1.6732632423543772, scale=1.0507009873554805))
line("elu", nonzero(2, 3), op=partial(F.celu, alpha=0.7), ref=partial(np_elu, alpha=0.7, input_scale=1 / 0.7))

# -- in pieces ------------------------------------------------------------------------------------------------------

unary("relu", nonzero, ref=lambda x: np.maximum(x, 0))
unary("leaky_relu", nonzero, ref=lambda x: np.where(x > 0, x, 0.01 * x))
unary("leaky_relu", nonzero, ref=lambda x, negative_slope: np.where(x > 0, x, 0.3 * x), negative_slope=0.3)
line("leaky_relu", nonzero(2, 3), op=F.rrelu, ref=lambda x: np.where(x > 0, x, 11 / 48 * x))
for shape, count in (((2, 3, 5), 3), ((2, 3, 5), 1), ((2, 3), 3), ((5,), 1), ((), 1), ((0, 3, 2), 3)):
    line("prelu", nonzero(*shape), normal(count), ref=np_prelu)
line("prelu", nonzero(2, 3), normal(2, 3), op=lift(activation.prelu), ref=lambda x, w: np.where(x > 0, x, x * w))
unary("hardtanh", spaced, ref=lambda x: np.clip(x, -1, 1))
line("hardtanh", spaced(2, 3, 5), ref=lambda x, min_val, max_val: np.clip(x, -2, 0.5), min_val=-2.0, max_val=0.5)
line("hardtanh", spaced(7, 9), op=F.relu6, ref=lambda x: np.clip(x, 0, 6))
unary("hardsigmoid", spaced, ref=hard)
unary("hardswish", spaced, ref=lambda x: x * hard(x))
unary("hardshrink", spaced, ref=lambda x: np.where(np.abs(x) > 0.5, x, 0))
line("hardshrink", spaced(2, 3, 5), ref=lambda x, lambd: np.where(np.abs(x) > 1, x, 0), lambd=1.0)
unary("softshrink", spaced, ref=lambda x: np.sign(x) * np.maximum(np.abs(x) - 0.5, 0))
line("softshrink", spaced(2, 3, 5), ref=lambda x, lambd: np.sign(x) * np.maximum(np.abs(x) - 1, 0), lambd=1.0)
unary("threshold", spaced, ref=lambda x, threshold, value: np.where(x > 0.5, x, -3), threshold=0.5, value=-3.0)

# -- along an axis --------------------------------------------------------------------------------------------------

for shape, settings in (((2, 3, 4), {}), ((2, 6, 5), {"dim": 1}), ((4, 3), {"dim": -2}), ((0, 4), {}), ((6,), {})):
    line("glu", normal(*shape), **settings,
         ref=lambda x, dim=-1: (h := np.split(x, 2, axis=dim))[0] * logistic(h[1]))  # fmt: skip
for shape, settings in (((2, 3, 5), {}), ((2, 3, 5), {"dim": 1}), ((2, 3, 5), {"dim": 0}), ((0, 3), {})):
    line("softmax", normal(*shape), ref=np_softmax, **settings)
    line("log_softmax", normal(*shape), ref=lambda x, dim=-1: np.log(np_softmax(x, dim)), **settings)
line("softmax", normal(2, 3, 5), op=partial(F.softmin, dim=1), ref=lambda x: np_softmax(-x, 1))

# -- dropout --------------------------------------------------------------------------------------------------------


def np_alpha_dropout(x: Any, keep: Any, p: float) -> Any:
    low = -1.7580993408473766
    scale = ((1 - p) * (1 + p * low**2)) ** -0.5
    return scale * (np.where(keep, x, low) - low * p)


def masked(x: Any, keep: Any, p: float) -> Any:
    m = namespace(keep).astype(keep, x.dtype) * (1.0 / (1.0 - p) if p < 1.0 else 0.0)
    return lift(activation.dropout)(x, m)


for p in (0.4, 0.0, 1.0):
    line("dropout", normal(2, 3, 5), mask(2, 3, 5), op=masked,
         ref=lambda x, keep, p: x * keep / (1 - p) if p < 1 else 0 * x, p=p)  # fmt: skip
line("dropout", normal(2, 3, 5), mask(2, 3, 1), op=masked, ref=lambda x, keep, p: x * keep / (1 - p), p=0.5)
line("alpha_dropout", normal(2, 3, 5), mask(2, 3, 5), op=lift(activation.alpha_dropout), ref=np_alpha_dropout, p=0.3)
line("alpha_dropout", normal(2, 3, 5), mask(2, 3, 1), op=lift(activation.alpha_dropout), ref=np_alpha_dropout, p=0.6)
line("alpha_dropout", normal(2, 3), mask(2, 3), op=lift(activation.alpha_dropout), ref=lambda x, m, p: 0 * x, p=1.0)
