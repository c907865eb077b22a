"""What a line of `op_table.py` is made of: random inputs, an op, and a reference in NumPy."""

import math
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np

import nnbackend as nb
from nnbackend import functional as F

# -- draws: float64 arrays that float32 can hold, integers and masks ------------------------------------------------


@dataclass(frozen=True)
class Draw:
    shape: tuple[int, ...]
    kind: Callable[[np.random.Generator, tuple[int, ...]], Any]

    def __call__(self, rng: np.random.Generator) -> Any:
        x = np.asarray(self.kind(rng, self.shape))
        return x.astype(np.float32).astype(np.float64) if x.dtype == np.float64 else x


def drawing(kind: Callable[[np.random.Generator, tuple[int, ...]], Any]) -> Callable[..., Draw]:
    return lambda *shape: Draw(shape, kind)


def _spaced(rng: np.random.Generator, shape: tuple[int, ...], offset: float) -> Any:
    """Values 1/4 apart, none near a multiple of 1/2: no ties, no steps, no kinks at 0."""
    n = math.prod(shape)
    return (rng.permutation(n) - n // 2).reshape(shape) * 0.25 + offset


normal = drawing(lambda rng, shape: rng.standard_normal(shape))
positive = drawing(lambda rng, shape: rng.uniform(0.5, 2.0, shape))
inside = drawing(lambda rng, shape: rng.uniform(-0.9, 0.9, shape))
above_one = drawing(lambda rng, shape: rng.uniform(1.2, 3.0, shape))
nonzero = drawing(lambda rng, shape: rng.uniform(0.3, 2.0, shape) * rng.choice([-1.0, 1.0], shape))
probability = drawing(lambda rng, shape: rng.uniform(0.05, 0.95, shape))
spaced = drawing(lambda rng, shape: _spaced(rng, shape, 0.1))
between = drawing(lambda rng, shape: _spaced(rng, shape, 0.2))  # never near a value of `spaced`
mask = drawing(lambda rng, shape: rng.permutation(math.prod(shape)).reshape(shape) % 2 == 0)


def whole(n: int, *shape: int, dtype: str = "int64", negative: bool = False) -> Draw:
    """Indices into n elements: some are repeated where there are enough of them."""
    return Draw(shape, lambda rng, s: rng.integers(-n if negative else 0, n, s).astype(dtype))


# -- lines ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Case:
    name: str
    id: str
    op: Callable[..., Any]
    reference: Callable[..., Any]
    inputs: tuple[Any, ...]
    view: bool
    strict: bool
    dtype: str | None
    equal: bool

    def rng(self) -> np.random.Generator:
        return np.random.default_rng(zlib.crc32(self.id.encode()))

    def draw(self) -> list[Any]:
        return [x.copy() if isinstance(x, np.ndarray) else x for x in _drawn(self)]


@cache
def _drawn(case: Case) -> list[Any]:
    rng = case.rng()
    return [x(rng) if isinstance(x, Draw) else x for x in case.inputs]


TABLE: list[Case] = []
SAME: Counter[str] = Counter()  # how many lines have these words


def line(
    name: str,
    *inputs: Any,
    op: Any = None,
    ref: Any = None,
    both: Any = None,
    view: bool = False,
    strict: bool = True,
    dtype: str | None = None,
    equal: bool = True,
    **settings: Any,
) -> None:
    op = both or op or getattr(F if name in F.__all__ else nb, name)
    ref = both or ref or getattr(np, name)
    shapes = [str(x.shape).replace(" ", "") if isinstance(x, Draw) else repr(x) for x in inputs]
    words = " ".join([name, *shapes, *(f"{k}={v}" for k, v in settings.items())])
    id = f"{words}#{SAME[words]}" if SAME[words] else words
    SAME[words] += 1
    TABLE.append(Case(name, id, partial(op, **settings), partial(ref, **settings), inputs, view, strict, dtype, equal))


def unary(name: str, draw: Callable[..., Draw], **options: Any) -> None:
    """An element-wise function of one array: also 0-d and empty."""
    for shape in ((2, 3, 5), (), (0, 3)):
        line(name, draw(*shape), **options)


def binary(name: str, left: Callable[..., Draw], right: Callable[..., Draw], **options: Any) -> None:
    """An element-wise function of two arrays: also broadcast either way, 0-d and empty."""
    for a, b in (((2, 3), (2, 3)), ((2, 3, 5), (3, 1)), ((1, 5), (2, 3, 1)), ((), (3,)), ((0, 3), (1,))):
        line(name, left(*a), right(*b), **options)
