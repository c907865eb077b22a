"""Generated element-wise kernels: the bits of CuPy's ufuncs, in any layout."""

import math
from typing import Any

import numpy as np
import pytest
from fusion_case import grouped, put, results, same
from op_run import STANDIN

from nnbackend.backend import Slots, cuda_status, logistic, namespace, to_host
from nnbackend.backend.fusion import Constant, Step, run, supported, text
from nnbackend.backend.fusion.ops import BY_OPERANDS, FLOATING, TRUTH, WHOLE
from nnbackend.random import uniform_like

pytestmark = pytest.mark.skipif(not cuda_status().usable, reason="needs CUDA")

F32 = "float32"
FLOATS = ("float32", "float64", "float16")
TABLES = {"f": FLOATING, "i": WHOLE, "u": WHOLE, "b": TRUTH}
UNARY = {
    "exp", "expm1", "log", "log1p", "log2", "log10", "sqrt", "sin", "cos", "tan", "asin", "acos", "atan", "sinh",
    "cosh", "tanh", "asinh", "acosh", "atanh", "erf", "floor", "ceil", "trunc", "round", "positive", "negative", "abs",
    "sign", "square", "reciprocal", "isnan", "isinf", "isfinite", "signbit", "bitwise_invert", "logical_not",
}  # fmt: skip
APART = {"copy", "astype", "where", "logistic", "uniform_like", "erf"}  # tested below
NUMPYS = {"floor_divide", "remainder", "nextafter"}  # of floats, the stand-in has them from NumPy
SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, 2.0, 3.0, -2.5, 1e-3, 60.0, -60.0, math.inf, -math.inf, math.nan]


def _arguments(dtype: str, rng: Any) -> list[Any]:
    if dtype == "bool":
        return [put(rng.random(45) < 0.5) for _ in range(2)]
    if not dtype.startswith("float"):
        return [
            put(rng.integers(0 if dtype[0] == "u" else -100, 100, 45).astype(dtype)),
            put(np.arange(45, dtype=dtype) % 7 + 1),
        ]
    x = np.concatenate([rng.standard_normal(31), SPECIAL])
    return [put(x.astype(dtype)), put(rng.permutation(x).astype(dtype))]


@pytest.mark.parametrize(
    "dtypes",
    [
        ("float32", "float64", "float16"),
        ("int8", "int16", "int32", "int64"),
        ("uint8", "uint16", "uint32", "uint64", "bool"),
    ],
)
def test_every_function_gives_the_bits_of_cupys_own(dtypes: tuple[str, ...]) -> None:
    rng = np.random.default_rng(1)
    arrays = [x for dtype in dtypes for x in _arguments(dtype, rng)]
    steps, wanted, xp = [], [], namespace(arrays[0])
    for i, dtype in enumerate(dtypes):
        a, b = arrays[2 * i : 2 * i + 2]
        for op in TABLES[np.dtype(dtype).kind].keys() - APART:
            operands = (2 * i,) if op in UNARY else (2 * i, 2 * i + 1)
            result = "bool" if op in BY_OPERANDS else dtype
            if (STANDIN and dtype.startswith("float") and op in NUMPYS) or (op, dtype) == ("positive", "bool"):
                continue
            if supported(op, (dtype,) * len(operands), result):
                steps.append(Step(op, operands, result))
                wanted.append((op, getattr(xp, op)(a) if op in UNARY else getattr(xp, op)(a, b)))
    outputs = range(len(arrays), len(arrays) + len(steps))
    for got, (op, want) in zip(results((45,), arrays, steps, outputs), wanted, strict=True):
        try:
            same(got, to_host(want))
        except AssertionError as error:
            error.add_note(f"{op} in {want.dtype}")
            raise


def test_conversions_are_cupys() -> None:
    dtypes = ("float32", "float64", "float16", "int8", "int32", "int64", "uint8", "uint64", "bool")
    host = np.array([0.0, 1.0, 2.75, 100.5, 0.1, 65.1, 3.0, 7.0, 1.0 + 2**-11 + 2**-30])
    arrays = [put(host.astype(dtype)) for dtype in dtypes]
    pairs = [(i, dtype) for i in range(len(dtypes)) for dtype in dtypes]
    steps = [Step("astype", (i,), dtype) for i, dtype in pairs]
    outputs = range(len(arrays), len(arrays) + len(steps))
    for got, (i, dtype) in zip(results((9,), arrays, steps, outputs), pairs, strict=True):
        same(got, to_host(arrays[i].astype(dtype)))


def test_numbers_constants_and_slots() -> None:
    """Python's numbers take the dtype that they meet, directly; a slot is read when the kernel runs."""
    values = [0.1, math.inf, math.nan, 1e-20, 1.0 + 2**-11 + 2**-30]
    slots = Slots(len(values))
    slots.write(values)
    hosts = [np.linspace(-3, 3, 50).astype(dtype) for dtype in FLOATS]
    steps = [Step("multiply", (i, Constant(v)), dtype) for i, dtype in enumerate(FLOATS) for v in values]
    steps += [Step("multiply", (i, 3 + n), dtype) for i, dtype in enumerate(FLOATS) for n in range(5)]
    wanted = [host * host.dtype.type(v) for host in hosts for v in values] * 2
    for numbers in (values, list(slots)):
        got = results((50,), list(map(put, hosts)), steps, range(8, 38), numbers=numbers)
        for one, want in zip(got, wanted, strict=True):
            same(one, want)


def test_whole_numbers() -> None:
    whole = np.arange(50, dtype=np.int64)
    steps = [Step("add", (0, Constant(-(2**63))), "int64"), Step("multiply", (0, 1), "int64")]
    steps += [Step("less", (0, 1), "bool"), Step("where", (4, 0, Constant(-1)), "int64")]
    got = results((50,), [put(whole)], steps, (2, 3, 5), numbers=[7])
    for one, want in zip(got, (whole + np.int64(-(2**63)), whole * 7, np.where(whole < 7, whole, -1)), strict=True):
        same(one, want)


AFFINE = [Step("multiply", (0, 1), F32), Step("add", (3, 2), F32)]


def _all(x: Any) -> Any:
    return x


LAYOUTS: list[tuple[tuple[int, ...], list[tuple[tuple[int, ...], Any]]]] = [
    ((6, 8), [((6, 8), _all), ((8,), _all), ((6, 1), _all)]),  # beside, along rows and along columns
    ((6, 7), [((6, 7), _all), ((7,), _all), ((6, 1), _all)]),  # rows that are no multiple of 16 bytes
    ((4, 6, 8), [((8, 6, 4), lambda x: x.transpose(2, 1, 0)), ((6, 1), _all), ((4, 1, 1), _all)]),
    ((1, 1), [((1, 1), _all), ((), _all), ((1,), _all)]),
    ((), [((), _all)] * 3),
    ((5, 8), [((9, 16), lambda x: x[1:6, 3:11]), ((5, 16), lambda x: x[:, ::2]), ((5, 8), lambda x: x[::-1, ::-1])]),
    ((41,), [((50,), lambda x: x[1:42]), ((1,), _all), ((82,), lambda x: x[::2])]),  # not at a multiple of 16 bytes
    ((3, 1, 4), [((1, 1, 4), _all), ((3, 1, 1), _all), ((3, 1, 4), _all)]),
    ((0, 5), [((0, 5), _all), ((5,), _all), ((0, 5), _all)]),
]


@pytest.mark.parametrize(("shape", "parts"), LAYOUTS, ids=[str(shape) for shape, _ in LAYOUTS])
def test_any_layout(shape: tuple[int, ...], parts: Any) -> None:
    rng = np.random.default_rng(2)
    hosts = [rng.standard_normal(size).astype(F32) for size, _ in parts]
    arrays = [view(put(host)) for host, (_, view) in zip(hosts, parts, strict=True)]
    a, b, c = (view(host) for host, (_, view) in zip(hosts, parts, strict=True))
    (got,) = results(shape, arrays, AFFINE, (4,))
    same(got, np.asarray(a * b + c))


@pytest.mark.parametrize("begin", [0, 1])
def test_in_place_and_behind_the_end(begin: int) -> None:
    """An output may be what is read; nothing is written behind it, wherever it begins."""
    for n in (1, 3, 4, 5, 1023, 1025):
        host = np.arange(n + 9, dtype=F32)
        x = put(host)
        w = x[begin : begin + n]
        run(grouped((n,), [w], [Step("multiply", (0, 1), F32)], (2,), numbers=[3.0]), [w], [3.0], [w])
        host[begin : begin + n] *= 3
        same(to_host(x), host)


def test_random_numbers_are_those_of_the_stream() -> None:
    """At the element's place in the group, however many a thread makes; the address is no part of the text."""
    key, site = (5 << 64) + 3, 2**63 + 11
    drawn = [Step("uniform_like", (Constant(key), Constant(site), 1, Constant(2)), dtype) for dtype in FLOATS]
    slots = Slots(1)
    slots.write([9])
    for shape, like in (((1003,), (1003,)), ((6, 16), (16,)), ((7, 10), (10,)), ((10, 32), (32,))):
        x = put(np.zeros(like, F32))
        steps = [*drawn, Step("add", (0, 2), F32)]
        for number in (9, next(iter(slots))):
            got = results(shape, [x], steps, (5, 3, 4), numbers=[number])
            for one, dtype in zip(got, FLOATS, strict=True):
                same(one, uniform_like(np.empty(shape, dtype), key, site, 9, 2))


def test_primitives_step_by_step() -> None:
    """`logistic` rounds as its text does, on its own too; `erf` is the error function."""
    host = np.array([-80.0, -3.5, -0.0, 0.3, 5.0, 88.0, math.inf, math.nan])
    arrays = [put(host.astype(dtype)) for dtype in FLOATS]
    steps = [Step(op, (i,), dtype) for op in ("logistic", "erf") for i, dtype in enumerate(FLOATS)]
    got = results(host.shape, arrays, steps, range(3, 9))
    for x, one, error in zip(arrays, got, got[3:], strict=False):
        dtype, xp = x.dtype.name, namespace(x)
        y = xp.exp(-xp.maximum(x, -(math.log(float(np.finfo(dtype).max)) - 0.5)))
        y += 1.0
        same(one, to_host(1.0 / y))
        tolerance = {"float32": 2e-7, "float64": 4e-16, "float16": 1e-3}[dtype]
        exact = [math.erf(v) for v in to_host(x).astype("float64")]
        np.testing.assert_allclose(error.astype("float64"), exact, rtol=tolerance)
    same(to_host(logistic(arrays[0])), got[0])


def test_choices() -> None:
    rng = np.random.default_rng(3)
    a, b = (rng.standard_normal(33).astype(F32) for _ in range(2))
    steps = [Step("greater", (0, Constant(0.0)), "bool"), Step("where", (2, 0, Constant(-0.5)), F32)]
    steps += [Step("where", (2, Constant(1.5), 1), F32), Step("astype", (2,), F32)]
    got = results((33,), [put(a), put(b)], steps, (3, 4, 5))
    for one, want in zip(
        got,
        (np.where(a > 0, a, np.float32(-0.5)), np.where(a > 0, np.float32(1.5), b), (a > 0).astype(F32)),
        strict=True,
    ):
        same(one, want)


def test_division_of_floats_is_cupys() -> None:
    """The floor of the quotient as it is rounded, and what is left after that."""
    a, b = np.array([7.5, -7.5, 3.0, 1e9, 5.0], F32), np.array([2.0, 2.0, -0.1, 7.0, np.inf], F32)
    steps = [Step("floor_divide", (0, 1), F32), Step("remainder", (0, 1), F32)]
    quotient, rest = results((5,), [put(a), put(b)], steps, (2, 3))
    same(quotient, np.floor(a / b))
    with np.errstate(invalid="ignore"):
        same(rest, (a.astype("float64") - np.floor(a / b) * b.astype("float64")).astype(F32))


def test_one_text_for_all_sizes() -> None:
    """A line for each step; other sizes and numbers need no other kernel."""

    def of(rows: int, columns: int) -> str:
        x, b = (put(np.zeros(size, F32)) for size in ((rows, columns), (columns,)))
        steps = [Step("add", (0, 1), F32), Step("maximum", (3, Constant(0.0)), F32), Step("multiply", (4, 2), F32)]
        return text(grouped((rows, columns), [x, b], steps, (5,), numbers=[0.5]))

    assert of(6, 8) == of(100, 512)
    body = of(6, 8)[of(6, 8).index('extern "C"') :]
    assert "const float v4 = maximum(v3, 0x0p+0f);" in body
    assert "load<4>(a0 + at0, left)" in body


def test_what_is_not_supported() -> None:
    assert supported("add", (F32, "float"), F32)
    assert supported("divide", ("int32", "int32"), "float64")
    assert not supported("matmul", (F32, F32), F32)
    assert not supported("add", ("complex64", F32), "complex64")
    assert not supported("exp", ("int32",), "int32")
    assert not supported("less", ("int64", "uint64"), "bool")
    assert not supported("logaddexp", ("float16", "float16"), "float16")
