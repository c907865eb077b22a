"""Averages of the weights over the steps; of parameters alone, for batch norm there is `nn.utils.update_bn`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

from ..backend import Array, namespace
from ..cells import Parameter, Scalar
from ..errors import NotFittedError
from ..recorder import at_work
from ..tape import clock
from ..tensor import Tensor
from .flat import Run, Start
from .group import ParamGroup
from .limits import Limit, fraction
from .state import ParameterState

__all__ = ["EMA", "SWA"]


class _Average(ParameterState):
    """Of the weights. A subclass says how large the `share` of new values is. Averages of float16 are in float32."""

    def __init__(self, params: Iterable[Any], **settings: Any) -> None:
        super().__init__(params, **settings)
        self._applied = Scalar(0, "applied")

    def share(self, group: ParamGroup, t: Any) -> Any:
        """That of the t-th values in the average, t = 1, 2, ...; of the first it is 1."""
        raise TypeError(f"{type(self).__name__}: expected a share method in the class.")

    def update(self) -> None:
        """Take the weights as they are now into the average, which begins as a copy of them."""
        at_work(self, self._update)

    def apply(self) -> None:
        """Put the averages into the parameters. NotFittedError before the first `update`."""
        self._not_applied("apply")
        self._put(self._averaged("apply"))

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the parameters hold the averages; afterwards, exactly what they held before."""
        self._not_applied("applied")
        runs = self._averaged("applied")
        kept = [(p, Tensor(p.data).clone()) for run in runs for p in run.parameters]
        self._applied.value = 1
        try:
            self._put(runs)
            yield
        finally:
            self._applied.value = 0
            for p, w in kept:
                p.assign(w.to(p.device))

    def slots(self, group: ParamGroup, p: Parameter) -> Mapping[str, Start]:
        """The average."""
        return {"average": 0.0}

    def _update(self) -> None:
        self._not_applied("update")
        self._ready()
        for group, run in self._runs:
            t = run.steps.value + 1
            run.steps.value = t
            average = run.slots["average"].data
            average += self.share(group, t) * (_as(run.weights(), average) - average)

    def _averaged(self, method: str) -> list[Run]:
        self._ready()
        runs = [run for _, run in self._runs if run.steps.value]
        if not runs:
            kind = type(self).__name__
            raise NotFittedError(
                f"{kind}.{method}: expected an average, got none. Call {kind}.update() after each step."
            )
        return runs

    def _put(self, runs: list[Run]) -> None:
        now = clock()
        for run in runs:
            w = run.weights()
            w[...] = _as(run.slots["average"].data, w)
            for p in run.parameters:
                p.written = now

    def _not_applied(self, method: str) -> None:
        if self._applied.value:
            kind = type(self).__name__
            raise ValueError(f"{kind}.{method}: expected the weights themselves, got averages. Leave applied() first.")


class EMA(_Average):
    """The exponential moving average: after each `update()`, average += (1 - decay) * (weights - average)."""

    limits: ClassVar[Mapping[str, Limit]] = {"decay": fraction}

    def __init__(self, params: Iterable[Any], decay: float = 0.999) -> None:
        super().__init__(params, decay=decay)

    def share(self, group: ParamGroup, t: Any) -> Any:
        """1, then 1 - decay."""
        return 1.0 - group["decay"] * (t > 1)


class SWA(_Average):
    """The mean of the weights at all calls of `update()` (Izmailov et al. 2018), say once per epoch at the end."""

    def __init__(self, params: Iterable[Any]) -> None:
        super().__init__(params)

    def share(self, group: ParamGroup, t: Any) -> Any:
        """1 / t."""
        return 1.0 / t


def _as(x: Array, like: Array) -> Array:
    return x if x.dtype == like.dtype else namespace(x).astype(x, like.dtype)
