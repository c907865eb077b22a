"""The kernels of softmax and cross-entropy on CUDA, against their specification in float64."""

from contextlib import nullcontext
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from guarded import guarded
from op_run import STANDIN

import nnbackend as nb
from nnbackend import functional as F
from nnbackend.backend import KERNELS, PRIMITIVES, cuda_status, library_backend, to_host

pytestmark = pytest.mark.skipif(not (KERNELS and cuda_status().usable), reason="needs CUDA and kernels")

TOLERANCE = {"float32": 1e-6, "float64": 4e-15, "float16": 1e-3}
CASES = [  # shape, axis
    ((1, 1), 1), ((9, 10), 1), ((5, 31), 1), ((8, 32), 1), ((3, 33), 1), ((2, 1000), 1), ((2, 1031), 1), ((3, 2500), 1),
    ((4, 5, 7), 1), ((300, 3, 2), 1), ((2, 21, 6, 5), 1),
]  # fmt: skip
OTHERS = [((2, 3, 40), -1), ((2, 3, 40), 2), ((40, 6), 0), ((2, 4, 3, 5), -3)]


def run(name: str, x: Any, *rest: Any) -> Any:
    """The kernels, where `x` is on CUDA, else the specification."""
    if isinstance(x, np.ndarray):
        return PRIMITIVES[name].__wrapped__(x, *rest)
    got = library_backend("cupy").overrides[name](x, *rest)
    assert got is not NotImplemented
    return got


def softmaxes(arrays: list[Any], axis: int) -> list[Any]:
    """Both, with their ways back."""
    x, dy = arrays
    y = run("softmax", x, axis)
    z, *kept = run("log_softmax", x, axis)
    return [y, run("softmax_back", y, dy, axis), z, run("log_softmax_back", x, dy, axis, *kept)]


def losses(arrays: list[Any], labels: Any) -> list[Any]:
    """The loss, and the way back from a gradient for each row and from one for all."""
    z, dy = arrays
    loss, *kept = run("softmax_loss", z, labels)
    each, one = (z.dtype.type(1) * dy[:, 0]), dy[(0,) * dy.ndim]
    return [loss, *(run("softmax_loss_back", z, labels, d, 0.25, *kept) for d in (each, one))]


def there(arrays: list[Any]) -> list[Any]:
    return [nb.device("cuda").put(a) for a in arrays]


def drawn(shape: tuple[int, ...], dtype: str) -> list[Any]:
    """x and the gradient of what is made of it."""
    rng = np.random.default_rng(0)
    return [(rng.standard_normal(shape) * scale).astype(dtype) for scale in (3.0, 1.0)]


def labels_of(shape: tuple[int, ...]) -> Any:
    """From the end, too."""
    return np.random.default_rng(1).integers(-shape[1], shape[1], (shape[0], *shape[2:]))


def check(got: list[Any], wanted: list[Any], tolerance: float) -> None:
    for a, want in zip(got, wanted, strict=True):
        assert a.shape == want.shape
        worst = np.max(np.abs(to_host(a).astype("float64") - want))
        assert worst <= tolerance * max(0.1, np.max(np.abs(want))), (want.shape, worst)


def wide(arrays: list[Any]) -> list[Any]:
    return [a.astype("float64") for a in arrays]


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_as_specified(dtype: str) -> None:
    for shape, axis in (*CASES, *OTHERS):
        arrays = drawn(shape, dtype)
        with guarded():
            got = softmaxes(there(arrays), axis)
        check(got, softmaxes(wide(arrays), axis), TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_losses_as_specified(dtype: str) -> None:
    for shape, _ in CASES:
        arrays, labels = drawn(shape, dtype), labels_of(shape)
        with guarded():
            got = losses(there(arrays), *there([labels]))
        check(got, losses(wide(arrays), labels), TOLERANCE[dtype])


def test_far_from_0_and_far_apart() -> None:
    arrays, labels = drawn((4, 1300), "float32"), np.array([0, 1, 2, 3])
    for change in (1e4, -1e4, 3e38):
        x = [arrays[0] + np.float32(change), arrays[1]]
        check(losses(there(x), *there([labels])), losses(wide(x), labels), 1e-6)
        check(softmaxes(there(x), 1), softmaxes(wide(x), 1), 1e-6)


def test_what_is_not_finite_is_as_specified() -> None:
    x, dy = drawn((6, 37), "float32")
    x[0, 3], x[1, 5], x[2, 0], x[3, :], x[4, :] = np.nan, np.inf, -np.inf, -np.inf, np.inf
    labels = np.array([3, 5, 0, 1, 1, 36])
    with np.errstate(invalid="ignore", divide="ignore"):
        wanted = [*losses([x, dy], labels), *softmaxes([x, dy], 1)]
    got = [*losses(there([x, dy]), *there([labels])), *softmaxes(there([x, dy]), 1)]
    for a, want in zip(got, wanted, strict=True):
        np.testing.assert_allclose(to_host(a), want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(5, 7), (5, 1100), (5, 7, 3)])
def test_labels_of_no_class_make_nan_and_read_nothing_else(shape: tuple[int, ...]) -> None:
    z, dy = drawn(shape, "float32")
    labels = labels_of(shape)
    labels[1], labels[3] = shape[1], -shape[1] - 1
    labels[2] = 1 << 40
    loss, each, one = map(to_host, losses(there([z, dy]), *there([labels])))
    for a in (loss, each, one):
        assert np.isnan(a[1:4]).all()
        assert np.isfinite(a[[0, 4]]).all()


@pytest.mark.parametrize("shape", [(9, 10), (5, 31), (8, 32), (2, 1000), (3, 2500), (4, 5, 7)])
def test_where_arrays_begin_and_in_which_order_threads_run_changes_no_bit(shape: tuple[int, ...]) -> None:
    orders = [import_module("cupy._raw").order(name) for name in ("ascending", "descending")] if STANDIN else []
    arrays, (labels,), runs = there(drawn(shape, "float32")), there([labels_of(shape)]), []
    for off, order in ((0, nullcontext()), (1, nullcontext()), *((0, order) for order in orders)):
        with order, guarded(off):
            runs.append([to_host(a).tobytes() for a in (*losses(arrays, labels), *softmaxes(arrays, 1))])
    assert all(run == runs[0] for run in runs)


def test_arrays_that_are_not_contiguous_and_narrow_labels() -> None:
    arrays, labels = drawn((5, 33), "float32"), labels_of((5, 33))
    turned = [a.T for a in there([a.T.copy() for a in arrays])]
    (narrow,) = there([labels.astype("int8")])
    got = [*losses(turned, narrow), *softmaxes(turned, 1)]
    for a, b in zip(got, [*losses(there(arrays), *there([labels])), *softmaxes(there(arrays), 1)], strict=True):
        np.testing.assert_array_equal(to_host(a), to_host(b))


def test_what_kernels_do_not_take() -> None:
    table, (x, y) = library_backend("cupy").overrides, there([np.ones((2, 3), "float32"), np.ones((2, 3))])
    assert table["softmax"](x[:0], 1) is NotImplemented
    assert table["softmax_back"](x, y, 1) is NotImplemented  # two dtypes
    assert table["softmax"](nb.device("cuda").put(np.ones((3000, 2), "float32")), 0) is NotImplemented  # two long rows
    assert table["softmax_loss"](x, np.ones(2, "int64")) is NotImplemented
    assert table["softmax_loss_back"](x, *there([np.ones(2, "int64")]), x, 1.0, x, x) is NotImplemented


def test_gradients_of_gradients_are_those_of_the_host() -> None:
    (z, w), labels = drawn((4, 6), "float64"), np.array([0, 5, 2, 2])

    def twice(device: str) -> Any:
        x, t, v = (nb.tensor(a, device=device) for a in (z, labels, w))

        def first(x: Any) -> Any:
            y = F.cross_entropy(x, t) + F.softmax(x, 1)[:, 0].sum() + F.log_softmax(x, 0)[0].sum()
            return y + F.layer_norm(x, 6)[0, 1]

        return nb.grad(lambda x: (nb.grad(first)(x) * v).sum())(x).numpy()

    np.testing.assert_allclose(twice("cuda"), twice("cpu"), rtol=1e-12, atol=1e-13)
