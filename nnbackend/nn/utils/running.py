"""Running statistics over a whole data set."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any

from ...backend import DeviceLike
from ...creation import asarray
from ...errors import DataError
from ...grad_mode import no_grad
from ...training_mode import mode
from ..module import Module
from ..norm import BatchNorm1d, BatchNorm2d, BatchNorm3d

__all__ = ["update_bn"]


@no_grad()
def update_bn(loader: Iterable[Any], model: Module, device: DeviceLike = None) -> None:
    """Compute the running statistics of all batch norm layers anew, as means over the batches of `loader`.

    For weights that training has not seen, such as averages. A batch is an input of `model`, or a list or tuple that
    begins with one; `model` sees them as in training. Modes and momenta are afterwards as before.
    """
    layers = [m for m in model.modules() if isinstance(m, BatchNorm1d | BatchNorm2d | BatchNorm3d)]
    if not layers:
        return
    batches = iter(loader)
    if (first := next(batches, None)) is None:
        raise DataError("update_bn: expected batches, got none. Was the iterator used up?")
    momenta, training = [layer.momentum for layer in layers], mode.set(True)
    try:
        for layer in layers:
            layer.start_over(0)
            layer.momentum = None  # the mean of all batches
        for batch in chain([first], batches):
            x = batch[0] if isinstance(batch, list | tuple) else batch
            model(x if device is None else asarray(x, device=device))
    finally:
        mode.reset(training)
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
