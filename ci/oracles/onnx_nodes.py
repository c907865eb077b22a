"""ONNX's node tests on our functions: values to 1e-5, and a table of what agrees."""

from typing import Any

import numpy as np
from onnx.backend.test.loader import load_model_tests
from onnx.helper import get_attribute_value

import nnbackend as nb

from .onnx_maths import SAME
from .onnx_ops import OPS, Unmapped
from .table import Table, command, first_line

ALL = {**SAME, **OPS}
ROUNDED = {"test_averagepool_2d_ceil_last_window_starts_on_pad"}  # expected values given to four digits


def attributes(node: Any) -> dict[str, Any]:
    """As keywords, words as `str`."""
    values = {a.name: get_attribute_value(a) for a in node.attribute}
    if node.op_type == "Split" and len(node.input) == 1:
        values.setdefault("num_outputs", len(node.output))
    return {k: v.decode() if isinstance(v, bytes) else v for k, v in values.items()}


def check(case: Any) -> None:
    """AssertionError where ours differs; Unmapped where it has no counterpart."""
    (node,) = case.model.graph.node
    if case.name in ROUNDED:
        raise Unmapped("expected values of four digits")
    arrays, wanted = case.data_sets[0]
    wide = ("float32", "float64", "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
    for x in (*arrays, *wanted):
        if str(getattr(x, "dtype", type(x).__name__)) not in wide:
            raise Unmapped(f"{getattr(x, 'dtype', type(x).__name__)}")
    given = iter(arrays)
    inputs = [nb.tensor(next(given)) if name else None for name in node.input]
    y = ALL[node.op_type](*inputs, **attributes(node))
    outputs = y if isinstance(y, tuple | list) else (y,)
    assert len(outputs) >= len(node.output), f"{len(outputs)} outputs, expected {len(node.output)}"
    results = iter(wanted)
    for name, got in zip(node.output, outputs, strict=False):
        if name:
            want = next(results)
            assert str(got.dtype) == str(want.dtype), f"{name}: {got.dtype}, expected {want.dtype}"
            assert got.shape == want.shape, f"{name}: shape {got.shape}, expected {want.shape}"
            np.testing.assert_allclose(got.numpy(), want, 1e-5, 1e-6, err_msg=name)


def run(names: list[str]) -> Table:
    """Every case of these operators, or of all that are mapped."""
    table, others = Table("operator"), set()
    state = np.random.get_state()
    cases = [c for c in load_model_tests(kind="node") if "_expanded" not in c.name]
    np.random.set_state(state)  # the loader seeds it anew
    for case in cases:
        kind = case.model.graph.node[0].op_type
        if len(case.model.graph.node) > 1 or kind not in ALL:
            others.add(kind)
        elif not names or kind in names:
            try:
                check(case)
                table.add(kind, "agree")
            except Unmapped as reason:
                table.add(kind, "unmapped", f"unmapped: {reason}")
            except Exception as error:
                table.add(kind, "fail", f"{case.name}: {first_line(error)}")
    if not names:
        table.footnote = f"Operators without a mapping here: {', '.join(sorted(others))}"
    return table


if __name__ == "__main__":
    command(__doc__, run)
