"""Texts of generated kernels, as NVRTC sees them: no GPU is needed."""

import re

import pytest
from nvrtc_case import compiled

from nnbackend.backend.fusion import Constant, Group, Input, Reduction, Step, supported, text
from nnbackend.backend.fusion.ops import BY_OPERANDS, FLOATING, TRUTH, WHOLE

F32, F64, F16 = "float32", "float64", "float16"
DROPOUT = Step("uniform_like", (Constant(1 << 100), Constant(7), 2, Constant(0)), F32)


def functions(dtype: str, table: dict[str, str]) -> Group:
    """All functions of a dtype in one group, each of which has its result stored."""
    steps = []
    for op, expression in table.items():
        values = (0, 1, 0) if op == "where" else (0, 1) if expression.count("{}") == 2 else (0,)
        result = "bool" if op in BY_OPERANDS else dtype
        if op != "uniform_like" and supported(op, (dtype,) * len(values), result):
            steps.append(Step(op, values, result))
    inputs = (Input(dtype, (1,)), Input(dtype, (1,)))
    return Group((1000,), inputs, (), tuple(steps), tuple(range(2, 2 + len(steps))))


def chain(dtype: str, inputs: tuple[Input, ...], shape: tuple[int, ...], *reductions: Reduction) -> Group:
    """Dropout of an activation of a sum, with what may come at its end."""
    steps = [Step("add", (0, 1), dtype), Step("tanh", (4,), dtype), DROPOUT._replace(dtype=dtype)]
    steps += [Step("greater", (6, 3), "bool"), Step("astype", (7,), dtype), Step("multiply", (5, 8), dtype)]
    return Group(shape, inputs, ("int", "float"), tuple(steps), (9,), reductions)


GROUPS = {
    **{dtype: functions(dtype, FLOATING) for dtype in (F32, F64, F16)},
    **{dtype: functions(dtype, WHOLE) for dtype in ("int8", "int64", "uint32")},
    "bool": functions("bool", TRUTH),
    "columns": chain(F32, (Input(F32, (512, 1)), Input(F32, (0, 1))), (128, 512), Reduction(9, "sum", (0,))),
    "rows": chain(F16, (Input(F16, (1, 96)), Input(F16, (64, 1))), (96, 64), Reduction(9, "mean", (1,))),
    "wide": chain(F64, (Input(F64, (1 << 20, 1)), Input(F64, (0, 0))), (1 << 11, 1 << 20)),
    "all": Group(
        (1 << 20,), (Input("int32", (1,)),), (), (), (), tuple(Reduction(0, op, (0,)) for op in ("sum", "max"))
    ),
}


@pytest.mark.parametrize("name", GROUPS)
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
def test_nvrtc_compiles_generated_kernels_without_spills(name: str, architecture: str) -> None:
    log = compiled(text(GROUPS[name]), architecture)
    assert set(re.findall(r"(\d+) bytes spill", log)) == {"0"}
    assert "i64 at0" in text(GROUPS["wide"])


def test_powers_are_the_functions_that_cupy_takes_for_them() -> None:
    def made(y: float, dtype: str) -> str:
        step = Step("pow", (0, Constant(y)), dtype)
        return text(Group((8,), (Input(dtype, (1,)),), (), (step,), (1,))).rpartition("extern")[2]

    for y, dtype, function in (
        (2, F32, "multiply(v0, v0)"), (2.0, F64, "multiply(v0, v0)"), (2, "int32", "v0 * v0"), (0.5, F32, "sqrt(v0)"),
        (-1.0, F32, "1 / v0"), (-1.0, F16, "round16(1 / v0)"), (-1, F32, "pow(v0, (-0x1p+0f))"),
        (3.0, F32, "pow(v0, 0x1.8p+1f)"),
    ):  # fmt: skip
        assert f"v1 = {function};" in made(y, dtype)
