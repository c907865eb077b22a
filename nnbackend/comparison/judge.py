"""Which values of two devices differ by more than rounding explains."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from ..backend import CPU, NUMPY, DeviceLike, HostArray, dtype_name, to_host
from ..backend import device as find_device
from ..errors import NNBackendError
from ..nn import Module
from ..optim import Optimizer
from ..train.edge import Edge
from ..train.objective import Objective
from .report import Comparison, Row
from .twin import Call, Found, Twin

ULPS = 32  # units in the last place that functions such as exp and erf may differ by, with room
ROOM = 64  # how much further apart two devices may be than one of them is from the true value
MOST = 1e-3  # of the largest value that a call makes: more than that is no loss of digits


def compare_devices(
    net: Module,
    X: Any,
    y: Any,
    loss: Any = "mse",
    devices: Sequence[DeviceLike] = ("cpu", "cuda"),
    optimizer: str | Optimizer = "sgd",
    dtype: Any = None,
) -> Comparison:
    """One training step on `X` and `y` on two devices from the same state: the first layer that differs.

    `loss` and `optimizer` are as in Trainer. `dtype` is that of the model unless given: in "float64" rounding is out
    of the way, and smaller faults show. The net takes the step in the modes that its layers have, random layers draw
    the same numbers on both devices, and copies do it all: net and optimizer stay as they are. Returns a `Comparison`,
    which prints as a table and is true if all is the same.

    The step runs on the first device; then each call of a layer is made on both, with the inputs, the gradients of its
    outputs and the buffers that it had there. So a fault is found where it is, however much later layers amplify it.
    Outputs, buffers, and gradients of inputs and parameters are compared, at the end the parameters that the optimizer
    makes of the same gradients. A layer of layers answers for what it does itself, if it does: calls inside it give
    what they gave on the first device.

    Rounding explains (32 + sqrt(n)) eps of the largest value, for n elements in the largest array of the call, and 64
    times what the better of the two devices is away from the same call with more digits (in float64, from float32
    times 2**-29): gradients in which large terms cancel are mostly rounding. Random layers have no such second
    measure. Whole numbers must be equal, and so must the places of NaN and infinities.

    DeviceUnavailableError for a device that does not exist, before anything runs.
    """
    if not isinstance(net, Module):
        raise TypeError(f"compare_devices: expected a module, got {type(net).__name__}.")
    if isinstance(devices, str) or len(devices) != 2:
        raise ValueError(f'compare_devices: expected two devices, such as ("cpu", "cuda"), got {devices!r}.')
    places = [find_device(d) for d in devices]
    objective = Objective(loss)
    width = dtype_name(dtype or next((p.dtype for p in net.parameters()), "float32"))
    twins = [Twin(net, optimizer, objective, place, width) for place in places]
    steps = []
    for twin in twins:
        edge = Edge(twin.device, width, any(m.whole_inputs for m in net.modules()), objective.classes)
        with twin.at_work():
            total, calls = twin.step(edge.inputs(X), edge.targets(y))
            steps.append((float(to_host(total.data)), calls, twin.gradients()))
    probe = Twin(net, optimizer, objective, CPU, "float32" if width == "float64" else "float64")
    (loss_a, calls, gradients), (loss_b, others, _) = steps
    routes = {call.route for call in others}
    judge = _Judge(twins[0], twins[1], probe)
    rows = judge.rows([call for call in calls if call.works or call.route not in routes], gradients, loss_a)
    a, b = (str(p) if p.precision == "ieee" else f"{p} {p.precision}" for p in places)
    return Comparison((a, b), width, rows, (loss_a, loss_b))


class _Judge:
    """Has two nets do the parts of a step, and a third in another width, which shows what rounding does to them."""

    def __init__(self, a: Twin, b: Twin, probe: Twin) -> None:
        self.a, self.b, self.probe = a, b, probe
        self.eps = float(NUMPY.xp.finfo(a.width).eps)
        self.finer = min(1.0, self.eps / float(NUMPY.xp.finfo(probe.width).eps))  # digits that the probe lacks

    def rows(self, calls: list[Call], gradients: dict[str, Any], loss: float) -> list[Row]:
        """All values, in the order in which a fault would show."""
        times = Counter(call.path for call in calls)
        found = [self._call(call, times[call.path]) for call in calls]
        forward = [row for rows in found for row in rows if row.way == "forward"]
        backward = [row for rows in reversed(found) for row in rows if row.way == "backward"]
        return forward + backward + list(self._update(gradients, loss))

    def _call(self, call: Call, times: int) -> list[Row]:
        with self.a.at_work():
            a, random = self.a.alone(call), self.a.drew(call)
        with self.b.at_work():
            b = self.b.alone(call)
        with self.probe.at_work():
            try:
                true = {} if random else self.probe.alone(call)
            except (NNBackendError, TypeError, ValueError):  # a layer that is made for one dtype
                true = {}
        size = max((math.prod(x.shape) for x in call.arrays()), default=1)
        path, layer = ("loss", self.a.loss_name) if call.path is None else (call.path, self.a.line(call.path))
        return self._compared((path, layer, call.number, times), a, b, true, size)

    def _update(self, gradients: dict[str, Any], loss: float) -> Iterator[Row]:
        made = []
        for twin in (self.a, self.b, self.probe):
            with twin.at_work():
                made.append(twin.updated(gradients, loss))
        for full, value in made[0].items():
            path, _, name = full.rpartition(".")
            a, b, true = ({("update", f"updated {name}"): values[full]} for values in made)
            yield from self._compared((path, self.a.line(path), 1, 1), a, b, true, value.size)

    def _compared(self, here: tuple[str, str, int, int], a: Found, b: Found, true: Found, size: int) -> list[Row]:
        rows = []
        largest = {way: max((_largest(x) for (w, _), x in a.items() if w == way), default=0.0) for way, _ in a}
        for key in a | b:
            if key not in a or key not in b:
                rows.append(Row(*here, *key, math.inf, 0.0, 0.0))
                continue
            x, y = a[key], b[key]
            scale, allowed = max(_largest(x), _largest(y)), 0.0
            if x.dtype.kind == "f":
                allowed = (ULPS + math.sqrt(size)) * self.eps * scale
                if key in true:
                    off = min(_difference(x, true[key]), _difference(y, true[key])) * self.finer
                    allowed += min(ROOM * off, MOST * largest[key[0]]) if math.isfinite(off) else 0.0
            apart = _difference(x, y) if x.dtype == y.dtype else math.inf
            rows.append(Row(*here, *key, apart, scale, allowed))
        return rows


def _largest(x: HostArray) -> float:
    """The largest finite absolute value."""
    xp, wide = NUMPY.xp, x.astype("float64")
    return float(xp.max(xp.abs(wide), where=xp.isfinite(wide), initial=0.0))


def _difference(x: HostArray, y: HostArray) -> float:
    """The largest difference; inf if shapes, or the places of NaN and infinities, are not the same."""
    if x.shape != y.shape:
        return math.inf
    xp, x, y = NUMPY.xp, x.astype("float64"), y.astype("float64")
    finite = xp.isfinite(x) & xp.isfinite(y)
    if not xp.array_equal(x[~finite], y[~finite], equal_nan=True):
        return math.inf
    return float(xp.max(xp.abs(x[finite] - y[finite]), initial=0.0))


__all__ = ["compare_devices"]
