"""What the rules look at: some rows of the data, and what copies of the net and the optimizer make of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ...backend import CPU, NUMPY, HostArray, gather, to_host
from ...data.loader import bounded
from ...errors import ShapeError
from ...nn import Module
from ...tensor import Tensor
from ...tree import leaves, mapped
from ..edge import Edge
from .probe import Probe, probed

ROWS, ELEMENTS = 1000, 1 << 20  # the most that is looked at
LEAST, MOST = 32, 128  # rows for the net where a batch has less or more


@dataclass
class Facts:
    """What is known of a trainer and its data."""

    net: Module
    optimizer: Any
    scheduled: bool
    batch_size: int | None
    weighted: bool
    rows: int = 0
    inputs: dict[str, HostArray] = field(default_factory=dict)
    targets: list[HostArray] = field(default_factory=list)
    probe: Probe = field(default_factory=Probe)

    @property
    def trainable(self) -> bool:
        """Whether any parameter is to change."""
        return any(p.requires_grad for p in self.net.parameters())


def gathered(trainer: Any, X: Any, y: Any, batch_size: int | None, weight: Any) -> Facts:
    """The facts of a trainer that is about to be fitted to these arrays. Nothing of it changes."""
    facts = Facts(trainer.net, trainer.optimizer, trainer.schedule is not None, batch_size, weight is not None)
    edge: Edge = trainer._edge
    if y is None:  # batches from elsewhere
        return facts
    try:
        x = _tensors(X, edge.inputs)
        t = _tensors(y, edge.targets)
        w = None if weight is None else _tensors(weight, edge.weights)
        arrays = [*leaves((x, t)), *([] if w is None else [w])]
        facts.rows = n = arrays[0].shape[0]
        if any(a.shape[0] != n for a in arrays):
            raise ShapeError(f"fit: expected as many targets as rows, got {[a.shape[0] for a in arrays]}.")
        width = max(1, sum(a.size for a in arrays) // n)
        rows = min(n, ROWS, max(LEAST, ELEMENTS // width))
        x, t, w = (mapped(lambda a: a if a is None else _some(a, rows), part) for part in (x, t, w))
        facts.inputs = {name: to_host(a.data) for name, a in _named("X", x)}
        facts.targets = [to_host(a.data) for a in leaves(t)]
        if facts.trainable and not trainer._own():
            few = max(min(LEAST, ELEMENTS // width), min(batch_size or n, MOST))
            x, t, w = (mapped(lambda a: a if a is None else _some(a, few), part) for part in (x, t, w))
            x, t = edge.inputs(x, check=False), edge.targets(t, check=False)
            weights = () if w is None else (edge.moved(w, False),)
            alone = n > 1 and bool(batch_size) and (batch_size == 1 or n % batch_size == 1)
            facts.probe = probed(trainer, x, t, weights, dict(_named("X", x)), alone)
    except Exception as error:
        facts.probe = Probe(error=error.with_traceback(None), where="data")
    return facts


def _tensors(data: Any, brought: Any) -> Any:
    """The data as it is, when it has been looked at."""
    if all(isinstance(leaf, Tensor) for leaf in leaves(data)):
        return data
    return brought(data, stay=True)


def _named(name: str, nest: Any) -> Iterator[tuple[str, Tensor]]:
    if isinstance(nest, Tensor):
        yield name, nest
        return
    for key, part in nest.items() if isinstance(nest, dict) else enumerate(nest):
        yield from _named(f"{name}[{key!r}]", part)


def _some(t: Tensor, rows: int) -> Tensor:
    """One row of each of so many stretches, not always in the same place: data may be sorted, or repeat itself."""
    n, xp = t.shape[0], NUMPY.xp
    if rows >= n:
        return t
    i = xp.arange(rows)
    order = ((i + i * 0.6180339887498949 % 1.0) * (n / rows)).astype(xp.int64)
    return bounded(Tensor(gather(t.data, order if t.device == CPU else t.device.put(order))), t)
