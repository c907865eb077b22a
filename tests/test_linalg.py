"""What the op table cannot say of linear algebra and numerics: singular and odd inputs, names, messages."""

import numpy as np
import pytest

import nnbackend as nb
from nnbackend.errors import ShapeError

X = nb.tensor(np.arange(24.0).reshape(2, 3, 4))


def test_nan_to_num():
    x = nb.tensor([np.nan, np.inf, -np.inf, 2.0], dtype="float32", requires_grad=True)
    y = nb.nan_to_num(x, nan=1.0, posinf=5.0)
    assert y.tolist() == [1.0, 5.0, float(np.finfo("float32").min), 2.0]
    y.backward(nb.ones(4))
    assert x.grad.tolist() == [0.0, 0.0, 0.0, 1.0]


def test_integers_stay_integers():
    x = nb.tensor([[1, 2], [3, 4]])
    ones = nb.ones((1, 2), dtype="int64")
    for y, wanted in (
        (nb.nan_to_num(x), [[1, 2], [3, 4]]),
        (nb.index_add(x, 0, nb.tensor([1]), ones), [[1, 2], [4, 5]]),
        (nb.linalg.matrix_power(x, 0), [[1, 0], [0, 1]]),
    ):
        assert (y.tolist(), str(y.dtype)) == (wanted, "int64")


def test_norms_of_zero_have_gradient_zero():
    for ord in (0, 1, 2.0, 3.0, 1.5, float("inf")):
        x = nb.zeros((3,)).requires_grad_()
        nb.linalg.norm(x, ord).backward()
        assert x.grad.tolist() == [0.0, 0.0, 0.0]


def test_running_extremes_say_where():
    x = nb.tensor([[1.0, 3.0, 3.0, 2.0], [4.0, 0.0, 4.0, 5.0]])
    values, places = nb.cummax(x, axis=1)
    assert (values.tolist(), places.tolist()) == ([[1, 3, 3, 3], [4, 4, 4, 5]], [[0, 1, 2, 2], [0, 0, 2, 3]])
    assert nb.cummin(x, axis=1)[1].tolist() == [[0, 0, 0, 0], [0, 1, 1, 1]]
    for extremes in (nb.cummax, nb.cummin):  # torch 2.13
        values, places = extremes(nb.tensor([1.0, np.nan, 3.0, np.nan, 0.0]))
        assert np.isnan(values.numpy()).tolist() == [False, True, True, True, True]
        assert places.tolist() == [0, 1, 1, 3, 3]


def test_topk_keeps_the_order_of_equals():
    assert nb.topk(nb.tensor([1, 3, 3, 2]), 3)[1].tolist() == [1, 2, 3]
    assert nb.topk(nb.tensor([1, 3, 1, 2]), 3, largest=False)[1].tolist() == [0, 2, 3]


def test_gather_and_scatter_mean_what_they_mean_in_pytorch():
    """torch 2.13: an index may have fewer lines than the input."""
    x, index = X[0], nb.tensor([[2, 0, 0], [1, 1, 0]])
    assert x.gather(1, index).tolist() == [[2, 0, 0], [5, 5, 4]]
    assert nb.zeros((2, 4)).scatter(1, index[:, :2], nb.ones((3, 3))).tolist() == [[1, 0, 1, 0], [0, 1, 0, 0]]
    assert nb.zeros((3, 4)).scatter_add(1, index, 2.0).tolist() == [[4, 0, 2, 0], [2, 4, 0, 0], [0, 0, 0, 0]]
    source = nb.ones((2, 3), dtype="float64").requires_grad_()
    (x.scatter_add(1, index, source) * x).sum().backward()
    assert source.grad.tolist() == [[2, 0, 0], [5, 5, 4]]


def test_methods_are_the_functions():
    square = X[0, :, :3] + nb.eye(3, dtype="float64") * 9
    for got, want in [
        (X.cumsum(axis=1), nb.cumulative_sum(X, axis=1)),
        (X.norm(axis=-1), nb.linalg.norm(X, axis=-1)),
        (square.inv(), nb.linalg.inv(square)),
        (X.swapaxes(0, 2), nb.permute_dims(X, (2, 1, 0))),
        (X.unfold(2, 2, 2), nb.unfold(X, 2, 2, 2)),
        (square.diagonal(), nb.linalg.diagonal(square)),
    ]:
        np.testing.assert_array_equal(got.numpy(), want.numpy())
    assert type(X).inv.__doc__ == "`nb.linalg.inv` of this Tensor."


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nb.linalg.inv(X), r"inv: expected square matrices \(\.\.\., n, n\), got shape \(2, 3, 4\)"),
        (lambda: nb.topk(X, 5), r"topk: expected k from 0 to 4, got 5 along axis 2"),
        (lambda: nb.unfold(X, 2, 5), r"unfold: expected 1 <= size <= 4"),
        (lambda: nb.diag(X), r"diag: expected an array of 1 or 2 axes"),
        (lambda: nb.linalg.outer(X, X), r"outer: expected two vectors"),
        (lambda: nb.linalg.cross(X, X), r"cross: expected 3 elements along axis -1"),
        (lambda: X[0].gather(1, nb.zeros((4, 1), dtype="int64")), r"expected an index no larger than \(3, 4\)"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ShapeError, match=message):
        call()
    with pytest.raises(ValueError, match="matrix_norm: expected ord"):
        nb.linalg.matrix_norm(X, ord="nuc")
