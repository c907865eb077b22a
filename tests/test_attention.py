"""Attention beyond the tables: memory, dropout, rows that see nothing, masks, errors."""

import tracemalloc

import numpy as np
import pytest

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import nn
from nnbackend.backend import NUMPY
from nnbackend.errors import DTypeError, ShapeError


def heads(*shape, count=3, dtype="float64", seed=0):
    rng = np.random.default_rng(seed)
    return [nb.tensor(rng.standard_normal(shape).astype(dtype)).requires_grad_() for _ in range(count)]


def gradients(y, tensors):
    y.sum().backward()
    found = [x.grad.numpy() for x in tensors]
    for x in tensors:
        x.grad = None
    return found


@pytest.mark.parametrize("fast", [True, False])
def test_memory_grows_with_the_length_not_with_its_square(fast, monkeypatch):
    if not fast:
        monkeypatch.setattr(NUMPY, "overrides", {})
    q, k, v = heads(1, 1, 4096, 8, dtype="float32")
    tracemalloc.start()
    try:
        F.scaled_dot_product_attention(q, k, v).sum().backward()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * 4096 * 4096 / 3


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("shape", [(2, 3, 5, 4), (2, 900, 4)])
def test_dropout_is_given_by_its_address(shape, dtype, causal, monkeypatch):
    qkv = heads(*shape, dtype=dtype)

    def run(step):
        address = {"key": 5, "site": 7, "step": step}
        y = F.scaled_dot_product_attention(*qkv, dropout_p=0.3, is_causal=causal, address=address)
        return [y.numpy(), *gradients(y, qkv)]

    first, other = run(1), run(2)
    assert not np.array_equal(first[0], other[0])
    monkeypatch.setattr(NUMPY, "overrides", {k: f for k, f in NUMPY.overrides.items() if "attention" not in k})
    for a, b in zip(first, run(1), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 if dtype == "float32" else 1e-12)


def test_an_address_is_known_by_its_names():
    qkv = heads(2, 5, 4)
    first, same, fresh = (
        F.scaled_dot_product_attention(*qkv, dropout_p=0.5, address=address).numpy()
        for address in ({"key": 5, "site": 7, "step": 1}, {"step": 1, "site": 7, "key": 5}, {"step": 1, "site": 7})
    )
    np.testing.assert_array_equal(same, first)
    assert (fresh != first).any()


def test_positions_are_exact_in_float16():
    x = np.ones((2, 8))
    for f in (F.apply_rotary, lambda x, offset: F.sinusoidal_positions(2, 8, offset=offset, like=x)):
        y = f(x.astype("float16"), offset=5001)
        assert y.dtype == "float16"
        np.testing.assert_allclose(y if isinstance(y, np.ndarray) else y.numpy(), f(x, offset=5001), atol=2e-3)


def test_dropout_keeps_the_mean_and_all_of_it_gives_0():
    q, k, v = heads(64, 32, 4, dtype="float32")
    ones = nb.ones((64, 32, 1))
    y = F.scaled_dot_product_attention(q, k, ones, dropout_p=0.5)
    assert abs(float(y.mean()) - 1.0) < 0.05
    assert float(abs(F.scaled_dot_product_attention(q, k, v, dropout_p=1.0)).max()) == 0.0


@pytest.mark.parametrize("floats", [False, True])
def test_a_query_that_sees_nothing_gives_0_and_no_gradient(floats):
    qkv = heads(2, 3, 4)
    seen = np.array([[True, False, True], [False, False, False], [True, True, True]])
    mask = nb.tensor(np.where(seen, 0.0, -np.inf) if floats else seen)
    with np.errstate(all="raise", under="ignore"):
        y = F.scaled_dot_product_attention(*qkv, mask)
        dq = gradients(y, qkv)[0]
        weights = F.attention_weights(*qkv[:2], mask, scale=0.5)
    for x in (y.numpy(), dq, weights.numpy()):
        assert np.isfinite(x).all()
        assert not x[:, 1].any()
        assert x[:, 0].any()


def test_multihead_attention_with_and_without_weights():
    x, memory = heads(2, 5, 8, count=2)
    pad = nb.tensor(np.array([[False] * 4 + [True], [False] * 3 + [True] * 2]))
    later = nb.tensor(~np.tri(5, dtype=bool))
    for settings in ({}, {"add_bias_kv": True}, {"add_zero_attn": True}, {"bias": False}):
        net = nn.MultiheadAttention(8, 2, batch_first=True, dtype="float64", **settings)
        turned = nn.MultiheadAttention(8, 2, dtype="float64", **settings)
        turned.load_state_dict(net.state_dict())
        for given in ((x, x, x), (x, memory, memory), (x, memory, x)):
            for masks in (
                {},
                {"key_padding_mask": pad},
                {"attn_mask": later},
                {"key_padding_mask": pad, "attn_mask": later},
            ):
                y, weights = net(*given, **masks)
                assert weights.shape == (2, 5, 5 + (len(settings) and "bias" not in settings))
                np.testing.assert_allclose(weights.numpy().sum(-1), 1.0)
                z, nothing = net(*given, need_weights=False, **masks)
                assert nothing is None
                np.testing.assert_allclose(z.numpy(), y.numpy(), rtol=1e-9, atol=1e-12)
                t, _ = turned(*(a.permute(1, 0, 2) for a in given), need_weights=False, **masks)
                np.testing.assert_allclose(t.permute(1, 0, 2).numpy(), y.numpy(), rtol=1e-9, atol=1e-12)
        alone, weights = net(x[0], x[0], x[0], average_attn_weights=False)
        assert (alone.shape, weights.shape[:2]) == ((5, 8), (2, 5))
        np.testing.assert_allclose(alone.numpy(), net(x, x, x)[0].numpy()[0], rtol=1e-9, atol=1e-12)


def test_dropout_of_weights_in_training_only():
    net, (x,) = nn.MultiheadAttention(8, 2, dropout=0.5, dtype="float64").init(0), heads(5, 2, 8, count=1)
    draws = [net(x, x, x, need_weights=False)[0].numpy() for _ in range(2)]
    assert not np.array_equal(*draws)
    net.eval()
    draws = [net(x, x, x, need_weights=False)[0].numpy() for _ in range(2)]
    np.testing.assert_array_equal(*draws)


def test_rotations_know_distances_only():
    x, y = (t.detach() for t in heads(6, 8, count=2))
    turn = nn.RotaryEmbedding(8)
    products = [(turn(x, offset=n) @ turn(y, offset=n).mT).numpy() for n in (0, 100)]
    np.testing.assert_allclose(*products, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(turn(x)[3:].numpy(), turn(x[3:], offset=3).numpy())
    whole, part = nn.SinusoidalPositions(8), nb.zeros((4, 8))
    np.testing.assert_array_equal(whole(part, offset=2).numpy()[:2], whole(part).numpy()[2:])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: F.scaled_dot_product_attention(*heads(5, 4), dropout_p=2.0), ValueError, "dropout_p from 0 to 1"),
        (lambda: F.scaled_dot_product_attention(*heads(5, 4), nb.ones((5, 5)), is_causal=True), ValueError, "got both"),
        (lambda: F.scaled_dot_product_attention(*heads(4)), ShapeError, r"query \(..., l, e\)"),
        (lambda: F.scaled_dot_product_attention(*heads(5, 4), nb.ones((5, 6)) > 0), ShapeError, "attn_mask"),
        (lambda: F.scaled_dot_product_attention(*heads(5, 4), nb.tensor([1] * 5)), DTypeError, "booleans or floats"),
        (lambda: F.apply_rotary(nb.ones((2, 5))), ShapeError, "even dim"),
        (lambda: nn.RotaryEmbedding(3), ValueError, "even dim"),
        (lambda: nn.SinusoidalPositions(4)(nb.ones((2, 5))), ShapeError, r"\(..., l, 4\)"),
        (lambda: nn.MultiheadAttention(8, 3), ValueError, "multiple of num_heads"),
        (lambda: nn.MultiheadAttention(8, 2)(*heads(5, 2, 6)), ShapeError, r"\(l, n, 8\)"),
        (lambda: nn.MultiheadAttention(8, 2)(*heads(5, 2, 8), is_causal=True), ValueError, "attn_mask"),
        (lambda: nn.TransformerEncoderLayer(8, 2, activation="tanh"), ValueError, "relu, gelu"),
    ],
)  # fmt: skip
def test_what_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
