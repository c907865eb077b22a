"""The function that a compiled step calls: is the program still right for these arguments? Then run it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..backend import Array
from ..backend.threads import num_threads
from ..cells import structure
from ..grad_mode import recording as grad_mode
from ..recorder import Unfit, recorder
from ..tape import TENSORS, clock
from ..tensor import Tensor
from ..training_mode import mode as training_mode
from ..tree import mapped
from .graph import Program
from .interpret import bring
from .record import ARRAY, NUMBER, TENSOR
from .replay_numpy import Replay
from .replay_numpy.code import Code


def runner(replay: Replay, form: Any, reuse_outputs: bool) -> Callable[..., Any]:
    """The program as a function of the raw inputs, then of the inputs as they were given; it returns the results."""
    code, program = replay.code, replay.program
    n = len(program.inputs)
    lines = [*entering(program, code), *replay.lines]
    if reuse_outputs:  # an input may be a result of the last call, which this one writes over
        arena = code.name(replay.arena.base)
        given = [f"a{i}" for i, node in enumerate(program.inputs) if not node.host]
        lines[:0] = [f"if {a}.base is {arena}: {a} = {a}.copy()" for a in given]
    outputs = iter(replay.outputs)
    results: list[str] = []

    def result(kind: Any) -> str:
        if kind not in (TENSOR, ARRAY, NUMBER):
            return code.name(kind.value)
        text, place = next(outputs)
        if kind != NUMBER:
            text = _copied(text, place, reuse_outputs)
        results.append(f"r{len(results)} = {f'{code.name(Tensor)}({text})' if kind == TENSOR else text}")
        return f"r{len(results) - 1}"

    returned = text_of(mapped(result, form), code)
    lines += [*results, *replay.updates, *leaving(program, code), f"return {returned}"]
    parameters = ", ".join([*(f"a{i}" for i in range(n)), *(f"x{i}" for i in range(n))])
    return define("run", parameters, lines, code)


def entry(variant: Any, inputs: Sequence[Any], owner: Any) -> Callable[..., Any]:
    """The guard around the runner, for arguments that are Tensors, arrays and numbers one after the other."""
    code, program = Code(), variant.program
    name = code.name
    tests, raw = [], []
    given = ", ".join(f"x{i}" for i in range(len(inputs)))
    tests += [f"{name(structure)}.version != {structure.version}", f"{name(recorder)}.get() is not None"]
    tests += [f"{name(mode)}.get() is not {mode.get()}" for mode in (grad_mode, training_mode)]
    for i, x in enumerate(inputs):
        tests.append(f"x{i}.__class__ is not {name(type(x))}")
        if type(x) in (int, float):
            raw.append(f"x{i}")
            continue
        array: Array = x.data if type(x) in TENSORS else x
        dtype, shape = name(array.dtype), name(tuple(array.shape))
        tests.append(f"(a{i} := x{i}{'.data' if type(x) in TENSORS else ''}).shape != {shape}")
        tests.append(f"a{i}.dtype is not {dtype}")
        if type(x) in TENSORS:
            tests.append(f"x{i}.requires_grad is not {x.requires_grad}")
        raw.append(f"a{i}")
    for node, how, value in variant.pins:
        text = f"x{node.value}" if node.op == "input" else f"{name(node.value)}._value"
        tests.append(f"(not {text}) is {bool(value)}" if how == "bool" else f"{text} != {name(value)}")
    tests += [f"{name(t)}.data is not {name(array)}" for t, array in variant.captured]
    tests += [f"{name(p)}.requires_grad is not {wants}" for p, wants in variant.wanting]
    for g in program.gradients:
        if g.enters is not None:
            tests.append(f"{name(g.parameter)}._gradient is {'None' if g.enters else 'not None'}")
    if variant.threads:
        tests.append(f"{name(num_threads)}() != {variant.threads}")
    lines = [
        f"if {' or '.join(tests)}:",
        f"    return {name(owner._slow)}({given})",
        f"if not {name(owner._lock.acquire)}(False):",
        f"    return {name(owner.step)}({given})",
        "try:",
        f"    return {name(variant.run)}({', '.join([*raw, *filter(None, [given])])})",
        f"except {name(Unfit)}:",
        f"    return {name(owner._again)}({name(variant)}, {given})",
        "finally:",
        f"    {name(owner._lock.release)}()",
    ]
    return define("entry", given, lines, code)


def define(name: str, parameters: str, lines: list[str], code: Code) -> Callable[..., Any]:
    """A function from its lines."""
    text = f"def {name}({parameters}):\n" + "".join(f"    {line}\n" for line in lines or ["pass"])
    code.sources.append(text)
    exec(compile(text, f"<{name} of a program>", "exec"), code.env)
    return code.env.pop(name)  # type: ignore[no-any-return]


def _copied(text: str, place: Any, reuse: bool) -> str:
    """A result that the next call will not change."""
    if reuse and place is not None:
        return text
    return f"{text}[()]" if place is not None and not place.shape else f"{text}.copy()"


def entering(program: Program, code: Code) -> list[str]:
    """Gradients from before are brought into their homes, unless they are there."""
    lines = []
    for g in program.gradients:
        if g.enters:
            p, home = code.name(g.parameter), code.name(g.home.array)
            lines.append(f"if {p}._gradient is not {home}: {code.name(bring)}({p}._gradient, {home})")
    return lines


def leaving(program: Program, code: Code) -> list[str]:
    """Gradients and marks of what has been written are as after the step itself."""
    lines = []
    for g in program.gradients:
        value = "None" if g.home is None or not g.leaves else code.name(g.home.array)
        lines.append(f"{code.name(g.parameter)}._gradient = {value}")
    if program.written:
        targets = " = ".join(f"{code.name(p)}.written" for p in program.written)
        lines.append(f"{targets} = {code.name(clock)}()")
    return lines


def text_of(x: Any, code: Code) -> str:
    """A nest of texts as the text of a nest."""
    if isinstance(x, tuple):
        if hasattr(x, "_fields"):
            return f"{code.name(type(x))}({', '.join(text_of(part, code) for part in x)})"
        return f"({''.join(text_of(part, code) + ', ' for part in x)})"
    if isinstance(x, list):
        return f"[{', '.join(text_of(part, code) for part in x)}]"
    if isinstance(x, dict):
        return "{" + ", ".join(f"{code.name(k)}: {text_of(part, code)}" for k, part in x.items()) + "}"
    return str(x)
