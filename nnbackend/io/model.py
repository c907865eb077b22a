"""Weights in files: `nb.save(net, "net.safetensors")`, `net.load_state_dict(nb.load("net.safetensors"))`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ..backend import DeviceLike, to_host
from ..backend import device as find_device
from ..creation import asarray
from ..nn import Module
from ..tensor import Tensor
from . import safetensors


def save(model: Module | Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Write the weights of a model, or a state dict, as safetensors: whole or not at all, readable by everybody.

    CheckpointWriteError if that fails; a file that was there before is then untouched.
    """
    state = model.state_dict() if isinstance(model, Module) else model
    safetensors.write(path, {name: to_host(asarray(value).data) for name, value in state.items()}, {"format": "pt"})


def load(path: str | os.PathLike[str], device: DeviceLike = "cpu") -> dict[str, Tensor]:
    """The state dict in a safetensors file, for `load_state_dict`. Nothing in a file is ever run.

    CorruptCheckpointError for damaged files, UnsafeFileError for pickles and files built to deceive.
    """
    place = find_device(device)
    arrays, _ = safetensors.read(path)
    return {name: Tensor(place.put(value)) for name, value in arrays.items()}
