"""What a compiled step calls on a GPU: the host's part of a program, then the device's in one go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..tensor import Tensor
from ..tree import mapped
from .entry import define, entering, leaving, text_of
from .graph import Node
from .record import ARRAY, NUMBER, TENSOR
from .replay_cuda import Replay
from .replay_numpy.code import Code
from .replay_numpy.host import host_text


class Launcher:
    """A program as a function of the raw inputs, then of the inputs as they were given; it returns the results."""

    def __init__(self, replay: Replay, form: Any, reuse_outputs: bool) -> None:
        self.replay, self.reuse = replay, reuse_outputs
        self.begin, self.finish = _begin(replay), _finish(replay, form)

    def __call__(self, *given: Any) -> Any:
        """One step."""
        return self.several([given])[0]

    def several(self, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Steps one after the other, in one launch. If it fails, no number of the host's has changed."""
        before: dict[Any, Any] = {}
        steps, kept = [], []
        try:
            for given in calls:
                arrays, numbers, updates, hosts = self.begin(*given)
                steps.append((arrays, numbers))
                kept.append(hosts)
                for scalar, value in updates:
                    before.setdefault(scalar, scalar._value)
                    scalar._value = value
            outputs = self.replay(steps, self.reuse)
        except BaseException:
            for scalar, value in before.items():
                scalar._value = value
            raise
        return [self.finish(arrays, hosts) for arrays, hosts in zip(outputs, kept, strict=True)]


def _begin(replay: Replay) -> Callable[..., Any]:
    """Checks and arithmetic on the host: the arrays and the numbers that the device needs, new scalars, results."""
    program, code = replay.program, Code()
    text: dict[Node, str] = {}

    def ref(n: Node) -> str:
        return text[n]

    lines, checks = entering(program, code), []
    for n in program.nodes:
        if n.op == "check":
            if n.inputs[0].op != "input":
                continue  # values on a device are looked at in careful mode only, and that compiles nothing
            given = ", ".join([f"x{n.inputs[0].value}", *map(code.name, n.args[1:])])
            checks.append(f"{code.name(n.value)}({given})")
        elif n.op == "input":
            text[n] = f"a{n.value}"
        elif n.host and n.op == "number":
            text[n] = code.name(n.args[0])
        elif n.host:
            text[n] = f"h{len(text)}"
            lines.append(f"{text[n]} = {host_text(n, code, ref)}")
    arrays = [text[n] if not n.host else "None" for n in program.inputs]
    numbers = [text[n] for n in replay.work.numbers]
    updates = [f"({code.name(scalar)}, {text[n]})" for scalar, n in program.numbers]
    hosts = [text[n] for n in program.outputs if n.host]
    parts = [f"({''.join(f'{part}, ' for part in some)})" for some in (arrays, numbers, updates, hosts)]
    lines = [*checks, *lines, f"return {', '.join(parts)}"]
    count = range(len(program.inputs))
    return define("begin", ", ".join([*(f"a{i}" for i in count), *(f"x{i}" for i in count)]), lines, code)


def _finish(replay: Replay, form: Any) -> Callable[..., Any]:
    """The results, put together."""
    program, code = replay.program, Code()
    outputs, hosts = iter(enumerate(program.outputs)), iter(range(len(program.outputs)))

    def result(kind: Any) -> str:
        if kind not in (TENSOR, ARRAY, NUMBER):
            return code.name(kind.value)
        i, n = next(outputs)
        value = f"hosts[{next(hosts)}]" if n.host else f"arrays[{i}]"
        return f"{code.name(Tensor)}({value})" if kind == TENSOR else value

    returned = text_of(mapped(result, form), code)
    return define("finish", "arrays, hosts", [*leaving(program, code), f"return {returned}"], code)
