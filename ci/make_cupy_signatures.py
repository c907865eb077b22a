"""Freezes the names and signatures of the installed CuPy for its stand-in: tests/standin/cupy_signatures.json.

Needs the wheel of CuPy and neither a driver nor a GPU. tests/test_standin.py compares the file with the CuPy it finds.
"""

import ast
import importlib
import inspect
import json
import re
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent.parent / "tests" / "standin" / "cupy_signatures.json"
PLACES = ("cupy", "cupy.linalg", "cupy.fft", "cupy.lib.stride_tricks", "cupyx", "cupyx.scipy.special")
FLOAT = "<class 'float'>"


def default(value: Any) -> str:
    """Its text where that is a literal; what it is otherwise says `...`."""
    text = "float" if repr(value) == FLOAT else repr(value)
    try:
        ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text if text == "float" else "..."
    return text


def of_python(function: Any) -> str:
    """A signature without its annotations."""
    signature = inspect.signature(function)
    plain = [
        parameter.replace(
            annotation=inspect.Parameter.empty,
            default=parameter.default if parameter.default is parameter.empty else _Text(default(parameter.default)),
        )
        for parameter in signature.parameters.values()
    ]
    return str(signature.replace(parameters=plain, return_annotation=inspect.Signature.empty))


class _Text(str):
    def __repr__(self) -> str:
        return str(self)


def of_cython(function: Any) -> str | None:
    """From the first line of the docstring, `name(type a, int axis=-1) -> type`."""
    found = re.match(r"[\w.]+\((.*?)\)(?: ->.*)?$", (function.__doc__ or "").partition("\n")[0])
    if found is None:
        return None
    untyped = re.sub(r"(^|, )(?:[A-Za-z_]+ )+(?=[a-z_]+)", r"\1", found[1])
    try:
        return of_python(eval(f"lambda {untyped}: 0"))
    except SyntaxError:
        return None


def entry(value: Any) -> Any:
    """A ufunc is a list (nin, nout, loops), a function a string, anything else null."""
    if type(value).__name__ == "ufunc":
        loops = (loop for loop in value.types if "E" not in loop)  # bfloat16 comes with ml_dtypes
        return [value.nin, value.nout, " ".join(loops)]
    if inspect.isfunction(value):
        return of_python(value)
    if type(value).__name__ == "_GUFunc":
        return of_python(type(value).__call__).replace("(self, ", "(")
    return of_cython(value) if callable(value) and not inspect.isclass(value) else None


def signatures() -> dict[str, dict[str, Any]]:
    """All of them: a dict by place, of dicts by name."""
    modules = {place: importlib.import_module(place) for place in PLACES}
    found = {
        place: {name: entry(value) for name, value in sorted(vars(module).items()) if not name.startswith("_")}
        for place, module in modules.items()
    }
    kind = modules["cupy"].ndarray
    methods = {name: getattr(kind, name) for name in dir(kind) if not name.startswith("_")}
    found["ndarray"] = {name: of_cython(method) if callable(method) else None for name, method in methods.items()}
    found["ndarray"] |= dict.fromkeys(name for name in dir(kind) if re.fullmatch("__[a-z_]+__", name))
    return found


def text() -> str:
    """One name a line."""
    places = (
        f" {json.dumps(place)}: {{\n"
        + ",\n".join(f"  {json.dumps(name)}: {json.dumps(kind)}" for name, kind in names.items())
        + "\n }"
        for place, names in signatures().items()
    )
    return "{\n" + ",\n".join(places) + "\n}\n"


if __name__ == "__main__":
    FILE.write_text(text())
