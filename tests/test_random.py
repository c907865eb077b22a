"""One stream of random numbers: NumPy's Philox by definition, bit for bit in every other library."""

import math
from typing import Any

import array_api_strict
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes

import nnbackend as nb
from nnbackend import functional as F
from nnbackend.backend import NUMPY, cuda_status, to_host
from nnbackend.errors import DeviceError
from nnbackend.random import (
    _enough,
    _philox,
    bernoulli_like,
    fresh_key,
    generator,
    integers_like,
    key_of,
    permutation,
    site_of,
    uniform_like,
    words_like,
)
from nnbackend.tensor import Tensor

TOP = 2**64 - 1
words = st.integers(0, TOP) | st.sampled_from([0, 1, 2**32 - 1, 2**32, TOP - 1, TOP])
keys = st.integers(0, 2**128 - 1) | st.sampled_from([0, 2**64, 2**128 - 1])
shapes = array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=9)
dtypes = st.sampled_from(["float32", "float64"])
highs = st.integers(1, 2**63) | st.sampled_from([1, 2, 10, 50257, 2**31 + 1, 2**32 - 1, 2**32, 2**32 + 1, 2**63])
FAR = ("device1", "cuda") if cuda_status().usable else ("device1",)  # no NumPy there


def at(device: str) -> Any:
    return nb.device(device if device in ("cpu", "cuda") else array_api_strict.Device(device))


def like(shape: Any, dtype: Any, device: str = "cpu") -> Any:
    return at(device).put(np.zeros(shape, dtype))


def drawn(draw: Any, x: Any, *address: Any) -> list[Any]:
    """What `draw` gives for `x`, on every path: NumPy's own, the array text, other devices, and Tensors."""
    with pytest.MonkeyPatch.context() as patch:
        results = [draw(x, *address)]
        patch.setattr(NUMPY, "overrides", {})
        results += [draw(x, *address), draw.__wrapped__(x, *address)]
    for device in FAR:
        far = at(device).put(x)
        for y in (draw(far, *address), draw.__wrapped__(far, *address)):
            assert nb.device(y) == at(device)
            results.append(to_host(y))
    tensor = draw(Tensor(x), *address)
    assert isinstance(tensor, Tensor)
    assert not tensor.requires_grad
    return [*results, tensor.numpy()]


@given(shapes, dtypes, keys, words, words, words)
@example((40,), "float32", 2**128 - 1, TOP, TOP, TOP)
@example((), "float64", 0, 0, 0, 0)
def test_the_stream_is_what_its_definition_says(
    shape: Any, dtype: Any, key: int, site: int, step: int, rank: int
) -> None:
    counter = np.array([0, site, step, rank], np.uint64)  # NumPy would read a list of such numbers as floats
    want = np.random.Generator(np.random.Philox(key=key, counter=counter)).random(shape, dtype)
    for u in drawn(uniform_like, like(shape, dtype), key, site, step, rank):
        assert (u.shape, u.dtype) == (shape, dtype)
        np.testing.assert_array_equal(u, want)
        assert np.all((u >= 0) & (u < 1))


@given(shapes, dtypes, keys, words, words, words)
def test_words_are_the_raw_output(shape: Any, dtype: Any, key: int, site: int, step: int, rank: int) -> None:
    counter = np.array([0, site, step, rank], np.uint64)
    want = np.random.Philox(key=key, counter=counter).random_raw(math.prod(shape)).reshape(shape)
    for w in drawn(words_like, like(shape, dtype), key, site, step, rank):
        assert (w.shape, w.dtype) == (shape, np.uint64)
        np.testing.assert_array_equal(w, want)


@given(shapes, dtypes, highs, keys, words, words, words)
@example((30, 30), "float32", 2**31 + 1, 7, 1, 2, 3)  # nearly half of the draws are rejected
@example((30, 30), "float64", 2**62 + 1, 7, 1, 2, 3)
@example((999,), "float64", 2**32, 2**128 - 1, TOP, TOP, TOP)
@example((), "float32", 1, 0, 0, 0, 0)
def test_whole_numbers(shape: Any, dtype: Any, high: int, key: int, site: int, step: int, rank: int) -> None:
    want = generator(key, site, step, rank).integers(0, high, shape)
    for numbers in drawn(integers_like, like(shape, dtype), high, key, site, step, rank):
        assert (numbers.shape, numbers.dtype) == (shape, np.int64)
        np.testing.assert_array_equal(numbers, want)


@pytest.mark.parametrize("device", ["cpu", *FAR])
@pytest.mark.parametrize("high", [0, -3, 2**63 + 1])
def test_bounds_of_whole_numbers(high: int, device: str) -> None:
    with pytest.raises(ValueError, match=rf"expected high from 1 to 2\*\*63, got {high}\."):
        integers_like(like(3, "float32", device), high, 1, 0, 0)
    with pytest.raises(TypeError):
        integers_like(like(3, "float32", device), 2.5, 1, 0, 0)  # type: ignore[arg-type]


@pytest.mark.parametrize("p", [0.5, 0.9, 1 - 1e-9])
@pytest.mark.parametrize("n", [1, 2, 30, 1000])
def test_rejected_draws_leave_enough(n: int, p: float) -> None:
    """The chance that they do not is below 2**-64, and not many more are made than that takes."""

    def chance(m: int) -> float:  # of fewer than n successes in m trials
        return math.fsum(
            math.exp(
                math.lgamma(m + 1)
                - math.lgamma(k + 1)
                - math.lgamma(m - k + 1)
                + k * math.log(p)
                + (m - k) * math.log1p(-p)
            )
            for k in range(n)
        )

    assert chance(_enough(n, p)) < 2.0**-64
    assert _enough(n, p) <= 2 * n / p + 180


@given(st.lists(words, min_size=4, max_size=4), keys, st.integers(0, 5))
@example([TOP - 2, TOP, TOP, 7], 5, 5)
@example([TOP, TOP, TOP, TOP], 5, 3)
@example([TOP - 1, 3, 0, 0], 0, 4)
def test_the_counter_carries_from_word_to_word(counter: list[int], key: int, blocks: int) -> None:
    want = np.random.Philox(key=key, counter=np.array(counter, np.uint64)).random_raw(4 * blocks)
    for x in [like((), "float32", device) for device in ("cpu", *FAR)]:
        got = to_host(_philox(x, blocks, key, tuple(counter)))  # type: ignore[arg-type]
        np.testing.assert_array_equal(got, want)


def test_the_stream_never_changes() -> None:
    assert key_of(0) == 228566938027350531518154623208366831806
    assert key_of(42) == 283750988670263262172306152024429562551
    assert site_of("0.weight") == 14291418057784981734
    assert site_of("") == 13020603013274838756
    address = key_of(42), site_of("dropout"), 3
    assert uniform_like(like(4, "float32"), *address).tolist() == [
        0.9902619123458862,
        0.6007506251335144,
        0.5391132235527039,
        0.48694294691085815,
    ]
    assert uniform_like(like(3, "float64"), *address).tolist() == [
        0.6007506814762628,
        0.4869429549526221,
        0.5831553240088423,
    ]
    assert words_like(like(2, "float32"), *address).tolist() == [11081894073299226286, 8982512068506899379]
    assert integers_like(like(6, "float32"), 1000, *address).tolist() == [990, 600, 539, 486, 106, 583]
    assert permutation(8, key_of(42)).tolist() == [1, 3, 5, 7, 4, 6, 0, 2]


def test_addresses_do_not_share_numbers() -> None:
    x = like(50, "float64")
    draws = [uniform_like(x, *address) for address in ((1, 0, 0), (2, 0, 0), (1, 1, 0), (1, 0, 1), (1, 0, 0, 1))]
    assert len(set(np.concatenate(draws).tolist())) == 250
    assert len({key_of(seed) for seed in range(100)} | {fresh_key() for _ in range(100)}) == 200
    assert all(0 <= key < 2**128 for key in (key_of(0), key_of(2**100), fresh_key()))
    np.testing.assert_array_equal(generator(1, 2, 3, 4).random(50), uniform_like(x, 1, 2, 3, 4))


def test_devices_without_wide_integers_are_refused() -> None:
    with pytest.raises(DeviceError, match=r"64-bit integers, got array_api_strict:no_x64"):
        uniform_like(like(3, "float32", "no_x64"), 1, 0, 0)
    for draw, more in ((words_like, ()), (integers_like, (10,))):
        with pytest.raises(DeviceError, match=r"64-bit integers, got array_api_strict:no_x64"):
            draw(like(3, "float32", "no_x64"), *more, 1, 0, 0)
    u = uniform_like(like(9, "float32", "no_float64"), 1, 2, 3)
    np.testing.assert_array_equal(to_host(u), uniform_like(like(9, "float32"), 1, 2, 3))
    numbers = integers_like(like(9, "float32", "no_float64"), 2**31 + 1, 1, 2, 3)
    np.testing.assert_array_equal(to_host(numbers), generator(1, 2, 3).integers(0, 2**31 + 1, 9))


@pytest.mark.parametrize("device", FAR)
def test_nothing_waits_for_the_device(device: str) -> None:
    x = like((4, 6), "float32", device)
    with nb.testing.no_synchronization():
        bernoulli_like(x, 0.3, 1, 2, 3)
        for draw, more in (
            (words_like, ()),
            (uniform_like, ()),
            (integers_like, (2**31 + 1,)),
            (integers_like, (2**40,)),
        ):
            draw(x, *more, 1, 2, 3)
            draw.__wrapped__(x, *more, 1, 2, 3)  # type: ignore[attr-defined]


def test_the_state_of_numpy_is_left_alone() -> None:
    before = np.random.get_state()
    x = like((20, 3), "float32")
    uniform_like(x, fresh_key(), site_of("a.b"), 1)
    bernoulli_like(x, 0.5, key_of(1), 0, 0)
    integers_like(x, 10, fresh_key(), 0, 0)
    permutation(10, key_of(2))
    generator(key_of(3)).normal(size=3)
    F.dropout(nb.tensor(x), 0.5)
    after = np.random.get_state()
    assert [str(part) for part in after] == [str(part) for part in before]
    np.testing.assert_array_equal(after[1], before[1])


@pytest.mark.parametrize("device", ["cpu", *FAR])
@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 1.0])
def test_rate_of_a_mask(p: float, device: str) -> None:
    n = 20000
    mask = to_host(bernoulli_like(like((n,), "float32", device), p, key_of(7), 1, 2))
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, generator(key_of(7), 1, 2).random(n, np.float32) < p)
    assert abs(mask.mean() - p) <= 4 * np.sqrt(p * (1 - p) / n)


@given(st.integers(0, 200), keys, words)
def test_permutations(n: int, key: int, site: int) -> None:
    first, again, other = (permutation(n, key, site, step) for step in (0, 0, 1))
    assert sorted(first.tolist()) == sorted(other.tolist()) == list(range(n))
    np.testing.assert_array_equal(first, again)
    for device in ("cpu", *FAR):
        far = permutation(n, key, site, device=at(device))
        assert nb.device(far) == at(device)
        np.testing.assert_array_equal(to_host(far), first)
    assert n < 9 or first.tolist() != other.tolist()


def test_half_precision_stays_below_one():
    x = np.empty(200_000, "float16")
    fast, spec = uniform_like(x, 7, 8, 9), uniform_like.__wrapped__(x, 7, 8, 9)
    assert fast.dtype == np.float16
    assert 0.999 < fast.max() < 1.0
    np.testing.assert_array_equal(fast, spec)
    for device in FAR[1:]:
        np.testing.assert_array_equal(to_host(uniform_like(like(x.shape, "float16", device), 7, 8, 9)), fast)
