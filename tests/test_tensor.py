"""Tensor: what it is made of, its operators, and what they refuse."""

import operator
import warnings

import array_api_strict as strict
import numpy as np
import pytest

import nnbackend as nb
from nnbackend.cells import Parameter
from nnbackend.errors import DataError, DeviceMismatchError, DTypeError, GraphError, ShapeError

D1, D2 = strict.Device("device1"), strict.Device("device2")


def on(device, values, dtype="float32"):
    """An array on one of the devices of array-api-strict."""
    return strict.asarray(values, dtype=getattr(strict, dtype), device=device)


def leaf(values, dtype=None):
    return nb.tensor(values, dtype=dtype, requires_grad=True)


# -- making ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "dtype", "values"),
    [
        (1.5, "float32", 1.5),
        (3, "int64", 3),
        (True, "bool", True),
        ([1.0, 2], "float32", [1.0, 2.0]),
        ([[1, 2], [3, 4]], "int64", [[1, 2], [3, 4]]),
        (((True,), (False,)), "bool", [[True], [False]]),
        ([True, 2], "int64", [1, 2]),
        ([], "float32", []),
        ([[], []], "float32", [[], []]),
        (range(3), "int64", [0, 1, 2]),
        (np.float64(2.0), "float64", 2.0),
        (np.int8(2), "int8", 2),
        (np.array(2.0, np.float16), "float16", 2.0),
        (np.zeros((0, 3), np.float32), "float32", []),
        ([np.ones(2), np.zeros(2)], "float64", [[1.0, 1.0], [0.0, 0.0]]),
        ([np.float32(1.0), 2.0], "float32", [1.0, 2.0]),  # Python floats never promote
        ([np.int64(1), 2.5], "float32", [1.0, 2.5]),
        ([np.ones(1, np.float16), np.ones(1, np.float32)], "float32", [[1.0], [1.0]]),
        ([[on(D1, 1.0), 2.0], [3.0, nb.tensor(4.0)]], "float32", [[1.0, 2.0], [3.0, 4.0]]),
        (on(D1, [1, 2], "uint8"), "uint8", [1, 2]),
    ],
)
def test_what_tensor_makes_of_data(data, dtype, values):
    t = nb.tensor(data)
    assert (str(t.dtype), t.tolist(), t.requires_grad, t.is_leaf) == (dtype, values, False, True)
    assert t.shape == np.shape(data if isinstance(data, np.ndarray) else values)
    assert (t.size, t.ndim) == (np.prod(t.shape), len(t.shape))
    assert t.device == ("array_api_strict:device1" if isinstance(data, strict.asarray(0).__class__) else "cpu")


@pytest.mark.parametrize("dtype", ["float64", np.float64, np.dtype("f8"), nb.float64, strict.float64, float])
def test_dtypes_by_any_name(dtype):
    for t in (nb.tensor([1, 2], dtype), nb.tensor(np.ones(2, "f4"), dtype), nb.tensor(on(D1, [1.0, 2.0]), dtype)):
        assert t.dtype == np.float64
        assert t.to("float32").to(dtype).dtype == np.float64
    with pytest.raises(DTypeError, match="expected one of bool, float32"):
        nb.tensor([1.0], "double precision")


def test_numbers_keep_their_digits_where_the_dtype_has_them():
    for t in (nb.tensor(0.1, "float64"), nb.asarray([0.1], "float64"), nb.tensor([[0.1]], "float64", D1)):
        assert t.item() == 0.1
    assert nb.tensor([16_777_217.0], "int64").item() == 16_777_217
    assert nb.tensor([0.1]).item() == np.float32(0.1)


def test_devices():
    a = np.array([1.0, 2.0])
    for t in (nb.tensor(a, device=D1), nb.asarray(a, device=D1), nb.tensor([1.0, 2.0], "float64", D1)):
        assert (t.device, str(t.dtype), t.tolist()) == ("array_api_strict:device1", "float64", [1.0, 2.0])
        assert type(t.data) is type(on(D1, 0.0))
        assert nb.tensor(t).device == t.device == nb.tensor(t.data).device
        assert nb.tensor(t, device="cpu").device == "cpu"


@pytest.mark.parametrize(
    ("data", "row", "words"),
    [
        ([[1, 2], [3]], 1, "rows of length 2, got length 1 in row 1"),
        ([[1, 2], [3, 4], (5, 6, 7)], 2, "rows of length 2, got length 3 in row 2"),
        ([[1, 2], 3], 1, "rows of length 2, got a number in row 1"),
        ([3, [1, 2]], 1, "rows of a number, got length 2 in row 1"),
        ([[[1], [2]], [[1], [2, 3]]], 1, "rows of length 1, got length 2 in row 1"),
        ([np.zeros(2), np.zeros(3)], 1, "rows of length 2, got length 3 in row 1"),
        ([np.zeros((2, 2)), nb.zeros((2, 3))], 1, "rows of length 2, got length 3 in row 1"),
    ],
)
def test_ragged_lists_name_the_row(data, row, words):
    for make in (nb.tensor, nb.asarray):
        with pytest.raises(DataError, match=words) as info:
            make(data)
        assert info.value.row == row


def matrix():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        return np.matrix([[1.0]])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("abc", "abc"),
        (["a", "b"], "<U1.*'a'"),
        (np.array(["a"]), "<U1.*'a'"),
        ([b"x"], "b'x'"),
        (None, "object.*None"),
        ([1.0, None], "object.*None"),
        (np.array([1, "x"], object), "object.*'x'"),
        ({1: 2}, "object.*{1: 2}"),
        ([2**70], "object"),
        (1j, "complex128"),
        (np.ones(2, np.complex64), "complex64"),
        (on(D1, [1j], "complex64"), "complex64"),
        (np.ones(2, np.longdouble), "longdouble|float128|float96"),
        (np.array(["2020-01-01"], "M8[D]"), "datetime64"),
        ([np.timedelta64(1, "s")], "timedelta64"),
        (np.zeros(2, [("a", "f4")]), "'a'"),
        (np.ma.array([1.0, 2.0], mask=[0, 1]), "MaskedArray"),
        ([np.ma.array([1.0], mask=[1])], "MaskedArray"),
        (matrix(), "matrix"),
        (np.ones(2).view(type("Mine", (np.ndarray,), {})), "Mine"),
    ],
)
def test_what_is_no_real_number_is_refused_by_name(data, words):
    for make in (nb.tensor, nb.asarray):
        with pytest.raises(DTypeError, match=words):
            make(data)


def test_only_floats_can_require_a_gradient():
    assert nb.tensor([1, 2], "float16", requires_grad=True).requires_grad
    for data in ([1, 2], [True], np.ones(2, "u1"), on(D1, [1], "int64")):
        with pytest.raises(DTypeError, match="expected a floating dtype, got"):
            nb.tensor(data, requires_grad=True)
    with pytest.raises(DTypeError, match="int64"):
        Parameter(np.arange(3))
    y = leaf([1.0]) * 2.0
    with pytest.raises(GraphError, match=r"detach"):
        y.requires_grad_(False)


def test_layouts_are_kept_in_value(tmp_path):
    a = np.arange(6, dtype=np.float32).reshape(2, 3)
    stored = np.memmap(tmp_path / "x", np.float32, "w+", shape=(2, 3))
    stored[...] = a
    frozen = a.copy()
    frozen.flags.writeable = False
    big = a.astype(">f4")
    for x in (a.T.copy().T, a[::-1][::-1], np.asfortranarray(a), np.repeat(a, 2, 1)[:, ::2], stored, frozen, big):
        for t in (nb.tensor(x), nb.asarray(x)):
            assert t.tolist() == a.tolist()
            assert (t.data.dtype, (t * 2.0).dtype) == (np.float32, np.float32)
            assert t.data.dtype.isnative
    assert big.dtype == ">f4"
    del stored


def test_tensor_copies_and_asarray_shares():
    a = np.zeros(3)
    copied, shared, forced = nb.tensor(a), nb.asarray(a), nb.asarray(a, copy=True)
    assert shared.data is a
    a[0] = 1.0
    assert [t.tolist() for t in (copied, shared, forced)] == [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    x = leaf([1.0, 2.0])
    y = x * 1.0
    assert nb.asarray(y) is y
    assert not nb.tensor(y).requires_grad
    nb.asarray(y, "float64", copy=True).sum().backward()  # with its history
    assert x.grad.tolist() == [1.0, 1.0]
    assert not np.shares_memory(nb.asarray(x, copy=True).data, x.data)
    assert nb.asarray(a, "float64", copy=False).data is a
    for data, dtype in ((a, "float32"), ([1.0], None), (a.astype(">f8"), None)):
        with pytest.raises(ValueError, match="copy=False"):
            nb.asarray(data, dtype, copy=False)


def test_a_list_of_tensors_with_history_is_not_cut_unnoticed():
    x = leaf([1.0, 2.0])
    with pytest.raises(GraphError, match=r"nb\.stack"):
        nb.asarray([x[0], [x[1]]])
    assert nb.tensor([x[0], x[1]]).tolist() == [1.0, 2.0]  # a copy, as documented
    with nb.no_grad():
        assert nb.asarray([x[0], x[1]]).tolist() == [1.0, 2.0]


# -- operators -------------------------------------------------------------------------------------

BINARY = [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow, operator.mod, operator.floordiv]
COMPARE = [operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne]
NUMBERS = [2, 2.0, True, np.float64(2.0), np.float32(2.0), np.int64(2), np.array(2.0), np.array(2), np.bool_(True)]


@pytest.mark.parametrize("op", BINARY + COMPARE, ids=lambda op: op.__name__)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_numbers_on_either_side_never_promote(op, dtype):
    x = np.array([0.5, 2.0, 3.0], dtype)
    for number in NUMBERS:
        n = number.item() if hasattr(number, "item") else number
        for got, want in ((op(nb.tensor(x), number), op(x, n)), (op(number, nb.tensor(x)), op(n, x))):
            assert type(got) is nb.Tensor
            assert got.dtype == (dtype if op in BINARY else "bool")
            np.testing.assert_array_equal(got.numpy(), want, strict=True)


@pytest.mark.parametrize(
    "op", [*BINARY[:3], *BINARY[4:], operator.and_, operator.xor, operator.lshift, operator.rshift]
)
def test_integers_with_numbers(op):
    x = np.array([1, 2, 3], np.int32)
    for number in (2, np.int64(2), np.array(2, np.int8)):
        for got, want in ((op(nb.tensor(x), number), op(x, 2)), (op(number, nb.tensor(x)), op(2, x))):
            np.testing.assert_array_equal(got.numpy(), want, strict=True)


@pytest.mark.parametrize("op", [*BINARY, operator.matmul, *COMPARE], ids=lambda op: op.__name__)
def test_raw_arrays_on_either_side_give_tensors(op):
    a, b = np.array([[1.0, 2.0], [3.0, 5.0]]), np.array([[2.0, 2.0], [1.0, 3.0]])
    for got in (op(nb.tensor(a), b), op(a, nb.tensor(b)), op(nb.tensor(a), nb.tensor(b))):
        assert type(got) is nb.Tensor
        np.testing.assert_array_equal(got.numpy(), op(a, b), strict=True)
    if op in COMPARE:
        return
    for x, other, function in ((leaf(a), b, lambda x: op(x, b)), (leaf(b), a, lambda x: op(a, x))):
        y = function(x)
        assert y.requires_grad == (op is not operator.floordiv)
        if y.requires_grad:
            y.sum().backward()
            assert x.grad.shape == other.shape


def test_unary_operators():
    x = np.array([-1.5, 2.0], np.float32)
    for op in (operator.neg, operator.pos, abs):
        np.testing.assert_array_equal(op(nb.tensor(x)).numpy(), op(x), strict=True)
    assert (~nb.tensor([True, False])).tolist() == [False, True]
    assert (np.int8(1) << nb.tensor([1, 2])).tolist() == [2, 4]
    assert not np.shares_memory((+nb.asarray(x)).data, x)


F32, F64, I64 = nb.ones(3), nb.ones(3, dtype="float64"), nb.ones(3, dtype="int64")


@pytest.mark.parametrize("op", [*BINARY[:6], operator.matmul, nb.add, nb.maximum, nb.hypot, nb.vecdot, nb.clip])
@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        (F32, F64, "expected float32, got float64"),
        (F64, F32, "expected float64, got float32"),
        (F32, F64.data, "expected float32, got float64"),
        (F64.data, F32, "expected float64, got float32"),
        (F32, I64, "expected float32, got int64"),
        (F64, I64, "expected float64, got int64"),  # NumPy would widen this one silently
        (I64, F64, "expected float64, got int64"),
        (F32, nb.ones(3, dtype="int8"), "expected float32, got int8"),
        (F32, I64.data, "expected float32, got int64"),
        (nb.Tensor(on(D1, [1.0] * 3)), nb.Tensor(on(D1, [1] * 3, "int64")), "expected float32, got int64"),
    ],
)
def test_dtypes_do_not_mix(op, a, b, words):
    with pytest.raises(DTypeError, match=f"{words} \\(argument [12]\\). Cast one with .astype"):
        op(a, b)


def test_lists_are_no_operands():
    for op in (operator.add, nb.multiply, operator.matmul):
        for other in ([1.0, 2.0, 3.0], (1, 2, 3)):
            with pytest.raises(DTypeError, match="got a list"):
                op(F32, other)


C1, C2 = nb.tensor([1.0, 2.0, 3.0]), nb.Tensor(on(D1, [1.0, 2.0, 3.0]))
NAMES = {"cpu": "cpu", "d1": "array_api_strict:device1", "d2": "array_api_strict:device2"}


@pytest.mark.parametrize("op", [operator.add, operator.matmul, operator.lt, nb.maximum, lambda a, b: nb.concat([a, b])])
@pytest.mark.parametrize(
    ("a", "b", "expected", "got"),
    [
        (C1, C2, "cpu", "d1"),
        (C2, C1, "d1", "cpu"),
        (C2, nb.Tensor(on(D2, [1.0] * 3)), "d1", "d2"),
        (C1, C2.data, "cpu", "d1"),
        (C2, C1.data, "d1", "cpu"),
        (C1.data, C2, "d1", "cpu"),  # the Tensor says where home is
    ],
)
def test_devices_do_not_mix(op, a, b, expected, got):
    with pytest.raises(DeviceMismatchError, match=rf'expected {NAMES[expected]}, got {NAMES[got]} .*\.to\("'):
        op(a, b)


@pytest.mark.parametrize(
    "use",
    [
        lambda: C1[nb.Tensor(on(D1, [0, 1], "int64"))],
        lambda: C1[on(D1, [True, False, True], "bool")],
        lambda: C2[np.array([True, False, True])],
        lambda: nb.tensor([1.0]).__setitem__(0, nb.Tensor(on(D1, 1.0))),
        lambda: nb.tensor([1.0, 2.0]).__setitem__((slice(None), on(D1, 0, "int64")), 1.0),
        lambda: nb.take(C1, nb.Tensor(on(D1, [0], "int64"))),
        lambda: nb.where(C1 > 0, C2, C2),
        lambda: Parameter(C1).assign(C2),
        lambda: setattr(nb.ones(3), "grad", C2),
        lambda: leaf([1.0, 2.0, 3.0]).backward(C2.data),
    ],
)
def test_devices_do_not_mix_in_keys_values_and_gradients(use):
    with pytest.raises(DeviceMismatchError, match=r"expected .*, got .*"):
        use()


@pytest.mark.parametrize("device", ["cpu", D1], ids=str)
@pytest.mark.parametrize(
    ("a", "b", "axis", "lengths"),
    [
        ((2, 3), (2, 4), -1, (3, 4)),
        ((3,), (2, 4), -1, (3, 4)),
        ((2, 1, 5), (3, 1), None, None),
        ((4, 3, 2), (5, 1, 2), -3, (4, 5)),
        ((2, 3), (3, 1), -2, (2, 3)),
        ((0, 2), (3, 2), -2, (0, 3)),
    ],
)
def test_shapes_that_do_not_broadcast_name_the_axis(device, a, b, axis, lengths):
    x, y = nb.ones(a, device=device), nb.ones(b, device=device)
    for function in (operator.add, operator.truediv, operator.eq, nb.maximum, lambda x, y: nb.where(x > 0, x, y)):
        if axis is None:
            assert function(x, y).shape == np.broadcast_shapes(a, b)
            continue
        words = rf"{axis} has length {lengths[0]} in one and {lengths[1]} in another"
        with pytest.raises(ShapeError, match=words) as info:
            function(x, y)
        assert f"{a} and " in str(info.value)
        assert f" and {b}" in str(info.value)


@pytest.mark.parametrize(
    ("use", "words"),
    [
        (lambda x: x @ x, r"matmul: .*\(2, 3\) and \(2, 3\)"),
        (lambda x: x @ nb.ones(2), r"matmul: .*\(2, 3\) and \(2,\)"),
        (lambda x: nb.concat([x, nb.ones((2, 4))]), r"concat: .*\(2, 3\) and \(2, 4\)"),
        (lambda x: x.sum(2), r"sum: expected distinct axes in -2\.\.1 for shape \(2, 3\)"),
        (lambda x: x.sum((0, 0)), r"sum: expected distinct axes in -2\.\.1"),
        (lambda x: nb.flip(nb.ones(()), axis=0), r"flip: expected no axis for shape \(\)"),
        (lambda x: x.reshape(4, 2), r"6 elements .*\(4, 2\)"),
        (lambda x: nb.zeros((2, 3)).__setitem__(0, nb.ones(2)), r"setitem: .*\(2, 3\) and \(2,\)"),
        (lambda x: nb.ones(3).T, r"T: expected a matrix"),
    ],
)
def test_other_shapes_that_do_not_fit(use, words):
    with pytest.raises(ShapeError, match=words):
        use(nb.ones((2, 3)))


def test_a_cast_on_the_way_to_a_device_happens_on_the_host():
    """Not every device has float64."""
    place = nb.device(strict.Device("no_float64"))
    x = nb.tensor([1.0, 2.0], dtype="float64", requires_grad=True)
    y = x.to(place, "float32")
    assert (y.device, y.dtype) == (place, np.float32)
    nb.sum(y * y).backward()
    assert (x.grad.dtype, x.grad.tolist()) == (np.float64, [2.0, 4.0])
    assert nb.nn.Linear(2, 1).double().to(place, "float32").weight.device == place
