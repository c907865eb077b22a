"""Programs as scripts: `nb.to_source(step, (x, y), "step.py")` writes plain NumPy that does what the step does."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..backend import PRIMITIVES, to_host
from ..errors import GraphError
from ..grad_mode import no_grad
from ..nn import Module
from ..program.expressions import HELPER_NAMES, dtype_text, literal
from ..program.graph import Node, function
from ..program.names import TAKEN
from ..program.record import Fixed, Recording
from ..program.text import Listing
from ..program.undone import Undone
from ..training_mode import evaluating
from .atomic import check_writable, replace_file
from .helpers import HELPERS, helper, with_needs

PathLike = str | os.PathLike[str]


def to_source(step: Any, example: Any, path: PathLike | None = None, inline: int = 64) -> str:
    """A NumPy script that needs no nnbackend: `predict(x)` for a model, or a function that does what `step` does.

    `example` is the argument, or a tuple of arguments, for one run, which leaves no traces; shapes are those of the
    example. Weights of up to `inline` elements stand in the script, more go to `<path>.npz` beside it; without a path
    the script is only returned and holds everything. GraphError if the step cannot be recorded.
    """
    args = example if isinstance(example, tuple) else (example,)
    if isinstance(step, Module):
        with no_grad(), evaluating():
            recording = _recorded(step, args, "predict")
    else:
        step = getattr(step, "step", step)
        name = getattr(step, "__name__", "")
        name = name if name.isidentifier() else "step"
        if name in TAKEN or name in HELPER_NAMES.values():
            name += "_step"
        recording = _recorded(step, args, name)
    text, arrays = _script(recording, None if path is None else inline)
    if path is not None:
        if arrays:
            check_writable(path)  # else there would be new weights beside an old script
            file = io.BytesIO()
            np.savez(file, **arrays)
            replace_file(os.path.splitext(path)[0] + ".npz", [file.getbuffer()])
        replace_file(path, [text.encode()])
    return text


# -- recording without traces ---------------------------------------------------------------------------------------


def _recorded(step: Callable[..., Any], args: tuple[Any, ...], name: str) -> Recording:
    """A recording after which everything is as before.

    The first run of a step may lay out parameters or find no gradients where later ones do: a typical run is wanted.
    """
    with Undone() as undone:
        for _ in range(3):
            recording = Recording(undone.watching(step), args, {}, name)
            if recording.broken or (recording.settled and _steady(recording)):
                break
    if recording.broken:
        raise GraphError(f"to_source: expected a step that can be recorded, got {recording.broken}.")
    return recording


def _steady(recording: Recording) -> bool:
    """Whether the run leaves gradients where it found some, and none where there were none."""
    return all(g.enters in (None, g.leaves) for g in recording.program.gradients)


# -- the script -----------------------------------------------------------------------------------------------------


def _script(recording: Recording, inline: int | None) -> tuple[str, dict[str, Any]]:
    """The text, and the arrays that are too large to stand in it."""
    program = recording.program
    listing = Listing(program)
    _check(listing)
    arrays = {name: to_host(_contents(n)) for name, n in listing.leaves.items() if n.op in ("state", "const")}
    filled = {name: array for name, array in arrays.items() if not _all_zero(array)}
    saved = filled if inline is not None and sum(array.size for array in filled.values()) > inline else {}
    used = dict.fromkeys(name for n in listing.program.nodes if n.op in HELPERS for name in with_needs(n.op))
    helpers = [f"\n\n{helper(op).strip()}\n" for op in used]
    lines = [f'"""What `{program.name}` does, in plain NumPy (2.1 or later). Written by nnbackend."""', ""]
    written = [*helpers, *(line.text for line in listing.lines), *listing.results]
    lines += ["import math"] * any("math." in text for text in written)
    lines += ["from pathlib import Path"] * bool(saved)
    lines += [""] * (len(lines) > 2) + ["import numpy as np", ""]
    if saved:
        lines.append('saved = np.load(Path(__file__).with_suffix(".npz"), allow_pickle=False)')
    for name, array in arrays.items():
        lines.append(f'{name} = saved["{name}"]' if name in saved else f"{name} = {_literal(array, len(name) + 3)}")
    numbers = {name: n.value._value for name, n in listing.leaves.items() if n.op == "scalar"}
    lines += [f"{name} = {literal(value)[0]}" for name, value in numbers.items()] + listing.views
    inputs = {n.value: name for name, n in listing.leaves.items() if n.op == "input"}
    body = [f"global {', '.join(dict.fromkeys(listing.rebound))}"] if listing.rebound else []
    body += listing.commented()
    returned = _returned(recording.form, iter(listing.results), listing)
    body += [f"return {returned}"] if returned != "None" else [] if body else ["pass"]
    define = f"def {program.name}({', '.join(inputs[i] for i in sorted(inputs))}):"
    text = "\n".join(lines).rstrip() + "\n" + "".join(helpers)
    return text + "\n\n" + "\n    ".join([define, *"\n".join(body).split("\n")]) + "\n", saved


def _check(listing: Listing) -> None:
    """GraphError if NumPy alone cannot do it."""
    own = {*HELPERS, "gather", "total", "getitem", "set", "part", "copy", "number", "input", "state", "scalar", "const"}
    for n in listing.program.nodes:
        if n.op not in own and (n.op in PRIMITIVES or not (n.host or function(np, n.op))):
            raise GraphError(f"to_source: expected functions of NumPy, got {n.op}. Leave it out of the step.")


def _contents(n: Node) -> Any:
    return n.value.array if n.op == "state" else n.value


def _returned(form: Any, results: Iterator[str], listing: Listing, level: int = 0) -> str:
    """The result of the step, made of the results of its program."""
    if isinstance(form, tuple | list):
        parts = [_returned(part, results, listing, level + 1) for part in form]
        text = ", ".join(parts)
        if isinstance(form, list):
            return f"[{text}]"
        return text if len(parts) > 1 and not level else f"({text}{',' * (len(parts) == 1)})"
    if isinstance(form, dict):
        parts = [f"{key!r}: {_returned(part, results, listing, level + 1)}" for key, part in form.items()]
        return "{" + ", ".join(parts) + "}"
    if not isinstance(form, Fixed):
        return next(results)
    if form.value is None or isinstance(form.value, bool | int | float | str):
        return literal(form.value)[0]
    name = next((name for name, n in listing.leaves.items() if n.op == "state" and n.value is form.value), None)
    if name is None:
        raise GraphError(f"to_source: expected results that the step computes, got a {type(form.value).__name__}.")
    return name


def _all_zero(array: Any) -> bool:
    return not array.size or (array.dtype.kind in "fiu" and not np.any(array) and not np.any(np.signbit(array)))


def _literal(array: Any, indent: int) -> str:
    """An array as it is written, to the last bit."""
    dtype = dtype_text(array.dtype)
    setting = "" if dtype == "np.float64" else f", dtype={dtype}"
    if _all_zero(array):
        shape = array.size if array.ndim == 1 else array.shape
        return f"np.zeros({shape}{setting})"
    values = np.array2string(
        array, max_line_width=100, threshold=array.size + 1, separator=", ", prefix=" " * (indent + len("np.array(")),
        formatter={"float_kind": _number, "bool": str},
    )  # fmt: skip
    return f"np.array({values}{setting})"


def _number(x: Any) -> str:
    """The shortest text that is read as this number."""
    return str(x) if np.isfinite(x) else literal(float(x))[0]
