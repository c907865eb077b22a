"""One stream of random numbers, the same bits on every device.

Every draw has an address instead of a place in a queue: `(key, site, step, rank)`. The key comes from the seed, the
site from the layer's path, the step from how often it was asked. So adding a layer shifts no other layer's numbers, a
replay needs no stored masks, and a CPU and a GPU agree. By definition the numbers at an address are

    counter = np.array([0, site, step, rank], np.uint64)
    np.random.Generator(np.random.Philox(key=key, counter=counter)).random(shape, dtype)

and a version in plain array operations gives the same bits in every other library (Salmon et al., "Parallel random
numbers: as easy as 1, 2, 3", 2011). Initial weights and shuffles are drawn on the host and uploaded.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import numpy as np

from .backend import KERNELS, NUMPY, Array, Backend, backend_of, primitive
from .errors import DeviceError

_MASK32, _MASK64 = (1 << 32) - 1, (1 << 64) - 1
_MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
_WEYL = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)


def key_of(seed: int) -> int:
    """The 128-bit key of a seed; neighbouring seeds give unrelated keys."""
    low, high = np.random.SeedSequence(seed).generate_state(2, np.uint64)
    return int(low) | int(high) << 64


def _entropy() -> int:
    return int.from_bytes(os.urandom(16), "little")


key_source: ContextVar[Callable[[], int]] = ContextVar("nnbackend.key_source", default=_entropy)


def fresh_key() -> int:
    """A key nobody has drawn before; what is computed again gets its old ones."""
    return key_source.get()()


@functools.cache
def site_of(path: str) -> int:
    """The 64-bit address of a name."""
    import hashlib  # here, because it loads OpenSSL: a tenth of the import of this library

    return int.from_bytes(hashlib.blake2b(path.encode(), digest_size=8).digest(), "little")


def generator(key: int, site: int = 0, step: int = 0, rank: int = 0) -> np.random.Generator:
    """NumPy's generator at an address, for draws on the host."""
    counter = np.array([0, site, step, rank], dtype=np.uint64)  # NumPy would read a list of such numbers as floats
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def permutation(n: int, key: int, site: int = 0, step: int = 0) -> np.ndarray[Any, Any]:
    """The numbers 0..n-1 in random order, on the host."""
    return generator(key, site, step).permutation(n)


@primitive
def uniform_like(x: Array, key: int, site: int, step: int, rank: int = 0) -> Array:
    """Random numbers in [0, 1) of the shape, dtype and device of `x`. DeviceError without 64-bit integers."""
    backend, n = backend_of(x), math.prod(x.shape)
    xp = backend.xp
    wide = backend.canonical(x.dtype) == np.float64
    words = _philox(backend, x, -(-n // (4 if wide else 8)), key, (0, site, step, rank))
    if wide:
        u = xp.astype(words >> _word(xp, words, 11), x.dtype) * 2.0**-53
    else:
        low, high = words & _word(xp, words, _MASK32), words >> _word(xp, words, 32)
        halves = xp.reshape(xp.stack([low, high], axis=1), (-1,))  # NumPy hands out the low half of a word first
        u = xp.astype(halves >> _word(xp, words, 8), xp.float32) * 2.0**-24
        u = xp.floor(u * 2048.0) / 2048.0 if backend.canonical(x.dtype) == np.float16 else u  # else some would be 1
    return xp.astype(xp.reshape(u[:n], x.shape), x.dtype, copy=False)


def _numpy_uniform_like(x: Array, key: int, site: int, step: int, rank: int = 0) -> Array:
    dtype = np.float64 if x.dtype == np.float64 else np.float32
    drawn: Array = generator(key, site, step, rank).random(x.shape, dtype)
    if x.dtype == np.float16:
        drawn = np.floor(drawn * 2048.0) / 2048.0  # rounding alone would make some of them 1
    return drawn.astype(x.dtype, copy=False)


def bernoulli_like(x: Array, p: float, key: int, site: int, step: int, rank: int = 0) -> Array:
    """True with probability `p`, of the shape and on the device of `x`: a mask."""
    return uniform_like(x, key, site, step, rank) < p


def _word(xp: Any, like: Array, value: int) -> Array:
    return xp.asarray(value, dtype=xp.uint64, device=like.device)


def _philox(backend: Backend, like: Array, blocks: int, key: int, counter: tuple[int, int, int, int]) -> Array:
    """`blocks` blocks of four 64-bit words of Philox 4x64-10, as `Philox.random_raw` gives them."""
    xp, device = backend.xp, backend.raw_device(like)
    if "uint64" not in xp.__array_namespace_info__().dtypes(device=device, kind="unsigned integer"):
        raise DeviceError(f"random: expected a device with 64-bit integers, got {backend.device_name(device)}.")
    first = sum(word << 64 * i for i, word in enumerate(counter)) + 1  # NumPy counts up before it makes a block
    c: list[Any] = [_word(xp, like, first >> 64 * i & _MASK64) for i in range(4)]
    start, c[0] = c[0], xp.arange(blocks, dtype=xp.uint64, device=device) + c[0]
    carry = c[0] < start
    for i in (1, 2, 3):
        c[i] = c[i] + xp.astype(carry, xp.uint64)
        carry = carry & (c[i] == _word(xp, like, 0))
    k0, k1 = key & _MASK64, key >> 64 & _MASK64
    for _ in range(10):
        high0, low0 = _product(xp, like, _MULTIPLIERS[0], c[0])
        high1, low1 = _product(xp, like, _MULTIPLIERS[1], c[2])
        c = [high1 ^ c[1] ^ _word(xp, like, k0), low1, high0 ^ c[3] ^ _word(xp, like, k1), low0]
        k0, k1 = k0 + _WEYL[0] & _MASK64, k1 + _WEYL[1] & _MASK64
    return xp.reshape(xp.stack(c, axis=1), (-1,))


def _product(xp: Any, like: Array, a: int, b: Array) -> tuple[Array, Array]:
    """High and low word of the 128-bit product of a constant and an array, from products of 32-bit halves."""

    def word(value: int) -> Array:
        return _word(xp, like, value)

    a_low, a_high, half, mask = word(a & _MASK32), word(a >> 32), word(32), word(_MASK32)
    b_low, b_high = b & mask, b >> half
    low_high, high_low = a_low * b_high, a_high * b_low
    middle = (a_low * b_low >> half) + (low_high & mask) + (high_low & mask)  # below 3 * 2**32: cannot overflow
    return a_high * b_high + (low_high >> half) + (high_low >> half) + (middle >> half), word(a) * b


if KERNELS:  # on the CPU the definition itself is the fast version
    NUMPY.overrides["uniform_like"] = _numpy_uniform_like
