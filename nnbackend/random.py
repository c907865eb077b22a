"""One stream of random numbers, the same bits on every device.

Every draw has an address instead of a place in a queue: `(key, site, step, rank)`. The key comes from the seed, the
site from the layer's path, the step from how often it was asked. So adding a layer shifts no other layer's numbers, a
replay needs no stored masks, and a CPU and a GPU agree. By definition the numbers at an address are

    counter = np.array([0, site, step, rank], np.uint64)
    np.random.Generator(np.random.Philox(key=key, counter=counter)).random(shape, dtype)

and likewise for whole numbers and raw words. A version in plain array operations gives the same bits in every other
library, and a kernel on CUDA (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011). Initial weights and
permutations are drawn on the host and uploaded.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable
from contextvars import ContextVar
from operator import index
from typing import Any

import numpy as np

from .backend import CPU, KERNELS, NUMPY, Array, DeviceLike, HostArray, backend_of, namespace, primitive
from .backend import device as find_device
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
    return np.random.Generator(_bits(key, site, step, rank))


def _bits(key: int, site: int, step: int, rank: int) -> np.random.Philox:
    counter = np.array([0, site, step, rank], dtype=np.uint64)  # NumPy would read a list of such numbers as floats
    return np.random.Philox(key=key, counter=counter)


def permutation(n: int, key: int, site: int = 0, step: int = 0, device: DeviceLike = "cpu") -> Array:
    """The numbers 0..n-1 in random order, `generator(key, site, step).permutation(n)`: drawn on the host, uploaded."""
    order, place = generator(key, site, step).permutation(n), find_device(device)
    return order if place == CPU else place.put(order)


@primitive
def words_like(x: Array, key: int, site: int, step: int, rank: int = 0) -> Array:
    """Random 64-bit words of the shape and on the device of `x`, as uint64: `Philox.random_raw` at the address.

    DeviceError without 64-bit integers, here and in all that follow.
    """
    n = math.prod(x.shape)
    return namespace(x).reshape(_philox(x, -(-n // 4), key, (0, site, step, rank))[:n], x.shape)


@primitive
def uniform_like(x: Array, key: int, site: int, step: int, rank: int = 0) -> Array:
    """Random numbers in [0, 1) of the shape, dtype and device of `x`."""
    backend, n = backend_of(x), math.prod(x.shape)
    xp, kind = backend.xp, backend.canonical(x.dtype)
    words = _philox(x, -(-n // (4 if kind == np.float64 else 8)), key, (0, site, step, rank))
    if kind == np.float64:
        u = xp.astype(words >> 11, x.dtype) * 2.0**-53
    else:
        u = xp.astype(_halves(xp, words) >> 8, xp.float32) * 2.0**-24
        u = xp.floor(u * 2048.0) / 2048.0 if kind == np.float16 else u  # rounding alone would make some of them 1
    return xp.astype(xp.reshape(u[:n], x.shape), x.dtype, copy=False)


def bernoulli_like(x: Array, p: float, key: int, site: int, step: int, rank: int = 0) -> Array:
    """True with probability `p`, of the shape and on the device of `x`: a mask, `.random(shape, dtype) < p`."""
    return uniform_like(x, key, site, step, rank) < p


@primitive
def integers_like(x: Array, high: int, key: int, site: int, step: int, rank: int = 0) -> Array:
    """Whole numbers from 0 to `high` - 1, all as likely, of the shape and on the device of `x`, as int64.

    The same as `.integers(0, high, shape)` of NumPy's generator. ValueError unless `high` is from 1 to 2**63, TypeError
    if it is not whole.
    Draws that would favour some numbers are rejected (Lemire, "Fast random integer generation in an interval", 2019);
    so many are made that the rest suffices but for a chance below 2**-64, and nothing waits for the device.
    """
    if not 1 <= index(high) <= 1 << 63:
        raise ValueError(f"integers_like: expected high from 1 to 2**63, got {high}.")
    xp, n, bits = namespace(x), math.prod(x.shape), 32 if high <= 1 << 32 else 64
    rejected = (1 << bits) % high
    drawn = _enough(n, 1.0 - rejected / 2.0**bits) if rejected else n
    words = words_like(xp.empty(-(-drawn * bits // 64), dtype=x.dtype, device=x.device), key, site, step, rank)
    if bits == 32:
        product = _halves(xp, words) * high
        numbers, rest = product >> 32, product & _MASK32
    else:
        numbers, rest = _product(high, words)
    if rejected:
        accepted = xp.cumulative_sum(xp.astype(rest >= rejected, xp.int64))
        numbers = xp.take(numbers, xp.searchsorted(accepted, xp.arange(1, n + 1, device=x.device)), axis=0)
    return xp.astype(xp.reshape(numbers[:n], x.shape), xp.int64)


def _enough(n: int, p: float) -> int:
    """How many trials with chance `p` bring n successes, but for a chance below 2**-64 (Chernoff's bound)."""
    spread = math.sqrt(2 * 64 * math.log(2))  # a mean of m gives fewer than m - spread sqrt(m) with that chance
    return math.ceil((spread / 2 + math.sqrt(spread**2 / 4 + n)) ** 2 / p)


def _philox(like: Array, blocks: int, key: int, counter: tuple[int, int, int, int]) -> Array:
    """`blocks` blocks of four 64-bit words of Philox 4x64-10, as `Philox.random_raw` gives them."""
    backend = backend_of(like)
    xp, where = backend.xp, backend.raw_device(like)
    if "uint64" not in xp.__array_namespace_info__().dtypes(device=where, kind="unsigned integer"):
        raise DeviceError(f"random: expected a device with 64-bit integers, got {backend.device_name(where)}.")
    first = sum(word << 64 * i for i, word in enumerate(counter)) + 1  # NumPy counts up before it makes a block
    c: list[Any] = [first >> 64 * i & _MASK64 for i in range(4)]
    start, c[0] = c[0], xp.arange(blocks, dtype=xp.uint64, device=where) + c[0]
    carry = c[0] < start
    for i in (1, 2, 3):
        c[i] = xp.astype(carry, xp.uint64) + c[i]
        carry = carry & (c[i] == 0)
    k0, k1 = key & _MASK64, key >> 64 & _MASK64
    for _ in range(10):
        high0, low0 = _product(_MULTIPLIERS[0], c[0])
        high1, low1 = _product(_MULTIPLIERS[1], c[2])
        c = [high1 ^ c[1] ^ k0, low1, high0 ^ c[3] ^ k1, low0]
        k0, k1 = k0 + _WEYL[0] & _MASK64, k1 + _WEYL[1] & _MASK64
    return xp.reshape(xp.stack(c, axis=1), (-1,))


def _product(a: int, b: Array) -> tuple[Array, Array]:
    """High and low word of the 128-bit product of a constant and an array, from products of 32-bit halves."""
    a_low, a_high, b_low, b_high = a & _MASK32, a >> 32, b & _MASK32, b >> 32
    low_high, high_low = b_high * a_low, b_low * a_high
    middle = (b_low * a_low >> 32) + (low_high & _MASK32) + (high_low & _MASK32)  # below 3 * 2**32: cannot overflow
    return b_high * a_high + (low_high >> 32) + (high_low >> 32) + (middle >> 32), b * a


def _halves(xp: Any, words: Array) -> Array:
    """The 32-bit halves of words, as uint64: NumPy hands out the low one first."""
    return xp.reshape(xp.stack([words & _MASK32, words >> 32], axis=1), (-1,))


def _numpy_words_like(x: HostArray, key: int, site: int, step: int, rank: int = 0) -> Array:
    return _bits(key, site, step, rank).random_raw(x.size).reshape(x.shape)


def _numpy_uniform_like(x: HostArray, key: int, site: int, step: int, rank: int = 0) -> Array:
    dtype = np.float64 if x.dtype == np.float64 else np.float32
    drawn: Array = generator(key, site, step, rank).random(x.shape, dtype)
    if x.dtype == np.float16:
        drawn = np.floor(drawn * 2048.0) / 2048.0  # rounding alone would make some of them 1
    return drawn.astype(x.dtype, copy=False)


def _numpy_integers_like(x: HostArray, high: int, key: int, site: int, step: int, rank: int = 0) -> Array:
    return (
        generator(key, site, step, rank).integers(0, high, x.shape) if 1 <= index(high) <= 1 << 63 else NotImplemented
    )


if KERNELS:  # on the CPU the definitions themselves are the fast versions
    NUMPY.overrides.update(
        words_like=_numpy_words_like, uniform_like=_numpy_uniform_like, integers_like=_numpy_integers_like
    )
