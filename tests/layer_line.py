"""What a line of `layer_table.py` is made of: a layer's name, its settings, and inputs to run it on."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from op_line import Draw

from nnbackend import nn, tree


@dataclass(frozen=True, eq=False)
class Line:
    id: str
    build: Callable[..., nn.Module]
    inputs: tuple[Any, ...]
    smooth: bool
    batch: bool
    ready: Callable[..., Any]

    def draw(self) -> tuple[Any, ...]:
        rng = np.random.default_rng(zlib.crc32(self.id.encode()))
        return tree.mapped(lambda x: x(rng) if isinstance(x, Draw) else x, self.inputs)

    def make(self) -> nn.Module:
        return self.ready(self.build())


LAYERS: list[Line] = []


def layer(
    name: str,
    *settings: Any,
    inputs: Any,
    smooth: bool = True,
    batch: bool = True,
    build: Any = None,
    ready: Any = lambda net: net,
    **named: Any,
) -> None:
    """`inputs`: one draw, or a tuple of draws, values and nests of them.

    `smooth`: the gradient has a gradient (no kinks, not zero).
    `batch`: axis 0 of every draw is a batch, which may be empty. `ready` prepares the new layer: `nn.Module.eval`.
    """
    given = inputs if isinstance(inputs, tuple) else (inputs,)
    shapes = [str(x.shape).replace(" ", "") for x in tree.leaves(given) if isinstance(x, Draw)]
    id = " ".join([name, *map(repr, settings), *(f"{k}={v!r}" for k, v in named.items()), *shapes])
    same = sum(line.id.partition("#")[0] == id for line in LAYERS)
    cls = build or getattr(nn, name)
    LAYERS.append(Line(id + f"#{same}" * bool(same), partial(cls, *settings, **named), given, smooth, batch, ready))
