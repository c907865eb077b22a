"""Groups for tests: made of host arrays, run on the device, answered on the host."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

import nnbackend as nb
from nnbackend.backend import to_host
from nnbackend.backend.fusion import Group, Input, Reduction, Step, run

Values = Any


def put(host: Any) -> Any:
    """A contiguous array of CuPy's."""
    return nb.device("cuda").put(np.array(host, order="C"))


def strides(x: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """By how many elements the place in `x` moves on along the axes of `shape`."""
    wide = [0] * (len(shape) - x.ndim) + [s // x.itemsize for s in x.strides]
    own = [1] * (len(shape) - x.ndim) + list(x.shape)
    return tuple(s if n > 1 else 0 for s, n in zip(wide, own, strict=True))


def grouped(
    shape: tuple[int, ...],
    arrays: Sequence[Any],
    steps: Sequence[Step] = (),
    outputs: Sequence[int] = (),
    reductions: Sequence[Reduction] = (),
    numbers: Sequence[Any] = (),
) -> Group:
    """The group that works on these arrays."""
    inputs = tuple(Input(x.dtype.name, strides(x, shape)) for x in arrays)
    kinds = tuple("float" if isinstance(getattr(x, "value", x), float) else "int" for x in numbers)
    return Group(shape, inputs, kinds, tuple(steps), tuple(outputs), tuple(reductions))


def results(shape: tuple[int, ...], arrays: Sequence[Any], *parts: Any, numbers: Sequence[Any] = ()) -> list[Any]:
    """What a group makes, on the host. What it stores has been garbage before."""
    group = grouped(shape, arrays, *parts, numbers=numbers)
    outs = [_garbage(shape, group.dtype(v)) for v in group.outputs]
    for r in group.reductions:
        kept = tuple(n for i, n in enumerate(shape) if i not in r.axes)
        outs.append(_garbage(kept, group.result(r)))
    run(group, arrays, numbers, outs)
    return [to_host(x) for x in outs]


def _garbage(shape: tuple[int, ...], dtype: str) -> Any:
    size = math.prod(shape) * np.dtype(dtype).itemsize
    bits = np.full(size, 1 if dtype == "bool" else 0x7D, np.uint8)
    return put(bits.view(dtype).reshape(shape))


def same(got: Any, want: Any) -> None:
    """The same bits, but any NaN for a NaN."""
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    if got.dtype.kind == "f":
        np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
        got, want = (np.where(np.isnan(x), 0, x).view(f"u{x.itemsize}") for x in (got, want))
    np.testing.assert_array_equal(got, want)
