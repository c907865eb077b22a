"""Confusion matrices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ShapeError
from .figure import figure, on_host

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def confusion_matrix(counts: Any, labels: Sequence[Any] | None = None, normalize: bool = False) -> Figure:
    """Counts (classes, classes) as `metrics.confusion_matrix` gives them: a row is a true class, a column a found one.

    Colours show the share of the true class, so that rare classes are seen too; numbers are counts, or per cent of the
    true class with `normalize`. ShapeError if it is not square or has not as many `labels`, ValueError for negative
    numbers and NaN.
    """
    table = on_host(counts, "confusion_matrix")
    if table.ndim != 2 or table.shape[0] != table.shape[1] or not table.size:
        cure = "Use metrics.confusion_matrix(output, target)."
        raise ShapeError(f"confusion_matrix: expected counts (classes, classes), got {table.shape}. {cure}")
    if not np.all(table >= 0):
        raise ValueError("confusion_matrix: expected counts, got negative numbers or NaN. Pass a confusion matrix.")
    n = len(table)
    names = [str(i) for i in range(n)] if labels is None else [str(label) for label in labels]
    if len(names) != n:
        raise ShapeError(f"confusion_matrix: expected {n} labels, got {len(names)}.")
    totals = table.sum(axis=1, keepdims=True)
    share = table / np.where(totals > 0, totals, 1)
    longest = max(map(len, names))
    side = min(12.0, max(3.6, 1.8 + 0.55 * n + 0.06 * longest))
    made = figure(side + 0.9, side)
    axes = made.add_subplot()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    turn: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if longest > 4 else {}
    axes.set_xticks(range(n), names, **turn)
    axes.set_yticks(range(n), names)
    axes.set(xlabel="predicted", ylabel="true")
    right, total = float(np.trace(table)), float(table.sum())
    if total:
        axes.set_title(f"{_counted(right)} of {_counted(total)} right ({right / total:.1%})")
    axes.set_xticks(np.arange(n - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(n - 1) + 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1)
    axes.tick_params(which="minor", length=0)
    axes.spines[:].set_visible(False)
    size = 10 if n <= 12 else 8 if n <= 20 else 6
    for i, j in np.ndindex(n, n):
        shown = f"{share[i, j]:.0%}" if normalize else _counted(float(table[i, j]))
        colour = "white" if share[i, j] > 0.5 else "black" if table[i, j] else "0.7"
        axes.text(j, i, shown, ha="center", va="center", color=colour, fontsize=size)
    bar = made.colorbar(image, ax=axes, shrink=0.8, label="share of the true class")
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    bar.outline.set_visible(False)
    return made


def _counted(value: float) -> str:
    """A count, or a sum of weights."""
    return f"{value:,.0f}" if value.is_integer() else f"{value:.6g}"
