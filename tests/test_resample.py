"""Resampling and padding beyond the table: what does not fit, and what must not spread."""

import numpy as np
import pytest

import nnbackend as nb
from nnbackend import functional as F
from nnbackend import nn

X1, X2 = np.ones((1, 1, 4)), np.ones((1, 1, 4, 4))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: F.interpolate(X2), "either size or scale_factor"),
        (lambda: F.interpolate(X2, 2, 2.0), "either size or scale_factor"),
        (lambda: F.interpolate(X2, 2, mode="cubic"), "mode to be one of"),
        (lambda: F.interpolate(X2, 2, mode="linear"), "suits mode"),
        (lambda: F.interpolate(X1, 2, align_corners=True), "no align_corners"),
        (lambda: F.interpolate(X1, 2, mode="linear", antialias=True), "antialias"),
        (lambda: F.interpolate(X2, (2, 2, 2)), "one number or 2"),
        (lambda: F.interpolate(X2, 2, recompute_scale_factor=True), "recompute_scale_factor"),
        (lambda: F.interpolate(X2, scale_factor=0.1), "at least one element"),
        (lambda: F.affine_grid(np.ones((1, 2, 2)), (1, 1, 2, 2)), "theta"),
        (lambda: F.grid_sample(X2, np.zeros((1, 2, 2, 3))), "grid"),
        (lambda: F.grid_sample(X2, np.zeros((1, 2, 2, 2)), "linear"), "mode"),
        (lambda: F.grid_sample(X2, np.zeros((1, 2, 2, 2)), padding_mode="wrap"), "padding_mode"),
        (lambda: F.pad(X1, (1,)), "pair of widths"),
        (lambda: F.pad(X1, (1, 1), "wrap"), "mode="),
        (lambda: F.pad(X1, (1, 1), "reflect", 1.0), "no value"),
        (lambda: F.pad(X1, (4, 0), "reflect"), "widths up to 3"),
        (lambda: F.pad(X1, (5, 0), "circular"), "widths up to 4"),
        (lambda: F.pad(X1, (-3, -2)), "cut off"),
        (lambda: F.pad(X2, (1, 1), "circular"), "2 or 3 axes"),
        (lambda: nn.CircularPad1d(3)(X2), "2 or 3 axes"),
        (lambda: nn.CircularPad3d(3)(np.ones((2, 3))), "4 or 5 axes"),
        (lambda: nn.ZeroPad2d((1, 2)), "4 widths"),
        (lambda: F.pixel_shuffle(X2, 2), "channels that 4 divides"),
        (lambda: F.pixel_unshuffle(X2, 3), "3 divides"),
        (lambda: F.channel_shuffle(X2, 2), "2 groups"),
        (lambda: nn.Unflatten(1, (2, 3))(X1), "make up 1"),
    ],
)
def test_what_does_not_fit(wrong, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wrong()


def test_nan_stays_near() -> None:
    x = np.zeros((1, 1, 8, 8))
    x[0, 0, 2, 2] = np.nan
    for settings in ({"size": (16, 12), "mode": "bilinear"}, {"size": (5, 5), "mode": "area"}):
        y = F.interpolate(x, **settings)
        assert 0 < np.isnan(y).mean() < 0.2


def test_the_nearest_by_a_scale_that_changes_nothing() -> None:
    """torch 2.13: in 2-D the lengths count, not the scale."""
    x = np.arange(5.0)
    assert F.interpolate(x.reshape(1, 1, 5), scale_factor=1.1).ravel().tolist() == [0, 0, 1, 2, 3]
    assert F.interpolate(x.reshape(1, 1, 1, 5), scale_factor=1.1).ravel().tolist() == [0, 1, 2, 3, 4]


def test_the_border_has_no_gradient() -> None:
    grid = nb.tensor(np.array([[[[-1.0, 0.1], [2.0, 0.1], [0.1, 0.1]]]]), requires_grad=True)
    x = np.arange(16.0).reshape(1, 1, 4, 4)
    F.grid_sample(x, grid, padding_mode="border", align_corners=True).sum().backward()
    assert [g != 0.0 for g in grid.grad.numpy()[0, 0, :, 0]] == [False, False, True]


def test_a_place_that_is_no_number_counts_as_the_corner() -> None:
    x = np.arange(16.0).reshape(1, 1, 4, 4)
    assert F.grid_sample(x, np.full((1, 1, 1, 2), np.nan), "nearest", align_corners=True).item() == 0.0
