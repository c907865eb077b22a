"""The inside of a network, and pictures as pictures."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backend import FLOATING
from ..creation import asarray
from ..errors import ShapeError
from ..grad_mode import no_grad
from ..nn import Module, evaluating
from ..recorder import Between
from .figure import COLOURS, on_host, panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HostArray = np.ndarray[Any, Any]
MOST = 64  # tiles, or rows, in one panel
KINDS = ("image", "histogram")


def weights(net: Module) -> Figure:
    """Every weight matrix of a network as an image, blue below zero and red above, each on its own scale.

    The kernels of two-dimensional convolutions are tiles: a row for each output channel, a column for each input
    channel. ValueError if there are no weights but vectors.
    """
    found = [(name, on_host(p.data, name)) for name, p in net.named_parameters() if p.ndim > 1]
    if not found:
        raise ValueError(f"weights: expected a network with weight matrices, got {type(net).__name__} without any.")
    figure, axes = panels(len(found), 3, 3.6, 3.2)
    for panel, (name, w) in zip(axes, found, strict=True):
        shape = " x ".join(map(str, w.shape))
        if w.ndim == 4:
            shown = w[:MOST, :1].reshape(-1, *w.shape[2:]) if w.shape[1] == 1 else w[:16, :16]
            part = "" if shown.size == w.size else ", part"
            _signed(panel, _mosaic(shown), f"{name}\n{shape}{part}", tiles=True)
        else:
            _signed(panel, w.reshape(len(w), -1), f"{name}\n{shape}")
    return figure


def activations(net: Module, X: Any, kind: str = "image") -> Figure:
    """What the layers of a network answer to some rows of inputs, in evaluation mode, and how many units are dead.

    A unit is dead if it gives the same for every row; X should have many. An "image" shows up to 64 rows by units, of
    convolutions the channels for the first row; a "histogram" all values. ValueError for another `kind`.
    """
    if kind not in KINDS:
        raise ValueError(f"activations: expected kind of {', '.join(KINDS)}, got {kind!r}.")
    p = next(net.parameters(), None)
    x = asarray(X) if p is None else asarray(X, device=p.device)
    x = x.astype(p.dtype) if p is not None and x.dtype in FLOATING else x
    listener = _Listener()
    with no_grad(), evaluating(), listener:
        net(x)
    names = {id(module): name for name, module in net.named_modules()}
    found = [(names.get(id(m), ""), m, on_host(y, "activations")) for m, y in listener.heard]
    found = [(name, m, y) for name, m, y in found if y.ndim > 1 and len(y) == len(x)]
    if not found:
        raise ValueError("activations: expected layers that answer row by row, got none.")
    figure, axes = panels(len(found), 3, 3.8, 3.0)
    for panel, (name, m, y) in zip(axes, found, strict=True):
        units = y.reshape(len(y), -1)
        dead = int((units.max(axis=0) == units.min(axis=0)).sum()) if len(units) > 1 else 0
        share = f", {dead / units.shape[1]:.0%} dead" if len(units) > 1 else ""
        title = f"{name} {type(m).__name__}".strip() + f"\n{units.shape[1]} units{share}"
        if kind == "histogram":
            panel.hist(units[np.isfinite(units)], bins=40, color=COLOURS[0])
            panel.set_title(title, fontsize=10)
            panel.set_yticks([])
            panel.spines[["top", "right", "left"]].set_visible(False)
        elif y.ndim == 4:
            _signed(panel, _mosaic(y[0, :MOST]), title, tiles=True)
        else:
            _signed(panel, units[:MOST], title)
            panel.set(xlabel="unit", ylabel="row")
    return figure


def images(arrays: Any, labels: Sequence[Any] | None = None, columns: int = 10) -> Figure:
    """Images (n, height, width) in grey, dark where high, on one scale; or in colour, (n, height, width, 3).

    A channel may come first, as networks want it: (n, 1, height, width), (n, 3, height, width). Numbers of colours are
    from 0 to 1, whole ones from 0 to 255. `labels` are titles. ShapeError for anything else.
    """
    x = on_host(arrays, "images")
    if x.ndim == 4 and x.shape[1] in (1, 3) and x.shape[3] not in (1, 3):
        x = np.moveaxis(x, 1, -1)
    if x.ndim == 4 and x.shape[3] == 1:
        x = x[..., 0]
    if not (x.ndim == 3 or (x.ndim == 4 and x.shape[3] == 3)) or not x.size:
        expected = "(n, height, width), with 1 or 3 channels first or last"
        raise ShapeError(f"images: expected {expected}, got {x.shape}. Reshape rows of pixels: X.reshape(-1, 8, 8).")
    if labels is not None and len(labels) != len(x):
        raise ShapeError(f"images: expected {len(x)} labels, got {len(labels)}.")
    low, high = float(x.min()), float(x.max())
    tall = 1.0 if labels is None else 1.3
    figure, axes = panels(len(x), columns, 1.0, tall * min(2.0, x.shape[1] / x.shape[2]))
    for i, panel in enumerate(axes):
        panel.imshow(x[i], cmap="gray_r", vmin=low, vmax=high)
        panel.set_axis_off()
        if labels is not None:
            panel.set_title(str(labels[i]), fontsize=8)
    return figure


class _Listener(Between):
    """Keeps the last result inside each layer that has no layers in it."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[tuple[Module, Any]] = []
        self._last: Any = None

    @contextlib.contextmanager
    def scope(self, owner: Any) -> Iterator[None]:
        """Around the call of a module."""
        self._last = None
        with self.behind.scope(owner):
            yield
        if isinstance(owner, Module) and not owner._children() and self._last is not None:
            self.heard.append((owner, self._last))
        self._last = None

    def result(self, op: Any, y: Any) -> None:
        """The value of an op."""
        self.behind.result(op, y)
        self._last = y[0] if isinstance(y, tuple) else y


def _signed(panel: Axes, image: HostArray, title: str, tiles: bool = False) -> None:
    """An image of numbers around zero."""
    from matplotlib.ticker import MaxNLocator

    most = float(np.nanmax(np.abs(image))) if np.isfinite(image).any() else 1.0
    shown = panel.imshow(image, cmap="RdBu_r", vmin=-most, vmax=most, interpolation="nearest")
    panel.set_title(title, fontsize=10)
    panel.set_aspect("equal" if tiles else "auto")
    if tiles:
        panel.set_axis_off()
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    made = panel.figure
    assert made is not None
    made.colorbar(shown, ax=panel, shrink=0.85)


def _mosaic(tiles: HostArray) -> HostArray:
    """Tiles (rows, columns, height, width), or (n, height, width) in about a square, with gaps of NaN between."""
    if tiles.ndim == 3:
        columns = math.ceil(math.sqrt(len(tiles)))
        lacking = -len(tiles) % columns
        tiles = np.concatenate([tiles, np.full((lacking, *tiles.shape[1:]), np.nan, tiles.dtype)])
        tiles = tiles.reshape(-1, columns, *tiles.shape[1:])
    framed = np.pad(tiles, [(0, 0), (0, 0), (0, 1), (0, 1)], constant_values=np.nan)
    rows, columns, height, width = framed.shape
    return framed.transpose(0, 2, 1, 3).reshape(rows * height, columns * width)[:-1, :-1]
