"""nnbackend.array against the array-API standard 2024.12: array-api-strict knows the signatures and the values."""

import inspect
import math

import array_api_compat
import array_api_strict as strict
import numpy as np
import pytest

import nnbackend as nb
import nnbackend.array as xp
from nnbackend.errors import DTypeError, ShapeError

D1 = strict.Device("device1")

ABSENT = {
    **dict.fromkeys(("complex64", "complex128", "conj", "imag", "real"), "gradients are of real numbers"),
    **dict.fromkeys(("unique_all", "unique_counts", "unique_inverse"), "data-dependent shapes; only values are of use"),
    "fft": "an optional extension of complex numbers",
    **dict.fromkeys(("isin", "broadcast_shapes"), "of the standard of 2025.12"),
}
ABSENT_FROM_LINALG = {
    **dict.fromkeys(("matmul", "matrix_transpose", "tensordot", "vecdot"), "in the namespace itself"),
    **dict.fromkeys(
        ("eigh", "eigvalsh", "matrix_rank", "pinv", "qr", "svd", "svdvals"), "gradients seldom well defined"
    ),
}


class A:
    """An array of the table below, made in whatever library is tested."""

    def __init__(self, values, dtype="float64"):
        self.values, self.dtype = values, dtype


X = A([[0.5, -1.5, 2.0], [1.0, 0.25, -3.0]])
Y = A([[2.0, 1.5, -2.0], [0.5, 0.25, 3.0]])
P, Q, U = A([0.5, 1.0, 4.0]), A([1.0, 1.5, 2.5]), A([0.1, 0.5, 0.9])
I, J, B = A([[5, 2, -3]], "int32"), A([3, 1, 2], "int32"), A([[True, False, True]], "bool")
V, C = A([3.0, 1.0, 2.0, 1.0]), A([True, True, False], "bool")
AXIS = {"axis": 1, "keepdims": True}

UNARY = [
    "abs", "asinh", "atan", "ceil", "cos", "cosh", "exp", "expm1", "floor", "isfinite", "isinf", "isnan",
    "matrix_transpose", "negative", "positive", "reciprocal", "round", "sign", "signbit", "sin", "sinh", "square",
    "tan", "tanh", "trunc",
]  # fmt: skip
BINARY = [
    "add", "atan2", "copysign", "divide", "equal", "floor_divide", "greater", "greater_equal", "hypot", "less",
    "less_equal", "logaddexp", "maximum", "minimum", "multiply", "not_equal", "remainder", "subtract",
]  # fmt: skip

# function -> calls, each (positional arguments, keyword arguments)
TABLE = {
    **{name: [((X,), {})] for name in UNARY},
    **{name: [((P,), {})] for name in ("log", "log1p", "log2", "log10", "sqrt")},
    **{name: [((U,), {})] for name in ("acos", "asin", "atanh")},
    "acosh": [((A([1.5, 2.0]),), {})],
    **{name: [((X, Y), {}), ((X, P), {}), ((X, 2.0), {}), ((2.0, X), {})] for name in BINARY},
    "nextafter": [((X, Y), {})],
    "pow": [((P, Y), {}), ((X, 2), {}), ((2.0, X), {})],
    "clip": [((X,), {"min": -1.0, "max": 1.0}), ((X, None, Y), {}), ((X,), {"min": P}), ((I,), {"max": 3})],
    **{name: [((I, J), {}), ((I, 3), {}), ((3, J), {})] for name in ("bitwise_and", "bitwise_or", "bitwise_xor")},
    "bitwise_left_shift": [((J, J), {}), ((J, 2), {})],
    "bitwise_right_shift": [((I, J), {}), ((I, 2), {})],
    "bitwise_invert": [((I,), {}), ((B,), {})],
    **{name: [((B, C), {}), ((B, True), {})] for name in ("logical_and", "logical_or", "logical_xor")},
    "logical_not": [((B,), {})],
    "sum": [((X,), {}), ((X,), AXIS), ((X,), {"axis": (0, 1), "dtype": "float32"}), ((J,), {})],
    "prod": [((X,), {}), ((X,), {**AXIS, "dtype": "float32"}), ((J,), {})],
    "mean": [((X,), {}), ((X,), AXIS)],
    "max": [((X,), {}), ((X,), AXIS), ((I,), {"axis": (0, 1)})],
    "min": [((X,), {}), ((X,), AXIS)],
    "std": [((X,), {}), ((X,), {**AXIS, "correction": 1.0})],
    "var": [((X,), {}), ((X,), {**AXIS, "correction": 1})],
    "all": [((B,), {}), ((B,), AXIS)],
    "any": [((B,), {}), ((X,), AXIS)],
    "count_nonzero": [((I,), {}), ((B,), AXIS)],
    "argmax": [((X,), {}), ((X,), AXIS)],
    "argmin": [((X,), {}), ((X,), AXIS)],
    "cumulative_sum": [((V,), {}), ((X,), {"axis": 1, "dtype": "float32", "include_initial": True})],
    "cumulative_prod": [((V,), {}), ((X,), {"axis": 1, "dtype": "float32", "include_initial": True})],
    "diff": [((X,), {}), ((V,), {"n": 2}), ((X,), {"axis": 0, "n": 1, "prepend": Y, "append": X}), ((V,), {"n": 0})],
    "nonzero": [((X,), {}), ((B,), {})],
    "searchsorted": [((P, U), {}), ((V, Q), {"side": "right", "sorter": A([1, 3, 2, 0], "int64")})],
    "where": [((B, X, Y), {}), ((B, X, 0.0), {}), ((B, 1.0, X), {})],
    "argsort": [((X,), {}), ((V,), {"axis": -1, "descending": True, "stable": True}), ((X,), {"axis": 0})],
    "sort": [((X,), {}), ((X,), {"axis": 0, "descending": True, "stable": True})],
    "unique_values": [((V,), {})],
    "broadcast_arrays": [((X, P), {}), ((X,), {})],
    "broadcast_to": [((P, (2, 3)), {}), ((P,), {"shape": (1, 1, 3)})],
    "concat": [(([X, Y],), {}), (([X, Y],), {"axis": None}), (((X, Y),), {"axis": 1})],
    "expand_dims": [((X,), {"axis": 0}), ((X,), {"axis": -1})],
    "flip": [((X,), {}), ((X,), {"axis": 1})],
    "moveaxis": [((X, 0, 1), {}), ((X, (0, 1), (1, 0)), {})],
    "permute_dims": [((X, (1, 0)), {}), ((X,), {"axes": (1, 0)})],
    "repeat": [((X, 2), {}), ((X, 2), {"axis": 1})],
    "reshape": [((X, (3, 2)), {}), ((X,), {"shape": (-1,), "copy": True})],
    "roll": [((X, 1), {}), ((X, (1, 2)), {"axis": (0, 1)}), ((X,), {"shift": -1, "axis": 1})],
    "squeeze": [((A([[[1.0]], [[2.0]]]), 1), {}), ((A([[[1.0]], [[2.0]]]),), {"axis": (1, 2)})],
    "stack": [(([X, Y],), {}), (((X, Y),), {"axis": -1})],
    "tile": [((P, (2, 2)), {}), ((X, (2,)), {})],
    "unstack": [((X,), {}), ((X,), {"axis": 1})],
    "matmul": [((X, P), {}), ((P, P), {})],
    "tensordot": [((P, P), {"axes": 1}), ((X, Y), {}), ((X, Y), {"axes": ((1,), (1,))})],
    "vecdot": [((X, Y), {}), ((X, P), {"axis": -1})],
    "take": [((X, A([1, 1, 0], "int64")), {"axis": 1}), ((P, A([2], "int64")), {})],
    "take_along_axis": [((X, A([[1, 0], [2, 2]], "int64")), {}), ((X, A([[1, 0, 1]], "int64")), {"axis": 0})],
    "meshgrid": [((P, U), {}), ((P, U, V), {"indexing": "ij"})],
    "tril": [((X,), {}), ((A([[1, 2], [3, 4]], "int32"),), {}), ((A([[True] * 2] * 2, "bool"),), {}), ((X,), {"k": 1})],
    "triu": [((X,), {}), ((X,), {"k": -1})],
    "astype": [((X, "float32"), {}), ((X, "int32"), {"copy": True}), ((X, "float64"), {"copy": False})],
}  # fmt: skip
CREATION = {
    "arange": [((5,), {}), ((1,), {"stop": 7, "step": 2}), ((0.0, 1.0, 0.25), {})],
    "empty": [(((0, 3),), {}), ((0,), {})],
    "eye": [((3,), {}), ((2, 3), {"k": 1}), ((2, None), {"k": -1})],
    "full": [(((2, 3), 7.0), {}), ((2, True), {})],
    "linspace": [((0.0, 1.0, 5), {}), ((0.0, 1.0), {"num": 4, "endpoint": False})],
    "ones": [(((2, 3),), {}), ((2,), {})],
    "zeros": [(((2, 3),), {}), ((2,), {})],
    "empty_like": [((A(np.zeros((0, 2))),), {})],
    "full_like": [((X, 7.0), {})],
    "ones_like": [((X,), {}), ((I,), {})],
    "zeros_like": [((X,), {})],
    "asarray": [((X,), {}), ((X,), {"copy": True})],
    "from_dlpack": [((X,), {}), ((X,), {"copy": True})],
}
DTYPES = {"bool", *(f"{k}{n}" for k in ("int", "uint") for n in (8, 16, 32, 64)), "float32", "float64"}
OTHERS = {"can_cast", "linalg", "finfo", "iinfo", "isdtype", "result_type"}
CONSTANTS = {"e", "inf", "nan", "newaxis", "pi"}


def test_the_whole_standard_is_here_or_absent_for_a_reason():
    standard = {n for n in dir(strict) if not n.startswith("_") and not n.endswith("flags")} | {"linalg", "fft"}
    standard -= {"ArrayAPIStrictFlags", "Device", "ModuleType"}
    covered = TABLE.keys() | CREATION.keys() | DTYPES | OTHERS | CONSTANTS
    assert standard - covered == ABSENT.keys()
    assert covered - standard == set()
    missing = [name for name in covered if not (hasattr(xp, name) and hasattr(nb, name))]
    assert missing == []
    assert [name for name in ABSENT if hasattr(xp, name)] == []
    assert xp.__array_api_version__ == "2024.12"
    assert set(xp.__all__) >= covered


def test_linalg_is_here_or_absent_for_a_reason():
    standard = set(strict.linalg.__all__)
    assert standard - set(nb.linalg.__all__) == ABSENT_FROM_LINALG.keys()
    assert set(nb.linalg.__all__) - standard == {"norm"}


@pytest.mark.parametrize("name", [*TABLE, *CREATION])
def test_the_table_uses_every_keyword_of_the_standard(name):
    """So the calls below prove that each of them is taken; strict refuses any other."""
    parameters = inspect.signature(getattr(strict, name)).parameters.values()
    keywords = {p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
    used = set().union(*(kw for _, kw in (TABLE | CREATION)[name]))
    if name in CREATION or name == "astype":
        used |= {"dtype", "device"}  # test_creation
    given = {p.name for p in list(parameters)[: max(len(args) for args, _ in (TABLE | CREATION)[name])]}
    assert keywords - used - given == set()


LIBRARIES = {
    "numpy": lambda a: np.asarray(a.values, a.dtype),
    "device1": lambda a: strict.asarray(np.asarray(a.values, a.dtype), device=D1),
    "tensor": lambda a: nb.tensor(a.values, a.dtype),
    "tensor on device1": lambda a: nb.tensor(a.values, a.dtype, D1),
}


def filled(value, make):
    if isinstance(value, A):
        return make(value)
    return type(value)(filled(v, make) for v in value) if isinstance(value, list | tuple) else value


def called(space, name, args, kw, make, dtype=lambda d: d):
    args = [dtype(a) if isinstance(a, str) else a for a in filled(args, make)]
    kw = {k: dtype(v) if k == "dtype" else filled(v, make) for k, v in kw.items()}
    return getattr(space, name)(*args, **kw)


def flat(y):
    return list(y) if isinstance(y, list | tuple) else [y]


def compared(got, want, kind):
    assert isinstance(got, list | tuple) == isinstance(want, list | tuple)
    assert len(flat(got)) == len(flat(want))
    for g, w in zip(flat(got), flat(want), strict=True):
        assert isinstance(g, kind)
        host, w = nb.asarray(g).numpy(), np.from_dlpack(w)
        assert host.dtype == w.dtype
        np.testing.assert_allclose(host, w, rtol=1e-6 if w.dtype == np.float32 else 1e-12)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("name", TABLE)
def test_functions(name, library):
    make = LIBRARIES[library]
    home, kind = make(X), (np.ndarray, np.generic) if library == "numpy" else type(make(X))
    for args, kw in TABLE[name]:
        want = called(strict, name, args, kw, LIBRARIES["device1"], lambda d: getattr(strict, d))
        if name == "unique_values":
            want = strict.sort(want)
        got = called(xp, name, args, kw, make)
        compared(strict.sort(got) if name == "unique_values" and library == "device1" else got, want, kind)
        for g in flat(got):
            assert nb.asarray(g).device == nb.asarray(home).device
            assert not isinstance(g, nb.Tensor) or (g.requires_grad, g.node) == (False, None)


@pytest.mark.parametrize("place", ["cpu", D1, None], ids=["cpu", "device1", "default"])
@pytest.mark.parametrize("name", CREATION)
def test_creation(name, place):
    for args, kw in CREATION[name]:
        for dtype in (None, *(() if name == "from_dlpack" else ("float32", "float64", "int64"))):
            more = {} if dtype is None else {"dtype": dtype}
            want = called(strict, name, args, {**kw, **more}, LIBRARIES["device1"], lambda d: getattr(strict, d))
            got = called(xp, name, args, {**kw, **more, "device": place}, LIBRARIES["tensor"])
            if dtype is None and want.dtype == strict.float64 and not any(isinstance(a, A) for a in args):
                want = strict.astype(want, strict.float32)  # our default
            compared(got, want, nb.Tensor)
            assert got.device == ("cpu" if place in ("cpu", None) else "array_api_strict:device1")
            if name.endswith("_like"):
                for library, kind in (("numpy", np.ndarray), ("device1", type(want))):
                    compared(called(xp, name, args, {**kw, **more}, LIBRARIES[library]), want, kind)


def test_constants_and_default_dtypes():
    assert (xp.e, xp.pi, xp.inf, xp.newaxis) == (math.e, math.pi, math.inf, None)
    assert math.isnan(xp.nan)
    assert [str(getattr(xp, name)) for name in sorted(DTYPES)] == sorted(DTYPES)
    assert [str(xp.asarray(v).dtype) for v in (1.0, 1, True)] == ["float32", "int64", "bool"]
    made = (xp.zeros(2), xp.ones(2), xp.empty(0), xp.eye(2), xp.linspace(0, 1, 3), xp.full(2, 1.0), xp.arange(1.0))
    assert {str(t.dtype) for t in made} == {"float32"}
    assert {str(t.dtype) for t in (xp.arange(3), xp.full(2, 1), xp.argmax(xp.ones(3)))} == {"int64"}
    assert str(xp.full(2, True).dtype) == "bool"
    assert xp.full(2, nb.tensor(1.5)).tolist() == xp.full(2, strict.asarray(1.5, device=D1)).tolist() == [1.5, 1.5]


def test_dtype_functions():
    f32, i16, d1 = nb.ones(1), np.ones(1, np.int16), strict.ones(1, device=D1)
    assert (xp.finfo(f32).eps, xp.finfo(np.float64).eps, xp.finfo(d1).bits) == (
        np.finfo("f4").eps,
        np.finfo("f8").eps,
        64,
    )
    assert (xp.iinfo(i16).max, xp.iinfo(strict.int8).min, xp.iinfo("uint8").max) == (32767, -128, 255)
    for dtype, kind, answer in (
        (f32.dtype, "real floating", True),
        (strict.float32, "numeric", True),
        ("int64", ("bool", "real floating"), False),
        (xp.int64, (xp.int32, strict.int64), True),
        (xp.uint8, "unsigned integer", True),
        (xp.bool, "numeric", False),
    ):
        assert xp.isdtype(dtype, kind) is answer
    for items, dtype in (
        ((f32, 1.0), "float32"),
        ((f32, np.float64), "float64"),
        ((i16, xp.int8, 3), "int16"),
        ((d1, nb.ones(1)), "float64"),
        ((xp.uint8, i16), "int16"),
    ):
        assert xp.result_type(*items) == dtype
    assert xp.can_cast(f32, "float64")
    assert xp.can_cast(d1, strict.float64)
    assert not xp.can_cast(xp.float64, xp.float32)
    assert not xp.can_cast(i16, xp.int8)
    for function in (xp.finfo, xp.iinfo, lambda d: xp.isdtype(d, "bool"), xp.result_type):
        with pytest.raises(DTypeError, match="expected one of bool, float32"):
            function(np.dtype("complex64"))


def test_inspection():
    info = xp.__array_namespace_info__()
    theirs = strict.__array_namespace_info__()
    assert info.capabilities().keys() == theirs.capabilities().keys()
    assert info.default_device() == "cpu"
    assert info.devices() == [nb.device("cpu")]
    assert info.default_dtypes(device="cpu").keys() == theirs.default_dtypes().keys()
    assert info.default_dtypes()["real floating"] == np.float32
    assert info.dtypes().keys() == DTYPES
    for kind in ("bool", "signed integer", "unsigned integer", "integral", "real floating", ("bool", "integral")):
        assert info.dtypes(device="cpu", kind=kind).keys() == theirs.dtypes(kind=kind).keys()
    assert (info.dtypes(kind="complex floating"), info.dtypes(kind="numeric").keys()) == ({}, DTYPES - {"bool"})


def test_the_namespace_of_a_tensor():
    for t in (nb.ones(2), nb.nn.Parameter(nb.ones(2)), nb.ones(2, device=D1)):
        assert t.__array_namespace__() is t.__array_namespace__(api_version="2024.12") is nb.namespace(t) is xp
        assert array_api_compat.array_namespace(t, nb.ones(2)) is xp
        assert array_api_compat.is_array_api_obj(t)
        assert array_api_compat.device(t) == t.device
        assert array_api_compat.size(t) == 2
    assert array_api_compat.to_device(nb.ones(2), D1).device == "array_api_strict:device1"


def test_edges_of_what_we_add_to_the_standard():
    for n, axis in ((-1, 0), (1, 1), (1, -2)):
        with pytest.raises(ShapeError, match=r"diff: .*\(3,\)"):
            xp.diff(nb.ones(3), n=n, axis=axis)
    x = nb.tensor([3.0, 1.0, 2.0], requires_grad=True)
    xp.diff(xp.sort(x, descending=True), prepend=x[:1] * 2.0).sum().backward()
    assert x.grad.tolist() == [-2.0, 1.0, 0.0]
    for function in (xp.argsort, xp.floor_divide, xp.equal):
        assert not function(x, *([x] if function is not xp.argsort else [])).requires_grad
    assert xp.diff(nb.ones(2), n=5).shape == (0,)
