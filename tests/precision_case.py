"""What mixed precision makes of float32 numbers, by NumPy."""

import math

import numpy as np

import nnbackend as nb

LIMIT = 2.0**63  # how far a factor is scaled at most


def bfloat_bits(x):
    """To nearest even, in whole numbers."""
    bits = x.view(np.uint32)
    up = (bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(x), (bits >> 16) | 0x40, up).astype(np.uint16)


def scale(x):
    """The power of two for a factor in float16."""
    top = np.max(np.abs(x[np.isfinite(x)]), initial=0.0)
    return min(max(2.0 ** (14 - math.floor(math.log2(top))), 1 / LIMIT), LIMIT) if top else LIMIT


def rounded(x, precision):
    """The values that a factor has when it is multiplied, in float64."""
    if precision == "bfloat16":
        return (bfloat_bits(x).astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    with np.errstate(over="ignore"):
        return (x * np.float64(scale(x))).astype(np.float16) / np.float64(scale(x))


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def put(*arrays):
    return [nb.device("cuda").put(x) for x in arrays]
