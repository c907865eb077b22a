"""From a group to CUDA: one kernel, with a line for each step. Its text knows no sizes, so that many groups share it.

A kernel without reductions gives each thread `together` elements side by side. One with reductions gives each result
`lanes` threads, which take turns, and then adds up what they have in a fixed order. Threads side by side take elements
side by side: of one result, if the last axis is reduced ("rows"), or of results side by side ("columns").
"""

from __future__ import annotations

from typing import NamedTuple

from ..base import DTYPES
from ..kernels import BLOCK, source
from .group import Constant, Reduction, Step
from .ops import MEMORY, REGISTER, expression, kind

WORDS = ("key", "site", "step", "rank")
ACCUMULATED = {"float16": "float32"}  # reductions are made in this dtype
HOW = {"sum": "Sum", "mean": "Sum", "prod": "Prod", "max": "Max", "min": "Min"}


class Kernel(NamedTuple):
    """All that its text depends on. Axes that lie together in memory are one.

    `layouts` say of each axis how far apart neighbours are: 0 if they are the same element, 1 if side by side, None if
    an argument says it. The first is that of the group itself; `inputs` name theirs by number. `aligned` says of each
    output whether it begins at 16 bytes; `stored` are the dtypes of the results of the reductions.
    """

    reduced: tuple[bool, ...]
    together: int
    wide: bool
    layouts: tuple[tuple[int | None, ...], ...]
    inputs: tuple[tuple[str, int], ...]
    numbers: tuple[str, ...]
    steps: tuple[Step, ...]
    outputs: tuple[int, ...]
    aligned: tuple[bool, ...]
    reductions: tuple[Reduction, ...]
    stored: tuple[str, ...]

    def dtype(self, value: int) -> str:
        """That of a value; "float" or "int" for a number."""
        for part in ([dtype for dtype, _ in self.inputs], self.numbers):
            if value < len(part):
                return part[value]
            value -= len(part)
        return self.steps[value].dtype

    @property
    def first(self) -> int:
        """The first value that a step makes."""
        return len(self.inputs) + len(self.numbers)

    @property
    def columns(self) -> bool:
        """Whether threads side by side work on different results."""
        return not self.reduced[-1]

    def lengths(self, reduced: bool) -> list[int]:
        """The axes among these whose lengths are arguments: all but the first."""
        return [i for i, r in enumerate(self.reduced) if r == reduced][1:]

    def strides(self) -> list[tuple[int, int]]:
        """The layouts and axes whose strides are arguments."""
        used = self.used() if self.reductions else self.used() - {0}  # else that is the number of the thread
        return [(n, i) for n in sorted(used) for i, s in enumerate(self.layouts[n]) if s is None]

    def used(self) -> set[int]:
        """The layouts in which something is read or stored."""
        own = self.outputs or any(step.op == "uniform_like" for step in self.steps)
        return {layout for _, layout in self.inputs} | ({0} if own else set())

    def words(self) -> list[str]:
        """The parts of the addresses of random numbers that are arguments."""
        drawn = [(self.first + i, step) for i, step in enumerate(self.steps) if step.op == "uniform_like"]
        names = [(v, w) for v, step in drawn for w, x in zip(WORDS, step.operands, strict=False) if type(x) is Constant]
        return [f"{w}{v}{half}" for v, w in names for half in (("_low", "_high") if w == "key" else ("",))]


def named(k: Kernel) -> str:
    """What profilers show: what it does, in short."""
    ops = [step.op for step in k.steps] + [r.op for r in k.reductions]
    return f"fused_{'_'.join(dict.fromkeys(ops))}"[:60]


def written(k: Kernel) -> str:
    """The CUDA source."""
    body = _reduction(k) if k.reductions else _plain(k)
    lines = [f'extern "C" __global__ void {named(k)}({_parameters(k)}) {{', *("  " + line for line in body), "}"]
    return source("fusion.cuh") + "\n" + "\n".join(line.rstrip() for line in lines) + "\n"


def _parameters(k: Kernel) -> str:
    size = "i64" if k.wide else "int"
    parts = [f"const {MEMORY[dtype]}* a{n}" for n, (dtype, _) in enumerate(k.inputs)]
    parts += [f"{MEMORY[k.dtype(v)]}* y{n}" for n, v in enumerate(k.outputs)]
    parts += [f"{MEMORY[dtype]}* z{n}" for n, dtype in enumerate(k.stored)]
    for v, name in enumerate(k.numbers, len(k.inputs)):
        parts += [f"{REGISTER[name]} n{v}", f"const {REGISTER[name]}* p{v}"]
    parts += [f"u64 {name}" for name in k.words()]
    parts += [f"{size} {name}" for name in sizes(k)]
    return ", ".join(parts)


def sizes(k: Kernel) -> list[str]:
    """The names of the arguments that say how large everything is, in order."""
    names = ["results", "elements", "segments", "lanes", "slots"] if k.reductions else ["elements"]
    names += ["count"] if any(r.op == "mean" for r in k.reductions) else []
    names += [f"d{i}" for reduced in (False, True) for i in k.lengths(reduced)]
    return names + [f"s{n}_{i}" for n, i in k.strides()]


def _plain(k: Kernel) -> list[str]:
    size = "i64" if k.wide else "int"
    return [
        f"const {size} at0 = (({size})blockIdx.x * {BLOCK} + threadIdx.x) * {k.together};",
        "if (at0 >= elements) return;",
        *_numbers(k),
        *_places(k, "at0", False),
        *(f"const {size} at{n} = {_offset(k, n, False)};" for n in sorted(k.used() - {0})),
        *_elements(k, "elements - at0" if len(k.reduced) == 1 else str(k.together)),
    ]


def _reduction(k: Kernel) -> list[str]:
    size, n, m = "i64" if k.wide else "int", k.together, len(k.reductions)
    lane, slot = ("/ slots", "% slots") if k.columns else ("% lanes", "/ lanes")
    wide, deep = (n, 1) if k.columns else (1, n)  # results and elements of a thread at a time
    accumulated = [ACCUMULATED.get(dtype, dtype) for dtype in k.stored]
    kinds = [REGISTER[dtype] for dtype in accumulated]
    hows = [HOW[r.op] for r in k.reductions]
    lines = [
        f"const int lane = threadIdx.x {lane}, slot = threadIdx.x {slot};",
        f"const {size} segment = blockIdx.x % segments;",
        f"const {size} result = (blockIdx.x / segments * slots + slot) * {wide};",
        *_numbers(k),
        *_places(k, "result", False),
        *(f"const {size} from{i} = {_offset(k, i, False)};" for i in sorted(k.used())),
        *(f"Pack<{n}, {kinds[i]}> r{i} = none<{hows[i]}, {n}, {kinds[i]}>();" for i in range(m)),
        "if (result < results) {",
        *(["  #pragma unroll 4"] if not k.outputs else []),
        f"  for ({size} i = (segment * lanes + lane) * {deep}; i < elements; i += segments * lanes * {deep}) {{",
    ]
    inner = [
        *_places(k, "i", True),
        *(f"const {size} at{i} = from{i} + {_offset(k, i, True)};" for i in sorted(k.used())),
        *_elements(k, "elements - i" if len(k.reduced) == 1 and not k.columns else str(n)),
    ]
    lines += ["    " + line for line in inner] + ["  }", "}"]
    widest = "u64" if any(DTYPES[dtype].itemsize == 8 for dtype in accumulated) else "float"
    lines.append(f"__shared__ Pack<{wide}, {widest}> shared[{BLOCK}];")
    place = "segment * results + result + j" if k.columns else "result * segments + segment + j"
    for i, r in enumerate(k.reductions):
        pack = f"Pack<{wide}, {kinds[i]}>"
        got = f"r{i}" if k.columns else f"folded<{hows[i]}>(r{i})"
        value = f"t{i}[j] / ({kinds[i]})count" if r.op == "mean" else f"t{i}[j]"
        lines += [
            f"{pack} t{i} = across<{hows[i]}>({got}, ({pack}*)shared, lane, lanes, slot, slots);",
            "if (lane == 0 && result < results)",
            f"  for (int j = 0; j < {wide}; ++j) z{i}[{place}] = ({MEMORY[k.stored[i]]})({value});",
        ]
    return lines


def _numbers(k: Kernel) -> list[str]:
    """Numbers are given, or where they are, and so are the addresses of random numbers."""
    lines = [f"const {REGISTER[name]} v{v} = p{v} ? *p{v} : n{v};" for v, name in enumerate(k.numbers, len(k.inputs))]
    for v, step in enumerate(k.steps, k.first):
        if step.op == "uniform_like":
            at = {w: f"(u64)v{x}" if type(x) is int else f"{w}{v}" for w, x in zip(WORDS, step.operands, strict=False)}
            words = f"{{0, {at['site']}, {at['step']}, {at.get('rank', '0')}}}, {{key{v}_low, key{v}_high}}"
            lines.append(f"const Address address{v} = {{{words}}};")
    return lines


def _places(k: Kernel, index: str, reduced: bool) -> list[str]:
    """Where an index is along the axes of its kind: c0, c1, ..."""
    size, axes = "i64" if k.wide else "int", [i for i, r in enumerate(k.reduced) if r == reduced]
    lines, rest = [], index
    for i in reversed(axes[1:]):
        lines += [f"const {size} c{i} = {rest} % d{i}, q{i} = {rest} / d{i};"]
        rest = f"q{i}"
    return lines + [f"const {size} c{i} = {rest};" for i in axes[:1]]


def _offset(k: Kernel, layout: int, reduced: bool) -> str:
    """How far from the beginning the element is, as far as the axes of this kind say."""
    axes = [(i, s) for i, s in enumerate(k.layouts[layout]) if k.reduced[i] == reduced and s != 0]
    return " + ".join(f"c{i}" if s == 1 else f"c{i} * s{layout}_{i}" for i, s in axes) or "0"


def _elements(k: Kernel, left: str) -> list[str]:
    """What a thread does with its elements, of which `left` or more are there."""
    n, lines, body = k.together, [f"const i64 left = {left};"], []
    for v, (dtype, layout) in enumerate(k.inputs):
        apart, register = k.layouts[layout][-1], REGISTER[dtype]
        at = f"a{v} + at{layout}"
        if apart == 0:
            lines.append(f"const {register} v{v} = *({at});")
            continue
        load = f"load<{n}>({at}, left)" if apart == 1 else f"load<{n}>({at}, left, s{layout}_{len(k.reduced) - 1})"
        lines.append(f"Pack<{n}, {MEMORY[dtype]}> x{v} = {load};")
        body.append(f"const {register} v{v} = x{v}[j];")
    lines += [f"Pack<{n}, {MEMORY[k.dtype(v)]}> w{i};" for i, v in enumerate(k.outputs)]
    for v, step in enumerate(k.steps, k.first):
        if step.op == "uniform_like":
            lines.append(f"Pack<{n}, {MEMORY[step.dtype]}> x{v} = uniform<{n}, {MEMORY[step.dtype]}>(address{v}, at0);")
            text = f"x{v}[j]"
        else:
            text = expression(step.op, [_operand(k, x) for x in step.operands], step.dtype)
        body.append(f"const {REGISTER[step.dtype]} v{v} = {text};")
    body += [f"w{i}[j] = v{v};" for i, v in enumerate(k.outputs)]
    guard = "if (j < left) " if "-" in left and k.reductions else ""
    for i, (r, dtype) in enumerate(zip(k.reductions, k.stored, strict=True)):
        c = REGISTER[ACCUMULATED.get(dtype, dtype)]
        body.append(f"{guard}r{i}[j] = {HOW[r.op]}::of(r{i}[j], ({c})v{r.value});")
    lines += ["#pragma unroll", f"for (int j = 0; j < {n}; ++j) {{", *("  " + line for line in body), "}"]
    stores = ["store" if aligned else "store_apart" for aligned in k.aligned]
    return lines + [f"{store}(y{i} + at0, w{i}, left);" for i, store in enumerate(stores)]


def _operand(k: Kernel, x: int | Constant) -> tuple[str, str | Constant]:
    return kind(x, k.dtype), x if isinstance(x, Constant) else f"v{x}"
