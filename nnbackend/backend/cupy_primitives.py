"""Primitives on CuPy: fewer kernels, sums in a fixed order, and never a wait for the device."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from . import cupy_attention, cupy_conv, cupy_cudnn, cupy_norm, cupy_pool, cupy_random, cupy_scatter, cupy_softmax, gemm
from .base import Array
from .fusion.eager import function


def last_for_each(cupy: Any, value: Array, key: Any, shape: tuple[int, ...]) -> Array:
    """`value` for the elements at `key`, with each value replaced by the last one for the same place.

    As it is where `key` has no array of integers, or a mask beside it: then no two are for one place.
    """
    parts = key if isinstance(key, tuple) else (key,)
    arrays = [np.asarray(part) if isinstance(part, list) else part for part in parts]
    if {part.dtype.kind for part in arrays if hasattr(part, "dtype")} not in ({"i"}, {"u"}, {"i", "u"}):
        return value
    if all(isinstance(part, cupy.ndarray) for part in parts):
        shape, tail = shape[: len(parts)], shape[len(parts) :]  # whole rows have one place
    else:
        tail = ()
    places = cupy.arange(math.prod(shape)).reshape(shape)[key]
    flat, target = places.reshape(-1), (*places.shape, *tail)
    value = value.reshape(value.shape[max(0, value.ndim - len(target)) :])  # NumPy allows axes of length 1 in front
    rows = cupy.broadcast_to(value, target).reshape(flat.size, math.prod(tail))
    order = cupy.argsort(flat, kind="stable")
    last = order[cupy.searchsorted(flat[order], flat, side="right") - 1]
    return rows[last].reshape(target)


def overrides(cupy: Any) -> dict[str, Callable[..., Array]]:
    """The table of CuPy's backend."""

    def gather(x: Array, index: Array) -> Array:
        return x.take(index, axis=0)

    table: dict[str, Callable[..., Any]] = {
        "product": gemm.product,
        "affine": gemm.affine,
        "gather": gather,
        "scatter_add": cupy_scatter.scatter_add,
        "erf": function("erf"),
        "logistic": function("logistic"),
        **cupy_random.OVERRIDES,
        **cupy_attention.OVERRIDES,
        **cupy_conv.OVERRIDES,
        **cupy_pool.OVERRIDES,
        **cupy_norm.OVERRIDES,
        **cupy_softmax.OVERRIDES,
    }
    return cupy_cudnn.preferred(cupy, table)
