"""What all pictures share: figures without a window, colours that everybody can tell apart, values on the host."""

from __future__ import annotations

import io
import math
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backend import is_array, to_host
from ..errors import ShapeError
from ..tensor import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# M. Okabe and K. Ito, Color Universal Design (2008), without yellow, which is too pale for lines on white
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#555555")
MARKERS = "os^Dv<>pPX"


def figure(width: float, height: float, dpi: float = 100) -> Figure:
    """An empty figure of so many inches, which a notebook shows. ImportError if there is no matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('plots: expected matplotlib, got none. Install it: pip install "nnbackend[plot]"') from error
    made = Figure(figsize=(width, height), dpi=dpi, layout="constrained")
    vars(made)["_repr_png_"] = partial(rendered, made, "png", dpi)  # pyplot would have told notebooks how
    return made


def rendered(made: Figure, kind: str, dpi: float = 150) -> bytes:
    """The figure as the bytes of a file of this kind, "png", "svg" or "pdf"."""
    buffer = io.BytesIO()
    made.savefig(buffer, format=kind, dpi=dpi)
    return buffer.getvalue()


def panels(n: int, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure with n panels of so many inches, in rows of at most so many columns."""
    columns = min(n, columns)
    rows = math.ceil(n / columns)
    made = figure(columns * width, rows * height)
    return made, [made.add_subplot(rows, columns, i + 1) for i in range(n)]


def colours(n: int) -> list[Any]:
    """A colour for each of n classes."""
    if n <= len(COLOURS):
        return list(COLOURS[:n])
    from matplotlib import colormaps

    return [colormaps["turbo"](0.05 + 0.9 * i / (n - 1)) for i in range(n)]


def on_host(values: Any, what: str) -> np.ndarray[Any, Any]:
    """The values as a NumPy array. ShapeError for ragged lists."""
    if isinstance(values, Tensor):
        return to_host(values.data)
    if is_array(values):
        return to_host(values)
    try:
        return np.asarray(values)
    except ValueError as error:
        raise ShapeError(f"{what}: expected an array, got rows of unequal lengths. Pass rows of one length.") from error
