"""Running a function a second time as if it were the first: same contents of cells, same random numbers.

Each run stands before the recorder. The first sees which Tensors from outside are used and what the cells held that it
writes to; the second gives these contents, and what it writes goes nowhere.
"""

from __future__ import annotations

from typing import Any
from weakref import ref

from .backend import backend_of
from .cells import Parameter, Scalar
from .errors import GraphError, InplaceError
from .random import key_source
from .recorder import Between
from .tape import TENSORS, clock


class Run(Between):
    """A run, as a context manager."""

    def __init__(self) -> None:
        super().__init__()
        self.began = clock()

    def __enter__(self) -> None:
        super().__enter__()
        self._outer = key_source.set(self.key)

    def __exit__(self, *error: object) -> None:
        key_source.reset(self._outer)
        super().__exit__(*error)

    def history(self, results: list[Any]) -> dict[int, Any]:
        """The places of those that have a history in this run, with their shapes and dtypes."""
        return {
            i: (t.shape, t.dtype)
            for i, t in enumerate(results)
            if t.__class__ in TENSORS and t.requires_grad and t.node is not None and t.node[0] > self.began
        }


class First(Run):
    """`used` are the Tensors from outside that want a gradient, by id. Those given to it may change."""

    def __init__(self, used: dict[int, Any]) -> None:
        super().__init__()
        self.used = used
        self.seen: list[ref[Any]] = []  # Tensors that must stay, as far as they outlive the run
        self.before: dict[Any, Any] = {}  # what cells held
        self.written: dict[Any, int] = {}
        self.modes: dict[Any, bool] = {}
        self.keys: list[int] = []
        self._source = key_source.get()

    def operands(self, args: tuple[Any, ...], raw: list[Any]) -> Any:
        """Those from outside are older than the run."""
        for t in args:
            if t.__class__ in TENSORS and id(t) not in self.used and (t.node is None or t.node[0] < self.began):
                self.seen.append(ref(t))
                if t.requires_grad:
                    self.used[id(t)] = t
        return self.behind.operands(args, raw)

    def read(self, cell: Any) -> Any:
        """Parameters may be large and are not copied."""
        now = self.behind.read(cell)
        if cell not in self.before:
            self.before[cell] = now if isinstance(cell, Scalar | Parameter) else backend_of(now).copy(now)
            self.written[cell] = getattr(cell, "written", 0)
        return now

    def write(self, cell: Any, value: Any) -> None:
        """A number."""
        self.read(cell)
        self.behind.write(cell, value)

    def watch(self, module: Any) -> None:
        """Its mode matters."""
        self.modes[module] = module._training
        self.behind.watch(module)

    def key(self) -> int:
        """A fresh one."""
        self.keys.append(self._source())
        return self.keys[-1]

    def over(self) -> int:
        """When that is. GraphError if a parameter was written to; cells that were not are forgotten."""
        for cell, time in self.written.items():
            if not isinstance(cell, Scalar) and cell.written == time:
                del self.before[cell]
            elif isinstance(cell, Parameter):
                raise GraphError(f"checkpoint: expected {cell.name or 'a parameter'} to stay, got it changed in place.")
        return clock()


class Second(Run):
    """InplaceError if something that the `first` run used, over at `time`, has changed since; GraphError for modes."""

    def __init__(self, first: First, time: int) -> None:
        super().__init__()
        for t in (r() for r in first.seen):
            if t is not None and t not in first.before and max(t.written, t.node[0] if t.node else 0) > time:
                raise InplaceError(
                    f"checkpoint: expected {getattr(t, 'name', '') or 'a tensor'} as the first run used it, got it "
                    "changed in place since. Run backward before changing it, or use .clone() in the forward."
                )
        for module, mode in first.modes.items():
            if module._training != mode:
                raise GraphError(
                    f"checkpoint: expected {module.path or type(module).__name__} in the mode of the first run, "
                    f"got training={module._training}. Run backward before changing it."
                )
        self.key = iter(first.keys).__next__
        self.now = {c: x if isinstance(c, Scalar) else backend_of(x).copy(x) for c, x in first.before.items()}
        self.written = {c: c.written for c in self.now if not isinstance(c, Scalar)}

    def read(self, cell: Any) -> Any:
        """What it held then."""
        return self.now[cell] if cell in self.now else self.behind.read(cell)

    def write(self, cell: Any, value: Any) -> None:
        """Seen in this run only."""
        self.now[cell] = value

    def check(self, *test: Any) -> None:
        """It has passed in the first run."""

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        for cell, time in self.written.items():
            cell.written = time
