"""A look at a model: its outputs, its loss and metrics on all rows of some data, in evaluation mode."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..backend import CPU, NUMPY, backend_of, device, is_array, to_host
from ..data.loader import concatenated
from ..grad_mode import no_grad
from ..metrics import Metric, metric, takes_weight
from ..nn import evaluating
from ..tensor import Tensor
from ..tree import filled, leaves, mapped
from .edge import nested
from .feed import Batch, Rows, Stream
from .history import Row
from .objective import Objective

Feed = Rows | Stream


def metrics_of(given: Any, objective: Objective) -> dict[str, Metric]:
    """What to measure, by the name it has in reports.

    One or several for the only output; a dict by the name or place of outputs, `{"class": ["accuracy"]}`.
    """
    named: list[tuple[str, Metric]] = []
    if not isinstance(given, Mapping):
        named = [metric(spec, **objective.outputs()) for spec in several(given)]
    else:
        for key, specs in given.items():
            for spec in several(specs):
                name, fn = metric(spec, **objective.outputs(key))
                named.append((f"{key}_{name}", OfOutput(key, fn)))
    if len(found := dict(named)) < len(named):
        raise ValueError(f"metrics: expected a different name for each, got {', '.join(name for name, _ in named)}.")
    return found


def several(given: Any) -> list[Any]:
    """Metrics that were given in a list, alone, or not at all."""
    return [given] if isinstance(given, str) or callable(given) else list(given or ())


class OfOutput:
    """A metric of one of several outputs."""

    def __init__(self, key: Any, metric: Metric) -> None:
        self.key, self.metric = key, metric

    def __call__(self, output: Any, target: Any, **weight: Any) -> Any:
        """Of the output and the target of that name, or at that place."""
        return self.metric(output[self.key], target[self.key], **weight)


def measured(
    forward: Callable[..., Any],
    objective: Objective,
    metrics: Mapping[str, Metric],
    feed: Feed,
    batch_size: int,
    loss: bool = True,
) -> Row:
    """Loss, if asked for, and metrics over all rows; read from the device at the end.

    Of data that is not on the device as a whole the loss is added up batch by batch; only what metrics need is kept.
    """
    kept: list[Batch] = []
    losses: list[Any] = []
    streamed = isinstance(feed, Stream) or not feed.resident
    values: dict[str, Any] = {}
    with no_grad(), evaluating():
        for x, *rest in feed.in_order(batch_size):
            output = called(forward, x)
            if streamed and loss:
                losses.append((_losses(objective, output, rest), _rows(rest)))
            if metrics or not streamed:
                kept.append((output, *rest))
        if kept:
            output, target, *weight = joined(kept)
        if len(losses) == 1:
            values = losses[0][0]
        elif losses:
            total = sum(n for _, n in losses)
            values = {name: sum(part[name] * n for part, n in losses) / total for name in losses[0][0]}
        elif loss:
            values = _losses(objective, output, [target, *weight])
        for name, fn in metrics.items():
            weighted = weight and takes_weight(fn.metric if isinstance(fn, OfOutput) else fn)
            values[name] = fn(output, target, weight=weight[0]) if weighted else fn(output, target)
    return {name: float(value) for name, value in values.items()}


def predicted(forward: Callable[..., Any], rows: Rows, X: Any) -> Any:
    """The outputs for all rows of X: Tensors for Tensors, else arrays of the kind of X."""
    first = next(leaves(X if nested(X) is not None else (X,)))
    with no_grad(), evaluating():
        outputs = (called(forward, x) for (x,) in rows)
        if isinstance(first, Tensor):
            return joined(list(outputs))
        if not rows.resident:  # what is too much for the device may give too much for it
            outputs = (mapped(lambda t: t.to(CPU), output) for output in outputs)
        return mapped(lambda t: like(first, t), joined(list(outputs)))


def _losses(objective: Objective, output: Any, rest: list[Any]) -> dict[str, Any]:
    """The loss, and those of the outputs where there are several."""
    target, *weight = rest
    whole = {"loss": objective(output, target, *weight)}
    if objective.only is None:
        whole.update((f"{key}_loss", part) for key, part in objective.parts(output, target, *weight).items())
    return whole


def _rows(rest: list[Any]) -> int:
    """How many rows there are in a batch."""
    return len(next(leaves(rest)))


def called(net: Callable[..., Any], x: Any) -> Any:
    """The outputs for one input, for a tuple of inputs, or for inputs by name."""
    return net(x) if isinstance(x, Tensor) else net(**x) if isinstance(x, Mapping) else net(*x)


def joined(parts: list[Any]) -> Any:
    """Nests of batches as one nest of all rows."""
    if len(parts) == 1:
        return parts[0]
    columns: Iterator[Any] = zip(*map(leaves, parts), strict=True)
    return filled(parts[0], (concatenated(list(column)) for column in columns))


def like(x: Any, t: Tensor) -> Any:
    """Results for those who do not use Tensors: of the library of `x` and on its device, else of NumPy."""
    if is_array(x) and backend_of(x) is not NUMPY:
        return t.to(device(x)).data
    return to_host(t.data).copy()
