"""Initial weights, drawn on the host: one seed gives the same weights on every device.

An initialiser is called with NumPy's generator and a shape and returns a float64 array. The functions here with
settings return one: `nn.init.xavier_uniform(gain=1.0)`. Shapes are PyTorch's, (out, in, ...). PyTorch's own spelling,
`nn.init.xavier_uniform_(p, gain=1.0)`, gives a parameter an initialiser and draws at once.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from functools import partial
from typing import Any

from ..backend import NUMPY, HostArray
from ..cells import Parameter
from ..errors import ShapeError
from ..random import fresh_key, key_of, site_of
from ..random import generator as generator_at

Shape = tuple[int, ...]
Initialiser = Callable[[Any, Shape], HostArray]

GAINS = {
    **dict.fromkeys(("linear", "conv1d", "conv2d", "conv3d"), 1.0),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "sigmoid"), 1.0),
    "tanh": 5.0 / 3.0,
    "relu": math.sqrt(2.0),
    "selu": 3.0 / 4.0,
}


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """What a layer before this function multiplies its standard deviation by; `param` is the slope of leaky_relu."""
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        if isinstance(slope, bool) or not isinstance(slope, int | float):
            raise ValueError(f"calculate_gain: expected a number as the slope of leaky_relu, got {param!r}.")
        return math.sqrt(2.0 / (1.0 + slope**2))
    if nonlinearity not in GAINS:
        known = ", ".join(sorted([*GAINS, "leaky_relu"]))
        raise ValueError(f"calculate_gain: expected one of {known}, got {nonlinearity!r}.")
    return GAINS[nonlinearity]


# -- the same everywhere
def zeros(generator: Any, shape: Shape) -> HostArray:
    """All 0."""
    return NUMPY.xp.zeros(shape)  # type: ignore[no-any-return]


def ones(generator: Any, shape: Shape) -> HostArray:
    """All 1."""
    return NUMPY.xp.ones(shape)  # type: ignore[no-any-return]


def constant(val: float) -> Initialiser:
    """All `val`."""
    return partial(_constant, val)


def _constant(val: float, generator: Any, shape: Shape) -> HostArray:
    return zeros(generator, shape) + val


# -- one distribution for all shapes
def uniform(a: float = 0.0, b: float = 1.0) -> Initialiser:
    """Evenly spread over [a, b)."""
    return partial(_uniform, a, b)


def _uniform(a: float, b: float, generator: Any, shape: Shape) -> HostArray:
    return generator.uniform(a, b, shape)  # type: ignore[no-any-return]


def normal(mean: float = 0.0, std: float = 1.0) -> Initialiser:
    """The normal distribution."""
    return partial(_normal, mean, std)


def _normal(mean: float, std: float, generator: Any, shape: Shape) -> HostArray:
    return generator.normal(mean, std, shape)  # type: ignore[no-any-return]


def trunc_normal(mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0) -> Initialiser:
    """The normal distribution without what lies outside [a, b]; exact in its tails too."""
    if not (std > 0.0 and a <= b):
        raise ValueError(f"trunc_normal: expected std > 0 and a <= b, got std={std}, a={a}, b={b}.")
    return partial(_trunc_normal, mean, std, a, b)


def _trunc_normal(mean: float, std: float, a: float, b: float, generator: Any, shape: Shape) -> HostArray:
    """By rejection: of normal numbers where most of them fit, else of uniform ones."""
    xp = NUMPY.xp
    low, high = (a - mean) / std, (b - mean) / std
    wide = math.erf(high / math.sqrt(2.0)) - math.erf(low / math.sqrt(2.0)) > 0.6
    peak = min(max(low, 0.0), high)
    reach = 80.0 / (math.hypot(peak, math.sqrt(80.0)) + abs(peak))  # farther out the density is below exp(-40) of that
    left, right = max(low, peak - reach), min(high, peak + reach)
    kept, missing = [zeros(generator, (0,))], math.prod(shape)
    while missing:
        if wide:
            x = generator.standard_normal(missing)
            x = x[(low <= x) & (x <= high)]
        else:
            x = generator.uniform(left, right, missing)
            x = x[generator.random(missing) <= xp.exp(0.5 * (peak - x) * (peak + x))]
        kept.append(x)
        missing -= x.size
    return xp.clip(xp.reshape(xp.concat(kept), shape) * std + mean, a, b)  # type: ignore[no-any-return]


# -- spread by the number of inputs and outputs
def xavier_uniform(gain: float = 1.0) -> Initialiser:
    """Keeps the variance of values and gradients of tanh-like nets (Glorot and Bengio 2010)."""
    return partial(_xavier, gain, False)


def xavier_normal(gain: float = 1.0) -> Initialiser:
    """`xavier_uniform` with the normal distribution."""
    return partial(_xavier, gain, True)


def kaiming_uniform(a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> Initialiser:
    """Keeps the variance of values through ReLU, with "fan_out" that of gradients (He et al. 2015).

    `a` is the slope of a leaky ReLU on its negative side.
    """
    return partial(_kaiming, calculate_gain(nonlinearity, a), _which(mode), False)


def kaiming_normal(a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> Initialiser:
    """`kaiming_uniform` with the normal distribution."""
    return partial(_kaiming, calculate_gain(nonlinearity, a), _which(mode), True)


def lecun_uniform() -> Initialiser:
    """Keeps the variance of values through linear layers (LeCun et al. 1998)."""
    return partial(_kaiming, 1.0, 0, False)


def lecun_normal() -> Initialiser:
    """`lecun_uniform` with the normal distribution: for SELU (Klambauer et al. 2017)."""
    return partial(_kaiming, 1.0, 0, True)


def _which(mode: str) -> int:
    modes = ("fan_in", "fan_out")
    if mode not in modes:
        raise ValueError(f'kaiming: expected mode "fan_in" or "fan_out", got {mode!r}.')
    return modes.index(mode)


def _fans(shape: Shape) -> tuple[int, int]:
    """How many inputs and outputs one output and one input has."""
    if len(shape) < 2:
        raise ShapeError(f"init: expected a weight of at least 2 axes, got shape {shape}")
    field = math.prod(shape[2:])
    return shape[1] * field, shape[0] * field


def _xavier(gain: float, is_normal: bool, generator: Any, shape: Shape) -> HostArray:
    return _spread(gain, sum(_fans(shape)) / 2.0, is_normal, generator, shape)


def _kaiming(gain: float, which: int, is_normal: bool, generator: Any, shape: Shape) -> HostArray:
    return _spread(gain, _fans(shape)[which], is_normal, generator, shape)


def _spread(gain: float, fan: float, is_normal: bool, generator: Any, shape: Shape) -> HostArray:
    std = gain / math.sqrt(fan or 1.0)  # without inputs or outputs there is nothing to draw
    if is_normal:
        return _normal(0.0, std, generator, shape)
    return _uniform(-math.sqrt(3.0) * std, math.sqrt(3.0) * std, generator, shape)


# -- matrices of a kind
def orthogonal(gain: float = 1.0) -> Initialiser:
    """Rows or columns, whichever are fewer, at right angles and of length `gain` (Saxe et al. 2014).

    Shape (out, ...), seen as a matrix of `out` rows. All such matrices are equally likely (Mezzadri 2007).
    """
    return partial(_orthogonal, gain)


def _orthogonal(gain: float, generator: Any, shape: Shape) -> HostArray:
    if len(shape) < 2:
        raise ShapeError(f"orthogonal: expected a weight of at least 2 axes, got shape {shape}")
    xp: Any = NUMPY.xp
    rows, columns = shape[0], math.prod(shape[1:])
    q, r = xp.linalg.qr(generator.standard_normal((max(rows, columns), min(rows, columns))))
    q = q * xp.sign(xp.linalg.diagonal(r))
    return gain * xp.reshape(q if rows >= columns else q.T, shape)  # type: ignore[no-any-return]


def sparse(sparsity: float, std: float = 0.01) -> Initialiser:
    """Normal, but for a part `sparsity` of each column, which is 0 (Martens 2010). Shape (out, in)."""
    if not 0.0 <= sparsity <= 1.0:
        raise ValueError(f"sparse: expected a part from 0 to 1 of each column, got {sparsity}.")
    return partial(_sparse, sparsity, std)


def _sparse(sparsity: float, std: float, generator: Any, shape: Shape) -> HostArray:
    if len(shape) != 2:
        raise ShapeError(f"sparse: expected a matrix, got shape {shape}")
    places: Any = NUMPY.xp.argsort(generator.random(shape), axis=0)  # each column in an order of its own
    return _normal(0.0, std, generator, shape) * (places >= math.ceil(sparsity * shape[0]))  # type: ignore[no-any-return]


def eye(generator: Any, shape: Shape) -> HostArray:
    """The identity: a linear layer passes on as many inputs as it can. Shape (out, in)."""
    if len(shape) != 2:
        raise ShapeError(f"eye: expected a matrix, got shape {shape}")
    return NUMPY.xp.eye(*shape)  # type: ignore[no-any-return]


def dirac(groups: int = 1) -> Initialiser:
    """A convolution that passes on as many channels as it can, in each group. Shape (out, in, 1 to 3 more axes)."""
    if groups < 1:
        raise ValueError(f"dirac: expected a positive number of groups, got {groups}.")
    return partial(_dirac, groups)


def _dirac(groups: int, generator: Any, shape: Shape) -> HostArray:
    if len(shape) not in (3, 4, 5) or shape[0] % groups:
        raise ShapeError(f"dirac: expected a weight of 3 to 5 axes, the first in {groups} groups, got shape {shape}")
    weight = zeros(generator, shape)
    one = NUMPY.xp.eye(shape[0] // groups, shape[1])
    middle: Any = (..., *(n // 2 for n in shape[2:]))
    weight[middle] = NUMPY.xp.concat([one] * groups)
    return weight


# -- PyTorch's spelling
def _in_place(make: Callable[..., Initialiser]) -> Callable[..., Parameter]:
    """`make` as a function that sets the initialiser of a parameter and draws."""

    def fill(tensor: Parameter, *settings: Any, generator: int | None = None, **named: Any) -> Parameter:
        name = fill.__name__
        if not isinstance(tensor, Parameter):
            raise TypeError(f"{name}: expected a Parameter, got {type(tensor).__name__}. Use nn.Parameter(...).")
        if generator is not None and not isinstance(generator, int):
            raise TypeError(f"{name}: expected a seed as generator, got {type(generator).__name__}.")
        key = fresh_key() if generator is None else key_of(generator)
        old, tensor.initialiser = tensor.initialiser, make(*settings, **named)
        try:
            tensor.draw(generator_at(key, site_of(tensor.name)))
        except Exception:
            tensor.initialiser = old
            raise
        return tensor

    fill.__name__ = f"{make.__name__}_"
    fill.__doc__ = f"""Set the initialiser of a parameter to `{make.__name__}`, draw, and return the parameter.

    Arguments: the parameter, those of `{make.__name__}`, and `generator=`, a seed: the values are then those of
    `net.init(seed)`. Without it they come from fresh entropy.
    """
    return fill


def _as_it_is(initialiser: Initialiser) -> Callable[[], Initialiser]:
    """An initialiser without settings as one with none."""

    @functools.wraps(initialiser)
    def make() -> Initialiser:
        return initialiser

    return make


zeros_ = _in_place(_as_it_is(zeros))
ones_ = _in_place(_as_it_is(ones))
constant_ = _in_place(constant)
uniform_ = _in_place(uniform)
normal_ = _in_place(normal)
trunc_normal_ = _in_place(trunc_normal)
xavier_uniform_ = _in_place(xavier_uniform)
xavier_normal_ = _in_place(xavier_normal)
kaiming_uniform_ = _in_place(kaiming_uniform)
kaiming_normal_ = _in_place(kaiming_normal)
lecun_uniform_ = _in_place(lecun_uniform)
lecun_normal_ = _in_place(lecun_normal)
orthogonal_ = _in_place(orthogonal)
sparse_ = _in_place(sparse)
eye_ = _in_place(_as_it_is(eye))
dirac_ = _in_place(dirac)
