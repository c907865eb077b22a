"""Pooling beyond the table: ties and NaN, what torch's modules refuse, and random windows."""

import numpy as np
import pytest

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import nn


def test_the_first_of_equal_ones_gets_the_gradient() -> None:
    x = nb.tensor([[[[0.0, 1.0, 2.0], [1.0, 1.0, 2.0]]]], requires_grad=True)
    y, at = F.max_pool2d(x, 2, 1, return_indices=True)
    y.sum().backward()
    assert at.numpy().tolist() == [[[[1, 2]]]]
    assert x.grad.numpy().tolist() == [[[[0, 1, 1], [0, 0, 0]]]]


def test_nan_is_largest_and_the_last_one_is_found() -> None:
    x = np.array([[1.0, np.nan, 2.0, np.nan, 0.0, -np.inf, -np.inf, -np.inf]])
    y, at = F.max_pool1d(x, 4, 4, return_indices=True)
    np.testing.assert_array_equal(y, [[np.nan, 0.0]])
    assert at.tolist() == [[3, 4]]
    assert F.max_pool1d(x[:, 5:], 2, 1, 1, return_indices=True)[1].tolist() == [[0, 0, 1, 2]]


def test_lp_pool_of_zeros_has_gradient_zero() -> None:
    x = nb.tensor(np.zeros((1, 1, 4)), requires_grad=True)
    F.lp_pool1d(x, 2.0, 2).sum().backward()
    assert not x.grad.numpy().any()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: nn.MaxPool2d(2)(np.ones((3, 4))), "non-empty input of 3 or 4 axes"),
        (lambda: nn.MaxPool2d(2)(np.ones((1, 2, 3, 4, 5))), "non-empty input of 3 or 4 axes"),
        (lambda: nn.MaxPool2d(3, padding=5)(np.ones((1, 1, 10, 10))), "half of the kernel"),
        (lambda: nn.MaxPool2d(3)(np.ones((1, 1, 10, 2))), "at least 3 elements"),
        (lambda: F.max_pool2d(np.ones((1, 1, 2, 2)), (2, 2, 2)), "one number or 2"),
        (lambda: F.max_pool1d(np.ones((1, 2)), 2, 0), "at least 1"),
        (lambda: F.avg_pool2d(np.ones((1, 2, 2)), 2, divisor_override=0), "divisor of at least 1"),
        (lambda: F.adaptive_max_pool2d(np.ones((1, 2, 2)), 0), "output_size of at least 1"),
        (lambda: nn.FractionalMaxPool2d(3), "either output_size or output_ratio"),
        (lambda: nn.FractionalMaxPool2d(3, output_ratio=1.5), "between 0 and 1"),
        (lambda: nn.FractionalMaxPool3d(0, output_size=3), "kernel_size of at least 1"),
        (lambda: F.fractional_max_pool2d(np.ones((1, 4, 4)), 3, 3), "up to"),
        (lambda: F.max_unpool1d(np.ones((1, 1, 2)), np.array([[[0, 4]]]), 2), "indices from 0 to 3"),
        (lambda: F.max_unpool1d(np.ones((1, 1, 2)), np.array([[[0, 1]]]), 2, output_size=(6,)), "less than a stride"),
        (lambda: F.max_unpool1d(np.ones((1, 1, 2)), np.array([[0, 1]]), 2), "indices of shape"),
    ],
)
def test_what_does_not_fit(wrong, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wrong()


def test_fractional_windows_are_drawn_at_the_address_of_the_layer() -> None:
    x = nb.tensor(np.random.default_rng(0).standard_normal((2, 3, 9, 9)).astype("float32"))
    layer = nn.FractionalMaxPool2d(2, output_size=5).init(0)
    first, second = layer(x).numpy(), layer(x).numpy()
    assert (first != second).any()
    np.testing.assert_array_equal(layer.init(0)(x).numpy(), first)
    fixed = nn.FractionalMaxPool2d(2, output_size=5, _random_samples=np.full((2, 3, 2), 0.5, "float32"))
    assert list(fixed.state_dict()) == ["_random_samples"]
    np.testing.assert_array_equal(fixed(x).numpy(), fixed(x).numpy())


def test_unpooling_puts_back_what_was_found() -> None:
    x = nb.tensor(np.random.default_rng(0).standard_normal((2, 3, 5, 7)))
    y, at = nn.MaxPool2d(2, return_indices=True)(x)
    back = nn.MaxUnpool2d(2)(y, at, output_size=x.shape)
    np.testing.assert_array_equal(F.max_pool2d(back, 2).numpy(), np.maximum(y.numpy(), 0.0))
    overlapping, at = F.max_pool2d(x, 3, 1, return_indices=True)
    once = F.max_unpool2d(overlapping, at, 3, 1).numpy()
    np.testing.assert_array_equal(once, np.where(once != 0.0, x.numpy(), 0.0))


def test_infinity_is_a_mean_of_its_own_windows_only() -> None:
    x = np.array([[[1.0, np.inf, 3.0, 4.0, 5.0, -np.inf, 7.0, 8.0]]])
    assert F.adaptive_avg_pool1d(x, 3).tolist() == [[[np.inf, -np.inf, -np.inf]]]  # torch 2.13
