"""Loss scaling for float16, whose smallest gradients would otherwise be 0."""

from __future__ import annotations

from typing import Any

from ..backend import backend_of, dtype_name, namespace
from ..cells import Scalar, gradients_of
from ..errors import GraphError, IncompatibleCheckpointError
from ..tensor import Tensor
from .flat import NARROW, wide
from .group import ParamGroup
from .limits import above_one, inner_fraction, natural, positive
from .optimizer import Optimizer

__all__ = ["GradScaler"]

LARGEST = 3.4028234663852886e38  # of float32: no scale grows beyond


class GradScaler:
    """Scales the loss, and so all gradients, as much as goes without overflow (Micikevicius et al. 2018).

    For models whose weights are float16; float32 ones with `nb.device("cuda", precision="float16")` need none of this.
    `scaler.scale(loss).backward(); scaler.step(optimizer); scaler.update()`. A step with gradients that are not finite
    is left out, and the scale shrinks by `backoff_factor`; after `growth_interval` good steps it grows by
    `growth_factor`. Each step waits for one value, so in a recorded step only `scale` has a place: compile all up to
    backward().
    """

    def __init__(
        self,
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ) -> None:
        self.enabled = enabled
        self.settings = ParamGroup(
            [],
            {
                "scale": init_scale,
                "growth_factor": growth_factor,
                "backoff_factor": backoff_factor,
                "growth_interval": growth_interval,
            },
            {
                "scale": positive,
                "growth_factor": above_one,
                "backoff_factor": inner_fraction,
                "growth_interval": natural,
            },
        )
        self._good = Scalar(0, "good steps")
        self._overflown: dict[Optimizer, bool] = {}  # those unscaled since the last update
        self._stepped: set[Optimizer] = set()

    def scale(self, outputs: Any) -> Any:
        """The loss, or losses in a list or tuple, times the scale; float16 becomes float32."""
        if not self.enabled:
            return outputs
        if isinstance(outputs, list | tuple):
            return type(outputs)([self.scale(part) for part in outputs])
        return (outputs.astype("float32") if outputs.dtype in NARROW else outputs) * self.settings["scale"]

    def unscale_(self, optimizer: Optimizer) -> None:
        """Divide the gradients by the scale, to clip them before `step`. Those of float16 become float32.

        GraphError if there are none, or if it is done again before `update`.
        """
        if not self.enabled:
            return
        if optimizer in self._overflown:
            raise GraphError("GradScaler.unscale_: expected one call for each update(), got two. Call update() first.")
        finite: dict[str, list[Any]] = {}
        for p in (p for group in optimizer.param_groups for p in group.params):
            (g,) = gradients_of([p])
            if g is not None:
                backend, name = backend_of(g), wide(g)
                g = g if name == dtype_name(g.dtype) else backend.xp.astype(g, backend.dtype(name))
                p._grad = g = g * (1.0 / self.settings["scale"])
                finite.setdefault(str(p.device), []).append(backend.xp.all(backend.xp.isfinite(g)))
        if not finite:
            raise GraphError("GradScaler.unscale_: expected gradients, got none. Call loss.backward() first.")
        self._overflown[optimizer] = not all(_all(flags) for flags in finite.values())

    def step(self, optimizer: Optimizer) -> None:
        """`unscale_`, unless that has been done, and `optimizer.step()`, unless a gradient is not finite."""
        if not self.enabled:
            optimizer.step()
            return
        if optimizer in self._stepped:
            raise GraphError("GradScaler.step: expected one call for each update(), got two. Call update() first.")
        if optimizer not in self._overflown:
            self.unscale_(optimizer)
        if not self._overflown[optimizer]:
            optimizer.step()
        self._stepped.add(optimizer)

    def update(self, new_scale: float | None = None) -> None:
        """Shrink or grow the scale after the steps of all optimizers, or set it."""
        if not self.enabled:
            return
        if new_scale is not None:
            self.settings["scale"] = new_scale
        elif not self._overflown:
            raise GraphError("GradScaler.update: expected a step first, got none. Call scaler.step(optimizer).")
        elif any(self._overflown.values()):
            self.settings["scale"] *= self.settings["backoff_factor"]
            self._good.value = 0
        else:
            self._count()
        self._overflown.clear()
        self._stepped.clear()

    def _count(self) -> None:
        good = self._good.value + 1
        if good >= self.settings["growth_interval"]:
            good, larger = 0, self.settings["scale"] * self.settings["growth_factor"]
            if larger <= LARGEST:
                self.settings["scale"] = larger
        self._good.value = good

    def get_scale(self) -> float:
        """The scale; 1 if not enabled."""
        return float(self.settings["scale"]) if self.enabled else 1.0

    def state_dict(self) -> dict[str, Any]:
        """What PyTorch's has; empty if not enabled."""
        return {**self.settings.settings(), "_growth_tracker": self._good.value} if self.enabled else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on as the scaler that gave this state. Nothing changes if it does not fit, or if not enabled."""
        if not self.enabled:
            return
        if missing := self.state_dict().keys() - state.keys():
            raise IncompatibleCheckpointError(f"GradScaler: expected the state of one, got none of {sorted(missing)}.")
        settings = {name: state[name] for name in self.settings.settings()}
        self.settings.update(ParamGroup([], settings, self.settings.limits).settings())
        self._good.value = int(state["_growth_tracker"])


def _all(flags: list[Any]) -> bool:
    """One look for all of them."""
    xp = namespace(flags[0])
    return bool(Tensor(xp.all(xp.stack(flags))))
