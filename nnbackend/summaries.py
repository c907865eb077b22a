"""summary: the layers of a model with their shapes, parameters, memory and multiply-adds, as a table."""

from __future__ import annotations

import contextlib
import html
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from .backend import CPU, FLOATING, backend_of, is_array
from .cells import Cell, Parameter, Scalar
from .creation import asarray, tensor
from .grad_mode import no_grad
from .nn import Module
from .random import generator, key_source
from .recorder import Between
from .tensor import Tensor
from .training_mode import evaluating
from .tree import leaves

Shape: TypeAlias = tuple[int, ...]
WIDEST = 56  # characters of a layer's name and settings in the table


# -- counting ---------------------------------------------------------------------------------------------------------


def _size(x: Any) -> int:
    return math.prod(getattr(x, "shape", (0,)))


def _steps(x: Any, *weights: Any) -> int:
    """Each step of each sequence meets each weight once."""
    return int(math.prod(x.shape[:2])) * sum(map(_size, weights))


def _normalised(y: Any, x: Any, weight: Any = None, *_: Any, **__: Any) -> int:
    return _size(y) * (2 + (weight is not None))


# By the name of the op: from its value, its arguments and its settings. All others count as 0.
MULTIPLY_ADDS: dict[str, Callable[..., int]] = {
    "matmul": lambda y, a, b: _size(y) * a.shape[-1],
    "linear": lambda y, x, w, b=None: _size(x) * w.shape[0],
    "vecdot": lambda y, a, b, axis=-1: _size(y) * max(a.shape[axis], b.shape[axis]),
    "conv": lambda y, x, w, *_, **__: _size(y) * math.prod(w.shape[1:]),
    "conv_transpose": lambda y, x, w, *_, **__: _size(x) * math.prod(w.shape[1:]),
    "rnn": lambda y, x, h, w, u, *_, **__: _steps(x, w, u),
    "gru": lambda y, x, h, w, u, *_, **__: _steps(x, w, u),
    "lstm": lambda y, x, h, c, w, u, b=None, d=None, p=None, **__: _steps(x, w, u, p),
    "scaled_dot_product_attention": lambda y, q, k, v, *_, **__: (
        math.prod(y.shape[:-1]) * k.shape[-2] * (q.shape[-1] + v.shape[-1])
    ),
    "attention_weights": lambda y, q, *_, **__: _size(y) * q.shape[-1],
    **dict.fromkeys(("layer_norm", "rms_norm", "group_norm", "batch_norm", "instance_norm"), _normalised),
    **dict.fromkeys(("multiply", "divide", "square"), lambda y, *_: _size(y)),
}
VIEWS = {
    "reshape", "permute_dims", "matrix_transpose", "moveaxis", "broadcast_to", "expand_dims", "squeeze", "unstack",
    "split", "getitem", "alias",
}  # fmt: skip


@dataclass
class Row:
    """A call of a layer, with all that is below it; in a summary without an example, a layer.

    A parameter is counted in the first row that has it: `parameters` is 0 in a second call of a layer.
    """

    path: str
    layer: str  # its class and settings
    depth: int
    inputs: list[Shape] = field(default_factory=list)
    outputs: list[Shape] = field(default_factory=list)
    called: bool = False
    trainable: int = 0
    frozen: int = 0
    parameter_bytes: int = 0
    buffer_bytes: int = 0
    activation_bytes: int = 0
    multiply_adds: int = 0
    shared: bool = False  # some of its parameters are counted in a row before

    @property
    def parameters(self) -> int:
        """Trainable and frozen ones."""
        return self.trainable + self.frozen


class _Watch(Between):
    """Sees the calls of layers and the ops in them. What the run writes to cells is seen in this run only."""

    def __init__(self, net: Module) -> None:
        super().__init__()
        self.paths = {id(module): path for path, module in net.named_modules()}
        self.calls: list[tuple[Row, Module]] = []
        self.open: list[tuple[Row, Module]] = []
        self.now: dict[Any, Any] = {}
        self.gradients: dict[Any, Any] = {}
        self.written: dict[Cell, int] = {}

    # -- layers
    @contextlib.contextmanager
    def scope(self, owner: Any) -> Iterator[None]:
        """A layer at work."""
        row = _row(self.paths.get(id(owner), owner.path), owner, len(self.open))
        row.called = True
        self.calls.append((row, owner))
        self.open.append((row, owner))
        try:
            yield
        finally:
            self.open.pop()

    def called(self, module: Module, given: Any, y: Any) -> None:
        """A layer of `nn` that is one tensor's function holds that tensor; what else it made is gone, or was a view."""
        row = self.open[-1][0]
        row.inputs, row.outputs = _shapes(given), _shapes(y)
        if is_array(y) and row is self.calls[-1][0] and type(module).__module__.startswith("nnbackend.nn."):
            self._add(activation_bytes=min(0, _bytes(y) - row.activation_bytes))

    # -- ops
    def operands(self, args: tuple[Any, ...], raw: list[Any]) -> list[Any]:
        """They are counted when the result is known."""
        self.raw = raw
        return self.behind.operands(args, raw)  # type: ignore[no-any-return]

    def known(self, x: Any) -> Any:
        """The settings of an op come after its operands."""
        self.settings = x
        return self.behind.known(x)

    def result(self, op: Callable[..., Any], y: Any) -> None:
        """An op at work."""
        results = y if isinstance(y, tuple) else (y,)
        count = MULTIPLY_ADDS.get(op.__name__)
        self._add(
            multiply_adds=count(results[0], *self.raw, **self.settings) if count else 0,
            activation_bytes=0 if op.__name__ in VIEWS else sum(map(_bytes, results)),
        )
        self.behind.result(op, y)

    def _add(self, **counts: int) -> None:
        for row, _ in self.open:
            for name, n in counts.items():
                setattr(row, name, getattr(row, name) + n)

    # -- state
    def read(self, cell: Any) -> Any:
        """A copy, which may be written to."""
        if cell not in self.now:
            now = self.behind.read(cell)
            self.now[cell] = now if isinstance(cell, Scalar) else backend_of(now).copy(now)
            if isinstance(cell, Cell):
                self.written[cell] = cell.written
        return self.now[cell]

    def write(self, cell: Any, value: Any) -> None:
        """Seen in this run only."""
        self.now[cell] = value

    def read_grad(self, parameter: Any) -> Any:
        """A copy, too."""
        if parameter not in self.gradients:
            g = self.behind.read_grad(parameter)
            self.gradients[parameter] = None if g is None else backend_of(g).copy(g)
        return self.gradients[parameter]

    def write_grad(self, parameter: Any, value: Any) -> None:
        """Seen in this run only."""
        self.gradients[parameter] = value

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        for cell, time in self.written.items():
            cell.written = time


def _shapes(nest: Any) -> list[Shape]:
    return [tuple(x.shape) for x in leaves(nest) if is_array(x)]


def _bytes(x: Any) -> int:
    return _size(x) * int(backend_of(x).canonical(x.dtype).itemsize)


# -- examples ---------------------------------------------------------------------------------------------------------


def _run(net: Module, example: Any) -> list[tuple[Row, Module]]:
    """The calls of layers, each before those inside it."""
    floats = [cell for cell in (*net.parameters(), *net.buffers()) if cell.dtype in FLOATING]
    device, dtype = (floats[0].device, floats[0].dtype) if floats else (CPU, "float32")

    def given(x: Any) -> Any:
        if _is_shape(x):
            x = generator(0).standard_normal(tuple(x))
        elif isinstance(x, tuple):
            return tuple(map(given, x))
        elif isinstance(x, dict):
            return {name: given(part) for name, part in x.items()}
        elif not (is_array(x) or isinstance(x, list) or hasattr(x, "to_numpy")):
            return x
        x = x.to_numpy() if not is_array(x) and hasattr(x, "to_numpy") else x
        t = asarray(x).detach() if is_array(x) else tensor(x)
        return t.to(device, dtype if t.dtype in FLOATING else None)

    inputs, watch = given(example), _Watch(net)
    if not isinstance(inputs, tuple | dict | Tensor):
        raise TypeError(
            "summary: expected as example an array, a shape such as (32, 784), or several of them as a tuple or a "
            f"dict, got {type(example).__name__}."
        )
    keys = key_source.set(lambda: 0)
    try:
        with no_grad(), evaluating(), watch:
            if isinstance(inputs, dict):
                net(**inputs)
            else:
                net(*inputs) if isinstance(inputs, tuple) else net(inputs)
    finally:
        key_source.reset(keys)
    return watch.calls


def _is_shape(x: Any) -> bool:
    if not isinstance(x, tuple) or not x or any(type(n) is not int and n is not None for n in x):
        return False
    if None in x or min(x) < 0:
        raise ValueError(f"summary: expected a shape of whole numbers from 0 up, got {x}.")
    return True


def _with_uncalled(net: Module, calls: list[tuple[Row, Module]]) -> list[tuple[Row, Module]]:
    """Also the layers that hold something and have not been called themselves, where they belong."""
    rows, seen = list(calls), {id(module) for _, module in calls}
    for path, module in net.named_modules():
        if id(module) not in seen and any(isinstance(value, Cell) for value in vars(module).values()):
            outer = [row for row, _ in calls if not row.path or path.startswith(f"{row.path}.")]
            above = max(outer, key=lambda row: len(row.path))
            at = next(i for i, (row, _) in enumerate(rows) if row is above) + 1
            while at < len(rows) and rows[at][0].depth > above.depth:
                at += 1
            rows.insert(at, (_row(path, module, above.depth + 1), module))
    return rows


def _count_cells(rows: list[tuple[Row, Module]]) -> None:
    """Parameters and buffers of each row, without those that a row before, which is not around this one, has."""
    counted: set[int] = set()
    for row, module in rows:
        cells: list[Cell] = [*module.parameters(), *module.buffers()]
        row.shared = any(id(cell) in counted for cell in cells)
        for cell in cells:
            if id(cell) in counted:
                continue
            if isinstance(cell, Parameter):
                row.parameter_bytes += _bytes(cell)
                row.trainable += _size(cell) * cell.requires_grad
                row.frozen += _size(cell) * (not cell.requires_grad)
            else:
                row.buffer_bytes += _bytes(cell)
        counted.update(id(value) for value in vars(module).values() if isinstance(value, Cell))


def _row(path: str, module: Any, depth: int) -> Row:
    name = type(module).__name__
    return Row(path, name if any(module.children()) else f"{name}({module.extra_repr()})", depth)


# -- the table --------------------------------------------------------------------------------------------------------


class Summary:
    """What `summary` found: `rows`, and totals by the names that rows have. Prints as a table, in notebooks as HTML."""

    def __init__(self, rows: list[Row], depth: int | None = None) -> None:
        self.rows, self.depth = rows, depth

    def __getattr__(self, name: str) -> Any:
        """Totals are those of the outermost layer."""
        if name in _TOTALS:
            return getattr(self.rows[0], name)
        raise AttributeError(f"Summary: expected rows, {', '.join(_TOTALS)}, got {name!r}.")

    def table(self) -> list[list[str]]:
        """The cells of the table, headings first."""
        heads = ["layer", "input", "output", "parameters", "activations", "multiply-adds"]
        ran, lines, above = self.rows[0].called, [heads], [""]
        for row in self.rows:
            del above[row.depth + 1 :]
            above.append(row.path)
            if self.depth is not None and row.depth > self.depth:
                continue
            outer = above[row.depth]
            name = row.path.removeprefix(f"{outer}.") if outer else row.path
            text = f"{name}: {row.layer}" if name else row.layer
            text = "  " * row.depth + (text if len(text) <= WIDEST else f"{text[: WIDEST - 1]}…")
            counts = [f"{row.parameters:,}" + "*" * row.shared]
            if ran:
                counts += [_memory(row.activation_bytes), f"{row.multiply_adds:,}"] if row.called else ["", ""]
            lines.append([text, *([_shown(row.inputs), _shown(row.outputs)] if ran else []), *counts])
        return lines if ran else [[heads[0], heads[3]], *lines[1:]]

    def totals(self) -> list[tuple[str, str]]:
        """The lines below the table."""
        whole = self.rows[0]
        frozen = f", {whole.frozen:,} of them frozen" * bool(whole.frozen)
        lines = [("parameters", f"{whole.parameters:,} ({_memory(whole.parameter_bytes)}){frozen}")]
        if whole.buffer_bytes:
            lines.append(("buffers", _memory(whole.buffer_bytes)))
        if whole.called:
            lines.append(("activations", _memory(whole.activation_bytes)))
            lines.append(("multiply-adds", f"{whole.multiply_adds:,}"))
        if any(row.shared for row in self.rows):
            lines.append(("* shared", "counted in the first row that has the parameters"))
        return lines

    def __str__(self) -> str:
        lines = self.table()
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        left = 3 if self.rows[0].called else 1
        page = []
        for line in lines:
            cells = [c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))]
            page.append("  ".join(cells).rstrip())
        page.insert(1, "-" * max(map(len, page)))
        page.append(page[1])
        page += [f"{name:<15}{text}" for name, text in self.totals()]
        return "\n".join(page)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """For notebooks."""
        left = 3 if self.rows[0].called else 1
        heads, *lines = self.table()

        def cells(tag: str, line: list[str]) -> str:
            sides = ["left" if i < left else "right" for i in range(len(line))]
            texts = (html.escape(text).replace("  ", "&emsp;") for text in line)
            return "".join(f'<{tag} style="text-align:{s}">{t}</{tag}>' for s, t in zip(sides, texts, strict=True))

        body = "".join(f"<tr>{cells('td', line)}</tr>" for line in lines)
        below = "<br>".join(": ".join(line) for line in self.totals())
        return f"<table><thead><tr>{cells('th', heads)}</tr></thead><tbody>{body}</tbody></table><p>{below}</p>"


_TOTALS = (
    "parameters", "trainable", "frozen", "parameter_bytes", "buffer_bytes", "activation_bytes", "multiply_adds",
)  # fmt: skip


def _shown(shapes: list[Shape]) -> str:
    return ", ".join(map(str, shapes))


def _memory(n: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if n >= size:
            return f"{n / size:.1f} {unit}"
    return f"{n} B"


def summary(net: Module, example: Any = None, depth: int | None = None) -> Summary:
    """The layers of `net`: shapes, parameters, memory and multiply-adds of a forward pass on `example`.

    `example` is an array, or a shape such as `(32, 784)` for random numbers, or several inputs: a tuple for
    `net(*inputs)`, a dict for `net(**inputs)`. Without one there are parameters only. Layers nested deeper than `depth`
    are left out of the table. `net` runs in evaluation mode; neither its state nor its modes change.

    A tied parameter counts once, a layer's calls each. Multiply-adds are multiplications, each with the addition that
    may follow: of matrix products and convolutions (padding and masked places included, biases not), recurrent layers'
    products, attention's two products; per element 2 in normalisation by the batch or sample, 1 more for a weight, and
    1 in element-wise products and quotients. Activation functions, sums, pooling and all else count as 0.
    Activations are the bytes of the results of ops, views aside: about what training on this batch holds.
    """
    if not isinstance(net, Module):
        raise TypeError(f"summary: expected a module, got {type(net).__name__}.")
    if depth is not None and (type(depth) is not int or depth < 0):
        raise ValueError(f"summary: expected depth as a whole number from 0 up, or None, got {depth!r}.")
    if example is None:
        rows = [(_row(path, m, path.count(".") + bool(path)), m) for path, m in net.named_modules()]
    else:
        rows = _with_uncalled(net, _run(net, example))
    _count_cells(rows)
    return Summary([row for row, _ in rows], depth)


__all__ = ["Row", "Summary", "summary"]
